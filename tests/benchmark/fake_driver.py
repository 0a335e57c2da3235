"""A driver without a broker: what is sent is received, in the way a test wants it."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from gateway.benchmark.driver import Consumer, Driver, Producer, Received, Sent, Settings


class FakeProducer(Producer):
    """Delivers to all consumers of its topic, one of each subscription."""

    def __init__(self, driver: FakeDriver, topic: str) -> None:
        super().__init__(driver.config.window)
        self._driver = driver
        self._topic = topic

    def publish(self, key: str | None, body: bytes, sent: Sent) -> None:
        driver = self._driver
        driver.keys.add(key)
        if driver.failing is not None:
            raise driver.failing
        if driver.silent:
            return
        for consumer in driver.consumers.get(self._topic, {}).values():
            consumer.take(body)
        asyncio.get_running_loop().call_soon(self.done, sent, None)

    async def close(self) -> None:
        self._driver.closed.append("producer")


class FakeConsumer(Consumer):
    """Keeps what comes while it is suspended."""

    def __init__(self, driver: FakeDriver, received: Received) -> None:
        self._driver = driver
        self._received = received
        self._suspended = False
        self._kept: list[bytes] = []

    def take(self, body: bytes) -> None:
        if self._suspended:
            self._kept.append(body)
        else:
            self._received(body)

    async def suspend(self) -> None:
        self._suspended = True

    async def resume(self) -> None:
        self._suspended = False
        while self._kept:
            self._received(self._kept.pop())

    async def close(self) -> None:
        self._driver.closed.append("consumer")


class FakeDriver(Driver):
    """Remembers what it was asked for."""

    last: ClassVar[FakeDriver]

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.topics: list[tuple[str, int]] = []
        self.consumers: dict[str, dict[str, FakeConsumer]] = {}
        self.closed: list[str] = []
        self.keys: set[str | None] = set()
        self.failing: Exception | None = None
        self.silent = False
        FakeDriver.last = self

    async def open(self) -> None:
        pass

    async def create_topic(self, topic: str, partitions: int) -> None:
        self.topics.append((topic, partitions))

    async def create_producer(self, topic: str) -> Producer:
        return FakeProducer(self, topic)

    async def create_consumer(self, topic: str, subscription: str, received: Received) -> Consumer:
        consumer = FakeConsumer(self, received)
        self.consumers.setdefault(topic, {})[subscription] = consumer
        return consumer

    async def close(self) -> None:
        self.closed.append("driver")
