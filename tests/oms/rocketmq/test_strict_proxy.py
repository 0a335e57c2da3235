"""The driver against what RocketMQ's own proxy insists on: see `strict_proxy`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("grpc")

from gateway.oms import (
    Message,
    MessageSelector,
    OMSDestinationError,
    OMSError,
    OMSMessageFormatError,
    OMSSecurityError,
    OMSTransactionError,
    OMSUnsupportedError,
    ResponseStatus,
    get_access_point,
)
from gateway.rocketmq.numbers import Code, TransactionSource
from tests.process import wait_for

SECRET = {"ACCOUNT_KEY": "wonderland"}
WAIT = 5.0  # for what is there, or comes at once


class Proxy:
    """The process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("strict_proxy.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ports = self._line()
        self.url = f"oms:rocketmq://alice@127.0.0.1:{self.ports[0]}/region"

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def requests(self, name: str) -> list[int]:
        """Return the numbers noted with a procedure since the last look."""
        return [number for what, number in self.all_requests() if what == name]

    def all_requests(self) -> Any:
        """Return all that was noted since the last look: (procedure, number)."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    found = Proxy()
    yield found
    found.close()


@pytest.fixture
def queue() -> str:
    """A queue of the test's own."""
    return f"q-{uuid4().hex[:8]}"


@pytest.fixture
async def point(proxy: Proxy) -> AsyncIterator[Any]:
    async with get_access_point(proxy.url, SECRET) as found:
        yield found


async def test_batches_go_together_and_come_from_both_brokers(point: Any, proxy: Proxy, queue: str) -> None:
    proxy.requests("SendMessage")
    async with point.create_producer() as producer, point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
        results = await producer.send([Message(queue, b"%d" % n) for n in range(200)])
        assert [len(result.message_id) for result in results] == [34] * 200
        assert len({result.message_id for result in results}) == 200
        got = set()
        while len(got) < 200:
            messages = await consumer.batch_receive(32, WAIT)
            got |= {message.data for message in messages}
            await asyncio.gather(*(consumer.ack(message.receipt) for message in messages))
        sizes = proxy.requests("SendMessage")
        assert sorted(sizes) == [72, 128]
        assert await consumer.receive(0.1) is None


async def test_sends_of_many_tasks_share_requests(point: Any, proxy: Proxy, queue: str) -> None:
    async with point.create_producer() as producer:
        await producer.send(Message(queue, b"first"))
        proxy.requests("SendMessage")
        await asyncio.gather(*(producer.send(Message(queue, b"%d" % n)) for n in range(64)))
        assert proxy.requests("SendMessage") == [64]


async def test_what_was_handed_over_is_sent_before_the_end(point: Any, queue: str) -> None:
    async with point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
        async with point.create_producer() as producer:
            await producer.send_oneway([Message(queue, b"%d" % n) for n in range(300)])
        got = set()
        while len(got) < 300:
            messages = await consumer.batch_receive(32, WAIT)
            assert messages
            got |= {message.data for message in messages}


async def test_kinds_keys_and_delays_do_not_mix(point: Any, proxy: Proxy, queue: str) -> None:
    async with point.create_producer() as producer:
        make = producer.create_message
        batch = [make(queue, b"x") for _ in range(3)]
        batch += [make(queue, b"x", message_key=f"k{n % 2}") for n in range(4)]
        batch += [make(queue, b"x", delay_time=60_000) for _ in range(2)]
        batch += [make(queue, b"x", priority=7) for _ in range(2)]
        batch += [make(queue, b"x" * 1000, compression="gzip") for _ in range(2)]
        proxy.requests("SendMessage")
        await producer.send(batch)
        assert sorted(proxy.requests("SendMessage")) == [1, 1, 1, 1, 1, 1, 2, 2, 3]


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
            trace_id="00-0123",
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
        for name in ("born_timestamp", "born_host", "compression", "qos", "priority"):
            assert getattr(got.header, name) == getattr(sent.header, name), name
        for name in ("message_key", "correlation_id", "trace_id", "tag", "search_keys"):
            assert getattr(got.extension_header, name) == getattr(sent.extension_header, name), name
        await consumer.ack(got.receipt)
        with pytest.raises(OMSError) as raised:
            await consumer.ack(got.receipt)
        assert raised.value.code == ResponseStatus.BAD_PARAMETER


async def test_a_short_lease_is_shortened_after_receiving(point: Any, queue: str) -> None:
    async with (
        point.create_producer() as producer,
        point.create_pull_consumer(invisible_time=200) as consumer,
    ):
        await consumer.bind_queue(queue)
        await producer.send(Message(queue, b"x"))
        first = await consumer.receive(WAIT)
        again = await consumer.receive(WAIT)
        assert (first.header.delivery_count, again.header.delivery_count) == (1, 2)
        kept = await consumer.extend(again.receipt, 30)
        assert await consumer.receive(0.3) is None
        await consumer.nack(kept, 0)
        third = await consumer.receive(WAIT)
        assert third.header.delivery_count == 3
        await consumer.ack(third.receipt)


async def test_a_receive_that_is_cancelled_loses_nothing(point: Any, queue: str) -> None:
    async with point.create_producer() as producer, point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
        waiting = asyncio.ensure_future(consumer.receive())
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        await producer.send(Message(queue, b"x"))
        got = await consumer.receive(WAIT)
        assert (got.data, got.header.delivery_count) == (b"x", 1)
        await consumer.ack(got.receipt)


async def test_tags_are_selected(point: Any, queue: str) -> None:
    async with point.create_producer() as producer, point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue, MessageSelector.by_tag("a || c"))
        for tag in "abc":
            await producer.send(producer.create_message(queue, tag, tag=tag))
        got = {(await consumer.receive(WAIT)).data for _ in range(2)}
        assert got == {b"a", b"c"}


