"""Push consumers: listeners, retries by raising, batches, suspending, order, and stopping."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.oms import (
    ConsumerInterceptor,
    Feature,
    InterceptorContext,
    ListenerContext,
    Message,
    MessagingAccessPoint,
    OMSError,
)
from tests.oms.conformance.helpers import QUIET, clients, data, needs, nothing, take, until


async def test_plain_and_async_listeners(access_point: MessagingAccessPoint, queue: str) -> None:
    got: list[tuple[str, bytes]] = []

    def plain(message: Message, context: ListenerContext) -> None:
        got.append(("plain", message.data))

    async def waiting(message: Message, context: ListenerContext) -> None:
        await asyncio.sleep(0)
        got.append(("async", message.data))

    async with access_point.create_push_consumer() as consumer, access_point.create_producer() as producer:
        await consumer.bind_queue(queue, plain)
        await consumer.bind_queue(queue + "-2", waiting)
        for name in (queue, queue + "-2"):
            await producer.send([producer.create_message(name, f"{n}") for n in range(3)])
        await until(lambda: len(got) == 6)
        assert sorted(got) == [(kind, b"%d" % n) for kind in ("async", "plain") for n in range(3)]
        assert consumer.bound_queues == [queue, queue + "-2"]
    async with clients(access_point, queue) as (_, rest):
        await nothing(rest)


@needs(Feature.RETRY_LATER)
async def test_raising_has_it_come_again(access_point: MessagingAccessPoint, queue: str) -> None:
    attempts: list[int] = []

    async def failing(message: Message, context: ListenerContext) -> None:
        attempts.append(message.header.delivery_count)
        if len(attempts) < 3:
            raise LookupError("not yet")

    async with access_point.create_push_consumer(retry_delay=50) as consumer:
        await consumer.bind_queue(queue, failing)
        async with access_point.create_producer() as producer:
            await producer.send(producer.create_message(queue, "x"))
        await until(lambda: len(attempts) == 3)
        await asyncio.sleep(QUIET)
        assert attempts == [1, 2, 3]


async def test_what_was_acknowledged_does_not_come_again_by_raising(
    access_point: MessagingAccessPoint, queue: str
) -> None:
    calls: list[Message] = []

    def listener(message: Message, context: ListenerContext) -> None:
        calls.append(message)
        context.ack()
        raise LookupError("too late")

    async with access_point.create_push_consumer() as consumer:
        await consumer.bind_queue(queue, listener)
        async with access_point.create_producer() as producer:
            await producer.send(producer.create_message(queue, "x"))
        await until(lambda: calls)
        await asyncio.sleep(QUIET)
        assert len(calls) == 1


async def test_manual_acknowledgement(access_point: MessagingAccessPoint, queue: str) -> None:
    held: list[tuple[Message, ListenerContext]] = []

    def listener(message: Message, context: ListenerContext) -> None:
        held.append((message, context))

    async with access_point.create_push_consumer() as consumer:
        await consumer.bind_queue(queue, listener, manual_ack=True)
        async with access_point.create_producer() as producer:
            await producer.send(producer.create_message(queue, "x"))
        await until(lambda: held)
        message, context = held[0]
        assert context.unsettled == (message.receipt,)
        context.ack()
        context.ack()
        assert context.unsettled == ()
    async with clients(access_point, queue) as (_, rest):
        await nothing(rest)


async def test_batches_of_one_queue(access_point: MessagingAccessPoint, queue: str) -> None:
    batches: list[list[Message]] = []

    async def listener(batch: list[Message], context: ListenerContext) -> None:
        batches.append(batch)

    consumer = access_point.create_push_consumer(batch_size=4)
    await consumer.bind_queue([queue, queue + "-2"], listener, batch=True)
    async with consumer, access_point.create_producer() as producer:
        for name in (queue, queue + "-2"):
            await producer.send([producer.create_message(name, f"{n}") for n in range(10)])
        await until(lambda: sum(len(batch) for batch in batches) == 20)
        assert max(len(batch) for batch in batches) <= 4
        assert all(len({m.header.destination for m in batch}) == 1 for batch in batches)


@needs(Feature.RETRY_LATER)
async def test_of_a_batch_some_can_be_settled(access_point: MessagingAccessPoint, queue: str) -> None:
    seen: list[tuple[bytes, int]] = []

    def listener(batch: list[Message], context: ListenerContext) -> None:
        seen.extend((message.data, message.header.delivery_count) for message in batch)
        good = [m.receipt for m in batch if m.data == b"good" and m.receipt is not None]
        context.success(*good)
        if any(m.header.delivery_count == 1 and m.data == b"bad" for m in batch):
            raise LookupError("some are bad")

    async with access_point.create_push_consumer(retry_delay=50) as consumer:
        await consumer.bind_queue(queue, listener, batch=True)
        async with access_point.create_producer() as producer:
            await producer.send([producer.create_message(queue, text) for text in ("good", "bad")])
        await until(lambda: (b"bad", 2) in seen)
        await asyncio.sleep(QUIET)
        assert sorted(seen) == [(b"bad", 1), (b"bad", 2), (b"good", 1)]


async def test_suspended_and_resumed(access_point: MessagingAccessPoint, queue: str) -> None:
    got: list[bytes] = []
    async with access_point.create_push_consumer() as consumer, access_point.create_producer() as producer:
        await consumer.bind_queue(queue, lambda message, context: got.append(message.data))
        await producer.send(producer.create_message(queue, "a"))
        await until(lambda: got == [b"a"])
        consumer.suspend()
        assert consumer.is_suspended
        await producer.send(producer.create_message(queue, "b"))
        await asyncio.sleep(QUIET)
        assert got == [b"a"]
        consumer.resume()
        assert not consumer.is_suspended
        await until(lambda: got == [b"a", b"b"])
        consumer.suspend(0.1)
        await until(lambda: not consumer.is_suspended)
        await producer.send(producer.create_message(queue, "c"))
        await until(lambda: got == [b"a", b"b", b"c"])


async def test_who_is_suspended_leaves_it_to_others(access_point: MessagingAccessPoint, queue: str) -> None:
    got: list[bytes] = []
    async with access_point.create_push_consumer() as consumer:
        await consumer.bind_queue(queue, lambda message, context: got.append(message.data))
        await asyncio.sleep(0.05)  # it is receiving by now
        consumer.suspend()
        async with clients(access_point, queue) as (producer, other):
            await producer.send(producer.create_message(queue, "x"))
            assert data(await take(other, 1)) == [b"x"]
        assert got == []


@needs(Feature.ORDER)
async def test_a_key_is_in_order_and_alone(access_point: MessagingAccessPoint, queue: str) -> None:
    got: dict[str, list[int]] = {"a": [], "b": []}
    running: set[str] = set()

    async def listener(message: Message, context: ListenerContext) -> None:
        key = message.extension_header.message_key
        assert key is not None
        assert key not in running, "another message of the key is at work"
        running.add(key)
        await asyncio.sleep(0.002)
        running.discard(key)
        got[key].append(int(message.data))

    async with access_point.create_push_consumer() as consumer, access_point.create_producer() as producer:
        await consumer.bind_queue(queue, listener)
        for n in range(20):
            for key in got:
                await producer.send(producer.create_message(queue, f"{n}", message_key=key))
        await until(lambda: sum(len(each) for each in got.values()) == 40)
        assert got == {"a": list(range(20)), "b": list(range(20))}


async def test_no_more_listeners_than_wanted(access_point: MessagingAccessPoint, queue: str) -> None:
    running, most, done = 0, 0, 0

    async def listener(message: Message, context: ListenerContext) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        done += 1

    async with access_point.create_push_consumer(consume_concurrency=3) as consumer:
        await consumer.bind_queue(queue, listener)
        async with access_point.create_producer() as producer:
            await producer.send([producer.create_message(queue, "x") for _ in range(20)])
        await until(lambda: done == 20)
        assert most <= 3


async def test_stopping_waits_and_starting_goes_on(access_point: MessagingAccessPoint, queue: str) -> None:
    began, ended = asyncio.Event(), []

    async def listener(message: Message, context: ListenerContext) -> None:
        began.set()
        await asyncio.sleep(0.1)
        ended.append(message.data)

    consumer = access_point.create_push_consumer()
    await consumer.bind_queue(queue, listener)
    async with access_point.create_producer() as producer:
        async with consumer:
            await producer.send(producer.create_message(queue, "a"))
            await began.wait()
        assert ended == [b"a"]
        await producer.send(producer.create_message(queue, "b"))
        async with consumer:
            await until(lambda: ended == [b"a", b"b"])
    async with clients(access_point, queue) as (_, rest):
        await nothing(rest)


async def test_unbound_means_no_more(access_point: MessagingAccessPoint, queue: str) -> None:
    got: list[bytes] = []
    async with access_point.create_push_consumer() as consumer, access_point.create_producer() as producer:
        await consumer.bind_queue(queue, lambda message, context: got.append(message.data))
        await producer.send(producer.create_message(queue, "a"))
        await until(lambda: got == [b"a"])
        await consumer.unbind_queue(queue)
        await producer.send(producer.create_message(queue, "b"))
        await asyncio.sleep(QUIET)
        assert got == [b"a"]


async def test_interceptors_are_around_the_listener(access_point: MessagingAccessPoint, queue: str) -> None:
    seen: list[Any] = []

    class Notes(ConsumerInterceptor):
        def pre_receive(self, message: Message, context: InterceptorContext) -> None:
            context.attributes["began"] = 1
            seen.append("pre")

        async def post_receive(
            self, message: Message, context: InterceptorContext, error: BaseException | None = None
        ) -> None:
            seen.append(("post", dict(context.attributes), type(error)))

    def listener(message: Message, context: ListenerContext) -> None:
        context.attributes["listened"] = 2
        seen.append("listener")

    async with access_point.create_push_consumer() as consumer:
        consumer.add_interceptor(Notes())
        await consumer.bind_queue(queue, listener)
        async with access_point.create_producer() as producer:
            await producer.send(producer.create_message(queue, "x"))
        await until(lambda: len(seen) == 3)
    assert seen == ["pre", "listener", ("post", {"began": 1, "listened": 2}, type(None))]


@pytest.mark.parametrize(
    "attributes", [{"consume_concurrency": 0}, {"batch_size": -1}, {"invisible_time": 0}]
)
async def test_attributes_that_cannot_be(
    access_point: MessagingAccessPoint, attributes: dict[str, int]
) -> None:
    with pytest.raises(OMSError):
        access_point.create_push_consumer(**attributes)
