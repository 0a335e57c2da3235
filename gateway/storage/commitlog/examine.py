"""Look at a log without touching it: every record, and every place where there should be one and is none.

Reads what recovery would read, by the same rules, and changes nothing: no tail is cut, no header
written anew, no lock taken. Beside a running gateway the last bytes may be in the middle of a write.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.core.errors import StorageError
from gateway.core.message import PROPERTY_NAMES, Origin
from gateway.storage.index import QueueIndex

from . import checkpoint, record
from .checkpoint import State
from .files import ReadOnly
from .segment import SEGMENT_HEADER_BYTES, Segment, segment_paths
from .segments import Segments

KIND_NAMES: Final = {
    record.MESSAGE: "message",
    record.SETTLE: "settle",
    record.DELIVERED: "delivered",
    record.CURSOR: "cursor",
    record.DROP_QUEUE: "drop queue",
    record.PUT: "put",
    record.DELETE: "delete",
    record.TRIM: "trim",
    record.RETURNED: "returned",
    record.MOVED: "moved",
    record.SYNCED: "synced",
    record.GROUP: "group",
}


class Entry(NamedTuple):
    """A valid record."""

    path: Path
    offset: int  # in the file
    position: int  # in the log
    payload: bytes


class Hole(NamedTuple):
    """Bytes that are no record."""

    path: Path
    offset: int
    size: int
    what: str


def walk(directory: Path) -> Iterator[Entry | Hole]:
    """Yield every record and hole of the log below a data directory, in order.

    Raise StorageError if there is no log, it is from a newer version, or cannot be read.
    """
    log_directory, index_directory = directory / "log", directory / "index"
    if not log_directory.is_dir():
        raise StorageError(f"{directory}: there is no log here")
    try:
        state, remarks = _blank(), list[str]()
        if index_directory.is_dir():
            state, remarks = checkpoint.load(index_directory, _blank)
        for remark in remarks:
            path, _, what = remark.partition(": ")
            yield Hole(Path(path), 0, 0, what)
        yield from _segments(log_directory, state.closed, state.mark)
    except OSError as error:
        raise StorageError(f"{error.filename or directory}: {error.strerror}") from error


def survey(directory: Path) -> tuple[int, list[Hole]]:
    """Return how many records there are, and the holes. Raise StorageError as `walk` does."""
    records, holes = 0, list[Hole]()
    for found in walk(directory):
        if isinstance(found, Hole):
            holes.append(found)
        else:
            records += 1
    return records, holes


def _blank() -> State:
    return State(QueueIndex(Segments()))


def _segments(directory: Path, closed: dict[int, int], mark: bytes) -> Iterator[Entry | Hole]:
    paths = segment_paths(directory)
    for number, path in enumerate(paths):
        segment = Segment(ReadOnly(), directory, int(path.stem), 0, mark)
        try:
            if segment.open():
                mark = mark or segment.mark
            else:
                segment.mark = mark
                yield Hole(path, 0, SEGMENT_HEADER_BYTES, "damaged header")
            following = int(paths[number + 1].stem) - segment.base if number + 1 < len(paths) else None
            limit = closed.get(segment.base, following)
            yield from _records(segment, segment.content()[:limit], last=following is None)
        finally:
            segment.close()


def _records(segment: Segment, data: bytes, last: bool) -> Iterator[Entry | Hole]:
    offset = SEGMENT_HEADER_BYTES
    while offset < len(data):
        end = segment.record_at(data, offset)
        if end > 0:
            payload = data[offset + record.HEADER_BYTES : end]
            yield Entry(segment.path, offset, segment.base + offset, payload)
            offset = end
            continue
        if not data[offset:].strip(b"\0"):
            return  # zeros to the end are its end
        following = segment.next_record(data, offset + 1)
        if following < 0:
            yield Hole(segment.path, offset, len(data) - offset, "torn tail" if last else "damaged end")
            return
        yield Hole(segment.path, offset, following - offset, "damaged bytes")
        offset = following


def describe(entry: Entry) -> dict[str, Any]:
    """Return a record as JSON shows it. Bytes that are not UTF-8 are `..._base64`."""
    kind = entry.payload[0]
    found = {"position": entry.position, "kind": KIND_NAMES[kind]}
    return found | _DESCRIBE[kind](entry.payload)


def _message(payload: bytes) -> dict[str, Any]:
    message = record.decode_message(payload)
    queues, _, stored_at_ms = record.message_facts(payload)
    origin = message.origin
    shown = {
        "topic": message.topic,
        "qos": message.qos,
        "retain": message.retain,
        "queues": list(queues),
        "stored_at_ms": stored_at_ms,
        "published_at_ms": message.timestamp_ms,
        "expires_at_ms": message.expires_at_ms or None,
        "origin": _origin(origin),
        "properties": _properties(message.properties),
    }
    return shown | _text("body", message.body)


def _origin(origin: Origin) -> dict[str, str]:
    return {name: getattr(origin, name) for name in ("protocol", "principal", "client_id", "peer")}


def _properties(properties: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name in PROPERTY_NAMES:
        value = getattr(properties, name)
        if value is None or value is False or value == ():
            continue
        if isinstance(value, bytes):
            shown |= _text(name, value)
        elif name == "headers":
            shown[name] = [[key, _plain(item)] for key, item in value]
        else:
            shown[name] = value
    return shown


def _plain(value: Any) -> Any:
    """Return a header's value as JSON can hold it."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _text(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _settle(payload: bytes) -> dict[str, Any]:
    queue, outcome, now_ms, positions = record.decode_settle(payload)
    return {"queue": queue, "outcome": outcome, "time_ms": now_ms, "positions": list(positions)}


