"""The commit log: one log for messages, journal and keys; one write per turn; one sync for everybody.

`append`, `settle` and the others add to the turn's batch; `flush` writes it with one call and has it
synced in a thread. A write that fails loses the batch's messages, tells whoever waits, and carries
journal and keys over to the next batch, so that service resumes when there is room again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from zlib import crc32

from gateway.core.engine import Extent, Recovery, Stored, Trace
from gateway.core.errors import NotStored, StorageError
from gateway.core.message import NO_PROPERTIES, Message, Origin
from gateway.storage.block import ALL, Place
from gateway.storage.entries import Entries
from gateway.storage.index import QueueIndex

from . import record
from .backup import Backups, LogBackup
from .batch import Batch, Cursors, Messages, Settled, group
from .checkpoints import Checkpoints
from .directory import DataDirectory
from .failures import Failures
from .files import Files
from .finder import Finder
from .journal import Journal
from .loading import due_times, load, message_payload, messages_after, offset_at
from .proof import Proof
from .reader import Reader
from .record import HEADER, HEADER_BYTES
from .recovery import recover
from .segment import FIRST_POSITION, SEGMENT_HEADER_BYTES, Segment
from .segments import Segments
from .space import Space
from .sync import Syncer
from .waiters import Callback, Waiters

SEGMENT_BYTES: Final = 64 << 20  # half a second of the fastest writer; small enough to free soon
METADATA: Final = frozenset((record.PUT, record.DELETE, record.DROP_QUEUE))
KEPT_MS: Final = 3_600_000  # what is settled can be asked about for an hour
KEPT_BYTES_MAX: Final = 4 << 30  # or as much as fits in this

log = logging.getLogger("gateway.storage")


class CommitLog:
    """Implements `gateway.core.engine.StorageEngine` on files below one directory."""

    def __init__(
        self,
        directory: Path,
        segment_bytes: int = SEGMENT_BYTES,
        files: Files | None = None,
        kept_ms: int = KEPT_MS,
        kept_bytes_max: int = KEPT_BYTES_MAX,
    ) -> None:
        self._segment_bytes = segment_bytes
        self._files = files or Files()
        self._directory = DataDirectory(self._files, directory)
        self._kept = (kept_ms, kept_bytes_max)
        self._end = FIRST_POSITION + SEGMENT_HEADER_BYTES  # where the next record goes
        self._begun = self._room_end = 0  # of the segment that is written to
        self._written = 0  # up to where the log has been written
        self._batch = Batch()
        self._now_ms = 0
        self._failed_from = 0
        self._waiters = Waiters()
        self._backups = Backups()
        self._error: NotStored | None = None  # a failure in the middle of a turn
        self._failures = Failures()
        self._reader = Reader(self._files)
        self._segments = Segments()
        self._index = QueueIndex(self._segments)
        self._keys: dict[str, bytes] = {}
        self._journal = Journal(self._index)
        self._checkpoints: Checkpoints
        self._finder: Finder
        self._proof: Proof
        self._space: Space
        self._syncer: Syncer
        self._notify: Callable[[], None]

    # -- open and close -----------------------------------------------------------------------

    def open(self, notify: Callable[[], None]) -> Recovery:
        self._directory.take()
        try:
            found = recover(self._files, self._directory.log, self._directory.index, self._segment_bytes)
        except OSError as error:
            self._directory.leave()
            raise StorageError(f"{error.filename or self._directory.path}: {error.strerror}") from error
        except StorageError:
            self._directory.leave()
            raise
        state = found.state
        self._index, self._keys, self._segments = state.index, state.keys, found.segments
        self._batch.mark = state.mark
        self._journal = Journal(self._index)
        self._end = state.position
        if not len(self._segments) or self._end > self._tail_end() or found.tail_closed():
            # New, cut off before the checkpoint, or at an end that it knows: behind it nothing would be read.
            self._segment_at(max(FIRST_POSITION, self._end), self._segment_bytes)
        self._begun, self._room_end = self._segments.tail.reach
        self._finder = Finder(self._files, self._directory.index, self._segments, self._end)
        self._written = self._end
        self._notify = notify
        self._proof = Proof(self._end)
        self._syncer = Syncer(notify, self._end)
        self._space = Space(self._segments, self._index, self._add, self._finder.forget, *self._kept)
        self._checkpoints = Checkpoints(
            self._files, self._directory.index, state, self._segments, found.blocks, self._syncer, self._end
        )
        return Recovery(dict(self._index.cursors), found.remarks)

    def close(self) -> None:
        if not self._directory.locked:
            return
        with suppress(NotStored):  # whoever waits for it is told
            self.flush()
        self._backups.close()
        self._syncer.stop()
        self.completed()
        if not self._syncer.lost(self._written - 1):
            self._proof.alone(self._syncer.proven, self._add)
            with suppress(NotStored):
                self.flush()
            try:
                self._checkpoints.take_now(self._written)
            except OSError as error:
                log.warning("no checkpoint at the end, so the next start reads more log: %s", error)
            self._finder.finish()
        self._finder.close()
        self._checkpoints.blocks.close()
        for segment in self._segments:
            segment.close()
        self._directory.leave()

    # -- messages -------------------------------------------------------------------------------

    def append(self, message: Message, queue_ids: Sequence[int], now_ms: int, sync: bool = True) -> int:
        payload = record.encode_message(message, queue_ids, now_ms)
        position = self._place(HEADER_BYTES + len(payload))
        pieces = self._batch.pieces  # only now: placing may have begun another
        pieces.append(HEADER.pack(self._batch.mark, len(payload), crc32(payload)))
        pieces.append(payload)
        self._now_ms = now_ms
        if sync:
            self._waiters.must_sync = position
        self._appended(message, queue_ids, position)
        return position

    def _appended(self, message: Message, queue_ids: Sequence[int], position: int) -> None:
        batch = self._batch
        batch.pending[position] = message
        batch.references += len(queue_ids)
        if message.properties is not NO_PROPERTIES:
            self._finder.current.message(message.properties, position)
        size, index = len(message.body), self._index
        for queue_id in queue_ids:
            (index.queues.get(queue_id) or index.make(queue_id)).append(position, size)

    def transact(
        self,
        messages: Messages,
        settled: Settled,
        now_ms: int,
        at_once: bool = False,
        outcome: int = 1,
        cursors: Cursors = (),
    ) -> list[int]:
        self._journal.pack(self._add)  # what came first is no part of it
        payloads, size = group(messages, settled, now_ms, outcome, cursors)
        positions = self._batch.add_all(payloads, self._place(size))
        for (message, ids), position in zip(messages, positions, strict=False):
            self._appended(message, ids, position)
        for payload, position in zip(payloads[len(messages) + 1 :], positions[len(messages) :], strict=True):
            self._finder.current.journal(payload, position)
        self._batch.settle(settled, cursors)
        self._waiters.must_sync, self._now_ms = positions[-1], now_ms
        if at_once and (self._error or self._failures.leaves(self._segments) or not self._write_out()):
            self._index.forget_from(positions[0])
            raise NotStored("the log cannot be written: nothing of the transaction has happened")
        return positions[: len(messages)]

    def _place(self, size: int) -> int:
        """Return where a record of that size goes; begin a new segment if it does not fit."""
        if self._end + size > self._room_end and self._end > self._begun + SEGMENT_HEADER_BYTES:
            self._roll(size)
        position = self._end
        self._end = position + size
        return position

    def _roll(self, size: int) -> None:
        """Write the batch so far to the old segment, and go on in a new one."""
        if self._error is not None:
            return  # this turn is lost; where it would have gone does not matter
        if not self._batch or self._write_out():
            self._begin_segment(self._end, max(self._segment_bytes, SEGMENT_HEADER_BYTES + size))

    def _begin_segment(self, base: int, room: int) -> None:
        """Have the next write make a segment; the old one is left as it is."""
        self._segment_at(base, room)
        self._begun, self._room_end = self._segments.tail.reach
        self._finder.begin(base)

    def _segment_at(self, base: int, room: int) -> None:
        self._segments.next = Segment(self._files, self._directory.log, base, room, self._batch.mark)
        self._end = base + SEGMENT_HEADER_BYTES

    def _tail_end(self) -> int:
        """Return where the next write goes."""
        tail = self._segments.tail
        return tail.base + tail.end

    # -- journal --------------------------------------------------------------------------------

    def delivered(
        self,
        queue_id: int,
        positions: Sequence[int],
        tags: Sequence[int],
        consumer: Origin,
        group: str,
        now_ms: int,
    ) -> None:
        self._journal.delivered(record.Delivered(queue_id, consumer, group, now_ms, positions, tags))

    def settle(self, queue_id: int, positions: Sequence[int], outcome: int, now_ms: int) -> None:
        self._journal.settle(record.SETTLE, queue_id, outcome, now_ms, positions)

    def returned(self, queue_id: int, position: int, outcome: int, now_ms: int) -> None:
        self._journal.settle(record.RETURNED, queue_id, outcome, now_ms, (position,))

    def cursor(self, queue_id: int, group: str, offset: int, now_ms: int) -> None:
        self._journal.cursor(queue_id, group, offset, now_ms)

    def trim(self, queue_id: int, offset: int) -> None:
        first = self._entries(queue_id).at(offset, 1)
        self._trim(queue_id, first[0][1] if first else self._end, first[0][0] if first else offset, ())

    def purge(self, queue_id: int, keep: Sequence[int]) -> None:
        self._trim(queue_id, self._end, -1, keep)

    def _trim(self, queue_id: int, before: int, offset: int, keep: Sequence[int]) -> None:
        self._journal.pack(self._add)  # what came first must be first in the log
        self._index.trim(queue_id, before, offset, frozenset(keep))
        self._add(record.encode_trim(queue_id, before, offset, keep))

    def drop_queue(self, queue_id: int) -> None:
        self._journal.drop(queue_id)
        self._index.drop(queue_id)
        self._add(record.encode_drop_queue(queue_id))

    # -- looking --------------------------------------------------------------------------------

    def read(self, position: int) -> Message:
        found = self._batch.pending.get(position)
        return found or record.decode_message(message_payload(self._segments, position))

    def after(self, queue_id: int, position: int, count: int) -> list[Stored]:
        return self._load(queue_id, self._entries(queue_id).after(position, count))

    def at(self, queue_id: int, offset: int, count: int) -> list[Stored]:
        return self._load(queue_id, self._entries(queue_id).at(offset, count))

    def _entries(self, queue_id: int) -> Entries:
        """Return a queue's entries, with all of this turn's journal applied."""
        if self._journal:
            self._journal.pack(self._add)
        return self._index.of(queue_id)

    def _load(self, queue_id: int, places: list[Place]) -> list[Stored]:
        tried = self._index.of(queue_id).tried or {}
        return load(places, tried, self._batch.pending, self._now_ms, self._segments, self._reader)

    def due_times(self, queue_id: int, position: int, count: int) -> tuple[list[int], list[int]]:
        places = self._entries(queue_id).after(position, count)
        return due_times(places, self._batch.pending, self._segments, self._reader)

    def extent(self, queue_id: int, after: int = 0) -> Extent:
        return self._entries(queue_id).extent(after)

    def offset_at(self, queue_id: int, time_ms: int) -> int:
        low, high = self._entries(queue_id).extent()[:2]
        return offset_at(lambda offset: self.at(queue_id, offset, 1), low, high, time_ms)

    def backup(self) -> LogBackup:
        return self._backups.begin(self._directory, self._segments)

    def prepare_search(self) -> Callable[[], None] | None:
        return self._finder.preparation()

    def find(self, term: str, limit: int) -> list[int]:
        return self._finder.find(term, limit)

    def stored_between(self, from_ms: int, to_ms: int, after: int, limit: int) -> tuple[list[int], int]:
        return self._finder.stored_between(from_ms, to_ms, after, limit)

    def messages_after(self, position: int) -> Iterator[tuple[int, Message]]:
        return messages_after(self._segments, position)

    def history(self, position: int) -> Trace:
        return self._finder.history(position, lambda queue_id: self._entries(queue_id).offset_of(position))

    # -- keys -------------------------------------------------------------------------------------

    def put(self, key: str, value: bytes) -> None:
        self._keys[key] = value
        self._add(record.encode_put(key, value))

    def delete(self, key: str) -> None:
        if self._keys.pop(key, None) is not None:
            self._add(record.encode_delete(key))

    def get(self, key: str) -> bytes | None:
        return self._keys.get(key)

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((k, v) for k, v in self._keys.items() if k.startswith(prefix)))

    def _add(self, payload: bytes) -> int:
        """Add a record that must not be lost should this batch fail; return its position."""
        position = self._place(HEADER_BYTES + len(payload))
        self._batch.keep(payload)
        self._finder.current.journal(payload, position)
        if payload[0] in METADATA:
            self._waiters.must_sync = position
        return position

    # -- writing ----------------------------------------------------------------------------------

    def flush(self) -> None:
        if self._journal:
            self._journal.pack(self._add)
        if self._batch or self._error is not None or self._failures.make_up:
            self._write_turn()
        self._waiters.written(self._written)

    def _write_turn(self) -> None:
        if self._batch:
            self._proof.add(self._syncer.proven, self._end, self._room_end, self._add)
        if self._failures.leaves(self._segments):
            self._abandon()
        if self._batch and self._error is None:
            self._write_out()
        if self._error is not None:
            error, self._error = self._error, None
            self._forget_batch(self._failed_from)
            raise error
        if self._checkpoints.written(self._written, self._failures.make_up):
            self._recount()
        self._failures.make_up = False

    def _write_out(self) -> bool:
        """Write the batch; if that fails, the turn goes on as if nothing were wrong, until its flush."""
        data = self._batch.take()
        segments = self._segments
        self._segments.tail.live += self._batch.counted()
        try:
            if segments.next is not None:
                segments.begin(self._now_ms)
            self._finder.current.time(self._now_ms, segments.last.base + segments.last.end)
            segments.last.write(data)
        except OSError as error:
            self._failed_from = self._tail_end()
            self._error = NotStored(f"the log cannot be written: {error.strerror or error}")
            return False
        self._written = self._end
        self._batch.written(self._index)
        self._syncer.wrote(segments.last, self._written, bool(self._waiters))
        return True

    def _forget_batch(self, first: int) -> None:
        """Forget the batch's messages, keep its journal and keys for the next one, tell who waits."""
        self._segments.tail.live += self._batch.counted()
        self._index.forget_from(first)
        self._forget_moved(first, ALL)
        carried = self._batch.failed(first)
        self._end = self._tail_end()
        if self._failures.leaves(self._segments):
            self._begin_segment(self._end, self._segment_bytes)
        elif self._segments.next is None and self._segments.last.spoilt:
            self._syncer.wrote(self._segments.last, self._written, False)  # no hole before what comes
            self._begin_segment(self._end, self._segment_bytes)
        self._waiters.failed(self._written)
        for kept in carried:  # without rolling: that writes to the disk that has just refused
            self._finder.current.journal(kept, self._end)
            self._end += HEADER_BYTES + len(kept)
            self._batch.keep(kept)
        self._notify()

    def _forget_moved(self, first: int, end: int) -> None:
        if self._segments.forget_moved(first, end):
            self._recount()

    def _recount(self) -> None:
        self._segments.recount(self._index)
        self._batch.counted()  # its references, too

    def _abandon(self) -> None:
        """A sync has failed: what the segment holds may not be on disk; write elsewhere from now on."""
        if not self._batch and self._error is None:
            self._begin_segment(self._tail_end(), self._segment_bytes)
        elif self._error is None:  # its positions are in the old segment: first it has to be forgotten there
            self._failed_from = self._tail_end()
            self._error = NotStored("the log could not be synced to the disk")

    def failed_from(self) -> int:
        return self._failed_from

    def position(self) -> int:
        self._journal.pack(self._add)  # they too get positions now; a segment's header alone does not
        self._waiters.must_sync = (self._end if self._batch or self._error else self._written) - 1
        return self._waiters.must_sync

    # -- durability -------------------------------------------------------------------------------

    def stored(self, position: int) -> bool | None:
        syncer = self._syncer
        return None if position >= syncer.synced else not syncer.lost(position)

    def when_durable(self, position: int, call: Callback) -> None:
        self._waiters.add(position, call, self._written, self._syncer)

    def completed(self) -> None:
        self._waiters.synced(self._syncer)
        for failure in self._failures.take(self._syncer):
            self._forget_moved(failure.first, failure.end)
        if self._failures.leaves(self._segments) and not self._batch:
            self._abandon()  # now, so that no turn is lost by it
        if not self._backups.running:
            self._checkpoints.completed(self._space, self._now_ms)

    def sweep(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._proof.alone(self._syncer.proven, self._add)
        self._failures.make_up |= self._syncer.broken
        if self._backups.running:
            return  # it reads what would go
        self._space.free(self._checkpoints.oldest, now_ms)
        self._space.step(now_ms)
