"""A connection over TCP or WebSocket: what it says to what it hears. Fakes on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.protocols.coap.clients import WAITING_MAX
from gateway.protocols.coap.codec import Option, OptionsCache, Packet, split_options
from gateway.protocols.coap.exchange import Link, Request, Response
from gateway.protocols.coap.numbers import (
    ABORT,
    BAD_OPTION,
    BAD_REQUEST,
    CHANGED,
    CONTENT,
    CSM,
    EMPTY,
    GET,
    HOP_LIMIT,
    INTERNAL_SERVER_ERROR,
    NO_RESPONSE,
    OBSERVE,
    PING,
    PONG,
    PROXY_URI,
    PROXYING_NOT_SUPPORTED,
    PUT,
    RELEASE,
    URI_PATH,
)
from gateway.protocols.coap.streams.stream import (
    PONG_MS,
    RELEASE_MS,
    REQUESTS_MAX,
    StreamConnection,
    Streams,
)
from gateway.protocols.coap.streams.stream_codec import FrameDecoder, encode_frame, encode_message
from gateway.protocols.coap.streams.stream_link import WRITTEN_BYTES_MAX, StreamLink
from gateway.testing import FakeTransport, TestGateway

SIZE_MAX = 1 << 20
LIMITS = SimpleNamespace(packet_bytes_max=SIZE_MAX, body_bytes_max=SIZE_MAX // 2)
CSM_FRAME = bytes.fromhex("00e1")


class Handler:
    """Keeps requests; answers at once if told to."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Response] | None = None
        self.links_gone: list[Link] = []
        self.known = True

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        if self.known:
            request.link.client = cast(Any, self)  # whose they are is known at once
        if self.answer is not None:
            request.respond(self.answer(request))

    def reset(self, link: Link, token: bytes) -> None:
        raise AssertionError("there is no RST over TCP")

    def gone(self, link: Link) -> None:
        self.links_gone.append(link)


class Client:
    """A client of one connection: what it sends and what it got."""

    def __init__(self, gateway: TestGateway, streams: Streams, whole: bool = False) -> None:
        self.gateway = gateway
        self.transport = FakeTransport()
        self.connection: StreamConnection = streams.connect(self.transport, whole)
        self._decoder = FrameDecoder(1 << 30)

    @property
    def link(self) -> StreamLink:
        return self.connection.link

    def send(self, code: int, token: bytes = b"", *options: Option, payload: bytes = b"") -> None:
        self.raw(encode_frame(code, token, options, payload))

    def raw(self, data: bytes) -> None:
        if not self.transport.closed:
            self.connection.receive(data)

    def begin(self, *options: Option) -> Client:
        self.send(CSM, b"", *options)
        assert [packet.code for packet in self.got()] == [CSM]
        return self

    def got(self) -> list[Packet]:
        """Return what was written since the last call, before anything else goes on."""
        self._decoder.feed(bytes(self.transport.written))
        self.transport.written.clear()
        found: list[Packet] = []
        while (packet := self._decoder.next()) is not None:
            found.append(packet)
        assert self._decoder.error is None
        return found

    def settle(self) -> list[Packet]:
        """Let turns go by until nothing moves; return what was written."""
        self.gateway.settle()
        assert not self.gateway.errors
        return self.got()

    def pass_ms(self, ms: int) -> list[Packet]:
        clock = self.gateway.clock
        clock.set(clock.now_ms + ms, clock.monotonic_ms + ms)
        self.gateway.scheduler.run_due()
        return self.settle()


class Bench:
    """A gateway, a handler, and connections of both."""

    def __init__(self) -> None:
        self.gateway = TestGateway()
        self.handler = Handler()
        self.streams = Streams(self.gateway, self.handler, OptionsCache(), LIMITS, 60.0)

    def client(self, whole: bool = False) -> Client:
        return Client(self.gateway, self.streams, whole)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gateway.close()


def facts(packets: list[Packet]) -> list[tuple[int, bytes, bytes]]:
    return [(packet.code, packet.token, packet.payload) for packet in packets]


def same(payload: bytes = b"") -> Callable[[Request], Response]:
    return lambda request: Response(CONTENT, payload or request.payload)


