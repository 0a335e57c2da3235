"""The message layer (RFC 7252, 4): who has said what, duplicates, acknowledgements, retransmission.

For everything that comes in datagrams: a UDP address or a DTLS association is a `Peer`. Above it are
requests, responses and notifications; below it somebody who sends bytes (`Wire`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from gateway.api import Gateway
from gateway.core.scheduler import Timer

from ..answers import fault_of, refusal
from ..codec import Malformed, Options, OptionsCache, Packet, decode, empty, encode
from ..exchange import SILENCE, Handler, Link, Request, Response, unheard
from ..numbers import ACK, BAD_REQUEST, CON, GET, METHODS, NON, RST
from .guard import NO_BUCKET, Guard, needs_proof, suppressed, too_large_for_stranger, too_many

# RFC 7252, 4.8
ACK_TIMEOUT_MS: Final = 2000
ACK_RANDOM_FACTOR: Final = 1.5
MAX_RETRANSMIT: Final = 4
# NSTART, the confirmable messages on their way to one peer, is 1: `Peer.flying`.
EXCHANGE_LIFETIME_MS: Final = 247_000  # for so long a message id means the same message
EMPTY_ACK_AFTER_MS: Final = 1000  # well before the client repeats itself (ACK_TIMEOUT)
EMPTY_ACK_CHECK_MS: Final = 250
EXCHANGES_MAX: Final = 100_000  # remembered for their duplicates: some 30 MB; beyond that the oldest go
LARGE_BYTES: Final = 256  # an answer that is not kept just so
LARGE_MAX: Final = 10_000  # of those, kept for what must not be done twice: 11 MB
QUEUED_MAX: Final = 1000  # confirmable messages that wait for one peer: observations, each with one
SENT_REMEMBERED_MAX: Final = 16  # notifications that were not confirmable, which an RST may still refuse


class Wire(Protocol):
    """Whoever sends datagrams for a peer."""

    def send(self, data: bytes, address: object) -> None: ...


class Peer(Link):
    """One client's address, or its DTLS association."""

    __slots__ = ("address", "bucket", "flying", "last_ms", "layer", "next_mid", "queued", "sent", "wire")

    def __init__(self, wire: Wire, address: object, peer: str, layer: MessageLayer, secure: bool) -> None:
        super().__init__(peer, secure)
        self.proven = secure
        self.wire = wire
        self.address = address
        self.layer = layer
        self.next_mid = random.getrandbits(16)
        self.bucket = NO_BUCKET  # how much its address may still send
        self.last_ms = 0  # when it was heard of, by the monotonic clock
        self.flying: Outgoing | None = None  # the confirmable message that is not acknowledged yet
        self.queued: deque[Outgoing] | None = None  # what waits for that
        self.sent: dict[int, bytes] | None = None  # message id -> token

    @property
    def busy(self) -> bool:
        """Whether something waits for it: it is not to be forgotten."""
        return self.held > 0 or self.flying is not None

    def send(self, data: bytes) -> None:
        """Send one datagram."""
        self.wire.send(data, self.address)

    def new_mid(self) -> int:
        """Return a message id."""
        self.next_mid = (self.next_mid + 1) & 0xFFFF
        return self.next_mid

    def notify(
        self, token: bytes, response: Response, confirmable: bool, done: Callable[[bool], None]
    ) -> None:
        self.layer.notify(self, token, response, confirmable, done)

    def drop_pending(self, token: bytes) -> None:
        self.layer.drop_pending(self, token)


class Outgoing:
    """A confirmable message of ours, until it is acknowledged."""

    __slots__ = ("attempts", "data", "done", "mid", "timeout_ms", "timer", "token")

    def __init__(self, mid: int, token: bytes, data: bytes, done: Callable[[bool], None]) -> None:
        self.mid = mid
        self.token = token
        self.data = data
        self.done = done
        self.attempts = 0
        self.timeout_ms = 0
        self.timer: Timer | None = None


