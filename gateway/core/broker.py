"""The broker: publish and dispatch.

Messages go one way. `publish` routes, appends to the log and enqueues; it never delivers:
it marks sources (receivers and groups) ready, and `dispatch`, called by the shell at the
end of a turn, pumps each of them once. So a consumer that publishes while it is delivered
to does not recurse, deliveries batch, and tests see the order that production sees. How a
delivery ends is in `settlement`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .books import copies_waiting
from .catalog import Catalog
from .classic import ClassicQueue
from .clock import Clock
from .dedup import Dedup
from .delivery import Group
from .engine import StorageEngine
from .errors import QueueFull
from .halves import Halves
from .lease import Leases
from .letters import DeadLetters
from .message import Message, Outcome
from .metrics import DropCause, Metrics
from .plan import Plan
from .policy import DROP_HEAD, SYNC
from .queue import Queue
from .queues import Queues
from .ready import Ready
from .receiver import Receiver
from .replies import Replies
from .retained import RETAINED_QUEUE_ID, Retained
from .router import NO_SUBSCRIBERS as NO_SUBSCRIBERS
from .router import TOPICS_CACHED_MAX, Binding, Relay, Route, Router
from .scheduler import Scheduler
from .schedules import Schedules
from .selector import Selectors
from .settlement import Settlement
from .stream import StreamQueue
from .sweeper import Sweeper

if TYPE_CHECKING:
    from .session import Session

DELIVERIES_PER_PUMP_MAX = 4096  # a socket read's worth of small messages; more would starve other clients
SESSION_SUBSCRIPTIONS_MAX = 20_000  # about 1 KB each: one client takes 20 MB, not all there is
RETAINED_PER_LOAD = 1000  # messages that a start reads together


#: Takes what is published to one of the gateway's own addresses; returns as `Broker.publish`. Whether
#: its session may is for it to ask.
Address = Callable[["Session", Message], int]


class Broker:
    """One message model, one router, one log. All calls come from the event loop's thread."""

    __slots__ = (
        "addresses",
        "catalog",
        "clock",
        "dedup",
        "engine",
        "halves",
        "leases",
        "letters",
        "metrics",
        "on_bug",
        "queues",
        "ready",
        "replies",
        "retained",
        "router",
        "scheduler",
        "schedules",
        "selectors",
        "session_subscriptions_max",
        "settlement",
        "sweeper",
    )

    def __init__(
        self,
        engine: StorageEngine,
        clock: Clock,
        topics_max: int = TOPICS_CACHED_MAX,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.addresses: dict[str, Address] = {}  # first level of a topic, such as "$delayed" -> who takes it
        self.metrics = Metrics()
        self.router = Router(topics_max)
        self.selectors = Selectors()
        self.catalog = Catalog(engine, self.router, self.selectors)
        self.retained = Retained()
        self.scheduler = Scheduler(clock)
        self.dedup = Dedup(engine, clock, self.scheduler)
        self.replies = Replies(self)
        self.session_subscriptions_max = SESSION_SUBSCRIPTIONS_MAX
        self.on_bug: Callable[[str, Exception], None] = _raise  # the shell logs it instead
        self.ready = Ready(wake or _no_wake)  # the shell sets `ready.wake` before the first call
        self.letters = DeadLetters(self)
        self.catalog.deleted.append(self.letters.queue_gone)
        self.settlement = Settlement(engine, self.metrics, self.ready, self.scheduler, clock, self.letters)
        self.queues = Queues(self.catalog, engine, clock, self.metrics, self.ready, self.settlement)
        self.sweeper = Sweeper(
            self.catalog, self.retained, engine, clock, self.settlement, self.metrics, self.queues
        )
        self.leases = Leases(self.scheduler, self.settlement.settle)
        self.halves = Halves(self)
        self.schedules = Schedules(self)

    # -- start ----------------------------------------------------------------------------

    def restore(self, notify: Callable[[], None]) -> list[str]:
        """Open the engine and take over what it recovered; return remarks for people."""
        recovery = self.engine.open(notify)
        remark = self.clock.resume(self.engine)
        self._restore_retained()
        for queue in self.catalog.restore(recovery):
            if isinstance(queue, ClassicQueue):
                self.metrics.copies += queue.length()
            elif queue.policy.compact and isinstance(queue, StreamQueue):
                self.settlement.compacted(queue)
        self.settlement.flushed()  # what was replaced is: both are in the log
        self.queues.keys.restore()
        self.dedup.restore()
        self.halves.restore()
        self.schedules.calendar.restore()
        self.sweeper.start()
        return [*recovery.remarks, remark] if remark else recovery.remarks

    def _restore_retained(self) -> None:
        position = 0
        while found := self.engine.after(RETAINED_QUEUE_ID, position, RETAINED_PER_LOAD):
            for entry in found:
                position = entry.position
                if entry.message is None:
                    continue
                replaced, old = self.retained.set(entry.message, position)
                if replaced is not None:
                    self._settle_retained(old, Outcome.ACK)

    def _settle_retained(self, position: int, outcome: int) -> None:
        self.engine.settle(RETAINED_QUEUE_ID, (position,), outcome, self.clock.now_ms)

    # -- publish --------------------------------------------------------------------------

    def publish(self, message: Message, route: Route | None = None) -> int:
        """Route a message; return the position to wait for, 0 if none, or NO_SUBSCRIBERS.

        `route`: the one it takes, if it did not come by its topic (see `Router.through`). Raise
        QueueFull, having enqueued nothing, if a queue that rejects is full.
        """
        metrics = self.metrics
        ready = self.ready
        metrics.published += 1
        if route is None:
            route = self.router.routes.get(message.topic)
            if route is None or route.version != self.router.version:
                route = self.router.route(message.topic)
        route.last = message
        if message.retain or route.special:
            return self._publish_special(message, route)
        position = 0
        if message.qos:
            receivers, queues, ids = route.receivers_safe, route.queues_safe, route.ids_safe
        else:
            receivers, queues, ids = route.receivers_lossy, route.queues_lossy, route.ids_lossy
        if ids:
            if not ready.receivers and not ready.groups:
                ready.wake()
            position = self.engine.append(message, ids, self.clock.now_ms, route.sync)
        if queues:
            now_ms = self.clock.now_ms
            for binding in queues:
                queue = binding.queue
                assert queue is not None
                if queue.limited and queue.full(len(message.body)):
                    self._make_room(queue, message)
                queue.put(message, position if queue.queue_id else 0, binding, now_ms)
                for group in queue.active:
                    if not group.ready:
                        ready.add_group(group)
            metrics.copies += len(queues)
        elif not receivers:
            metrics.copies += 1
            metrics.dropped[DropCause.NO_SUBSCRIBER] += 1
            return NO_SUBSCRIBERS
        for binding in receivers:
            receiver = binding.receiver
            assert receiver is not None
            if receiver.congested or not receiver.open or binding.no_local:
                self._offer(receiver, message, binding)
                continue
            inbox = receiver.inbox
            if not inbox:
                ready.add_receiver(receiver)
            inbox.append((message, binding))
        metrics.copies += len(receivers)
        return position if route.told else 0

    def _offer(self, receiver: Receiver, message: Message, binding: Binding) -> None:
        """Give a message to a receiver that is away, congested, or may not want its own."""
        self.metrics.copies -= 1  # push counts it, if it is a copy at all:
        if binding.no_local and receiver.origin.same_client(message.origin):
            return  # the subscriber asked not to get it [MQTT-3.8.3-3]
        self.push(receiver, message, binding)

    def announce(self, message: Message) -> None:
        """Tell live receivers and keep the message as retained, unlogged and uncounted: statistics."""
        self.retained.set(message, 0)
        route = self.router.route(message.topic)
        for binding in route.takers(message)[1]:
            receiver = binding.receiver
            if receiver is not None and receiver.open and not receiver.congested:
                self.push(receiver, message, binding)

    def push(self, receiver: Receiver, message: Message, binding: Binding) -> None:
        """Put one message into one receiver's inbox, as for a retained message."""
        self.metrics.copies += 1
        if not receiver.open:
            self.metrics.drop(DropCause.SUBSCRIBER_OFFLINE)
        elif receiver.congested:
            if not receiver.hold(message, binding):
                self.metrics.drop(DropCause.SLOW_SUBSCRIBER)
        else:
            if not receiver.inbox:
                self.ready.add_receiver(receiver)
            receiver.inbox.append((message, binding))

    def enqueue(self, queue: Queue, message: Message, binding: Binding | None) -> int:
        """Put one message into one queue, whatever the routes say; return its position."""
        now_ms = self.clock.now_ms
        position = 0
        if queue.durable:
            sync = queue.policy.durability == SYNC
            position = self.engine.append(message, (queue.queue_id,), now_ms, sync)
        self._make_room(queue, message)
        self._enqueue(queue, message, position, binding, now_ms)
        self.ready.wake()
        return position

    def _enqueue(
        self, queue: Queue, message: Message, position: int, binding: Binding | None, now_ms: int
    ) -> None:
        queue.put(message, position, binding, now_ms)
        if queue.kind == "classic":
            self.metrics.copies += 1
        else:
            self._put_stream(queue)
        for group in queue.active:
            if not group.ready:
                self.ready.add_group(group)

    def _put_stream(self, queue: Queue) -> None:
        assert isinstance(queue, StreamQueue)
        self.metrics.copies += 1
        self.metrics.streamed += 1
        if queue.retained:
            self.ready.trim(queue)
        if queue.policy.compact:
            self.settlement.compacted(queue)

    def _publish_special(self, message: Message, route: Route) -> int:
        """Publish what is retained, or goes where limits or no-local make it less simple."""
        plan = self.plan(message, route)
        size = len(message.body)
        for binding in plan.queues:
            queue = binding.queue
            assert queue is not None
            if queue.limited and queue.policy.overflow != DROP_HEAD and queue.full(size):
                self.metrics.copies += 1
                self.settlement.refuse(queue, message)
                raise QueueFull(f"queue {queue.name!r} is full and rejects publishes")
        self.ready.wake()
        now_ms, ids = self.clock.now_ms, plan.ids
        position = self.engine.append(message, ids, now_ms, route.sync or message.retain) if ids else 0
        return self.carry_out(plan, position)

    def plan(self, message: Message, route: Route | None) -> Plan:
        """Return who gets a message, and nothing more; `route` as for `publish`."""
        if route is None:
            route = self.router.route(message.topic)
        to_queues, to_receivers = route.takers(message)
        queues = [binding for binding in to_queues if not _own(binding, message)]
        if route.relays:
            queues += _relayed(route.relays, message, queues)
        receivers = [binding for binding in to_receivers if not _own(binding, message)]
        ids = {b.queue.queue_id for b in queues if b.queue is not None and b.queue.durable}
        if message.retain and message.body:
            ids.add(RETAINED_QUEUE_ID)
        return Plan(message, queues, receivers, tuple(sorted(ids)), route.told, route)

    def carry_out(self, plan: Plan, position: int) -> int:
        """Enqueue a message that is in the log at a position (0: not logged); return as `publish`."""
        message = plan.message
        if plan.due_ms:
            return self.schedules.carry_out(plan, position)
        plan.route.last = message  # only now: nobody is to see what may still be refused
        if message.retain:
            position = max(position, self._retain(message, position))
        for binding in plan.queues:
            queue = binding.queue
            assert queue is not None
            self._make_room(queue, message)
            self._enqueue(queue, message, position if queue.durable else 0, binding, self.clock.now_ms)
        for binding in plan.receivers:
            assert binding.receiver is not None
            self.push(binding.receiver, message, binding)
        if not plan.queues and not plan.receivers:
            self.metrics.copies += 1
            if message.retain and message.body:
                self.metrics.delivered += 1  # to the retained store: that is who wanted it
            else:
                self.metrics.drop(DropCause.NO_SUBSCRIBER)
            return position or NO_SUBSCRIBERS
        return position if plan.told or message.retain else 0

    def _retain(self, message: Message, position: int) -> int:
        """Keep or clear a topic's retained message; return the position to wait for."""
        replaced, old = self.retained.replace(message, position)
        if replaced is None:
            return position
        if message.body:
            # Only once the new one is in the log: should it not get there, the old one stays.
            self.settlement.supersede(RETAINED_QUEUE_ID, old, position)
            return position
        self._settle_retained(old, Outcome.ACK)
        return self.engine.position()

    def _make_room(self, queue: Queue, message: Message) -> None:
        if queue.limited:
            for lost in queue.make_room(len(message.body)):
                self.settlement.give_up(queue, lost)

    # -- dispatch -------------------------------------------------------------------------

    def dispatch(self) -> bool:
        """Pump every ready source once; return True if another turn is needed."""
        ready = self.ready
        for stream in ready.take_overfull():
            stream.trim(self.clock.now_ms)
        if ready.receivers:
            metrics = self.metrics
            for receiver in ready.take_receivers():
                # All of it: an inbox holds one turn's arrivals, or what it may hold back. Less
                # than what arrives, turn after turn, would be an inbox without a limit.
                try:
                    count = receiver.pump()
                    metrics.delivered += count  # read only now: the receiver may have corrected it
                except Exception as error:
                    self._receiver_failed(receiver, error)
        if ready.groups:
            now_ms = self.clock.now_ms
            for group in ready.take_groups():
                group.ready = False
                try:
                    group.pump(DELIVERIES_PER_PUMP_MAX, now_ms)
                except Exception as error:
                    self._consumer_failed(group, error)
                if group.queue.lost:
                    self.settlement.give_up_lost(group.queue)
                if group.queue.kind == "stream":
                    ready.moved.append(group)
                if group.queue.leased:
                    self.settlement.overdue.watch(group)
                ready.look(group)
        if ready.moved:
            self.settlement.journal_cursors()
        return bool(ready.receivers or ready.groups)

    def _receiver_failed(self, receiver: Receiver, error: Exception) -> None:
        """A protocol's mistake: its client gets nothing any more, everybody else goes on."""
        receiver.open = False
        self.metrics.drop(DropCause.DELIVERY_FAILED, receiver.pumping)
        self.on_bug(f"delivery to {receiver.origin.client_id or receiver.origin.peer}", error)

    def _consumer_failed(self, group: Group, error: Exception) -> None:
        """The same for a consumer; what it held goes back to the queue."""
        consumer = group.serving
        if consumer is None:
            raise error  # not the consumer's
        self.queues.detach(consumer)
        self.on_bug(f"delivery to {consumer.name}", error)

    def relieve(self, receiver: Receiver) -> None:
        """The receiver's peer reads again: hand over what was held."""
        receiver.congested = False
        if receiver.inbox:
            self.ready.add_receiver(receiver)

    # -- housekeeping ---------------------------------------------------------------------

    def rollback(self, position: int) -> None:
        """The log could not be written from `position` on: forget what was enqueued there."""
        for queue in self.catalog.queues.values():
            if queue.durable:
                count = queue.forget_from(position)
                if count > 0 and queue.kind == "classic":
                    self.metrics.drop(DropCause.NOT_STORED, count)
                elif queue.kind == "classic":
                    self.metrics.copies -= count  # the engine has more: what was taken out is back
        self.retained.undo()
        self.settlement.rolled_back(position)
        self.halves.rolled_back(position)
        self.dedup.rolled_back(position)
        self.schedules.calendar.rolled_back()

    def flushed(self) -> None:
        """The turn's batch is written: what it replaced need not be remembered."""
        self.retained.keep()
        self.settlement.flushed()
        self.schedules.calendar.touched = False

    def waiting(self) -> int:
        """Return how many copies are on their way: the books' last term (see metrics)."""
        return copies_waiting(self.catalog, self.router, self.ready)


def _relayed(relays: tuple[Relay, ...], message: Message, known: list[Binding]) -> list[Binding]:
    """Return bindings to the queues that relays choose for a message, those known already excepted."""
    seen = {id(binding.queue) for binding in known}
    found: list[Binding] = []
    for relay in relays:
        for queue in relay.queues(message.topic, message) or ():
            if id(queue) not in seen:
                seen.add(id(queue))
                found.append(Binding(message.topic, queue))
    return found


def _own(binding: Binding, message: Message) -> bool:
    """Tell whether no-local keeps this message from its own publisher [MQTT-3.8.3-3]."""
    return binding.no_local and binding.origin is not None and binding.origin.same_client(message.origin)


def _no_wake() -> None:
    pass


def _raise(what: str, error: Exception) -> None:
    raise error
