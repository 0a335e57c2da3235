"""aiocoap's client with OSCORE against a real gateway, and datagrams that nobody should send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap import oscore

from gateway.protocols.coap.codec import split_options
from gateway.protocols.coap.numbers import MAX_AGE, OSCORE
from tests.access.guarded import Guarded
from tests.coap_client import CoapClient
from tests.protocols.coap.oscore_support import Device

pytestmark = pytest.mark.interop

NAME = "sensor-17.greenhouse"  # more than a sender id may have
KEY = "k" * 32
SECONDS = 10
DEVICES = count()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("oscore"))
    made.start()
    for name in (NAME, "lamp"):
        made.user(name, secret=KEY)
        made.rule(name, f"user:{name}", ["publish", "subscribe"], "topic:room/#")
    yield made
    made.stop()
    assert not made.bugs(), "\n".join(made.errors)


class Client:
    """aiocoap with a directory of its own for its context, as its command has it."""

    def __init__(self, gateway: Guarded, directory: Path, context: Any, scheme: str) -> None:
        self.base = f"{scheme}://127.0.0.1:{gateway.coap_port}"
        self.directory = directory
        self.context = context

    def load(self, kid: str | None = None, id_context: str | None = NAME, key: str = KEY) -> None:
        """Use another context from now on."""
        kid = f"d{next(DEVICES)}" if kid is None else kid  # one that has begun its numbers again is refused
        self.directory.mkdir()
        settings = {"sender-id_ascii": kid, "recipient-id_ascii": "gateway"}
        if id_context is not None:
            settings["id-context_ascii"] = id_context
        (self.directory / "settings.json").write_text(json.dumps(settings))
        (self.directory / "secret.json").write_text(json.dumps({"secret_ascii": key}))
        entry = {"oscore": {"basedir": str(self.directory)}}
        self.context.client_credentials.load_from_dict({f"{self.base}/*": entry})

    async def ask(self, code: Any, path: str, payload: bytes = b"", **options: Any) -> Any:
        message = aiocoap.Message(code=code, uri=self.base + path, payload=payload, **options)
        async with asyncio.timeout(SECONDS):
            return await self.context.request(message).response


Connect = Callable[..., Any]


@pytest.fixture
def connect(gateway: Guarded, tmp_path: Path) -> Connect:
    @asynccontextmanager
    async def made(scheme: str = "coap", transport: str = "udp6", **settings: Any) -> AsyncIterator[Client]:
        context = await aiocoap.Context.create_client_context(transports=["oscore", transport])
        try:
            client = Client(gateway, tmp_path / "context", context, scheme)
            client.load(**settings)
            yield client
        finally:
            pools = [getattr(each, "token_interface", None) for each in context.request_interfaces]
            opened = [each._transport for pool in pools for each in getattr(pool, "_pool", {}).values()]
            await context.shutdown()
            for each in opened:  # it leaves them to the garbage collector
                each.abort()
            await asyncio.sleep(0)

    return made


# -- aiocoap ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kid", "id_context", "user"), [("", NAME, NAME), ("2", NAME, NAME), ("lamp", None, "lamp")]
)
async def test_publish_and_read(
    gateway: Guarded, connect: Connect, kid: str, id_context: str | None, user: str
) -> None:
    async with connect(kid=kid, id_context=id_context) as client:
        topic = f"room/{user}/{kid}x"
        answer = await client.ask(aiocoap.PUT, f"/ps/{topic}?retain=1", b"21.5")
        assert answer.code.is_successful(), answer.payload
        answer = await client.ask(aiocoap.GET, f"/ps/{topic}")
        assert (answer.code, answer.payload) == (aiocoap.CONTENT, b"21.5")
        answer = await client.ask(aiocoap.PUT, "/ps/elsewhere", b"x")
        assert answer.code == aiocoap.FORBIDDEN
    retained = gateway.ask("GET", f"/v1/topics/{topic}")
    assert retained.content == b"21.5", retained.text


async def test_a_large_payload_goes_in_blocks_inside(gateway: Guarded, connect: Connect) -> None:
    body = bytes(range(256)) * 40
    async with connect() as client:
        answer = await client.ask(aiocoap.PUT, "/ps/room/large?retain=1", body)
        assert answer.code.is_successful(), answer.payload
        answer = await client.ask(aiocoap.GET, "/ps/room/large")
        assert answer.payload == body
    assert gateway.ask("GET", "/v1/topics/room/large").content == body


async def test_over_tcp(gateway: Guarded, connect: Connect) -> None:
    async with connect(scheme="coap+tcp", transport="tcpclient") as client:
        answer = await client.ask(aiocoap.PUT, "/ps/room/tcp?retain=1", b"by TCP")
        assert answer.code.is_successful(), answer.payload
        assert (await client.ask(aiocoap.GET, "/ps/room/tcp")).payload == b"by TCP"


async def test_observe(gateway: Guarded, connect: Connect) -> None:
    await asyncio.to_thread(gateway.publish, "room/seen", "0", params={"retain": "true"})
    async with connect() as client:
        message = aiocoap.Message(code=aiocoap.GET, uri=client.base + "/ps/room/seen", observe=0)
        request = client.context.request(message)
        async with asyncio.timeout(SECONDS):
            assert (await request.response).code.is_successful()
            seen = aiter(request.observation)
            for number in range(1, 20):  # more than are sent without an acknowledgement
                await asyncio.to_thread(gateway.publish, "room/seen", str(number))
                assert (await anext(seen)).payload == b"%d" % number
            large = "x" * 3000
            await asyncio.to_thread(gateway.publish, "room/seen", large)
            assert (await anext(seen)).payload == large.encode(), "its first block, and the rest by GET"
        request.observation.cancel()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart(gateway: Guarded, connect: Connect, how: str) -> None:
    """The device goes on with its context; the gateway asks it for an Echo first."""
    async with connect() as client:
        await client.ask(aiocoap.PUT, "/ps/room/restart", b"before")
        if how == "stop":
            assert await asyncio.to_thread(gateway.stop) == 0
        else:
            await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        answer = await client.ask(aiocoap.PUT, "/ps/room/restart?retain=1", b"after")
        assert answer.code.is_successful(), answer.payload
    assert gateway.ask("GET", "/v1/topics/room/restart").content == b"after"


@pytest.mark.parametrize(
    ("settings", "code", "why"),
    [
        ({"key": "x" * 32}, "BAD_REQUEST", b"Decryption failed"),
        ({"id_context": "nobody"}, "UNAUTHORIZED", b"Security context not found"),
    ],
)
async def test_strangers(connect: Connect, settings: dict[str, str], code: str, why: bytes) -> None:
    async with connect(**settings) as client:
        with pytest.raises(oscore.NotAProtectedMessage) as error:
            await client.ask(aiocoap.GET, "/ps/room/x")
    answer = error.value.plain_message
    assert (answer.code, answer.payload) == (getattr(aiocoap, code), why)


# -- datagrams --------------------------------------------------------------------------------


class Raw:
    """A device whose datagrams can be kept, changed and sent again."""

    def __init__(self, gateway: Guarded, kid: bytes) -> None:
        self.client = CoapClient(gateway.coap_port)
        self.device = Device(kid, NAME.encode(), KEY.encode())

    def protect(self, **fields: Any) -> tuple[list[tuple[int, bytes]], bytes, int, Any]:
        """Return (options, payload, code, what answers are read with) of a protected request."""
        message = aiocoap.Message(**fields)
        message.direction = aiocoap.message.Direction.OUTGOING
        outer, bound = self.device.protect(message)
        return split_options(outer.opt.encode()), outer.payload, int(outer.code), bound

    def ask(self, fine: bool = True, **fields: Any) -> tuple[list[tuple[int, bytes]], bytes]:
        """Send a request, with an Echo if one is asked for; return the last one's options and payload."""
        options, payload, code, bound = self.protect(**fields)
        answer = self.client.request(code, payload=payload, options=options)
        assert answer.options.oscore is not None, answer
        plain = self.device.unprotect(self.message(answer), bound)[0]
        if plain.opt.echo is not None:
            return self.ask(fine, **fields, echo=plain.opt.echo)
        assert plain.code.is_successful() or not fine, plain.payload
        return options, payload

    def message(self, answer: Any) -> Any:
        """Return an answer as aiocoap has it."""
        found = aiocoap.Message(code=int(answer.code[0]) << 5 | int(answer.code[2:]), payload=answer.payload)
        found.direction = aiocoap.message.Direction.INCOMING
        found.opt.oscore = answer.options.oscore
        return found


