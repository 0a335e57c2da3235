"""SUBSCRIBE and UNSUBSCRIBE: ordinary, shared (`$share/group/filter`) and queue (`$queue/name`).

An ordinary filter is a subscription of the session. A shared one is a queue of that name
that its members compete for; it is durable as soon as one member's session is. A queue
filter competes for a queue that somebody declared; if it is a stream, user properties of the
SUBSCRIBE say in which group, and from where (see `Replay`). Another one, `filter`, is a selector for
all that the packet subscribes to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol, cast

from gateway.core.access import queue_resource
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import (
    GatewayError,
    InvalidTopic,
    InvalidValue,
    NotAuthorized,
    NotFound,
    QuotaExceeded,
)
from gateway.core.message import Message
from gateway.core.queue import Queue
from gateway.core.replay import start_offset
from gateway.core.router import Binding, merged_for
from gateway.core.selector import USUAL_LANGUAGE, Selector, Selectors
from gateway.core.session import Session
from gateway.core.shares import join
from gateway.core.stream import StreamQueue
from gateway.core.topic import QUEUE_PREFIX, SHARE_PREFIX, matches, split_share

from .packets import Subscribe, SubscribeOption
from .reasons import Reason

#: GatewayError -> SUBACK and UNSUBACK reason; the first class that fits.
REASONS: tuple[tuple[type[GatewayError], Reason], ...] = (
    (NotAuthorized, Reason.NOT_AUTHORIZED),
    (InvalidTopic, Reason.TOPIC_FILTER_INVALID),
    (InvalidValue, Reason.IMPLEMENTATION_SPECIFIC_ERROR),
    (QuotaExceeded, Reason.QUOTA_EXCEEDED),
    (NotFound, Reason.TOPIC_FILTER_INVALID),
)


class Replay(NamedTuple):
    """How to read streams, from the user properties of a SUBSCRIBE.

    `group` shares a position among clients (default: the client id's own, which goes with a session
    that is not kept). `start` is where a new group begins (default: the next message to come); `seek`
    moves it, new or not. Both as in `gateway.core.replay`.
    """

    group: str = ""
    start: str = ""
    seek: str = ""

    @classmethod
    def of(cls, properties: Mapping[str, object]) -> Replay:
        """Read it; other user properties are nobody's business."""
        pairs = cast("list[tuple[str, str]]", properties.get("user_property", []))
        return cls(**{name: value for name, value in pairs if name in cls._fields})


def selector_of(properties: Mapping[str, object], selectors: Selectors) -> Selector | None:
    """Return the selector that user properties of a SUBSCRIBE ask for. Raise InvalidValue."""
    pairs = dict(cast("list[tuple[str, str]]", properties.get("user_property", [])))
    text = pairs.get("filter")
    if text is None:
        return None
    return selectors.find(text, pairs.get("filter-language", USUAL_LANGUAGE))


HERE: Final = Replay()
PASSING_PREFIX: Final = "$mqtt/"  # of groups that nobody journals


class Shared(NamedTuple):
    """A subscription to a queue that others consume as well."""

    consumer: Consumer
    options: Binding
    group: str  # of a stream


#: retained messages to send, for which subscription
Retained = tuple[list[Message], Binding]


class Consuming(Protocol):
    """The connection, as its subscriptions see it."""

    def need_queue(self) -> None:
        """Give the session a queue of its own: a subscription needs one."""

    def deliver_shared(self, batch: list[Delivery]) -> None:
        """Send what a shared queue has handed out."""

    def set_windows(self) -> None:
        """Share the client's receive maximum between everything it consumes."""


