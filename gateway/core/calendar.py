"""The calendar: all buckets, and which of them are in memory.

A bucket is read shortly before its time, in parts, a part a turn, while others have theirs. Only
then does anything of its messages come into memory: when each is due and where it is. What is
scheduled for a bucket that is there already joins it.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from .bucket import (
    AWAY,
    EMPTY,
    FULL,
    HERE,
    LOADING,
    SURE,
    Bucket,
    Key,
    key_of,
    key_of_queue,
    keys_for,
    queue_name,
)
from .catalog import Catalog
from .classic import ClassicQueue
from .clock import Clock
from .due import NEVER_MS, Due, make_run
from .engine import StorageEngine, stored_at
from .queue import Queue
from .queues import Queues
from .scheduler import Scheduler, Timer

LOADED_PER_PART = 2000  # messages: some 5 ms
PART_INTERVAL_MS = 1  # between the parts: others have their turns
HELD_MAX = 1 << 21  # messages of one bucket in memory: 32 MB. Of more, the earlier half is kept at a time
TIDY_INTERVAL_MS = 1000  # between the steps in which a bucket that is over and empty goes
LOOK_INTERVAL_MS = 60_000  # how often one that is over, and is not, is looked at: a queue did not take it
RELOAD_PAUSE_MS = 1000  # after a failure of the disk, before all is read again


class Calendar:
    """`loaded` is called when more may be due than was."""

    __slots__ = (
        "_catalog",
        "_clock",
        "_coming",
        "_engine",
        "_loading",
        "_queues",
        "_scheduler",
        "_timer",
        "buckets",
        "due",
        "held_max",
        "loaded",
        "touched",
    )

    def __init__(
        self,
        engine: StorageEngine,
        catalog: Catalog,
        queues: Queues,
        scheduler: Scheduler,
        clock: Clock,
        loaded: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._queues = queues
        self._scheduler = scheduler
        self._clock = clock
        self.loaded = loaded
        self.buckets: dict[Key, Bucket] = {}
        self.due = Due()
        self.held_max = HELD_MAX
        self.touched = False  # something was put or taken in this turn
        self._coming: list[tuple[int, Key]] = []  # a heap: when to read which
        self._loading: list[Bucket] = []  # those that are being read
        self._timer: Timer | None = None
        catalog.deleted.append(self._queue_deleted)

    def restore(self) -> None:
        """Take over the queues that recovery found. Nothing of them is read yet."""
        for queue in self._catalog.queues.values():
            key = key_of_queue(queue.name)
            if key is not None and isinstance(queue, ClassicQueue):
                queue.quiet()
                self._add(Bucket(key, queue, self.held_max))
        self._arm()

    def _add(self, bucket: Bucket) -> None:
        self.buckets[bucket.key] = bucket
        heappush(self._coming, (bucket.load_at_ms, bucket.key))

    # -- coming and going -----------------------------------------------------------------------

    def bucket(self, due_ms: int) -> Bucket:
        """Return the bucket for what is scheduled now, made if need be."""
        key = key_of(due_ms, self._clock.now_ms)
        bucket = self.buckets.get(key)
        if bucket is None:
            queue, _ = self._catalog.declare(queue_name(key))
            assert isinstance(queue, ClassicQueue)
            bucket = Bucket(key, queue, self.held_max)
            if bucket.load_at_ms <= self._clock.now_ms:
                bucket.state = HERE  # there is nothing to read
            self._add(bucket)
            self._arm()
        return bucket

    def bucket_of(self, queue: Queue) -> Bucket:
        """Return the bucket of a queue that is one's."""
        key = key_of_queue(queue.name)
        assert key is not None
        return self.buckets[key]

    def put(self, bucket: Bucket, due_ms: int, position: int) -> None:
        """A message was stored in a bucket."""
        self.touched = True
        bucket.emptied = FULL
        bucket.queue.quiet()
        if bucket.state == HERE and due_ms < bucket.horizon_ms:
            self.again(bucket, due_ms, position)

    def again(self, bucket: Bucket, due_ms: int, position: int) -> None:
        """What was taken, or has come, is due at a time."""
        if bucket.state == HERE:
            bucket.held += 1
            self.due.add(bucket, due_ms, position)

    def take(self, count: int) -> list[tuple[int, int, Bucket]]:
        """Return what is due by now, at most `count`, as (due, position, bucket), earliest first."""
        taken: list[tuple[int, int, Bucket]] = []
        for item in self.due.take(self._clock.now_ms, count):
            bucket = item[2]
            bucket.held -= 1
            if item[1] in bucket.gone:
                bucket.gone.discard(item[1])
            else:
                taken.append(item)
            if not bucket.held and bucket.horizon_ms != NEVER_MS:
                self._read_again(bucket, self._clock.now_ms)
        self.touched = self.touched or bool(taken)
        return taken

    def withdraw(self, bucket: Bucket, due_ms: int, position: int, size: int) -> bool:
        """One message leaves, not because it was taken; False if it is not there any more."""
        if not bucket.queue.withdraw(size):
            return False
        if bucket.seen(due_ms, position):
            bucket.gone.add(position)
        self.touched = True
        return True

    def find(self, due_ms: int, position: int) -> Bucket | None:
        """Return the bucket that has a message, None if it does not wait any more."""
        for key in keys_for(due_ms):
            bucket = self.buckets.get(key)
            if bucket is None:
                continue
            if stored_at(self._engine, bucket.queue.queue_id, position) is not None:
                return bucket
        return None

    # -- reading --------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Have the next piece of work done in time."""
        now_ms, wait_ms = self._clock.now_ms, NEVER_MS
        if self._loading:
            wait_ms = PART_INTERVAL_MS
        else:
            if self._coming:
                wait_ms = max(0, self._coming[0][0] - now_ms)
            for bucket in self.buckets.values():
                if bucket.state == HERE:
                    often_ms = LOOK_INTERVAL_MS if bucket.queue.length() else TIDY_INTERVAL_MS
                    wait_ms = min(wait_ms, max(often_ms, bucket.end_ms - now_ms))
        self._scheduler.cancel(self._timer)
        self._timer = self._scheduler.after(wait_ms, self._work) if wait_ms != NEVER_MS else None

    def _work(self) -> None:
        self._timer = None
        now_ms = self._clock.now_ms
        while self._coming and self._coming[0][0] <= now_ms:
            bucket = self.buckets.get(heappop(self._coming)[1])
            if bucket is not None and bucket.state == AWAY:
                bucket.state = LOADING
                self._loading.append(bucket)
                self._loading.sort(key=_begin)
        if self._loading:
            self._read_part(self._loading[0])
        else:
            self._tidy()
        self._arm()

    def _read_part(self, bucket: Bucket) -> None:
        dues, positions = self._engine.due_times(bucket.queue.queue_id, bucket.scanned, LOADED_PER_PART)
        if not positions:
            self._complete(bucket)
            return
        bucket.scanned = positions[-1]
        run = make_run(bucket, dues, positions)
        run.cut(bucket.horizon_ms)
        bucket.runs.append(run)
        bucket.held += len(run.dues)
        if bucket.held > bucket.room:
            bucket.halve(self.held_max)

    def _complete(self, bucket: Bucket) -> None:
        self._loading.remove(bucket)
        bucket.state = HERE
        for run in bucket.runs:
            self.due.add_run(run)
        bucket.runs = []
        self.loaded()

    def _read_again(self, bucket: Bucket, at_ms: int) -> None:
        """Have a bucket read from its beginning: some of it is not in memory."""
        bucket.leave(self.held_max)
        heappush(self._coming, (at_ms, bucket.key))
        self._arm()

    # -- leaving --------------------------------------------------------------------------------

    def _tidy(self) -> None:
        """Delete buckets that are over and empty, once it is sure that they are."""
        now_ms = self._clock.now_ms
        for bucket in list(self.buckets.values()):
            if bucket.end_ms > now_ms or bucket.state != HERE or bucket.queue.length():
                continue
            if bucket.emptied == SURE:
                self._queues.delete(bucket.queue)
            elif bucket.emptied == FULL:
                self._make_sure(bucket)

    def _make_sure(self, bucket: Bucket) -> None:
        """What has left a bucket may come back, should the disk refuse it: wait until it is stored."""
        bucket.emptied = EMPTY

        def told(stored: bool) -> None:
            if bucket.emptied == EMPTY:
                bucket.emptied = SURE if stored else FULL

        self._engine.when_durable(self._engine.position(), told)

    def _queue_deleted(self, queue: Queue) -> None:
        key = key_of_queue(queue.name)
        bucket = self.buckets.pop(key, None) if key is not None else None
        if bucket is not None:
            self.due.drop(bucket)
            if bucket in self._loading:
                self._loading.remove(bucket)

    def rolled_back(self) -> None:
        """This turn was not stored: what was taken in it waits as before, what was put is not there."""
        if not self.touched:
            return
        self.touched = False
        self._loading = []
        at_ms = self._clock.now_ms + RELOAD_PAUSE_MS
        for bucket in list(self.buckets.values()):
            if bucket.state != AWAY:
                self.due.drop(bucket)
                self._read_again(bucket, at_ms)


def _begin(bucket: Bucket) -> tuple[int, int]:
    return bucket.key  # narrow ones first: they are small, and most of what is due soon is in them
