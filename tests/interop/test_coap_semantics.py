"""What delivery.md promises, by CoAP: time, order, duplicates, sharing, limits, and what is told."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from gateway.protocols.coap.numbers import MAX_AGE, PUT, URI_PATH, uint
from gateway.protocols.mqtt.packets import Publish
from tests.coap_client import CoapClient
from tests.mqtt_client import MqttClient
from tests.process import GatewayProcess, wait_for


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("semantics") / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def client(house: GatewayProcess) -> Iterator[CoapClient]:
    with CoapClient(house.coap_port) as made:
        yield made


@pytest.fixture
def http(house: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house.url, timeout=10) as made:
        yield made


def put(client: CoapClient, path: str, body: bytes, *query: str) -> str:
    return client.request(PUT, path, body, query).code


def test_a_delay(client: CoapClient) -> None:
    first = client.observe("ps/t/later")
    start = time.monotonic()
    assert put(client, "ps/t/later", b"second", "delay=1") == "2.01"
    assert put(client, "ps/t/later", b"first") in ("2.01", "2.04")
    assert client.receive(first.token).payload == b"first"
    assert client.receive(first.token).payload == b"second"
    assert time.monotonic() - start >= 0.95


@pytest.mark.parametrize("wrong", ["delay=x", "delay=-1", "delay=1e3", "deliver_at=soon", "ttl=0", "qos=3"])
def test_a_time_that_makes_no_sense(client: CoapClient, wrong: str) -> None:
    assert put(client, "ps/t/wrong", b"x", wrong) == "4.00"
    assert client.get("ps/t/wrong").code == "4.04"


def test_a_time_to_live(client: CoapClient) -> None:
    assert put(client, "ps/t/brief", b"x", "ttl=1", "retain=true") == "2.01"
    found = client.get("ps/t/brief")
    assert found.code == "2.05"
    assert uint(found.option(MAX_AGE) or b"") <= 1
    wait_for(lambda: client.get("ps/t/brief").code == "4.04", what="the end of the message")


def test_an_idempotency_key(client: CoapClient, http: httpx.Client) -> None:
    http.put("/v1/queues/once", json={"bindings": ["t/once"]})
    codes = [put(client, "ps/t/once", b"x", "idempotency_key=k") for _ in range(3)]
    assert codes == ["2.01", "2.04", "2.04"]
    with CoapClient(client.sock.getpeername()[1]) as other:  # the same user from elsewhere
        put(other, "ps/t/once", b"x", "idempotency_key=k")
    assert http.get("/v1/queues/once").json()["depth"] == 1


def test_an_ordering_key_and_a_tag_reach_other_doors(client: CoapClient, http: httpx.Client) -> None:
    http.put("/v1/queues/keyed", json={"bindings": ["t/keyed"]})
    put(client, "ps/t/keyed", b"x", "key=room 1", "tag=hot", "message_id=m-1")
    [found] = http.post("/v1/queues/keyed/receive").json()["deliveries"]
    said = found["properties"]
    assert (said["key"], said["tag"], said["message_id"]) == ("room 1", "hot", "m-1")


def test_a_shared_subscription_with_members_of_two_doors(client: CoapClient, house: GatewayProcess) -> None:
    worker = client.observe("queues", options=[(URI_PATH, b"$share/crew/t/work/#")])
    assert worker.code == "2.05", worker
    mqtt = MqttClient(house.mqtt_port, "crew-member")
    mqtt.subscribe("$share/crew/t/work/#")
    with CoapClient(house.coap_port) as publisher:
        wanted = {b"%d" % n for n in range(20)}
        for body in sorted(wanted):
            assert put(publisher, f"ps/t/work/{body.decode()}", body) == "2.01"
        by_coap: set[bytes] = set()
        by_mqtt: set[bytes] = set()
        deadline = time.monotonic() + 20
        while by_coap | by_mqtt != wanted and time.monotonic() < deadline:
            client.pump(0.05)
            by_coap |= {each.payload for each in client.inbox if each.token == worker.token}
            mqtt.pump(0.05)
            found = [packet for packet in mqtt.inbox if isinstance(packet, Publish)]
            by_mqtt |= {each.payload for each in found}
        assert by_coap | by_mqtt == wanted
        assert not by_coap & by_mqtt
        assert by_coap
        assert by_mqtt


def test_the_journey_says_that_it_came_by_coap(client: CoapClient, http: httpx.Client) -> None:
    http.put("/v1/queues/told", json={"bindings": ["t/told"]})
    put(client, "ps/t/told", b"x", "message_id=told-1", "clientid=teller")
    found = http.get("/v1/messages/told-1/journey").json()
    text = str(found)
    assert "'coap'" in text
    assert "teller" in text
    assert "told" in text
