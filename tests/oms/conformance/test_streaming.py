"""Streams: from the beginning, the end, a position or a time; forwards and back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway.oms import Feature, MessagingAccessPoint, OMSError, QueueMetaData, ResponseStatus
from tests.oms.conformance.helpers import SECONDS, needs


async def fill(access_point: MessagingAccessPoint, queue: str, first: int, end: int) -> None:
    """Send numbers."""
    async with access_point.create_producer() as producer:
        for n in range(first, end):
            await producer.send(producer.create_message(queue, f"{n}"))


@needs(Feature.STREAMS)
async def test_forwards_and_back(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.create_streaming_consumer() as consumer:
        place = await consumer.seek_to_beginning(queue)
        assert not await place.has_next()
        assert not await place.has_previous()
        assert await place.previous() is None
        first = place.next_position
        await fill(access_point, queue, 0, 5)
        forth = []
        while await place.has_next():
            message = await place.next()
            assert message is not None
            assert message.receipt is None
            assert message.header.destination == queue
            forth.append((message.data, message.extension_header.offset))
        assert forth == [(b"%d" % n, first + n) for n in range(5)]
        assert await place.next() is None
        assert (place.next_position, place.previous_position) == (first + 5, first + 4)
        back = []
        while (message := await place.previous()) is not None:
            back.append(message.data)
        assert back == [b"4", b"3", b"2", b"1", b"0"]
        again = await place.next()
        assert again is not None
        assert again.data == b"0"
        assert place.next_position == first + 1


@needs(Feature.STREAMS)
async def test_reading_takes_nothing_from_anybody(access_point: MessagingAccessPoint, queue: str) -> None:
    async with (
        access_point.create_streaming_consumer() as one,
        access_point.create_streaming_consumer() as two,
    ):
        places = [await each.seek_to_end(queue) for each in (one, two)]
        await fill(access_point, queue, 0, 3)
        for place in places:
            got = [await place.next(SECONDS) for _ in range(3)]
            assert [m.data for m in got if m is not None] == [b"0", b"1", b"2"]


@needs(Feature.STREAMS)
async def test_seeking(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.create_streaming_consumer() as consumer:
        first = (await consumer.seek_to_beginning(queue)).next_position
        await fill(access_point, queue, 0, 3)
        between = datetime.now(UTC)
        await asyncio.sleep(0.05)
        await fill(access_point, queue, 3, 5)
        for position, expected in (
            (first + 2, b"2"),
            (QueueMetaData(queue, 0), b"0"),
            (between + timedelta(milliseconds=20), b"3"),
        ):
            if isinstance(position, QueueMetaData):
                place = await consumer.seek_to_beginning(position)
            else:
                place = await consumer.seek(queue, position)
            message = await place.next()
            assert message is not None
            assert message.data == expected
        assert not await (await consumer.seek(queue, first + 5)).has_next()
        assert not await (await consumer.seek_to_end(queue)).has_next()
        for nowhere in (first + 6, -1):
            with pytest.raises(OMSError) as refused:
                await consumer.seek(queue, nowhere)
            assert refused.value.code == ResponseStatus.BAD_PARAMETER
        with pytest.raises(OMSError):
            await consumer.seek_to_end(QueueMetaData(queue, 99))


@needs(Feature.STREAMS)
async def test_at_the_end_it_waits(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.create_streaming_consumer() as consumer:
        place = await consumer.seek_to_end(queue)
        assert await place.next(0.1) is None
        got: list[bytes] = []

        async def follow() -> None:
            async for message in place:
                got.append(message.data)
                if len(got) == 2:
                    return

        following = asyncio.ensure_future(follow())
        await fill(access_point, queue, 0, 2)
        await asyncio.wait_for(following, SECONDS)
        assert got == [b"0", b"1"]


@needs(Feature.STREAMS)
async def test_a_pull_consumer_can_read_a_position(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.create_streaming_consumer() as consumer:
        first = (await consumer.seek_to_beginning(queue)).next_position
    await fill(access_point, queue, 0, 4)
    async with access_point.create_pull_consumer() as pull:
        message = await pull.receive(1, queue=queue, position=first + 1)
        assert message is not None
        assert (message.data, message.receipt) == (b"1", None)
        some = await pull.batch_receive(2, 1, queue=queue, position=first + 2)
        assert [m.data for m in some] == [b"2", b"3"]
        assert await pull.receive(0.05, queue=queue, position=first + 4) is None
        with pytest.raises(OMSError):
            await pull.receive(1, position=1)
        with pytest.raises(OMSError):
            await pull.receive(1, queue=queue)
        assert await pull.queue_metadata(queue) == [QueueMetaData(queue, 0)]
