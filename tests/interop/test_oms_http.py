"""The OpenMessaging driver `http` beside clients of other protocols: one topic, one group, every door."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pika
import pytest

from gateway.oms import Message, MessagingAccessPoint, get_access_point
from tests.mqtt_client import V5, MqttClient
from tests.process import RocketGateway

pytestmark = pytest.mark.interop

WAIT = 10.0
EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples").glob("oms_*.py"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(
        tmp_path_factory.mktemp("oms-http") / "data",
        ("transactions.check_first_seconds=0.3", "transactions.check_interval_seconds=0.3"),
    )
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def queue() -> str:
    """A topic of the test's own."""
    return f"oms/{uuid4().hex[:8]}.ü"


@pytest.fixture
async def point(gateway: RocketGateway) -> AsyncIterator[MessagingAccessPoint]:
    async with get_access_point(f"oms:http://127.0.0.1:{gateway.http_port}/here") as found:
        yield found


async def thread(call: Callable[..., Any], *arguments: Any) -> Any:
    """Wait for a blocking client."""
    return await asyncio.to_thread(call, *arguments)


@pytest.fixture
def channel(gateway: RocketGateway) -> Iterator[Any]:
    parameters = pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)
    connection = pika.BlockingConnection(parameters)
    yield connection.channel()
    connection.close()


async def test_a_device_gets_what_an_application_sends(
    gateway: RocketGateway, point: MessagingAccessPoint, queue: str
) -> None:
    device = await thread(MqttClient, gateway.mqtt_port, "device", V5)
    await thread(device.subscribe, queue)
    async with point.create_producer() as producer:
        message = producer.create_message(queue, "21.5", tag="t", message_key="k", correlation_id="c")
        message.properties["unit"] = "C"
        result = await producer.send(message)
    got = await thread(device.receive)
    assert (got.topic, got.payload) == (queue, b"21.5")
    pairs = dict(got.properties["user_property"])
    assert (pairs["unit"], pairs["$tag"], pairs["$key"]) == ("C", "t", "k")
    assert pairs["$message-id"] == result.message_id
    assert got.properties["correlation_data"] == b"c"
    device.close()


async def test_an_application_gets_what_a_device_and_a_worker_send(
    gateway: RocketGateway, point: MessagingAccessPoint, queue: str, channel: Any
) -> None:
    async with point.create_pull_consumer(consumer_id="g") as consumer:
        await consumer.bind_queue(queue)
        device = await thread(MqttClient, gateway.mqtt_port, "sender", V5)
        await thread(device.publish_stored, queue, b"from a device")
        device.close()
        properties = pika.BasicProperties(headers={"n": 5}, priority=9, message_id="m", correlation_id="c")
        key = queue.translate(str.maketrans("./", "/."))
        await thread(lambda: channel.basic_publish("amq.topic", key, b"from a worker", properties))
        got = [await consumer.receive(WAIT), await consumer.receive(WAIT)]
        assert [message.data for message in got if message] == [b"from a device", b"from a worker"]
        worker = got[1]
        assert worker is not None
        assert worker.properties["n"] == 5
        assert (worker.header.priority, worker.header.message_id) == (10, "m")
        assert worker.extension_header.correlation_id == "c"


async def test_one_group_by_four_doors(
    gateway: RocketGateway, point: MessagingAccessPoint, queue: str, channel: Any
) -> None:
    """Each message of a group goes to one member, whatever door it came by."""
    share = f"$share/g/{queue}"
    async with point.create_pull_consumer(consumer_id="g") as consumer, point.create_producer() as producer:
        await consumer.bind_queue(queue)
        await producer.send([Message(queue, b"%d" % number) for number in range(4)])
        mine = await consumer.receive(WAIT)
        assert mine is not None
        assert mine.receipt is not None
        await consumer.ack(mine.receipt)
        _, _, second = await thread(lambda: channel.basic_get(share, True))
        path = f"/v1/queues/{share.replace('/', '%2F')}/receive"
        async with httpx.AsyncClient(base_url=gateway.url) as rest:
            [third] = (await rest.post(path)).json()["deliveries"]
            await rest.post(f"/v1/deliveries/{third['id']}/ack")
        device = await thread(MqttClient, gateway.mqtt_port, "member", V5)
        await thread(device.subscribe, share)
        fourth = await thread(device.receive)
        device.close()
        found = [mine.data, second, third["body"].encode(), fourth.payload]
        assert found == [b"0", b"1", b"2", b"3"]
        assert await consumer.receive(0) is None


async def test_rocketmqs_group_is_the_same(
    gateway: RocketGateway, point: MessagingAccessPoint, queue: str
) -> None:
    pytest.importorskip("grpc")
    async with (
        get_access_point(f"oms:rocketmq://{gateway.endpoints}/here") as other,
        point.create_pull_consumer(consumer_id="both") as mine,
        other.create_pull_consumer(consumer_id="both") as theirs,
        point.create_producer() as producer,
        other.create_producer() as rocket,
    ):
        await mine.bind_queue(queue)
        await theirs.bind_queue(queue)
        sent = producer.create_message(
            queue, "x", tag="t", message_key="k", priority=3, properties={"text": "ü", "n": 5, "raw": b"\xff"}
        )
        await producer.send(sent)
        got = await theirs.receive(WAIT)
        assert got is not None
        assert got.receipt is not None
        assert (got.data, dict(got.properties)) == (b"x", dict(sent.properties))
        assert (got.extension_header.tag, got.extension_header.message_key) == ("t", "k")
        assert got.header.priority == 3
        await theirs.ack(got.receipt)
        assert await mine.receive(0) is None, "one member has had it"
        sent = rocket.create_message(queue, "y", search_keys=("a", "b"), properties={"n": 6})
        await rocket.send(sent)
        back = await mine.receive(WAIT)
        assert back is not None
        assert (back.data, dict(back.properties)) == (b"y", {"n": 6})
        assert back.extension_header.search_keys == ("a", "b")


async def test_what_fails_is_a_dead_letter(
    gateway: RocketGateway, point: MessagingAccessPoint, queue: str
) -> None:
    async with point.resource_manager() as resources, point.create_producer() as producer:
        await resources.create_queue(queue, {"delivery_limit": 2, "backoff_ms": "1"})
        async with point.create_pull_consumer() as consumer:
            await consumer.bind_queue(queue)
            await producer.send(producer.create_message(queue, "poison", properties={"a": 1}))
            for attempt in (1, 2):
                found = await consumer.receive(WAIT)
                assert found is not None
                assert found.receipt is not None
                assert found.header.delivery_count == attempt
                await consumer.nack(found.receipt)
            assert await consumer.receive(0.2) is None
        async with point.create_pull_consumer() as consumer:
            await consumer.bind_queue(f"$queue/$dead/$share/oms.default/{queue}")
            letter = await consumer.receive(WAIT)
            assert letter is not None
            assert (letter.data, letter.properties["a"]) == (b"poison", 1)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
async def test_examples_work_by_http(gateway: RocketGateway, example: Path) -> None:
    url = f"oms:http://127.0.0.1:{gateway.http_port}/examples"
    done = await thread(
        lambda: subprocess.run(
            [sys.executable, str(example), "--url", url], capture_output=True, text=True, timeout=60
        )
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