def the_abort(client: Client) -> tuple[str, dict[int, bytes]]:
    """Return why the connection was aborted."""
    packet = client.got()[-1]
    assert packet.code == ABORT
    assert client.transport.closed
    return packet.payload.decode(), dict(split_options(packet.block))


# -- the beginning ------------------------------------------------------------------------------


def test_the_gateway_says_what_it_takes(bench: Bench) -> None:
    client = bench.client()
    (csm,) = client.got()
    assert split_options(csm.block) == [(2, b"\x10\x00\x00"), (4, b"")]
    assert not client.transport.is_established
    client.raw(CSM_FRAME)
    assert client.transport.is_established
    assert client.got() == []
    whole = bench.client(whole=True)
    assert bytes(whole.transport.written) == bytes.fromhex("00e1 23080000 20")  # Len is 0 there


@pytest.mark.parametrize(
    ("options", "size_max", "bert"),
    [
        ((), 1024, False),
        (((4, b""),), 1024, False),  # blocks, and 1152 bytes: no BERT (RFC 8323, 5.3.2)
        (((2, b"\x04\x80"), (4, b"")), 1024, False),
        (((2, b"\x04\x81"), (4, b"")), 1025, True),
        (((2, b"\x10\x00\x00"),), (1 << 20) - 128, False),
        (((2, b"\x10\x00\x00"), (4, b"")), (1 << 20) - 128, True),
        (((2, b"\x40"),), 32, False),
        (((2, b"\x10\x00\x00"), (2, b"\x40")), (1 << 20) - 128, False),  # said twice: the first counts
        (((2, b"\x00" * 5), (4, b"x")), 1024, False),  # of a wrong length: as if unknown
        (((6, b"\x01"), (2, b"\x10\x00")), 4096 - 128, False),  # an elective option that nobody knows
    ],
)
def test_what_the_client_takes(bench: Bench, options: tuple[Option, ...], size_max: int, bert: bool) -> None:
    client = bench.client().begin(*options)
    assert (client.link.size_max, client.link.bert) == (size_max, bert)
    assert client.link.reliable


def test_more_csms_change_only_what_they_say(bench: Bench) -> None:
    client = bench.client().begin((2, b"\x10\x00\x00"), (4, b""))
    client.send(CSM)
    assert client.link.bert
    client.send(CSM, b"", (2, b"\x04\x80"))
    assert not client.link.bert
    client.send(CSM, b"", (2, b"\x20\x00"))
    assert client.link.bert
    assert client.link.size_max == 8192 - 128
    assert client.got() == []


def test_tls_shows_in_the_link(bench: Bench) -> None:
    transport = FakeTransport()
    transport.secure = True
    link = bench.streams.connect(transport).link
    assert link.secure
    assert link.reliable
    assert not bench.client().link.secure


# -- requests -----------------------------------------------------------------------------------


def test_answers_in_any_order(bench: Bench) -> None:
    client = bench.client().begin()
    client.raw(b"".join(encode_frame(GET, bytes((n,)), ((URI_PATH, b"t"),), b"") for n in range(3)))
    first, second, third = bench.handler.requests
    assert first.options.path == ("t",)
    assert first.confirmable
    third.respond(Response(CONTENT, b"3"))
    first.respond(Response(CONTENT, b"1", ((OBSERVE, b""),)))
    assert facts(client.got()) == [(CONTENT, b"\x02", b"3"), (CONTENT, b"\x00", b"1")]
    second.respond(Response())
    assert facts(client.got()) == [(CHANGED, b"\x01", b"")]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (((9999, b""),), BAD_OPTION),
        (((OBSERVE, b"1234"),), CONTENT),  # an elective option of a wrong length
        (((PROXY_URI, b"coap://elsewhere"),), PROXYING_NOT_SUPPORTED),
        (((URI_PATH, b"\xff"),), BAD_REQUEST),
        (((HOP_LIMIT, b"\0"),), BAD_REQUEST),
    ],
)
def test_options_are_checked_as_over_udp(bench: Bench, options: tuple[Option, ...], code: int) -> None:
    bench.handler.answer = same()
    client = bench.client().begin()
    client.send(GET, b"t", *options)
    assert [(packet.code, packet.token) for packet in client.got()] == [(code, b"t")]
    assert len(bench.handler.requests) == (code == CONTENT)


