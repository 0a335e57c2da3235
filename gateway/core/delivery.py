"""A message in a consumer's hands, the consumer, and the group they belong to.

Deliveries go down in batches: `Group.pump` fills each consumer's window and makes one call
`consumer.deliver(batch)`. Settling comes back up as a plain call on the broker. A consumer
that goes away gives back what it holds; attempts are counted unless it said RETRY.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING, Final

from .message import NOWHERE, Message, Origin

if TYPE_CHECKING:
    from .order import KeyOrder
    from .queue import Queue
    from .router import Binding
    from .selector import Selector


UNLOADED: Final = Message("", b"")  # stands for a message that waits in the log, and is read in its turn
LATE = -1  # `held_ms` of what was taken back from a consumer, which still counts it in its window


class Delivery:
    """A message's stay in a queue: waiting, then in one consumer's hands, until settled.

    `offset` is its place in the queue, `position` in the log (0: not logged, or not any more: the turn
    failed that it was handed out in). `attempt` counts deliveries, 1 for the first. `tag` is a number of
    the consumer's protocol (an MQTT packet identifier, say) that is journalled, so that a redelivery
    after a restart can repeat it.
    `binding` is what routed it here (None: unknown, as after a restart). `expires_at_ms` is by
    the queue's own ttl. `held_ms` is since when it is in hands, where the queue has a `lease_ms`.
    """

    __slots__ = (
        "attempt",
        "binding",
        "consumer",
        "expires_at_ms",
        "group",
        "held_ms",
        "message",
        "offset",
        "position",
        "size",
        "tag",
    )

    def __init__(
        self,
        group: Group,
        offset: int,
        position: int,
        message: Message,
        size: int,
        attempt: int = 0,
        binding: Binding | None = None,
        tag: int = 0,
        expires_at_ms: int = 0,
    ) -> None:
        self.group = group
        self.offset = offset
        self.position = position
        self.message = message
        self.size = size
        self.attempt = attempt
        self.binding = binding
        self.tag = tag
        self.expires_at_ms = expires_at_ms
        self.held_ms = 0
        self.consumer: Consumer | None = None

    @property
    def queue(self) -> Queue:
        """The queue it came from."""
        return self.group.queue

    def expired(self, now_ms: int) -> bool:
        """Tell whether its time is over: the message's own, or what the queue gave it."""
        at_ms = self.message.expires_at_ms
        return 0 < at_ms <= now_ms or 0 < self.expires_at_ms <= now_ms

    def again(self, attempt: int) -> Delivery:
        """Return what goes back to waiting: another object, so that a stale handle settles nothing."""
        return Delivery(
            self.group,
            self.offset,
            self.position,
            self.message,
            self.size,
            attempt,
            self.binding,
            self.tag,
            self.expires_at_ms,
        )


class Consumer:
    """A receiver attached to a group, with a window of unsettled deliveries.

    `deliver` gets at most `window - unsettled` deliveries a call and must not settle inside
    the call what it wants redelivered at once. `congested` is set by the shell while the
    peer does not read: nothing is delivered then.
    """

    __slots__ = (
        "attached",
        "congested",
        "deliver",
        "gone",
        "group",
        "name",
        "origin",
        "priority",
        "resource",
        "unsettled",
        "window",
    )

    def __init__(
        self,
        name: str,
        window: int,
        deliver: Callable[[list[Delivery]], None],
        origin: Origin = NOWHERE,
        priority: int = 0,
        resource: str = "",
    ) -> None:
        assert window > 0, "a consumer without a window never gets anything"
        self.name = name
        self.origin = origin  # who it is, for the journal
        self.window = window
        self.deliver = deliver
        self.priority = priority  # those with more come first, as long as they have room
        self.resource = resource  # that its client has to be allowed; "": its own
        self.gone: Callable[[], None] | None = (
            None  # called when the queue is deleted, or its client may no more
        )
        self.unsettled = 0
        self.congested = False
        self.attached = False
        self.group: Group | None = None


