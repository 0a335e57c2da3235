"""CoAP over TCP, TLS and WebSocket (RFC 8323): one connection is one link, and says so itself.

Either side begins with a CSM, which tells what it takes. A ping is answered, a release lets what was
begun be finished; what breaks the rules ends in an Abort that says why. Nothing is acknowledged or
repeated, that is TCP's: what is left of RFC 7252 is requests, and answers in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog

from gateway.api import Gateway, Transport
from gateway.core.scheduler import Timer

from ..answers import fault_of, refusal
from ..clients import WAITING_MAX
from ..codec import Malformed, Option, OptionsCache, Packet, split_options
from ..datagrams.guard import suppressed
from ..exchange import SILENCE, Handler, Request, Response
from ..numbers import ABORT, BAD_REQUEST, CSM, PING, PONG, RELEASE, code_name, uint, uint_bytes
from .stream_codec import Decoder, FrameDecoder, MessageDecoder
from .stream_link import MESSAGE_BYTES_MIN, WRITTEN_BYTES_MAX, StreamLink

log = structlog.get_logger("gateway")

#: Requests of one connection that wait for an answer, and pings that wait for those: as many as MQTT's
#: receive maximum. A client that has more is not read until some are answered.
REQUESTS_MAX: Final = 1000
#: How long the client has for a Pong before its connection counts as dead.
PONG_MS: Final = 30_000
#: How long a connection stays open after a Release for answers that are due: a long poll's usual time.
RELEASE_MS: Final = 30_000
#: The same when the gateway stops, and nobody should wait for long: what is on its way to the disk.
DRAIN_MS: Final = 1000
DIAGNOSTIC_CHARACTERS_MAX: Final = 200  # of a client's, in the log

# Options of signalling; their numbers count within one code only (RFC 8323, 5.2).
MAX_MESSAGE_SIZE: Final = 2
BLOCK_WISE_TRANSFER: Final = 4
CUSTODY: Final = 2
ALTERNATIVE_ADDRESS: Final = 2
HOLD_OFF: Final = 4
BAD_CSM_OPTION: Final = 2
OPTION_MAX: Final = 0xFFFF  # of a number that can be said of an option

#: Code -> option -> (least, most bytes of it).
SIGNALS: Final[dict[int, dict[int, tuple[int, int]]]] = {
    CSM: {MAX_MESSAGE_SIZE: (0, 4), BLOCK_WISE_TRANSFER: (0, 0)},
    PING: {CUSTODY: (0, 0)},
    PONG: {CUSTODY: (0, 0)},
    RELEASE: {ALTERNATIVE_ADDRESS: (1, 255), HOLD_OFF: (0, 3)},
    ABORT: {BAD_CSM_OPTION: (0, 2)},
}

Signal = dict[int, bytes]  # option -> value


class Streams:
    """What all connections share, and their common turn: one task, however many have something to do."""

    __slots__ = ("_due", "cache", "gateway", "handler", "message_bytes_max", "ping_ms", "whole_bytes_max")

    def __init__(
        self,
        gateway: Gateway,
        handler: Handler,
        cache: OptionsCache,
        limits: Any,
        ping_seconds: float,
    ) -> None:
        """`limits` are the configuration's: a message has at most `packet_bytes_max`.

        An observer that was silent for `ping_seconds` is asked whether it is there; 0: never.
        """
        self.gateway = gateway
        self.handler = handler
        self.cache = cache
        self.message_bytes_max: int = limits.packet_bytes_max
        # The HTTP door's WebSockets take no more than this.
        self.whole_bytes_max: int = min(limits.packet_bytes_max, limits.body_bytes_max)
        self.ping_ms = int(ping_seconds * 1000)
        self._due: list[StreamConnection] = []

    def connect(self, transport: Transport, whole_messages: bool = False) -> StreamConnection:
        """A client has arrived, over WebSocket if messages come whole."""
        return StreamConnection(self, transport, whole_messages)

    def later(self, connection: StreamConnection) -> None:
        """Have a connection's `turn` called after sockets had theirs."""
        if not self._due:
            self.gateway.task(self._turn())
        self._due.append(connection)

    async def _turn(self) -> None:
        self.gateway.begin_turn()
        due, self._due = self._due, []
        for connection in due:
            try:
                connection.turn()
            except Exception as error:
                log.error("bug: connection aborted", door="coap", peer=connection.link.peer, exc_info=error)
                connection.transport.abort()