def test_answers_that_nobody_wants_are_not_sent(bench: Bench) -> None:
    bench.handler.answer = same(b"ok")
    client = bench.client().begin()
    client.send(GET, b"1", (NO_RESPONSE, b"\x02"))  # RFC 7967: none of class 2
    client.send(GET, b"2", (NO_RESPONSE, b"\x08"))  # none of class 4
    assert facts(client.got()) == [(CONTENT, b"2", b"ok")]
    bench.handler.answer = None
    client.send(GET, b"3", (NO_RESPONSE, b"\x1a"))
    client.send(PING, b"p", (2, b""))
    assert client.got() == []
    bench.handler.requests[-1].respond(Response())
    assert facts(client.got()) == [(PONG, b"p", b"")]


def test_what_is_ignored(bench: Bench) -> None:
    client = bench.client().begin()
    client.send(EMPTY)
    client.send(CONTENT, b"nobody")
    client.send(PONG, b"")
    client.send(PING, b"p", (20, b"elective"))
    assert facts(client.got()) == [(PONG, b"p", b"")]
    assert not bench.handler.requests


def test_byte_by_byte(bench: Bench) -> None:
    bench.handler.answer = same()
    client = bench.client()
    client.got()
    stream = CSM_FRAME + encode_frame(PUT, b"a", (), b"x" * 300) + encode_frame(PING, b"b", (), b"")
    for byte in stream:
        client.raw(bytes((byte,)))
    assert facts(client.got()) == [(CONTENT, b"a", b"x" * 300), (PONG, b"b", b"")]


def test_websocket_messages(bench: Bench) -> None:
    bench.handler.answer = same()
    client = bench.client(whole=True)
    client.transport.written.clear()
    client.raw(encode_message(CSM, b"", (), b""))
    client.raw(encode_message(PUT, b"a", (), b"x" * 300))
    assert bytes(client.transport.written) == b"\x01\x45a\xff" + b"x" * 300


def test_too_many_requests_are_not_read(bench: Bench) -> None:
    client = bench.client().begin()
    request = encode_frame(GET, b"", (), b"")
    client.raw(request * (REQUESTS_MAX + 5))
    assert len(bench.handler.requests) == REQUESTS_MAX
    assert not client.transport.reading
    bench.handler.requests[0].respond(Response())
    assert len(client.settle()) == 1
    assert len(bench.handler.requests) == REQUESTS_MAX + 1
    assert not client.transport.reading
    for waiting in bench.handler.requests[1:5]:
        waiting.respond(Response())
    client.settle()
    assert len(bench.handler.requests) == REQUESTS_MAX + 5
    for waiting in bench.handler.requests[5:7]:
        waiting.respond(Response())
    client.settle()
    assert client.transport.reading


def test_requests_of_nobody_known_yet(bench: Bench) -> None:
    """While a login is checked, no more are taken than may wait for it."""
    bench.handler.known = False
    client = bench.client().begin()
    client.raw(encode_frame(GET, b"", (), b"") * 200)
    assert len(bench.handler.requests) == WAITING_MAX
    assert not client.transport.reading
    bench.handler.known = True
    client.link.client = cast(Any, bench)
    bench.handler.requests[0].respond(Response())
    client.settle()
    assert len(bench.handler.requests) == 200
    assert client.transport.reading


def test_large_answers_wait_for_the_socket(bench: Bench) -> None:
    """A thousand requests for a large value do not become a thousand large answers at once."""
    bench.handler.answer = same(b"v" * 100_000)
    client = bench.client().begin((2, b"\x10\x00\x00"))
    client.raw(encode_frame(GET, b"", (), b"") * 50)
    assert len(client.got()) == 3 == len(bench.handler.requests)
    assert not client.transport.reading
    client.connection.congested(True)  # the socket has taken what it takes
    assert client.settle() == []
    client.connection.congested(False)
    assert len(client.settle()) == 47
    assert client.transport.reading


def test_an_answer_that_the_client_does_not_take(bench: Bench) -> None:
    bench.handler.answer = same(b"v" * 2000)
    client = bench.client().begin()
    client.send(GET, b"t")
    (packet,) = client.got()
    assert (packet.code, packet.token) == (INTERNAL_SERVER_ERROR, b"t")
    assert b"Max-Message-Size" in packet.payload
    small = bench.client().begin((2, b"\x40"))
    small.send(GET, b"t")
    assert facts(small.got()) == [(INTERNAL_SERVER_ERROR, b"t", b"")]


