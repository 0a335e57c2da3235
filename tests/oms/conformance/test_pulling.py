"""Pull consumers: receiving, settling, groups, selectors, and what a message says about itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.oms import (
    ConsumerInterceptor,
    ExtensionHeader,
    Feature,
    Header,
    InterceptorContext,
    Message,
    MessageSelector,
    MessagingAccessPoint,
    OMSDestinationError,
    OMSError,
    QoS,
    ResponseStatus,
)
from tests.oms.conformance.helpers import QUIET, clients, data, needs, nothing, one, take


async def test_what_is_acknowledged_never_comes_again(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send(producer.create_message(queue, "x"))
        assert data(await take(consumer, 1)) == [b"x"]
        await nothing(consumer)
    async with clients(access_point, queue) as (_, consumer):
        await nothing(consumer)


async def test_what_is_given_back_comes_again(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send(producer.create_message(queue, "x"))
        first = await one(consumer)
        assert first.header.delivery_count == 1
        assert first.receipt is not None
        await consumer.nack(first.receipt)
        await producer.send(producer.create_message(queue, "y"))
        assert data(await take(consumer, 1)) == [b"y"], "x waits for its time"


@needs(Feature.RETRY_LATER)
async def test_when_it_comes_again_can_be_said(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send(producer.create_message(queue, "x"))
        for attempt in (1, 2, 3):
            message = await one(consumer)
            assert (message.data, message.header.delivery_count) == (b"x", attempt)
            assert message.receipt is not None
            await consumer.nack(message.receipt, 0.05)
        await take(consumer, 1)


async def test_a_receipt_counts_once(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send(producer.create_message(queue, "x"))
        receipt = (await one(consumer)).receipt
        assert receipt is not None
        await consumer.ack(receipt)
        for settle in (consumer.ack, consumer.nack):
            with pytest.raises(OMSError) as refused:
                await settle(receipt)
            assert refused.value.code == ResponseStatus.BAD_PARAMETER


@needs(Feature.EXTEND)
async def test_a_receipt_can_be_extended(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send(producer.create_message(queue, "x"))
        receipt = (await one(consumer)).receipt
        assert receipt is not None
        await consumer.ack(await consumer.extend(receipt, 30))
        await nothing(consumer)


async def test_waiting_ends_with_a_message_or_the_time(
    access_point: MessagingAccessPoint, queue: str
) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        began = time.monotonic()
        assert await consumer.receive(QUIET) is None
        assert time.monotonic() - began >= QUIET - 0.05
        assert await consumer.receive(0) is None
        waiting = asyncio.ensure_future(consumer.receive())
        await asyncio.sleep(0)
        await producer.send(producer.create_message(queue, "x"))
        message = await waiting
        assert message is not None
        assert message.receipt is not None
        await consumer.ack(message.receipt)


async def test_what_is_there_comes_without_waiting(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send([producer.create_message(queue, f"{n}") for n in range(10)])
        found: list[Message] = []
        while len(found) < 10:
            some = await consumer.batch_receive(4, 1)
            assert 1 <= len(some) <= 4
            for message in some:
                assert message.receipt is not None
                await consumer.ack(message.receipt)
            found += some
        assert sorted(data(found)) == [b"%d" % n for n in range(10)]


async def test_a_wait_that_is_cancelled_takes_nothing(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        for _ in range(3):
            waiting = asyncio.ensure_future(consumer.receive(5))
            await asyncio.sleep(0.02)
            waiting.cancel()
            await asyncio.wait([waiting])
        await producer.send(producer.create_message(queue, "x"))
        assert data(await take(consumer, 1)) == [b"x"]


async def test_a_group_shares_and_groups_do_not(
    access_point: MessagingAccessPoint, queue: str, group: str
) -> None:
    async with (
        clients(access_point, queue, consumer_id=group) as (producer, one_of_us),
        clients(access_point, queue, consumer_id=group) as (_, other_of_us),
        clients(access_point, queue, consumer_id=group + "2") as (_, them),
        clients(access_point, queue) as (_, nobody),
    ):
        await producer.send([producer.create_message(queue, f"{n}") for n in range(10)])
        everything = [b"%d" % n for n in range(10)]
        assert sorted(data(await take(them, 10))) == everything
        assert sorted(data(await take(nobody, 10))) == everything
        ours = await take(one_of_us, 5)
        ours += await take(other_of_us, 5)
        assert sorted(data(ours)) == everything


async def test_a_group_keeps_what_comes_while_nobody_is_there(
    access_point: MessagingAccessPoint, queue: str, group: str
) -> None:
    async with clients(access_point, queue, consumer_id=group) as (producer, consumer):
        await consumer.stop()
        await producer.send(producer.create_message(queue, "x"))
        await consumer.start()
        assert consumer.bound_queues == [queue]
        assert data(await take(consumer, 1)) == [b"x"]


@needs(Feature.BROADCAST)
async def test_broadcasting_consumers_get_everything(
    access_point: MessagingAccessPoint, queue: str, group: str
) -> None:
    who = {"consumer_id": group, "broadcast": True}
    async with (
        clients(access_point, queue, **who) as (producer, first),
        clients(access_point, queue, **who) as (_, second),
    ):
        await producer.send([producer.create_message(queue, f"{n}") for n in range(3)])
        for consumer in (first, second):
            assert sorted(data(await take(consumer, 3))) == [b"0", b"1", b"2"]


async def test_several_queues_and_no_more(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        other = queue + "-2"
        await consumer.bind_queue([other])
        await producer.send([producer.create_message(name, name) for name in (queue, other)])
        got = await take(consumer, 2)
        assert {m.header.destination: m.data.decode() for m in got} == {queue: queue, other: other}
        await consumer.unbind_queue(other)
        assert consumer.bound_queues == [queue]
        await producer.send([producer.create_message(name, "again") for name in (queue, other)])
        assert [m.header.destination for m in await take(consumer, 1)] == [queue]
        await nothing(consumer)
        with pytest.raises(OMSDestinationError):
            await consumer.unbind_queue(other)


async def test_nothing_is_received_of_nothing(access_point: MessagingAccessPoint) -> None:
    async with access_point.create_pull_consumer() as consumer:
        with pytest.raises(OMSDestinationError):
            await consumer.receive(1)
        with pytest.raises(OMSError):
            await consumer.bind_queue([])
    with pytest.raises(OMSError):
        await consumer.receive(1)


async def test_a_message_comes_as_it_was_sent(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        sent = Message(
            data=b"\x00\xff" * 100,
            header=Header(queue),
            extension_header=ExtensionHeader(
                correlation_id="c-1",
                trace_id="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                tag="red",
                search_keys=("k1", "k2"),
            ),
            properties={"text": "ä", "n": -(1 << 40), "f": 0.5, "yes": True, "raw": b"\x00\xff", "empty": ""},
        )
        result = await producer.send(sent)
        got = (await take(consumer, 1))[0]
        assert got.data == sent.data
        assert dict(got.properties) == dict(sent.properties)
        header = got.header
        assert (header.destination, header.message_id, header.delivery_count) == (queue, result.message_id, 1)
        assert header.born_timestamp == sent.header.born_timestamp
        assert header.born_host, "as the producer says, or as the provider knows"
        for name in ("correlation_id", "trace_id", "tag", "search_keys", "message_key"):
            assert getattr(got.extension_header, name) == getattr(sent.extension_header, name), name


async def test_compressed_data_comes_plain(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send(producer.create_message(queue, "again and " * 1000, compression="gzip"))
        assert data(await take(consumer, 1)) == [b"again and " * 1000]


async def test_at_most_once_is_acknowledged_already(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send(producer.create_message(queue, "x", qos=QoS.AT_MOST_ONCE))
        message = await one(consumer)
        assert message.header.qos == QoS.AT_MOST_ONCE
        assert message.receipt is None
    async with clients(access_point, queue) as (_, consumer):
        await nothing(consumer)


@needs(Feature.TAG_SELECTORS)
async def test_selectors_by_tag(access_point: MessagingAccessPoint, queue: str, group: str) -> None:
    async with clients(access_point, queue) as (producer, everything):
        async with access_point.create_pull_consumer(consumer_id=group) as some:
            await some.bind_queue(queue, MessageSelector.by_tag("red || blue"))
            for tag in ("red", "green", "blue", None):
                await producer.send(producer.create_message(queue, str(tag), tag=tag))
            assert sorted(data(await take(some, 2))) == [b"blue", b"red"]
            await nothing(some)
        assert len(await take(everything, 4)) == 4


@needs(Feature.SQL_SELECTORS)
async def test_selectors_by_sql(access_point: MessagingAccessPoint, queue: str, group: str) -> None:
    async with access_point.create_producer() as producer:
        async with access_point.create_pull_consumer(consumer_id=group) as some:
            await some.bind_queue(queue, "price > 10 AND region = 'eu'")
            for price, region in ((5, "eu"), (15, "us"), (15, "eu")):
                sent = producer.create_message(queue, f"{price}{region}")
                sent.properties.put("price", price).put("region", region)
                try:
                    await producer.send(sent)
                except OMSDestinationError:
                    pass  # nobody wants this one
            assert data(await take(some, 1)) == [b"15eu"]
            await nothing(some)


@needs(Feature.SQL_SELECTORS)
async def test_a_selector_that_is_none(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.create_pull_consumer() as consumer:
        with pytest.raises(OMSError):
            await consumer.bind_queue(queue, "price >")


@needs(Feature.ORDER)
async def test_one_of_a_key_at_a_time(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        for n in range(3):
            await producer.send(producer.create_message(queue, f"{n}", message_key="k"))
        for n in range(3):
            message = await one(consumer)
            assert (message.data, message.extension_header.message_key) == (b"%d" % n, "k")
            await nothing(consumer)
            assert message.receipt is not None
            await consumer.ack(message.receipt)


async def test_iterating_waits_for_each(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send([producer.create_message(queue, "x") for _ in range(3)])
        found = 0
        async for message in consumer:
            assert message.receipt is not None
            await consumer.ack(message.receipt)
            found += 1
            if found == 3:
                break


async def test_interceptors_see_what_is_received(access_point: MessagingAccessPoint, queue: str) -> None:
    seen: list[str] = []

    class Notes(ConsumerInterceptor):
        async def pre_receive(self, message: Message, context: InterceptorContext) -> None:
            seen.append(f"pre {message.text}")
            if message.text == "no" and message.header.delivery_count == 1:
                raise PermissionError
            context.attributes["text"] = message.text

        def post_receive(
            self, message: Message, context: InterceptorContext, error: BaseException | None = None
        ) -> None:
            seen.append(f"post {context.attributes.get('text')} {type(error).__name__}")

    async with clients(access_point, queue) as (producer, consumer):
        notes = Notes()
        consumer.add_interceptor(notes)
        await producer.send(producer.create_message(queue, "yes"))
        await take(consumer, 1)
        await producer.send(producer.create_message(queue, "no"))
        await nothing(consumer)
        consumer.remove_interceptor(notes)
    assert seen == ["pre yes", "post yes NoneType", "pre no", "post None PermissionError"]
