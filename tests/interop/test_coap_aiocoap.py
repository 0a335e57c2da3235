"""aiocoap with a real gateway: publish, values, conditions, observing, by all transports it has."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.interop.aiocoap_client import AiocoapClient
from tests.interop.paho_client import V5, PahoClient
from tests.process import GatewayProcess

pytestmark = pytest.mark.interop
LARGE = random.Random(7).randbytes(100_000)
JSON, TEXT, BYTES = 50, 0, 42


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("aiocoap") / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module", params=["coap", "coap+tcp", "coap+ws"])
def client(shared: GatewayProcess, request: pytest.FixtureRequest) -> Iterator[AiocoapClient]:
    """One by each transport; topics below have the transport's name in front."""
    port = shared.http_port if request.param == "coap+ws" else shared.coap_port
    with AiocoapClient(port, request.param) as made:
        yield made


@pytest.fixture
def path(client: AiocoapClient, request: pytest.FixtureRequest) -> str:
    """A topic of this test's own."""
    scheme = client.base.partition(":")[0].replace("+", "-")
    return f"/ps/{scheme}/{request.node.originalname}"


def test_a_value_is_created_changed_read_and_cleared(client: AiocoapClient, path: str) -> None:
    assert client.get(path).code == "4.04"
    assert client.put(path, b"one", "retain=true", content_format=TEXT).code == "2.01"
    first = client.get(path)
    assert (first.code, first.payload, first.content_format) == ("2.05", b"one", TEXT)
    assert client.request("POST", path, b"[2]", ("retain=true",), content_format=JSON).code == "2.04"
    second = client.get(path)
    assert (second.payload, second.content_format) == (b"[2]", JSON)
    assert first.etag
    assert second.etag
    assert second.etag != first.etag
    assert client.request("DELETE", path).code == "2.02"
    assert client.request("DELETE", path).code == "2.02", "again: it is as it was asked to be"


def test_entity_tags(client: AiocoapClient, path: str) -> None:
    client.put(path, b"one", "retain=true")
    tag = client.get(path).etag
    assert tag is not None
    valid = client.get(path, etags=[tag, "0102"])
    assert (valid.code, valid.payload, valid.etag) == ("2.03", b"", tag)
    assert client.get(path, etags=["0102"]).code == "2.05"
    assert client.put(path, b"two", "retain=true", if_match=["0102"]).code == "4.12"
    assert client.put(path, b"two", "retain=true", if_none_match=True).code == "4.12"
    assert client.get(path).payload == b"one"
    assert client.put(path, b"two", "retain=true", if_match=[tag]).code == "2.04"
    assert client.get(path).payload == b"two"
    assert client.put(path + "/new", b"n", "retain=true", if_none_match=True).code == "2.01"


def test_a_value_lasts_as_long_as_it_says(client: AiocoapClient, path: str) -> None:
    client.put(path, b"one", "retain=true", "ttl=30")
    age = client.get(path).max_age
    assert age is not None
    assert 25 <= age <= 30
    client.put(path + "/ever", b"one", "retain=true")
    assert client.get(path + "/ever").max_age in (None, 60)


def test_others_receive_what_is_put(shared: GatewayProcess, client: AiocoapClient, path: str) -> None:
    topic = path.removeprefix("/ps/")
    with PahoClient(topic, V5).open(shared.mqtt_port) as listener:
        listener.subscribe(topic, 1)
        bodies = [b"", b"text", bytes(range(256)), LARGE]
        for body in bodies:
            assert client.put(path, body, "qos=1", content_format=BYTES).code.startswith("2.")
            message = listener.messages.get(timeout=10)
            assert message.payload == body
            assert (message.qos, message.properties.ContentType) == (1, "application/octet-stream")


def test_a_large_value_both_ways(client: AiocoapClient, path: str) -> None:
    assert client.put(path, LARGE, "retain=true").code == "2.01"
    found = client.get(path)
    assert (found.code, found.payload == LARGE) == ("2.05", True)


def test_observe(shared: GatewayProcess, client: AiocoapClient, path: str) -> None:
    topic = path.removeprefix("/ps/")
    client.put(path, b"before", "retain=true")
    first = client.observe(path, path)
    assert (first.code, first.payload) == ("2.05", b"before")
    assert first.observe is not None
    with PahoClient(topic, V5).open(shared.mqtt_port) as publisher:
        numbers = [first.observe]
        for n in range(20):
            publisher.publish(topic, b"%d" % n, n % 3)
            found = client.next(path)
            assert (found.code, found.payload) == ("2.05", b"%d" % n)
            assert found.observe is not None
            numbers.append(found.observe)
        assert numbers == sorted(set(numbers)), "RFC 7641, 3.4: each is newer"
        client.cancel(path)


def test_observe_many_topics(client: AiocoapClient, path: str) -> None:
    """A filter in the query: who observes says nothing of one value."""
    first = client.observe(path, "/ps", f"filter={path.removeprefix('/ps/')}/%2B/t".replace("%2B", "+"))
    assert first.code == "2.05"
    for n in range(5):
        client.put(f"{path}/{n}/t", b"%d" % n)
        client.put(f"{path}/{n}/other", b"not this")
        assert client.next(path).payload == b"%d" % n
    client.cancel(path)


def test_a_large_notification(client: AiocoapClient, path: str) -> None:
    """The first block is pushed, the others are fetched (RFC 7959, 2.6)."""
    client.put(path, b"small", "retain=true")
    client.observe(path, path)
    client.put(path, LARGE, "retain=true")
    assert client.next(path).payload == LARGE
    client.cancel(path)


def test_what_is_not_there(client: AiocoapClient, path: str) -> None:
    assert client.get("/nothing/here").code == "4.04"
    assert client.request("FETCH", path).code == "4.05"
    assert client.put("/ps/a/+", b"").code == "4.00"
    assert client.put(path, b"x", "qos=7").code == "4.00"
    assert b"qos" in client.put(path, b"x", "qos=7").payload
