"""CoAP pub/sub topics, discovery, formats and SenML rules: aiocoap's client against a real gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import aiocoap
import cbor2
import pytest
from aiocoap.numbers.codes import Code
from aiocoap.util import linkformat

from gateway.protocols.coap.numbers import (
    CONTENT_FORMAT,
    DELETE,
    IPATCH,
    LOCATION_PATH,
    POST,
    PUT,
    uint_bytes,
)
from tests.coap_client import CoapClient
from tests.process import GatewayProcess

pytestmark = pytest.mark.interop

PUBSUB = 606
RULES = (
    'coap.senml={"fleet/+/senml" = "{topic}/{name}"}',
    'coap.senml_values={"meters/#" = "values/{name}"}',
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("pubsub"), sets=RULES).start()
    yield process
    process.stop()


class Device:
    """A client of aiocoap."""

    def __init__(self, context: aiocoap.Context, port: int) -> None:
        self._context = context
        self._port = port

    async def ask(
        self,
        code: Code,
        path: str,
        payload: bytes = b"",
        query: Sequence[str] = (),
        content_format: int | None = None,
        accept: int | None = None,
    ) -> Any:
        """Return the answer."""
        message = aiocoap.Message(code=code, payload=payload)
        message.set_request_uri(f"coap://127.0.0.1:{self._port}{path}")
        message.opt.uri_query = tuple(query)
        message.opt.content_format = content_format
        message.opt.accept = accept
        return await asyncio.wait_for(self._context.request(message).response, 10)

    async def props(self, code: Code, path: str, properties: Any = None, raw: bytes = b"") -> Any:
        """Ask with topic properties."""
        payload = raw if properties is None else cbor2.dumps(properties)
        return await self.ask(code, path, payload, content_format=PUBSUB if payload else None)

    async def links(self, path: str, *query: str) -> dict[str, dict[str, str]]:
        """Return the links in a list, by target."""
        answer = await self.ask(Code.GET, path, query=query)
        assert answer.code == Code.CONTENT, answer.payload
        assert answer.opt.content_format == 40
        found = linkformat.parse(answer.payload.decode()).links if answer.payload else []
        return {link.href: dict(link.attr_pairs) for link in found}


@pytest.fixture
async def device(gateway: GatewayProcess) -> AsyncIterator[Device]:
    context = await aiocoap.Context.create_client_context()
    yield Device(context, gateway.coap_port)
    await context.shutdown()


# -- topics -----------------------------------------------------------------------------------


async def test_the_life_of_a_topic(device: Device) -> None:
    """Draft, 2.4.3 to 3.2.4: create, half created, publish, read, delete the data, delete the topic."""
    created = await device.props(Code.POST, "/ps", {0: "living-room", 2: "core.ps.data", 3: 110})
    assert created.code == Code.CREATED, created.payload
    assert created.opt.content_format == PUBSUB
    assert created.opt.location_path[0] == "pst"
    path = "/" + "/".join(created.opt.location_path)
    whole = {0: "living-room", 1: "/ps/living-room", 2: "core.ps.data", 3: 110}
    assert cbor2.loads(created.payload) == whole
    assert path in await device.links("/ps")
    assert path in await device.links("/pst", "rt=core.ps.conf")
    assert path in await device.links("/.well-known/core", "rt=core.ps.conf")

    assert (await device.ask(Code.GET, "/ps/living-room")).code == Code.NOT_FOUND
    assert "/ps/living-room" not in await device.links("/ps", "rt=core.ps.data")

    refused = await device.ask(Code.PUT, "/ps/living-room", b"21", content_format=0)
    assert refused.code == Code.UNSUPPORTED_CONTENT_FORMAT
    assert b"110" in refused.payload
    assert (await device.ask(Code.PUT, "/ps/living-room", b"21")).code == Code.UNSUPPORTED_CONTENT_FORMAT
    pack = b'[{"n":"a","v":1}]'
    for code in (Code.CREATED, Code.CHANGED):
        assert (await device.ask(Code.PUT, "/ps/living-room", pack, content_format=110)).code == code
    value = await device.ask(Code.GET, "/ps/living-room")
    assert (value.code, value.payload, value.opt.content_format) == (Code.CONTENT, pack, 110)
    assert (await device.links("/ps", "rt=core.ps.data"))["/ps/living-room"]["ct"] == "110"

    assert (await device.ask(Code.DELETE, "/ps/living-room")).code == Code.DELETED
    assert (await device.ask(Code.GET, "/ps/living-room")).code == Code.NOT_FOUND
    assert cbor2.loads((await device.props(Code.GET, path)).payload) == whole
    assert (await device.ask(Code.PUT, "/ps/living-room", pack, content_format=110)).code == Code.CREATED

    assert (await device.ask(Code.DELETE, path)).code == Code.DELETED
    assert (await device.ask(Code.GET, "/ps/living-room")).code == Code.NOT_FOUND
    assert (await device.ask(Code.GET, path)).code == Code.NOT_FOUND
    assert path not in await device.links("/ps")


async def test_properties_are_read_and_changed(device: Device) -> None:
    expires = cbor2.CBORTag(1, int(time.time()) + 86_400)
    said = {0: "room2", 1: "/ps/house/room%202", 2: "core.ps.data", 4: "temperature", 5: expires, 6: 100}
    created = await device.props(Code.POST, "/pst", said)
    assert created.code == Code.CREATED, created.payload
    path = "/" + "/".join(created.opt.location_path)
    whole = cbor2.loads(cbor2.dumps(said))
    assert cbor2.loads(created.payload) == whole

    part = await device.ask(Code.FETCH, path, cbor2.dumps([1, 3, 6, 77]), content_format=60)
    assert cbor2.loads(part.payload) == {1: "/ps/house/room%202", 6: 100}
    assert path in linkformat_targets(await device.props(Code.FETCH, "/ps", {0: "room2", 6: 100}))
    assert path not in linkformat_targets(await device.props(Code.FETCH, "/ps", {0: "room2", 6: 99}))

    patched = await device.props(Code.iPATCH, path, {6: 5, 7: 60})
    assert patched.code == Code.CHANGED
    assert cbor2.loads(patched.payload) == {**whole, 6: 5, 7: 60}
    replaced = await device.props(Code.POST, path, {0: "room2", 2: "core.ps.data", 4: "humidity"})
    assert replaced.code == Code.CHANGED
    assert cbor2.loads(replaced.payload) == {
        0: "room2",
        1: "/ps/house/room%202",
        2: "core.ps.data",
        4: "humidity",
    }
    for keys in ([True], ["a"], {9: [1]}, 1):
        bad = await device.ask(Code.FETCH, path, cbor2.dumps(keys), content_format=60)
        assert bad.code == Code.BAD_REQUEST, keys
    other = await device.props(Code.FETCH, path, [1])
    assert other.code == Code.UNSUPPORTED_CONTENT_FORMAT
    for change in ({0: "room3"}, {1: "/ps/elsewhere"}, {2: "core.ps.conf"}, {8: b"x"}, {9: [1]}, {77: 1}):
        assert (await device.props(Code.iPATCH, path, change)).code == Code.BAD_REQUEST, change
    assert cbor2.loads((await device.props(Code.GET, path)).payload)[4] == "humidity"
    assert (await device.props(Code.DELETE, path)).code == Code.DELETED


def linkformat_targets(answer: Any) -> list[str]:
    """Return the targets of the links in an answer."""
    assert answer.code == Code.CONTENT, answer.payload
    return [link.href for link in linkformat.parse(answer.payload.decode()).links] if answer.payload else []


async def test_a_topic_may_begin_with_a_value(device: Device) -> None:
    created = await device.props(Code.POST, "/ps", {0: "begun", 2: "core.ps.data", 3: 60, 8: cbor2.dumps([])})
    assert created.code == Code.CREATED, created.payload
    value = await device.ask(Code.GET, "/ps/begun")
    assert (value.payload, value.opt.content_format) == (b"\x80", 60)
    assert (await device.ask(Code.PUT, "/ps/begun", b"\x01", content_format=60)).code == Code.CHANGED


BAD_TOPICS: list[tuple[Any, Code]] = [
    ({2: "core.ps.data"}, Code.BAD_REQUEST),
    ({0: "x"}, Code.BAD_REQUEST),
    ({0: "", 2: "core.ps.data"}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.conf"}, Code.BAD_REQUEST),
    ({0: "a/+", 2: "core.ps.data"}, Code.BAD_REQUEST),
    ({0: "$sys/x", 2: "core.ps.data"}, Code.FORBIDDEN),
    ({0: "$queue/x", 2: "core.ps.data"}, Code.BAD_REQUEST),
    ({0: "x", 1: "coap://other/ps/x", 2: "core.ps.data"}, Code.BAD_REQUEST),
    ({0: "x", 1: "/other/x", 2: "core.ps.data"}, Code.BAD_REQUEST),
    ({0: "x", 1: "/ps/%ff", 2: "core.ps.data"}, Code.BAD_REQUEST),
    ({0: "x", 1: "/ps/a%2Fb", 2: "core.ps.data"}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", 3: "text"}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", 3: 65536}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", 5: "2026-01-01T00:00:00Z"}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", 6: -1}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", 6: True}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", 7: 0}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", 8: b"x"}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", 3: 0, 8: b"x" * 1025}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", 9: [1]}, Code.BAD_REQUEST),
    ({0: "x", 2: "core.ps.data", -1: 1}, Code.BAD_REQUEST),
    ({"topic-name": "x", 2: "core.ps.data"}, Code.BAD_REQUEST),
    ([], Code.BAD_REQUEST),
]


async def test_topics_that_are_none(device: Device) -> None:
    for said, code in BAD_TOPICS:
        answer = await device.props(Code.POST, "/ps", said)
        assert answer.code == code, (said, answer.code, answer.payload)
        assert answer.payload
    assert (await device.props(Code.POST, "/ps", raw=b"\xff")).code == Code.BAD_REQUEST
    other = await device.ask(Code.POST, "/ps", b"{}", content_format=50)
    assert other.code == Code.UNSUPPORTED_CONTENT_FORMAT
    assert (await device.ask(Code.GET, "/pst/nothing")).code == Code.NOT_FOUND
    assert (await device.ask(Code.GET, "/pst/a/b")).code == Code.NOT_FOUND
    assert (await device.ask(Code.DELETE, "/pst")).code == Code.METHOD_NOT_ALLOWED
    assert (await device.ask(Code.GET, "/pst", accept=50)).code == Code.NOT_ACCEPTABLE


async def test_names_and_topics_are_configured_once(device: Device) -> None:
    said = {0: "once", 1: "/ps/once/data", 2: "core.ps.data"}
    assert (await device.props(Code.POST, "/ps", said)).code == Code.CREATED
    for again in (said, {**said, 1: "/ps/another"}, {**said, 0: "other name"}):
        assert (await device.props(Code.POST, "/ps", again)).code == Code.CONFLICT


async def test_a_topic_expires_with_its_value(device: Device) -> None:
    expires = cbor2.CBORTag(1, time.time() + 0.4)
    created = await device.props(
        Code.POST, "/ps", {0: "short", 2: "core.ps.data", 3: 0, 5: expires, 8: b"here"}
    )
    path = "/" + "/".join(created.opt.location_path)
    assert (await device.ask(Code.GET, "/ps/short")).payload == b"here"
    deadline = time.monotonic() + 10
    while (await device.ask(Code.GET, path)).code != Code.NOT_FOUND:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert (await device.ask(Code.GET, "/ps/short")).code == Code.NOT_FOUND


def test_observers_of_a_configured_topic(gateway: GatewayProcess) -> None:
    """Draft, 3.2.2, 2.5.3 and 3.2.4: not while half created, not too many, and told when it ends."""
    with CoapClient(gateway.coap_port) as client:
        plain, pubsub = [(CONTENT_FORMAT, b"")], [(CONTENT_FORMAT, uint_bytes(PUBSUB))]

        def put(payload: bytes) -> None:
            assert client.request(PUT, "ps/watched", payload, options=plain).code[0] == "2"

        said = {0: "watched", 2: "core.ps.data", 3: 0, 6: 2}
        created = client.request(POST, "ps", cbor2.dumps(said), options=pubsub)
        path = "/".join(value.decode() for number, value in created.options.all if number == LOCATION_PATH)
        assert client.observe("ps/watched").code == "4.04"

        put(b"1")
        watchers = [client.observe("ps/watched") for _ in range(3)]
        assert [(watcher.code, watcher.payload) for watcher in watchers] == [("2.05", b"1")] * 3
        assert [watcher.options.observe >= 0 for watcher in watchers] == [True, True, False]
        first, second = watchers[0].token, watchers[1].token
        put(b"2")
        for token in (first, second):
            assert client.receive(token).payload == b"2"

        assert client.request(IPATCH, path, cbor2.dumps({6: 1}), options=pubsub).code == "2.04"
        assert client.receive(second).code == "4.04"
        put(b"3")
        assert client.receive(first).payload == b"3"

        assert client.request(DELETE, "ps/watched").code == "2.02"
        assert client.receive(first).code == "4.04"
        put(b"4")
        again = client.observe("ps/watched")
        assert again.options.observe >= 0
        assert client.request(DELETE, path).code == "2.02"
        assert client.receive(again.token).code == "4.04"
        assert client.ping() == []  # nothing else came, to nobody


# -- discovery --------------------------------------------------------------------------------


async def test_what_is_here_is_found(device: Device) -> None:
    await device.ask(Code.PUT, "/ps/found/a", b"{}", content_format=50)
    await device.ask(Code.PUT, "/ps/found/b c", b"x", query=["retain=true"])
    links = await device.links("/.well-known/core", "href=/ps/found/*")
    assert links == {
        "/ps/found/a": {"rt": "core.ps.data", "ct": "50", "obs": None},
        "/ps/found/b%20c": {"rt": "core.ps.data", "obs": None},
    }
    assert await device.links("/.well-known/core", "href=/ps/found/b%20*") == {
        "/ps/found/b%20c": {"rt": "core.ps.data", "obs": None}
    }
    assert list(await device.links("/.well-known/core", "rt=core.ps")) == ["/ps"]
    assert list(await device.links("/.well-known/core", "rt=core.ps.coll")) == ["/pst"]
    assert await device.links("/.well-known/core", "rt=nothing") == {}
    both = await device.links("/.well-known/core", "ct=50", "href=/ps/found/*")
    assert list(both) == ["/ps/found/a"]
    paged = await device.links("/.well-known/core", "href=/ps/found/*", "count=1", "page=1")
    assert list(paged) == ["/ps/found/b%20c"]
    assert (await device.ask(Code.GET, "/.well-known/core", query=["rt"])).code == Code.BAD_REQUEST
    assert (await device.ask(Code.GET, "/.well-known/other")).code == Code.NOT_FOUND
    assert (await device.ask(Code.PUT, "/.well-known/core")).code == Code.METHOD_NOT_ALLOWED
    assert (await device.ask(Code.GET, "/.well-known/core", accept=50)).code == Code.NOT_ACCEPTABLE


# -- formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 42, 50, 60, 110, 112, 11050, 64999, 65000])
async def test_formats_come_back(device: Device, number: int) -> None:
    path = f"/ps/formats/{number}"
    await device.ask(Code.PUT, path, b"\xa0", content_format=number)
    value = await device.ask(Code.GET, path, accept=number)
    assert (value.code, value.payload, value.opt.content_format) == (Code.CONTENT, b"\xa0", number)
    other = await device.ask(Code.GET, path, accept=41)
    assert other.code == Code.NOT_ACCEPTABLE


@pytest.mark.parametrize("number", [50, 60])
async def test_envelopes_carry_everything(device: Device, number: int) -> None:
    envelope = {
        "body_base64": "/wA=",
        "content_type": "application/vnd.example",
        "content_encoding": "gzip",
        "correlation": "c",
        "reply_to": "answers",
        "message_id": f"m-{number}",
        "priority": 7,
        "key": "k",
        "tag": "t",
        "keys": ["a", "b"],
        "timestamp": 1_700_000_000_000,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "headers": [["site", "north"], ["n", 1]],
        "retain": True,
    }
    payload = json.dumps(envelope).encode() if number == 50 else cbor2.dumps(envelope)
    path = f"/ps/envelopes/{number}"
    published = await device.ask(Code.PUT, path, payload, query=["meta=1"], content_format=number)
    assert published.code == Code.CREATED, published.payload
    plain = await device.ask(Code.GET, path)
    assert (plain.payload, plain.opt.content_format) == (b"\xff\x00", None)
    found = await device.ask(Code.GET, path, query=["meta=1"], accept=number)
    assert found.opt.content_format == number
    read = json.loads(found.payload) if number == 50 else cbor2.loads(found.payload)
    assert read.pop("published") > 1_700_000_000_000
    assert read.pop("topic") == path.removeprefix("/ps/")
    assert read == envelope
    assert (await device.ask(Code.GET, path, query=["meta=1"], accept=0)).code == Code.NOT_ACCEPTABLE
    assert found.opt.etags != plain.opt.etags or found.opt.etag != plain.opt.etag
    bad = await device.ask(Code.PUT, path, b"{", query=["meta=1"])
    assert bad.code == Code.BAD_REQUEST


# -- SenML ------------------------------------------------------------------------------------


async def test_packs_are_split(device: Device) -> None:
    pack = [{"bn": "dev/", "bt": 1_700_000_000, "n": "t", "u": "Cel", "v": 21.5}, {"n": "door", "vb": True}]
    answer = await device.ask(Code.PUT, "/ps/fleet/7/senml", json.dumps(pack).encode(), content_format=110)
    assert answer.code == Code.CHANGED, answer.payload
    assert (await device.ask(Code.GET, "/ps/fleet/7/senml")).code == Code.NOT_FOUND
    record = await device.ask(Code.GET, "/ps/fleet/7/senml/dev/t")
    assert record.opt.content_format == 110
    assert json.loads(record.payload) == [{"n": "dev/t", "u": "Cel", "v": 21.5, "t": 1_700_000_000}]
    assert (await device.ask(Code.GET, "/ps/fleet/7/senml/dev/door")).code == Code.CONTENT

    again = cbor2.dumps([{-2: "m/", 0: "kWh", 2: 7}])
    assert (await device.ask(Code.POST, "/ps/meters/1", again, content_format=112)).code == Code.CHANGED
    value = await device.ask(Code.GET, "/ps/values/m/kWh")
    assert (value.payload, value.opt.content_format) == (b"7", 0)


async def test_all_of_a_pack_or_nothing(device: Device) -> None:
    pack = b'[{"n":"first","v":1},{"n":"second"}]'
    answer = await device.ask(Code.PUT, "/ps/fleet/8/senml", pack, content_format=110)
    assert answer.code == Code.BAD_REQUEST
    assert answer.payload.startswith(b"SenML: record 2: no value")
    assert (await device.ask(Code.GET, "/ps/fleet/8/senml/first")).code == Code.NOT_FOUND
    # In another format it is no pack, and is published as it is.
    assert (await device.ask(Code.PUT, "/ps/fleet/8/senml", pack, content_format=50)).code == Code.CREATED


# -- after a restart --------------------------------------------------------------------------


async def test_configurations_survive(gateway: GatewayProcess, device: Device) -> None:
    said = {0: "lasting", 2: "core.ps.data", 3: 50, 6: 3}
    created = await device.props(Code.POST, "/ps", said)
    path = "/" + "/".join(created.opt.location_path)
    assert (await device.ask(Code.PUT, "/ps/lasting", b"{}", content_format=50)).code == Code.CREATED
    gateway.kill()
    gateway.start()
    context = await aiocoap.Context.create_client_context()
    try:
        fresh = Device(context, gateway.coap_port)
        found = await fresh.props(Code.GET, path)
        assert cbor2.loads(found.payload) == {**said, 1: "/ps/lasting"}
        assert (await fresh.ask(Code.GET, "/ps/lasting")).payload == b"{}"
        assert (await fresh.ask(Code.PUT, "/ps/lasting", b"{}", content_format=50)).code == Code.CHANGED
        refused = await fresh.ask(Code.PUT, "/ps/lasting", b"x", content_format=0)
        assert refused.code == Code.UNSUPPORTED_CONTENT_FORMAT
    finally:
        await context.shutdown()
