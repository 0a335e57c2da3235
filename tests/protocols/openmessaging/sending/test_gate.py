"""Who sends while others wait for the disk is let in when they have been told, all at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.api import NotStored
from gateway.protocols.openmessaging.sending import gate as gate_module
from gateway.protocols.openmessaging.sending.gate import CROWD, MESSAGES_MAX, Gate

ROUNDS = 10  # of the event loop: more than anything here needs to come to rest


class Disk:
    """A gateway whose syncs end when the test says so."""

    def __init__(self) -> None:
        self.syncs: list[tuple[int, asyncio.Future[None]]] = []
        self.turns = 0
        self.asked = asyncio.Event()

    def begin_turn(self) -> None:
        self.turns += 1

    async def durable(self, position: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.syncs.append((position, future))
        self.asked.set()
        await future

    def synced(self, error: Exception | None = None) -> None:
        syncs, self.syncs = self.syncs, []
        for _, future in syncs:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    @property
    def waits(self) -> list[int]:
        return [position for position, _ in self.syncs]


async def rest() -> None:
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


def start(gate: Any, positions: list[int]) -> list[asyncio.Task[None]]:
    async def send(position: int) -> None:
        await gate.enter()
        await gate.durable(position)

    return [asyncio.ensure_future(send(position)) for position in positions]


async def test_what_comes_during_a_sync_shares_the_next() -> None:
    disk: Any = Disk()
    gate = Gate(disk)
    tasks = start(gate, [1])
    await rest()
    assert disk.waits == [1]
    assert disk.turns == 0, "nobody was before it"
    tasks += start(gate, [2, 3])
    await rest()
    assert disk.waits == [1]
    disk.synced()
    await rest()
    assert disk.waits == [2, 3]
    assert disk.turns == 2
    disk.synced()
    await asyncio.gather(*tasks)
    tasks = start(gate, [5])
    await rest()
    assert disk.waits == [5], "nobody waits any more"
    disk.synced()
    await asyncio.gather(*tasks)


async def test_a_crowd_gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "GATHER_SECONDS", 0.05)
    disk: Any = Disk()
    gate = Gate(disk)
    tasks = start(gate, [1])
    await rest()
    tasks += start(gate, list(range(2, 2 + CROWD)))
    await rest()
    disk.asked.clear()
    disk.synced()
    await rest()
    assert disk.waits == [], "more may come"
    tasks += start(gate, [100])
    await asyncio.wait_for(disk.asked.wait(), 10)
    await rest()
    assert disk.waits == [*range(2, 2 + CROWD), 100]
    disk.synced()
    await asyncio.gather(*tasks)


async def test_only_so_many_messages_come_together() -> None:
    disk: Any = Disk()
    gate = Gate(disk)
    (first,) = start(gate, [1])
    await rest()

    async def send_many(position: int) -> None:
        await gate.enter(MESSAGES_MAX // 2)
        await gate.durable(position)

    others = [asyncio.ensure_future(send_many(position)) for position in range(2, 7)]
    await rest()
    for expected in ([2, 3], [4, 5], [6]):
        disk.synced()
        await rest()
        assert disk.waits == expected
    disk.synced()
    await asyncio.gather(first, *others)


async def test_those_who_are_refused_keep_nobody_waiting() -> None:
    disk: Any = Disk()
    gate = Gate(disk)
    (first,) = start(gate, [1])
    await rest()

    async def refused() -> None:
        await gate.enter(MESSAGES_MAX)

    others = [asyncio.ensure_future(refused()) for _ in range(3)]
    (last,) = start(gate, [2])
    await rest()
    disk.synced()
    await asyncio.gather(first, *others)
    await rest()
    assert disk.waits == [2]
    disk.synced()
    await last


async def test_a_sync_that_fails_keeps_nobody_out() -> None:
    disk: Any = Disk()
    gate = Gate(disk)
    (first,) = start(gate, [1])
    await rest()
    (second,) = start(gate, [2])
    await rest()
    disk.synced(NotStored("the disk is full"))
    with pytest.raises(NotStored):
        await first
    await rest()
    assert disk.waits == [2]
    disk.synced()
    await second


async def test_who_hangs_up_at_the_gate_is_not_waited_for() -> None:
    disk: Any = Disk()
    gate = Gate(disk)
    (first,) = start(gate, [1])
    await rest()
    gone, last = start(gate, [2, 3])
    await rest()
    gone.cancel()
    await rest()
    disk.synced()
    await first
    await rest()
    assert disk.waits == [3]
    disk.synced()
    await last
    assert gone.cancelled()