class Exchange:
    """A request and what was answered, for as long as its message id may come again."""

    __slots__ = (
        "acked",
        "at_ms",
        "code",
        "digest",
        "kind",
        "layer",
        "mid",
        "no_response",
        "peer",
        "reply",
        "size",
        "token",
    )

    def __init__(
        self, layer: MessageLayer, peer: Peer, packet: Packet, digest: int, at_ms: int, size: int
    ) -> None:
        self.layer = layer
        self.peer = peer
        self.code = packet.code
        self.kind = packet.kind
        self.mid = packet.mid
        self.token = packet.token
        self.digest = digest
        self.at_ms = at_ms
        self.size = size  # of the request, in bytes
        self.no_response = -1  # classes of answers that its sender does not want (RFC 7967)
        self.acked = False  # by an empty message: the answer comes in one of its own
        self.reply: bytes | None = None

    def respond(self, response: Response) -> None:
        """Send the answer; of a confirmable request in its acknowledgement, if that is not sent yet."""
        assert self.reply is None, "a request is answered once"
        peer = self.peer
        if response is SILENCE:
            self._say_nothing()
            return
        if not peer.proven:
            response = self.layer.for_stranger(self, response)
        if self.no_response > 0 and suppressed(self.no_response, response.code):
            self._say_nothing()
            return
        if self.kind == NON:
            data = encode(NON, response.code, peer.new_mid(), self.token, response.options, response.payload)
        elif not self.acked:
            data = encode(ACK, response.code, self.mid, self.token, response.options, response.payload)
        else:
            self.reply = empty(ACK, self.mid)
            self.layer.send_confirmable(peer, self.token, response, response.done or unheard)
            return
        self.reply = data
        peer.send(data)
        if len(data) > LARGE_BYTES:
            self.layer.large(self)

    def _say_nothing(self) -> None:
        """Answer with no more than an acknowledgement (RFC 7967, 2.1)."""
        self.reply = empty(ACK, self.mid) if self.kind == CON else b""
        if self.kind == CON and not self.acked:
            self.peer.send(self.reply)

    def again(self) -> None:
        """The request has come again."""
        if self.kind == CON:
            if self.reply is not None:
                self.peer.send(self.reply)
            elif self.acked:
                self.peer.send(empty(ACK, self.mid))


