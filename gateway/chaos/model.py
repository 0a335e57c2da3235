"""The queue model: clients that enqueue and dequeue in turn by chance, at a common rate, and drain the queue
at the end.

Each client has sharding keys of its own, so that what is stored of a key is stored in the order of its
values.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from .client import QueueClient, Result
from .history import DEQUEUE, ENQUEUE, Outcome, Recorder, Request, Response

KEYS_PER_CLIENT = 2  # as many as openchaos has
ENQUEUE_SHARE = 0.5
DEQUEUE_SECONDS = 0.2  # how long a client waits for a message: others of its operations wait meanwhile
RETRY_SECONDS = 0.2  # between tries, when all the load is over


def now_ms() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1_000_000


class Pace:
    """Gives turns at a rate. Nobody saves up turns while a node does not answer."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next."""
        now = time.monotonic()
        self._next = max(now, self._next + self._interval)
        await asyncio.sleep(self._next - now)


class QueueModel:
    """The clients, and what they have seen."""

    def __init__(
        self, clients: Sequence[QueueClient], recorder: Recorder, per_second: float, ordered: bool, seed: int
    ) -> None:
        self._clients = clients
        self._recorder = recorder
        self._pace = Pace(per_second)
        self._ordered = ordered
        self._chance = random.Random(seed)
        self._values = 0
        self._sent_ms: dict[str, int] = {}
        self._outstanding: set[str] = set()  # stored, and not dequeued yet
        self._stopping = False

    async def run(self) -> None:
        """Enqueue and dequeue until `stop`."""
        await asyncio.gather(*(self._work(number) for number in range(len(self._clients))))

    def stop(self) -> None:
        """Begin no more operations."""
        self._stopping = True

    async def prove(self, seconds_max: float) -> None:
        """Enqueue one more with each client, in so many tries as time allows: to say whether all is well."""
        await asyncio.gather(*(self._prove(number, seconds_max) for number in range(len(self._clients))))

    async def drain(self, seconds_max: float) -> None:
        """Dequeue what is left: until all that was stored has come, or nothing for so long."""
        await asyncio.gather(*(self._drain(number, seconds_max) for number in range(len(self._clients))))

    async def _work(self, number: int) -> None:
        while not self._stopping:
            await self._pace.turn()
            if self._chance.random() < ENQUEUE_SHARE:
                await self._enqueue(number)
            else:
                await self._dequeue(number)

    async def _prove(self, number: int, seconds_max: float) -> None:
        until = time.monotonic() + seconds_max
        while True:
            result = await self._enqueue(number)
            if result.outcome is Outcome.SUCCESS or time.monotonic() > until:
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _drain(self, number: int, seconds_max: float) -> None:
        idle_since = time.monotonic()
        while True:
            result = await self._dequeue(number)
            if result.value is not None:
                idle_since = time.monotonic()
            elif not self._outstanding or time.monotonic() - idle_since > seconds_max:
                return
            elif result.extra is not None:
                await asyncio.sleep(RETRY_SECONDS)  # nobody could be asked

    async def _enqueue(self, number: int) -> Result:
        value, key = str(self._values), None
        self._values += 1
        if self._ordered:
            key = f"shardingKey{number * KEYS_PER_CLIENT + self._chance.randrange(KEYS_PER_CLIENT)}"
        began = self._sent_ms[value] = now_ms()
        self._recorder.record(Request(number, ENQUEUE, value, key, began))
        self._outstanding.add(value)  # before it is: a consumer may be faster than the answer
        result = await self._clients[number].enqueue(value, key)
        if result.outcome is not Outcome.SUCCESS:
            self._outstanding.discard(value)
        ended = now_ms()
        self._recorder.record(
            Response(number, ENQUEUE, result.outcome, value, key, ended, ended - began, result.extra)
        )
        return result

    async def _dequeue(self, number: int) -> Result:
        began = now_ms()
        self._recorder.record(Request(number, DEQUEUE, None, None, began))
        result = await self._clients[number].dequeue(DEQUEUE_SECONDS)
        ended = now_ms()
        value = result.value
        took = ended - self._sent_ms.get(value, ended) if value is not None else 0
        self._recorder.record(
            Response(
                number, DEQUEUE, result.outcome, value, result.key, ended, ended - began, result.extra, took
            )
        )
        if value is not None and result.outcome is Outcome.SUCCESS:
            self._outstanding.discard(value)
        return result
