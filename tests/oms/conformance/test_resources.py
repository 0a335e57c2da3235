"""The resource manager: namespaces, queues and their attributes, filters, routings."""

from __future__ import annotations

import secrets

import pytest

from gateway.oms import (
    Feature,
    MessagingAccessPoint,
    OMSDestinationError,
    OMSError,
    QueueMetaData,
    ResponseStatus,
    Routing,
    get_access_point,
)
from tests.oms.conformance.drivers import Provider
from tests.oms.conformance.helpers import clients, data, needs, nothing, take


@needs(Feature.QUEUES)
async def test_a_queue_keeps_what_comes_before_consumers(
    access_point: MessagingAccessPoint, queue: str
) -> None:
    async with access_point.resource_manager() as resources:
        await resources.create_queue(queue)
        with pytest.raises(OMSDestinationError) as refused:
            await resources.create_queue(queue)
        assert refused.value.code == ResponseStatus.DESTINATION_EXISTS
        async with access_point.create_producer() as producer:
            await producer.send(producer.create_message(queue, "x"))
        async with clients(access_point, queue) as (_, consumer):
            assert data(await take(consumer, 1)) == [b"x"]
        await resources.delete_queue(queue)
        with pytest.raises(OMSDestinationError) as refused:
            await resources.delete_queue(queue)
        assert refused.value.code == ResponseStatus.DESTINATION_NOT_FOUND
        for wrong in ("", "q" * 300):
            with pytest.raises(OMSError):
                await resources.create_queue(wrong)
    with pytest.raises(OMSError):
        await resources.create_queue(queue)


@needs(Feature.QUEUES, Feature.LIST_QUEUES)
async def test_queues_are_listed(access_point: MessagingAccessPoint, queue: str, group: str) -> None:
    async with access_point.resource_manager() as resources:
        assert queue not in await resources.list_queues()
        await resources.create_queue(queue)
        async with clients(access_point, queue + "-bound", consumer_id=group):
            found = await resources.list_queues()
            assert {queue, queue + "-bound"} <= set(found)
            assert found == sorted(found)
        await resources.delete_queue(queue)
        assert queue not in await resources.list_queues()


