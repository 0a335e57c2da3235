"""The OpenMessaging driver `rocketmq`: restarts, logins, TLS, dead letters, questions about transactions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc")

from gateway.oms import (
    Message,
    OMSError,
    OMSSecurityError,
    ResponseStatus,
    get_access_point,
)
from tests.access.guarded import Guarded
from tests.certificates import Pki
from tests.process import RocketGateway, free_port, wait_for

pytestmark = pytest.mark.interop

WAIT = 5.0  # for what is there, or comes at once
SECRET = "a secret that signs"


def url_of(port: int, account: str = "") -> str:
    """Return the access point of a gateway."""
    return f"oms:rocketmq://{account}127.0.0.1:{port}/here"


async def _until(condition: Any) -> None:
    await asyncio.to_thread(wait_for, condition, 20)


async def test_clients_outlive_the_server(tmp_path: Path) -> None:
    gateway = RocketGateway(tmp_path / "data").start()
    seen: list[bytes] = []
    asked: list[bytes] = []

    def check(message: Message, context: Any) -> None:
        asked.append(message.data)
        context.commit()

    try:
        async with (
            get_access_point(url_of(gateway.rocketmq_port), {"OPERATION_TIMEOUT": 20_000}) as point,
            point.create_producer(check, check_delay=3000) as producer,
            point.create_push_consumer() as consumer,
        ):
            await consumer.bind_queue("q", lambda message, context: seen.append(message.data))
            await producer.send(Message("q", b"before"))
            await _until(lambda: seen == [b"before"])
            await producer.prepare(Message("q", b"open"))
            gateway.kill()
            sending = [producer.send_async(Message("q", b"%d" % n)) for n in range(3)]
            await asyncio.to_thread(gateway.start)
            await asyncio.gather(*sending)
            # the question comes by a stream of Telemetry that was made anew
            await _until(lambda: set(seen) == {b"before", b"0", b"1", b"2", b"open"})
            assert asked == [b"open"]
    finally:
        gateway.stop()
    assert not gateway.bugs()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    producer = get_access_point(url_of(free_port()), {"OPERATION_TIMEOUT": 300}).create_producer()
    with pytest.raises(OMSError) as raised:
        await producer.start()
    assert raised.value.code == ResponseStatus.SERVICE_UNAVAILABLE


async def test_logins_over_tls(tmp_path: Path) -> None:
    pki, port = Pki(tmp_path / "pki"), free_port()
    gateway = Guarded(tmp_path / "data", (), "", (f"listeners.openmessagings=127.0.0.1:{port}", *pki.sets()))
    gateway.start()
    gateway.user("ann", secret=SECRET)
    gateway.rule("own", "user:ann", ["publish", "subscribe"], "topic:ann/#")
    trust = {"TLS": True, "TLS_CA": str(pki.path("ca.pem"))}
    try:
        good = {**trust, "ACCOUNT_KEY": SECRET}
        async with (
            get_access_point(url_of(port, "ann@"), good) as point,
            point.create_producer() as producer,
            point.create_pull_consumer() as consumer,
        ):
            await consumer.bind_queue("ann/q")
            await producer.send(Message("ann/q", b"x"))
            assert (await consumer.receive(WAIT)).data == b"x"
            with pytest.raises(OMSSecurityError) as raised:
                await producer.send(Message("bob/q", b"x"))
            assert raised.value.code == ResponseStatus.FORBIDDEN
            with pytest.raises(OMSSecurityError) as raised:
                await consumer.bind_queue("bob/q")
            assert raised.value.code == ResponseStatus.FORBIDDEN
        stranger = get_access_point(url_of(port, "ann@"), {**trust, "ACCOUNT_KEY": "wrong"})
        with pytest.raises(OMSSecurityError) as raised:
            await stranger.create_producer().start()
        assert raised.value.code == ResponseStatus.UNAUTHORIZED
        wary = {"TLS": True, "ACCOUNT_KEY": SECRET, "OPERATION_TIMEOUT": 500}
        with pytest.raises(OMSError) as distrust:
            await get_access_point(url_of(port, "ann@"), wary).create_producer().start()
        assert distrust.value.code == ResponseStatus.SERVICE_UNAVAILABLE
    finally:
        gateway.stop()
    assert not gateway.bugs()


async def test_dead_letters_and_a_group_in_order(tmp_path: Path) -> None:
    gateway = RocketGateway(tmp_path / "data", ("openmessaging.fifo_groups=['ordered']",)).start()
    seen: list[tuple[bytes, int]] = []

    def listen(message: Message, context: Any) -> None:
        seen.append((message.data, message.header.delivery_count))
        if message.data == b"0":
            raise ValueError("never")

    try:
        async with (
            get_access_point(url_of(gateway.rocketmq_port), {"CONSUMER_ID": "ordered"}) as point,
            point.create_producer() as producer,
            point.create_push_consumer(retry_delay=1) as consumer,
            point.create_pull_consumer() as undertaker,
        ):
            await consumer.bind_queue("q", listen)
            await undertaker.bind_queue("%DLQ%ordered")
            make = producer.create_message
            await producer.send([make("q", b"%d" % n, message_key="k") for n in range(2)])
            letter = await undertaker.receive(WAIT)
            assert letter.data == b"0"
            assert letter.properties["dead-letter-cause"]
            await _until(lambda: seen[-1] == (b"1", 1))
            assert [attempt for data, attempt in seen if data == b"0"] == list(range(1, 18))
    finally:
        gateway.stop()
    assert not gateway.bugs()


class Forwarder:
    """A way to a port that can become silent: what is connected stays so, and hears nothing any more."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.silent: set[Any] = set()
        self.writers: set[Any] = set()
        self.connections = 0

    async def open(self) -> int:
        self.server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self.writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if sink not in self.silent:
                sink.write(data)
        if sink not in self.silent:
            sink.close()

    def become_silent(self) -> None:
        """Of those who are connected now nobody hears anything any more."""
        self.silent |= self.writers

    async def close(self) -> None:
        self.server.close()
        for writer in self.writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_a_peer_that_says_nothing_is_dialled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.oms.drivers.rocketmq.client.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr("gateway.oms.drivers.rocketmq.client.REQUEST_SECONDS_MAX", 0.5)
    gateway = RocketGateway(tmp_path / "data").start()
    seen: list[bytes] = []
    forwarder = Forwarder(gateway.rocketmq_port)
    port = await forwarder.open()
    try:
        async with (
            get_access_point(url_of(port), {"OPERATION_TIMEOUT": 20_000}) as point,
            point.create_producer() as producer,
            point.create_push_consumer() as consumer,
        ):
            await consumer.bind_queue("q", lambda message, context: seen.append(message.data))
            await producer.send(Message("q", b"before"))
            await _until(lambda: seen == [b"before"])
            before = forwarder.connections
            forwarder.become_silent()
            await producer.send(Message("q", b"after"))
            await _until(lambda: seen == [b"before", b"after"])
            assert forwarder.connections > before
    finally:
        await forwarder.close()
        gateway.stop()
    assert not gateway.bugs()
