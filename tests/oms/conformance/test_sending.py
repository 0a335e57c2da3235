"""Producers: one by one, together, without waiting; what is refused, and interceptors."""

from __future__ import annotations

import asyncio

import pytest

from gateway.oms import (
    InterceptorContext,
    Message,
    MessagingAccessPoint,
    OMSDestinationError,
    OMSError,
    OMSMessageFormatError,
    OMSTransactionError,
    ProducerInterceptor,
    ResponseStatus,
    ServiceState,
)
from tests.oms.conformance.drivers import Provider
from tests.oms.conformance.helpers import clients, data, take


async def test_each_message_has_an_id(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        sent = [await producer.send(producer.create_message(queue, f"{n}")) for n in range(3)]
        got = await take(consumer, 3)
        assert len({result.message_id for result in sent}) == 3
        assert {m.header.message_id: m.data for m in got} == {
            result.message_id: b"%d" % n for n, result in enumerate(sent)
        }


async def test_a_batch_has_results_in_order(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        results = await producer.send([producer.create_message(queue, f"{n}") for n in range(20)])
        ids = {m.header.message_id: m.data for m in await take(consumer, 20)}
        assert [ids[result.message_id] for result in results] == [b"%d" % n for n in range(20)]
        assert await producer.send([]) == []


async def test_sending_without_waiting(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        futures = [producer.send_async(producer.create_message(queue, f"{n}")) for n in range(50)]
        batch = producer.send_async([producer.create_message(queue, "b")])
        results = await asyncio.gather(*futures)
        results += await batch
        assert {m.header.message_id for m in await take(consumer, 51)} == {r.message_id for r in results}


async def test_sending_without_an_answer(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        await producer.send_oneway(producer.create_message(queue, "one"))
        await producer.send_oneway([producer.create_message(queue, f"{n}") for n in range(3)])
        assert sorted(data(await take(consumer, 4))) == [b"0", b"1", b"2", b"one"]


async def test_a_batch_sender_sends_at_commit(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        batch = producer.batch()
        batch.send(producer.create_message(queue, "never")).send(producer.create_message(queue, "never"))
        batch.rollback()
        results = await batch.send(producer.create_message(queue, "a")).commit()
        assert len(results) == 1
        async with producer.batch() as another:
            another.send(producer.create_message(queue, "b"))
        failing = producer.batch()
        await failing.__aenter__()
        failing.send(producer.create_message(queue, "never"))
        await failing.__aexit__(LookupError, LookupError(), None)
        batch.close()
        with pytest.raises(OMSTransactionError):
            batch.send(producer.create_message(queue, "late"))
        await producer.send(producer.create_message(queue, "c"))
        assert sorted(data(await take(consumer, 3))) == [b"a", b"b", b"c"]


async def test_what_is_wrong_with_a_message_is_raised(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, _):
        good = producer.create_message(queue, "x")
        for bad in (Message("", b"x"), Message(queue, bytes(5 << 20))):
            for send in (producer.send, producer.send_async, producer.send_oneway):
                with pytest.raises(OMSMessageFormatError):
                    await send(bad)
                with pytest.raises(OMSMessageFormatError):
                    await send([good, bad])


async def test_a_queue_that_nobody_has(
    access_point: MessagingAccessPoint, provider: Provider, queue: str
) -> None:
    async with access_point.create_producer() as producer:
        if provider.knows_destinations:
            with pytest.raises(OMSDestinationError) as refused:
                await producer.send(producer.create_message(queue, "x"))
            assert refused.value.code == ResponseStatus.DESTINATION_NOT_FOUND
        else:
            assert (await producer.send(producer.create_message(queue, "x"))).message_id


async def test_started_and_stopped_and_started(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.create_pull_consumer() as consumer:
        await consumer.bind_queue(queue)
        producer = access_point.create_producer()
        assert producer.state is ServiceState.INITIALIZED
        for n in range(2):
            with pytest.raises(OMSError) as refused:
                await producer.send(producer.create_message(queue, "x"))
            assert refused.value.code == ResponseStatus.SERVICE_UNAVAILABLE
            await producer.start()
            await producer.start()
            assert producer.state is ServiceState.STARTED
            await producer.send(producer.create_message(queue, f"{n}"))
            await producer.stop()
            await producer.stop()
            assert producer.state is ServiceState.STOPPED
        assert data(await take(consumer, 2)) == [b"0", b"1"]


class Notes(ProducerInterceptor):
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def pre_send(self, message: Message, context: InterceptorContext) -> None:
        context.attributes["n"] = len(self.seen)
        message.properties["mark"] = "seen"
        self.seen.append(("pre", message.data))

    async def post_send(
        self, message: Message, context: InterceptorContext, error: BaseException | None = None
    ) -> None:
        self.seen.append(("post", message.data, context.attributes["n"], type(error)))


async def test_interceptors_see_each_message(access_point: MessagingAccessPoint, queue: str) -> None:
    notes = Notes()
    async with clients(access_point, queue) as (producer, consumer):
        producer.add_interceptor(notes)
        await producer.send(producer.create_message(queue, "a"))
        await producer.send_async(producer.create_message(queue, "b"))
        await producer.send([producer.create_message(queue, "c")])
        with pytest.raises(OMSMessageFormatError):
            await producer.send(Message("", b"bad"))
        producer.remove_interceptor(notes)
        await producer.send(producer.create_message(queue, "d"))
        got = {m.data: m.properties.get("mark") for m in await take(consumer, 4)}
    none = type(None)
    assert notes.seen == [
        *(("pre", b"a"), ("post", b"a", 0, none)),
        *(("pre", b"b"), ("post", b"b", 2, none)),
        *(("pre", b"c"), ("post", b"c", 4, none)),
        *(("pre", b"bad"), ("post", b"bad", 6, OMSMessageFormatError)),
    ]
    assert got == {b"a": "seen", b"b": "seen", b"c": "seen", b"d": None}


async def test_an_interceptor_can_refuse(access_point: MessagingAccessPoint, queue: str) -> None:
    class No(ProducerInterceptor):
        async def pre_send(self, message: Message, context: InterceptorContext) -> None:
            raise PermissionError

    async with clients(access_point, queue) as (producer, consumer):
        no = No()
        producer.add_interceptor(no)
        with pytest.raises(PermissionError):
            await producer.send(producer.create_message(queue, "no"))
        producer.remove_interceptor(no)
        await producer.send(producer.create_message(queue, "yes"))
        assert data(await take(consumer, 1)) == [b"yes"]
