"""Lanes: what goes together, in which order, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("grpc")

from gateway.oms import OMSError, SendResult
from gateway.oms.drivers.rocketmq.lanes import BATCH_BYTES_MAX, BATCH_MAX, REQUESTS_MAX, Lane


class Server:
    """Notes requests; answers them when it is let."""

    def __init__(self) -> None:
        self.requests: list[list[Any]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.most = 0
        self.now = 0

    async def send(self, made: Sequence[Any]) -> list[SendResult | OMSError]:
        self.requests.append([one.number for one in made])
        self.now += 1
        self.most = max(self.most, self.now)
        await self.open.wait()
        self.now -= 1
        return [OMSError("bad") if one.number == "bad" else SendResult(str(one.number)) for one in made]


def message(number: Any, size: int = 1) -> Any:
    return SimpleNamespace(number=number, body=bytes(size))


async def test_what_is_put_together_goes_together() -> None:
    server = Server()
    lane = Lane(server.send, in_order=False)
    results = await asyncio.gather(*(lane.put(message(n)) for n in range(BATCH_MAX + 1)))
    assert [result.message_id for result in results] == [str(n) for n in range(BATCH_MAX + 1)]
    assert [len(request) for request in server.requests] == [BATCH_MAX, 1]
    assert lane.idle


async def test_bytes_have_a_limit() -> None:
    server = Server()
    lane = Lane(server.send, in_order=False)
    half = BATCH_BYTES_MAX // 2
    sizes = [half, half, 1, 2 * BATCH_BYTES_MAX, 1]
    await asyncio.gather(*(lane.put(message(n, size)) for n, size in enumerate(sizes)))
    assert server.requests == [[0, 1], [2], [3], [4]]


async def test_some_do_not_share() -> None:
    server = Server()
    lane = Lane(server.send, in_order=False, batches=False)
    await asyncio.gather(*(lane.put(message(n)) for n in range(3)))
    assert server.requests == [[0], [1], [2]]


@pytest.mark.parametrize(("in_order", "most"), [(True, 1), (False, REQUESTS_MAX)])
async def test_requests_at_a_time(in_order: bool, most: int) -> None:
    server = Server()
    lane = Lane(server.send, in_order=in_order)
    server.open.clear()
    sent = []
    for n in range(3 * REQUESTS_MAX):
        sent.append(lane.put(message(n)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert server.most == most
    server.open.set()
    await asyncio.gather(*sent)
    assert [n for request in server.requests for n in request] == list(range(3 * REQUESTS_MAX))


async def test_one_after_the_other() -> None:
    """Who sends the next when the one before is answered finds the lane going."""
    server = Server()
    lane = Lane(server.send, in_order=True)
    for n in range(3):
        await asyncio.wait_for(lane.put(message(n)), 5)
    assert server.requests == [[0], [1], [2]]


async def test_each_has_its_own_result_and_may_be_forgotten() -> None:
    lane = Lane(Server().send, in_order=False)
    good, bad, forgotten = lane.put(message(1)), lane.put(message("bad")), lane.put(message(2))
    forgotten.cancel()
    assert (await good).message_id == "1"
    with pytest.raises(OMSError, match="bad"):
        await bad


async def test_room_and_the_end() -> None:
    server = Server()
    server.open.clear()
    lane = Lane(server.send, in_order=True)
    sent = [lane.put(message(n)) for n in range(BATCH_MAX + 2)]
    waiting = asyncio.ensure_future(lane.room())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting.done()  # a request is under way, two messages wait
    more = [lane.put(message(n)) for n in range(BATCH_MAX)]
    waiting = asyncio.ensure_future(lane.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await lane.close()
    for one in (*sent, *more):
        with pytest.raises(OMSError, match="closed"):
            await one
    waiting.cancel()
