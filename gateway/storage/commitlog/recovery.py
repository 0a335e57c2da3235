"""From files to state: the newest checkpoint, then every record of the log after it.

A torn tail is cut off. Damage in the middle is skipped to the next valid record and
reported with file, offset and size. Neither ever keeps the gateway from starting.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.core.errors import StorageError

from . import checkpoint, record
from .files import Files
from .index import QueueIndex
from .segment import SEGMENT_HEADER_BYTES, Damage, Segment, next_record, record_at, segment_paths


class Recovered:
    """State as of the end of the log."""

    def __init__(self, index: QueueIndex, keys: dict[str, bytes], position: int, remarks: list[str]) -> None:
        self.index = index
        self.keys = keys
        self.position = position  # everything before it is in index and keys
        self.remarks = remarks
        self.segments: list[Segment] = []


def recover(files: Files, log_directory: Path, index_directory: Path, room: int) -> Recovered:
    """Read everything. Raise StorageError for what must not be touched (a newer version)."""
    state = Recovered(*checkpoint.load(index_directory))
    paths = segment_paths(log_directory)
    for path in paths:
        if not path.stem.isdigit():
            raise StorageError(f"{path}: this is no segment of ours; move it out of the log's directory")
    for number, path in enumerate(paths):
        segment = _open(files, path, room, state)
        if segment is None:
            continue
        following = int(paths[number + 1].stem) if number + 1 < len(paths) else 0
        if 0 < following <= state.position:
            segment.end = following - segment.base  # all of it is in the checkpoint
        else:
            _replay(segment, state, last=not following)
        state.segments.append(segment)
    _check_missing(state)
    return state


def _open(files: Files, path: Path, room: int, state: Recovered) -> Segment | None:
    segment = Segment(files, path.parent, int(path.stem), room)
    try:
        segment.open()
    except Damage as damage:
        # A crash while the file was made leaves no header, and no record either.
        state.remarks.append(f"{damage}; the file is set aside as {path.name}.damaged")
        segment.close()
        path.rename(path.with_name(path.name + ".damaged"))
        return None
    return segment


def _replay(segment: Segment, state: Recovered, last: bool) -> None:
    """Apply the records of a segment that come after the checkpoint; find its end."""
    data = segment.content()
    offset = max(SEGMENT_HEADER_BYTES, state.position - segment.base)
    if offset > len(data):
        offset = len(data)  # cut short since the checkpoint: there is nothing left to read
    while True:
        end = record_at(data, offset)
        if end > 0:
            payload = data[offset + record.HEADER_BYTES : end]
            _apply(state, payload, segment.base + offset)
            offset = end
            continue
        following = next_record(data, offset + 1) if end < 0 else _beyond_zeros(data, offset)
        if following < 0:
            break
        lost = following - offset
        state.remarks.append(f"{segment.path}: {lost} damaged bytes at offset {offset} skipped")
        offset = following
    segment.end = offset
    if last and data[offset:].strip(b"\0"):
        state.remarks.append(f"{segment.path}: torn tail of {len(data) - offset} bytes at offset {offset} cut off")
    if last:
        segment.cut(offset)
    state.position = max(state.position, segment.base + offset)


def _beyond_zeros(data: bytes, offset: int) -> int:
    """Zeros end a segment; records beyond them mean that a page was lost."""
    return next_record(data, offset) if data[offset:].strip(b"\0") else -1


def _check_missing(state: Recovered) -> None:
    ranges = [(s.base, s.base + s.end) for s in state.segments]
    lost = state.index.forget_missing(ranges)
    if lost:
        state.remarks.append(f"{lost} waiting messages are lost: their part of the log is missing")


def _apply(state: Recovered, payload: bytes, position: int) -> None:
    _APPLY[payload[0]](state, payload, position)


def _message(state: Recovered, payload: bytes, position: int) -> None:
    ids, size, timestamp_ms = record.message_facts(payload)
    state.index.add(ids, position, (size, 0, 0, timestamp_ms))


def _settle(state: Recovered, payload: bytes, position: int) -> None:
    queue_id, _, positions = record.decode_settle(payload)
    state.index.settle(queue_id, positions)


def _delivered(state: Recovered, payload: bytes, position: int) -> None:
    state.index.delivered(*record.decode_delivered(payload))


def _cursor(state: Recovered, payload: bytes, position: int) -> None:
    queue_id, group, offset = record.decode_cursor(payload)
    state.index.cursors[(queue_id, group)] = offset


def _drop(state: Recovered, payload: bytes, position: int) -> None:
    state.index.drop(record.decode_drop_queue(payload))


def _put(state: Recovered, payload: bytes, position: int) -> None:
    key, value = record.decode_put(payload)
    state.keys[key] = value


def _delete(state: Recovered, payload: bytes, position: int) -> None:
    state.keys.pop(record.decode_delete(payload), None)


_APPLY: Final[dict[int, Callable[[Recovered, bytes, int], None]]] = {
    record.MESSAGE: _message,
    record.SETTLE: _settle,
    record.DELIVERED: _delivered,
    record.CURSOR: _cursor,
    record.DROP_QUEUE: _drop,
    record.PUT: _put,
    record.DELETE: _delete,
}
