"""Protocols over byte streams, spoken over WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.api import GatewayError, Transport
from gateway.protocols.http import bridge
from tests.protocols.http.http_support import Running, close_door, eventually, open_door

ECHO = [Subprotocol("echo")]


class Echo:
    """A connection that repeats what it gets, a byte a write, and obeys a few commands."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.congestion: list[bool] = []
        self.ended: list[Exception | None] = []
        self.drained = False

    def receive(self, data: bytes) -> None:
        if data == b"established":
            self.transport.established()
        elif data == b"close":
            self.transport.write(b"bye")
            self.transport.close()
        elif data == b"abort":
            self.transport.abort()
        elif data == b"pause":
            self.transport.pause_reading()
        elif data == b"refuse":
            raise GatewayError("no such thing")
        elif data == b"bug":
            raise ZeroDivisionError
        else:
            for byte in data:
                self.transport.write(bytes([byte]))

    def congested(self, congested: bool) -> None:
        self.congestion.append(congested)

    def closed(self, error: Exception | None) -> None:
        self.ended.append(error)

    def drain(self) -> None:
        self.drained = True
        self.transport.write(b"drained")
        self.transport.close()


class EchoProtocol:
    name = "echo"
    address = ""
    websocket_path = "/echo"
    websocket_subprotocol = "echo"

    def __init__(self) -> None:
        self.connections: list[Echo] = []

    def connect(self, transport: Transport, gateway: Any) -> Echo:
        assert transport.peer.startswith("127.0.0.1:")
        self.connections.append(Echo(transport))
        return self.connections[-1]

    def start(self, gateway: Any) -> None:
        pass


class WholeProtocol(EchoProtocol):
    """Messages stay what they are: what comes in one, and what a write makes."""

    name = "whole"
    websocket_path = "/whole"

    def connect(self, transport: Transport, gateway: Any) -> Echo:
        raise AssertionError("a WebSocket is no stream here")

    def connect_messages(self, transport: Transport, gateway: Any) -> Echo:
        return super().connect(transport, gateway)


@pytest_asyncio.fixture
async def echo(config: SimpleNamespace) -> AsyncIterator[tuple[Running, EchoProtocol]]:
    protocol = EchoProtocol()
    config.limits.handshake_seconds_max = 0.2
    running = await open_door(config, {"echo": protocol})
    yield (running, protocol)
    await close_door(running)


async def test_a_turns_writes_are_one_message(echo: tuple[Running, EchoProtocol]) -> None:
    running, protocol = echo
    async with connect(f"{running.ws_url}/echo", subprotocols=ECHO) as socket:
        assert socket.subprotocol == "echo"
        await socket.send(b"one by one")
        assert await socket.recv() == b"one by one"
    await eventually(lambda: protocol.connections[0].ended)
    assert protocol.connections[0].ended == [None]


async def test_a_write_is_a_message_where_that_matters(config: SimpleNamespace) -> None:
    protocol = WholeProtocol()
    running = await open_door(config, {"whole": protocol})
    async with connect(f"{running.ws_url}/whole", subprotocols=ECHO) as socket:
        await socket.send(b"abc")
        assert [await socket.recv() for _ in range(3)] == [b"a", b"b", b"c"]
        (connection,) = protocol.connections
        taken: list[bytes] = []
        connection.receive = taken.append  # type: ignore[method-assign]
        await socket.send([b"in ", b"fragments"])
        await socket.send(b"")  # nothing, too, is a message
        await eventually(lambda: len(taken) == 2)
        assert taken == [b"in fragments", b""]
        assert not connection.transport.secure
    await eventually(lambda: connection.ended)
    await close_door(running)


async def test_the_subprotocol_must_be_offered(echo: tuple[Running, EchoProtocol]) -> None:
    running, protocol = echo
    for offered in (None, [Subprotocol("other")]):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{running.ws_url}/echo", subprotocols=offered):
                raise AssertionError("no subprotocol")
        assert refused.value.response.status_code == 400
    assert not protocol.connections


@pytest.mark.parametrize(
    ("command", "code", "last"),
    [(b"close", 1000, b"bye"), ("text", 1003, None), (b"refuse", 1000, None)],
)
async def test_closing(
    echo: tuple[Running, EchoProtocol], command: bytes | str, code: int, last: bytes | None
) -> None:
    running, protocol = echo
    async with connect(f"{running.ws_url}/echo", subprotocols=ECHO) as socket:
        await socket.send(command)
        if last is not None:
            assert await socket.recv() == last
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
    await eventually(lambda: protocol.connections[0].ended)
    assert protocol.connections[0].ended == [None]


@pytest.mark.parametrize("command", [b"abort", b"bug"])
async def test_aborting(echo: tuple[Running, EchoProtocol], command: bytes) -> None:
    running, protocol = echo
    async with connect(f"{running.ws_url}/echo", subprotocols=ECHO) as socket:
        await socket.send(command)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    await eventually(lambda: protocol.connections[0].ended)
    assert len(protocol.connections[0].ended) == 1


async def test_whoever_does_not_say_who_he_is_is_cut_off(echo: tuple[Running, EchoProtocol]) -> None:
    running, protocol = echo
    async with (
        connect(f"{running.ws_url}/echo", subprotocols=ECHO) as slow,
        connect(f"{running.ws_url}/echo", subprotocols=ECHO) as quick,
    ):
        await quick.send(b"established")
        with pytest.raises(ConnectionClosed):
            await slow.recv()
        await eventually(lambda: protocol.connections[0].ended)
        await quick.send(b"still here")
        assert await quick.recv() == b"still here"


async def test_reading_can_be_paused(echo: tuple[Running, EchoProtocol]) -> None:
    running, protocol = echo
    async with connect(f"{running.ws_url}/echo", subprotocols=ECHO) as socket:
        await socket.send(b"established")
        await socket.send(b"pause")
        await socket.send(b"later")
        (connection,) = protocol.connections
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await socket.recv()
        connection.transport.resume_reading()
        assert await socket.recv() == b"later"


async def test_a_client_that_does_not_read_is_told_of(
    echo: tuple[Running, EchoProtocol], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "CLOSE_SECONDS_MAX", 0.1)
    running, protocol = echo
    async with connect(f"{running.ws_url}/echo", subprotocols=ECHO, max_queue=1, max_size=None) as socket:
        await socket.send(b"established")
        (connection,) = await eventually(lambda: protocol.connections)
        socket.transport.pause_reading()

        def write_until_congested() -> bool:
            if not connection.congestion:
                connection.transport.write(b"x" * 1_000_000)
            return bool(connection.congestion)

        await eventually(write_until_congested)
        socket.transport.resume_reading()
        reader = asyncio.create_task(_read_all(socket))
        await eventually(lambda: connection.congestion == [True, False])
        reader.cancel()
        socket.transport.pause_reading()
        connection.transport.write(b"x" * 20_000_000)
        connection.transport.close()
        await eventually(lambda: connection.ended)
        assert isinstance(connection.ended[0], TimeoutError), "closing does not wait for ever either"
        socket.transport.abort()


async def _read_all(socket: Any) -> None:
    while True:
        await socket.recv()


async def test_the_door_says_goodbye(echo: tuple[Running, EchoProtocol]) -> None:
    running, protocol = echo
    async with connect(f"{running.ws_url}/echo", subprotocols=ECHO) as socket:
        await socket.send(b"established")
        await eventually(lambda: protocol.connections)
        stop = asyncio.create_task(running.door.stop())
        assert await socket.recv() == b"drained"
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        await stop
    assert protocol.connections[0].drained
    assert len(protocol.connections[0].ended) == 1