@needs(Feature.QUEUES, Feature.QUEUE_ATTRIBUTES)
async def test_attributes_of_queues(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.resource_manager() as resources:
        await resources.create_queue(queue, {"max_length": 10})
        assert (await resources.queue_attributes(queue))["MAX_LENGTH"] == 10
        await resources.set_queue_attributes(queue, {"MAX_LENGTH": 20, "overflow": "reject"})
        found = await resources.queue_attributes(queue)
        assert (found["MAX_LENGTH"], found["OVERFLOW"]) == (20, "reject")
        for wrong in ({"no_such": 1}, {"max_length": "many"}, {"max_length": -1}):
            with pytest.raises(OMSError):
                await resources.set_queue_attributes(queue, wrong)
        with pytest.raises(OMSDestinationError):
            await resources.queue_attributes(queue + "-none")


@needs(Feature.NAMESPACES, Feature.QUEUES, Feature.LIST_QUEUES)
async def test_namespaces_are_apart(
    access_point: MessagingAccessPoint, provider: Provider, queue: str
) -> None:
    mine, yours = (f"ns-{secrets.token_hex(4)}" for _ in range(2))
    async with access_point.resource_manager() as resources:
        for name in (mine, yours):
            await resources.create_namespace(name)
            await resources.create_queue(f"{name}://{queue}")
        with pytest.raises(OMSDestinationError) as refused:
            await resources.create_namespace(mine)
        assert refused.value.code == ResponseStatus.NAMESPACE_EXISTS
        assert {mine, yours} <= set(await resources.list_namespaces())
        assert await resources.list_queues(mine) == [queue]
        assert queue not in await resources.list_queues()
        async with (
            get_access_point(f"{provider.url}:{mine}", provider.attributes) as me,
            get_access_point(f"{provider.url}:{yours}", provider.attributes) as you,
            clients(me, queue) as (my_producer, my_consumer),
            clients(you, queue) as (your_producer, your_consumer),
        ):
            await my_producer.send(my_producer.create_message(queue, "mine"))
            await your_producer.send(your_producer.create_message(queue, "yours"))
            assert data(await take(my_consumer, 1)) == [b"mine"]
            assert data(await take(your_consumer, 1)) == [b"yours"]
            await nothing(my_consumer)
            await my_producer.send(my_producer.create_message(f"{yours}://{queue}", "a visit"))
            assert data(await take(your_consumer, 1)) == [b"a visit"]
        for name in (mine, yours):
            await resources.delete_namespace(name)
        with pytest.raises(OMSDestinationError) as refused:
            await resources.delete_namespace(mine)
        assert refused.value.code == ResponseStatus.NAMESPACE_NOT_FOUND
        with pytest.raises(OMSDestinationError) as refused:
            await resources.create_queue(f"{mine}://{queue}")
        assert refused.value.code == ResponseStatus.NAMESPACE_NOT_FOUND


@needs(Feature.NAMESPACES, Feature.QUEUES, Feature.LIST_QUEUES)
async def test_switching(access_point: MessagingAccessPoint, queue: str) -> None:
    name = f"ns-{secrets.token_hex(4)}"
    async with access_point.resource_manager() as resources:
        with pytest.raises(OMSDestinationError):
            await resources.switch_namespace(name)
        await resources.create_namespace(name)
        await resources.switch_namespace(name)
        await resources.create_queue(queue)
        assert await resources.list_queues() == [queue]
        await resources.switch_namespace("")
        assert queue not in await resources.list_queues()
        await resources.delete_namespace(name)


@needs(Feature.QUEUES, Feature.FILTERS)
async def test_filters(access_point: MessagingAccessPoint, queue: str, group: str) -> None:
    async with (
        access_point.resource_manager() as resources,
        clients(access_point, queue) as (
            producer,
            consumer,
        ),
    ):

        async def send(*prices: int) -> None:
            for price in prices:
                message = producer.create_message(queue, f"{price}", tag="t", properties={"price": price})
                try:
                    await producer.send(message)
                except OMSDestinationError:
                    pass  # nobody wants it

        await resources.filter(queue, "price > 10")
        await send(5, 15)
        assert data(await take(consumer, 1)) == [b"15"]
        async with access_point.create_pull_consumer(consumer_id=group) as later:
            await later.bind_queue(queue, "price < 20 OR price > 90")
            await send(6, 16, 50, 99)
            assert sorted(data(await take(later, 2))) == [b"16", b"99"]
            assert sorted(data(await take(consumer, 3))) == [b"16", b"50", b"99"]
            await resources.filter(queue, "")
            await send(7, 51)
            assert data(await take(later, 1)) == [b"7"]
            assert sorted(data(await take(consumer, 2))) == [b"51", b"7"]
        for wrong in ("price >", "'"):
            with pytest.raises(OMSError):
                await resources.filter(queue, wrong)
        with pytest.raises(OMSDestinationError):
            await resources.filter(queue + "-none", "a = 1")


@needs(Feature.QUEUES, Feature.ROUTINGS, Feature.FILTERS)
async def test_routings(access_point: MessagingAccessPoint, queue: str) -> None:
    source, target, third = (f"{queue}-{n}" for n in range(3))
    async with access_point.resource_manager() as resources:
        for name in (source, target, third):
            await resources.create_queue(name)
        made = await resources.routing(source, target)
        await resources.filter(target, "name = 'kaka'")
        await resources.routing(target, third, "age > 20")
        await resources.routing(third, source)
        assert made == Routing(source, target)
        ours = [r for r in await resources.list_routings() if r.source.startswith(queue)]
        assert ours == [
            Routing(source, target),
            Routing(target, third, "age > 20"),
            Routing(third, source),
        ]
        async with (
            clients(access_point, source) as (producer, at_source),
            clients(access_point, target) as (_, at_target),
            clients(access_point, third) as (_, at_third),
        ):
            for name, age in (("kaka", 30), ("kaka", 10), ("pele", 80)):
                body = f"{name}{age}"
                properties = {"name": name, "age": age}
                await producer.send(producer.create_message(source, body, properties=properties))
            assert len(await take(at_source, 3)) == 3
            got = await take(at_target, 2)
            assert sorted(data(got)) == [b"kaka10", b"kaka30"]
            assert {m.header.destination for m in got} == {target}
            assert sorted(data(await take(at_third, 2))) == [b"kaka30", b"pele80"]
            for consumer in (at_source, at_target, at_third):
                await nothing(consumer)
            await resources.delete_routing(source, target)
            await producer.send(producer.create_message(source, "alone"))
            await take(at_source, 1)
            await nothing(at_target)
        with pytest.raises(OMSDestinationError):
            await resources.delete_routing(source, target)
        with pytest.raises(OMSError):
            await resources.routing(source, source)
        with pytest.raises(OMSError):
            await resources.routing(source, target, "a >")
        for name in (source, target, third):
            await resources.delete_queue(name)
        assert [r for r in await resources.list_routings() if r.source.startswith(queue)] == []


@needs(Feature.QUEUES, Feature.STREAMS)
async def test_streams_of_a_queue(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.resource_manager() as resources:
        await resources.create_queue(queue)
        assert await resources.list_streams(queue) == [QueueMetaData(queue, 0)]


@needs(Feature.QUEUES, Feature.UPDATE_MESSAGE)
async def test_updating_a_message(access_point: MessagingAccessPoint, queue: str) -> None:
    async with (
        access_point.resource_manager() as resources,
        clients(access_point, queue) as (
            producer,
            consumer,
        ),
    ):
        sent = await producer.send(producer.create_message(queue, "x"))
        await resources.update_message(queue, sent.message_id, {"a": 1})
        assert dict((await take(consumer, 1))[0].properties) == {"a": 1}
