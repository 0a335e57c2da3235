"""Partial IVs: none is ever handed out twice, whatever is lost (RFC 8613, 7.2.1 and B.1.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from gateway.protocols.coap.exchange import Response
from gateway.protocols.coap.numbers import CONTENT, GET, OBSERVE
from gateway.protocols.coap.oscore import oscore_contexts
from gateway.protocols.coap.oscore.oscore_contexts import (
    CLOCK_AHEAD,
    CLOCK_EPOCH_MS,
    CLOCK_RATE,
    NUMBERS_BLOCK,
    NUMBERS_END,
    NUMBERS_KEY,
    RETRY_MS,
    Numbers,
    by_clock,
)
from gateway.storage.memory import MemoryEngine
from gateway.testing import TestGateway
from tests.protocols.coap.oscore_support import SECRET, Device, Inner, Talk, Users, make

START_MS = CLOCK_EPOCH_MS + 1_000_000  # when the test's clock begins: number 512,000


class SlowDisk(MemoryEngine):
    """Its disk answers when told to; `kept` is what a crash leaves."""

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        super().__init__()
        self.kept = dict(kept or {})
        for key, value in self.kept.items():
            self.put(key, value)
        self.waiting: list[Callable[[bool], None]] = []

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        self.waiting.append(call)

    def answer(self, stored: bool = True) -> None:
        if stored:
            self.kept = dict(self.scan(""))
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call(stored)


class Machine:
    """A gateway with such a disk; `crash` leaves what the disk has."""

    def __init__(self, engine: str = "commitlog") -> None:
        self.engine = engine
        self.gateways: list[TestGateway] = []
        self.start({})

    def start(self, kept: dict[str, bytes], wall_ms: int = START_MS) -> None:
        self.gateway = TestGateway()
        self.gateways.append(self.gateway)
        self.gateway.config = SimpleNamespace(storage=SimpleNamespace(engine=self.engine))
        self.gateway.clock.wall_ms = wall_ms
        self.disk = SlowDisk(kept)
        self.gateway.broker.engine = self.disk
        self.numbers = Numbers(self.gateway)

    def pass_time(self, ms: int) -> None:
        self.gateway.clock.wall_ms += ms
        self.gateway.clock.monotonic_ms += ms
        self.gateway.scheduler.run_due()

    def take(self, count: int) -> list[int]:
        """Ask for numbers; return the list they will come to."""
        taken: list[int] = []

        def note(number: bytes) -> None:
            taken.append(int.from_bytes(number, "big") if number else -1)

        for _ in range(count):
            assert self.numbers.take(note)
        return taken


@pytest.fixture
def machine() -> Iterator[Machine]:
    found = Machine()
    yield found
    for gateway in found.gateways:
        gateway.close()


def test_nothing_before_the_disk_has_noted_it(machine: Machine) -> None:
    taken = machine.take(3)
    assert taken == []
    machine.disk.answer()
    first = by_clock(START_MS)
    assert first == 1000 * CLOCK_RATE
    assert taken == [first, first + 1, first + 2]
    assert int.from_bytes(machine.disk.kept[NUMBERS_KEY], "big") == first + NUMBERS_BLOCK


def test_one_write_is_enough_for_many(machine: Machine) -> None:
    taken = machine.take(1)
    writes = 0
    for _ in range(4 * NUMBERS_BLOCK):
        if machine.disk.waiting:
            machine.disk.answer()
            writes += 1
        taken += machine.take(1)
    assert len(set(taken)) == len(taken) == 4 * NUMBERS_BLOCK + 1, "the next block is noted ahead"
    assert writes <= 6


@pytest.mark.parametrize("count", [1, NUMBERS_BLOCK // 2, NUMBERS_BLOCK])
def test_a_crash(machine: Machine, count: int) -> None:
    """At the same moment of the clock: it goes on beyond what was noted."""
    seen: set[int] = set()
    for _ in range(5):
        taken = machine.take(count)
        machine.disk.answer()
        assert len(taken) == count
        assert not seen & set(taken)
        seen |= set(taken)
        taken = machine.take(1)
        seen |= set(taken)
        machine.start(machine.disk.kept)
    assert len(seen) >= 5 * count


def test_a_directory_that_is_lost(machine: Machine) -> None:
    """Or put back from a backup: the clock keeps the numbers apart."""
    before = machine.take(1000)
    machine.disk.answer()
    machine.start({}, START_MS + 60_000)
    after = machine.take(1)
    machine.disk.answer()
    assert after[0] > max(before)


def test_a_disk_that_is_full(machine: Machine) -> None:
    taken = machine.take(2)
    for _ in range(3):
        machine.disk.answer(stored=False)
        taken += machine.take(1)
        assert machine.disk.waiting == []
        machine.pass_time(RETRY_MS)
    assert taken == []
    machine.disk.answer()
    first = by_clock(START_MS)
    assert taken == [first, first + 1], "who came first has the lower number"


def test_who_waits_is_limited(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oscore_contexts, "NUMBERS_WAITING_MAX", 2)
    machine.take(2)
    assert not machine.numbers.take(lambda number: None)


def test_more_than_a_block_waits(machine: Machine) -> None:
    taken = machine.take(NUMBERS_BLOCK + 10)
    machine.disk.answer()
    machine.disk.answer()
    assert len(set(taken)) == NUMBERS_BLOCK + 10
    assert taken == sorted(taken)


def test_numbers_end(machine: Machine) -> None:
    machine.start({NUMBERS_KEY: (NUMBERS_END - 2).to_bytes(6, "big")})
    taken = machine.take(3)
    machine.disk.answer()
    assert taken == [NUMBERS_END - 2, NUMBERS_END - 1, -1]
    assert not machine.numbers.take(lambda number: None)


def test_without_a_disk_nobody_is_ahead_of_the_clock() -> None:
    machine = Machine("memory")
    taken = machine.take(CLOCK_AHEAD + 100)
    machine.disk.answer()
    assert len(taken) == CLOCK_AHEAD
    for _ in range(100):
        machine.pass_time(10)
        machine.disk.answer()
        assert max(taken) < by_clock(machine.gateway.clock.wall_ms) + CLOCK_AHEAD
        if len(taken) == CLOCK_AHEAD + 100:
            break
    assert len(set(taken)) == CLOCK_AHEAD + 100
    for gateway in machine.gateways:
        gateway.close()


def test_what_waits_for_a_number_and_is_dropped(request: pytest.FixtureRequest) -> None:
    """The observation is over: it is not sent, and nobody is told of it, not even by the next one."""
    inner = Inner()
    gateway, layer = make(Users({b"lamp": SECRET}), inner)
    request.addfinalizer(gateway.close)
    talk = Talk(layer, Device())
    talk.ask(code=GET)
    inner.answer = Response(CONTENT, b"0", ((OBSERVE, b"\x01"),))
    talk.ask(b"o", code=GET, observe=0)
    link = inner.requests[-1].link
    disk = gateway.broker.engine = SlowDisk()
    done: list[bool] = []

    def tell(number: int) -> None:
        note = Response(CONTENT, b"%d" % number, ((OBSERVE, bytes((2,))),))
        link.notify(b"o", note, True, done.append)

    for number in range(NUMBERS_BLOCK):
        tell(number)
    sent = len(talk.wire.told)
    assert sent == NUMBERS_BLOCK - 2, "one number went into the challenge, one into the answer"
    link.drop_pending(b"o")
    data, bound = talk.protect(b"o", code=GET, observe=0)
    answers = talk.feed(data)
    tell(NUMBERS_BLOCK)
    assert answers == []
    disk.answer()
    assert talk.read(answers[0], bound).payload == b"0"
    assert len(talk.wire.told) == sent + 1
    assert talk.read(talk.wire.told[-1][1], bound).payload == b"%d" % NUMBERS_BLOCK
    assert done == []
