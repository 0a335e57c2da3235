"""The commit log: one log for messages, journal and keys; one write per turn; one sync for everybody.

`append`, `settle` and the others add to the turn's batch; `flush` writes it with one call and
has it synced in a thread; `when_durable` callbacks run in order once the sync is done. A write
that fails loses the batch's messages, tells whoever waits, and carries journal and keys over
to the next batch, so that service resumes by itself when there is room again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.core.engine import Recovery
from gateway.core.errors import NotFound, NotStored, StorageError
from gateway.core.message import Message

from . import checkpoint, record
from .files import Files
from .index import QueueIndex
from .recovery import recover
from .segment import SEGMENT_HEADER_BYTES, Damage, Segment
from .sync import Syncer

SEGMENT_BYTES: Final = 64 << 20  # half a second of the fastest writer; small enough to free soon
CHECKPOINT_BYTES: Final = 64 << 20  # how much log a restart reads at most, a second's worth
FIRST_POSITION: Final = 1  # positions are positive

Callback = Callable[[bool], None]


class CommitLog:
    """Implements `gateway.core.engine.StorageEngine` on files below one directory."""

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT_BYTES, files: Files | None = None) -> None:
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
        self._carried: list[bytes] = []  # key and cursor records of the batch, should it fail
        self._failed_from = 0
        self._waiting: deque[tuple[int, Callback]] = deque()
        self._error: NotStored | None = None  # a failure in the middle of a turn
        self._abandon = False  # the current segment could not be synced
        self._checkpoint_written = False  # by the thread; segments may be free now
        self._checkpointed = 0
        self._checkpoint_every = CHECKPOINT_BYTES
        self._syncer: Syncer
        self._notify: Callable[[], None]

    # -- open and close -----------------------------------------------------------------------

    def open(self, notify: Callable[[], None]) -> Recovery:
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._log_directory.mkdir(exist_ok=True)
            self._index_directory.mkdir(exist_ok=True)
            self._lock = self._files.lock(self._directory / "lock")
        except BlockingIOError:
            raise StorageError(f"{self._directory}: another gateway is using this data directory") from None
        except OSError as error:
            raise StorageError(f"{self._directory}: cannot be used as data directory: {error.strerror}") from error
        try:
            state = recover(self._files, self._log_directory, self._index_directory, self._segment_bytes)
        except OSError as error:
            raise StorageError(f"{error.filename or self._directory}: {error.strerror}") from error
        self._index, self._keys, self._segments = state.index, state.keys, state.segments
        if self._segments:
            tail = self._segments[-1]
            self._end = max(tail.base + tail.end, state.position)
            if self._end > tail.base + tail.end:  # the tail was cut before the checkpoint: never reuse positions
                self._next = Segment(self._files, self._log_directory, self._end, self._segment_bytes)
                self._end += SEGMENT_HEADER_BYTES
        else:
            base = max(FIRST_POSITION, state.position)
            self._next = Segment(self._files, self._log_directory, base, self._segment_bytes)
            self._end = base + SEGMENT_HEADER_BYTES
        self._written = self._checkpointed = self._end
        self._notify = notify
        self._syncer = Syncer(notify)
        self._syncer.synced = self._end
        return Recovery(self._index.entries(), dict(self._index.cursors), state.remarks)

    def close(self) -> None:
        if self._lock < 0:
            return
        try:
            self.flush()
            self._syncer.stop()
            self.completed()
            if not self._abandon:
                self._checkpoint()
        except (NotStored, OSError):
            self._syncer.stop()  # a full disk: the log is there without the checkpoint
        for segment in self._segments:
            segment.close()
        self._files.close(self._lock)
        self._lock = -1

    # -- messages -------------------------------------------------------------------------------

    def append(self, message: Message, queue_ids: Sequence[int]) -> int:
        header, payload = record.encode_message(message, queue_ids)
        position = self._place(len(header) + len(payload))
        self._batch.append(header)
        self._batch.append(payload)
        self._pending[position] = message
        facts = (len(message.body), 0, 0, message.timestamp_ms)
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
        if self._batch:
            try:
                self._write_out()
            except NotStored as error:
                self._error = error  # for the flush that ends this turn
                return
        room = max(self._segment_bytes, SEGMENT_HEADER_BYTES + size)
        self._next = Segment(self._files, self._log_directory, self._end, room)
        self._end += SEGMENT_HEADER_BYTES

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

    def _add(self, framed: bytes) -> None:
        """Add a record that must not be lost should this batch fail."""
        self._place(len(framed))
        self._batch.append(framed)
        self._carried.append(framed)

    # -- writing ----------------------------------------------------------------------------------

    def flush(self) -> None:
        if self._deliveries or self._settles:
            self._pack_journal()
        if self._error is not None:
            error, self._error = self._error, None
            self._forget_batch(self._failed_from)
            raise error
        if self._batch:
            self._write_out()
            if self._abandon:
                self._abandon_segment()
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
        first = self._written
        if self._next is not None:
            first = self._next.base + SEGMENT_HEADER_BYTES
        self._failed_from = first
        self._forget_batch(first)
        raise NotStored(f"the log cannot be written: {error.strerror or error}") from error

    def _forget_batch(self, first: int) -> None:
        """Forget the batch's messages, keep its journal and keys for the next one, tell who waits."""
        self._index.forget_from(first)
        self._pending.clear()
        self._batch = []
        self._end = first
        # A negative position: it will not be durable, and is said so in its turn.
        self._waiting = deque((p, call) if p < first else (-1, call) for p, call in self._waiting)
        carried, self._carried = self._carried, []
        for framed in carried:
            kept = record.without_positions_from(framed, first)
            if kept:
                self._add(kept)
        self._notify()

    def failed_from(self) -> int:
        return self._failed_from

    def position(self) -> int:
        return self._end - 1

    # -- durability -------------------------------------------------------------------------------

    def when_durable(self, position: int, call: Callback) -> None:
        if position < self._syncer.synced and not self._waiting:
            call(True)
            return
        self._waiting.append((position, call))
        if position < self._written:
            self._syncer.hurry()

    def completed(self) -> None:
        waiting = self._waiting
        synced = self._syncer.synced
        failures = self._syncer.failures
        while waiting:
            position, call = waiting[0]
            if position >= synced:
                break
            waiting.popleft()
            call(position >= 0 and not any(position < up_to for up_to, _ in failures))
        if failures:
            self._abandon = True
            self._syncer.failures = []
        if self._checkpoint_written:
            self._checkpoint_written = False
            self._free()

    def _abandon_segment(self) -> None:
        """A sync has failed: what the segment holds may not be on disk; write elsewhere from now on."""
        self._abandon = False
        self._next = Segment(self._files, self._log_directory, self._end, self._segment_bytes)
        self._end += SEGMENT_HEADER_BYTES

    # -- checkpoints --------------------------------------------------------------------------------

    def _checkpoint_soon(self) -> None:
        """Take the state now, have the thread write it."""
        content, position = checkpoint.encode(self._index, self._keys, self._written), self._written
        self._checkpointed = position
        self._checkpoint_every = max(CHECKPOINT_BYTES, 16 * len(content))

        def write() -> None:
            try:
                checkpoint.write(self._files, self._index_directory, content, position)
            except OSError:
                return  # no room: the next one is due after as much log
            self._checkpoint_written = True
            self._notify()

        self._syncer.after_next(write)

    def _checkpoint(self) -> None:
        """Write a checkpoint now: at the end."""
        content = checkpoint.encode(self._index, self._keys, self._written)
        checkpoint.write(self._files, self._index_directory, content, self._written)
        self._free()

    def _free(self) -> None:
        """Delete segments without live entries, but for the one that is written to."""
        if len(self._segments) < 2:
            return
        used = set()
        for position in self._index.live_positions():
            used.add(self._segment_of(position).base)
        oldest = self._oldest_checkpoint()
        for segment in self._segments[:-1]:
            if segment.base not in used and segment.base + segment.end <= oldest:
                segment.delete()
        self._segments = [segment for segment in self._segments if segment.descriptor >= 0]

    def _oldest_checkpoint(self) -> int:
        """Return the position of the oldest checkpoint kept: recovery may have to begin there."""
        return min((int(path.stem) for path in checkpoint.paths(self._index_directory)), default=0)
