"""The driver `local`: what it has besides what all drivers have in common."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway import Message as CoreMessage
from gateway import Properties
from gateway.api import Conflict, Delivery, GatewayError, InvalidTopic, NotFound, QueuePolicy, QuotaExceeded
from gateway.embedded import Embedded
from gateway.oms import (
    Durability,
    ExtensionHeader,
    Header,
    Message,
    MessagingAccessPoint,
    OMSBatchError,
    OMSDestinationError,
    OMSError,
    QoS,
    ResponseStatus,
    TransactionCheck,
    compression,
    get_access_point,
)
from gateway.oms.drivers.local import offered
from gateway.oms.drivers.local.errors import translated
from gateway.oms.drivers.local.translate import from_core, to_core
from tests.oms.conformance.helpers import until

SECONDS = 10.0
NOBODY = CoreMessage("q", b"").origin


@pytest.fixture
def url() -> str:
    return f"oms:local://memory/{secrets.token_hex(4)}"


@pytest.fixture
async def access_point(url: str) -> AsyncIterator[MessagingAccessPoint]:
    async with get_access_point(url) as found:
        yield found


def gateway_of(access_point: MessagingAccessPoint) -> Any:
    """Return the gateway behind an access point."""
    driver: Any = access_point.driver
    return driver.region.gateway


# -- regions ----------------------------------------------------------------------------------------


async def test_access_points_of_one_url_share_a_gateway(url: str) -> None:
    async with (
        get_access_point(url) as one,
        get_access_point(url) as same,
        get_access_point(url + "2") as other,
    ):
        assert gateway_of(one) is gateway_of(same)
        assert gateway_of(one) is not gateway_of(other)


async def test_what_is_in_memory_goes_with_its_last_user(url: str) -> None:
    async with get_access_point(url) as one, one.resource_manager() as resources:
        await resources.create_queue("q")
        async with get_access_point(url) as two, two.resource_manager() as others:
            assert await others.list_queues() == ["q"]
        assert await resources.list_queues() == ["q"]
    async with get_access_point(url) as one, one.resource_manager() as resources:
        assert await resources.list_queues() == []


async def test_clients_alone_keep_it_running(url: str) -> None:
    producer = get_access_point(url).create_producer()
    async with get_access_point(url).create_pull_consumer() as consumer:
        await consumer.bind_queue("q")
        async with producer:
            await producer.send(producer.create_message("q", "x"))
        message = await consumer.receive(SECONDS)
        assert message is not None


@pytest.mark.parametrize("url", ["oms:local://elsewhere/r", "oms:local://memory,memory/r"])
def test_other_hosts_are_refused(url: str) -> None:
    with pytest.raises(OMSError) as refused:
        get_access_point(url)
    assert refused.value.code == ResponseStatus.BAD_PARAMETER


async def test_a_directory_in_use(tmp_path: Path) -> None:
    async with Embedded(tmp_path / "r"):
        with pytest.raises(OMSError) as refused:
            await get_access_point("oms:local://memory/r", {"data": str(tmp_path)}).start()
        assert refused.value.code == ResponseStatus.STORAGE_ERROR
    async with get_access_point("oms:local://memory/r", {"data": str(tmp_path)}):
        pass


async def test_everything_survives_with_a_log(tmp_path: Path) -> None:
    log = {"DATA": str(tmp_path)}
    async with get_access_point("oms:local://memory/r:shop", log) as access_point:
        async with access_point.resource_manager() as resources, access_point.create_producer() as producer:
            for name in ("orders", "large"):
                await resources.create_queue(name)
            await resources.filter("large", "total > 100")
            await resources.routing("orders", "large", "paid = TRUE")
            await producer.send(producer.create_message("orders", "kept"))
            await producer.send(producer.create_message("orders", "later", delay_time=300))
    async with get_access_point("oms:local://memory/r:shop", log) as access_point:
        async with access_point.resource_manager() as resources, access_point.create_producer() as producer:
            assert await resources.list_namespaces() == ["shop"]
            assert await resources.list_queues() == ["large", "orders"]
            assert len(await resources.list_routings()) == 1
            for total, paid in ((200, True), (200, False), (50, True)):
                text = f"{total} {paid}"
                properties = {"total": total, "paid": paid}
                await producer.send(producer.create_message("orders", text, properties=properties))
        async with access_point.create_pull_consumer() as consumer:
            await consumer.bind_queue(["orders"])
            got = [await consumer.receive(SECONDS) for _ in range(5)]
            assert sorted(m.text for m in got if m) == ["200 False", "200 True", "50 True", "kept", "later"]
        async with access_point.create_pull_consumer() as consumer:
            await consumer.bind_queue("large")
            message = await consumer.receive(SECONDS)
            assert message is not None
            assert message.text == "200 True"
            assert await consumer.receive(0.1) is None


async def test_a_producer_that_comes_back_is_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    def checker(message: Message, check: TransactionCheck) -> None:
        asked.append(message.text)
        check.commit()

    settings = ["transactions.check_first_seconds=0.2"]
    async with (
        Embedded(tmp_path, settings=settings) as embedded,
        offered(embedded, "asked") as url,
        get_access_point(url).create_pull_consumer() as consumer,
        get_access_point(url).create_producer(lambda *_: None, producer_id="p") as producer,
    ):
        await consumer.bind_queue("q")
        await producer.prepare(producer.create_message("q", "left open"))
    async with (
        Embedded(tmp_path, settings=settings) as embedded,
        offered(embedded, "asked") as url,
        get_access_point(url).create_producer(lambda *_: None, producer_id="other"),
        get_access_point(url).create_producer(checker, producer_id="p"),
        get_access_point(url).create_pull_consumer() as consumer,
    ):
        await consumer.bind_queue("q")
        message = await consumer.receive(SECONDS)
        assert message is not None
        assert (message.text, asked) == ("left open", ["left open"])


# -- beside other protocols -------------------------------------------------------------------------


async def test_a_gateway_with_doors_can_be_offered() -> None:
    async with Embedded() as embedded, offered(embedded, "offered") as url:
        session = embedded.session("device", "alice", "10.0.0.7:1234", "mqtt")
        got: asyncio.Queue[Delivery] = asyncio.Queue()

        def deliver(batch: list[Delivery]) -> None:
            for delivery in batch:
                got.put_nowait(delivery)

        session.consume("$share/g/a/b", deliver, 10)
        async with get_access_point(url) as access_point, access_point.create_producer() as producer:
            await producer.send(producer.create_message("a/b", "to all"))
            assert (await asyncio.wait_for(got.get(), SECONDS)).message.body == b"to all"
            async with access_point.create_pull_consumer(consumer_id="oms") as consumer:
                await consumer.bind_queue("a/b")
                embedded.gateway.begin_turn()
                session.publish(CoreMessage("a/b", b"from a device", origin=session.origin))
                message = await consumer.receive(SECONDS)
                assert message is not None
                assert (message.data, message.header.born_host) == (b"from a device", "10.0.0.7")
        session.close()
        assert embedded.gateway is not None, "it goes on"


FOREIGN = Properties(
    content_type="text/plain",
    content_encoding="br",
    correlation=b"\xff\x00",
    reply_to="answers/here",
    message_id="m-1",
    priority=7,
    key="k",
    tag="t",
    keys=("a", "b"),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    text=True,
    headers=(
        ("text", "ä"),
        ("time", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("decimal", Decimal("1.50")),
        ("nothing", None),
        ("map", {"a": [1, b"x"]}),
        ("n", 5),
        ("$own", "dollar"),
    ),
)


def test_what_came_from_elsewhere_goes_on_as_it_was() -> None:
    there = CoreMessage("q", b"x", 1, False, FOREIGN, timestamp_ms=1000, expires_at_ms=2000)
    here = from_core(there, "q", 3, None)
    assert here.header.priority == 8
    assert here.header.delivery_count == 3
    assert here.properties["map"] == '{"a": [1, {"$base64": "eA=="}]}'
    back = to_core(here, "q", there.origin, "m-1")
    assert back.properties == FOREIGN
    assert (back.body, back.qos, back.expires_at_ms) == (b"x", 1, 2000)


def test_what_the_core_has_no_field_for_comes_back() -> None:
    here = Message(
        data=b"x",
        header=Header("q", born_timestamp=1, qos=QoS.EXACTLY_ONCE, durability=Durability.NON_PERSISTENT),
        extension_header=ExtensionHeader(transaction_id="tx", partition=3, correlation_id="ä"),
    )
    back = from_core(to_core(here, "q", NOBODY, "id"), "q", 1, None)
    assert (back.header.qos, back.header.durability) == (QoS.EXACTLY_ONCE, Durability.NON_PERSISTENT)
    extension = back.extension_header
    assert (extension.transaction_id, extension.partition, extension.correlation_id) == ("tx", 3, "ä")


def test_compression() -> None:
    packed = to_core(Message(data=b"x" * 1000, header=Header("q", compression="gzip")), "q", NOBODY, "id")
    assert len(packed.body) < 100
    assert from_core(packed, "q", 1, None).data == b"x" * 1000
    odd = CoreMessage("q", b"no gzip", properties=Properties(content_encoding="gzip"))
    assert from_core(odd, "q", 1, None).data == b"no gzip"
    with pytest.raises(OMSError):
        to_core(Message(header=Header("q", compression="lzma")), "q", NOBODY, "id")


def test_a_type_that_does_not_fit_leaves_a_text() -> None:
    message = Message("q", properties={"x": "?", "$type:x": "decimal"})
    assert to_core(message, "q", NOBODY, "id").properties.headers == (("x", "?"),)


# -- queues -----------------------------------------------------------------------------------------


async def test_queues_of_the_gateway_itself(access_point: MessagingAccessPoint) -> None:
    gateway = gateway_of(access_point)
    gateway.begin_turn()
    gateway.broker.catalog.declare("jobs")
    gateway.broker.catalog.declare("history", "stream")
    async with access_point.create_producer() as producer, access_point.create_pull_consumer() as consumer:
        await consumer.bind_queue(["$queue/jobs", "$queue/history"])
        for name in ("jobs", "history"):
            await producer.send(producer.create_message(f"$queue/{name}", name))
        got = [await consumer.receive(SECONDS) for _ in range(2)]
        assert sorted(m.text for m in got if m) == ["history", "jobs"]
        with pytest.raises(OMSDestinationError):
            await consumer.bind_queue("$queue/none")
    async with access_point.resource_manager() as resources:
        with pytest.raises(OMSDestinationError):
            await resources.delete_queue("$queue/jobs")


@pytest.mark.parametrize("queue", ["a/+", "#", "$share/g/t", "$sys/x", "$queue/", "nowhere://q", "ns://"])
async def test_what_names_no_queue(access_point: MessagingAccessPoint, queue: str) -> None:
    async with access_point.create_pull_consumer() as consumer, access_point.create_producer() as producer:
        with pytest.raises(OMSDestinationError):
            await consumer.bind_queue(queue)
        with pytest.raises(OMSDestinationError):
            await producer.send(producer.create_message(queue, "x"))


@pytest.mark.parametrize("group", ["a/b", "+", "#"])
async def test_what_names_no_group(access_point: MessagingAccessPoint, group: str) -> None:
    with pytest.raises(OMSError):
        await access_point.create_pull_consumer(consumer_id=group).start()


async def test_what_is_not_acknowledged_comes_again(access_point: MessagingAccessPoint) -> None:
    async with access_point.create_pull_consumer(invisible_time=200) as consumer:
        await consumer.bind_queue("q")
        async with access_point.create_producer() as producer:
            await producer.send(producer.create_message("q", "x"))
        first = await consumer.receive(SECONDS)
        second = await consumer.receive(SECONDS)
        assert first is not None
        assert second is not None
        assert second.header.delivery_count == 2
        assert first.receipt is not None
        assert second.receipt is not None
        for late in (consumer.ack(first.receipt), consumer.extend(first.receipt, 5)):
            with pytest.raises(OMSError) as refused:
                await late
            assert refused.value.code == ResponseStatus.BAD_PARAMETER
        held = await consumer.extend(second.receipt, 30)
        assert await consumer.receive(0.4) is None
        await consumer.ack(held)


async def test_what_fails_too_often_is_a_dead_letter(access_point: MessagingAccessPoint) -> None:
    async with access_point.resource_manager() as resources:
        await resources.create_queue("q", {"delivery_limit": 2})
    async with access_point.create_pull_consumer() as consumer, access_point.create_producer() as producer:
        await consumer.bind_queue("q")
        await producer.send(producer.create_message("q", "bad"))
        for _ in range(2):
            message = await consumer.receive(SECONDS)
            assert message is not None
            assert message.receipt is not None
            await consumer.nack(message.receipt, 0)
        assert await consumer.receive(0.1) is None
        await consumer.bind_queue("$queue/$dead/$share/oms.default/q")
        letter = await consumer.receive(SECONDS)
        assert letter is not None
        assert (letter.text, letter.properties["dead-letter-cause"]) == ("bad", "delivery_limit")


async def test_who_receives_is_told_that_a_queue_was_deleted(access_point: MessagingAccessPoint) -> None:
    async with (
        access_point.create_pull_consumer() as consumer,
        access_point.resource_manager() as resources,
        access_point.create_producer() as producer,
    ):
        await consumer.bind_queue(["q", "r"])
        waiting = asyncio.ensure_future(consumer.receive())
        await asyncio.sleep(0.01)
        await resources.delete_queue("q")
        with pytest.raises(OMSDestinationError, match="'q'"):
            await asyncio.wait_for(waiting, SECONDS)
        await producer.send(producer.create_message("r", "others go on"))
        message = await consumer.receive(SECONDS)
        assert message is not None
        assert message.receipt is not None
        await consumer.ack(message.receipt)
        await resources.delete_queue("r")
        with pytest.raises(OMSDestinationError, match="'r'"):
            await consumer.receive(SECONDS)
        with pytest.raises(OMSDestinationError, match="all queues"):
            await consumer.receive(SECONDS)
        await consumer.bind_queue("q")
        await producer.send(producer.create_message("q", "made again"))
        again = await consumer.receive(SECONDS)
        assert again is not None


async def test_a_group_has_one_selector(access_point: MessagingAccessPoint) -> None:
    async with (
        access_point.create_pull_consumer(consumer_id="g") as one,
        access_point.create_pull_consumer(consumer_id="g") as two,
    ):
        await one.bind_queue("q", "a = 1")
        with pytest.raises(OMSError) as refused:
            await two.bind_queue("q", "a = 2")
        assert refused.value.code == ResponseStatus.BAD_REQUEST
        await one.bind_queue("q", "a = 2")
        await two.bind_queue("q", "a = 2")


async def test_exactly_once_by_an_id_of_ones_own(access_point: MessagingAccessPoint) -> None:
    async with access_point.create_pull_consumer() as consumer, access_point.create_producer() as producer:
        await consumer.bind_queue("q")
        sent = [
            await producer.send(producer.create_message("q", "x", qos=QoS.EXACTLY_ONCE, message_id="order-7"))
            for _ in range(3)
        ]
        assert {result.message_id for result in sent} == {"order-7"}
        message = await consumer.receive(SECONDS)
        assert message is not None
        assert message.header.message_id == "order-7"
        assert await consumer.receive(0.1) is None


async def test_a_full_queue_refuses(access_point: MessagingAccessPoint) -> None:
    async with access_point.resource_manager() as resources:
        await resources.create_queue("q", {"max_length": 2, "overflow": "reject"})
    async with access_point.create_producer() as producer:
        with pytest.raises(OMSBatchError) as refused:
            await producer.send([producer.create_message("q", f"{n}") for n in range(3)])
        assert refused.value.code == ResponseStatus.STORAGE_BUSY
        assert [isinstance(result, OMSError) for result in refused.value.results] == [False, False, True]
        with pytest.raises(OMSError) as full:
            await producer.send(producer.create_message("q", "x"))
        assert full.value.code == ResponseStatus.STORAGE_BUSY
        await producer.send_oneway(producer.create_message("q", "x"))


async def test_what_the_disk_does_not_take(
    access_point: MessagingAccessPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = gateway_of(access_point)
    async with access_point.create_pull_consumer() as consumer, access_point.create_producer() as producer:
        await consumer.bind_queue("q")
        engine = gateway.broker.engine
        monkeypatch.setattr(engine, "when_durable", lambda position, call: call(False))
        monkeypatch.setattr(engine, "stored", lambda position: False)
        with pytest.raises(OMSError) as refused:
            await producer.send(producer.create_message("q", "x"))
        assert refused.value.code == ResponseStatus.STORAGE_ERROR
        with pytest.raises(OMSError) as refused:
            await producer.send([producer.create_message("q", "x")])
        assert refused.value.code == ResponseStatus.STORAGE_ERROR
        monkeypatch.undo()


async def test_what_cannot_be_unpacked_is_given_up(
    access_point: MessagingAccessPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "PLAIN_BYTES_MAX", 100)
    async with access_point.create_pull_consumer() as consumer, access_point.create_producer() as producer:
        await consumer.bind_queue("q")
        await producer.send(producer.create_message("q", "x" * 101, compression="gzip"))
        await producer.send(producer.create_message("q", "fine"))
        got: list[Message] = []
        while not got:
            got = await consumer.batch_receive(2, 1)
        assert [message.text for message in got] == ["fine"]
        letters = gateway_of(access_point).broker.catalog.get("$dead/$share/oms.default/q")
        assert letters.length() == 1


async def test_a_stream_is_the_cores_own(access_point: MessagingAccessPoint) -> None:
    gateway = gateway_of(access_point)
    async with access_point.create_streaming_consumer() as consumer:
        await consumer.seek_to_end("q")
        stream = gateway.broker.catalog.get("q")
        assert (stream.kind, stream.policy.max_age_ms) == ("stream", 72 * 3600 * 1000)
        gateway.begin_turn()
        gateway.broker.catalog.declare("classic", "classic", QueuePolicy())
        with pytest.raises(OMSError):
            await consumer.seek_to_end("classic")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("x"), 1404),
        (InvalidTopic("x"), 1418),
        (Conflict("x"), 1400),
        (QuotaExceeded("x"), 1503),
        (GatewayError("x"), 1500),
    ],
)
def test_errors_have_their_codes(error: GatewayError, code: int) -> None:
    assert translated(error).code == code
    assert translated(error).reason == "x"


async def test_of_several_queues_no_more_is_taken_than_asked_for(access_point: MessagingAccessPoint) -> None:
    queues = ["q1", "q2", "q3"]
    async with (
        access_point.create_pull_consumer() as one,
        access_point.create_pull_consumer() as two,
        access_point.create_producer() as producer,
    ):
        await one.bind_queue(queues)
        waiting = asyncio.ensure_future(one.receive())
        await asyncio.sleep(0)
        await producer.send([producer.create_message(queue, queue) for queue in queues])
        first = await waiting
        assert first is not None
        await two.bind_queue(queues)
        others = [await two.receive(SECONDS) for _ in range(2)]
        assert sorted([first.text, *(m.text for m in others if m)]) == queues
        assert {m.header.delivery_count for m in others if m} == {1}, "nobody has seen them before"


async def test_what_was_received_before_unbinding_goes_back_in_the_end(
    access_point: MessagingAccessPoint,
) -> None:
    held: list[Message] = []
    async with access_point.create_producer() as producer:
        async with access_point.create_push_consumer() as consumer:
            await consumer.bind_queue("q", lambda message, context: held.append(message), manual_ack=True)
            await producer.send([producer.create_message("q", f"{n}") for n in range(2)])
            await until(lambda: len(held) == 2)
            await consumer.unbind_queue("q")
            assert held[0].receipt is not None
            await consumer.ack(held[0].receipt)
        async with access_point.create_pull_consumer() as consumer:
            await consumer.bind_queue("q")
            again = await consumer.receive(SECONDS)
            assert again is not None
            assert (again.text, again.header.delivery_count) == ("1", 2)
            assert await consumer.receive(0.1) is None


def test_times_are_the_gateways_own_inside() -> None:
    message = Message(header=Header("q", born_timestamp=5000))
    message.extension_header.expire_time = 9000
    core = to_core(message, "q", NOBODY, "id", 1000)
    assert core.expires_at_ms == 8000
    assert from_core(core, "q", 1, None, 1000).extension_header.expire_time == 9000


async def test_started_while_it_stops(url: str) -> None:
    one, two = get_access_point(url), get_access_point(url)
    await one.start()
    await asyncio.gather(one.stop(), two.start())
    async with two.resource_manager() as resources:
        await resources.create_queue("q")
        assert await resources.list_queues() == ["q"]
    await two.stop()


async def test_a_gateway_can_be_offered_again() -> None:
    async with Embedded() as embedded:
        checkers = embedded.gateway.broker.halves.check_back.checkers
        before = list(checkers)
        for _ in range(2):
            async with offered(embedded, "again") as url, get_access_point(url):
                assert len(checkers) == len(before) + 1
        assert checkers == before
