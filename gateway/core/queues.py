"""What is done to queues as a whole: consumers come and go, and queues are emptied, moved, deleted."""

from __future__ import annotations

from .catalog import Catalog
from .classic import ClassicQueue
from .clock import Clock
from .delivery import Consumer, Delivery, Group
from .engine import StorageEngine
from .errors import Conflict, NotFound
from .keys import Keys
from .message import Outcome
from .metrics import DropCause, Metrics
from .queue import Queue
from .ready import Ready
from .selector import Selector, check_same, shown
from .settlement import Settlement
from .stream import StreamQueue
from .topic import DELAYED_PREFIX


class Queues:
    """Part of the broker, which has its parts."""

    __slots__ = ("_catalog", "_clock", "_engine", "_metrics", "_ready", "_settlement", "keys")

    def __init__(
        self,
        catalog: Catalog,
        engine: StorageEngine,
        clock: Clock,
        metrics: Metrics,
        ready: Ready,
        settlement: Settlement,
    ) -> None:
        self._catalog = catalog
        self._engine = engine
        self._clock = clock
        self._metrics = metrics
        self._ready = ready
        self._settlement = settlement
        self.keys = Keys(catalog, engine, clock, settlement)

    def resume(self, consumer: Consumer) -> None:
        """A consumer has room again (a larger window, or its peer reads): see what it wants."""
        consumer.congested = False
        group = consumer.group
        if group is not None:
            self._ready.look(group)

    def check_selector(
        self, queue: Queue, group_name: str, selector: Selector | None, moving: bool = False
    ) -> None:
        """Raise Conflict unless a queue's group wants what a selector matches, or can come to want it.

        A stream's group has one selector, which it keeps: what it has passed over, it has passed over
        for all its members. While nobody uses it, one without takes the first that comes, and one that
        is `moving` another.
        """
        if not isinstance(queue, StreamQueue):
            if selector is not None:
                raise Conflict(
                    f"queue {queue.name!r} is {queue.kind}: what {shown(selector)} passes over would wait "
                    "for nobody; have the selector on its binding, or consume a stream"
                )
            return
        group = queue.find_group(group_name)
        found = queue.selector_of(group_name)
        if (group is None or not _used(group)) and (found is None or moving):
            return
        check_same(
            found,
            selector,
            f"group {group_name!r} of queue {queue.name!r}",
            "use another group, or move this one (seek) while nobody uses it, which frees it",
        )

    def attach(self, group: Group, consumer: Consumer) -> None:
        """Let a consumer take part; it may be delivered to in the next dispatch."""
        group.attach(consumer)
        self._ready.look(group)

    def detach(self, consumer: Consumer, give_back: bool = True) -> None:
        """Take a consumer away. What it holds goes back, unless it is held under leases."""
        group = consumer.group
        if group is None or not consumer.attached:
            return
        held = group.detach(consumer)
        if give_back:
            for delivery in reversed(held):
                self._settlement.settle(delivery, Outcome.REQUEUE, 0)
        queue = group.queue
        if queue.auto_delete and not queue.active:
            self.delete(queue)
        elif queue.active:
            self._ready.look(group)

    def delete(self, queue: Queue, cause: DropCause = DropCause.QUEUE_DELETED) -> int:
        """Delete a queue with what it holds; return how many messages that was."""
        if self._catalog.queues.get(queue.name) is not queue:
            return 0
        count = queue.clear()
        for group in queue.groups():
            count += len(group.unsettled) + len(group.parked)
            group.unsettled.clear()
            group.parked.clear()
            for consumer in list(group.consumers):
                group.detach(consumer)
                if consumer.gone is not None:
                    consumer.gone()
        if queue.kind == "classic":
            self._metrics.drop(cause, count)
        self._catalog.delete(queue)
        self._ready.wake()
        return count

    def fetch(self, group: Group, consumer: Consumer) -> Delivery | None:
        """Hand one message to a consumer that does not take part, at once; None if there is none."""
        delivery = group.fetch(consumer, self._clock.now_ms)
        group.queue.used_ms = 0
        if group.queue.lost:
            self._settlement.give_up_lost(group.queue)
        return delivery

    def purge(self, queue: Queue) -> int:
        """Drop what waits in a queue, not what consumers hold; return how many.

        Raise Conflict for a bucket of the calendar, which is not all in the queue.
        """
        if queue.name.startswith(DELAYED_PREFIX):
            raise Conflict(f"queue {queue.name!r} is of the calendar; cancel what waits, by /v1/schedules")
        count = queue.clear()
        if isinstance(queue, StreamQueue):
            if queue.durable:
                self._engine.trim(queue.queue_id, queue.first_offset)
        else:
            self._metrics.drop(DropCause.PURGED, count)
            if queue.durable:
                self._engine.purge(queue.queue_id, [d.position for d in queue.held() if d.position])
        self._ready.wake()
        return count

    def remove_group(self, stream: StreamQueue, name: str) -> None:
        """Forget a group and its position. Raise NotFound, or Conflict if it has consumers."""
        group = stream.find_group(name)
        if group is None:
            raise NotFound(f"queue {stream.name!r} has no group {name!r}; GET the queue to see its groups")
        if group.consumers:
            raise Conflict(f"group {name!r} has {len(group.consumers)} consumers; they have to leave first")
        self._catalog.remove_group(stream, group)
        self._ready.wake()

    def seek(self, queue: Queue, group_name: str, offset: int) -> Group:
        """Move a stream group's cursor, making the group if needed."""
        if not isinstance(queue, StreamQueue):
            raise Conflict(f"queue {queue.name!r} is {queue.kind}; only a stream has groups with positions")
        group = queue.group(group_name, offset)
        group.cursor = queue.clamp(offset)
        group.redeliver.clear()
        group.parked.clear()
        if group.selector is not None and not _used(group):
            self._catalog.select(group, None)
        if group.order is not None:
            group.order.clear()
        self._ready.moved.append(group)
        self._ready.look(group)
        self._ready.wake()
        return group


def _used(group: Group) -> bool:
    return bool(group.consumers or group.unsettled)


def group_of(queue: Queue, name: str) -> Group:
    """Return a queue's group: the only one of a classic queue, a named one of a stream."""
    if isinstance(queue, StreamQueue):
        if not name:
            raise Conflict(f"queue {queue.name!r} is a stream: name a group to consume it")
        return queue.group(name)
    assert isinstance(queue, ClassicQueue)
    if name:
        raise Conflict(f"queue {queue.name!r} is classic and has no groups; leave the group out")
    return queue.group
