"""What is the same for all drivers: lives, what is unsupported, batches by default, positions."""

from __future__ import annotations

import pytest

from gateway.oms import (
    Message,
    MessageSelector,
    OMSBatchError,
    OMSError,
    OMSUnsupportedError,
    ResponseStatus,
    ServiceState,
    TransactionCheck,
)
from tests.oms.fake import LackingDriver, access_point


async def test_the_driver_lives_as_long_as_somebody_uses_it() -> None:
    point, driver = access_point()
    producer, consumer = point.create_producer(), point.create_pull_consumer()
    await producer.start()
    await consumer.start()
    await producer.stop()
    assert driver.life == ["start"]
    await consumer.stop()
    assert driver.life == ["start", "stop"]
    async with point, producer:
        assert driver.life == ["start", "stop", "start"]
    assert driver.life == ["start", "stop", "start", "stop"]


async def test_a_start_that_fails_leaves_nothing_behind() -> None:
    point, driver = access_point()
    consumer = point.create_push_consumer()
    await consumer.bind_queue("refused", lambda message, context: None)
    with pytest.raises(OMSError):
        await consumer.start()
    assert consumer.state is ServiceState.STOPPED
    assert driver.life == ["start", "stop"]
    assert driver.closed == 1


async def test_a_bind_that_fails_is_not_bound() -> None:
    point, _ = access_point()
    async with point.create_push_consumer() as consumer:
        await consumer.bind_queue("q", lambda message, context: None)
        with pytest.raises(OMSError):
            await consumer.bind_queue(["q", "refused"], lambda message, context: None)
        assert consumer.bound_queues == ["q"]


async def test_a_batch_says_what_was_sent() -> None:
    point, driver = access_point()
    async with point.create_producer() as producer:

        def batch(*texts: str) -> list[Message]:
            return [producer.create_message("q", text) for text in texts]

        assert [r.message_id for r in await producer.send(batch("a", "b"))] == ["id-1", "id-2"]
        with pytest.raises(OMSBatchError) as some:
            await producer.send(batch("c", "raise", "fail"))
        assert some.value.code == 1500
        assert [type(result).__name__ for result in some.value.results] == [
            "SendResult",
            "OMSError",
            "OMSError",
        ]
        with pytest.raises(OMSError) as none:
            await producer.send(batch("fail", "raise"))
        assert not isinstance(none.value, OMSBatchError)
        assert none.value.code == 1501
        await producer.send_oneway(batch("fail", "raise", "d"))
        assert [message.text for message in driver.sent] == ["a", "b", "c", "d"]


async def test_failures_of_send_async_are_the_futures() -> None:
    point, _ = access_point()
    async with point.create_producer() as producer:
        for text, code in (("raise", 1500), ("fail", 1501)):
            future = producer.send_async(producer.create_message("q", text))
            with pytest.raises(OMSError) as failed:
                await future
            assert failed.value.code == code
    with pytest.raises(OMSError) as stopped:
        await producer.send_async(Message("q", b"x"))
    assert stopped.value.code == ResponseStatus.SERVICE_UNAVAILABLE


async def test_nothing_unsupported_is_ignored() -> None:
    point, _ = access_point(LackingDriver)
    refused = pytest.raises(OMSUnsupportedError, match="it is a test")

    def checker(message: Message, check: TransactionCheck) -> None:
        """Never asked."""

    async with point.create_producer(checker) as producer:
        for fields in ({"delay_time": 5}, {"expire_time": 5}, {"message_key": "k"}, {"priority": 1}):
            message = producer.create_message("q", "x", **fields)
            for send in (producer.send, producer.send_async, producer.send_oneway):
                with refused:
                    await send(message)
                with refused:
                    await send([message])
        with refused:
            await producer.prepare(producer.create_message("q", "x"))
        sent = await producer.send(producer.create_message("q", "x"))
        with refused:
            await producer.recall(sent)
    for make in (point.create_pull_consumer, point.create_push_consumer):
        with refused:
            make(broadcast=True)
    with refused:
        point.create_push_consumer(retry_delay=5)
    with refused:
        point.create_streaming_consumer()
    async with point.create_pull_consumer() as consumer:
        for selector in (MessageSelector.by_tag("t"), MessageSelector.by_sql("a = 1"), "a = 1"):
            with refused:
                await consumer.bind_queue("q", selector)
        await consumer.bind_queue("q")
        driver = point.driver
        assert isinstance(driver, LackingDriver)
        driver.arrive("x")
        message = await consumer.receive()
        assert message is not None
        assert message.receipt is not None
        with refused:
            await consumer.nack(message.receipt, 1)
        with refused:
            await consumer.extend(message.receipt, 1)
        with refused:
            await consumer.receive(1, queue="q", position=1)
        with refused:
            await consumer.queue_metadata("q")
        await consumer.nack(message.receipt)
    async with point.resource_manager() as resources:
        for call in (
            resources.create_namespace("n"),
            resources.delete_namespace("n"),
            resources.switch_namespace("n"),
            resources.list_namespaces(),
            resources.create_queue("q"),
            resources.delete_queue("q"),
            resources.list_queues(),
            resources.queue_attributes("q"),
            resources.set_queue_attributes("q", {}),
            resources.filter("q", "a = 1"),
            resources.routing("q", "r"),
            resources.delete_routing("q", "r"),
            resources.list_routings(),
            resources.list_streams("q"),
            resources.update_message("q", "id", {}),
        ):
            with refused:
                await call


async def test_positions_may_be_missing() -> None:
    point, _ = access_point()
    async with point.create_streaming_consumer() as consumer:
        place = await consumer.seek_to_beginning("q")
        forth = []
        while (message := await place.next()) is not None:
            forth.append(message.text)
        assert forth == ["3", "4", "90", "91", "500"]
        back = []
        end = await consumer.seek_to_end("q")
        while (message := await end.previous()) is not None:
            back.append(message.text)
        assert back == forth[::-1]
        assert not await end.has_previous()
        between = await consumer.seek("q", 50)
        assert await between.has_previous()
        following = await between.next()
        assert following is not None
        assert (following.text, between.next_position) == ("90", 91)


@pytest.mark.parametrize("attributes", [{"operation_timeout": 0}, {"invisible_time": "soon"}])
async def test_attributes_that_cannot_be(attributes: dict[str, int | str]) -> None:
    point, _ = access_point()
    with pytest.raises(OMSError) as refused:
        point.create_pull_consumer(**attributes)
    assert refused.value.code == ResponseStatus.BAD_PARAMETER


async def test_options_have_their_defaults() -> None:
    point, _ = access_point()
    producer, consumer = point.create_producer(), point.create_pull_consumer()
    assert producer.options.group == ""
    assert consumer.options.group == "oms.default"
    assert consumer.options.operation_timeout == 5.0
    assert consumer.options.invisible == 30.0
    assert producer.options.client_id != point.create_producer().options.client_id
    assert point.create_producer(producer_id="p").options.client_id == "p"
    one, two = (point.create_pull_consumer(consumer_id="g", broadcast="true").options for _ in range(2))
    assert one.broadcast
    assert one.group != two.group
    assert one.group.startswith("g-")
