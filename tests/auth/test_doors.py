"""Every way to log in, over sockets, at a gateway that knows them all: who it is, and who is refused."""

from __future__ import annotations

import asyncio
import importlib.util
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pamqp import commands, frame
from scramp import ScramClient

from gateway.api import Action, Authenticator, Origin, Principal, Ruling
from gateway.auth.hashes import hash_password
from gateway.auth.keys import KeyLogins, make_key
from gateway.auth.passwords import Passwords
from gateway.auth.scram import METHOD, ScramLogins, make_verifier
from gateway.auth.tokens import TokenLogins
from gateway.auth.users import User
from gateway.config import load
from gateway.hookspecs import hookimpl
from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.encoder import encode_auth, encode_connect
from gateway.protocols.mqtt.packets import V5, V311, Auth, Connack, Connect
from gateway.server import Server
from gateway.settings import Tokens
from tests.auth.auth_support import Hands
from tests.auth.test_tokens import CLAIMS, NOW, sign, write_keys
from tests.process import free_port

KEY, RECORD = make_key("ann", 0)
TOKEN = sign(CLAIMS)
FORGED = TOKEN[:-6] + "AAAAAA"
USERS = {"ann": User("ann", scram=make_verifier("pw", 4096))}
SECONDS = 10


class Everybody:
    """A plugin with all authenticators, in the order that matters: tokens and keys before passwords."""

    def __init__(self, directory: Path) -> None:
        write_keys(directory)
        self.sessions: list[Principal] = []
        self._made: list[Authenticator] = [
            KeyLogins({RECORD.id: RECORD}.get, USERS.get),
            TokenLogins(Tokens(secret_file="secret"), USERS.get, directory, Hands(NOW)),
            ScramLogins(USERS.get),
            Passwords({"ann": User("ann", hash_password("pw"))}.get),
        ]

    @hookimpl
    def gateway_authenticators(self, config: Any) -> Iterable[Authenticator]:
        return self._made

    @hookimpl
    def gateway_authorizers(self, config: Any) -> Iterable[Any]:
        return [self]

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        self.sessions.append(principal)
        return Ruling(True, "test")


#: Installed beside us, its door has a fixed port, and tests run side by side.
LINE = ("listeners.line=",) if importlib.util.find_spec("gateway_line") is not None else ()


class House:
    def __init__(self, directory: Path) -> None:
        self.plugin = Everybody(directory)
        self.ports = {door: free_port() for door in ("mqtt", "amqp", "http")}
        doors = tuple(f"listeners.{door}=127.0.0.1:{port}" for door, port in self.ports.items())
        sets = (*doors, "plugins.disabled=['auth']", "listeners.coap=", "listeners.openmessaging=", *LINE)
        self.server = Server(load(None, sets, True, directory / "data"), [self.plugin])

    async def dial(self, door: str) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[door])
        return Wire(reader, writer)