async def test_a_refused_send_is_tried_again_with_its_id(point: Any, proxy: Proxy) -> None:
    proxy.requests("SendMessage")
    async with point.create_producer() as producer:
        result = await producer.send(Message("flaky", b"x"))
        assert len(result.message_id) == 34
        # the other broker has not seen it either
        assert len(proxy.requests("SendMessage")) in (2, 3)


async def test_delays_and_recall(point: Any, queue: str) -> None:
    async with point.create_producer() as producer, point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
        await producer.send(producer.create_message(queue, b"soon", delay_time=300))
        late = await producer.send(producer.create_message(queue, b"late", delay_time=60_000))
        await producer.recall(late)
        with pytest.raises(OMSDestinationError):
            await producer.recall(late)
        got = await consumer.receive(WAIT)
        assert got.data == b"soon"
        assert got.extension_header.delay_time == 300


async def test_transactions(point: Any, proxy: Proxy, queue: str) -> None:
    asked: list[str] = []

    def decide(message: Message, context: Any) -> None:
        asked.append(message.extension_header.transaction_id or "")
        if message.data == b"orphan":
            context.commit()
        else:
            context.unknown()

    async with point.create_producer(decide) as producer, point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
        committed = await producer.prepare(Message(queue, b"committed"))
        rolled_back = await producer.prepare(Message(queue, b"rolled back"))
        assert await consumer.receive(0.1) is None
        await committed.commit()
        await rolled_back.rollback()
        assert (await consumer.receive(WAIT)).data == b"committed"
        orphan = await producer.prepare(Message(queue, b"orphan"))
        assert (await consumer.receive(WAIT)).data == b"orphan"
        assert asked[-1] == orphan.transaction_id
        sources = proxy.requests("EndTransaction")
        assert sources.count(TransactionSource.SOURCE_SERVER_CHECK) == 1
        with pytest.raises(OMSTransactionError):
            await orphan.commit()


async def test_push_acknowledges_together_and_tries_again(point: Any, proxy: Proxy, queue: str) -> None:
    seen: list[tuple[bytes, int]] = []

    async def listen(message: Message, context: Any) -> None:
        seen.append((message.data, message.header.delivery_count))
        if message.data == b"bad" and message.header.delivery_count == 1:
            raise ValueError("not yet")

    async with point.create_producer() as producer, point.create_push_consumer() as consumer:
        await consumer.bind_queue(queue, listen)
        await producer.send([Message(queue, b"%d" % n) for n in range(20)] + [Message(queue, b"bad")])
        await _until(lambda: (b"bad", 2) in seen and len(seen) == 22)
        await asyncio.sleep(0)
    assert sum(proxy.requests("AckMessage")) >= 21


async def test_a_group_in_order_gives_up_itself(point: Any) -> None:
    queue = f"fifo-{uuid4().hex[:8]}"
    seen: list[tuple[bytes, int]] = []

    def listen(message: Message, context: Any) -> None:
        seen.append((message.data, message.header.delivery_count))
        if message.data == b"1":
            raise ValueError("never")

    async with (
        point.create_producer() as producer,
        point.create_push_consumer(consumer_id="ordered") as consumer,
        point.create_pull_consumer(consumer_id="undertaker") as undertaker,
    ):
        await undertaker.bind_queue("%DLQ%ordered")
        await consumer.bind_queue(queue, listen)
        await producer.send([producer.create_message(queue, b"%d" % n, message_key="k") for n in range(3)])
        assert (await undertaker.receive(WAIT)).data == b"1"
        await _until(lambda: seen[-1][0] == b"2")
    assert seen == [(b"0", 1), (b"1", 1), (b"1", 2), (b"1", 3), (b"2", 1)]


