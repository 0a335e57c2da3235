"""How deliveries end: acknowledged, given back for another attempt, or given up.

Whatever the reason, a message leaves its queue here: with its journal entry, its line in the
books and, if the queue has one, its way to the dead-letter address.
"""

from __future__ import annotations

from .clock import Clock
from .delivery import LATE, UNLOADED, Delivery, Group
from .engine import SUPERSEDED, StorageEngine
from .errors import NotFound
from .letters import DeadLetters
from .message import Message, Outcome
from .metrics import DropCause, Metrics
from .overdue import Overdue
from .parking import Parking
from .policy import REJECT_DEAD_LETTER
from .queue import Lost, Queue
from .ready import Ready
from .replacing import Replacements, nothing_more
from .scheduler import Scheduler
from .stream import StreamQueue

_ACK = Outcome.ACK  # a global is looked up faster than a member


class Settlement:
    """`letters` takes what is given up on."""

    __slots__ = (
        "_clock",
        "_compacted",
        "_engine",
        "_metrics",
        "_parking",
        "_replacements",
        "letters",
        "overdue",
        "ready",
        "scheduler",
    )

    def __init__(
        self,
        engine: StorageEngine,
        metrics: Metrics,
        ready: Ready,
        scheduler: Scheduler,
        clock: Clock,
        letters: DeadLetters,
    ) -> None:
        self._clock = clock
        self._engine = engine
        self._metrics = metrics
        self.ready = ready
        self.scheduler = scheduler
        self.letters = letters
        self._parking = Parking(scheduler, self._come_back)
        self.overdue = Overdue(scheduler, clock, self._take_back)
        self._replacements = Replacements(engine, clock)
        self._compacted: set[StreamQueue] = set()  # that have got something in this turn

    def settle(
        self, delivery: Delivery, outcome: Outcome, delay_ms: int | None = None, reason: str = ""
    ) -> bool:
        """Settle a delivery; False if somebody already did, or its queue is gone.

        What is given back comes again after `delay_ms`: 0 is at once, None as its queue's policy
        says. `reason` is what the consumer says of it, for the dead letter.
        """
        group = delivery.group
        if not _take(delivery):
            self._late(delivery)
            return False
        queue = group.queue
        if outcome == _ACK:
            if group.order is not None:
                group.order.done(delivery.offset)
            if queue.kind == "classic":
                self._metrics.delivered += 1
                if queue.queue_id and delivery.position:
                    self._engine.settle(queue.queue_id, (delivery.position,), _ACK, self._clock.now_ms)
            else:
                self.ready.moved.append(group)
        else:
            self._not_done(delivery, outcome, delay_ms, reason)
        self.ready.look(group)
        return True

    def acknowledge(self, batch: list[Delivery]) -> None:
        """Settle with ACK everything one read of a socket has acknowledged: `settle`, many at a time."""
        if not batch:
            return
        group = batch[0].group  # a client's deliveries come from one queue, mostly
        unsettled, order = group.unsettled, group.order
        positions: list[int] = []
        for delivery in batch:
            if delivery.group is not group:
                self._acknowledged(group, positions)
                group, positions = delivery.group, []
                unsettled, order = group.unsettled, group.order
            offset, consumer = delivery.offset, delivery.consumer
            if unsettled.get(offset) is not delivery or consumer is None:
                self._late(delivery)
                continue
            del unsettled[offset]
            consumer.unsettled -= 1
            positions.append(delivery.position)
            if order is not None:
                order.done(offset)
        self._acknowledged(group, positions)

    def _acknowledged(self, group: Group, positions: list[int]) -> None:
        queue = group.queue
        if queue.kind != "classic":
            self.ready.moved.append(group)
        elif positions:
            self._metrics.delivered += len(positions)
            if 0 in positions:
                positions = [position for position in positions if position]
            if queue.queue_id and positions:
                self._engine.settle(queue.queue_id, positions, _ACK, self._clock.now_ms)
        self.ready.look(group)

    def acknowledged(self, batch: list[Delivery]) -> None:
        """A transaction is stored: what it acknowledged leaves, which the engine knows."""
        for delivery in batch:
            group = delivery.group
            if _take(delivery):
                if group.order is not None:
                    group.order.done(delivery.offset)
                if group.queue.kind == "classic":
                    self._metrics.delivered += 1
                else:
                    self.ready.moved.append(group)
                self.ready.look(group)
            else:
                self._late(delivery)

    def _late(self, delivery: Delivery) -> None:
        """Its consumer lets go of what was taken back from it: it has room again."""
        consumer = delivery.consumer
        if delivery.held_ms == LATE and consumer is not None:
            delivery.held_ms = 0
            consumer.unsettled -= 1
            self.ready.look(delivery.group)

    def _take_back(self, delivery: Delivery) -> None:
        """A consumer has held it for too long."""
        self._not_done(delivery, Outcome.REQUEUE, 0, "not settled in time")
        self.ready.look(delivery.group)

    def discard(self, delivery: Delivery, cause: DropCause, reason: str = "") -> bool:
        """Give a delivery up for a reason of the consumer's protocol; False if it was settled."""
        group = delivery.group
        if not _take(delivery):
            return False
        self._given_up(delivery, cause, reason)
        self.ready.look(group)
        return True

    def give_up(self, queue: Queue, lost: Lost, reason: str = "") -> None:
        """Count what a queue is done with without delivering it, and dead-letter it if asked to."""
        delivery, cause = lost
        if queue.kind == "classic":
            self._metrics.drop(cause)
        self.letters.bury(queue, delivery, cause, reason)

    def refuse(self, queue: Queue, message: Message) -> None:
        """A full queue does not take a message: count it, and dead-letter it if the policy says so."""
        if queue.policy.overflow == REJECT_DEAD_LETTER:
            groups = queue.groups()
            if groups:
                refused = Delivery(groups[0], -1, 0, message, len(message.body))
                self.give_up(queue, (refused, DropCause.QUEUE_FULL))
                return
        self._metrics.drop(DropCause.QUEUE_FULL)

    def supersede(self, queue_id: int, position: int, by: int) -> None:
        """A message replaces another."""
        self._replacements.add(queue_id, position, SUPERSEDED, by, nothing_more)

    def compacted(self, stream: StreamQueue) -> None:
        """The same in a stream, which knows what is replaced."""
        self._compacted.add(stream)

    def flushed(self) -> None:
        """The turn's messages are in the log: what they replace can go, once they are on disk."""
        if self._compacted:
            streams, self._compacted = self._compacted, set()
            for stream in streams:
                if stream.compaction is not None:
                    for place, by in stream.compaction.written():
                        self.supersede(stream.queue_id, place.position, by)
                if stream.retained:
                    self.ready.trim(stream)
        if self._replacements.settle():
            self.ready.wake()
        self.letters.flushed()

    def rolled_back(self, first: int) -> None:
        """What comes from a position on is not: what it was to replace stays."""
        self._compacted = set()
        self._replacements.rolled_back(first)
        self.letters.rolled_back(first)

    def give_up_lost(self, queue: Queue) -> None:
        """Give up what a queue found expired while it was handing out."""
        lost, queue.lost = queue.lost, ()
        for item in lost:
            self.give_up(queue, item)

    def journal_cursors(self) -> None:
        """Journal how far the groups of streams have come in this turn."""
        for group in self.ready.take_moved():
            queue = group.queue
            assert isinstance(queue, StreamQueue)
            kept = queue.find_group(group.name) is group and not group.name.startswith("$")
            if queue.durable and kept:  # a reader's own group goes with it
                self._engine.cursor(queue.queue_id, group.name, queue.floor(group), self._clock.now_ms)

    def _not_done(self, delivery: Delivery, outcome: Outcome, delay_ms: int | None, reason: str) -> None:
        """Give a delivery back, now or after a pause, or give it up."""
        queue = delivery.queue
        policy = queue.policy
        if outcome == Outcome.REJECT:
            self._given_up(delivery, DropCause.REJECTED, reason)
            return
        attempts = delivery.attempt
        if outcome == Outcome.RETRY:
            attempts -= 1
            pause_ms = policy.retry_delay_ms if delay_ms is None else delay_ms
        elif 0 < policy.delivery_limit <= attempts:
            self._given_up(delivery, DropCause.DELIVERY_LIMIT, reason)
            return
        else:
            pause_ms = policy.pause_ms(attempts) if delay_ms is None else delay_ms
        if queue.queue_id and delivery.position:
            self._engine.returned(queue.queue_id, delivery.position, outcome, self._clock.now_ms)
        again = delivery.again(attempts)
        if pause_ms:
            self._parking.hold(again, pause_ms)
        else:
            self._metrics.redelivered += 1
            queue.take_back(again)

    def _given_up(self, delivery: Delivery, cause: DropCause, reason: str = "") -> None:
        queue = delivery.queue
        if queue.kind == "stream":
            self.ready.moved.append(delivery.group)
        self.give_up(queue, (delivery, cause), reason)

    def _come_back(self, due: list[Delivery]) -> None:
        """Their pause is over."""
        self._metrics.redelivered += len(due)
        for delivery in due:
            if delivery.message is UNLOADED and not self._read(delivery):
                self._given_up(delivery, DropCause.UNREADABLE)
                continue
            delivery.queue.take_back(delivery)
            self.ready.look(delivery.group)

    def _read(self, delivery: Delivery) -> bool:
        """Have its message in memory again; False if it cannot be read."""
        try:
            delivery.message = self._engine.read(delivery.position)
        except NotFound:
            return False
        return True


def _take(delivery: Delivery) -> bool:
    """Take a delivery out of its consumer's hands; False if it is not there any more."""
    group: Group = delivery.group
    if group.unsettled.get(delivery.offset) is not delivery:
        return False
    del group.unsettled[delivery.offset]
    assert delivery.consumer is not None
    delivery.consumer.unsettled -= 1
    return True
