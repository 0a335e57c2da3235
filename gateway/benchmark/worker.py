"""Producers and consumers of one run, and the load: what the original calls a local worker."""

from __future__ import annotations

import asyncio
import random
import string
import time
from collections.abc import Sequence

from .driver import Closing, Consumer, Driver, Producer, Sent
from .limiter import SECOND_NS, Limiter
from .payloads import NextKey
from .rate_controller import RATE_MIN
from .stats import Stats

STAMP_BYTES = 8  # a body begins with the time it was sent, if it has room for it
PROBE = bytes(10)
PROBE_KEY = "key"
SENDS_MAX = 64  # in one go: then others get their turn in the event loop, those that receive first of all
NAME_LETTERS = 7

clock = time.perf_counter_ns  # producers and consumers are in one process: no clock steps, none to compare


def random_name() -> str:
    """Return letters that make a name new."""
    return "".join(random.choices(string.ascii_letters + string.digits, k=NAME_LETTERS))


def stamped(body: bytes, now_ns: int) -> bytes:
    """Return the body with the time in its first bytes."""
    if len(body) < STAMP_BYTES:
        return body
    return now_ns.to_bytes(STAMP_BYTES, "big") + body[STAMP_BYTES:]


def _ignore(sent: Sent, error: str | None) -> None:
    """Look away."""


class Worker:
    """Runs one workload's load on one driver."""

    def __init__(self, driver: Driver) -> None:
        self.stats = Stats()
        self.first_error = ""
        self._driver = driver
        self._producers: list[Producer] = []
        self._consumers: list[Consumer] = []
        self._limiter = Limiter(RATE_MIN)
        self._load: asyncio.Task[None] | None = None

    async def create_topics(self, count: int, partitions: int) -> list[str]:
        """Make topics with new names, and return these."""
        topics = [f"{self._driver.topic_prefix}-{number:07d}-{random_name()}" for number in range(count)]
        for topic in topics:
            await self._driver.create_topic(topic, partitions)
        return topics

    async def create_consumers(self, subscriptions: Sequence[tuple[str, str]]) -> None:
        """Make a consumer for each (topic, subscription)."""
        for topic, subscription in subscriptions:
            self._consumers.append(await self._driver.create_consumer(topic, subscription, self._received))

    async def create_producers(self, topics: Sequence[str]) -> None:
        """Make a producer for each topic named."""
        for topic in topics:
            producer = await self._driver.create_producer(topic)
            producer.settled = self._settled
            self._producers.append(producer)

    def probe(self) -> None:
        """Send a message with each producer."""
        for producer in self._producers:
            producer.send(PROBE_KEY, stamped(PROBE, clock()), None)

    def start(self, rate: float, bodies: Sequence[bytes], next_key: NextKey) -> None:
        """Begin to send, until `stop`."""
        self.adjust(rate)
        self._load = asyncio.get_running_loop().create_task(self._send_all(bodies, next_key))

    def adjust(self, rate: float) -> None:
        """Go on at another rate."""
        self._limiter = Limiter(max(RATE_MIN, rate))

    def check(self) -> None:
        """Raise what ended the load before its time."""
        if self._load is not None and self._load.done():
            self._load.result()

    async def pause_consumers(self) -> None:
        """Let a backlog grow."""
        for consumer in self._consumers:
            await consumer.suspend()

    async def resume_consumers(self) -> None:
        """Let it shrink."""
        for consumer in self._consumers:
            await consumer.resume()

    async def stop_load(self) -> None:
        """Send nothing more."""
        if self._load is not None:
            self._load.cancel()
            await asyncio.wait([self._load])
            self._load = None

    async def stop(self) -> None:
        """End the load, and close all."""
        await self.stop_load()
        await self.resume_consumers()
        for producer in self._producers:
            producer.settled = _ignore  # what closing does to what is under way is no result
        everything: list[Closing] = [*self._producers, *self._consumers]
        for closing in everything:
            await closing.close()
        self._producers, self._consumers = [], []

    async def _send_all(self, bodies: Sequence[bytes], next_key: NextKey) -> None:
        """Send with one producer after the other, each message when it is due or as soon as it can."""
        run = 0
        while True:
            for producer in self._producers:
                due = self._limiter.acquire(clock())
                wait = due - clock()
                run += 1
                if wait > 0 or run >= SENDS_MAX:
                    run = 0
                    await asyncio.sleep(max(0, wait) / SECOND_NS)
                if producer.full:
                    await producer.room()
                now = clock()
                body = random.choice(bodies) if len(bodies) > 1 else bodies[0]
                producer.send(next_key(), stamped(body, now), (len(body), due, now))

    def _settled(self, sent: Sent, error: str | None) -> None:
        if error is not None:
            self.stats.failed()
            self.first_error = self.first_error or error
        elif sent is None:
            self.stats.probed()
        else:
            self.stats.sent(*sent, clock())

    def _received(self, body: bytes) -> None:
        took = clock() - int.from_bytes(body[:STAMP_BYTES], "big") if len(body) >= STAMP_BYTES else None
        self.stats.received(len(body), took)
