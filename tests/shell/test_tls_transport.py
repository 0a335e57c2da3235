"""TLS around a door: on both event loops, with clients that are good, slow, wrong or gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from gateway.config import load
from gateway.listeners import SocketTransport, open_listener
from gateway.settings import Address
from gateway.tls import TlsDoors
from gateway.tls_transport import LOG_INTERVAL_MS, TlsListener
from tests.certificates import LONG_AGO, Pki, serial
from tests.mqtt_client import OPENED
from tests.shell.house import House, until

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
Run = Callable[[Coroutine[Any, Any, None]], None]
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    found = Pki(tmp_path_factory.mktemp("pki"))
    found.client("dev")
    found.client("old", LONG_AGO)
    return found


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A client of another CA, which has the same name."""
    return Pki(tmp_path_factory.mktemp("other")).client("dev")


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on one of the loops; nothing may reach the loop's exception handler."""

    def runner(scenario: Coroutine[Any, Any, None]) -> None:
        bugs: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
            await asyncio.wait_for(scenario, 30)

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as running:
            running.run(watched())
        assert bugs == []

    return runner


class TlsHouse(House):
    """A house whose door has TLS around it."""

    def __init__(self, pki: Pki, *sets: str, connections_max: int = 100) -> None:
        super().__init__(connections_max)
        self.pki = pki
        self.doors = TlsDoors(load(None, sets or pki.sets(), True, None), {"mqtts": "mqtt"})
        self.listener = TlsListener(
            self.doors["mqtts"],
            lambda: SocketTransport(self.door),
            self.limits,
            self.turn,
            lambda: self.clock.monotonic_ms,
        )

    async def open(self, address: Address | None = None) -> House:
        loop = asyncio.get_running_loop()
        address = address or Address("tcp", "127.0.0.1", 0)
        self.server = await open_listener(loop, address, self.listener.connection)
        name = self.server.sockets[0].getsockname()
        self.port = name[1] if isinstance(name, tuple) else 0
        return self

    async def tls_client(self, context: ssl.SSLContext | None = None) -> Client:
        context = context or self.pki.context()
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")


@contextlib.asynccontextmanager
async def house(pki: Pki, *sets: str, **options: Any) -> AsyncIterator[TlsHouse]:
    opened = TlsHouse(pki, *sets, **options)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


async def ask(client: Client, data: bytes) -> bytes:
    """Send, and return as many bytes as were sent, or fewer if the connection ends."""
    reader, writer = client
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.readexactly(len(data)), 10)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except (ssl.SSLError, ConnectionError):
        return b""


async def close(*clients: Client) -> None:
    for _, writer in clients:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


class Wire:
    """A TLS client whose bytes a test moves itself."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        OPENED.append(self.sock)
        self.sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def send(self, piece: int = 1 << 20) -> None:
        """Send what is to be sent, in pieces that arrive one by one."""
        loop = asyncio.get_running_loop()
        data = self.outgoing.read()
        for start in range(0, len(data), piece):
            await loop.sock_sendall(self.sock, data[start : start + piece])
            await asyncio.sleep(0)

    async def step(self, call: Callable[[], Any], piece: int = 1 << 20) -> Any:
        """Call until it has what it needs; None at the end of the stream."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                await self.send(piece)
                data = await asyncio.wait_for(loop.sock_recv(self.sock, 65536), 10)
                if not data:
                    return None
                self.incoming.write(data)
            else:
                await self.send(piece)
                return result


async def enter(wire: Wire) -> Any:
    """Shake hands and read: in TLS 1.3 a client learns only then that it was refused."""
    await wire.step(wire.tls.do_handshake)
    return await wire.step(lambda: wire.tls.read(1))


# -- what is behind notices nothing ---------------------------------------------------------------


