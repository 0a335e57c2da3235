"""The API without `await`: the same through a thread, from any thread."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.oms import (
    InterceptorContext,
    Message,
    OMSDestinationError,
    OMSError,
    ProducerInterceptor,
    QueueMetaData,
    Routing,
    ServiceState,
    TransactionCheck,
    sync,
)
from gateway.oms.sync.thread import THREAD
from tests.process import wait_for

SECONDS = 10.0


@pytest.fixture
def access_point() -> Iterator[sync.MessagingAccessPoint]:
    with sync.get_access_point(f"oms:local://memory/{secrets.token_hex(4)}") as found:
        yield found
    assert not THREAD.running, "the thread ends with its last user"
    assert not [thread for thread in threading.enumerate() if thread.name == "gateway-oms"]


def test_send_and_receive(access_point: sync.MessagingAccessPoint) -> None:
    consumer = access_point.create_pull_consumer()
    consumer.bind_queue("q")
    with consumer, access_point.create_producer() as producer:
        assert producer.state is ServiceState.STARTED
        producer.send(producer.create_message("q", "a"))
        assert len(producer.send([producer.create_message("q", "b")])) == 1
        assert producer.send_async(producer.create_message("q", "c")).result(SECONDS).message_id
        producer.send_oneway(producer.create_message("q", "d"))
        with producer.batch() as batch:
            batch.send(producer.create_message("q", "e"))
        got = []
        for message in consumer:
            assert message.receipt is not None
            consumer.ack(message.receipt)
            got.append(message.text)
            if len(got) == 5:
                break
        assert got == ["a", "b", "c", "d", "e"]
        assert consumer.receive(0.05) is None
        assert consumer.batch_receive(5, 0.05) == []
        producer.send(producer.create_message("q", "again"))
        first = consumer.receive(SECONDS)
        assert first is not None
        assert first.receipt is not None
        consumer.nack(consumer.extend(first.receipt, 30), 0)
        second = consumer.receive(SECONDS)
        assert second is not None
        assert second.header.delivery_count == 2
        consumer.unbind_queue("q")
        assert consumer.bound_queues == []


def test_listeners_may_block(access_point: sync.MessagingAccessPoint) -> None:
    together = threading.Barrier(2, timeout=SECONDS)
    got: list[tuple[str, int]] = []

    def listener(message: Message, context: sync.ListenerContext) -> None:
        assert threading.current_thread() is not threading.main_thread()
        together.wait()
        got.append((message.text, message.header.delivery_count))
        if message.header.delivery_count == 1:
            raise LookupError

    with access_point.create_push_consumer(retry_delay=10) as consumer, access_point.create_producer() as p:
        consumer.bind_queue("q", listener)
        p.send([p.create_message("q", "a"), p.create_message("q", "b")])
        wait_for(lambda: len(got) == 4)
        assert sorted(got) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
        consumer.suspend()
        assert consumer.is_suspended
        consumer.resume()
        assert not consumer.is_suspended


def test_acknowledging_from_another_thread(access_point: sync.MessagingAccessPoint) -> None:
    held: list[sync.ListenerContext] = []
    consumer = access_point.create_push_consumer()
    consumer.bind_queue("q", lambda message, context: held.append(context), manual_ack=True)
    with consumer, access_point.create_producer() as producer:
        producer.send(producer.create_message("q", "x"))
        wait_for(lambda: held)
        held[0].ack()
    with access_point.create_pull_consumer() as rest:
        rest.bind_queue("q")
        assert rest.receive(0.2) is None


def test_transactions(access_point: sync.MessagingAccessPoint) -> None:
    asked: list[str] = []

    def checker(message: Message, check: TransactionCheck) -> None:
        asked.append(message.text)
        check.commit()

    with access_point.create_pull_consumer() as consumer:
        consumer.bind_queue("q")
        with access_point.create_producer(checker, check_delay=100) as producer:
            with producer.prepare(producer.create_message("q", "a")):
                pass
            producer.prepare(producer.create_message("q", "b")).rollback()
            left = producer.prepare(producer.create_message("q", "c"))
            got = [
                message.text for message in (consumer.receive(SECONDS), consumer.receive(SECONDS)) if message
            ]
            assert (got, asked) == (["a", "c"], ["c"])
            left.commit()
            gone = producer.send(producer.create_message("q", "late", delay_time=60_000))
            producer.recall(gone)


def test_streams(access_point: sync.MessagingAccessPoint) -> None:
    with access_point.create_streaming_consumer() as consumer, access_point.create_producer() as producer:
        place = consumer.seek_to_end("q")
        for n in range(3):
            producer.send(producer.create_message("q", f"{n}"))
        assert [message.text for message in place] == ["0", "1", "2"]
        assert place.next() is None
        assert place.has_previous()
        assert not place.has_next()
        message = place.previous()
        assert message is not None
        assert message.text == "2"
        assert (place.next_position, place.previous_position) == (2, 1)
        assert consumer.seek("q", 1).next_position == 1
        assert consumer.seek_to_beginning("q").next_position == 0
        assert consumer.queue_metadata("q") == [QueueMetaData("q", 0)]


def test_resources(access_point: sync.MessagingAccessPoint) -> None:
    with access_point.resource_manager() as resources:
        resources.create_namespace("ns")
        resources.switch_namespace("ns")
        for name in ("a", "b"):
            resources.create_queue(name, {"max_length": 5})
        assert resources.list_queues() == ["a", "b"]
        resources.set_queue_attributes("a", {"max_length": 6})
        assert resources.queue_attributes("a")["MAX_LENGTH"] == 6
        resources.filter("b", "x = 1")
        assert resources.routing("a", "b") == Routing("a", "b")
        assert resources.list_routings() == [Routing("a", "b")]
        resources.delete_routing("a", "b")
        assert resources.list_streams("a") == [QueueMetaData("a", 0)]
        resources.delete_queue("a")
        with pytest.raises(OMSDestinationError):
            resources.delete_queue("a")
        with pytest.raises(OMSError):
            resources.update_message("b", "id", {})
        resources.delete_namespace("ns")
        assert resources.list_namespaces() == []


def test_what_is_not_started(access_point: sync.MessagingAccessPoint) -> None:
    with pytest.raises(OMSError):
        access_point.create_producer().send(Message("q", b"x"))
    alone = sync.get_access_point("oms:local://memory/never")
    assert alone.version == "1.0.0"


def test_nothing_is_started_at_all() -> None:
    producer = sync.get_access_point("oms:local://memory/never").create_producer()
    with pytest.raises(OMSError):
        producer.send(Message("q", b"x"))


def test_blocking_on_the_loop_is_refused(access_point: sync.MessagingAccessPoint) -> None:
    refused: list[Any] = []

    class Bad(ProducerInterceptor):
        def pre_send(self, message: Message, context: InterceptorContext) -> None:
            try:
                producer.recall(None)  # type: ignore[arg-type]
            except OMSError as error:
                refused.append(error)

    with access_point.create_producer() as producer, access_point.create_pull_consumer() as consumer:
        consumer.bind_queue("q")
        producer.add_interceptor(Bad())
        producer.send(producer.create_message("q", "x"))
    assert len(refused) == 1


def test_started_again_on_another_loop() -> None:
    got: list[str] = []
    access_point = sync.get_access_point(f"oms:local://memory/{secrets.token_hex(4)}")
    consumer = access_point.create_push_consumer()
    consumer.bind_queue("q", lambda message, context: got.append(message.text))
    producer = access_point.create_producer()
    for n in range(2):
        with access_point, consumer, producer:
            producer.send(producer.create_message("q", f"{n}"))
            wait_for(lambda: len(got) == n + 1)  # noqa: B023 - called at once
        assert not THREAD.running
    assert got == ["0", "1"]
