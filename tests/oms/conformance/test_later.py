"""Delays, recall, expiry and priorities."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.oms import Feature, MessagingAccessPoint, OMSError, ResponseStatus
from tests.oms.conformance.helpers import clients, data, needs, nothing, one, take


@needs(Feature.DELAY)
async def test_not_before_its_time(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        began = time.time()
        await producer.send(producer.create_message(queue, "later", delay_time=500))
        await producer.send(producer.create_message(queue, "now"))
        assert data(await take(consumer, 2)) == [b"now", b"later"]
        assert time.time() - began >= 0.49


@needs(Feature.DELAY, Feature.RECALL)
async def test_what_is_recalled_never_comes(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        gone = await producer.send(producer.create_message(queue, "gone", delay_time=600))
        await producer.send(producer.create_message(queue, "comes", delay_time=700))
        await producer.recall(gone)
        assert data(await take(consumer, 1)) == [b"comes"]
        await nothing(consumer)
        with pytest.raises(OMSError) as refused:
            await producer.recall(gone)
        assert refused.value.code == ResponseStatus.DESTINATION_NOT_FOUND


@needs(Feature.EXPIRY)
async def test_what_has_expired_does_not_come(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        soon = int(time.time() * 1000) + 300
        await producer.send(producer.create_message(queue, "short", expire_time=soon))
        await producer.send(producer.create_message(queue, "ignored", expire_time=1))
        await producer.send(producer.create_message(queue, "long", expire_time=soon + 60_000))
        await asyncio.sleep(0.5)
        got = await take(consumer, 2)
        assert sorted(data(got)) == [b"ignored", b"long"]
        assert {m.data: m.extension_header.expire_time for m in got} == {
            b"ignored": None,
            b"long": pytest.approx(soon + 60_000, abs=5),
        }


@needs(Feature.PRIORITY)
async def test_priorities_come_as_they_were_said(access_point: MessagingAccessPoint, queue: str) -> None:
    async with clients(access_point, queue) as (producer, consumer):
        for priority in (1, 10, None, 11):
            await producer.send(producer.create_message(queue, str(priority), priority=priority))
            assert (await one(consumer)).header.priority == (None if priority == 11 else priority)
            await asyncio.sleep(0)


@needs(Feature.PRIORITY, Feature.QUEUES, Feature.QUEUE_ATTRIBUTES)
async def test_more_priority_comes_first(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.resource_manager() as resources:
        await resources.create_queue(queue, {"max_priority": 9})
    async with access_point.create_producer() as producer:
        for priority in (1, 5, 10):
            await producer.send(producer.create_message(queue, f"{priority}", priority=priority))
    async with clients(access_point, queue) as (_, consumer):
        assert data(await take(consumer, 3)) == [b"10", b"5", b"1"]
