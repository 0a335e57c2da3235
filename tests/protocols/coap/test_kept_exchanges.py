"""What is remembered of requests, for their duplicates, and of peers: bounded, whoever sends what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.protocols.coap.codec import decode, encode
from gateway.protocols.coap.datagrams import messages, udp
from gateway.protocols.coap.datagrams.guard import Guard
from gateway.protocols.coap.datagrams.messages import MessageLayer, Peer
from gateway.protocols.coap.datagrams.udp import UdpSocket
from gateway.protocols.coap.exchange import Request, Response
from gateway.protocols.coap.numbers import CON, CONTENT, GET, POST, URI_PATH
from gateway.testing import TestGateway
from tests.protocols.coap.worlds import Resource

LARGE = b"x" * (messages.LARGE_BYTES + 1)


class World:
    """A message layer above which a resource is, and below which a list."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.resource = Resource()
        self.resource.answer = lambda request: Response(CONTENT, request.payload)
        self.layer = MessageLayer(gateway, self.resource, Guard(gateway.clock, [], 0))
        self.peer = Peer(self, "a", "192.0.2.1:1", self.layer, False)
        self.peer.proven = True
        self.sent: list[bytes] = []

    def send(self, data: bytes, address: object) -> None:
        self.sent.append(data)

    def ask(self, code: int, mid: int, payload: bytes = b"") -> int:
        """Send a request; return how many the resource has been asked by now."""
        self.layer.receive(self.peer, encode(CON, code, mid, b"t", [(URI_PATH, b"a")], payload))
        return len(self.resource.requests)


@pytest.fixture
def world() -> Iterator[World]:
    gateway = TestGateway()
    yield World(gateway)
    gateway.close()


def test_a_duplicate_is_answered_from_memory(world: World) -> None:
    for payload in (b"small", LARGE):
        asked = world.ask(POST, len(payload), payload)
        assert world.ask(POST, len(payload), payload) == asked
        assert world.sent[-1] == world.sent[-2]


def test_a_get_is_done_again(world: World) -> None:
    assert world.ask(GET, 1, LARGE) == 1
    assert world.ask(GET, 1, LARGE) == 2
    assert world.sent[0] == world.sent[1]
    assert not world.layer._exchanges
    assert not world.layer._arrivals


def test_large_answers_are_kept_up_to_a_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "LARGE_MAX", 2)
    for mid in (1, 2, 3):
        world.ask(POST, mid, LARGE)
    assert world.ask(POST, 2, LARGE) == world.ask(POST, 3, LARGE) == 3
    assert world.ask(POST, 1, LARGE) == 4


def test_exchanges_are_kept_up_to_a_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "EXCHANGES_MAX", 2)
    for mid in (1, 2, 3):
        world.ask(POST, mid)
    assert world.ask(POST, 2) == world.ask(POST, 3) == 3
    assert world.ask(POST, 1) == 4


def test_an_id_that_is_used_again_is_not_forgotten_with_its_first_use(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "EXCHANGES_MAX", 2)
    world.ask(POST, 1, b"first")
    world.ask(POST, 1, b"second")
    world.ask(POST, 2)
    assert world.ask(POST, 1, b"second") == 3


def test_what_is_answered_after_it_was_forgotten_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "EXCHANGES_MAX", 1)
    waiting: list[Request] = []
    handle: Any = waiting.append
    monkeypatch.setattr(world.resource, "handle", handle)
    world.ask(POST, 1)
    world.ask(POST, 2)
    waiting[0].respond(Response(CONTENT, b"late"))
    assert (decode(world.sent[0]).mid, decode(world.sent[0]).payload) == (1, b"late")


def test_all_is_forgotten_after_its_lifetime(world: World) -> None:
    world.ask(POST, 1, LARGE)
    world.ask(POST, 2)
    clock = world.gateway.clock
    world.layer.forget_old(clock.monotonic_ms + messages.EXCHANGE_LIFETIME_MS - 1)
    assert world.ask(POST, 1, LARGE) == 2
    world.layer.forget_old(clock.monotonic_ms + messages.EXCHANGE_LIFETIME_MS)
    assert world.ask(POST, 1, LARGE) == 3
    assert world.ask(POST, 2) == 4


def test_one_peer_too_many_replaces_an_idle_one(world: World) -> None:
    async def arrive() -> None:
        found: Any = UdpSocket(world.gateway, world.layer, 3)
        for number in range(1, 4):
            peer = found._arrived((f"192.0.2.{number}", 1))
            assert peer is not None
            peer.held = int(number == 1)
        assert found._arrived(("192.0.2.4", 1)) is not None
        assert {host for host, _ in found.peers} == {"192.0.2.1", "192.0.2.3", "192.0.2.4"}
        for peer in found.peers.values():
            peer.held = 1
        assert found._arrived(("192.0.2.5", 1)) is None
        assert found.lost == 1

    asyncio.run(arrive())
    assert [link.peer for link in world.resource.left] == ["192.0.2.2:1"]
    assert udp.LOOKED_AT_MAX > 3


def test_idle_peers_are_forgotten_some_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "SWEEP_PEERS", 2)

    async def sweep() -> None:
        found: Any = UdpSocket(world.gateway, world.layer, 10)
        clock = world.gateway.clock
        for number in range(5):
            found._arrived(("192.0.2.1", number)).last_ms = clock.monotonic_ms
        clock.monotonic_ms += udp.PEER_IDLE_MS - 1
        for _ in range(3):
            found._sweep()
        assert len(found.peers) == 5
        clock.monotonic_ms += 1
        found.peers[("192.0.2.1", 3)].held = 1
        found.peers[("192.0.2.1", 4)].last_ms = clock.monotonic_ms
        found._sweep()
        assert len(found.peers) == 5, "the last two stay"
        found._sweep()
        assert len(found.peers) == 3
        found._sweep()
        assert {port for _, port in found.peers} == {3, 4}

    asyncio.run(sweep())
    assert len(world.resource.left) == 3