async def test_what_is_corrupted_comes_again(point: Any) -> None:
    async with point.create_producer() as producer, point.create_pull_consumer() as consumer:
        await consumer.bind_queue("corrupted")
        await producer.send(Message("corrupted", b"x"))
        got = await consumer.receive(WAIT)
        assert (got.data, got.header.delivery_count) == (b"x", 2)


async def test_errors_have_their_codes(point: Any, proxy: Proxy, queue: str) -> None:
    async with point.create_producer() as producer:
        with pytest.raises(OMSMessageFormatError) as raised:
            await producer.send(Message(queue, b""))
        assert raised.value.code == ResponseStatus.BODY_REQUIRED
        with pytest.raises(OMSMessageFormatError) as raised:
            await producer.send(Message(queue, bytes(2 << 20)))
        assert raised.value.code == ResponseStatus.BODY_TOO_LARGE
        with pytest.raises(OMSDestinationError) as lost:
            await producer.send(Message("unknown", b"x"))
        assert lost.value.code == ResponseStatus.DESTINATION_NOT_FOUND


async def test_a_stranger_is_told_so_at_the_start(proxy: Proxy) -> None:
    producer = get_access_point(proxy.url, {"ACCOUNT_KEY": "looking glass"}).create_producer()
    with pytest.raises(OMSSecurityError) as raised:
        await producer.start()
    assert raised.value.code == ResponseStatus.UNAUTHORIZED


async def test_streams_are_not_there(point: Any, queue: str) -> None:
    async with point.create_streaming_consumer() as consumer:
        with pytest.raises(OMSUnsupportedError):
            await consumer.seek_to_beginning(queue)


async def test_what_a_server_asks_is_answered(point: Any, proxy: Proxy) -> None:
    seen: dict[str, list[int]] = {"answer": [], "Telemetry": []}

    def look() -> bool:
        for name, found in proxy.all_requests():
            seen.setdefault(name, []).append(found)
        # an answer to each question of both brokers, and each is dialled a second time
        return len(seen["answer"]) == 4 and len(seen["Telemetry"]) >= 4

    proxy.all_requests()
    async with point.create_producer() as producer:
        await producer.send(Message("curious", b"x"))
        await _until(look)
        assert set(seen["answer"]) == {Code.UNSUPPORTED}
        await producer.send(Message("curious", b"x"))


async def test_broadcasting_is_not_there(point: Any, queue: str) -> None:
    async with point.create_pull_consumer(broadcast=True) as consumer:
        with pytest.raises(OMSUnsupportedError):
            await consumer.bind_queue(queue)


async def test_a_topic_moves(point: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.oms.drivers.rocketmq.client.HEARTBEAT_SECONDS", 0.02)
    async with point.create_producer() as producer:
        await producer.send(Message("moving", b"x"))
        await _until(lambda: len(proxy.requests("QueryRoute")) > 0)
        await _until(lambda: set(proxy.requests("Heartbeat")) == {0})
        await producer.send([Message("moving", b"x") for _ in range(3)])


async def test_a_consumer_moves_with_it(point: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.oms.drivers.rocketmq.client.HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr("gateway.oms.drivers.rocketmq.receiving.FOLLOW_SECONDS", 0.02)
    async with point.create_pull_consumer() as consumer:
        await consumer.bind_queue("moving")
        for _ in range(100):
            proxy.all_requests()
            await consumer.receive(0.05)
            if set(proxy.requests("ReceiveMessage")) == {0}:
                break
        else:
            pytest.fail("it asks where nothing is any more")


async def test_many_topics(point: Any, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.oms.drivers.rocketmq.sending.TOPICS_MAX", 2)
    monkeypatch.setattr("gateway.oms.drivers.rocketmq.routes.ROUTES_MAX", 2)
    monkeypatch.setattr("gateway.oms.drivers.rocketmq.sending.LANES_MAX", 2)
    async with point.create_producer() as producer:
        for _ in range(2):
            results = await producer.send([Message(f"{queue}-{n}", b"x") for n in range(5)])
            assert len(results) == 5


async def test_leaving_is_told(point: Any, proxy: Proxy, queue: str) -> None:
    proxy.requests("NotifyClientTermination")
    async with point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
    assert proxy.requests("NotifyClientTermination") == [1, 1]


async def _until(condition: Any) -> None:
    await asyncio.to_thread(wait_for, condition)
