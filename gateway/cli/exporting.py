"""`gateway log export`: what a log keeps, as lines of JSON; goes on where it was cut off."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from ..core.catalog import BINDING_KEY, NEXT_ID_KEY, QUEUE_KEY
from ..core.checkback import KEY as CHECK_KEY
from ..core.clock import KEY as CLOCK_KEY
from ..core.errors import StorageError
from ..core.journey import RETAINED_NAME
from ..core.retained import RETAINED_QUEUE_ID
from ..protocols.http.convert import put_bytes
from ..storage.commitlog.contents import Contents
from .faults import fault
from .portable import VERSION, message_line
from .progress import progress

IMPORT_KEY = "import/"
OWN_KEYS = (
    QUEUE_KEY,
    BINDING_KEY,
    NEXT_ID_KEY,
    CLOCK_KEY,
    IMPORT_KEY,
    CHECK_KEY,
)  # told otherwise, or this log's alone
LINES_PER_WRITE = 1000
TAIL_BYTES = 1 << 20

Line = dict[str, Any]


def export(data: Path, target: Path) -> int:
    """Write what a log keeps to a file; "-" is standard output."""
    try:
        contents = Contents(data)
    except StorageError as error:
        return fault(error.detail)
    try:
        for remark in contents.remarks:
            print(f"gateway: {remark}", file=sys.stderr)
        if str(target) == "-":
            _write(contents, sys.stdout.buffer, _lines(contents), 0)
            return 0
        return _export_file(contents, target)
    except BrokenPipeError:  # `| head`
        sys.stderr.close()
        return 0
    except (OSError, StorageError) as error:
        return fault(f"{target}: {error}")
    finally:
        contents.close()


def _export_file(contents: Contents, target: Path) -> int:
    with target.open("a+b") as file:
        done, end = _find_end(contents, file)
        if done < 0:
            print(f"{target}: is complete")
            return 0
        file.truncate(end)
        if done:
            print(f"going on after position {done}", file=sys.stderr)
        count = _write(contents, file, _lines(contents, done), done)
        file.flush()
        os.fsync(file.fileno())
    print(f"{target}: {count} messages" + (" more" if done else ""))
    return 0


def _write(contents: Contents, file: IO[bytes], lines: Iterator[Line], done: int) -> int:
    """Write lines; return how many of them are messages."""
    encode = msgspec.json.Encoder().encode_lines
    part: list[Line] = []
    count = 0
    with progress("export", contents.end, "log") as bar:
        bar.advance(done)
        for line in lines:
            part.append(line)
            position = line.get("position", 0)
            if position:
                count += 1
                bar.advance(position - done)
                done = position
            if len(part) >= LINES_PER_WRITE:
                file.write(encode(part))
                part.clear()
        part.append({"end": True})
        file.write(encode(part))
        bar.advance(contents.end - done)
    return count


def _find_end(contents: Contents, file: IO[bytes]) -> tuple[int, int]:
    """Return (position of the last message that is whole in the file, -1 if all is there; where it ends).

    Raise StorageError if it is an export of something else.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    first = file.readline()
    if not first.endswith(b"\n"):
        if not _HEAD.startswith(first[: len(_HEAD)]):
            raise StorageError("there is something else in this file")
        return 0, 0
    try:
        head = json.loads(first)
        same = (head["log"], head["until"]) == (contents.mark.hex(), contents.end)
    except (ValueError, KeyError, TypeError):
        raise StorageError("there is something else in this file") from None
    if not same:
        raise StorageError("this is an export of another log, or the log has gone on since; remove it first")
    end, line = _last_line(file, size)
    if "end" in line:
        return -1, size
    position = line.get("position", 0)
    return (position, end) if position else (0, 0)  # nothing much is there yet: from the beginning


_HEAD = b'{"gateway_export":'


def _last_line(file: IO[bytes], size: int) -> tuple[int, Line]:
    """Return (its end, the last whole line)."""
    tail, start = b"", size
    while True:
        end = tail.rfind(b"\n")
        begin = tail.rfind(b"\n", 0, end) if end > 0 else -1
        if begin >= 0 or (start == 0 and end >= 0):
            return start + end + 1, json.loads(tail[begin + 1 : end])
        step = min(TAIL_BYTES, start)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail


def _lines(contents: Contents, done: int = 0) -> Iterator[Line]:
    names = {RETAINED_QUEUE_ID: RETAINED_NAME}
    queues = {
        key[len(QUEUE_KEY) :]: json.loads(v) for key, v in contents.keys.items() if key.startswith(QUEUE_KEY)
    }
    names |= {fields["id"]: name for name, fields in queues.items()}
    if not done:
        mark = contents.mark.hex()
        yield {"gateway_export": VERSION, "id": secrets.token_hex(8), "log": mark, "until": contents.end}
        yield from _definitions(contents, queues)
    groups = sorted(
        (contents.position_of(queue_id, offset), name, names[queue_id])
        for (queue_id, name), offset in contents.cursors.items()
        if queue_id in names and name
    )
    at = 0
    for kept in contents.messages(done):
        while at < len(groups) and groups[at][0] <= kept.position:
            if groups[at][0] > done:
                yield {"group": groups[at][1], "of": groups[at][2]}
            at += 1
        yield message_line(kept, names)
    for _, name, stream in groups[at:]:
        yield {"group": name, "of": stream}


def _definitions(contents: Contents, queues: dict[str, Line]) -> Iterator[Line]:
    bindings: dict[str, list[Line]] = {}
    for key, value in contents.keys.items():
        if key.startswith(BINDING_KEY):
            name, _, topic_filter = key[len(BINDING_KEY) :].partition("\0")
            bindings.setdefault(name, []).append({"filter": topic_filter, **json.loads(value)})
    for name, fields in queues.items():
        line = {"queue": name, **fields, "bindings": bindings.get(name, [])}
        del line["id"]
        yield line
    for key, value in contents.keys.items():
        if not key.startswith(OWN_KEYS):
            line = {"key": key}
            put_bytes(line, "value", value)
            yield line
