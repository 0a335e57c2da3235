"""`gateway log import`: an export into a log, empty or not; goes on where it was cut off.

Queues and bindings are made as they were, or have to be there just so. Messages go to the end of
their queues, with their times and attempts, and get new positions. How far an import has come is
kept in the log it goes to, so that what was imported once is not imported again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..core.broker import Broker
from ..core.clock import Clock
from ..core.errors import GatewayError, NotStored, StorageError
from ..core.journey import RETAINED_NAME
from ..core.message import Origin
from ..core.policy import QueuePolicy
from ..core.retained import RETAINED_QUEUE_ID
from ..core.router import Binding
from ..core.selector import Selectors
from ..plugins import mapped, plugin_manager
from ..storage.commitlog import CommitLog
from .exporting import IMPORT_KEY
from .faults import fault
from .portable import VERSION, bytes_of, message_of
from .progress import progress

EXIT_INCOMPLETE = 1
LINES_PER_WRITE = 1000  # after a power loss, so many may be imported twice
BYTES_PER_WRITE = 4 << 20
IMPORTER = Origin("import")

Line = dict[str, Any]


class _Fault(Exception):
    """The file is no export, or does not fit; the text is for people."""


def import_(data: Path, source: Path) -> int:
    """Add an export to a log nobody else uses."""
    try:
        with source.open("rb") as file:
            head = _head(file.readline())
            engine = CommitLog(data)
            clock = Clock(int(time.time() * 1000))
            broker = Broker(engine, clock)
            _add_languages(broker.selectors)
            broker.restore(lambda: None)
            try:
                count, complete = _Import(broker, head["id"]).run(file, source.stat().st_size)
            finally:
                engine.close()
    except _Fault as error:
        return fault(f"{source}: {error}")
    except OSError as error:
        return fault(f"{error.filename or source}: {error.strerror}")
    except (StorageError, NotStored) as error:
        return fault(f"{error.detail}; what was imported stays, and the same command goes on after it")
    print(f"{data}: {count} messages imported")
    if not complete:
        print(f"gateway: {source}: the export was cut off; this is not all of it", file=sys.stderr)
    return 0 if complete else EXIT_INCOMPLETE


def _add_languages(selectors: Selectors) -> None:
    """Know the selectors that bindings may have, as the gateway does."""
    manager = plugin_manager(["auth", "mqtt", "amqp", "http"])
    for language, compiler in mapped(manager, "gateway_selectors", "selector language").items():
        selectors.add(language, compiler)


def _head(first: bytes) -> Line:
    try:
        head: Line = json.loads(first)
        version, _ = head["gateway_export"], head["id"]
    except (ValueError, KeyError, TypeError):
        raise _Fault("this is no export: its first line is not that of one") from None
    if version > VERSION:
        raise _Fault(f"made by a newer version (format {version}; this reads {VERSION})")
    return head


class _Import:
    """One run."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._engine = broker.engine
        self._key = IMPORT_KEY + name
        self._ids = {RETAINED_NAME: RETAINED_QUEUE_ID}
        self._ids |= {queue.name: queue.queue_id for queue in broker.catalog.queues.values()}
        self._count = 0
        self._number = 1  # of the line
        self._written = 1
        self._bytes = 0

    def run(self, lines: Iterator[bytes], size: int) -> tuple[int, bool]:
        """Return how many messages were imported now, and whether the end is there. Raise _Fault."""
        before = (self._engine.get(self._key) or b"1").split()
        done, complete = int(before[0]), len(before) > 1
        decode = msgspec.json.Decoder().decode
        with progress("import", size, "bytes") as bar:
            for raw in lines:
                self._number += 1
                bar.advance(len(raw))
                if self._number <= done:
                    continue
                if not raw.endswith(b"\n"):
                    self._number -= 1
                    break
                try:
                    line = decode(raw)
                    if "end" in line:
                        complete = True
                        break
                    self._take(line)
                except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
                    raise _Fault(f"line {self._number} is none of an export ({error})") from error
                except NotStored:
                    raise
                except GatewayError as error:
                    raise _Fault(f"line {self._number}: {error.detail}") from error
                self._bytes += len(raw)
                if self._number - self._written >= LINES_PER_WRITE or self._bytes >= BYTES_PER_WRITE:
                    self._write()
        self._write(complete)
        return self._count, complete

    def _take(self, line: Line) -> None:
        if "position" in line:
            self._message(line)
        elif "queue" in line:
            self._queue(line)
        elif "group" in line:
            queue_id = self._id(line["of"])
            offset = self._engine.extent(queue_id).next
            self._engine.cursor(queue_id, line["group"], offset, self._broker.clock.now_ms)
        else:
            self._engine.put(line["key"], bytes_of(line, "value"))

    def _queue(self, line: Line) -> None:
        policy = QueuePolicy.from_mapping(line.get("policy", {}))
        catalog, name, kind = self._broker.catalog, line["queue"], line.get("kind", "classic")
        queue, _ = catalog.declare(name, kind, policy, True, line.get("auto_delete", False))
        self._ids[name] = queue.queue_id
        for found in line["bindings"]:
            options = {key: value for key, value in found.items() if key != "filter"}
            options["ids"] = tuple(options.get("ids", ()))
            if "selector" in options:
                whose = f"the binding of queue {name!r} to {found['filter']!r}"
                options["selector"] = self._broker.selectors.restored(options["selector"], whose)
            catalog.bind(queue, Binding(found["filter"], queue, **options))

    def _message(self, line: Line) -> None:
        queues = {self._id(name): about for name, about in line["queues"].items()}
        message, stored_at_ms = message_of(line), line["stored_at"]
        position = self._engine.append(message, tuple(sorted(queues)), stored_at_ms)
        for queue_id, about in queues.items():
            for _ in range(about["attempts"]):
                self._engine.delivered(queue_id, (position,), (0,), IMPORTER, "", stored_at_ms)
        self._count += 1

    def _id(self, name: str) -> int:
        queue_id = self._ids.get(name)
        if not queue_id:
            raise ValueError(f"there is no queue {name!r}")
        return queue_id

    def _write(self, complete: bool = False) -> None:
        self._engine.put(self._key, b"%d%b" % (self._number, b" end" if complete else b""))
        self._engine.flush()
        self._engine.completed()
        self._written, self._bytes = self._number, 0