class StreamExchange:
    """A request until it is answered."""

    __slots__ = ("answered", "connection", "no_response", "number", "token")

    def __init__(self, connection: StreamConnection, token: bytes) -> None:
        self.connection = connection
        self.token = token
        self.number = 0  # among those that are not answered at once
        self.no_response = -1  # as its option has it (RFC 7967)
        self.answered = False

    def respond(self, response: Response) -> None:
        """Send the answer."""
        assert not self.answered, "a request is answered once"
        self.answered = True
        self.connection.answered(self, response)


class StreamConnection:
    """Implements `gateway.api.Connection`."""

    __slots__ = (
        "_asked_ms",
        "_closing",
        "_custody",
        "_decoder",
        "_due",
        "_established",
        "_heard_ms",
        "_last",
        "_leaving",
        "_pumping",
        "_stopped",
        "_streams",
        "_timer",
        "_unanswered",
        "_written",
        "link",
        "transport",
    )

    def __init__(self, streams: Streams, transport: Transport, whole_messages: bool) -> None:
        self._streams = streams
        self.transport = transport
        self.link = StreamLink(transport, whole_messages, self.wake)
        size_max = streams.whole_bytes_max if whole_messages else streams.message_bytes_max
        self._decoder: Decoder = MessageDecoder(size_max) if whole_messages else FrameDecoder(size_max)
        self._unanswered: dict[int, StreamExchange] = {}  # by number, the oldest first
        self._custody: list[tuple[int, bytes]] = []  # pings: the last request before one, its token
        self._last = 0  # number of the latest request that was not answered at once
        self._written = 0  # bytes of answers since the last turn
        self._due = False  # `turn` will be called
        self._pumping = False
        self._stopped = False  # nothing is read
        self._established = False
        self._leaving = False  # released: nothing is taken any more, answers are sent
        self._closing = False
        self._asked_ms = 0  # when it was sent a Ping, and was not heard since
        self._heard_ms = streams.gateway.clock.monotonic_ms
        self._timer: Timer | None = None
        size = (MAX_MESSAGE_SIZE, uint_bytes(size_max))
        self.link.send(CSM, b"", (size, (BLOCK_WISE_TRANSFER, b"")), b"")

    # -- gateway.api.Connection -----------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        if self._leaving or self._closing:
            return
        self._heard_ms = self._streams.gateway.clock.monotonic_ms
        self._asked_ms = 0
        self._decoder.feed(data)
        self._pump()

    def congested(self, congested: bool) -> None:
        self.link.congested = congested
        if congested:
            self._stop(True)
        else:
            self.wake()

    def closed(self, error: Exception | None) -> None:
        self._end()
        self._unanswered.clear()
        self._custody.clear()
        self.link.fail()
        self._streams.handler.gone(self.link)
        self.link.forget()

    def drain(self) -> None:
        if not self._closing:
            self.link.send(RELEASE, b"", (), b"the gateway is stopping")
            self._leave(DRAIN_MS)

    # -- turns ----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have `turn` called soon, and not now."""
        if not self._due:
            self._due = True
            self._streams.later(self)

    def turn(self) -> None:
        """The socket has had its turn, or somebody was answered: go on with what waited for that."""
        self._due = False
        self._written = 0
        self.link.turn()
        if not self._leaving:
            self._pump()

    def _pump(self) -> None:
        """Take messages while there is room for what they cause."""
        if self._pumping or self._closing:
            return
        self._pumping = True
        decoder, link = self._decoder, self.link
        try:
            while not self._leaving and not self._closing:
                if self._written >= WRITTEN_BYTES_MAX:
                    self.wake()
                    self._stop(True)
                    return
                if link.congested or len(self._unanswered) + len(self._custody) >= self._requests_max():
                    self._stop(True)
                    return
                packet = decoder.next()
                if packet is None:
                    break
                self._take(packet)
        finally:
            self._pumping = False
        if decoder.error is not None:
            self._abort(str(decoder.error))
        self._stop(False)

    def _requests_max(self) -> int:
        # Until it is known whose they are, no more than may wait for that.
        known = self.link.client is not None or self.link.clients
        return REQUESTS_MAX if known else WAITING_MAX

    def _stop(self, stop: bool) -> None:
        """Read from the client, or not."""
        if stop != self._stopped and not self._closing:
            self._stopped = stop
            if stop:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # -- messages -------------------------------------------------------------------------------

    def _take(self, packet: Packet) -> None:
        """Take a message by the class of its code; empty ones and answers to nothing are ignored."""
        kind = packet.code >> 5
        if kind == 0:
            if packet.code:
                self._request(packet)
        elif kind == 7:
            self._signal(packet)
        elif kind in (1, 6):  # reserved (RFC 7252, 12.1)
            self._abort(f"{code_name(packet.code)} is of a reserved class")

    def _request(self, packet: Packet) -> None:
        exchange = StreamExchange(self, packet.token)
        try:
            options = self._streams.cache.read(packet.block)
        except Malformed as error:
            exchange.respond(refusal(BAD_REQUEST, str(error)))
            return
        exchange.no_response = options.no_response
        fault = fault_of(options)
        if fault is not None:
            exchange.respond(fault)
            return
        if options.observe == 0 and self._timer is None and self._streams.ping_ms:
            self._watch()
        self._streams.handler.handle(
            Request(self.link, packet.code, packet.token, options, packet.payload, True, exchange.respond)
        )
        if not exchange.answered:
            self._last += 1
            exchange.number = self._last
            self._unanswered[self._last] = exchange

    def answered(self, exchange: StreamExchange, response: Response) -> None:
        """A request has its answer: send it."""
        if self._closing:
            return
        code = response.code
        if response is not SILENCE and not suppressed(exchange.no_response, code):
            self._written += self.link.send(code, exchange.token, response.options, response.payload)
        if exchange.number:
            del self._unanswered[exchange.number]
            if self._custody:
                self._confirm_custody()
            if self._leaving:
                self._leave_if_done()
            elif self._stopped:
                self.wake()

    # -- signalling (RFC 8323, 5) ---------------------------------------------------------------

    def _signal(self, packet: Packet) -> None:
        known = SIGNALS.get(packet.code)
        if known is None:
            self._abort(f"signalling code {code_name(packet.code)} is unknown")
            return
        options: Signal = {}
        for number, value in split_options(packet.block):
            least, most = known.get(number, (0, -1))
            if least <= len(value) <= most and number not in options:
                options[number] = value
            elif number & 1 and packet.code != ABORT:
                bad = number if packet.code == CSM else 0
                self._abort(f"option {number} of {code_name(packet.code)} is critical, and unknown", bad)
                return
        _SIGNALS[packet.code](self, packet, options)

    def _on_csm(self, packet: Packet, options: Signal) -> None:
        link = self.link
        size = link.message_bytes_max
        if MAX_MESSAGE_SIZE in options:
            size = uint(options[MAX_MESSAGE_SIZE])
            if size < MESSAGE_BYTES_MIN:
                text = f"Max-Message-Size is {size}; less than {MESSAGE_BYTES_MIN} is no use"
                self._abort(text, MAX_MESSAGE_SIZE)
                return
        link.agree(size, link.block_wise or BLOCK_WISE_TRANSFER in options)
        if not self._established:
            self._established = True
            self.transport.established()

    def _on_ping(self, packet: Packet, options: Signal) -> None:
        if CUSTODY in options:  # 5.4.1: not before all that came before it is done
            self._custody.append((self._last, packet.token))
            self._confirm_custody()
        else:
            self._written += self.link.send(PONG, packet.token, (), b"")

    def _on_pong(self, packet: Packet, options: Signal) -> None:
        """That it came is all there is to know; see `receive`."""

    def _on_release(self, packet: Packet, options: Signal) -> None:
        self._leave(RELEASE_MS)

    def _on_abort(self, packet: Packet, options: Signal) -> None:
        text = packet.payload.decode(errors="replace")[:DIAGNOSTIC_CHARACTERS_MAX]
        log.info("connection closed", door="coap", peer=self.link.peer, reason=f"the client aborted: {text}")
        self._close()

    def _confirm_custody(self) -> None:
        """Answer pings that wait until what came before them is done."""
        oldest = next(iter(self._unanswered), self._last + 1)
        while self._custody and self._custody[0][0] < oldest:
            _, token = self._custody.pop(0)
            self.link.send(PONG, token, ((CUSTODY, b""),), b"")

    # -- keep-alive (RFC 8323, 7.3) -------------------------------------------------------------

    def _watch(self) -> None:
        """The client may wait for a notification that never comes, and we for it: ask now and then."""
        self._timer = self._streams.gateway.scheduler.after(self._streams.ping_ms, self._look)

    def _look(self) -> None:
        streams = self._streams
        now_ms = streams.gateway.clock.monotonic_ms
        if self._stopped:
            self._heard_ms = now_ms  # it is us who do not listen
            self._asked_ms = 0
        wait_ms = self._heard_ms + streams.ping_ms - now_ms
        if self._asked_ms or wait_ms <= 0:
            if not self._asked_ms:
                self._asked_ms = now_ms
                self.link.send(PING, b"", (), b"")
            left_ms = self._asked_ms + PONG_MS - now_ms
            if left_ms <= 0:
                log.info("connection closed", door="coap", peer=self.link.peer, reason="no Pong came")
                self.transport.abort()
                return
            wait_ms = min(left_ms, streams.ping_ms)  # it may be heard soon, and fall silent again
        self._timer = streams.gateway.scheduler.after(wait_ms, self._look)

    # -- the end --------------------------------------------------------------------------------

    def _leave(self, most_ms: int) -> None:
        """Take no more; close when everything is answered, or after `most_ms`."""
        self._leaving = True
        self._stop(False)  # to see the client go
        scheduler = self._streams.gateway.scheduler
        scheduler.cancel(self._timer)
        self._timer = scheduler.after(most_ms, self._close)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if not self._unanswered:
            self._close()

    def _abort(self, text: str, bad_csm_option: int = 0) -> None:
        """Say what is wrong and close (RFC 8323, 5.6)."""
        if self._closing:
            return
        options: tuple[Option, ...] = ()
        if 0 < bad_csm_option <= OPTION_MAX:
            options = ((BAD_CSM_OPTION, uint_bytes(bad_csm_option)),)
        self.link.send(ABORT, b"", options, text.encode())
        log.info("connection closed", door="coap", peer=self.link.peer, reason=text)
        self._close()

    def _close(self) -> None:
        if not self._closing:
            self._end()
            self.transport.close()

    def _end(self) -> None:
        self._closing = True
        self.link.closed = True
        self._streams.gateway.scheduler.cancel(self._timer)


_SIGNALS: Final[dict[int, Callable[[StreamConnection, Packet, Signal], None]]] = {
    CSM: StreamConnection._on_csm,
    PING: StreamConnection._on_ping,
    PONG: StreamConnection._on_pong,
    RELEASE: StreamConnection._on_release,
    ABORT: StreamConnection._on_abort,
}
