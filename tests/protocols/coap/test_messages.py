"""The message layer (RFC 7252, 4) with a clock that the test sets: acknowledgements, repetition, NSTART."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from gateway.protocols.coap.codec import Packet, decode, empty, encode
from gateway.protocols.coap.datagrams import messages
from gateway.protocols.coap.datagrams.guard import Guard
from gateway.protocols.coap.datagrams.messages import MessageLayer, Peer
from gateway.protocols.coap.exchange import Request, Response
from gateway.protocols.coap.numbers import ACK, CON, CONTENT, EMPTY, GET, NON, POST, RST, URI_PATH
from gateway.testing import TestGateway
from tests.protocols.coap.worlds import Resource

PATH = [(URI_PATH, b"a")]


class Later(Resource):
    """A resource that answers when the test says so."""

    def handle(self, request: Request) -> None:
        self.requests.append(request)


class World:
    """A message layer, a peer, and what was sent to it. The clock stands still unless told."""

    def __init__(self, gateway: TestGateway) -> None:
        self.gateway = gateway
        self.resource = Later()
        self.layer = MessageLayer(gateway, self.resource, Guard(gateway.clock, [], 0))
        self.peer = Peer(self, "a", "192.0.2.1:1", self.layer, False)
        self.peer.proven = True
        self.sent: list[Packet] = []
        self.done: list[tuple[str, bool]] = []

    def send(self, data: bytes, address: object) -> None:
        self.sent.append(decode(data))

    def take(self) -> list[Packet]:
        found, self.sent = self.sent, []
        return found

    def receive(self, data: bytes) -> None:
        self.layer.receive(self.peer, data)

    def request(self, kind: int, mid: int, code: int = GET) -> Request:
        self.receive(encode(kind, code, mid, b"t", PATH, b""))
        return self.resource.requests[-1]

    def notify(self, name: str, confirmable: bool = True) -> None:
        self.layer.notify(
            self.peer,
            name.encode(),
            Response(CONTENT, name.encode()),
            confirmable,
            lambda arrived: self.done.append((name, arrived)),
        )

    def pass_ms(self, ms: int) -> None:
        """Let time go by, timer by timer."""
        clock, scheduler = self.gateway.clock, self.gateway.scheduler
        end = clock.monotonic_ms + ms
        while True:
            due = scheduler.next_due_ms()
            if due is None or due > end:
                break
            clock.monotonic_ms = max(clock.monotonic_ms, due)
            scheduler.run_due()
        clock.monotonic_ms = end


@pytest.fixture
def world() -> Iterator[World]:
    gateway = TestGateway()
    yield World(gateway)
    gateway.close()


# -- answers ----------------------------------------------------------------------------------


def test_an_answer_at_once_is_in_the_acknowledgement(world: World) -> None:
    world.request(CON, 7).respond(Response(CONTENT, b"x"))
    [packet] = world.take()
    assert (packet.kind, packet.mid, packet.token, packet.payload) == (ACK, 7, b"t", b"x")
    world.pass_ms(100_000)
    assert world.take() == [], "nothing more"


def test_an_answer_that_takes_time_comes_by_itself(world: World) -> None:
    request = world.request(CON, 7)
    world.pass_ms(900)
    assert world.take() == []
    world.pass_ms(600)
    [packet] = world.take()
    assert (packet.kind, packet.code, packet.mid) == (ACK, EMPTY, 7)
    world.receive(encode(CON, GET, 7, b"t", PATH, b""))
    [packet] = world.take()
    assert (packet.kind, packet.code) == (ACK, EMPTY), "acknowledged again, asked once"
    assert len(world.resource.requests) == 1
    request.respond(Response(CONTENT, b"x"))
    [packet] = world.take()
    assert (packet.kind, packet.token, packet.payload) == (CON, b"t", b"x")
    world.pass_ms(3100)
    [again] = world.take()
    assert again.mid == packet.mid
    world.receive(empty(ACK, packet.mid))
    world.pass_ms(200_000)
    assert world.take() == []


def test_what_needs_no_acknowledgement_gets_none(world: World) -> None:
    request = world.request(NON, 7)
    world.pass_ms(10_000)
    assert world.take() == []
    request.respond(Response(CONTENT, b"x"))
    [packet] = world.take()
    assert (packet.kind, packet.token) == (NON, b"t")


def test_a_message_id_is_free_again_after_its_time(world: World) -> None:
    world.request(CON, 7, POST).respond(Response())
    world.request(CON, 7, POST)
    assert len(world.resource.requests) == 1
    world.pass_ms(messages.EXCHANGE_LIFETIME_MS)
    world.request(CON, 7, POST).respond(Response())
    assert len(world.resource.requests) == 2


def test_another_message_with_the_same_id_is_another_message(world: World) -> None:
    """Who sends more than 265 requests a second cannot do otherwise."""
    world.request(CON, 7).respond(Response())
    world.receive(encode(CON, GET, 7, b"u", PATH, b""))
    assert len(world.resource.requests) == 2


# -- notifications ----------------------------------------------------------------------------


def test_one_confirmable_message_at_a_time(world: World) -> None:
    for name in "abc":
        world.notify(name)
    [first] = world.take()
    assert first.payload == b"a"
    world.receive(empty(ACK, first.mid))
    [second] = world.take()
    assert (second.payload, world.done) == (b"b", [("a", True)])
    world.receive(empty(RST, second.mid))
    [third] = world.take()
    assert (third.payload, world.done) == (b"c", [("a", True), ("b", False)])


def test_repetition_backs_off_and_ends(world: World) -> None:
    world.notify("a")
    times = []
    start = world.gateway.clock.monotonic_ms
    world.take()
    for _ in range(100):
        world.pass_ms(1000)
        times += [world.gateway.clock.monotonic_ms - start for _ in world.take()]
    assert len(times) == messages.MAX_RETRANSMIT
    gaps = [after - before for before, after in pairwise(times)]
    assert all(1.5 < after / before < 2.6 for before, after in pairwise(gaps)), times
    assert 2000 <= times[0] <= 4000
    assert world.done == [("a", False)]


def test_an_acknowledgement_of_something_else_changes_nothing(world: World) -> None:
    world.notify("a")
    [packet] = world.take()
    for mid in (packet.mid ^ 1, packet.mid ^ 0x8000):
        world.receive(empty(ACK, mid))
        world.receive(empty(RST, mid))
    assert world.done == []
    world.receive(empty(ACK, packet.mid))
    world.receive(empty(ACK, packet.mid))
    assert world.done == [("a", True)]


def test_rst_of_one_that_was_not_confirmable(world: World) -> None:
    for n in range(messages.SENT_REMEMBERED_MAX + 1):
        world.notify(str(n), confirmable=False)
    sent = world.take()
    world.receive(empty(RST, sent[0].mid))
    assert world.resource.resets == [], "too long ago"
    world.receive(empty(RST, sent[-1].mid))
    world.receive(empty(RST, sent[-1].mid))
    assert world.resource.resets == [(world.peer, str(messages.SENT_REMEMBERED_MAX).encode())]
    assert world.done == []


def test_what_is_dropped_is_not_sent_again(world: World) -> None:
    for name in "aba":
        world.notify(name)
    world.take()
    world.peer.drop_pending(b"a")
    [packet] = world.take()
    assert packet.payload == b"b", "the next one's turn"
    world.receive(empty(ACK, packet.mid))
    world.pass_ms(200_000)
    assert world.take() == []
    assert world.done == [("b", True)]


def test_a_peer_that_goes_has_nothing_on_its_way(world: World) -> None:
    for name in "ab":
        world.notify(name)
    world.layer.gone(world.peer)
    assert world.done == [("a", False), ("b", False)]
    assert world.resource.left == [world.peer]
    world.take()
    world.pass_ms(200_000)
    assert world.take() == []


def test_what_waits_for_one_peer_is_bounded(world: World) -> None:
    for n in range(messages.QUEUED_MAX + 2):
        world.notify(str(n))
    assert world.done == []
    world.pass_ms(0)
    world.gateway.scheduler.run_due()
    assert world.done == [(str(messages.QUEUED_MAX + 1), False)]
