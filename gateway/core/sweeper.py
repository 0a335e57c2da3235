"""Housekeeping: what happens to messages, and to memory, although nobody asks.

Once a second every queue gives up what has expired at its head and leaves to the engine what
nobody consumes. A hundred thousand queues are looked at in parts, so that nobody waits.
"""

from __future__ import annotations

from .catalog import Catalog
from .clock import Clock
from .engine import SETTLED_BY_DROP, StorageEngine
from .metrics import DropCause, Metrics
from .queue import Queue
from .queues import Queues
from .retained import RETAINED_QUEUE_ID, Retained
from .settlement import Settlement
from .stream import StreamQueue

SWEEP_INTERVAL_MS = 1000  # how late an expired message may leave a queue nobody reads
QUEUES_PER_PART = 500  # less than a millisecond, unless all of them have to be looked up in the log
PART_INTERVAL_MS = 2  # between the parts: others have their turns


class Sweeper:
    """Runs by itself once started."""

    __slots__ = (
        "_catalog",
        "_clock",
        "_engine",
        "_left",
        "_metrics",
        "_queues",
        "_ready",
        "_retained",
        "_scheduler",
        "_settlement",
    )

    def __init__(
        self,
        catalog: Catalog,
        retained: Retained,
        engine: StorageEngine,
        clock: Clock,
        settlement: Settlement,
        metrics: Metrics,
        queues: Queues,
    ) -> None:
        self._catalog = catalog
        self._retained = retained
        self._engine = engine
        self._clock = clock
        self._settlement = settlement
        self._scheduler = settlement.scheduler
        self._ready = settlement.ready
        self._metrics = metrics
        self._queues = queues
        self._left: list[Queue] = []  # not looked at yet in this round

    def start(self) -> None:
        """Begin the first round after the usual pause."""
        self._scheduler.after(SWEEP_INTERVAL_MS, self._begin)

    def _begin(self) -> None:
        self._scheduler.after(SWEEP_INTERVAL_MS, self._begin)
        now_ms = self._clock.now_ms
        for topic in self._retained.expired(now_ms):
            _, position = self._retained.clear(topic)
            outcome = SETTLED_BY_DROP + DropCause.EXPIRED
            self._engine.settle(RETAINED_QUEUE_ID, (position,), outcome, now_ms)
        self._engine.sweep(now_ms)
        self._clock.keep(self._engine, self._metrics.published)
        running = bool(self._left)  # the last round is not over: it goes on instead
        if not running:
            self._left = list(self._catalog.queues.values())
            self._part()
        self._ready.wake()

    def _unused(self, queue: Queue) -> bool:
        """Tell whether nobody has used a queue for as long as it may live then."""
        up_ms = self._clock.monotonic_ms
        if queue.active or not queue.used_ms:
            queue.used_ms = up_ms
        return up_ms - queue.used_ms >= queue.policy.expires_ms

    def _leave_groups(self, stream: StreamQueue) -> None:
        """Remove a stream's groups that nobody has used for as long as they may live then."""
        up_ms = self._clock.monotonic_ms
        for group in stream.groups():
            if group.consumers or group.unsettled or not group.used_ms:
                group.used_ms = up_ms
            elif up_ms - group.used_ms >= stream.policy.group_expires_ms and not group.name.startswith("$"):
                self._queues.remove_group(stream, group.name)

    def _part(self) -> None:
        now_ms = self._clock.now_ms
        part, self._left = self._left[:QUEUES_PER_PART], self._left[QUEUES_PER_PART:]
        for queue in part:
            for lost in queue.sweep(now_ms):
                self._settlement.give_up(queue, lost)
            if isinstance(queue, StreamQueue) and queue.bury(now_ms):
                self._settlement.compacted(queue)
            if queue.policy.group_expires_ms and isinstance(queue, StreamQueue):
                self._leave_groups(queue)
            if queue.policy.expires_ms and self._unused(queue):
                self._queues.delete(queue, DropCause.QUEUE_DELETED)
        if self._left:
            self._scheduler.after(PART_INTERVAL_MS, self._part)
        self._ready.wake()
