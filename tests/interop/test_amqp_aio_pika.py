"""aio-pika: robust connections, patterns, and what only its codec can send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError
from aio_pika.patterns import RPC, Master

from tests.process import GatewayProcess


@pytest.fixture
async def channel(gateway: GatewayProcess) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect_robust(f"amqp://guest:guest@127.0.0.1:{gateway.amqp_port}/")
    async with connection:
        yield await connection.channel(on_return_raises=True)


async def one(queue: Any) -> Any:
    """Return the next message of a queue."""
    async with asyncio.timeout(10):
        while True:
            message = await queue.get(fail=False)
            if message is not None:
                return message
            await asyncio.sleep(0.01)


async def test_headers_of_every_type_survive(channel: AbstractChannel) -> None:
    queue = await channel.declare_queue("q", durable=True)
    headers: Any = {
        "float": 0.1,
        "big": 1 << 60,
        "negative": -1,
        "decimal": Decimal("12.345"),
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "list": [1, 2.5, "three", {"four": [5]}],
        "text": "grüße",
        "yes": True,
        "nothing": None,
    }
    await channel.default_exchange.publish(aio_pika.Message(b"body", headers=headers, delivery_mode=2), "q")
    message = await one(queue)
    found = dict(message.headers)
    # aio-pika's codec writes floats with 32 bits, whoever is on the other side.
    assert found.pop("float") == pytest.approx(headers.pop("float"))
    assert found == headers
    await message.ack()


async def test_a_headers_exchange_and_unroutable(channel: AbstractChannel) -> None:
    exchange = await channel.declare_exchange("x", aio_pika.ExchangeType.HEADERS)
    queue = await channel.declare_queue("q")
    await queue.bind(exchange, arguments={"x-match": "all-with-x", "x-kind": "order", "n": 1})
    await exchange.publish(aio_pika.Message(b"yes", headers={"x-kind": "order", "n": 1}), "")
    with pytest.raises(DeliveryError):
        await exchange.publish(aio_pika.Message(b"no", headers={"n": 1}), "")
    assert (await one(queue)).body == b"yes"


async def test_many_confirms_at_once(channel: AbstractChannel) -> None:
    queue = await channel.declare_queue("q", durable=True)
    publish = channel.default_exchange.publish
    await asyncio.gather(*(publish(aio_pika.Message(b"%d" % n, delivery_mode=2), "q") for n in range(1000)))
    assert (await queue.declare()).message_count == 1000
    got = []
    await channel.set_qos(50)
    async with asyncio.timeout(20):
        async with queue.iterator() as messages:
            async for message in messages:
                got.append(int(message.body))
                await message.ack()
                if len(got) == 1000:
                    break
    assert got == list(range(1000))


async def test_remote_procedure_calls(channel: AbstractChannel) -> None:
    async def multiply(*, x: int, y: int) -> int:
        return x * y

    rpc = await RPC.create(channel)
    await rpc.register("multiply", multiply, auto_delete=True)
    results = await asyncio.gather(*(rpc.call("multiply", kwargs={"x": n, "y": 2}) for n in range(20)))
    assert results == [2 * n for n in range(20)]


async def test_a_master_and_its_workers(channel: AbstractChannel) -> None:
    done: list[int] = []
    finished = asyncio.Event()

    async def work(*, number: int) -> None:
        done.append(number)
        if len(done) == 10:
            finished.set()

    master = Master(channel)
    await master.create_worker("work", work, auto_delete=True)
    for number in range(10):
        await master.proxy.work(number=number)
    async with asyncio.timeout(10):
        await finished.wait()
    assert sorted(done) == list(range(10))


async def test_a_robust_connection_comes_back(gateway: GatewayProcess) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{gateway.amqp_port}/?reconnect_interval=0.2"
    connection = await aio_pika.connect_robust(url)
    channel = await connection.channel()
    exchange = await channel.declare_exchange("x", aio_pika.ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue("q", durable=True)
    await queue.bind(exchange, "a.#")
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(message: Any) -> None:
        async with message.process():
            await got.put(message.body)

    await queue.consume(take)
    await exchange.publish(aio_pika.Message(b"before", delivery_mode=2), "a.b")
    async with asyncio.timeout(10):
        assert await got.get() == b"before"
    gateway.kill()
    await asyncio.to_thread(gateway.start)
    async with asyncio.timeout(20):
        await connection.ready()
        while True:
            try:
                await exchange.publish(aio_pika.Message(b"after", delivery_mode=2), "a.b")
                break
            except (aio_pika.exceptions.AMQPError, ConnectionError, RuntimeError):
                await asyncio.sleep(0.1)
        while await got.get() != b"after":
            pass  # the first one again: its acknowledgement died with the gateway
    await connection.close()
