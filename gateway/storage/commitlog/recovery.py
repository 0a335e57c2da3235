"""From files to state: the newest checkpoint, then every record of the log after it.

A torn tail is cut off, and so is what comes after a hole that may be one. Damage to what had
been on disk (see `proof`) is skipped to the next valid record. Either is reported with file,
offset and size; neither ever keeps the gateway from starting.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.storage.index import QueueIndex

from . import checkpoint, record
from .blocks import BlockFiles
from .checkpoint import State
from .files import Files
from .segment import FIRST_POSITION, SEGMENT_HEADER_BYTES, Segment, segment_paths
from .segments import Segments


class Recovered:
    """State as of the end of the log, and the files it is in."""

    __slots__ = ("_proven", "blocks", "files", "remarks", "segments", "state")

    def __init__(
        self, files: Files, state: State, blocks: BlockFiles, segments: Segments, remarks: list[str]
    ) -> None:
        self.files = files
        self.state = state
        self.blocks = blocks
        self.segments = segments
        self.remarks = remarks
        self._proven = -1  # nobody has asked

    def tail_closed(self) -> bool:
        """Whether the last segment ended before the checkpoint: the one that came after it is gone."""
        return self.segments.tail.base in self.state.closed

    def proven(self) -> int:
        """Return up to where the log says that it has been on disk: a hole before that is damage.

        Read only if there is a hole. A record speaks of what comes before it, so what says something
        of a hole comes behind it.
        """
        if self._proven < 0:
            unread = [segment for segment in self.segments if segment.base not in self.state.closed]
            self._proven = max(map(_newest_proof, unread), default=0)
        return self._proven

    def close(self) -> None:
        """Release the files."""
        self.blocks.close()
        for segment in self.segments:
            segment.close()


def recover(files: Files, log_directory: Path, index_directory: Path, room: int) -> Recovered:
    """Read everything. Raise StorageError for what must not be touched (a newer version), or OSError."""
    segments = Segments()

    def make() -> State:
        blocks = BlockFiles(files, index_directory, segments.words_of)
        return State(QueueIndex(segments, blocks), blocks)

    state, remarks = checkpoint.load(index_directory, make)
    assert state.blocks is not None
    recovered = Recovered(files, state, state.blocks, segments, remarks)
    state.blocks.open()
    for entries in state.index.queues.values():
        for block in entries.blocks or ():
            if block.place < 0:  # the checkpoint had its words, because its file was not to be relied on
                state.blocks.store(block)
    segments.moved = state.moved
    try:
        segments.replace(_open_all(files, log_directory, room, recovered))
        _replay_all(recovered)
        for segment in recovered.segments:
            if segment.base not in state.closed:
                segment.sync()  # the last run may not have come to it; from here on it counts as stored
    except BaseException:
        recovered.close()
        raise
    return recovered


def _open_all(files: Files, directory: Path, room: int, recovered: Recovered) -> list[Segment]:
    """Open the segments; the ones with a bad header are looked at once the log's mark is known."""
    segments: list[Segment] = []
    bad: list[Segment] = []
    mark = recovered.state.mark
    for path in segment_paths(directory):
        segment = Segment(files, directory, int(path.stem), room, b"")
        segments.append(segment)
        if segment.open():
            mark = mark or segment.mark
        else:
            bad.append(segment)
    recovered.state.mark = mark or os.urandom(record.MARK_BYTES)
    for segment in bad:
        segment.mark = recovered.state.mark
        if not _rescue(files, segment, recovered.remarks):
            segments.remove(segment)
    return segments


def _rescue(files: Files, segment: Segment, remarks: list[str]) -> bool:
    """Tell whether a segment without a good header holds records; put away one that does not."""
    data = segment.content()
    if segment.next_record(data, SEGMENT_HEADER_BYTES) >= 0:
        segment.repair_header()
        remarks.append(f"{segment.path}: the header was damaged and is written anew")
        return True
    if data.strip(b"\0"):
        _set_aside(files, segment, ".damaged", "no header and no records", remarks)
    else:
        segment.delete()  # a crash while the file was made: nothing was in it yet
    return False


def _replay_all(recovered: Recovered) -> None:
    segments, state = list(recovered.segments), recovered.state
    known = state.position or FIRST_POSITION  # up to where the segments have followed each other
    for number, segment in enumerate(segments):
        following = segments[number + 1].base if number + 1 < len(segments) else 0
        if segment.base in state.closed:
            # All of it is in the checkpoint. Behind its end may be what is left of a failed write.
            segment.end = state.closed[segment.base]
            if not following:
                segment.cut(segment.end)
            continue
        if segment.base > known and recovered.proven() <= known:
            _end_at(recovered, segments[:number], segments[number:])
            break
        known = max(known, _replay(segment, recovered, following - segment.base if following else None))
    _check_moved(recovered)
    lost = state.index.forget_missing([(s.base, s.base + s.end) for s in recovered.segments], state.moved)
    if lost:
        recovered.remarks.append(f"{lost} waiting messages are lost: their part of the log is missing")
    state.as_of = {}  # all is as of the end now
    recovered.segments.recount(state.index)


def _newest_proof(segment: Segment) -> int:
    data, offset, newest = segment.content(), SEGMENT_HEADER_BYTES, 0
    while (offset := segment.next_record(data, offset)) >= 0:
        end = segment.record_at(data, offset)
        payload = data[offset + record.HEADER_BYTES : end]
        if payload[0] == record.SYNCED:
            newest = max(newest, record.decode_synced(payload))
        offset = end
    return newest


