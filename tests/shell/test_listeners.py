"""Listeners: real sockets on both event loops, their limits, and connections that go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from gateway.listeners import SocketTransport, remove_stale_socket
from gateway.settings import Address
from tests.shell.house import BUFFER_BYTES, House, until

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


async def ask(client: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes) -> bytes:
    """Send and return as many bytes as were sent, or fewer if the connection is closed."""
    reader, writer = client
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.readexactly(len(data)), 10)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionError:
        return b""


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on one of the loops."""

    def runner(scenario: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as running:
            running.run(asyncio.wait_for(scenario, 30))

    return runner


@contextlib.asynccontextmanager
async def house(connections_max: int = 100) -> Any:
    opened = await House(connections_max).open()
    try:
        yield opened
    finally:
        await opened.close()


async def close(*clients: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    for _, writer in clients:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def test_a_tcp_client_is_served_and_its_peer_is_its_address(run: Run) -> None:
    async def scenario() -> None:
        async with house() as door:
            client = await door.client()
            assert await ask(client, b"hello") == b"hello"
            host, port = client[1].get_extra_info("sockname")
            [connection] = door.protocol.connections
            assert connection.transport.peer == f"{host}:{port}"
            await close(client)
            await until(lambda: connection.events == ["closed"])
            assert door.limits.count() == 0

    run(scenario())


def test_a_unix_client_is_served(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "door")

    async def scenario() -> None:
        door = await House().open(Address("unix", path=path))
        client = await asyncio.open_unix_connection(path)
        assert await ask(client, b"hello") == b"hello"
        assert door.protocol.connections[0].transport.peer == "unix"
        await close(client)
        await door.close()

    run(scenario())


def test_a_unix_socket_left_by_a_crash_is_replaced_and_a_live_one_is_not(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "door")
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(path)

    async def scenario() -> None:
        first = await House().open(Address("unix", path=path))
        with pytest.raises(OSError, match="in use"):
            await House().open(Address("unix", path=path))
        client = await asyncio.open_unix_connection(path)
        assert await ask(client, b"still here") == b"still here"
        await close(client)
        await first.close()

    run(scenario())


def test_a_file_that_is_no_socket_is_left_alone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    remove_stale_socket(str(path))
    remove_stale_socket(str(tmp_path / "absent"))

    async def scenario() -> None:
        with pytest.raises(OSError):
            await House().open(Address("unix", path=str(path)))

    run(scenario())
    assert path.read_text() == "data"


def test_one_client_too_many_is_cut_off_until_another_leaves(run: Run) -> None:
    async def scenario() -> None:
        async with house(connections_max=3) as door:
            door.limits.elsewhere = lambda: 1
            inside = [await door.client() for _ in range(2)]
            for client in inside:
                assert await ask(client, b"x") == b"x"
            late = await door.client()
            assert await ask(late, b"x") == b""
            assert (door.limits.count(), door.limits.refused) == (3, 1)
            assert len(door.protocol.connections) == 2
            await close(inside[0], late)
            await until(lambda: door.limits.count() == 2)
            another = await door.client()
            assert await ask(another, b"x") == b"x"
            await close(another, inside[1])

    run(scenario())


def test_who_does_not_say_who_they_are_in_time_is_cut_off(run: Run) -> None:
    async def scenario() -> None:
        async with house() as door:
            silent, known = await door.client(), await door.client()
            assert await ask(known, b"x") == b"x"
            await until(lambda: len(door.limits.open) == 2)
            arrived = door.clock.monotonic_ms
            door.limits.expire(arrived + 5_000)
            assert await ask(known, b"y") == b"y"
            assert door.limits.count() == 2
            door.limits.expire(arrived + 10_001)
            assert await asyncio.wait_for(read_end(silent[0]), 10) == b""
            assert await ask(known, b"z") == b"z"
            assert door.limits.count() == 1
            await close(silent, known)

    run(scenario())


async def read_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def test_a_client_that_does_not_read_is_congested_until_it_does(run: Run) -> None:
    async def scenario() -> None:
        async with house() as door:
            loop = asyncio.get_running_loop()
            with socket.socket() as slow:
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                slow.setblocking(False)
                await loop.sock_connect(slow, ("127.0.0.1", door.port))
                size = 16 << 20  # more than the kernel's buffers on loopback
                await loop.sock_sendall(slow, b"fill%d" % size)
                await until(lambda: door.protocol.connections and door.protocol.connections[0].events)
                assert door.protocol.connections[0].events == [True]
                other = await door.client()
                assert await ask(other, b"not held up") == b"not held up"
                read = 0
                while read < size:
                    read += len(await loop.sock_recv(slow, 1 << 20))
                await until(lambda: door.protocol.connections[0].events == [True, False])
                await close(other)

    run(scenario())


@pytest.mark.parametrize(
    ("data", "event"), [(b"fail", "bug: connection aborted"), (b"refuse", "connection closed")]
)
def test_a_connection_that_raises_is_closed_and_others_live(run: Run, data: bytes, event: str) -> None:
    async def scenario() -> None:
        async with house() as door:
            good, bad = await door.client(), await door.client()
            assert await ask(good, b"before") == b"before"
            with capture_logs() as logs:
                assert await ask(bad, data) == b""
            assert [line["event"] for line in logs] == [event]
            assert logs[0]["door"] == "echo"
            assert logs[0]["log_level"] == ("error" if data == b"fail" else "info")
            assert await ask(good, b"after") == b"after"
            assert door.limits.count() == 1
            await close(good, bad)

    run(scenario())


@pytest.mark.parametrize("failing", ["connect", "drain", "congested", "closed"])
def test_a_protocol_that_fails_anywhere_is_a_logged_bug_and_its_client_is_gone(
    run: Run, failing: str
) -> None:
    async def scenario() -> None:
        async with house() as door:
            good = await door.client()
            assert await ask(good, b"before") == b"before"
            door.protocol.failing = failing
            with capture_logs() as logs:
                bad = await door.client()
                await until(lambda: door.limits.refused or len(door.limits.open) == 2 or logs)
                if failing == "closed":
                    await close(bad)
                if failing == "congested":
                    bad[1].write(b"fill%d" % (16 << 20))
                if failing == "drain":
                    door.protocol.connections[1].transport.drain()
                await until(lambda: logs)
                await until(lambda: len(door.limits.open) == 1)
            assert [line["event"].split(":")[0] for line in logs] == ["bug"]
            door.protocol.failing = ""
            assert await ask(good, b"after") == b"after"
            await close(good, bad)

    run(scenario())


def test_a_client_that_has_said_all_gets_its_answers_and_the_end(run: Run) -> None:
    """Its FIN comes with its last bytes, as from `nc -N`."""

    async def scenario() -> None:
        async with house() as door:
            for _ in range(20):
                reader, writer = await door.client()
                writer.write(b"last words")
                writer.write_eof()
                assert await asyncio.wait_for(reader.read(), 10) == b"last words"
                await close((reader, writer))
            await until(lambda: not door.limits.open)
            assert [made.events for made in door.protocol.connections] == [["closed"]] * 20

    run(scenario())


def test_a_client_that_is_reset_gives_its_place_back(run: Run) -> None:
    async def scenario() -> None:
        async with house(connections_max=1) as door:
            client = await door.client()
            assert await ask(client, b"x") == b"x"
            raw = client[1].get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client[1].transport.abort()
            await until(lambda: door.protocol.connections[0].events == ["closed"])
            assert door.limits.count() == 0
            assert door.limits.none_open.is_set()

    run(scenario())


class FakeSocket:
    """What a loop gives to `connection_made`."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.ended = ""
        self.raw = socket.socket()

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("127.0.0.1", 9), "socket": self.raw}[name]

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"


@contextlib.asynccontextmanager
async def on_a_fake(proxied: bool = False) -> Any:
    door, fake = House(proxied=proxied), FakeSocket()
    transport = SocketTransport(door.door)
    transport.connection_made(fake)  # type: ignore[arg-type]
    try:
        yield door, transport, fake
    finally:
        transport.connection_lost(None)
        fake.raw.close()
        door.turn.stop()


async def test_a_half_open_peer_is_found_by_keepalive() -> None:
    async with on_a_fake() as (_, _, fake):
        assert fake.raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert fake.raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 120
        assert fake.raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert fake.high == BUFFER_BYTES


async def test_all_answers_of_a_turn_are_one_write() -> None:
    async with on_a_fake() as (_, transport, fake):
        for data in (b"a", b"b", b"c"):
            transport.data_received(data)
        assert fake.writes == []
        await asyncio.sleep(0)
        assert fake.writes == [b"abc"]


async def test_close_sends_what_is_queued_and_takes_no_more() -> None:
    async with on_a_fake() as (_, transport, fake):
        transport.data_received(b"last")
        transport.close()
        transport.data_received(b"late")
        assert fake.ended == ""
        await asyncio.sleep(0)
        assert (fake.writes, fake.ended) == ([b"last"], "closed")
        transport.write(b"later")
        await asyncio.sleep(0)
        assert fake.writes == [b"last"]


async def test_abort_sends_nothing() -> None:
    async with on_a_fake() as (_, transport, fake):
        transport.data_received(b"never sent")
        transport.abort()
        await asyncio.sleep(0)
        assert (fake.writes, fake.ended) == ([], "aborted")


HEADER = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes((192, 0, 2, 7, 0, 0, 0, 0, 0x10, 0, 0, 1))


async def test_a_proxys_header_may_come_byte_by_byte_and_names_the_client() -> None:
    async with on_a_fake(proxied=True) as (door, transport, fake):
        for byte in HEADER:
            assert door.protocol.connections == []
            transport.data_received(bytes((byte,)))
        transport.data_received(b"hello")
        await asyncio.sleep(0)
        assert (transport.peer, fake.writes) == ("192.0.2.7:4096", [b"hello"])


async def test_what_follows_a_proxys_header_in_one_read_is_the_clients() -> None:
    async with on_a_fake(proxied=True) as (_, transport, fake):
        transport.data_received(HEADER + b"hello")
        await asyncio.sleep(0)
        assert (transport.peer, fake.writes) == ("192.0.2.7:4096", [b"hello"])


@pytest.mark.parametrize("data", [b"hello", HEADER[:14] + b"\xff\xff" + bytes(1000)])
async def test_where_a_proxy_must_speak_anything_else_is_cut_off(data: bytes) -> None:
    async with on_a_fake(proxied=True) as (door, transport, fake):
        transport.data_received(data)
        transport.data_received(HEADER)
        assert fake.ended == "aborted"
        assert door.protocol.connections == []