def _delivered(payload: bytes) -> dict[str, Any]:
    entry = record.decode_delivered(payload)
    return {
        "queue": entry.queue_id,
        "consumer": _origin(entry.consumer),
        "group": entry.group,
        "time_ms": entry.now_ms,
        "positions": list(entry.positions),
        "tags": list(entry.tags),
    }


def _cursor(payload: bytes) -> dict[str, Any]:
    queue, group, offset, now_ms = record.decode_cursor(payload)
    return {"queue": queue, "group": group, "offset": offset, "time_ms": now_ms}


def _trim(payload: bytes) -> dict[str, Any]:
    queue, before, offset, keep = record.decode_trim(payload)
    return {
        "queue": queue,
        "before": before,
        "first_offset": None if offset < 0 else offset,
        "kept": list(keep),
    }


def _moved(payload: bytes) -> dict[str, Any]:
    position, message = record.decode_moved(payload)
    return {"original": position} | _message(message)


def _synced(payload: bytes) -> dict[str, Any]:
    return {"before": record.decode_synced(payload)}


def _group(payload: bytes) -> dict[str, Any]:
    return {"bytes": record.decode_group(payload)}


def _drop(payload: bytes) -> dict[str, Any]:
    return {"queue": record.decode_drop_queue(payload)}


def _put(payload: bytes) -> dict[str, Any]:
    key, value = record.decode_put(payload)
    return {"key": key} | _text("value", value)


def _delete(payload: bytes) -> dict[str, Any]:
    return {"key": record.decode_delete(payload)}


_DESCRIBE: Final[dict[int, Callable[[bytes], dict[str, Any]]]] = {
    record.MESSAGE: _message,
    record.SETTLE: _settle,
    record.DELIVERED: _delivered,
    record.CURSOR: _cursor,
    record.DROP_QUEUE: _drop,
    record.PUT: _put,
    record.DELETE: _delete,
    record.TRIM: _trim,
    record.RETURNED: _settle,
    record.MOVED: _moved,
    record.SYNCED: _synced,
    record.GROUP: _group,
}
