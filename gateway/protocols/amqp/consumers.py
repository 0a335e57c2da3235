"""A channel's receiving half: consumers, what they hold, and how it is settled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.core.delivery import Consumer, Delivery
from gateway.core.message import Outcome
from gateway.core.selector import Selector
from gateway.core.stream import StreamQueue

from .errors import AmqpFault, Reply
from .frames import deliver_prefix, encode_content, encode_deliver, encode_get_ok
from .methods import shortstr
from .streams import OFFSET, leave, with_header
from .translate import native_of

if TYPE_CHECKING:
    from .channel import Channel
    from .declared import Declared

UNLIMITED: Final = 1 << 31  # a prefetch count of 0; what a slow client leaves unread limits it all the same


class Subscription:
    """One basic.consume."""

    __slots__ = ("_channel", "_prefix", "_says", "consumer", "declared", "no_ack", "prefetch", "tag")

    def __init__(self, channel: Channel, tag: str, declared: Declared, no_ack: bool, prefetch: int) -> None:
        self._channel = channel
        self._prefix = deliver_prefix(shortstr(tag))
        self.tag = tag
        self.declared = declared
        self.no_ack = no_ack
        self.prefetch = prefetch
        self._says = _more_to_say(declared)
        self.consumer: Consumer

    def deliver(self, batch: list[Delivery]) -> None:
        """Send what the queue hands out."""
        channel = self._channel
        connection = channel.connection
        receiving = channel.receiving
        number, frame_max = channel.number, connection.frame_max
        unacked = receiving.unacked
        tag = receiving.last_tag
        vhost, now_ms = channel.vhost, connection.clock.now_ms
        name, address_of = vhost.name, vhost.address_of
        pieces: list[bytes] = []
        for delivery in batch:
            tag += 1
            address, raw = native_of(name, delivery.message, now_ms, address_of)
            if self._says is not None:
                raw = self._says(delivery, raw)
            method = encode_deliver(self._prefix, tag, delivery.attempt > 1, address)
            pieces.append(encode_content(number, method, raw, delivery.message.body, frame_max))
            if not self.no_ack:
                unacked[tag] = delivery
        receiving.last_tag = tag
        connection.send(b"".join(pieces))
        if self.no_ack:
            connection.session.broker.settlement.acknowledge(batch)
        elif receiving.prefetch_all:
            receiving.share_window()


def _more_to_say(declared: Declared) -> Callable[[Delivery, bytes], bytes] | None:
    """Return what adds a header to each delivery of a kind of queue, or None."""
    if declared.queue.kind == "stream":
        return lambda delivery, raw: with_header(raw, OFFSET, delivery.offset)
    if declared.arguments is None or declared.arguments.get("x-queue-type") == "quorum":
        return lambda delivery, raw: (
            with_header(raw, "x-delivery-count", delivery.attempt - 1) if delivery.attempt > 1 else raw
        )
    return None


class Receiving:
    """What a channel consumes."""

    __slots__ = (
        "_channel",
        "_fetcher",
        "_session",
        "last_tag",
        "prefetch",
        "prefetch_all",
        "subscriptions",
        "unacked",
    )

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._session = channel.connection.session
        self._fetcher: Consumer | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.unacked: dict[int, Delivery] = {}  # in order
        self.last_tag = 0
        self.prefetch = 0  # of consumers that begin from now on
        self.prefetch_all = 0  # of all of the channel together

    # -- consumers ------------------------------------------------------------------------------

    def consume(
        self,
        declared: Declared,
        tag: str,
        no_ack: bool,
        priority: int,
        group: str = "",
        own: bool = False,
        selector: Selector | None = None,
    ) -> Subscription:
        """Begin to consume; what is the connection's own needs no rule. Raise a GatewayError."""
        made = Subscription(self._channel, tag, declared, no_ack, self.prefetch)
        window = UNLIMITED if no_ack else self.prefetch or UNLIMITED
        name = declared.queue.name
        if own:
            made.consumer = self._session.consume_shared(declared.queue, made.deliver, window)
        else:
            made.consumer = self._session.consume(name, made.deliver, window, group, priority, selector)
        made.consumer.congested = self._channel.stopped or self._channel.connection.is_congested
        self.subscriptions[tag] = made
        if self.prefetch_all:
            self.share_window()
        return made

    def cancel(self, tag: str) -> Subscription | None:
        """Stop consuming; what is unacknowledged stays so."""
        subscription = self.subscriptions.pop(tag, None)
        if subscription is None:
            return None
        if subscription.declared.sole is subscription:
            subscription.declared.sole = None
        group = subscription.consumer.group
        self._session.cancel(subscription.consumer, give_back=False)
        queue = subscription.declared.queue
        if isinstance(queue, StreamQueue) and group is not None:
            leave(queue, group.name)
        return subscription

    def limit_all(self, count: int) -> None:
        """Set how many deliveries all consumers together may hold; 0: any number."""
        self.prefetch_all = count
        if count:
            self.share_window()
            return
        for subscription in self.subscriptions.values():
            subscription.consumer.window = subscription.prefetch or UNLIMITED
        self.look()

    def share_window(self) -> None:
        """Give every consumer the room that all together have left."""
        room = max(0, self.prefetch_all - len(self.unacked))
        for subscription in self.subscriptions.values():
            if not subscription.no_ack:
                own = subscription.prefetch or UNLIMITED
                subscription.consumer.window = min(own, subscription.consumer.unsettled + room)

    def look(self) -> None:
        """There is room again: see what can be delivered."""
        ready = self._session.broker.ready
        for subscription in self.subscriptions.values():
            if subscription.consumer.group is not None:
                ready.look(subscription.consumer.group)

    def hold(self, congested: bool) -> None:
        """Deliver nothing, or deliver again."""
        broker = self._session.broker
        for subscription in self.subscriptions.values():
            if congested:
                subscription.consumer.congested = True
            else:
                broker.queues.resume(subscription.consumer)

    # -- fetching ---------------------------------------------------------------------------------

    def get(self, declared: Declared, no_ack: bool) -> bytes | None:
        """Return a get-ok with its message, or None if the queue is empty."""
        fetcher = self._fetcher
        if fetcher is None:
            fetcher = self._fetcher = self._session.fetcher()
        delivery = self._session.fetch(fetcher, declared.queue.name)
        if delivery is None:
            return None
        connection = self._channel.connection
        self.last_tag += 1
        address, raw = self._channel.vhost.content_of(delivery.message)
        method = encode_get_ok(self.last_tag, delivery.attempt > 1, address, declared.queue.length())
        answer = encode_content(
            self._channel.number, method, raw, delivery.message.body, connection.frame_max
        )
        if no_ack:
            self._session.settle(delivery, Outcome.ACK)
        else:
            self.unacked[self.last_tag] = delivery
        return answer

    # -- settling -----------------------------------------------------------------------------------

    def take(self, tag: int, multiple: bool) -> list[Delivery]:
        """Return the deliveries that a tag stands for; they are not unacknowledged any more.

        Raise AmqpFault for a tag that is unknown, or was settled before.
        """
        unacked = self.unacked
        if not multiple:
            delivery = unacked.pop(tag, None)
            if delivery is None:
                raise AmqpFault(Reply.PRECONDITION_FAILED, f"unknown delivery tag {tag}")
            return [delivery]
        if tag == 0:
            taken = list(unacked.values())
            unacked.clear()
            return taken
        if tag not in unacked:
            raise AmqpFault(Reply.PRECONDITION_FAILED, f"unknown delivery tag {tag}")
        tags = []
        for known in unacked:
            if known > tag:
                break
            tags.append(known)
        return [unacked.pop(known) for known in tags]

    def restore(self, deliveries: dict[int, Delivery]) -> None:
        """These are unacknowledged again: their transaction was rolled back."""
        if deliveries:
            self.unacked = dict(sorted((self.unacked | deliveries).items()))

    def settled(self) -> None:
        """Deliveries were settled: all together may have room."""
        if self.prefetch_all:
            self.share_window()
            self.look()

    def settle(self, deliveries: list[Delivery], outcome: Outcome, delay_ms: int | None = None) -> None:
        """Settle deliveries that were taken; those that go back do so in their order."""
        for delivery in reversed(deliveries):
            self._session.settle(delivery, outcome, delay_ms)
        self.settled()

    def requeue_all(self) -> None:
        """Give everything unacknowledged back, to be delivered again at once."""
        deliveries = list(self.unacked.values())
        self.unacked.clear()
        self.settle(deliveries, Outcome.REQUEUE, 0)

    def close(self) -> None:
        """The channel is gone."""
        for tag in list(self.subscriptions):
            self.cancel(tag)
        self.requeue_all()