class Group:
    """A position on a queue and its unsettled deliveries, shared by competing consumers.

    A classic queue has exactly one group, a stream any number. The queue decides what comes
    next (`Queue.take`); the group decides who gets it.
    """

    __slots__ = (
        "_next",
        "consumers",
        "cursor",
        "leaving",
        "name",
        "order",
        "parked",
        "queue",
        "ready",
        "redeliver",
        "selector",
        "serving",
        "unsettled",
        "used_ms",
        "watched",
    )

    def __init__(self, queue: Queue, name: str = "") -> None:
        self.queue = queue
        self.name = name
        self.consumers: list[Consumer] = []
        self.unsettled: dict[int, Delivery] = {}
        self.parked: dict[int, Delivery] = {}  # settled with RETRY, waiting for their time
        self.leaving: set[int] | None = None  # classic only: positions given up, but not settled yet
        self.redeliver: list[Delivery] = []  # streams only: given back, to be taken before the cursor
        self.cursor = 0  # streams only: the next offset to take
        self.selector: Selector | None = None  # streams only: what it wants, the rest it passes over
        self.order: KeyOrder | None = None  # of messages with an ordering key, once there was one
        self.ready = False  # is in the broker's list of sources to pump
        self.serving: Consumer | None = None  # whose `deliver` was called last: who failed, if one did
        self.watched = False  # there is a timer for what its consumers hold, see `overdue.py`
        self.used_ms = 0  # streams only: when it had a consumer last, as the sweeper saw it; 0: just now
        self._next = 0  # whose turn it is

    def attach(self, consumer: Consumer) -> None:
        """Let a consumer take part."""
        assert not consumer.attached
        assert self in self.queue.groups(), "a group that had nothing to do, kept for too long"
        consumer.attached = True
        consumer.group = self
        self.used_ms = 0
        behind = next((n for n, c in enumerate(self.consumers) if c.priority < consumer.priority), None)
        self.consumers.insert(len(self.consumers) if behind is None else behind, consumer)
        if self not in self.queue.active:
            self.queue.active = (*self.queue.active, self)

    def detach(self, consumer: Consumer) -> list[Delivery]:
        """Remove a consumer; return what it held, oldest first. The caller gives that back."""
        if not consumer.attached:
            return []
        consumer.attached = False
        self.consumers.remove(consumer)
        if not self.consumers:
            self.queue.active = tuple(group for group in self.queue.active if group is not self)
        held = [d for d in self.unsettled.values() if d.consumer is consumer]
        held.sort(key=by_offset)
        return held

    def pump(self, budget: int, now_ms: int) -> int:
        """Fill windows with at most `budget` deliveries; return how many were handed out."""
        consumers = self.consumers
        if len(consumers) == 1 or (consumers and self.queue.policy.single_active):
            delivered = taken = self._fill(consumers[0], budget, now_ms)
            # Who settles within `deliver` has released the next of each key.
            while taken and self.order is not None and self.order.released and consumers:
                taken = self._fill(consumers[0], budget - delivered, now_ms)
                delivered += taken
            return delivered
        if consumers and consumers[0].priority != consumers[-1].priority:
            delivered = 0
            for _, equals in groupby(list(consumers), _by_priority):
                delivered += self._share(list(equals), budget - delivered, now_ms)
            return delivered
        return self._share(consumers, budget, now_ms)

    def _share(self, consumers: list[Consumer], budget: int, now_ms: int) -> int:
        """Fill the windows of consumers of one priority."""
        delivered = 0
        idle = 0  # consumers in a row that took nothing
        # Equal shares in turn: one consumer with a large window must not take it all.
        depth = self.queue.depth(self) if self.order is None else self.order.ready()
        equal = max(1, depth // max(1, len(consumers)))
        while consumers and idle < len(consumers) and delivered < budget:
            share = min(budget - delivered, equal)
            self._next = (self._next + 1) % len(consumers)
            taken = self._fill(consumers[self._next], share, now_ms)
            idle = 0 if taken else idle + 1
            delivered += taken
        return delivered

    def _fill(self, consumer: Consumer, budget: int, now_ms: int) -> int:
        if consumer.congested:
            return 0
        room = consumer.window - consumer.unsettled
        if room > budget:
            room = budget
        if room <= 0:
            return 0
        order, queue = self.order, self.queue
        batch = queue.take(self, room, now_ms) if order is None else order.take(room, now_ms)
        if batch:
            unsettled = self.unsettled
            watching = order is None and queue.ordered
            keyed = False
            for delivery in batch:
                delivery.consumer = consumer
                delivery.attempt += 1
                unsettled[delivery.offset] = delivery
                if watching and delivery.message.properties.key is not None:
                    keyed = True
            if keyed:
                batch = self._begin_order(batch, consumer, room, now_ms)
                if not batch:
                    return 0
            consumer.unsettled += len(batch)
            if queue.leased:
                for delivery in batch:
                    delivery.held_ms = now_ms
            self.serving = consumer
            consumer.deliver(batch)
            # After the call: the consumer has set its tags. Before the sockets: the batch
            # is written to the log first.
            if queue.queue_id:
                self._journal(batch, consumer, now_ms)
        return len(batch)

    def _begin_order(
        self, batch: list[Delivery], consumer: Consumer, room: int, now_ms: int
    ) -> list[Delivery]:
        """The group's first messages with a key have been taken: what of them goes out by their order."""
        from .order import KeyOrder

        if self.name.startswith("$"):
            return batch  # a reader's own group: it gets everything, and nobody else does
        for delivery in batch:
            del self.unsettled[delivery.offset]
            delivery.attempt -= 1
            delivery.consumer = None
        order = self.order = KeyOrder(self)
        kept: list[Delivery] = []
        order.sift(batch, kept, now_ms)
        kept += order.take(room - len(kept), now_ms)
        for delivery in kept:
            delivery.consumer = consumer
            delivery.attempt += 1
            self.unsettled[delivery.offset] = delivery
        return kept

    def _journal(self, batch: list[Delivery], consumer: Consumer, now_ms: int) -> None:
        queue = self.queue
        positions = [delivery.position for delivery in batch]
        if 0 in positions:  # in hands as a turn failed, and come back since
            batch = [delivery for delivery in batch if delivery.position]
            positions = [delivery.position for delivery in batch]
        queue.engine.delivered(
            queue.queue_id,
            positions,
            [delivery.tag for delivery in batch],
            consumer.origin,
            self.name,
            now_ms,
        )

    def fetch(self, consumer: Consumer, now_ms: int) -> Delivery | None:
        """Hand one message to a consumer that is not attached, or return None."""
        order, queue = self.order, self.queue
        batch = queue.take(self, 1, now_ms) if order is None else order.take(1, now_ms)
        if not batch:
            return None
        delivery = batch[0]
        delivery.consumer = consumer
        delivery.attempt += 1
        consumer.unsettled += 1
        self.unsettled[delivery.offset] = delivery
        if order is None and queue.ordered and delivery.message.properties.key is not None:
            self._begin_order(batch, consumer, 1, now_ms)
        if self.queue.queue_id:
            self._journal(batch, consumer, now_ms)
        return delivery

    def forget(self, offset: int) -> None:
        """Take an offset out of its consumer's hands: that delivery settles nothing any more."""
        delivery = self.unsettled.pop(offset, None)
        if delivery is not None and delivery.consumer is not None:
            delivery.consumer.unsettled -= 1
        if self.order is not None:
            self.order.done(offset)

    def wants(self) -> bool:
        """Tell whether a pump could hand out anything now."""
        if not (self.queue.depth(self) if self.order is None else self.order.ready()):
            return False
        for consumer in self.consumers:
            if not consumer.congested and consumer.unsettled < consumer.window:
                return True
            if self.queue.policy.single_active:
                break
        return False


def _by_priority(consumer: Consumer) -> int:
    return consumer.priority


def by_offset(delivery: Delivery) -> int:
    """Return its place in the queue, to sort by."""
    return delivery.offset
