"""The OpenMessaging driver `rocketmq` at the gateway's own door, and beside clients of other protocols."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("grpc")

from gateway.oms import (
    Message,
    MessageSelector,
    OMSDestinationError,
    OMSError,
    ResponseStatus,
    get_access_point,
    sync,
)
from tests.interop.paho_client import PahoClient, publish_properties
from tests.interop.rocketmq_client import RocketPeer
from tests.process import RocketGateway, wait_for

pytestmark = pytest.mark.interop

WAIT = 5.0  # for what is there, or comes at once


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("oms-rocketmq") / "data")
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def queue() -> str:
    """A queue of the test's own, whose name RocketMQ could not write."""
    return f"oms/{uuid4().hex[:8]}.ü"


@pytest.fixture
async def point(gateway: RocketGateway) -> AsyncIterator[Any]:
    async with get_access_point(url_of(gateway)) as found:
        yield found


def url_of(gateway: RocketGateway, namespace: str = "") -> str:
    """Return the access point of a gateway."""
    return f"oms:rocketmq://{gateway.endpoints}/here" + (f":{namespace}" if namespace else "")


async def test_a_thousand_there_and_back(point: Any, queue: str) -> None:
    async with point.create_producer() as producer, point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
        results = await producer.send([Message(queue, b"%d" % n) for n in range(1000)])
        assert len({result.message_id for result in results}) == 1000
        got: set[bytes] = set()
        while len(got) < 1000:
            messages = await consumer.batch_receive(100, WAIT)
            assert messages
            got |= {message.data for message in messages}
            await asyncio.gather(*(consumer.ack(message.receipt) for message in messages))
        assert await consumer.receive(0) is None


async def test_all_of_a_message_comes_back(point: Any, queue: str) -> None:
    async with point.create_producer() as producer, point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
        sent = producer.create_message(
            queue,
            b"body" * 100,
            compression="gzip",
            qos=2,
            message_key="k",
            correlation_id="c-1",
            trace_id="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            tag="t",
            search_keys=("a", "b"),
            priority=8,
            properties={"text": "ü", "whole": 5, "part": 0.5, "yes": True, "raw": b"\xff", "TTL": "mine"},
        )
        result = await producer.send(sent)
        got = await consumer.receive(WAIT)
        assert got.data == sent.data
        assert dict(got.properties) == dict(sent.properties)
        assert (got.header.message_id, got.header.destination) == (result.message_id, queue)
        for name in ("born_timestamp", "qos", "priority"):
            assert getattr(got.header, name) == getattr(sent.header, name), name
        for name in ("message_key", "correlation_id", "trace_id", "tag", "search_keys"):
            assert getattr(got.extension_header, name) == getattr(sent.extension_header, name), name
        await consumer.ack(got.receipt)
        with pytest.raises(OMSError) as raised:
            await consumer.ack(got.receipt)
        assert raised.value.code == ResponseStatus.BAD_PARAMETER


async def test_namespaces_are_apart(gateway: RocketGateway, queue: str) -> None:
    async with (
        get_access_point(url_of(gateway, "one")) as one,
        get_access_point(url_of(gateway, "two")) as two,
        one.create_producer() as producer,
        two.create_pull_consumer() as stranger,
        two.create_pull_consumer() as guest,
    ):
        await stranger.bind_queue(queue)
        await guest.bind_queue(f"one://{queue}")
        await producer.send(Message(queue, b"x"))
        got = await guest.receive(WAIT)
        assert (got.data, got.header.destination) == (b"x", f"one://{queue}")
        assert await stranger.receive(0) is None


async def test_what_is_not_acknowledged_comes_again(point: Any, queue: str) -> None:
    async with (
        point.create_producer() as producer,
        point.create_pull_consumer(invisible_time=200) as consumer,
    ):
        await consumer.bind_queue(queue)
        await producer.send(Message(queue, b"x"))
        first = await consumer.receive(WAIT)
        second = await consumer.receive(WAIT)
        assert (first.header.delivery_count, second.header.delivery_count) == (1, 2)
        with pytest.raises(OMSError) as raised:
            await consumer.ack(first.receipt)
        assert raised.value.code == ResponseStatus.BAD_PARAMETER
        kept = await consumer.extend(second.receipt, 30)
        assert await consumer.receive(0.4) is None
        await consumer.nack(kept, 0)
        third = await consumer.receive(WAIT)
        assert third.header.delivery_count == 3
        await consumer.ack(third.receipt)


