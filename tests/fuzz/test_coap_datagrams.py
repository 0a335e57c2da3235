"""Any datagrams, from several addresses, with time passing: no error escapes, little is sent and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.coap import Coap
from gateway.protocols.coap.blockwise import block
from gateway.protocols.coap.codec import Malformed, Packet, decode, empty, encode, read_options
from gateway.protocols.coap.datagrams.guard import AMPLIFICATION_MAX, SMALL_BYTES
from gateway.protocols.coap.datagrams.messages import MessageLayer, Peer
from gateway.protocols.coap.numbers import (
    ACK,
    BLOCK1,
    BLOCK2,
    CON,
    EMPTY,
    METHODS,
    NON,
    OPTIONS,
    RST,
    URI_PATH,
    URI_QUERY,
    code_name,
    uint_bytes,
)
from gateway.settings import Coap as CoapSettings
from gateway.settings import Limits
from gateway.testing import TestGateway

BODY_BYTES_MAX = 4096
PEERS = 3


class World:
    """The door without its socket, two strangers and somebody who has proven an address."""

    def __init__(self) -> None:
        self.gateway = TestGateway()
        settings = CoapSettings(trusted_networks=[], requests_per_second_max=0)
        self.door = Coap(SimpleNamespace(coap=settings, limits=Limits(body_bytes_max=BODY_BYTES_MAX)))
        self.door.start(self.gateway)
        self.sent: list[tuple[bytes, object]] = []
        self.peers = [self.peer(self.door.layer, number) for number in range(PEERS)]
        self.peers[0].proven = True

    def peer(self, layer: MessageLayer, number: int) -> Peer:
        name = f"192.0.2.{number}:5683"
        return Peer(self, name, name, layer, False)

    def send(self, data: bytes, address: object) -> None:
        """Take what the layer sends. Implements `messages.Wire`."""
        self.sent.append((data, address))

    def pass_ms(self, passed: int) -> None:
        clock = self.gateway.clock
        clock.set(clock.wall_ms + passed, clock.monotonic_ms + passed)
        self.gateway.scheduler.run_due()
        self.door.layer.forget_old(clock.monotonic_ms)

    def take(self, number: int, data: bytes) -> list[bytes]:
        """Hand in a datagram; return what is sent to its peer because of it."""
        self.sent.clear()
        self.door.layer.receive(self.peers[number], data)
        self.gateway.settle()
        assert self.gateway.errors == []
        assert all(address == self.peers[number].address for _, address in self.sent)
        return [data for data, _ in self.sent]


@contextmanager
def worlds() -> Iterator[World]:
    world = World()
    try:
        yield world
    finally:
        world.gateway.close()


PATHS = ("ps/a", "ps/b/c", "ps", "", "queues/q", ".well-known/core", "ps/#")
QUERIES = (b"qos=1", b"retain=1", b"ttl=9", b"ttl=x", b"delay=1s", b"key=k", b"ttd=1", b"client=c", b"\xff")
paths = st.sampled_from([[word.encode() for word in path.split("/")] for path in PATHS])
queries = st.sampled_from(QUERIES)
values = st.one_of(st.binary(max_size=9), st.integers(0, 0xFFFFFF).map(uint_bytes))
blocks = st.builds(block, st.integers(0, 4), st.booleans(), st.integers(0, 7))
options = st.one_of(
    st.tuples(st.sampled_from(sorted(OPTIONS)), values),
    st.tuples(st.integers(0, 65_535), values),
    st.tuples(st.sampled_from([BLOCK1, BLOCK2]), blocks),
    st.tuples(st.just(URI_QUERY), queries),
)
codes = st.one_of(st.sampled_from(sorted(METHODS)), st.integers(0, 255))
sizes = st.sampled_from([0, 1, 16, 64, 1024, 1025, 5000])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Return a message that is well-formed, whatever it says; sometimes with a fault in it."""
    found = [(URI_PATH, segment) for segment in draw(paths)] + draw(st.lists(options, max_size=4))
    data = encode(
        draw(st.sampled_from([CON, CON, CON, NON, ACK, RST])),
        draw(codes),
        draw(st.integers(0, 8)),
        draw(st.binary(max_size=8)),
        found,
        b"x" * draw(sizes),
    )
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 2)) :]
    return data


datagrams = st.one_of(messages(), messages(), messages(), st.binary(max_size=40))
steps = st.lists(
    st.tuples(st.integers(0, PEERS - 1), datagrams, st.sampled_from([0, 0, 0, 10, 3000, 300_000])),
    max_size=25,
)


@given(steps)
def test_any_datagrams(taken: list[tuple[int, bytes, int]]) -> None:
    with worlds() as world:
        for number, data, passed_ms in taken:
            answers = world.take(number, data)
            check_answers(data, answers, world.peers[number].proven)
            check_memory(world)
            world.pass_ms(passed_ms)
        for _ in range(5):
            world.pass_ms(300_000)
        blockwise = world.door.blockwise
        assert blockwise.uploads.bytes == blockwise.downloads.bytes == 0
        for peer in world.peers:
            world.door.layer.gone(peer)
            assert not peer.busy


def check_answers(data: bytes, answers: list[bytes], proven: bool) -> None:
    """See that what is sent is well-formed, of the right kind, not too much, and no bug of ours."""
    # An observation may be answered and notified at once; nothing else is said more than once.
    assert len(answers) <= 2
    asked = message_of(data)
    if isinstance(asked, Malformed):
        assert answers == ([empty(RST, asked.mid)] if asked.kind == CON else [])
        return
    for answer in answers:
        packet = decode(answer)
        read_options(packet.block)
        assert code_name(packet.code) != "5.00"
        assert asked.kind in (CON, NON)
        if packet.kind in (ACK, RST):
            assert packet.mid == asked.mid
            assert asked.kind == CON
        if packet.code != EMPTY:
            assert packet.token == asked.token or asked.code == EMPTY
        if not proven:
            assert len(answer) <= max(SMALL_BYTES, AMPLIFICATION_MAX * len(data))


def message_of(data: bytes) -> Packet | Malformed:
    """Return what a datagram says, or why it says nothing."""
    try:
        return decode(data)
    except Malformed as error:
        return error


def check_memory(world: World) -> None:
    """See that what is kept is counted, and no more than is allowed."""
    blockwise = world.door.blockwise
    for store in (blockwise.uploads, blockwise.downloads):
        assert 0 <= store.bytes <= store.bytes_max
        assert len(store) <= 16 * PEERS
    for peer in world.peers:
        assert peer.queued is None or len(peer.queued) <= 1000
