"""A client's certificate, on its way from the handshake to the authenticators, through every protocol."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import pytest
from websockets.asyncio.client import connect

from gateway.api import Authenticator, Exchange
from gateway.config import load
from gateway.core.access import Credentials, Principal
from gateway.hookspecs import hookimpl
from gateway.protocols.coap.numbers import CSM, FORBIDDEN, PUT
from gateway.protocols.coap.streams.stream_codec import FrameDecoder, encode_frame
from gateway.protocols.mqtt.encoder import encode_auth, encode_connect
from gateway.protocols.mqtt.packets import Connect
from gateway.protocols.mqtt.reasons import Reason
from gateway.server import Server
from tests.certificates import Pki
from tests.coap_stream_client import ps
from tests.process import free_port

pytestmark = pytest.mark.interop
DOORS = ("mqtts", "amqps", "coaps", "https")


class Noting(Authenticator):
    """Lets everybody in, and notes who came with what."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def note(self, credentials: Credentials) -> Principal:
        certificate = credentials.certificate
        name = "-" if certificate is None else certificate.common_name
        self.seen.append((credentials.protocol, credentials.username or credentials.method or "", name))
        return Principal(name, admin=True, certificate=certificate)

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        return self.note(credentials)

    def exchange(self, credentials: Credentials) -> Exchange | None:
        return OneStep(functools.partial(self.note, credentials))


class OneStep(Exchange):
    """An exchange that is over at once."""

    def __init__(self, note: functools.partial[Principal]) -> None:
        self._note = note

    async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
        return b"", self._note()


class Kit:
    """The plugin with the authenticator."""

    def __init__(self, noting: Noting) -> None:
        self._noting = noting

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self._noting]


class House:
    """A gateway in this loop, with TLS doors alone."""

    def __init__(self, tmp_path: Path, asked: str) -> None:
        self.pki = Pki(tmp_path / "pki")
        self.noting = Noting()
        self.ports = {name: free_port() for name in DOORS}
        sets = [f"listeners.{name}=127.0.0.1:{port}" for name, port in self.ports.items()]
        sets += [
            "listeners.mqtt=",
            "listeners.amqp=",
            "listeners.http=",
            "listeners.coap=",
            "listeners.openmessaging=",
            "plugins.disabled=['auth', 'line']",
        ]
        config = load(None, [*sets, *self.pki.sets(asked)], True, tmp_path / "data")
        self.server = Server(config, [Kit(self.noting)])

    def context(self, name: str) -> ssl.SSLContext:
        return self.pki.context(self.pki.client(name) if name else None)

    async def stream(self, door: str, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.ports[door], ssl=self.context(name), server_hostname="localhost"
        )


@contextlib.asynccontextmanager
async def house(tmp_path: Path, asked: str = "optional") -> AsyncIterator[House]:
    made = House(tmp_path, asked)
    await made.server.start()
    try:
        yield made
    finally:
        await made.server.stop()


async def _leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


async def test_all_doors_are_open_and_named(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        assert [door.name for door in made.server.doors] == list(DOORS)


@pytest.mark.parametrize("name", ["device7", ""])
async def test_mqtt(tmp_path: Path, name: str) -> None:
    async with house(tmp_path) as made:
        reader, writer = await made.stream("mqtts", name)
        writer.write(encode_connect(Connect(5, "c", True, username="ann")))
        assert (await asyncio.wait_for(reader.read(100), 10))[3] == 0
        await _leave(writer)
        assert made.noting.seen == [("mqtt", "ann", name or "-")]


async def test_mqtt_with_an_exchange_and_again(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        reader, writer = await made.stream("mqtts", "device7")
        method = {"authentication_method": "X"}
        writer.write(encode_connect(Connect(5, "c", True, properties=dict(method))))
        assert (await asyncio.wait_for(reader.read(100), 10))[0] >> 4 == 2
        writer.write(encode_auth(Reason.REAUTHENTICATE, dict(method)))
        assert (await asyncio.wait_for(reader.read(100), 10))[0] >> 4 == 15
        await _leave(writer)
        assert made.noting.seen == [("mqtt", "X", "device7")] * 2


async def test_coap_over_tls(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        for name in ("device7", ""):
            reader, writer = await made.stream("coaps", name)
            writer.write(
                encode_frame(CSM, b"", (), b"") + encode_frame(PUT, b"t", ps("t", "username=ann"), b"x")
            )
            decoder = FrameDecoder(1 << 16)
            while (packet := decoder.next()) is None or packet.code == CSM:
                if packet is None:
                    decoder.feed(await asyncio.wait_for(reader.read(100), 10))
            assert packet.code == FORBIDDEN  # a client that is known, and for whom there is no rule
            await _leave(writer)
        assert made.noting.seen == [("coap", "ann", "device7"), ("coap", "ann", "-")]


async def test_amqp(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        for name in ("device7", ""):
            connection = await aio_pika.connect(
                f"amqps://ann:x@localhost:{made.ports['amqps']}/", ssl_context=made.context(name)
            )
            await connection.channel()
            await connection.close()
        assert made.noting.seen == [("amqp", "ann", "device7"), ("amqp", "ann", "-")]


async def test_http_never_shares_a_session_between_certificates(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        for name in ("device7", "device8", "", "device7"):
            reader, writer = await made.stream("https", name)
            for _ in range(2):  # the second request of a connection, too
                writer.write(b"GET /v1/queues HTTP/1.1\r\nhost: localhost\r\n\r\n")
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
                assert head.startswith(b"HTTP/1.1 200")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await asyncio.wait_for(reader.readexactly(length), 10)
            await _leave(writer)
        # device7 came back with a new key: that is another certificate
        assert [name for _, _, name in made.noting.seen] == ["device7", "device8", "-", "device7"]


async def test_websockets(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        url = f"wss://localhost:{made.ports['https']}"
        async with connect(f"{url}/v1/ws", ssl=made.context("device7")) as socket:
            await socket.ping()
        async with connect(f"{url}/mqtt", ssl=made.context("device8"), subprotocols=["mqtt"]) as socket:  # type: ignore[list-item]
            await socket.send(encode_connect(Connect(5, "c", True)))
            answer = await asyncio.wait_for(socket.recv(), 10)
            assert isinstance(answer, bytes)
            assert answer[3] == 0
        assert made.noting.seen == [("http", "", "device7"), ("mqtt", "", "device8")]
