"""Consumers of all kinds that come, go, fail, cancel, forget: each message is settled once, none is left."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from gateway.oms import ListenerContext, Message, MessagingAccessPoint, OMSError, get_access_point
from tests.oms.conformance.helpers import until

QUEUES = ("q1", "q2")
MESSAGES = 300


class Crowd:
    """Consumers of one group, and what they have settled."""

    def __init__(self, access_point: MessagingAccessPoint, seed: int) -> None:
        self.access_point = access_point
        self.random = random.Random(seed)
        self.settled: Counter[bytes] = Counter()
        self.over = False

    async def pull(self) -> None:
        """Acknowledge most, give back some, forget a few; cancel now and then."""
        async with self.access_point.create_pull_consumer(invisible_time=200) as consumer:
            await consumer.bind_queue(QUEUES)
            while not self.over:
                wait = self.random.choice([0, 0.01, 0.05])
                receiving = asyncio.ensure_future(consumer.batch_receive(self.random.randint(1, 5), wait))
                if self.random.random() < 0.3:
                    await asyncio.sleep(self.random.random() * 0.01)
                    receiving.cancel()
                await asyncio.wait([receiving])
                for message in [] if receiving.cancelled() else receiving.result():
                    await self._settle(consumer, message)

    async def _settle(self, consumer: Any, message: Message) -> None:
        chance = self.random.random()
        try:
            if chance < 0.7:
                await consumer.ack(message.receipt)
                self.settled[message.data] += 1
            elif chance < 0.95:
                await consumer.nack(message.receipt, 0)
        except OMSError:
            pass  # it has come again since: whoever has it now settles it

    async def push(self) -> None:
        """Fail now and then; suspend, stop and start again."""
        async with self.access_point.create_push_consumer(retry_delay=1, consume_concurrency=4) as consumer:
            await consumer.bind_queue(QUEUES, self._listen)
            while not self.over:
                await asyncio.sleep(0.03)
                if self.random.random() < 0.3:
                    consumer.suspend(0.02)
                if self.random.random() < 0.2:
                    await consumer.stop()
                    await consumer.start()

    async def _listen(self, message: Message, context: ListenerContext) -> None:
        await asyncio.sleep(self.random.random() * 0.005)
        if self.random.random() < 0.2:
            raise LookupError
        self.settled[message.data] += 1


@pytest.mark.parametrize("seed", range(2))
async def test_every_message_is_settled_once(seed: int) -> None:
    async with get_access_point(f"oms:local://memory/chaos{seed}") as access_point:
        async with access_point.resource_manager() as resources:
            for queue in QUEUES:
                await resources.create_queue(queue)
        crowd = Crowd(access_point, seed)
        consumers = [
            asyncio.ensure_future(each()) for each in (crowd.pull, crowd.pull, crowd.push, crowd.push)
        ]
        async with access_point.create_producer() as producer:
            for number in range(MESSAGES):
                queue, key = crowd.random.choice(QUEUES), crowd.random.choice([None, "a", "b"])
                await producer.send(producer.create_message(queue, f"{number}", message_key=key))
        await until(lambda: len(crowd.settled) == MESSAGES)
        crowd.over = True
        await asyncio.gather(*consumers)
        assert set(crowd.settled.values()) == {1}
        driver: Any = access_point.driver
        queues = driver.region.gateway.broker.catalog.queues
        assert {name: queue.length() for name, queue in queues.items() if not name.startswith("$sys")} == {
            "$share/oms.default/q1": 0,
            "$share/oms.default/q2": 0,
        }, "nothing is left, and nothing is a dead letter"