class Wire:
    """One socket, with either protocol's frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = Decoder(V5, server=False)

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def mqtt(self, data: bytes, version: int = V5) -> Any:
        self._writer.write(data)
        decoder = self._decoder if version == V5 else Decoder(version, server=False)
        async with asyncio.timeout(SECONDS):
            while True:
                packets = decoder.feed(await self._reader.read(4096))
                if packets:
                    return packets[0]

    async def amqp(self, *methods: Any, raw: bytes = b"") -> Any:
        self._writer.write(raw or b"".join(frame.marshal(method, 0) for method in methods))
        async with asyncio.timeout(SECONDS):
            head = await self._reader.readexactly(7)
            rest = await self._reader.readexactly(struct.unpack(">I", head[3:])[0] + 1)
        return frame.unmarshal(head + rest)[2]


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    await made.server.start()
    yield made
    await made.server.stop()


LOGINS: list[tuple[str | None, str, bool]] = [
    ("ann", TOKEN, True),
    ("ann", KEY, True),
    ("ann", "pw", True),
    ("bob", TOKEN, False),
    ("bob", KEY, False),
    ("ann", FORGED, False),
    ("ann", KEY[:-1], False),
    ("ann", "a guess", False),
]
#: What they are called: keys are others in each process.
NAMES = ["token", "key", "password", "another's token", "another's key", "forged", "cut", "guessed"]


@pytest.mark.parametrize(("name", "password", "good"), LOGINS, ids=NAMES)
@pytest.mark.parametrize("version", [V5, V311])
async def test_mqtt_passwords(house: House, name: str, password: str, good: bool, version: int) -> None:
    wire = await house.dial("mqtt")
    packet = Connect(version, "c", True, username=name, password=password.encode())
    connack = await wire.mqtt(encode_connect(packet), version)
    assert isinstance(connack, Connack)
    assert connack.reason == (0 if good else 0x86)
    assert password not in str(connack.properties)
    await wire.close()


@pytest.mark.parametrize(("name", "password", "good"), LOGINS, ids=NAMES)
async def test_amqp_plain(house: House, name: str, password: str, good: bool) -> None:
    wire = await house.dial("amqp")
    start = await wire.amqp(raw=b"AMQP\x00\x00\x09\x01")
    assert start.mechanisms == "PLAIN AMQPLAIN SCRAM-SHA-256"
    properties: Any = {"capabilities": {"authentication_failure_close": True}}
    response = f"\0{name}\0{password}"
    answer = await wire.amqp(commands.Connection.StartOk(properties, "PLAIN", response, "en_US"))
    assert isinstance(answer, commands.Connection.Tune if good else commands.Connection.Close)
    await wire.close()


HEADERS: list[tuple[dict[str, str], str]] = [
    ({"Authorization": f"Bearer {TOKEN}"}, "token"),
    ({"Authorization": f"Bearer {KEY}"}, "key"),
    ({"X-API-Key": KEY}, "key"),
    ({"Authorization": f"Bearer {FORGED}"}, ""),
    ({"X-API-Key": KEY[:-1]}, ""),
    ({"X-API-Key": "nonsense"}, ""),
    ({"Authorization": "Bearer nonsense"}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("headers", "method"), HEADERS, ids=range(len(HEADERS)))
async def test_http_headers(house: House, headers: dict[str, str], method: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.ports['http']}") as client:
        for _ in range(2):
            answer = await client.post("/v1/topics/a", content=b"x", headers=headers)
            assert answer.status_code == (200 if method else 401), answer.text
            assert len(answer.headers.get_list("www-authenticate")) == (0 if method else 2)
    found = {(who.name, who.method) for who in house.plugin.sessions}
    assert found == ({("ann", method)} if method else set())


@pytest.mark.parametrize("password", ["pw", "wrong"])
async def test_scram_at_both_doors(house: House, password: str) -> None:
    mqtt, amqp = await house.dial("mqtt"), await house.dial("amqp")
    peer = ScramClient([METHOD], "ann", password)
    first = peer.get_client_first().encode()
    properties: Any = {"authentication_method": METHOD, "authentication_data": first}
    asked = await mqtt.mqtt(encode_connect(Connect(V5, "c", True, properties=properties)))
    assert isinstance(asked, Auth)
    peer.set_server_first(asked.properties["authentication_data"].decode())  # type: ignore[union-attr]
    properties["authentication_data"] = peer.get_client_final().encode()
    connack = await mqtt.mqtt(encode_auth(0x18, properties))
    assert connack.reason == (0 if password == "pw" else 0x86)
    if password == "pw":
        peer.set_server_final(connack.properties["authentication_data"].decode())

    peer = ScramClient([METHOD], "ann", password)
    await amqp.amqp(raw=b"AMQP\x00\x00\x09\x01")
    properties = {"capabilities": {"authentication_failure_close": True}}
    start_ok = commands.Connection.StartOk(properties, METHOD, peer.get_client_first(), "en_US")
    peer.set_server_first((await amqp.amqp(start_ok)).challenge)
    answer = await amqp.amqp(commands.Connection.SecureOk(peer.get_client_final()))
    if password == "pw":
        peer.set_server_final(answer.challenge)
        answer = await amqp.amqp(commands.Connection.SecureOk(""))
        assert isinstance(answer, commands.Connection.Tune)
    else:
        assert isinstance(answer, commands.Connection.Close)
    await mqtt.close()
    await amqp.close()
