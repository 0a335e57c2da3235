"""The commit log: one log for messages, journal and keys; one write per turn; one sync for everybody.

`append`, `settle` and the others add to the turn's batch; `flush` writes it with one call and
has it synced in a thread; `when_durable` callbacks run in order once the sync is done. A write
that fails loses the batch's messages, tells whoever waits, and carries journal and keys over
to the next batch, so that service resumes by itself when there is room again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

from gateway.core.engine import Recovery
from gateway.core.errors import NotFound, NotStored, StorageError
from gateway.core.message import Message

from . import checkpoint, record
from .checkpoint import State
from .files import Files
from .index import QueueIndex
from .record import HEADER, HEADER_BYTES
from .recovery import recover
from .segment import SEGMENT_HEADER_BYTES, Damage, Segment
from .sync import Syncer

SEGMENT_BYTES: Final = 64 << 20  # half a second of the fastest writer; small enough to free soon
CHECKPOINT_BYTES: Final = 64 << 20  # how much log a restart reads at most, a second's worth
FIRST_POSITION: Final = 1  # positions are positive

Callback = Callable[[bool], None]

log = logging.getLogger("gateway.storage")


class CommitLog:
    """Implements `gateway.core.engine.StorageEngine` on files below one directory."""

    def __init__(
        self, directory: Path, segment_bytes: int = SEGMENT_BYTES, files: Files | None = None
    ) -> None:
        self._directory = directory
        self._log_directory = directory / "log"
        self._index_directory = directory / "index"
        self._segment_bytes = segment_bytes
        self._files = files or Files()
        self._lock = -1
        self._segments: list[Segment] = []
        self._index = QueueIndex()
        self._keys: dict[str, bytes] = {}
        self._end = FIRST_POSITION + SEGMENT_HEADER_BYTES  # where the next record goes
        self._written = 0  # up to where the log has been written
        self._batch: list[bytes] = []
        self._pending: dict[int, Message] = {}  # of the batch, by position
        self._next: Segment | None = None  # the batch begins this segment
        self._settles: dict[tuple[int, int], list[int]] = {}  # (queue, outcome) -> positions
        self._deliveries: dict[int, tuple[list[int], list[int]]] = {}  # queue -> positions, tags
        self._carried: list[bytes] = []  # payloads of the batch that outlive its failure
        self._mark = b""  # before every record
        self._failed_from = 0
        self._waiting: deque[tuple[int, Callback]] = deque()
        self._error: NotStored | None = None  # a failure in the middle of a turn
        self._failures = 0  # failed syncs known so far
        self._unsynced: Segment | None = None  # the last segment whose sync failed
        self._checkpoint_written = False  # by the thread; segments may be free now
        self._checkpointed = 0
        self._checkpoint_every = CHECKPOINT_BYTES
        self._syncer: Syncer
        self._notify: Callable[[], None]

    # -- open and close -----------------------------------------------------------------------

    def open(self, notify: Callable[[], None]) -> Recovery:
        self._make_directories()
        try:
            found = recover(self._files, self._log_directory, self._index_directory, self._segment_bytes)
        except OSError as error:
            self._unlock()
            raise StorageError(f"{error.filename or self._directory}: {error.strerror}") from error
        except StorageError:
            self._unlock()
            raise
        self._index, self._keys = found.state.index, found.state.keys
        self._mark, self._segments = found.state.mark, found.segments
        self._end = found.state.position
        if not self._segments or self._end > self._tail_end():
            # New, or cut off before the checkpoint: a position is never used for another record.
            self._begin_segment(max(FIRST_POSITION, self._end), self._segment_bytes)
        self._written = self._checkpointed = self._end
        self._notify = notify
        self._syncer = Syncer(notify, self._end)
        return Recovery(self._index.entries(), dict(self._index.cursors), found.remarks)

    def _make_directories(self) -> None:
        """Make what is missing, durably, and lock it. Raise StorageError."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = self._files.lock(self._directory / "lock")
            self._log_directory.mkdir(exist_ok=True)
            self._index_directory.mkdir(exist_ok=True)
            self._files.sync_directory(self._directory)
        except BlockingIOError:
            raise StorageError(f"{self._directory}: another gateway is using this data directory") from None
        except OSError as error:
            self._unlock()
            where = error.filename or self._directory
            raise StorageError(f"{where}: cannot be used as data directory: {error.strerror}") from error

    def _unlock(self) -> None:
        if self._lock >= 0:
            self._files.close(self._lock)
            self._lock = -1

    def close(self) -> None:
        if self._lock < 0:
            return
        try:
            self.flush()
        except NotStored:
            pass  # whoever waits for it is told below
        self._syncer.stop()
        self.completed()
        if not self._syncer.lost(self._written - 1):
            try:
                self._checkpoint()
            except OSError as error:
                log.warning("no checkpoint at the end, so the next start reads more log: %s", error)
        for segment in self._segments:
            segment.close()
        self._unlock()

    # -- messages -------------------------------------------------------------------------------

    def append(self, message: Message, queue_ids: Sequence[int], now_ms: int) -> int:
        payload = record.encode_message(message, queue_ids, now_ms)
        position = self._place(HEADER_BYTES + len(payload))
        batch = self._batch  # only now: placing may have begun another
        batch.append(HEADER.pack(self._mark, len(payload), crc32(payload)))
        batch.append(payload)
        self._pending[position] = message
        facts = (len(message.body), 0, 0, now_ms)
        queues = self._index.queues
        for queue_id in queue_ids:
            queue = queues.get(queue_id)
            if queue is None:
                queue = queues[queue_id] = {}
            queue[position] = facts
        return position

    def _place(self, size: int) -> int:
        """Return where a record of that size goes; begin a new segment if it does not fit."""
        tail = self._next or self._segments[-1]
        if self._end - tail.base + size > tail.room and self._end - tail.base > SEGMENT_HEADER_BYTES:
            self._roll(size)
        position = self._end
        self._end = position + size
        return position

    def _roll(self, size: int) -> None:
        """Write the batch so far to the old segment, and go on in a new one."""
        if self._error is not None:
            return  # this turn is lost; where it would have gone does not matter
        if self._batch:
            try:
                self._write_out()
            except NotStored as error:
                self._error = error  # for the flush that ends this turn
                return
        self._begin_segment(self._end, max(self._segment_bytes, SEGMENT_HEADER_BYTES + size))

    def _begin_segment(self, base: int, room: int) -> None:
        """Have the next write make a segment; the old one is left as it is."""
        self._next = Segment(self._files, self._log_directory, base, room, self._mark)
        self._end = base + SEGMENT_HEADER_BYTES

    def _tail_end(self) -> int:
        """Return where the next write goes."""
        tail = self._next or self._segments[-1]
        return tail.base + tail.end

    def delivered(self, queue_id: int, position: int, tag: int) -> None:
        entry = self._deliveries.get(queue_id)
        if entry is None:
            entry = self._deliveries[queue_id] = ([], [])
        entry[0].append(position)
        entry[1].append(tag)

    def settle(self, queue_id: int, position: int, outcome: int) -> None:
        positions = self._settles.get((queue_id, outcome))
        if positions is None:
            positions = self._settles[(queue_id, outcome)] = []
        positions.append(position)

    def cursor(self, queue_id: int, group: str, offset: int) -> None:
        self._index.cursors[(queue_id, group)] = offset
        self._add(record.encode_cursor(queue_id, group, offset))

    def drop_queue(self, queue_id: int) -> None:
        self._index.drop(queue_id)
        self._deliveries.pop(queue_id, None)
        for key in [key for key in self._settles if key[0] == queue_id]:
            del self._settles[key]
        self._add(record.encode_drop_queue(queue_id))

    def read(self, position: int) -> Message:
        pending = self._pending.get(position)
        if pending is not None:
            return pending
        segment = self._segment_of(position)
        try:
            payload = segment.read(position)
        except (Damage, OSError) as error:
            raise NotFound(f"no message at position {position}: {error}") from error
        if payload[0] != record.MESSAGE:
            raise NotFound(f"no message at position {position}")
        return record.decode_message(payload)

    def _segment_of(self, position: int) -> Segment:
        low, high = 0, len(self._segments)
        while low < high:
            middle = (low + high) // 2
            if self._segments[middle].base <= position:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            raise NotFound(f"no message at position {position}")
        return self._segments[low - 1]

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

    def _add(self, payload: bytes) -> None:
        """Add a record that must not be lost should this batch fail."""
        self._place(HEADER_BYTES + len(payload))
        self._keep(payload)

    def _keep(self, payload: bytes) -> None:
        self._batch.append(HEADER.pack(self._mark, len(payload), crc32(payload)))
        self._batch.append(payload)
        self._carried.append(payload)

    # -- writing ----------------------------------------------------------------------------------

    def flush(self) -> None:
        if self._deliveries or self._settles:
            self._pack_journal()
        if self._unsynced is not None:
            self._abandon(self._unsynced)
        if self._error is not None:
            error, self._error = self._error, None
            self._forget_batch(self._failed_from)
            raise error
        if self._batch:
            self._write_out()
            if self._written - self._checkpointed > self._checkpoint_every:
                self._checkpoint_soon()

    def _pack_journal(self) -> None:
        """Turn the collected journal entries into records; deliveries before what settled them."""
        deliveries, self._deliveries = self._deliveries, {}
        for queue_id, (positions, tags) in deliveries.items():
            self._index.delivered(queue_id, positions, tags)
            self._add(record.encode_delivered(queue_id, positions, tags))
        settles, self._settles = self._settles, {}
        for (queue_id, outcome), positions in settles.items():
            self._index.settle(queue_id, positions)
            self._add(record.encode_settle(queue_id, outcome, positions))

    def _write_out(self) -> None:
        batch, self._batch = self._batch, []
        try:
            if self._next is not None:
                self._next.create()
                self._segments.append(self._next)
                self._next = None
            self._segments[-1].write(b"".join(batch))
        except OSError as error:
            self._fail(error)
        self._written = self._end
        self._pending.clear()
        self._carried.clear()
        self._syncer.wrote(self._segments[-1], self._written, bool(self._waiting))

    def _fail(self, error: OSError) -> None:
        self._failed_from = self._tail_end()
        self._forget_batch(self._failed_from)
        raise NotStored(f"the log cannot be written: {error.strerror or error}") from error

    def _forget_batch(self, first: int) -> None:
        """Forget the batch's messages, keep its journal and keys for the next one, tell who waits."""
        self._index.forget_from(first)
        self._pending.clear()
        self._batch = []
        self._end = self._tail_end()
        if self._next is None and self._segments[-1].spoilt:
            self._begin_segment(self._end, self._segment_bytes)
        # A negative position: it will not be durable, and is said so in its turn. What was written before
        # the failure will be, even if the rest of its turn was to begin a new segment.
        written = self._written
        self._waiting = deque((p, call) if p < written else (-1, call) for p, call in self._waiting)
        carried, self._carried = self._carried, []
        for payload in carried:
            kept = record.without_positions_from(payload, first)
            if kept:
                # Without rolling, which would write to the disk that has just refused.
                self._end += HEADER_BYTES + len(kept)
                self._keep(kept)
        self._notify()

    def _abandon(self, segment: Segment) -> None:
        """A sync has failed: what the segment holds may not be on disk; write elsewhere from now on."""
        self._unsynced = None
        if self._next is not None or self._segments[-1] is not segment:
            return  # that has come about by itself
        if self._batch and self._error is None:  # its positions are in the old segment
            self._failed_from = self._tail_end()
            self._error = NotStored("the log could not be synced to the disk")
        self._begin_segment(self._tail_end(), self._segment_bytes)

    def failed_from(self) -> int:
        return self._failed_from

    def position(self) -> int:
        if self._deliveries or self._settles:
            self._pack_journal()  # they too get positions now, so that they can be waited for
        return self._end - 1

    # -- durability -------------------------------------------------------------------------------

    def when_durable(self, position: int, call: Callback) -> None:
        if position < self._syncer.synced and not self._waiting:
            call(not self._syncer.lost(position))
            return
        self._waiting.append((position, call))
        if position < self._written:
            self._syncer.hurry()

    def completed(self) -> None:
        syncer = self._syncer
        synced = syncer.synced
        while self._waiting and self._waiting[0][0] < synced:
            position, call = self._waiting.popleft()
            call(position >= 0 and not syncer.lost(position))
        for failure in syncer.failures[self._failures :]:
            self._failures += 1
            self._unsynced = failure.segment
            log.error("the log could not be synced, publishers are told so: %s", failure.reason)
        if self._unsynced is not None and not self._batch:
            self._abandon(self._unsynced)  # now, so that no turn is lost by it
        if self._checkpoint_written:
            self._checkpoint_written = False
            self._free()

    # -- checkpoints --------------------------------------------------------------------------------

    def _state(self) -> State:
        closed = self._segments[:-1] if self._next is None else self._segments
        ends = {segment.base: segment.end for segment in closed}
        return State(self._index, self._keys, self._mark, self._written, ends)

    def _checkpoint_soon(self) -> None:
        """Take the state now, have the thread write it."""
        content, position = checkpoint.encode(self._state()), self._written
        self._checkpointed = position
        # In proportion to its size: a checkpoint of a long backlog is not worth writing often.
        self._checkpoint_every = max(CHECKPOINT_BYTES, 16 * len(content))

        def write() -> None:
            try:
                checkpoint.write(self._files, self._index_directory, content, position)
            except OSError as error:
                log.warning("no checkpoint written, the next one is due after as much log: %s", error)
                return
            self._checkpoint_written = True
            self._notify()

        self._syncer.after_next(write)

    def _checkpoint(self) -> None:
        """Write a checkpoint now: at the end. Raise OSError."""
        checkpoint.write(self._files, self._index_directory, checkpoint.encode(self._state()), self._written)
        self._free()

    def _free(self) -> None:
        """Delete segments without live entries, but for the one that is written to."""
        if len(self._segments) < 2:
            return
        used = self._index.used([segment.base for segment in self._segments])
        oldest = self._oldest_checkpoint()
        kept = []
        for segment in self._segments:
            last = segment is self._segments[-1]
            if last or segment.base in used or segment.base + segment.end > oldest:
                kept.append(segment)
                continue
            try:
                segment.delete()
            except OSError as error:
                log.warning("%s cannot be deleted: %s", segment.path, error)
        self._segments = kept

    def _oldest_checkpoint(self) -> int:
        """Return the position of the oldest checkpoint kept: recovery may have to begin there."""
        return min((int(path.stem) for path in checkpoint.paths(self._index_directory)), default=0)
