"""The audit log: administrative changes, refused logins, refused operations.

Each entry is one JSON object: a line of the file `audit.log` in the data directory, and a
message of the stream `$sys/audit`. What a client can cause at will is limited: of one kind from
one client a burst is written, then a summary of how many there were.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from .core.access import Action, Credentials, Principal, Ruling, describe
from .core.broker import Broker
from .core.errors import GatewayError
from .core.message import Message, Origin, Properties, host_of
from .core.policy import ASYNC, QueuePolicy

STREAM: Final = "$sys/audit"
FILE: Final = "audit.log"
FILE_BYTES_MAX: Final = 64 << 20  # then it is renamed to audit.log.1, which is replaced
STREAM_BYTES_MAX: Final = 64 << 20
STREAM_AGE_MS: Final = 30 * 86_400_000
BURST: Final = 10  # refusals of one kind from one client that are written one by one
REFILL_MS: Final = 10_000  # and one more for every ten seconds
TRACKED_MAX: Final = 10_000  # clients whose refusals are counted

_encode = msgspec.json.Encoder().encode


class Audit:
    """Writes entries; implements `gateway.core.access.Watcher`."""

    def __init__(self, broker: Broker, directory: Path | None, on_fault: Callable[[str], None]) -> None:
        self._broker = broker
        self._path = directory / FILE if directory is not None else None
        self._on_fault = on_fault
        self._file = -1
        self._size = 0
        self._faulty = False
        self._refusals: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()
        self.entries = 0
        self.suppressed = 0

    def open(self) -> None:
        """Open the file and the stream; the log is recovered. Raise OSError."""
        catalog = self._broker.catalog
        if STREAM not in catalog.queues:
            policy = QueuePolicy(max_bytes=STREAM_BYTES_MAX, max_age_ms=STREAM_AGE_MS, durability=ASYNC)
            catalog.declare(STREAM, "stream", policy)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)  # an engine may keep its data elsewhere
            # Who tried to log in as whom is nobody else's business.
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._size = os.fstat(self._file).st_size

    def close(self) -> None:
        """Write what was suppressed, and close the file."""
        for bucket in self._refusals.values():
            self._summarize(bucket)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # -- what happens --------------------------------------------------------------------------

    def changed(self, principal: Principal, origin: Origin, what: str, resource: str, detail: str) -> None:
        """An administrative change was made."""
        self._write({"event": what, **_who(principal.name, origin), "resource": resource, "detail": detail})

    def refused(
        self, principal: Principal, origin: Origin, action: Action, resource: str, ruling: Ruling
    ) -> None:
        """A session was refused."""
        entry = {
            "event": "refused",
            **_who(principal.name, origin),
            "action": action.value,
            "resource": resource,
            "rule": ruling.rule,
            "detail": f"{action.value} {describe(resource)}",
        }
        self._limited((origin.protocol, principal.name, origin.client_id, action.value), entry)

    def login_refused(self, credentials: Credentials, why: str) -> None:
        """A login was refused. Nothing the client sent but its names is written."""
        origin = Origin(credentials.protocol, "", credentials.client_id, credentials.peer)
        name = credentials.username or ""
        host = host_of(credentials.peer)
        self._limited(
            (credentials.protocol, host, "login"),
            {"event": "login.refused", **_who(name, origin), "detail": why},
        )

    # -- writing -------------------------------------------------------------------------------

    def _limited(self, key: tuple[str, ...], entry: dict[str, Any]) -> None:
        now_ms = self._broker.clock.monotonic_ms
        bucket = self._refusals.get(key)
        if bucket is None:
            bucket = self._refusals[key] = _Bucket(now_ms)
            if len(self._refusals) > TRACKED_MAX:
                _, oldest = self._refusals.popitem(last=False)
                self._summarize(oldest)
        self._refusals.move_to_end(key)
        if bucket.take(now_ms):
            self._summarize(bucket)
            self._write(entry)
        else:
            self.suppressed += 1
            bucket.suppressed += 1
            bucket.last = entry

    def _summarize(self, bucket: _Bucket) -> None:
        if bucket.suppressed and bucket.last is not None:
            self._write({**bucket.last, "repeated": bucket.suppressed})
            bucket.suppressed = 0

    def _write(self, entry: dict[str, Any]) -> None:
        self.entries += 1
        body = _encode({"time": _time(self._broker.clock.wall_ms), **entry})
        if self._file >= 0:
            self._append(body + b"\n")
        queue = self._broker.catalog.queues.get(STREAM)
        if queue is None:
            return  # not open yet, or closed
        clock = self._broker.clock
        properties = Properties(content_type="application/json")
        message = Message(STREAM, body, 1, False, properties, timestamp_ms=clock.wall_ms)
        with contextlib.suppress(GatewayError):  # a full disk: the file says so
            self._broker.enqueue(queue, message, None)

    def _append(self, line: bytes) -> None:
        assert self._path is not None
        try:
            if self._size + len(line) > FILE_BYTES_MAX:
                self._rotate()
            self._size += os.write(self._file, line)
            self._faulty = False
        except OSError as error:
            if not self._faulty:  # once, not with every entry
                self._faulty = True
                self._on_fault(f"{self._path}: {error.strerror}")

    def _rotate(self) -> None:
        assert self._path is not None
        os.close(self._file)
        os.replace(self._path, self._path.with_suffix(".log.1"))
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = 0


class _Bucket:
    """How many more refusals of one client are written one by one."""

    __slots__ = ("_left", "_when_ms", "last", "suppressed")

    def __init__(self, now_ms: int) -> None:
        self._left = float(BURST)
        self._when_ms = now_ms
        self.suppressed = 0
        self.last: dict[str, Any] | None = None

    def take(self, now_ms: int) -> bool:
        self._left = min(float(BURST), self._left + (now_ms - self._when_ms) / REFILL_MS)
        self._when_ms = now_ms
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _who(name: str, origin: Origin) -> dict[str, str]:
    found = {"user": name, "door": origin.protocol, "peer": origin.peer}
    return {**found, "client_id": origin.client_id} if origin.client_id else found


def _time(wall_ms: int) -> str:
    seconds, ms = divmod(wall_ms, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ms:03d}Z"
