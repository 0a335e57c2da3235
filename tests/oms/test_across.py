"""One gateway, three drivers: what one sends the others receive as it was."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.embedded import Embedded
from gateway.oms import (
    Durability,
    ExtensionHeader,
    Header,
    Message,
    MessagingAccessPoint,
    get_access_point,
)
from gateway.oms.drivers.local import offered
from tests.process import free_port

DRIVERS = ("local", "http", "rocketmq")
SECONDS = 10.0


@pytest.fixture
async def urls() -> AsyncIterator[dict[str, str]]:
    """A gateway in this process with two doors: nothing here needs a process of its own."""
    doors = {name: f"127.0.0.1:{free_port()}" for name in ("http", "openmessaging")}
    async with Embedded(doors=doors) as embedded, offered(embedded, secrets.token_hex(4)) as local:
        yield {
            "local": local,
            "http": f"oms:http://{doors['http']}/r",
            "rocketmq": f"oms:rocketmq://{doors['openmessaging']}/r",
        }


def full(queue: str) -> Message:
    """Return a message that says all that every driver can carry."""
    return Message(
        data=b"\x00\xff" * 10,
        header=Header(queue, durability=Durability.NON_PERSISTENT),
        extension_header=ExtensionHeader(
            message_key="k",
            correlation_id="c-ä",
            trace_id="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            tag="red",
            search_keys=("k1", "k2"),
        ),
        properties={"text": "ä", "n": -5, "f": 0.5, "yes": True, "raw": b"\x00\xff", "$reply-to": "answers"},
    )


def said(message: Message) -> dict[str, Any]:
    """Return what a message says, without what is of its delivery."""
    header, extension = message.header, message.extension_header
    return {
        "data": message.data,
        "properties": dict(message.properties),
        **{
            name: getattr(header, name)
            for name in ("message_id", "born_timestamp", "born_host", "durability")
        },
        **{
            name: getattr(extension, name)
            for name in ("message_key", "correlation_id", "trace_id", "tag", "search_keys")
        },
    }


async def receive(access_point: MessagingAccessPoint, queue: str, group: str, sent: Any) -> list[Message]:
    """Bind, have it sent, and return what came."""
    async with access_point.create_pull_consumer(consumer_id=group) as consumer:
        await consumer.bind_queue(queue)
        await sent()
        message = await consumer.receive(SECONDS)
        assert message is not None
        assert message.receipt is not None
        await consumer.ack(message.receipt)
        return [message]


@pytest.mark.parametrize("sender", DRIVERS)
@pytest.mark.parametrize("receiver", DRIVERS)
async def test_it_is_the_same_message(urls: dict[str, str], sender: str, receiver: str) -> None:
    queue = "across"
    message = full(queue)
    async with (
        get_access_point(urls[sender]) as there,
        get_access_point(urls[receiver]) as here,
        there.create_producer() as producer,
    ):
        sent: list[str] = []

        async def send() -> None:
            sent.append((await producer.send(message)).message_id)

        (got,) = await receive(here, queue, f"g-{receiver}", send)
    expected = said(message) | {"message_id": sent[0]}
    if sender == "http":
        expected["born_host"] = "127.0.0.1"  # the binding goes by where a request came from
    assert said(got) == expected
    assert got.header.delivery_count == 1


@pytest.mark.parametrize("sender", DRIVERS)
async def test_priority_and_time_mean_the_same(urls: dict[str, str], sender: str) -> None:
    queue = "across"
    expires = int(time.time() * 1000) + 60_000
    async with get_access_point(urls[sender]) as there, there.create_producer() as producer:
        for receiver in DRIVERS:
            async with get_access_point(urls[receiver]) as here:

                async def send() -> None:
                    await producer.send(producer.create_message(queue, "x", priority=8))
                    await producer.send(producer.create_message(queue, "y", expire_time=expires))

                async with here.create_pull_consumer(consumer_id=f"g-{receiver}") as consumer:
                    await consumer.bind_queue(queue)
                    await send()
                    got = {}
                    while len(got) < 2:
                        message = await consumer.receive(SECONDS)
                        assert message is not None
                        got[message.text] = message
                    assert got["x"].header.priority == 8, receiver
                    assert got["y"].extension_header.expire_time == pytest.approx(expires, abs=1500), receiver


async def test_three_drivers_are_one_group(urls: dict[str, str]) -> None:
    queue = "across"
    points = [get_access_point(url) for url in urls.values()]
    consumers = [point.create_pull_consumer(consumer_id="together") for point in points]
    got: list[str] = []
    for consumer in consumers:
        await consumer.start()
        await consumer.bind_queue(queue)
    async with points[0].create_producer() as producer:
        await producer.send([producer.create_message(queue, f"{n}") for n in range(9)])
    for consumer in consumers:
        for _ in range(3):
            message = await consumer.receive(SECONDS)
            assert message is not None
            assert message.receipt is not None
            await consumer.ack(message.receipt)
            got.append(message.text)
    assert sorted(got) == [f"{n}" for n in range(9)]
    for consumer in consumers:
        await consumer.stop()
