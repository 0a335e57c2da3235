"""A RocketMQ producer whose message an MQTT device, a CoAP observer and an AMQP worker get, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pika
import pytest

from tests.interop.aiocoap_client import AiocoapClient
from tests.interop.paho_client import V5, PahoClient, publish_properties
from tests.interop.rocketmq_client import Producer, RocketPeer, Simple
from tests.process import RocketGateway, wait_for

pytestmark = pytest.mark.interop
TOPIC, ROCKET, KEY = "plant/7/temperature", "plant%2F7%2Ftemperature", "plant.7.temperature"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("doors") / "data")
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module")
def peer() -> Iterator[RocketPeer]:
    with RocketPeer() as process:
        yield process


@pytest.fixture(scope="module")
def producer(gateway: RocketGateway, peer: RocketPeer) -> Iterator[Producer]:
    with peer.producer(gateway) as client:
        yield client


@pytest.fixture
def http(gateway: RocketGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=15) as client:
        yield client


@pytest.fixture
def device(gateway: RocketGateway) -> Iterator[PahoClient]:
    with PahoClient("device", V5).open(gateway.mqtt_port) as client:
        yield client


@pytest.fixture
def amqp(gateway: RocketGateway) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port))
    yield connection.channel()
    connection.close()


@pytest.fixture
def worker(gateway: RocketGateway, peer: RocketPeer, http: httpx.Client) -> Iterator[Simple]:
    with peer.simple(gateway, "readers", ROCKET) as client:
        wait_for(lambda: http.get(f"/v1/queues/$share%2Freaders%2F{TOPIC.replace('/', '%2F')}").is_success)
        yield client


def test_a_message_of_a_rocketmq_producer_arrives_at_every_door(
    gateway: RocketGateway,
    producer: Producer,
    device: PahoClient,
    amqp: pika.adapters.blocking_connection.BlockingChannel,
    http: httpx.Client,
) -> None:
    device.subscribe("plant/+/temperature", 1)
    amqp.queue_declare("work", durable=True)
    amqp.queue_bind("work", "amq.topic", "plant.#")
    http.put("/v1/queues/pulled", json={"bindings": [TOPIC]}).raise_for_status()
    with AiocoapClient(gateway.coap_port) as observer:
        assert observer.observe("observer", f"/ps/{TOPIC}", "qos=1", "clientid=observer")
        receipt = producer.send(ROCKET, b"21.5", tag="ok", keys=["k"], properties={"unit": "C"})
        seen = observer.next("observer")
    assert seen.payload == b"21.5"
    message = device.receive()
    assert (message.topic, message.payload) == (TOPIC, b"21.5")
    told = dict(message.properties.UserProperty)
    assert (told["unit"], told["$tag"], told["$message-id"]) == ("C", "ok", receipt["message_id"])
    method, made, body = wait_for(lambda: _get(amqp, "work"), what="the worker's message")
    assert (method.routing_key, body, made.message_id) == (KEY, b"21.5", receipt["message_id"])
    assert made.headers["unit"] == "C"
    (pulled,) = http.post("/v1/queues/pulled/receive?wait=10").json()["deliveries"]
    assert (pulled["topic"], pulled["body"], pulled["headers"]) == (TOPIC, "21.5", {"unit": "C"})
    assert (pulled["properties"]["tag"], pulled["properties"]["keys"]) == ("ok", ["k"])


def _get(channel: pika.adapters.blocking_connection.BlockingChannel, queue: str) -> object:
    found = channel.basic_get(queue, auto_ack=True)
    return found if found[0] is not None else None


def test_what_comes_by_other_doors_arrives_at_a_rocketmq_consumer(
    gateway: RocketGateway,
    worker: Simple,
    device: PahoClient,
    amqp: pika.adapters.blocking_connection.BlockingChannel,
    http: httpx.Client,
) -> None:
    pairs = [("unit", "C"), ("$tag", "t"), ("$key", "line-1")]
    device.publish(TOPIC, b"by mqtt", 1, properties=publish_properties(UserProperty=pairs))
    made = pika.BasicProperties(headers={"unit": "C", "number": 7}, message_id="by-amqp", priority=3)
    amqp.basic_publish("amq.topic", KEY, b"by amqp", made)
    http.post(f"/v1/topics/{TOPIC}", content=b"by http", headers={"x-property-unit": "C"}).raise_for_status()
    with AiocoapClient(gateway.coap_port) as sensor:
        assert sensor.put(f"/ps/{TOPIC}", b"by coap", "qos=1").code.startswith("2.")
    found = {message.body: message for message in worker.collect(4)}
    assert {message.topic for message in found.values()} == {ROCKET}
    assert {message.attempt for message in found.values()} == {1}
    assert not any(message.corrupted for message in found.values())
    by_mqtt, by_amqp = found[b"by mqtt"], found[b"by amqp"]
    assert (by_mqtt.properties, by_mqtt.tag, by_mqtt.group) == ({"unit": "C"}, "t", "line-1")
    assert (by_amqp.id, by_amqp.priority) == ("by-amqp", 3)
    assert by_amqp.properties == {"unit": "C", "number": "7", "$type:number": "int"}
    assert found[b"by http"].properties["unit"] == "C"
    assert all(message.id for message in found.values()), "each has an id, whoever gave it"


def test_an_empty_body_from_elsewhere_is_an_empty_body(worker: Simple, device: PahoClient) -> None:
    device.publish(TOPIC, b"", 1)
    (found,) = worker.collect(1)
    assert (found.body, found.corrupted) == (b"", False)


def test_a_declared_queue_is_consumed_and_sent_to_by_its_own_topic(
    gateway: RocketGateway,
    peer: RocketPeer,
    producer: Producer,
    amqp: pika.adapters.blocking_connection.BlockingChannel,
) -> None:
    amqp.queue_declare("jobs", durable=True)
    topic = "%24queue%2Fjobs"
    producer.send(topic, b"for whoever works", properties={"from": "rocketmq"})
    _, made, body = wait_for(lambda: _get(amqp, "jobs"), what="the job")
    assert (body, made.headers["from"]) == (b"for whoever works", "rocketmq")
    amqp.basic_publish("", "jobs", b"from amqp", pika.BasicProperties(delivery_mode=2))
    with peer.simple(gateway, "any", topic) as consumer:
        assert [message.body for message in consumer.collect(1)] == [b"from amqp"]


def test_what_a_rocketmq_group_gave_up_is_in_the_workbench_and_replayed(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, http: httpx.Client
) -> None:
    queue = "$share%2Fgivers%2Fgiven"
    policy = {"delivery_limit": 1, "backoff_ms": [0]}
    http.put(f"/v1/queues/{queue}", json={"bindings": ["given"], "policy": policy}).raise_for_status()
    producer.send("given", b"too hard")
    with peer.push(gateway, "givers", "given", results={"too hard": ["fail", "ok"]}) as push:
        assert push.next().result == "fail"
        letters = wait_for(lambda: _letters(http, queue), what="the letter")
        story = letters[0]["story"]
        assert (story["cause"], story["attempts"]) == ("delivery_limit", 1), story
        assert story["protocol"] == "openmessaging", story
        replay = http.post(f"/v1/dead-letters/{queue}/replay", json={"to": "origin"})
        assert replay.is_success, replay.text
        again = push.next()
        assert (again.body, again.result) == (b"too hard", "ok")


def test_a_messages_journey_names_rocketmqs_clients(
    gateway: RocketGateway, producer: Producer, worker: Simple, http: httpx.Client
) -> None:
    receipt = producer.send(ROCKET, b"traced", keys=["search me"])
    (found,) = worker.receive()
    worker.ack(found)
    queue = f"$share/readers/{TOPIC}"

    def settled() -> bool:
        found = [stay for stay in _journey(http)["queues"] if stay["queue"] == queue]
        return bool(found and found[0]["state"] == "acknowledged")

    wait_for(settled, what="the settlement on the disk")
    journey = _journey(http)
    assert (journey["id"], journey["topic"], journey["keys"]) == (receipt["message_id"], TOPIC, ["search me"])
    assert (journey["from"]["protocol"], journey["from"]["client_id"]) == (
        "openmessaging",
        producer.client_id,
    )
    (stay,) = [stay for stay in journey["queues"] if stay["queue"] == queue]
    assert [event["event"] for event in stay["events"]] == ["delivered", "settled"]
    assert stay["events"][0]["consumer"]["client_id"] == worker.client_id


def _journey(http: httpx.Client) -> Any:
    return http.get("/v1/messages/search%20me/journey").json()["journeys"][0]


def _letters(http: httpx.Client, queue: str) -> list[dict[str, dict[str, object]]]:
    answer = http.get(f"/v1/dead-letters/{queue}/letters")
    found: list[dict[str, dict[str, object]]] = answer.json().get("letters", [])
    return found