class Subscriptions:
    """One client's subscriptions."""

    __slots__ = ("_consuming", "_durable", "_session", "shared")

    def __init__(
        self,
        session: Session,
        durable: bool,
        consuming: Consuming,
    ) -> None:
        self._session = session
        self._durable = durable
        self._consuming = consuming
        self.shared: dict[str, Shared] = {}  # by filter as subscribed

    def take(self, packet: Subscribe) -> tuple[list[int], str, list[Retained]]:
        """Return (SUBACK's reasons, why some are refusals, what retained messages to send)."""
        ids = tuple(cast("list[int]", packet.properties.get("subscription_identifier", [])))
        replay, selector = HERE, None
        if "user_property" in packet.properties:
            replay = Replay.of(packet.properties)
            try:
                selector = selector_of(packet.properties, self._session.broker.selectors)
            except InvalidValue as error:
                return [reason_of(error)] * len(packet.subscriptions), error.detail, []
        reasons: list[int] = []
        why: list[str] = []
        retained: list[Retained] = []
        for option in packet.subscriptions:
            reason, text, messages, binding = self._subscribe(option, ids, replay, selector)
            reasons.append(reason)
            if text:
                why.append(text)
            if binding is not None and messages:
                retained.append((messages, binding))
        return reasons, "; ".join(why), retained

    def _subscribe(
        self, option: SubscribeOption, ids: tuple[int, ...], replay: Replay, selector: Selector | None
    ) -> tuple[int, str, list[Message], Binding | None]:
        """Return (reason, why, retained messages to send, for which subscription)."""
        try:
            if option.filter.startswith((SHARE_PREFIX, QUEUE_PREFIX)):
                self._share(option, ids, replay, selector)
                return option.qos, "", [], None
            if option.qos and self._session.queue is None:
                self._consuming.need_queue()
            binding, replaced = self._session.subscribe(
                option.filter, option.qos, option.no_local, option.retain_as_published, ids, selector
            )
        except GatewayError as error:
            return reason_of(error), error.detail, [], None
        if option.retain_handling == 2 or (option.retain_handling == 1 and replaced):
            return option.qos, "", [], None  # [MQTT-3.3.1-10] [MQTT-3.3.1-11]
        return option.qos, "", self._session.retained(option.filter), binding

    def unsubscribe(self, topic_filter: str) -> int:
        """Return the UNSUBACK reason."""
        shared = self.shared.pop(topic_filter, None)
        if shared is not None:
            self._session.cancel(shared.consumer)
            self._drop_idle_queue(topic_filter)
            _drop_passing(shared)
            self._consuming.set_windows()
            return Reason.SUCCESS
        if self._session.unsubscribe(topic_filter):
            return Reason.SUCCESS
        return Reason.NO_SUBSCRIPTION_EXISTED

    def end(self) -> None:
        """The session has ended, or is kept without its connection."""
        for shared in self.shared.values():
            _drop_passing(shared)

    def options_of(self, message: Message) -> Binding | None:
        """Return the subscription (overlapping ones merged) that takes a message, or None.

        For messages whose binding is not known any more, as after a restart.
        """
        mine = self._session.subscriptions.items()
        found = [binding for topic_filter, binding in mine if matches(topic_filter, message.topic)]
        return merged_for(found, message)

    def options_for(self, queue: Queue) -> Binding | None:
        """Return what this client asked for when it joined a shared queue."""
        found = self.shared.get(queue.name) or self.shared.get(QUEUE_PREFIX + queue.name)
        return found.options if found is not None else None

    def shared_record(self) -> dict[str, list[object]]:
        """Return the shared subscriptions as a durable session's record keeps them."""
        return {
            name: [options.qos, options.retain_as_published, list(options.ids), group, *_saved(options)]
            for name, (_, options, group) in self.shared.items()
        }

    def rejoin(self, record: dict[str, list[Any]]) -> None:
        """Join again what the session's record says; what may not be joined any more is left out."""
        for name, (qos, retain_as_published, ids, group, *more) in record.items():
            option = SubscribeOption(name, qos, False, retain_as_published)
            try:
                selector = None
                if more:
                    language, text = more[0]
                    selector = self._session.broker.selectors.find(text, language)
                self._share(option, tuple(ids), Replay(group), selector)
            except GatewayError:
                continue

    def _share(
        self, option: SubscribeOption, ids: tuple[int, ...], replay: Replay, selector: Selector | None
    ) -> None:
        session = self._session
        share = split_share(option.filter)
        if share is None:
            queue_name = option.filter[len(QUEUE_PREFIX) :]
            session.check_consume(queue_name)
            resource = queue_resource(queue_name)
            queue = session.broker.catalog.get(queue_name)
        else:
            queue, resource = join(session, option.filter, self._durable, selector), share[1]
        options = Binding(
            option.filter, queue, None, option.qos, False, option.retain_as_published, ids, selector=selector
        )
        group = self._join(queue, replay, selector) if isinstance(queue, StreamQueue) else ""
        earlier = self.shared.get(option.filter)
        if earlier is not None and earlier.group == group:
            self.shared[option.filter] = Shared(earlier.consumer, options, group)
            return
        if earlier is not None:
            session.cancel(earlier.consumer)
        wanted = selector if share is None else None  # a shared subscription's is its queue's binding's
        deliver = self._consuming.deliver_shared
        consumer = session.consume_shared(queue, deliver, 1, group, resource, wanted)
        self.shared[option.filter] = Shared(consumer, options, group)
        self._consuming.set_windows()

    def _join(self, stream: StreamQueue, replay: Replay, selector: Selector | None) -> str:
        """Return the group to read a stream in, moved to where it is to go on."""
        broker, name = self._session.broker, replay.group or self._session.origin.client_id
        if name.startswith("$"):
            raise InvalidValue(f"group {name!r}: names that begin with $ are the gateway's own; name another")
        if not replay.group and not self._durable:
            name = PASSING_PREFIX + name
        broker.queues.check_selector(stream, name, selector, bool(replay.seek))
        known = stream.find_group(name) is not None
        what, text = ("seek", replay.seek) if replay.seek else ("start", replay.start)
        if text and (replay.seek or not known):
            broker.queues.seek(stream, name, start_offset(stream, broker.clock, text, what))
        return name

    def _drop_idle_queue(self, topic_filter: str) -> None:
        """A durable shared queue goes when its last member unsubscribes, not when it disconnects."""
        broker = self._session.broker
        queue = broker.catalog.queues.get(topic_filter)
        if queue is not None and topic_filter.startswith(SHARE_PREFIX) and not queue.active:
            broker.queues.delete(queue)


def _saved(options: Binding) -> list[list[str]]:
    return [] if options.selector is None else [options.selector.saved()]


def _drop_passing(shared: Shared) -> None:
    """Forget the position of a client that has none of its own any more."""
    stream = shared.options.queue
    if shared.group.startswith(PASSING_PREFIX) and isinstance(stream, StreamQueue):
        if not stream.group(shared.group).consumers:  # the client may be there again
            stream.remove_group(shared.group)


def reason_of(error: GatewayError) -> int:
    """Return the reason code for a refused subscription."""
    for kind, reason in REASONS:
        if isinstance(error, kind):
            return reason
    return Reason.IMPLEMENTATION_SPECIFIC_ERROR