def _end_at(recovered: Recovered, before: list[Segment], unsafe: list[Segment]) -> None:
    """Take away what comes after a hole: nobody was told that it is stored."""
    if before:
        before[-1].cut(before[-1].end)
    for segment in unsafe:
        why = "what comes before it was never on disk"
        _set_aside(recovered.files, segment, ".unsafe", why, recovered.remarks)
        recovered.segments.remove(segment)


def _set_aside(files: Files, segment: Segment, suffix: str, why: str, remarks: list[str]) -> None:
    aside = segment.path.with_name(segment.path.name + suffix)
    remarks.append(f"{segment.path}: {why}; set aside as {aside.name}")
    segment.close()
    files.rename(segment.path, aside)


def _check_moved(recovered: Recovered) -> None:
    """Forget copies that are gone too, and note which segments were emptied of some."""
    segments, moved = recovered.segments, recovered.state.moved
    for position, copy in list(moved.items()):
        if segments.holding(copy) is None:
            del moved[position]
        elif (original := segments.holding(position)) is not None:
            original.has_moved = True


def _replay(segment: Segment, recovered: Recovered, limit: int | None) -> int:
    """Apply the records of a segment that come after the checkpoint; return where they end in the log.

    `limit` is where the next segment takes over; the last segment has none.
    """
    state = recovered.state
    data = segment.content()[:limit]
    # Shorter than the checkpoint says: cut since then, and there is nothing left to read.
    offset = min(max(SEGMENT_HEADER_BYTES, state.position - segment.base), len(data))
    while True:
        end = segment.record_at(data, offset)
        if end > 0:
            payload = data[offset + record.HEADER_BYTES : end]
            if payload[0] == record.GROUP and not _whole(segment, data, end, record.decode_group(payload)):
                if recovered.proven() <= segment.base + offset:
                    break  # the rest of it was never on disk, so nothing of it counts
            _APPLY[payload[0]](state, payload, segment.base + offset)
            offset = end
            continue
        following = _resume(segment, data, offset, end)
        if following < 0 or recovered.proven() <= segment.base + offset:
            break
        lost = following - offset
        recovered.remarks.append(f"{segment.path}: {lost} damaged bytes at offset {offset} skipped")
        offset = following
    segment.end = offset
    if data[offset:].strip(b"\0"):
        what = "torn tail" if limit is None else "damaged end"
        lost = len(data) - offset
        recovered.remarks.append(f"{segment.path}: {what} of {lost} bytes at offset {offset} cut off")
    if limit is None:
        segment.cut(offset)
    state.position = max(state.position, segment.base + offset)
    return segment.base + offset


def _whole(segment: Segment, data: bytes, offset: int, length: int) -> bool:
    """Tell whether the records of a group are all there."""
    stop = offset + length
    while 0 < offset < stop:
        offset = segment.record_at(data, offset)
    return offset == stop


def _resume(segment: Segment, data: bytes, offset: int, found: int) -> int:
    """Return where records go on after damage (`found` -1) or zeros (0: maybe a lost page), or -1."""
    if found == 0 and not data[offset:].strip(b"\0"):
        return -1
    return segment.next_record(data, offset + 1)


def _message(state: State, payload: bytes, position: int) -> None:
    ids, size, _ = record.message_facts(payload)
    as_of = state.as_of
    state.index.add([q for q in ids if position >= as_of.get(q, 0)] if as_of else ids, position, size)


def _settle(state: State, payload: bytes, position: int) -> None:
    queue_id, _, _, positions = record.decode_settle(payload)
    if position >= state.as_of.get(queue_id, 0):
        state.index.settle(queue_id, positions)


def _delivered(state: State, payload: bytes, position: int) -> None:
    entry = record.decode_delivered(payload)
    if not entry.group and position >= state.as_of.get(entry.queue_id, 0):
        state.index.delivered(entry.queue_id, entry.positions, entry.tags)


def _cursor(state: State, payload: bytes, position: int) -> None:
    queue_id, group, offset, _ = record.decode_cursor(payload)
    state.index.reached(queue_id, group, offset)


def _trim(state: State, payload: bytes, position: int) -> None:
    queue_id, before, offset, keep = record.decode_trim(payload)
    if position >= state.as_of.get(queue_id, 0):
        state.index.trim(queue_id, before, offset, frozenset(keep))


def _drop(state: State, payload: bytes, position: int) -> None:
    state.index.drop(record.decode_drop_queue(payload))


def _put(state: State, payload: bytes, position: int) -> None:
    key, value = record.decode_put(payload)
    state.keys[key] = value


def _delete(state: State, payload: bytes, position: int) -> None:
    state.keys.pop(record.decode_delete(payload), None)


def _moved(state: State, payload: bytes, position: int) -> None:
    state.moved[record.decode_moved(payload)[0]] = position


def _synced(state: State, payload: bytes, position: int) -> None:
    pass  # it counts where there is a hole


def _group(state: State, payload: bytes, position: int) -> None:
    pass  # its records follow


def _returned(state: State, payload: bytes, position: int) -> None:
    queue_id, outcome, _, positions = record.decode_settle(payload)
    if position >= state.as_of.get(queue_id, 0):
        state.index.returned(queue_id, positions, outcome)


_APPLY: Final[dict[int, Callable[[State, bytes, int], None]]] = {
    record.MESSAGE: _message,
    record.SETTLE: _settle,
    record.DELIVERED: _delivered,
    record.CURSOR: _cursor,
    record.DROP_QUEUE: _drop,
    record.PUT: _put,
    record.DELETE: _delete,
    record.TRIM: _trim,
    record.RETURNED: _returned,
    record.MOVED: _moved,
    record.SYNCED: _synced,
    record.GROUP: _group,
}
