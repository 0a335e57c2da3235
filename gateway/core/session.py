"""A client's conversation with the broker: the only door.

Whatever a protocol does for a client it does through its session, so that authorization,
interception and counting cannot be skipped. A session has at most one receiver, for what
may be lost, and at most one queue of its own, for what may not; its subscriptions bind
both. The own queue of a durable session outlives it, with its subscriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .access import GROUP_PREFIX, Action, Authority, Principal, group_resource, queue_resource, refusal
from .broker import Address, Broker
from .caller import Caller
from .delivery import Consumer, Delivery
from .errors import NotAuthorized, QuotaExceeded
from .message import NO_PROPERTIES, Message, Origin, Outcome
from .metrics import DropCause
from .once import Published, commit_once, publish_once
from .policy import DEFAULT, QueuePolicy
from .queue import Queue
from .queues import group_of
from .receiver import INBOX_BYTES_MAX, INBOX_MESSAGES_MAX, Item, Receiver
from .router import Binding, Route
from .selector import Selector
from .shares import is_share, join, shared_filter
from .topic import (
    QUEUE_PREFIX,
    SESSION_PREFIX,
    SHARE_PREFIX,
    check_filter,
)
from .transaction import Publish

OnPublish = Callable[["Message", "Session"], "Message | None"]
OnDeliver = Callable[["Delivery", "Session"], "Message | None"]


class Session(Caller):
    """One client. `origin` is stamped on what it publishes."""

    __slots__ = ("_intercept", "_own", "consumers", "queue", "receiver", "subscriptions")

    def __init__(
        self,
        broker: Broker,
        principal: Principal,
        origin: Origin,
        authority: Authority,
        intercept: Sequence[OnPublish] = (),
    ) -> None:
        """Raise QuotaExceeded if the client has as many sessions as it may."""
        super().__init__(broker, principal, origin, authority)
        self._intercept = tuple(intercept)
        self.receiver: Receiver | None = None
        self.queue: Queue | None = None
        self._own: Consumer | None = None  # of that queue
        self.subscriptions: dict[str, Binding] = {}
        self.consumers: list[Consumer] = []
        authority.sessions.add(self)

    # -- publish --------------------------------------------------------------------------

    def publish(self, message: Message, route: Route | None = None) -> int:
        """Publish; return the position to wait for, 0 if none, or NO_SUBSCRIBERS (-1).

        `route`: see `Broker.publish`; not that of a message which an interceptor sends elsewhere.
        Raise NotAuthorized, InvalidTopic, QuotaExceeded or QueueFull; the message is then counted as
        dropped and was enqueued nowhere.
        """
        if message.topic not in self.publishable:
            take = self._taker(message.topic)
            if take is not None:
                return take(self, message)
            self.admit(message)
            if self.broker.dedup.rules:
                return self._once(message, route).position
        if self._intercept:
            changed = self._intercepted(message)
            if changed is None:
                return 0
            route, message = route if changed.topic == message.topic else None, changed
        wish = message.properties
        if wish is not NO_PROPERTIES and (wish.deliver_at_ms is not None or wish.delay_ms):
            return self.broker.schedules.publish(message, route)
        return self.broker.publish(message, route)

    def publish_once(self, message: Message, route: Route | None = None) -> Published:
        """Publish unless a message with this one's idempotency key was, to the same topic, in the window.

        For doors whose message has a key, or that tell their client what is a duplicate: `publish` looks
        at message ids alone, where a rule wants that. Raise what `publish` raises.
        """
        if message.topic not in self.publishable:
            take = self._taker(message.topic)
            if take is not None:
                return publish_once(self.broker, message, lambda: take(self, message))
            self.admit(message)
        return self._once(message, route)

    def _taker(self, topic: str) -> Address | None:
        return self.broker.addresses.get(topic.partition("/")[0]) if topic.startswith("$") else None

    def _once(self, message: Message, route: Route | None) -> Published:
        """Publish what was admitted."""
        changed = self._intercepted(message) if self._intercept else message
        if changed is None:
            return Published(0, False, message.properties.message_id)
        way = route if changed.topic == message.topic else None
        return publish_once(self.broker, changed, lambda: self.broker.schedules.publish(changed, way))

    def transact(
        self, publishes: list[Publish], acknowledged: list[Delivery], at_once: bool = False
    ) -> list[int]:
        """Publish and acknowledge all of it or nothing; return what `publish` would for each message.

        Raise NotAuthorized, InvalidTopic or QueueFull: then nothing has happened. See `transaction.commit`.
        """
        kept: list[Publish | None] = []
        for message, route in publishes:
            changed = self.admitted(message)
            if changed is None:
                kept.append(None)
            else:
                kept.append((changed, route if changed.topic == message.topic else None))
        return commit_once(self.broker, kept, acknowledged, at_once)

    def admitted(self, message: Message) -> Message | None:
        self.admit(message)
        return self._intercepted(message) if self._intercept else message

    def _intercepted(self, message: Message) -> Message | None:
        topic = message.topic
        changed: Message | None = message
        for on_publish in self._intercept:
            changed = on_publish(changed, self) if changed is not None else None
        if changed is None:
            self.refused(DropCause.INTERCEPTED)
        elif changed.topic != topic:
            self.check_publish(changed.topic)
        return changed

    # -- subscribe ------------------------------------------------------------------------

    def receive(
        self,
        deliver: Callable[[list[Item]], None],
        messages_max: int = INBOX_MESSAGES_MAX,
        bytes_max: int = INBOX_BYTES_MAX,
    ) -> Receiver:
        """Give the session its receiver; `deliver` gets what its subscriptions match."""
        assert self.receiver is None
        self.receiver = Receiver(self.origin, deliver, messages_max, bytes_max)
        return self.receiver

    def own_queue(self, name: str, durable: bool, policy: QueuePolicy | None = None) -> bool:
        """Give the session a queue of its own; return True if it was there, subscriptions and all."""
        assert self.receiver is not None, "call receive first: subscriptions bind both"
        policy = policy or DEFAULT
        full_name = SESSION_PREFIX + name
        catalog = self.broker.catalog
        found = catalog.queues.get(full_name)
        if found is not None and found.durable == durable:
            self.queue = found
            if found.policy.difference(policy):
                catalog.set_policy(found, policy)
            self._adopt_bindings(found)
            return True
        if found is not None:
            self.broker.queues.delete(found, DropCause.SESSION_ENDED)
        self.queue, _ = catalog.declare(full_name, "classic", policy, durable)
        self._bind_waiting_subscriptions(self.queue)
        return False

    def _adopt_bindings(self, queue: Queue) -> None:
        for topic_filter, binding in self.broker.catalog.bindings.get(queue.name, {}).items():
            binding.receiver = self.receiver
            binding.origin = self.origin
            self.subscriptions[topic_filter] = binding
        self.recount()
        self.broker.router.version += 1

    def _bind_waiting_subscriptions(self, queue: Queue) -> None:
        """Move subscriptions made before the queue existed under it."""
        for topic_filter, binding in self.subscriptions.items():
            self.broker.router.remove(binding)
            binding.queue = queue
            self.broker.catalog.bind(queue, binding)
            self.subscriptions[topic_filter] = binding

    def subscribe(
        self,
        topic_filter: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        ids: tuple[int, ...] = (),
        selector: Selector | None = None,
    ) -> tuple[Binding, bool]:
        """Subscribe receiver and own queue; return (binding, whether it replaced one).

        With qos > 0 and no own queue yet, call `own_queue` first. Raise InvalidTopic or
        NotAuthorized.
        """
        assert self.receiver is not None
        assert qos == 0 or self.queue is not None
        check_filter(topic_filter)
        if topic_filter.startswith((QUEUE_PREFIX, SESSION_PREFIX, SHARE_PREFIX)):
            raise NotAuthorized(f"{topic_filter!r} names a queue; consume it instead of subscribing to it")
        self.check(Action.SUBSCRIBE, topic_filter)
        binding = Binding(
            topic_filter,
            self.queue,
            self.receiver,
            qos,
            no_local,
            retain_as_published,
            ids,
            self.origin,
            selector=selector,
        )
        replaced = self.subscriptions.get(topic_filter)
        if replaced is None and len(self.subscriptions) >= self.broker.session_subscriptions_max:
            raise QuotaExceeded(
                f"this session has {len(self.subscriptions)} subscriptions, as many as it may"
            )
        if replaced is None:
            self.check_use()
        self.subscriptions[topic_filter] = binding
        self.recount()
        if self.queue is not None:
            self.broker.catalog.bind(self.queue, binding)
        else:
            if replaced is not None:
                self.broker.router.remove(replaced)
            self.broker.router.add(binding)
        return binding, replaced is not None

    def unsubscribe(self, topic_filter: str) -> bool:
        """Remove a subscription; False if there was none."""
        binding = self.subscriptions.pop(topic_filter, None)
        if binding is None:
            return False
        self.recount()
        if self.queue is not None:
            self.broker.catalog.unbind(self.queue, topic_filter)
        else:
            self.broker.router.remove(binding)
        return True

    def retained(self, topic_filter: str) -> list[Message]:
        """Return the retained messages a filter matches. Authorize by subscribing first."""
        return self.broker.retained.match(topic_filter, self.broker.clock.now_ms)

    def send_retained(self, messages: list[Message], binding: Binding) -> None:
        """Send retained messages to this session as its subscription demands."""
        marked = binding.for_retained()
        for message in messages:
            if not binding.takes(message):
                continue
            if binding.qos and message.qos and binding.queue is not None:
                self.broker.enqueue(binding.queue, message, marked)
            elif binding.receiver is not None:
                self.broker.push(binding.receiver, message, marked)

    # -- consume --------------------------------------------------------------------------

    def consume(
        self,
        queue_name: str,
        deliver: Callable[[list[Delivery]], None],
        window: int,
        group: str = "",
        priority: int = 0,
        selector: Selector | None = None,
    ) -> Consumer:
        """Compete for a queue's messages; a shared subscription's is made if need be.

        With a `selector`, for those that it matches: of a shared subscription, or of a stream, whose
        other members want the same. Raise NotFound, NotAuthorized, InvalidTopic or Conflict.
        """
        if is_share(queue_name):
            queue = join(self, queue_name, True, selector)
            return self._consume(queue, deliver, window, group, priority, shared_filter(queue_name))
        self.check_consume(queue_name, group)
        queue = self.broker.catalog.get(queue_name)
        resource = group_resource(queue_name, group) if group else queue_resource(queue_name)
        return self._consume(queue, deliver, window, group, priority, resource, selector)

    def consume_shared(
        self,
        queue: Queue,
        deliver: Callable[[list[Delivery]], None],
        window: int,
        group: str = "",
        resource: str = "",
        selector: Selector | None = None,
    ) -> Consumer:
        """Compete for a queue this session was authorized for by a subscription; `resource` says for what."""
        return self._consume(queue, deliver, window, group, 0, resource, selector)

    def consume_own(self, deliver: Callable[[list[Delivery]], None], window: int) -> Consumer:
        """Consume the session's own queue: that is how it is subscribed, not something it uses besides."""
        assert self.queue is not None
        assert self._own is None, "one is enough"
        consumer = self._own = self._made_consumer(deliver, window)
        self.consumers.append(consumer)
        self.broker.queues.attach(group_of(self.queue, ""), consumer)
        return consumer

    def recount(self) -> None:
        """Note how many subscriptions and consumers a quota counts."""
        self.count_use(len(self.subscriptions) + len(self.consumers) - (self._own is not None))

    def _consume(
        self,
        queue: Queue,
        deliver: Callable[[list[Delivery]], None],
        window: int,
        group: str,
        priority: int = 0,
        resource: str = "",
        selector: Selector | None = None,
    ) -> Consumer:
        self.broker.queues.check_selector(queue, group, selector)
        found = group_of(queue, group)
        self.check_use()
        consumer = self._made_consumer(deliver, window, priority, resource)
        self.consumers.append(consumer)
        self.recount()
        if found.selector != selector:
            self.broker.catalog.select(found, selector)
        self.broker.queues.attach(found, consumer)
        return consumer

    def _made_consumer(
        self, deliver: Callable[[list[Delivery]], None], window: int, priority: int = 0, resource: str = ""
    ) -> Consumer:
        name = self.origin.client_id or self.origin.peer
        return Consumer(name, window, deliver, self.origin, priority, resource)

    def fetch(self, consumer: Consumer, queue_name: str) -> Delivery | None:
        """Take one message of a classic queue now, or None; `consumer` (see `fetcher`) settles it.

        Raise NotFound, NotAuthorized or Conflict.
        """
        self.check_consume(queue_name)
        queue = self.broker.catalog.get(queue_name)
        group = group_of(queue, "")
        consumer.group = group
        return self.broker.queues.fetch(group, consumer)

    def fetcher(self) -> Consumer:
        """Return a consumer for `fetch`. What it holds goes back only if its owner settles it."""
        return Consumer(self.origin.client_id or self.origin.peer, 1, _nowhere, self.origin)

    def cancel(self, consumer: Consumer, give_back: bool = True) -> None:
        """Stop consuming; what is unsettled goes back unless it is leased."""
        if consumer in self.consumers:
            self.consumers.remove(consumer)
            if consumer is self._own:
                self._own = None
            self.recount()
        self.broker.queues.detach(consumer, give_back)

    def settle(self, delivery: Delivery, outcome: Outcome, delay: int | None = None, why: str = "") -> bool:
        """Settle a delivery as `Settlement.settle` says; False if it was already, or its queue is gone."""
        return self.broker.settlement.settle(delivery, outcome, delay, why)

    def congest(self, congested: bool) -> None:
        """The client does not read (True), or reads again: hold back, or hand over what was held."""
        if congested:
            if self.receiver is not None:
                self.receiver.congested = True
            for consumer in self.consumers:
                consumer.congested = True
            return
        if self.receiver is not None:
            self.broker.relieve(self.receiver)
        for consumer in self.consumers:
            self.broker.queues.resume(consumer)

    # -- end ------------------------------------------------------------------------------

    def review(self) -> None:
        """Give up what is not allowed any more; the client of such a subscription is cut off."""
        for consumer in list(self.consumers):
            if not consumer.resource:
                continue
            action = _action_for(consumer.resource)
            ruling = self.ruling(action, consumer.resource)
            if not ruling.allowed:
                self.cancel(consumer)
                if consumer.gone is not None:
                    consumer.gone()
                else:
                    self.end(refusal(self.principal, action, consumer.resource, ruling))
        for topic_filter in list(self.subscriptions):
            ruling = self.ruling(Action.SUBSCRIBE, topic_filter)
            if not ruling.allowed:
                self.unsubscribe(topic_filter)
                self.end(refusal(self.principal, Action.SUBSCRIBE, topic_filter, ruling))

    def close(self, keep: bool = False) -> None:
        """End the session. With `keep` the own queue and its subscriptions stay, if durable."""
        broker = self.broker
        for consumer in list(self.consumers):
            self.cancel(consumer)
            consumer.deliver = _nowhere  # deliveries under a lease know it, but not its client
        if self.receiver is not None:
            broker.metrics.drop(DropCause.SESSION_ENDED, self.receiver.close())
        queue = self.queue
        if queue is not None and not (keep and queue.durable):
            broker.queues.delete(queue, DropCause.SESSION_ENDED)
        elif queue is None:
            for binding in self.subscriptions.values():
                broker.router.remove(binding)
        self.subscriptions = {}
        self.queue = None
        self.leave()


def _action_for(resource: str) -> Action:
    """Return what a consumer has to be allowed: a shared subscription's resource is its filter."""
    return Action.CONSUME if resource.startswith((QUEUE_PREFIX, GROUP_PREFIX)) else Action.SUBSCRIBE


def _nowhere(batch: list[Delivery]) -> None:
    """Take what a cancelled consumer would have been handed: it is not attached, so nothing comes."""