# -- signalling ---------------------------------------------------------------------------------


def test_custody_waits_for_what_came_before(bench: Bench) -> None:
    client = bench.client().begin()
    client.send(PING, b"0", (2, b""))
    assert [(packet.code, packet.block) for packet in client.got()] == [(PONG, b"\x20")]
    client.send(GET, b"a")
    client.send(GET, b"b")
    client.send(PING, b"1", (2, b""))
    client.send(GET, b"c")
    client.send(PING, b"2", (2, b""))
    client.send(PING, b"3")
    assert facts(client.got()) == [(PONG, b"3", b"")]
    a, b, c = bench.handler.requests
    c.respond(Response())
    b.respond(Response())
    assert facts(client.got()) == [(CHANGED, b"c", b""), (CHANGED, b"b", b"")]
    a.respond(Response())
    assert facts(client.got()) == [(CHANGED, b"a", b""), (PONG, b"1", b""), (PONG, b"2", b"")]


def test_pings_that_wait_are_counted(bench: Bench) -> None:
    client = bench.client().begin()
    client.send(GET, b"a")
    client.raw(encode_frame(PING, b"", ((2, b""),), b"") * (REQUESTS_MAX + 5))
    assert not client.transport.reading
    bench.handler.requests[0].respond(Response())
    assert len(client.settle()) == 1 + REQUESTS_MAX + 5
    assert client.transport.reading


def test_release_lets_requests_be_answered(bench: Bench) -> None:
    client = bench.client().begin()
    client.send(GET, b"a")
    client.raw(encode_frame(RELEASE, b"", ((4, b"\x05"),), b"bye") + encode_frame(GET, b"b", (), b""))
    client.send(GET, b"c")
    assert not client.transport.closed
    (request,) = bench.handler.requests
    request.respond(Response())
    assert facts(client.got()) == [(CHANGED, b"a", b"")]
    assert client.transport.closed


def test_release_with_nothing_to_wait_for_closes(bench: Bench) -> None:
    client = bench.client().begin()
    client.send(RELEASE)
    assert client.transport.closed


def test_release_does_not_wait_for_ever(bench: Bench) -> None:
    client = bench.client().begin()
    client.send(GET, b"a")
    client.send(RELEASE)
    client.pass_ms(RELEASE_MS - 1)
    assert not client.transport.closed
    client.pass_ms(1)
    assert client.transport.closed
    bench.handler.requests[0].respond(Response())  # nobody is there: that is no bug
    assert client.settle() == []


def test_the_clients_abort(bench: Bench) -> None:
    client = bench.client().begin()
    client.raw(encode_frame(ABORT, b"", ((9, b""),), b"\xff broken") + encode_frame(GET, b"", (), b""))
    assert client.got() == []
    assert client.transport.closed
    assert not bench.handler.requests
    early = bench.client()
    early.got()
    early.send(ABORT)
    assert early.got() == []
    assert early.transport.closed


BAD = [
    ("no csm", b"\x00\x01", "must be a CSM (7.01), not 0.01", {}),
    ("ping before csm", b"\x00\xe2", "must be a CSM (7.01), not 7.02", {}),
    ("critical csm option", b"\x10\xe1\x10", "option 1 of 7.01 is critical", {2: b"\x01"}),
    ("useless size", b"\x20\xe1\x21\x3f", "Max-Message-Size is 63", {2: b"\x02"}),
    ("a size of nothing", b"\x10\xe1\x20", "Max-Message-Size is 0", {2: b"\x02"}),
    ("critical ping option", CSM_FRAME + b"\x10\xe2\x30", "option 3 of 7.02 is critical", {}),
    ("critical release option", CSM_FRAME + b"\x10\xe4\x10", "option 1 of 7.04 is critical", {}),
    ("unknown signal", CSM_FRAME + b"\x00\xe6", "signalling code 7.06 is unknown", {}),
    ("reserved class 1", CSM_FRAME + b"\x00\x21", "1.01 is of a reserved class", {}),
    ("reserved class 6", CSM_FRAME + b"\x00\xc1", "6.01 is of a reserved class", {}),
    ("token of 9", CSM_FRAME + b"\x09\x01123456789", "a token of 9 bytes", {}),
    ("too long", CSM_FRAME + b"\xf0\x00\x10\x00\x00\x03", "1048576 at most", {}),
    ("bad options", CSM_FRAME + b"\x10\x01\xf0", "options that do not end", {}),
]


