"""One ReceiveMessage whose client goes away at any moment: over a broker in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("grpc")

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.deadletter import home
from gateway.core.message import Message
from gateway.protocols.openmessaging.receiving.letters import LetterQueues, Letters
from gateway.protocols.openmessaging.receiving.poll import Poll, Terms
from gateway.protocols.openmessaging.receiving.sources import Share, Source
from gateway.rocketmq.schema import Resource
from gateway.storage.memory import MemoryEngine
from tests.core.test_session import NOW_MS, Client


class World:
    """A gateway as far as a poll knows it, and a client's call; `fails_at` is a write, from 0."""

    def __init__(self) -> None:
        self.clock = Clock(NOW_MS, 0)
        self.broker = Broker(MemoryEngine(), self.clock)
        self.broker.restore(lambda: None)
        self.session = Client(self.broker)
        self.client = object()
        self.written: list[Any] = []
        self.fails_at = -1
        self.stuck = asyncio.Event()

    def begin_turn(self) -> None:
        asyncio.get_running_loop().call_soon(self.broker.dispatch)

    async def write(self, response: Any) -> None:
        if len(self.written) == self.fails_at:
            self.stuck.set()
            await asyncio.Event().wait()
        self.written.append(response)

    def source(self) -> Source:
        share = Share("g", "t", None, lambda *_: False)
        share.open(self.session)
        return share

    def publish(self, *bodies: bytes) -> None:
        for body in bodies:
            self.session.publish(Message("t", body))

    async def begun(self) -> None:
        """Let a poll begin to wait."""
        await asyncio.sleep(0)
        assert self.session.consumers

    async def poll(self, source: Source, count: int = 32, wait: float = 0, renewed: bool = False) -> Any:
        """Run a poll; return (body, attempt) of each message of its answer."""
        self.written.clear()
        self.begin_turn()
        poll = Poll(self, source)  # type: ignore[arg-type]
        terms = Terms(Resource(name="t"), 0, count, wait, 60_000, 60_000, renewed)
        await poll.run(self, terms)  # type: ignore[arg-type]
        found = [one.message for one in self.written if one.WhichOneof("content") == "message"]
        return [(message.body, message.system_properties.delivery_attempt) for message in found]


@pytest.mark.parametrize(("fails_at", "second"), [(0, 1), (1, 1), (2, 2), (4, 2)])
async def test_a_client_that_goes_while_it_is_answered(fails_at: int, second: int) -> None:
    world = World()
    source = world.source()
    world.publish(b"1", b"2", b"3")
    world.fails_at = fails_at
    answering = asyncio.create_task(world.poll(source, renewed=True))
    await world.stuck.wait()
    assert len(world.broker.leases) == 3, "its acknowledgement may be faster than our last write"
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert len(world.broker.leases) == 0
    world.fails_at = -1
    again = await world.poll(source)
    assert [body for body, _ in again] == [b"1", b"2", b"3"]
    assert again[1][1] == second, "what it may have seen was an attempt, what it has not was none"


async def test_what_was_settled_while_it_was_written_stays_so() -> None:
    world = World()
    source = world.source()
    world.publish(b"1", b"2")
    world.fails_at = 2
    answering = asyncio.create_task(world.poll(source))
    await world.stuck.wait()
    first = world.written[1].message.system_properties.receipt_handle
    world.broker.settlement.acknowledge([world.broker.leases.take(first)])
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    world.fails_at = -1
    assert [body for body, _ in await world.poll(source)] == [b"2"]


async def test_a_client_that_goes_while_it_waits() -> None:
    world = World()
    source = world.source()
    waiting = asyncio.create_task(world.poll(source, wait=30))
    await world.begun()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not world.session.consumers
    world.publish(b"1")
    assert await world.poll(source) == [(b"1", 1)]


async def test_a_client_that_goes_when_the_first_has_come() -> None:
    world = World()
    source = world.source()
    waiting = asyncio.create_task(world.poll(source, wait=30))
    await world.begun()
    world.publish(b"1")
    world.broker.dispatch()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await world.poll(source) == [(b"1", 1)]


async def test_a_lease_that_is_renewed_is_over_some_day_or_with_its_client() -> None:
    world = World()
    source = world.source()
    world.publish(b"1")
    assert await world.poll(source, renewed=True) == [(b"1", 1)]
    assert await world.poll(source) == []
    world.clock.set(NOW_MS + 60_000, 60_000)
    world.broker.scheduler.run_due()
    assert await world.poll(source, renewed=True) == [(b"1", 2)]
    world.broker.leases.leave(object())
    assert await world.poll(source) == []
    world.broker.leases.leave(world.client)
    assert await world.poll(source) == [(b"1", 3)]


async def test_letters_of_several_queues_are_no_more_than_was_asked_for() -> None:
    world = World()
    queues = LetterQueues(world.broker.catalog)
    for name in ("$dead/$share/g/one", "$dead/$share/g/two", "$dead/$share/gg/three"):
        world.broker.letters.make(name)
        for number in range(3):
            world.broker.publish(Message(name, name[-3:].encode() + b"%d" % number), None)
    source = Letters("any", "%DLQ%g", "g", "", queues)
    first = await world.poll(source, count=4)
    second = await world.poll(source, count=4)
    assert sorted(first + second) == sorted(
        [(name + b"%d" % number, 1) for name in (b"one", b"two") for number in range(3)]
    )
    assert len(first) == 4


async def test_the_letters_of_a_group_are_found_by_name() -> None:
    world = World()
    queues = LetterQueues(world.broker.catalog)
    assert queues.of("g%1") == []
    world.broker.letters.make("$dead/$share/g%251/t")
    assert queues.of("g%1") == ["$dead/$share/g%251/t"]
    assert queues.of("g%1", "t") == []
    world.broker.letters.make("$dead/$share/g%251/ns/t")
    assert queues.of("g%1", "ns") == ["$dead/$share/g%251/ns/t"]
    assert len(queues.of("g%1")) == 2
    world.broker.queues.delete(world.broker.catalog.get("$dead/$share/g%251/ns/t"))
    long = "t" * 900
    Share("g%1", long, None, lambda *_: False).open(world.session)
    assert len(queues.of("g%1")) == 1
    world.broker.letters.make(hashed := home(f"$share/g%1/{long}"))
    assert queues.of("g%1") == sorted(["$dead/$share/g%251/t", hashed])
    world.broker.queues.delete(world.broker.catalog.get(hashed))
    assert queues.of("g%1") == ["$dead/$share/g%251/t"]