async def test_what_nobody_asks_for_goes_back(
    point: Any, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.oms.drivers.rocketmq.receiving.KEPT_SECONDS", 0.1)
    async with (
        point.create_producer() as producer,
        point.create_pull_consumer() as consumer,
        point.create_pull_consumer() as other,
    ):
        await consumer.bind_queue(queue)
        waiting = asyncio.ensure_future(consumer.receive())
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        await producer.send(Message(queue, b"x"))
        await other.bind_queue(queue)
        got = await other.receive(WAIT)
        assert (got.data, got.header.delivery_count) == (b"x", 1)
        await other.ack(got.receipt)


async def test_a_key_is_in_order(point: Any, queue: str) -> None:
    seen: list[bytes] = []

    async def listen(message: Message, context: Any) -> None:
        await asyncio.sleep(0.001)
        seen.append(message.data)
        if message.data == b"1" and message.header.delivery_count == 1:
            raise ValueError("once more")

    async with point.create_producer() as producer, point.create_push_consumer(retry_delay=50) as consumer:
        await consumer.bind_queue(queue, listen)
        await producer.send([producer.create_message(queue, b"%d" % n, message_key="k") for n in range(4)])
        await _until(lambda: len(seen) == 5)
    assert seen == [b"0", b"1", b"1", b"2", b"3"]


async def test_delays_and_recall(point: Any, queue: str) -> None:
    async with point.create_producer() as producer, point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
        late = await producer.send(producer.create_message(queue, b"late", delay_time=60_000))
        soon = await producer.send(producer.create_message(queue, b"soon", delay_time=300))
        await producer.recall(late)
        with pytest.raises(OMSDestinationError):
            await producer.recall(late)
        got = await consumer.receive(WAIT)
        assert (got.data, got.header.message_id) == (b"soon", soon.message_id)
        assert got.extension_header.delay_time == 300


async def test_transactions(point: Any, queue: str) -> None:
    async with (
        point.create_producer(lambda message, context: context.commit()) as producer,
        point.create_pull_consumer() as consumer,
    ):
        await consumer.bind_queue(queue)
        committed = await producer.prepare(Message(queue, b"committed"))
        rolled_back = await producer.prepare(Message(queue, b"rolled back"))
        assert await consumer.receive(0.1) is None
        await committed.commit()
        await committed.commit()
        await rolled_back.rollback()
        got = await consumer.receive(WAIT)
        assert (got.data, got.header.message_id) == (b"committed", committed.message_id)
        assert await consumer.receive(0.1) is None


async def test_selectors(point: Any, queue: str) -> None:
    async with (
        point.create_producer() as producer,
        point.create_pull_consumer(consumer_id="by-sql") as by_sql,
        point.create_pull_consumer(consumer_id="by-tag") as by_tag,
    ):
        await by_sql.bind_queue(queue, "colour = 'red' AND weight > 2")
        await by_tag.bind_queue(queue, MessageSelector.by_tag("a || c"))
        make = producer.create_message
        await producer.send(make(queue, b"1", tag="a", properties={"colour": "red", "weight": 3}))
        await producer.send(make(queue, b"2", tag="b", properties={"colour": "blue", "weight": 3}))
        await producer.send(make(queue, b"3", tag="c", properties={"colour": "red", "weight": 1}))
        assert {(await by_tag.receive(WAIT)).data for _ in range(2)} == {b"1", b"3"}
        assert (await by_sql.receive(WAIT)).data == b"1"
        assert await by_sql.receive(0) is None


async def test_streams(point: Any, queue: str) -> None:
    async with point.create_producer() as producer, point.create_streaming_consumer() as consumer:
        end = await consumer.seek_to_end(queue)  # makes the stream
        await producer.send([Message(queue, b"%d" % n) for n in range(200)])
        assert [(await end.next(WAIT)).data for _ in range(200)] == [b"%d" % n for n in range(200)]
        assert await end.next(0) is None
        assert (await end.previous()).data == b"199"
        beginning = await consumer.seek_to_beginning(queue)
        first = await beginning.next()
        assert (first.data, first.extension_header.offset) == (b"0", 0)
        middle = await consumer.seek(queue, 100)
        assert (await middle.next()).data == b"100"
        assert (await end.next()).data == b"199"
        waiting = asyncio.ensure_future(end.next(WAIT))
        await producer.send(Message(queue, b"late"))
        assert (await waiting).data == b"late"
        partitions = await consumer.queue_metadata(queue)
        assert [one.partition_id for one in partitions] == [0]


async def test_broadcasts(point: Any, queue: str) -> None:
    async with (
        point.create_producer() as producer,
        point.create_pull_consumer(broadcast=True, invisible_time=200) as one,
        point.create_push_consumer(broadcast=True, retry_delay=10) as other,
    ):
        seen: list[tuple[bytes, int]] = []

        def listen(message: Message, context: Any) -> None:
            seen.append((message.data, message.header.delivery_count))
            if len(seen) == 1:
                raise ValueError("not yet")

        await one.bind_queue(queue, MessageSelector.by_tag("*"))
        await other.bind_queue(queue, listen)
        await producer.send([Message(queue, b"0"), Message(queue, b"1")])
        first = await one.batch_receive(2, WAIT)
        assert [message.data for message in first] == [b"0", b"1"]
        await one.ack(first[1].receipt)
        again = await one.receive(WAIT)
        assert (again.data, again.header.delivery_count) == (b"0", 2)
        await one.nack(again.receipt, 0)
        third = await one.receive(WAIT)
        await one.ack(third.receipt)
        with pytest.raises(OMSError):
            await one.ack(third.receipt)
        await _until(lambda: sorted(seen) == [(b"0", 1), (b"0", 2), (b"1", 1)])


async def test_a_device_and_an_application(gateway: RocketGateway, point: Any, queue: str) -> None:
    with PahoClient(f"device-{uuid4().hex[:8]}") as device:
        await asyncio.to_thread(device.open, gateway.mqtt_port)
        await asyncio.to_thread(device.subscribe, f"{queue}/down")
        async with point.create_producer() as producer, point.create_pull_consumer() as consumer:
            await consumer.bind_queue(f"{queue}/up")
            said = publish_properties(
                CorrelationData=b"c-1",
                ContentType="text/plain",
                UserProperty=[("colour", "red"), ("$key", "k")],
            )
            await asyncio.to_thread(device.publish, f"{queue}/up", b"hello", 1, properties=said)
            got = await consumer.receive(WAIT)
            assert got.data == b"hello"
            assert dict(got.properties) == {"colour": "red", "$content-type": "text/plain"}
            extension = got.extension_header
            assert (extension.correlation_id, extension.message_key) == ("c-1", "k")
            await consumer.ack(got.receipt)
            make = producer.create_message
            answer = make(f"{queue}/down", b"hi", correlation_id="c-1", message_key="k", properties={"n": 5})
            await producer.send(answer)
            told = await asyncio.to_thread(device.receive)
    assert told.payload == b"hi"
    assert told.properties.CorrelationData == b"c-1"
    pairs = dict(told.properties.UserProperty)
    assert (pairs["n"], pairs["$type:n"], pairs["$key"]) == ("5", "int", "k")


async def test_rocketmqs_own_client_and_the_driver(gateway: RocketGateway, point: Any) -> None:
    topic = f"both-{uuid4().hex[:8]}"
    with RocketPeer() as peer, peer.producer(gateway, topics=[topic]) as theirs:
        async with (
            point.create_producer() as ours,
            point.create_pull_consumer(consumer_id="crew") as consumer,
        ):
            await consumer.bind_queue(topic)
            await asyncio.to_thread(
                theirs.send, topic, b"theirs", tag="t", keys=["a"], properties={"size": "7"}
            )
            got = await consumer.receive(WAIT)
            assert (got.data, dict(got.properties)) == (b"theirs", {"size": "7"})
            assert (got.extension_header.tag, got.extension_header.search_keys) == ("t", ("a",))
            await consumer.ack(got.receipt)
            await ours.send(
                ours.create_message(topic, b"ours", tag="t", search_keys=("a",), properties={"size": 7})
            )
        with await asyncio.to_thread(peer.simple, gateway, "crew", topic) as member:
            (found,) = await asyncio.to_thread(member.collect, 1)
    assert (found.body, found.tag, found.keys) == (b"ours", "t", ["a"])
    assert (found.properties["size"], found.properties["$type:size"]) == ("7", "int")


def test_without_await(gateway: RocketGateway, queue: str) -> None:
    with (
        sync.get_access_point(url_of(gateway)) as point,
        point.create_producer() as producer,
        point.create_pull_consumer() as consumer,
    ):
        consumer.bind_queue(queue)
        producer.send(producer.create_message(queue, b"x"))
        got = consumer.receive(WAIT)
        assert got is not None
        assert got.data == b"x"
        assert got.receipt is not None
        consumer.ack(got.receipt)


async def _until(condition: Any) -> None:
    await asyncio.to_thread(wait_for, condition)
