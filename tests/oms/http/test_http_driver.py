"""The driver http at a real gateway, and at servers that fail: what the suite of all drivers does not see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gateway.oms import (
    Message,
    OMSDestinationError,
    OMSError,
    OMSTimeoutError,
    QoS,
    ResponseStatus,
    compression,
    get_access_point,
)
from gateway.oms.drivers.http import sending
from tests.access.guarded import Guarded, password_of
from tests.certificates import Pki
from tests.process import GatewayProcess, free_port

SECONDS = 10.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(tmp_path_factory.mktemp("data")).start()
    yield running
    running.stop()
    assert not running.bugs()


@pytest.fixture
def rest(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=SECONDS) as client:
        yield client


def url(gateway: GatewayProcess) -> str:
    return f"oms:http://127.0.0.1:{gateway.http_port}/r"


def queues(rest: httpx.Client, text: str) -> list[dict[str, Any]]:
    found = rest.get("/v1/queues?prefix=$share/").json()["queues"]
    return [queue for queue in found if text in queue["name"]]


# -- a real gateway -----------------------------------------------------------------------------------


async def test_a_receive_that_is_cancelled_loses_nothing(gateway: GatewayProcess) -> None:
    async with get_access_point(url(gateway)) as point:
        async with (
            point.create_pull_consumer(consumer_id="c") as consumer,
            point.create_producer() as producer,
        ):
            await consumer.bind_queue("cancelled")
            waiting = asyncio.ensure_future(consumer.receive(5))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.wait({waiting})
            await producer.send(producer.create_message("cancelled", "kept"))
            found = await consumer.receive(SECONDS)
            assert found is not None
            assert (found.data, found.header.delivery_count) == (b"kept", 1)


async def test_what_nobody_took_goes_back_without_an_attempt(gateway: GatewayProcess) -> None:
    async with get_access_point(url(gateway)) as point:
        async with point.create_pull_consumer(consumer_id="back") as consumer:
            await consumer.bind_queue(["one", "two"])
            async with point.create_producer() as producer:
                await producer.send([producer.create_message(queue, queue) for queue in ("one", "two")])
            first = await consumer.receive(SECONDS)  # of the other queue something may have come as well
            assert first is not None
        async with point.create_pull_consumer(consumer_id="back") as consumer:
            await consumer.bind_queue(["one", "two"])
            second = await consumer.receive(SECONDS)
            assert second is not None
            assert {first.data, second.data} == {b"one", b"two"}
            assert second.header.delivery_count == 1


async def test_only_what_is_there_is_looked_for_in_all_queues(gateway: GatewayProcess) -> None:
    async with get_access_point(url(gateway)) as point:
        async with (
            point.create_pull_consumer(consumer_id="all") as consumer,
            point.create_producer() as producer,
        ):
            names = [f"all-{number}" for number in range(5)]
            await consumer.bind_queue(names)
            for name in names:
                await producer.send(producer.create_message(name, name))
                found = await consumer.receive(0)
                assert found is not None
                assert found.data == name.encode()
                assert found.receipt is not None
                await consumer.ack(found.receipt)


async def test_a_queue_that_is_bound_meanwhile_is_received_from(gateway: GatewayProcess) -> None:
    async with get_access_point(url(gateway)) as point:
        async with (
            point.create_pull_consumer(consumer_id="m") as consumer,
            point.create_producer() as producer,
        ):
            await consumer.bind_queue("early")
            waiting = asyncio.ensure_future(consumer.receive(SECONDS))
            await asyncio.sleep(0.05)
            await consumer.bind_queue("late")
            await producer.send(producer.create_message("late", "x"))
            found = await waiting
            assert found is not None
            assert found.header.destination == "late"


async def test_what_a_push_consumer_has_in_hand_is_renewed(gateway: GatewayProcess) -> None:
    attempts: list[int] = []
    done = asyncio.Event()

    async def listen(message: Message, context: Any) -> None:
        attempts.append(message.header.delivery_count)
        await asyncio.sleep(0.8)
        done.set()

    async with get_access_point(url(gateway)) as point:
        consumer = point.create_push_consumer(consumer_id="slow", invisible_time=300)
        await consumer.bind_queue("renewed", listen)
        async with consumer, point.create_producer() as producer:
            await producer.send(producer.create_message("renewed", "x"))
            async with asyncio.timeout(SECONDS):
                await done.wait()
            await asyncio.sleep(0.4)  # longer than it would be invisible, if it had not been settled
    assert attempts == [1]


async def test_a_broadcasting_group_goes_with_its_consumer(
    gateway: GatewayProcess, rest: httpx.Client
) -> None:
    async with get_access_point(url(gateway)) as point:
        async with point.create_pull_consumer(consumer_id="all", broadcast=True) as consumer:
            await consumer.bind_queue("broadcast")
            [queue] = await asyncio.to_thread(queues, rest, "broadcast")
            assert queue["policy"]["expires_ms"] == 300_000, "also if the consumer vanishes"
    assert await asyncio.to_thread(queues, rest, "broadcast") == []


async def test_senders_share_requests_and_keep_their_order(gateway: GatewayProcess) -> None:
    async with get_access_point(url(gateway)) as point:
        async with (
            point.create_pull_consumer(consumer_id="o") as consumer,
            point.create_producer() as producer,
        ):
            await consumer.bind_queue("order")
            sent = [producer.send_async(producer.create_message("order", str(n))) for n in range(300)]
            await asyncio.gather(*sent)
            found = [message.data for message in await consumer.batch_receive(300, SECONDS)]
            assert found == [str(number).encode() for number in range(300)]


async def test_of_one_request_each_message_has_its_own_fate(gateway: GatewayProcess) -> None:
    async with get_access_point(url(gateway)) as point:
        async with (
            point.create_pull_consumer(consumer_id="f") as consumer,
            point.create_producer() as producer,
        ):
            await consumer.bind_queue("fate")
            messages = [producer.create_message(queue, "x") for queue in ("fate", "nobody", "$queue/none")]
            results = await asyncio.gather(*map(producer.send_async, messages), return_exceptions=True)
            assert [type(result).__name__ for result in results] == [
                "SendResult",
                "OMSDestinationError",
                "OMSDestinationError",
            ]
            both = [producer.send_async(message) for message in messages[1:]]
            for result in await asyncio.gather(*both, return_exceptions=True):
                assert isinstance(result, OMSDestinationError)


async def test_one_way_holds_a_producer_back(
    gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "WAITING_MAX", 10)
    async with get_access_point(url(gateway)) as point:
        async with (
            point.create_pull_consumer(consumer_id="w") as consumer,
            point.create_producer() as producer,
        ):
            await consumer.bind_queue("oneway")
            await producer.send_oneway([producer.create_message("oneway", str(n)) for n in range(100)])
        async with point.create_pull_consumer(consumer_id="w") as consumer:
            await consumer.bind_queue("oneway")
            found = await consumer.batch_receive(100, SECONDS)
            assert len(found) == 100, "stopping waits for what is on its way"


async def test_what_cannot_be_read_is_a_dead_letter(
    gateway: GatewayProcess, rest: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "PLAIN_BYTES_MAX", 10)
    async with get_access_point(url(gateway)) as point:
        async with (
            point.create_pull_consumer(consumer_id="u") as consumer,
            point.create_producer() as producer,
        ):
            await consumer.bind_queue("unreadable")
            bomb = producer.create_message("unreadable", b"x" * 11, compression="gzip")
            await producer.send([bomb, producer.create_message("unreadable", "good")])
            found = await consumer.receive(SECONDS)
            assert found is not None
            assert found.data == b"good"
    shown = await asyncio.to_thread(rest.get, "/v1/queues/$dead%2F$share%2Fu%2Funreadable")
    assert shown.json()["depth"] == 1


async def test_the_gateway_may_restart_meanwhile(tmp_path_factory: pytest.TempPathFactory) -> None:
    running = GatewayProcess(tmp_path_factory.mktemp("restart")).start()
    try:
        async with get_access_point(url(running)) as point:
            consumer = point.create_pull_consumer(consumer_id="r")
            await consumer.bind_queue("restart")
            async with consumer, point.create_producer() as producer:
                await producer.send(producer.create_message("restart", "before"))
                await asyncio.to_thread(running.kill)
                for call in (
                    producer.send(producer.create_message("restart", "lost")),
                    consumer.receive(SECONDS),
                ):
                    with pytest.raises(OMSError) as caught:
                        await call
                    assert caught.value.code == ResponseStatus.SERVICE_UNAVAILABLE
                await asyncio.to_thread(running.start)
                await producer.send(producer.create_message("restart", "after"))
                found = await consumer.batch_receive(2, SECONDS)
                assert [message.data for message in found] == [b"before", b"after"]
    finally:
        running.stop()
    assert not running.bugs()


async def test_who_may_what(tmp_path_factory: pytest.TempPathFactory) -> None:
    running = Guarded(tmp_path_factory.mktemp("closed"), ("ann",))
    running.start()
    try:
        await asyncio.to_thread(running.rule, "own", "user:ann", ["subscribe", "publish"], "topic:shop/#")
        wrong = get_access_point(url(running), {"ACCOUNT_ID": "ann", "ACCOUNT_KEY": "wrong"})
        async with wrong.create_pull_consumer() as consumer:
            await refused(consumer.bind_queue("shop/q"), ResponseStatus.UNAUTHORIZED)
        own = {"ACCOUNT_ID": "ann", "ACCOUNT_KEY": password_of("ann")}
        async with get_access_point(url(running) + ":shop", own) as point:
            async with (
                point.create_pull_consumer(broadcast=True) as consumer,
                point.create_producer() as producer,
            ):
                await refused(consumer.bind_queue("secret://q"), ResponseStatus.FORBIDDEN)
                await consumer.bind_queue("q")
                await refused(
                    producer.send(producer.create_message("secret://q", "x")), ResponseStatus.FORBIDDEN
                )
                await producer.send(producer.create_message("q", "x"))
                found = await consumer.receive(SECONDS)
                assert found is not None
                assert (found.data, found.header.destination) == (b"x", "q")
            async with point.resource_manager() as resources:
                await refused(resources.create_queue("q"), ResponseStatus.FORBIDDEN)
        root = httpx.BasicAuth("root", password_of("root"))
        with httpx.Client(base_url=running.url, auth=root) as rest:
            assert queues(rest, "shop/q") == [], "its own broadcasting group it may delete"
    finally:
        running.stop()
    assert not running.bugs()


async def test_over_tls(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory, port = tmp_path_factory.mktemp("tls"), free_port()
    pki = Pki(directory / "pki")
    sets = (f"listeners.https=127.0.0.1:{port}", *pki.sets("required"))
    running = GatewayProcess(directory / "data", sets).start()
    try:
        address = f"oms:http://127.0.0.1:{port}/r"
        certificate, key = pki.client("ann")
        trusted = {"TLS": True, "TLS_CA": str(pki.path("ca.pem"))}
        mine = {**trusted, "TLS_CERTIFICATE": certificate, "TLS_KEY": key}
        async with get_access_point(address, mine) as point:
            async with point.create_pull_consumer() as consumer, point.create_producer() as producer:
                await consumer.bind_queue("secure")
                await producer.send(producer.create_message("secure", "x"))
                found = await consumer.receive(SECONDS)
                assert found is not None
                assert found.data == b"x"
        for strange in (trusted, {"TLS": True}, {}):  # no certificate; no trust; no TLS
            async with get_access_point(address, strange).create_producer() as producer:
                await refused(
                    producer.send(producer.create_message("secure", "x")), ResponseStatus.SERVICE_UNAVAILABLE
                )
    finally:
        running.stop()
    assert not running.bugs()


async def refused(call: Awaitable[Any], code: ResponseStatus) -> None:
    with pytest.raises(OMSError) as caught:
        await call
    assert caught.value.code == code


# -- servers that fail --------------------------------------------------------------------------------

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """Run a server that answers each request as it is told; yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line[16:])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length: ")
                ),
                0,
            )
            await reader.readexactly(length)
            await answer(head, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def respond(writer: asyncio.StreamWriter, status: int, body: bytes, headers: bytes = b"") -> None:
    writer.write(b"HTTP/1.1 %d x\r\n%scontent-length: %d\r\n\r\n%s" % (status, headers, len(body), body))


async def test_who_does_not_answer_is_a_timeout() -> None:
    async def hang(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(SECONDS)

    async with serving(hang) as port:
        point = get_access_point(f"oms:http://127.0.0.1:{port}/r", {"OPERATION_TIMEOUT": 100})
        async with point.create_producer() as producer:
            with pytest.raises(OMSTimeoutError):
                await producer.send(producer.create_message("q", "x"))


async def test_exactly_once_is_tried_again_under_the_same_id() -> None:
    ids: list[bytes] = []

    async def fail_once(head: bytes, writer: asyncio.StreamWriter) -> None:
        ids.append(head)
        if len(ids) < 2:
            return  # the connection is cut before there is an answer
        respond(writer, 200, b'{"messageId": "m", "destination": "q"}', b"x-oms-version: 1.0.0\r\n")

    async with serving(fail_once) as port:
        async with get_access_point(f"oms:http://127.0.0.1:{port}/r").create_producer() as producer:
            with pytest.raises(OMSError) as caught:
                await producer.send(producer.create_message("q", "x"))
            assert caught.value.code == ResponseStatus.SERVICE_UNAVAILABLE, "it may have been sent"
            ids.clear()
            result = await producer.send(producer.create_message("q", "x", qos=QoS.EXACTLY_ONCE))
            assert (result.message_id, len(ids)) == ("m", 2)


async def test_the_next_server_is_asked_if_one_cannot_be_reached() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        respond(writer, 200, b'{"messageId": "m", "destination": "q"}', b"x-oms-version: 1.0.0\r\n")

    async with serving(answer) as port:
        url = f"oms:http://127.0.0.1:{free_port()},127.0.0.1:{port}/r"
        async with get_access_point(url).create_producer() as producer:
            assert (await producer.send(producer.create_message("q", "x"))).message_id == "m"


async def test_another_server_is_none() -> None:
    async def page(head: bytes, writer: asyncio.StreamWriter) -> None:
        respond(writer, 200, b"<html>", b"content-type: text/html\r\n")

    async with serving(page) as port:
        async with get_access_point(f"oms:http://127.0.0.1:{port}/r").create_producer() as producer:
            for message in ([producer.create_message("q", "x")] * 1, [producer.create_message("q", "x")] * 2):
                with pytest.raises(OMSError) as caught:
                    await producer.send(message)
                assert caught.value.code in (ResponseStatus.SERVER_ERROR, ResponseStatus.BAD_REQUEST)