def test_a_client_is_served_and_leaves(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            client = await door.tls_client()
            assert await ask(client, b"hello") == b"hello"
            host, port = client[1].get_extra_info("sockname")
            [connection] = door.protocol.connections
            assert connection.transport.peer == f"{host}:{port}"
            assert connection.transport.certificate is None
            assert connection.transport.secure
            assert door.limits.count() == 1
            await close(client)
            await until(lambda: connection.events == ["closed"])
            assert door.limits.count() == 0
            assert connection.transport.certificate is None  # the socket is gone: nothing to ask

    run(scenario())


def test_bytes_may_come_one_by_one_or_all_at_once(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            for piece in (1, 7, 1 << 20):
                wire = Wire(door.port, pki.context())
                await wire.step(wire.tls.do_handshake, piece)
                wire.tls.write(b"abc")
                wire.tls.write(b"def")
                await wire.send(piece)
                assert await wire.step(lambda wire=wire: wire.tls.read(3)) == b"abc"
                assert await wire.step(lambda wire=wire: wire.tls.read(3)) == b"def"
                wire.sock.close()
            await until(lambda: not door.limits.open)

    run(scenario())


def test_what_comes_with_the_end_of_the_handshake_is_not_lost(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            wire = Wire(door.port, pki.context())
            loop = asyncio.get_running_loop()
            with contextlib.suppress(ssl.SSLWantReadError):
                wire.tls.do_handshake()
            await wire.send()
            while True:
                wire.incoming.write(await loop.sock_recv(wire.sock, 65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    wire.tls.do_handshake()
                    break
            wire.tls.write(b"at once")
            await wire.send()  # the client's Finished and its first data are one piece
            assert await wire.step(lambda: wire.tls.read(7)) == b"at once"
            wire.sock.close()

    run(scenario())


def test_much_data_both_ways(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            client = await door.tls_client()
            data = bytes(range(256)) * 8192  # 2 MB
            writing = asyncio.create_task(ask(client, data))
            assert await writing == data
            await close(client)

    run(scenario())


def test_a_client_that_does_not_read_congests_its_connection(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            client = await door.tls_client()
            client[1].write(b"fill30000000")
            await until(lambda: door.protocol.connections)
            [connection] = door.protocol.connections
            await until(lambda: connection.events == [True])
            assert len(await asyncio.wait_for(client[0].readexactly(30_000_000), 20)) == 30_000_000
            await until(lambda: connection.events == [True, False])
            await close(client)

    run(scenario())


def test_a_pause_holds_back_what_has_come_already(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            client = await door.tls_client()
            assert await ask(client, b"x") == b"x"
            [connection] = door.protocol.connections
            received: list[bytes] = []

            def receive(data: bytes) -> None:
                received.append(data)
                connection.transport.pause_reading()
                connection.transport.pause_reading()  # idempotent

            connection.receive = receive  # type: ignore[method-assign]
            client[1].write(b"a" * 100_000)
            await client[1].drain()
            await until(lambda: received)
            client[1].write(b"b")
            await client[1].drain()
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(received) == 1
            while len(b"".join(received)) < 100_001:
                before = len(received)
                connection.transport.resume_reading()
                connection.transport.resume_reading()
                await until(lambda before=before: len(received) > before)
            assert b"".join(received) == b"a" * 100_000 + b"b"
            connection.transport.resume_reading()  # or the client's goodbye is held back, too
            await close(client)

    run(scenario())


def test_closing_sends_what_was_written_and_says_goodbye(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            wire = Wire(door.port, pki.context())
            await wire.step(wire.tls.do_handshake)
            await until(lambda: door.protocol.connections)
            [connection] = door.protocol.connections
            connection.transport.drain()  # answers b"bye", then closes
            assert await wire.step(lambda: wire.tls.read(10)) == b"bye"
            assert await wire.step(lambda: wire.tls.read(10)) == b""  # TLS's own end: nothing was cut off
            wire.sock.close()
            await until(lambda: connection.events == ["closed"])

    run(scenario())


def test_a_goodbye_and_an_end_without_one_close(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            for goodbye in (True, False):
                wire = Wire(door.port, pki.context())
                await wire.step(wire.tls.do_handshake)
                if goodbye:
                    with contextlib.suppress(ssl.SSLWantReadError):
                        wire.tls.unwrap()
                    await wire.send()
                else:
                    wire.sock.shutdown(socket.SHUT_WR)
                await until(lambda: not door.limits.open)
                wire.sock.close()
            assert [connection.events for connection in door.protocol.connections] == [["closed"]] * 2

    run(scenario())


@pytest.mark.parametrize("failing", ["refuse", "fail"])
def test_what_a_protocol_does_wrong_ends_its_connection(run: Run, pki: Pki, failing: str) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            with capture_logs() as logs:
                client = await door.tls_client()
                other = await door.tls_client()
                assert await ask(client, failing.encode()) == b""
                assert await ask(other, b"fine") == b"fine"
            assert len(logs) == 1
            await close(client, other)

    run(scenario())


def test_a_record_that_was_tampered_with_ends_the_connection(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            wire = Wire(door.port, pki.context())
            await wire.step(wire.tls.do_handshake)
            wire.tls.write(b"hello")
            data = bytearray(wire.outgoing.read())
            data[-1] ^= 1
            await asyncio.get_running_loop().sock_sendall(wire.sock, data)
            await until(lambda: door.protocol.connections and door.protocol.connections[0].events)
            assert door.protocol.connections[0].events == ["closed"]
            wire.sock.close()

    run(scenario())


# -- who is let in --------------------------------------------------------------------------------


def test_the_protocol_is_agreed_upon(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            for offered, chosen in (("mqtt", "mqtt"), ("h2", None), ("", None)):
                client = await door.tls_client(pki.context(alpn=offered))
                assert client[1].get_extra_info("ssl_object").selected_alpn_protocol() == chosen
                await close(client)

    run(scenario())


def test_a_certificate_is_known_to_the_connection(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        context = pki.context((str(pki.path("dev.pem")), str(pki.path("dev-key.pem"))))
        for asked in ("optional", "required"):
            async with house(pki, *pki.sets(asked)) as door:
                client = await door.tls_client(context)
                assert await ask(client, b"x") == b"x"
                [connection] = door.protocol.connections
                certificate = connection.transport.certificate
                assert (certificate.subject, certificate.common_name) == ("CN=dev", "dev")
                await close(client)

    run(scenario())


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_who_has_no_good_certificate_stays_out(
    run: Run, pki: Pki, stranger: tuple[str, str], version: str
) -> None:
    async def scenario() -> None:
        expired = (str(pki.path("old.pem")), str(pki.path("old-key.pem")))
        server = (
            str(pki.path("server.pem")),
            str(pki.path("server-key.pem")),
        )  # signed by the CA, but no client
        cases: list[tuple[str, tuple[str, str] | None]] = [
            ("required", None),
            *((asked, shown) for asked in ("required", "optional") for shown in (expired, stranger, server)),
        ]
        for asked, shown in cases:
            async with house(pki, *pki.sets(asked)) as door:
                context = pki.context(shown)
                context.maximum_version = ssl.TLSVersion[version]
                wire = Wire(door.port, context)
                with capture_logs() as logs:
                    with pytest.raises(ssl.SSLError, match="alert"):  # they are told
                        await enter(wire)
                    await until(lambda: not door.limits.open)
                [entry] = logs
                assert (entry["event"], entry["log_level"]) == ("TLS handshake failed", "info")
                assert "certificate" in entry["reason"]
                assert door.protocol.connections == []
                wire.sock.close()

    run(scenario())


def test_optional_means_that_none_will_do(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki, *pki.sets("optional")) as door:
            client = await door.tls_client()
            assert await ask(client, b"x") == b"x"
            assert door.protocol.connections[0].transport.certificate is None
            await close(client)

    run(scenario())


def test_old_versions_are_refused(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki, *pki.sets(), 'tls.minimum_version="1.3"') as door:
            context = pki.context()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(ssl.SSLError, match="alert protocol version"):
                await door.tls_client(context)

    run(scenario())


# -- handshakes that do not end well -----------------------------------------------------------------


def test_failures_are_one_line_a_second(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            with capture_logs() as logs:
                for _ in range(10):
                    reader, writer = await door.client()
                    writer.write(b"GET / HTTP/1.1\r\n\r\n")
                    await asyncio.wait_for(reader.read(), 10)
                    await close((reader, writer))
                now_ms = door.clock.monotonic_ms
                door.listener._now_ms = lambda: now_ms + LOG_INTERVAL_MS  # a second later
                reader, writer = await door.client()
                writer.write(b"\x16\x03\x01")
                writer.close()
                await until(lambda: len(logs) == 2)
            assert [entry["reason"] for entry in logs] == ["http request", "the client left"]
            assert [entry.get("unsaid") for entry in logs] == [None, 9]
            await until(lambda: not door.limits.open)

    run(scenario())


def test_who_says_nothing_is_cut_off_and_blocks_nobody(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            silent = await door.client()
            slow = await door.client()
            slow[1].write(b"\x16\x03\x01\x02\x00\x01")
            await until(lambda: len(door.limits.open) == 2)
            good = await door.tls_client()
            assert await ask(good, b"meanwhile") == b"meanwhile"
            with capture_logs() as logs:
                door.turn.begin()
                door.limits.expire(door.clock.monotonic_ms + 10_001)
                for late in (silent, slow):
                    with contextlib.suppress(ConnectionResetError):
                        assert await asyncio.wait_for(late[0].read(), 10) == b""
            assert [entry["reason"] for entry in logs] == ["it takes too long, or the gateway stops"]
            assert await ask(good, b"still here") == b"still here"
            await close(silent, slow, good)

    run(scenario())


def test_handshakes_count_as_connections(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki, connections_max=2) as door:
            waiting = [await door.client() for _ in range(2)]
            await until(lambda: door.limits.count() == 2)
            late = await door.client()
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(late[0].read(), 10) == b""
            assert door.limits.refused == 1
            await close(*waiting, late)
            await until(lambda: door.limits.count() == 0)
            inside = [await door.tls_client() for _ in range(2)]
            for client in inside:
                assert await ask(client, b"x") == b"x"
            assert door.limits.count() == 2
            await close(*inside)

    run(scenario())


def test_who_is_not_in_when_the_gateway_stops_is_cut_off(run: Run, pki: Pki) -> None:
    async def scenario() -> None:
        async with house(pki) as door:
            slow = await door.client()
            await until(lambda: door.limits.open)
            for transport in list(door.limits.open):
                transport.drain()
            await until(lambda: not door.limits.open)
            await close(slow)

    run(scenario())


# -- new certificates ---------------------------------------------------------------------------------


def test_new_connections_get_the_new_certificate_and_others_go_on(run: Run, tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    dev = pki.client("dev")

    async def scenario() -> None:
        async with house(pki, *pki.sets("optional")) as door:
            old = await door.tls_client()
            half = await door.client()  # has connected, and begins its handshake after the reload
            before = serial(old[1].get_extra_info("ssl_object").getpeercert(True))
            wanted = pki.server().serial_number
            with_old_ca = pki.context(dev)
            door.doors.reload()
            new = await door.tls_client(with_old_ca)
            assert serial(new[1].get_extra_info("ssl_object").getpeercert(True)) == wanted != before
            assert await ask(old, b"undisturbed") == b"undisturbed"
            other = Pki(tmp_path / "other")
            pki.path("ca.pem").write_bytes(other.path("ca.pem").read_bytes())  # dev's CA counts no more
            door.doors.reload()
            refused = await door.tls_client(with_old_ca)
            assert await ask(refused, b"x") == b""
            assert await ask(new, b"goes on") == b"goes on"
            assert await ask(old, b"goes on") == b"goes on"
            await close(old, half, new, refused)

    run(scenario())


def test_over_a_unix_socket(run: Run, pki: Pki, tmp_path: Path) -> None:
    async def scenario() -> None:
        door = TlsHouse(pki)
        await door.open(Address("unix", path=str(tmp_path / "door")))
        client = await asyncio.open_unix_connection(
            str(tmp_path / "door"), ssl=pki.context(), server_hostname="localhost"
        )
        assert await ask(client, b"hello") == b"hello"
        await close(client)
        await door.close()

    run(scenario())