def test_an_observer_that_moves(gateway: Guarded) -> None:
    """Whoever it is is known by its key: the same observation goes on at another port, and but once."""
    raw = Raw(gateway, b"raw3")
    fields = {"code": aiocoap.GET, "uri_path": ("ps", "room", "moves"), "observe": 0}
    with raw.client as client:
        raw.ask(code=aiocoap.GET, uri_path=("ps", "room", "none"), fine=False)
        for _ in range(3):
            options, payload, code, bound = raw.protect(**fields)
            answer = client.request(code, payload=payload, options=options, token=b"o")
            assert raw.device.unprotect(raw.message(answer), bound)[0].code.is_successful()
            gateway.publish("room/moves", "here")
            note = client.receive(b"o")
            assert raw.device.unprotect(raw.message(note), bound)[0].payload == b"here"
            assert client.ping() == [], "one observation, one notification"
            client.move()


def test_what_is_recorded_is_worth_nothing(gateway: Guarded) -> None:
    raw = Raw(gateway, b"raw1")
    with raw.client as client, CoapClient(gateway.coap_port) as other:
        fields = {"code": aiocoap.PUT, "uri_path": ("ps", "room", "door"), "uri_query": ("retain=1",)}
        options, payload = raw.ask(**fields, payload=b"open")
        raw.ask(**fields, payload=b"shut")
        for sender in (client, other):
            answer = sender.request(aiocoap.POST, payload=payload, options=options)
            assert (answer.code, answer.payload) == ("4.01", b"Replay detected")
            assert answer.option(MAX_AGE) == b""
        gateway.kill()
        gateway.start()
        answer = other.request(aiocoap.POST, payload=payload, options=options)
        assert answer.options.oscore, "a challenge, inside"
    assert gateway.ask("GET", "/v1/topics/room/door").content == b"shut"
    found = [entry["detail"] for entry in gateway.audit("login.refused")]
    assert "OSCORE: Replay detected" in found


def test_what_is_changed_is_refused(gateway: Guarded) -> None:
    raw = Raw(gateway, b"raw2")
    with raw.client as client:
        raw.ask(code=aiocoap.GET, uri_path=("ps", "room", "door"))
        path = ("ps", "room", "door")
        options, payload, code, _ = raw.protect(code=aiocoap.PUT, uri_path=path, payload=b"x")
        value = dict(options)[OSCORE]
        changed = payload[:-1] + bytes((payload[-1] ^ 1,))
        answer = client.request(code, payload=changed, options=options)
        assert (answer.code, answer.payload) == ("4.00", b"Decryption failed")
        for end in range(len(value)):
            answer = client.request(code, payload=payload, options=[(OSCORE, value[:end])])
            assert answer.code in ("4.00", "4.01", "4.02"), answer
        answer = client.request(code, options=options)
        assert answer.code == "4.00"
        answer = client.request(code, payload=payload, options=options)
        assert answer.options.oscore is not None, "it is as good as it was"
