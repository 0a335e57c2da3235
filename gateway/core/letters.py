"""The way to the dead letters: what becomes of a message that its queue gives up on.

A letter and the removal of its message are one group in the log, so that after a crash there is
exactly one of both. A queue's own dead letters have a queue, made with the first of them, that is
found below `$dead/`; live subscribers of that topic get them, too.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from . import deadletter
from .classic import ClassicQueue
from .delivery import Delivery
from .engine import SETTLED_BY_DROP
from .errors import GatewayError
from .message import Message, Outcome
from .metrics import DropCause
from .policy import DAY_MS, LETTERS_BYTES_MAX, LETTERS_DAYS, LETTERS_MAX, OWN_DEAD_LETTERS, QueuePolicy
from .queue import Queue
from .router import Binding, Route
from .stream import StreamQueue
from .topic import DEAD_PREFIX
from .transaction import check_room

if TYPE_CHECKING:
    from .broker import Broker
    from .plan import Plan

#: A consumer's or the operator's doing. What ends by itself (age, a full queue) is dropped unless an
#: address is given: a letter for each of it could be more than all the rest.
_OWN_CAUSES: Final = frozenset({DropCause.REJECTED, DropCause.DELIVERY_LIMIT})


class _Burial(NamedTuple):
    """A letter that is in the log at a position, in place of what a queue had."""

    position: int
    queue: Queue
    delivery: Delivery
    letter: Message


class DeadLetters:
    """`policy` is what the queues have that are made here."""

    __slots__ = ("_broker", "_fresh", "_unsynced", "policy")

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._fresh: list[_Burial] = []  # of this turn: a flush that fails undoes them
        self._unsynced: deque[_Burial] = deque()  # a sync that fails may lose them
        self.limit(LETTERS_MAX, LETTERS_BYTES_MAX, LETTERS_DAYS)

    def limit(self, length_max: int, bytes_max: int, days: float) -> None:
        """Set how much is kept in a queue made from now on; 0 is any number."""
        self.policy = QueuePolicy(int(days * DAY_MS), length_max, bytes_max, dead_letter="")

    # -- burying ------------------------------------------------------------------------------

    def bury(self, queue: Queue, delivery: Delivery, cause: DropCause, reason: str = "") -> None:
        """Take from a queue what it gives up on, with a letter if there is to be one.

        A message's ordering key goes on once the letter is written.
        """
        letter = None if cause == DropCause.UNREADABLE else self._letter(queue, delivery, cause, reason)
        if letter is not None:
            self._broker.metrics.dead_lettered += 1
            if self._exchange(queue, delivery, cause, *letter):
                return
        if queue.queue_id and delivery.position and isinstance(queue, ClassicQueue):
            now_ms = self._broker.clock.now_ms
            self._broker.engine.settle(queue.queue_id, (delivery.position,), SETTLED_BY_DROP + cause, now_ms)
            queue.gone(delivery)
        if delivery.group.order is not None:
            delivery.group.order.done(delivery.offset)

    def _letter(
        self, queue: Queue, delivery: Delivery, cause: DropCause, reason: str
    ) -> tuple[Message, Route | None] | None:
        """Return the letter and its way, or None if there is to be none."""
        if queue.letters is not None:
            return queue.letters.letter(queue, delivery, cause)
        address = queue.policy.dead_letter
        if address == OWN_DEAD_LETTERS:
            address = deadletter.home(queue.name) if cause in _OWN_CAUSES else ""
        if not address or deadletter.would_cycle(delivery.message, queue.name, cause):
            return None
        if address.startswith(DEAD_PREFIX):
            self.make(address)
        now_ms = self._broker.clock.now_ms
        letter = deadletter.dead_letter(delivery, address, cause, now_ms, reason)
        return letter, None

    def make(self, name: str) -> None:
        """Make the queue of some dead letters, unless it is there."""
        catalog = self._broker.catalog
        if name not in catalog.queues:
            catalog.declare(name, policy=self.policy)

    def _exchange(
        self, queue: Queue, delivery: Delivery, cause: DropCause, letter: Message, route: Route | None
    ) -> bool:
        """Publish the letter; tell whether its message was taken from the queue with it."""
        broker = self._broker
        plan = broker.plan(letter, route)
        try:
            check_room([plan])
        except GatewayError:
            return self._refused(letter, route)
        broker.metrics.published += 1
        broker.ready.wake()
        if not plan.ids or not queue.queue_id or not delivery.position:
            position = broker.engine.append(letter, plan.ids, broker.clock.now_ms) if plan.ids else 0
            broker.carry_out(plan, position)
            return False
        self._replace(queue, delivery, cause, plan)
        return True

    def _refused(self, letter: Message, route: Route | None) -> bool:
        try:
            self._broker.publish(letter, route)  # which counts it, and may know another place for it
        except GatewayError:
            pass
        return False

    def _replace(self, queue: Queue, delivery: Delivery, cause: DropCause, plan: Plan) -> None:
        """Write the letter and the removal as one."""
        broker, now_ms = self._broker, self._broker.clock.now_ms
        messages = [(plan.message, plan.ids)]
        if isinstance(queue, ClassicQueue):
            queue.let_go(delivery)
            gone, outcome = [(queue.queue_id, (delivery.position,))], SETTLED_BY_DROP + cause
            (position,) = broker.engine.transact(messages, gone, now_ms, outcome=outcome)
        else:
            assert isinstance(queue, StreamQueue)
            group = delivery.group
            passed = (queue.queue_id, group.name, queue.floor(group))
            cursors = () if group.name.startswith("$") else (passed,)  # a reader's own goes with it
            (position,) = broker.engine.transact(messages, (), now_ms, cursors=cursors)
        self._fresh.append(_Burial(position, queue, delivery, plan.message))
        broker.carry_out(plan, position)

    # -- sending on ---------------------------------------------------------------------------

    def send_on(
        self, queue: ClassicQueue, position: int, message: Message, to: Queue | None = None
    ) -> int | None:
        """Publish a message in place of a letter, to one queue or by its topic.

        Return its position, 0 if it is not logged; None if the letter does not wait. Raise QueueFull,
        having done nothing.
        """
        broker = self._broker
        plan = broker.plan(message, None)
        if to is not None:
            ids = (to.queue_id,) if to.durable else ()
            plan = plan._replace(queues=[Binding(message.topic, to)], receivers=[], ids=ids, due_ms=0)
        check_room([plan])
        delivery = queue.take_out(position)
        if delivery is None:
            return None
        broker.metrics.published += 1
        broker.metrics.delivered += 1
        broker.ready.wake()
        now_ms, settled = broker.clock.now_ms, [(queue.queue_id, (position,))]
        if plan.ids:
            (new,) = broker.engine.transact([(message, plan.ids)], settled, now_ms)
            self._fresh.append(_Burial(new, queue, delivery, message))
        else:
            new = 0
            broker.engine.settle(queue.queue_id, (position,), Outcome.ACK, now_ms)
            queue.gone(delivery)
        broker.carry_out(plan, new)
        return new

    def queue_gone(self, queue: Queue) -> None:
        """A queue was deleted: its letters stay; without any, their queue goes, too."""
        name = deadletter.home(queue.name)
        dead = self._broker.catalog.queues.get(name)
        if dead is None or name == deadletter.SESSIONS or dead.active or dead.length() or dead.held():
            return
        self._broker.queues.delete(dead)

    # -- afterwards ---------------------------------------------------------------------------

    def flushed(self) -> None:
        """The turn is in the log: what a crash leaves is the letter."""
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            for burial in fresh:
                if isinstance(burial.queue, ClassicQueue):
                    burial.queue.gone(burial.delivery)
                group = burial.delivery.group
                if group.order is not None:
                    group.order.done(burial.delivery.offset)
                    self._broker.ready.look(group)
            self._unsynced += fresh
        if self._unsynced:
            self._look_after()

    def _look_after(self) -> None:
        """Publish letters once more that a failing disk may not have."""
        unsynced, engine = self._unsynced, self._broker.engine
        while unsynced:
            stored = engine.stored(unsynced[0].position)
            if stored is None:
                return
            burial = unsynced.popleft()
            if not stored:
                self._refused(burial.letter, None)

    def rolled_back(self, first: int) -> None:
        """What comes from a position on is not in the log: what was buried there is back."""
        fresh, self._fresh = self._fresh, []
        for burial in fresh:
            if burial.position < first:
                self._fresh.append(burial)
            else:
                self._raise(burial, first)

    def _raise(self, burial: _Burial, first: int) -> None:
        queue, delivery = burial.queue, burial.delivery
        if isinstance(queue, ClassicQueue):
            queue.gone(delivery)
            # Not if it is not in the log, either; nor if the queue has counted it already.
            if delivery.position < first and delivery.offset >= 0:
                self._broker.metrics.copies += 1
                queue.take_back(delivery.again(delivery.attempt))
        elif delivery.position < first:
            queue.take_back(delivery.again(delivery.attempt))
            self._broker.ready.moved.append(delivery.group)
        if delivery.position >= first and delivery.group.order is not None:
            delivery.group.order.done(delivery.offset)
        self._broker.ready.look(delivery.group)