@pytest.mark.parametrize(("data", "text", "options"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_told_why(bench: Bench, data: bytes, text: str, options: dict[int, bytes]) -> None:
    for pieces in ([data], [bytes((byte,)) for byte in data]):
        client = bench.client()
        for piece in [*pieces, encode_frame(GET, b"", (), b"")]:
            client.raw(piece)
        why, said = the_abort(client)
        assert text in why
        assert said == options
    assert not bench.handler.requests


def test_what_came_before_a_mistake_is_answered(bench: Bench) -> None:
    bench.handler.answer = same(b"ok")
    client = bench.client().begin()
    client.raw(encode_frame(GET, b"a", (), b"") + b"\x0f")
    assert [packet.code for packet in client.got()] == [CONTENT, ABORT]


def test_a_websocket_message_with_a_length(bench: Bench) -> None:
    client = bench.client(whole=True)
    client.raw(encode_message(CSM, b"", (), b""))
    client.transport.written.clear()
    client.raw(encode_frame(GET, b"", ((URI_PATH, b"t"),), b""))
    assert b"Len is 2; over WebSocket it must be 0" in bytes(client.transport.written)
    assert client.transport.closed


def test_drain_says_release(bench: Bench) -> None:
    idle, busy, early = bench.client().begin(), bench.client().begin(), bench.client()
    busy.send(PUT, b"p")
    early.got()
    for client in (idle, busy, early):
        client.connection.drain()
        assert [packet.code for packet in client.got()] == [RELEASE]
    assert idle.transport.closed
    assert early.transport.closed
    assert not busy.transport.closed
    bench.handler.requests[0].respond(Response())
    assert facts(busy.got()) == [(CHANGED, b"p", b"")]
    assert busy.transport.closed


# -- notifications ------------------------------------------------------------------------------


class Observer:
    """Sends one notification after the other, as an observation does."""

    def __init__(self, link: StreamLink, token: bytes, size: int = 10) -> None:
        self.link, self.token, self.size = link, token, size
        self.told: list[bool] = []
        self.left = 0
        self._inside = False

    def notify(self) -> None:
        self._inside = True
        self.link.notify(self.token, Response(CONTENT, b"v" * self.size), True, self._done)
        self._inside = False

    def _done(self, sent: bool) -> None:
        assert not self._inside, "never before notify has returned"
        self.told.append(sent)
        if sent and self.left:
            self.left -= 1
            self.notify()


def test_a_notification_is_done_in_a_later_turn(bench: Bench) -> None:
    client = bench.client().begin()
    observer = Observer(client.link, b"o")
    observer.left = 2
    observer.notify()
    assert facts(client.got()) == [(CONTENT, b"o", b"v" * 10)]
    assert observer.told == []
    assert len(client.settle()) == 2
    assert observer.told == [True, True, True]


def test_a_client_that_does_not_read_gets_no_more(bench: Bench) -> None:
    client = bench.client().begin()
    client.connection.congested(True)
    assert not client.transport.reading
    observers = [Observer(client.link, bytes((n,))) for n in range(3)]
    for observer in observers:
        observer.notify()
    assert client.settle() == []
    client.connection.congested(False)
    assert [packet.token for packet in client.settle()] == [b"\x00", b"\x01", b"\x02"]
    assert all(observer.told == [True] for observer in observers)
    assert client.transport.reading


def test_done_waits_until_the_client_reads(bench: Bench) -> None:
    client = bench.client().begin()
    observer = Observer(client.link, b"o")
    observer.notify()
    client.connection.congested(True)  # by what was just written
    assert len(client.settle()) == 1
    assert observer.told == []
    client.connection.congested(False)
    client.settle()
    assert observer.told == [True]


def test_many_large_notifications_wait_for_the_socket(bench: Bench) -> None:
    client = bench.client().begin((2, b"\x10\x00\x00"))
    observers = [Observer(client.link, bytes((n,)), 100_000) for n in range(20)]
    for observer in observers:
        observer.notify()
    assert len(client.transport.written) <= WRITTEN_BYTES_MAX + 101_000
    assert [packet.token for packet in client.settle()] == [bytes((n,)) for n in range(20)]
    assert all(observer.told == [True] for observer in observers)


def test_requests_go_on_while_notifications_wait(bench: Bench) -> None:
    bench.handler.answer = same(b"ok")
    client = bench.client().begin((2, b"\x10\x00\x00"))
    for n in range(20):
        Observer(client.link, bytes((n,)), 100_000).notify()
    client.got()
    client.send(GET, b"now")
    assert facts(client.got()) == [(CONTENT, b"now", b"ok")]


def test_an_observation_that_is_given_up(bench: Bench) -> None:
    client = bench.client().begin()
    written, waiting = Observer(client.link, b"a"), Observer(client.link, b"b")
    written.notify()
    client.connection.congested(True)
    waiting.notify()
    client.link.drop_pending(b"a")
    client.link.drop_pending(b"b")
    client.connection.congested(False)
    assert [packet.token for packet in client.settle()] == [b"a"]
    assert written.told == waiting.told == []


def test_given_up_while_others_are_told(bench: Bench) -> None:
    """One observer's end may be another's: what was dropped meanwhile is told nothing."""
    client = bench.client().begin()
    told: list[bool] = []
    client.link.notify(b"a", Response(CONTENT), False, lambda sent: client.link.drop_pending(b"b"))
    client.link.notify(b"b", Response(CONTENT), False, told.append)
    client.settle()
    assert told == []


@pytest.mark.parametrize("congested", [False, True])
def test_a_client_that_is_gone(bench: Bench, congested: bool) -> None:
    client = bench.client().begin()
    client.connection.congested(congested)
    observer = Observer(client.link, b"o")
    observer.notify()
    client.send(GET, b"a")
    assert client.link.open
    client.got()
    client.connection.closed(None)
    assert observer.told == [False]
    assert bench.handler.links_gone == [client.link]
    assert not client.link.open
    client.settle()
    assert observer.told == [False]
    for request in bench.handler.requests:
        request.respond(Response())
    assert client.got() == []


def test_notified_after_it_was_aborted(bench: Bench) -> None:
    client = bench.client().begin()
    client.raw(b"\x0f")
    observer = Observer(client.link, b"o")
    observer.notify()
    assert observer.told == []
    client.settle()
    assert observer.told == [False]


def test_a_bug_in_one_connection_is_not_anothers(bench: Bench) -> None:
    broken, fine = bench.client().begin(), bench.client().begin()
    broken.link.notify(b"a", Response(CONTENT), False, lambda sent: 1 // 0)  # type: ignore[arg-type]
    observer = Observer(fine.link, b"o")
    observer.notify()
    bench.gateway.settle()
    assert broken.transport.closed
    assert observer.told == [True]


# -- silence ------------------------------------------------------------------------------------


def test_a_silent_observer_is_asked_and_cut_off(bench: Bench) -> None:
    client = bench.client().begin()
    client.send(GET, b"o", (OBSERVE, b""))
    bench.handler.requests[0].respond(Response(CONTENT, b"1", ((OBSERVE, b""),)))
    client.got()
    assert client.pass_ms(59_000) == []
    client.send(EMPTY)  # it is there
    assert client.pass_ms(59_000) == []
    assert facts(client.pass_ms(1000)) == [(PING, b"", b"")]
    client.send(PONG)
    assert client.pass_ms(59_000) == []
    assert facts(client.pass_ms(1000)) == [(PING, b"", b"")]
    assert client.pass_ms(PONG_MS - 1) == []
    assert not client.transport.closed
    client.pass_ms(1)
    assert client.transport.closed


def test_nobody_else_is_asked(bench: Bench) -> None:
    client = bench.client().begin()
    client.send(GET, b"o")
    client.got()
    assert client.pass_ms(10_000_000) == []
    assert not client.transport.closed


def test_a_client_that_is_not_read_is_not_blamed(bench: Bench) -> None:
    client = bench.client().begin()
    client.raw(encode_frame(GET, b"", ((OBSERVE, b""),), b"") * REQUESTS_MAX)
    client.send(GET, b"more")
    assert not client.transport.reading
    for _ in range(5):
        assert client.pass_ms(61_000) == []
    assert not client.transport.closed
