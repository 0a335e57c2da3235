"""Taking one message of a queue for one request, as the HTTP door's `receive` does.

A consumer exists only while its request waits. What it was given stays unsettled under a lease whose id
nobody can guess, or is done with when it is sent. Whoever leaves takes nothing along.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from gateway.api import Consumer, Delivery, Gateway, GatewayError, Selector
from gateway.core import lease
from gateway.core.errors import Conflict, NotFound, QuotaExceeded
from gateway.core.message import Message, Outcome
from gateway.core.scheduler import Timer

from ..answers import Refused, answer_to
from ..clients import Client
from ..codec import Option
from ..content.formats import CBOR, JSON, NONE, number_of
from ..content.translate import acceptable, format_options, to_envelope
from ..exchange import Link, Request, Response
from ..numbers import LOCATION_PATH, NOT_ACCEPTABLE

TURN_MS: Final = 50  # what one that does not wait gives a queue that has messages to deliver one
TOKEN_BYTES: Final = 12  # 96 bits: nobody guesses one of them before the lease is over; 16 characters
WAITING_MAX: Final = 10_000  # requests that wait, of all clients: some 2 KB each
WAITING_OF_LINK_MAX: Final = 256  # a gateway that speaks for its devices has one each
RETRY_MS: Final = 5000


class Want:
    """What a request asks a queue for. `lease_ms` 0: the message is done with when it is sent."""

    __slots__ = ("accept", "group", "lease_ms", "meta", "queue", "selector", "wait_ms")

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.wait_ms = 0
        self.lease_ms = int(lease.SECONDS_DEFAULT * 1000)
        self.group = ""
        self.selector: Selector | None = None
        self.accept = NONE  # Content-Format that the client understands
        self.meta = False  # the message is to come in an envelope

    def same(self, other: Want) -> bool:
        """Tell whether both compete for the same messages."""
        mine = (self.queue, self.group, self.selector, self.meta, self.accept)
        return mine == (other.queue, other.group, other.selector, other.meta, other.accept)


class Pulls:
    """All requests of the door that wait for a message. Implements `resources.ResetListener`."""

    __slots__ = ("_count", "_waiting", "gateway", "stopping")

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.stopping = False
        self._waiting: dict[Link, dict[Pull, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def begin(self, client: Client, request: Request, want: Want, answers: Answers) -> None:
        """Answer a request with a message when there is one. Raise GatewayError."""
        waiting = self._waiting.get(request.link)
        if self._count >= WAITING_MAX or (waiting is not None and len(waiting) >= WAITING_OF_LINK_MAX):
            raise QuotaExceeded("too many requests wait for messages", RETRY_MS)
        Pull(self, client, request, want, answers).start()

    def add(self, pull: Pull) -> None:
        """A request waits."""
        self._waiting.setdefault(pull.link, {})[pull] = None
        self._count += 1

    def remove(self, pull: Pull) -> None:
        """It does not any more."""
        waiting = self._waiting.get(pull.link)
        if waiting is not None and pull in waiting:
            del waiting[pull]
            self._count -= 1
            if not waiting:
                del self._waiting[pull.link]

    def reset(self, link: Link, token: bytes) -> None:
        """What is refused in this way is a notification."""

    def gone(self, link: Link) -> None:
        """A link is closed: nobody is there to be answered."""
        for pull in list(self._waiting.get(link, ())):
            pull.end()

    def client_gone(self, client: Client, error: GatewayError | None) -> None:
        """A session ends: its client is told why."""
        for link in client.links:
            for pull in list(self._waiting.get(link, ())):
                if pull.client is client:
                    pull.end()
                    if error is not None:
                        pull.refuse(error)

    def stop(self) -> None:
        """The door closes: answer all, and let nobody wait any more."""
        self.stopping = True
        for waiting in list(self._waiting.values()):
            for pull in list(waiting):
                pull.give_up()


class Answers:
    """How a request is answered: `code` with a message, `nothing` without.

    `strict`: errors are told, too. Otherwise they are `nothing`: the request has done what matters.
    """

    __slots__ = ("code", "nothing", "strict")

    def __init__(self, code: int, nothing: Response, strict: bool) -> None:
        self.code = code
        self.nothing = nothing
        self.strict = strict


class Pull:
    """One request that waits."""

    __slots__ = ("_answers", "_consumer", "_held", "_pulls", "_request", "_timer", "_want", "client", "link")

    def __init__(self, pulls: Pulls, client: Client, request: Request, want: Want, answers: Answers) -> None:
        self.link = request.link
        self._pulls = pulls
        self.client = client
        self._request = request
        self._want = want
        self._answers = answers
        self._consumer: Consumer | None = None
        self._timer: Timer | None = None
        self._held = False

    def start(self) -> None:
        """Begin to consume. Raise GatewayError."""
        want, pulls = self._want, self._pulls
        check_kept(pulls.gateway, want.queue)
        consumer = self.client.session.consume(want.queue, self._deliver, 1, want.group, 0, want.selector)
        consumer.gone = self._cut_off
        self._consumer = consumer
        group = consumer.group
        wait_ms = 0 if pulls.stopping else want.wait_ms
        if group is not None and group.wants():
            wait_ms = max(wait_ms, TURN_MS)
        if not wait_ms:
            self.give_up()
            return
        pulls.add(self)
        if self.link.proven:  # another's address is not worth keeping
            self._held = True
            self.link.held += 1
        self._timer = pulls.gateway.scheduler.after(wait_ms, self.give_up)

    def end(self) -> None:
        """Consume no more."""
        pulls, consumer = self._pulls, self._consumer
        self._consumer = None
        if consumer is not None:
            consumer.gone = None
            self.client.session.cancel(consumer, give_back=False)
        pulls.gateway.scheduler.cancel(self._timer)
        pulls.remove(self)
        if self._held:
            self._held = False
            self.link.held -= 1

    def give_up(self) -> None:
        """Nothing has come in time."""
        self.end()
        self._request.respond(self._answers.nothing)

    def _cut_off(self) -> None:
        """The queue is gone, or rules have changed."""
        self.end()
        self.refuse(why_cut_off(self.client, self._want))

    def refuse(self, error: GatewayError) -> None:
        """Answer that something is wrong, if that is to be told."""
        self._request.respond(answer_to(error) if self._answers.strict else self._answers.nothing)

    def _deliver(self, batch: list[Delivery]) -> None:
        """Answer with what has come. Its group goes on with others: this consumer takes no more."""
        delivery = batch[0]
        assert self._consumer is not None
        self._consumer.congested = True
        self.end()
        if not self.link.open:
            self._settle_later(delivery, Outcome.RETRY)
            return
        shown = show(delivery.message, self._want, self._pulls.gateway.clock.now_ms)
        if shown is None:
            self._settle_later(delivery, Outcome.RETRY)
            self.refuse(Refused(NOT_ACCEPTABLE, f"the message is not of Content-Format {self._want.accept}"))
            return
        self._hand_over(delivery, *shown)

    def _hand_over(self, delivery: Delivery, payload: bytes, options: tuple[Option, ...]) -> None:
        lease_ms = self._want.lease_ms
        if not lease_ms:
            self._settle_later(delivery, Outcome.ACK)
            self._request.respond(Response(self._answers.code, payload, options))
            return
        token = secrets.token_urlsafe(TOKEN_BYTES)
        leases = self._pulls.gateway.broker.leases
        leases.hold(token, delivery, lease_ms)
        place = ("queues", self._want.queue, "deliveries", token)
        located = tuple((LOCATION_PATH, segment.encode()) for segment in place)
        response = Response(self._answers.code, payload, (*located, *options))
        response.done = self._arrived(token)
        self._request.respond(response)

    def _arrived(self, token: str) -> Callable[[bool], None]:
        """Return what to do when it is known whether the answer has arrived: nobody settles what did not."""
        leases = self._pulls.gateway.broker.leases

        def done(arrived: bool) -> None:
            if arrived:
                return
            try:
                leases.settle(token, Outcome.REQUEUE, 0)
            except NotFound:
                return  # the lease was over first

        return done

    def _settle_later(self, delivery: Delivery, outcome: Outcome) -> None:
        """Settle, but not while it is being delivered."""
        broker = self._pulls.gateway.broker
        broker.scheduler.after(0, lambda: _settle(broker.settlement.settle, delivery, outcome))


def _settle(settle: lease.Settle, delivery: Delivery, outcome: Outcome) -> None:
    settle(delivery, outcome, 0, "")


def why_cut_off(client: Client, want: Want) -> GatewayError:
    """Return what took a consumer away: rules that have changed, or the queue is deleted."""
    try:
        client.session.check_consume(want.queue, want.group)
    except GatewayError as refused:
        return refused
    return NotFound(f"queue {want.queue!r} was deleted")


def check_kept(gateway: Gateway, name: str) -> None:
    """Raise Conflict for a queue that would be gone after the first of its messages."""
    queue = gateway.broker.catalog.queues.get(name)
    if queue is not None and queue.auto_delete:
        raise Conflict(
            f"queue {name!r} is deleted with its last consumer, and a receive is one only while it waits"
        )


def show(message: Message, want: Want, now_ms: int) -> tuple[bytes, tuple[Option, ...]] | None:
    """Return payload and options of a message; None if its client does not understand it (Accept)."""
    accept = want.accept
    if not want.meta:
        if not acceptable(message.properties, accept):
            return None
        properties = message.properties
        number = number_of(properties.content_type, properties.content_encoding)
        return (message.body, format_options(number))
    if accept not in (NONE, JSON, CBOR):
        return None
    number = JSON if accept == NONE else accept
    return (to_envelope(message, number, now_ms), format_options(number))