class MessageLayer:
    """One for all sockets of the door."""

    __slots__ = (
        "_arrivals",
        "_exchanges",
        "_gateway",
        "_large",
        "_options",
        "_unanswered",
        "guard",
        "handler",
        "malformed",
        "refused",
    )

    def __init__(self, gateway: Gateway, handler: Handler, guard: Guard) -> None:
        self.handler = handler
        self.guard = guard
        self.refused = 0  # datagrams beyond what an address may send
        self.malformed = 0  # datagrams that were none of CoAP's
        self._gateway = gateway
        self._options = OptionsCache()
        self._exchanges: dict[tuple[Peer, int], Exchange] = {}
        # The same in the order of their arrival: a dictionary that loses its first entry again and again
        # looks for the next one from where all the others were.
        self._arrivals: deque[Exchange] = deque()
        self._large: deque[Exchange] = deque()  # whose answers take room
        self._unanswered: dict[Exchange, None] = {}  # confirmable ones, the oldest first

    # -- what comes in ------------------------------------------------------------------------

    def receive(self, peer: Peer, data: bytes) -> None:
        """Take a datagram."""
        try:
            packet = decode(data)
        except Malformed as error:
            self.malformed += 1
            if error.kind == CON:  # RFC 7252, 4.2
                peer.send(empty(RST, error.mid))
            return
        kind, code = packet.kind, packet.code
        if code in METHODS and kind <= NON:
            self._request(peer, packet, data)
        elif kind == ACK:
            self._settled(peer, packet.mid, True)
        elif kind == RST:
            self._settled(peer, packet.mid, False)
        elif 0 < code < 32 and kind <= NON:
            self._request(peer, packet, data)  # a method nobody knows: 4.05
        elif kind == CON:
            # A ping (4.3), a response nobody asked for, or a code of a reserved class (4.2).
            peer.send(empty(RST, packet.mid))

    def _request(self, peer: Peer, packet: Packet, data: bytes) -> None:
        now_ms = self._gateway.clock.monotonic_ms
        exchanges = self._exchanges
        key = (peer, packet.mid)
        # A client that is fast uses its message ids again before their time is over (65,536 in 247 s are
        # 265 a second): another message with the same id is another message.
        digest = hash(data)
        known = exchanges.get(key)
        if known is not None:
            if known.digest == digest and now_ms - known.at_ms < EXCHANGE_LIFETIME_MS:
                known.again()
                return
            del exchanges[key]
        exchange = Exchange(self, peer, packet, digest, now_ms, len(data))
        self._ask(peer, packet, exchange)
        if exchange.reply is None:
            if packet.kind == CON:
                self._wait(exchange)
        elif packet.code == GET:
            return  # may as well be done again (4.5), and who only reads or observes takes no room here
        exchanges[key] = exchange
        self._arrivals.append(exchange)
        if len(self._arrivals) > EXCHANGES_MAX:
            self._forget(self._arrivals.popleft())

    def _ask(self, peer: Peer, packet: Packet, exchange: Exchange) -> None:
        """Have a request answered, now or later."""
        try:
            options = self._options.read(packet.block)
        except Malformed as error:
            exchange.respond(refusal(BAD_REQUEST, str(error)))
            return
        exchange.no_response = options.no_response
        fault = fault_of(options)
        if fault is not None:
            if options.critical and packet.kind == NON:
                exchange.reply = b""  # is rejected, which for these is silence (RFC 7252, 5.4.1 and 4.3)
            else:
                exchange.respond(fault)
            return
        if not peer.proven and self._is_challenged(peer, options):
            exchange.respond(self.guard.challenge(peer.peer))
            return
        request = Request(
            peer, packet.code, packet.token, options, packet.payload, packet.kind == CON, exchange.respond
        )
        self.handler.handle(request)

    # -- who is not known to be where they say --------------------------------------------------

    def _is_challenged(self, peer: Peer, options: Options) -> bool:
        """Tell whether an address has to show first that it is its sender's; see whether it does."""
        if options.echo is not None and self.guard.is_echo(options.echo, peer.peer):
            peer.proven = True
            return False
        return options.oscore is None and needs_proof(options)  # what is inside is asked for there

    def for_stranger(self, exchange: Exchange, response: Response) -> Response:
        """Return what an address is told that may not be its sender's: no more than little (guard)."""
        data = encode(CON, response.code, 0, exchange.token, response.options, response.payload)
        if too_large_for_stranger(len(data), exchange.size):
            return self.guard.challenge(exchange.peer.peer)
        return response

    def too_many(self, peer: Peer, data: bytes) -> None:
        """Answer a datagram beyond what an address may send: one that waits for an answer gets 4.29."""
        self.refused += 1
        try:
            packet = decode(data)
        except Malformed:
            return
        if packet.kind == CON and packet.code in METHODS:
            answer = too_many()
            peer.send(encode(ACK, answer.code, packet.mid, packet.token, answer.options, answer.payload))

    # -- what is remembered of exchanges --------------------------------------------------------

    def large(self, exchange: Exchange) -> None:
        """See to it that large answers do not take all memory: a GET may as well be done again (4.5)."""
        if exchange.code == GET:
            self._forget(exchange)
            return
        self._large.append(exchange)
        if len(self._large) > LARGE_MAX:
            self._forget(self._large.popleft())

    def _forget(self, exchange: Exchange) -> None:
        if exchange.reply is not None:
            exchange.reply = b""  # takes no room while it is in one of the queues
        key = (exchange.peer, exchange.mid)
        if self._exchanges.get(key) is exchange:
            del self._exchanges[key]

    def forget_old(self, now_ms: int) -> None:
        """Forget exchanges whose message ids are free again."""
        old_ms = now_ms - EXCHANGE_LIFETIME_MS
        for waiting in (self._arrivals, self._large):
            while waiting and waiting[0].at_ms <= old_ms:
                self._forget(waiting.popleft())

    # -- acknowledgements of what takes its time ------------------------------------------------

    def _wait(self, exchange: Exchange) -> None:
        if not self._unanswered:
            self._gateway.scheduler.after(EMPTY_ACK_CHECK_MS, self._acknowledge)
        self._unanswered[exchange] = None

    def _acknowledge(self) -> None:
        """Acknowledge what was not answered in time, so that its sender waits (RFC 7252, 5.2.2)."""
        late_ms = self._gateway.clock.monotonic_ms - EMPTY_ACK_AFTER_MS
        for exchange in list(self._unanswered):
            if exchange.reply is not None:
                del self._unanswered[exchange]
            elif exchange.at_ms <= late_ms:
                del self._unanswered[exchange]
                exchange.acked = True
                exchange.peer.send(empty(ACK, exchange.mid))
        if self._unanswered:
            self._gateway.scheduler.after(EMPTY_ACK_CHECK_MS, self._acknowledge)

    # -- what goes out ------------------------------------------------------------------------

    def notify(
        self, peer: Peer, token: bytes, response: Response, confirmable: bool, done: Callable[[bool], None]
    ) -> None:
        """See `Link.notify`."""
        if confirmable:
            self.send_confirmable(peer, token, response, done)
            return
        mid = peer.new_mid()
        sent = peer.sent
        if sent is None:
            sent = peer.sent = {}
        elif len(sent) >= SENT_REMEMBERED_MAX:
            del sent[next(iter(sent))]
        sent.pop(mid, None)
        sent[mid] = token
        peer.send(encode(NON, response.code, mid, token, response.options, response.payload))

    def send_confirmable(
        self, peer: Peer, token: bytes, response: Response, done: Callable[[bool], None]
    ) -> None:
        """Send until it is acknowledged, one message after the other (NSTART; RFC 7252, 4.7)."""
        mid = peer.new_mid()
        data = encode(CON, response.code, mid, token, response.options, response.payload)
        outgoing = Outgoing(mid, token, data, done)
        if peer.flying is None:
            self._fly(peer, outgoing)
            return
        if peer.queued is None:
            peer.queued = deque()
        if len(peer.queued) >= QUEUED_MAX:
            self._gateway.scheduler.after(0, lambda: done(False))
            return
        peer.queued.append(outgoing)

    def _fly(self, peer: Peer, outgoing: Outgoing) -> None:
        peer.flying = outgoing
        outgoing.timeout_ms = int(ACK_TIMEOUT_MS * random.uniform(1, ACK_RANDOM_FACTOR))
        outgoing.timer = self._gateway.scheduler.after(outgoing.timeout_ms, lambda: self._repeat(peer))
        peer.send(outgoing.data)

    def _repeat(self, peer: Peer) -> None:
        """No acknowledgement has come in time (RFC 7252, 4.2)."""
        outgoing = peer.flying
        assert outgoing is not None
        if outgoing.attempts >= MAX_RETRANSMIT:
            self._over(peer, outgoing, False)
            return
        outgoing.attempts += 1
        outgoing.timeout_ms *= 2
        outgoing.timer = self._gateway.scheduler.after(outgoing.timeout_ms, lambda: self._repeat(peer))
        peer.send(outgoing.data)

    def _settled(self, peer: Peer, mid: int, acknowledged: bool) -> None:
        """An ACK or RST has come. One that fits nothing is ignored: anybody can send it."""
        outgoing = peer.flying
        if outgoing is not None and outgoing.mid == mid:
            self._over(peer, outgoing, acknowledged)
        elif not acknowledged and peer.sent is not None:
            token = peer.sent.pop(mid, None)
            if token is not None:
                self.handler.reset(peer, token)

    def _over(self, peer: Peer, outgoing: Outgoing, acknowledged: bool) -> None:
        self._gateway.scheduler.cancel(outgoing.timer)
        peer.flying = None
        if peer.queued:
            self._fly(peer, peer.queued.popleft())
        outgoing.done(acknowledged)

    def drop_pending(self, peer: Peer, token: bytes) -> None:
        """See `Link.drop_pending`."""
        if peer.queued:
            peer.queued = deque(each for each in peer.queued if each.token != token)
        outgoing = peer.flying
        if outgoing is not None and outgoing.token == token:
            outgoing.done = unheard
            self._over(peer, outgoing, False)

    def gone(self, peer: Peer) -> None:
        """A peer is no more: nothing is sent to it again. What waits is told so."""
        waiting = [peer.flying] if peer.flying is not None else []
        waiting += peer.queued or ()
        peer.flying = peer.queued = None
        for outgoing in waiting:
            self._gateway.scheduler.cancel(outgoing.timer)
            outgoing.done(False)
        self.handler.gone(peer)
