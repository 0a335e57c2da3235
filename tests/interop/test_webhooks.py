"""What stock clients of every door publish is pushed with all it says, once at least."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import paho.mqtt.client as paho
import pika
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from standardwebhooks.webhooks import Webhook as Receiver

from tests.process import GatewayProcess, wait_for
from tests.webhooks.sink import Received, Sink

SECONDS = 15.0
BODY = b'{"n": 1}'


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, sink: Sink) -> Iterator[GatewayProcess]:
    directory: Path = tmp_path_factory.mktemp("push")
    process = GatewayProcess(directory / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module")
def secret(gateway: GatewayProcess, sink: Sink) -> str:
    wanted = {"url": sink.url("/all"), "filters": ["orders/#"]}
    answer = httpx.put(f"{gateway.url}/v1/webhooks/all", json=wanted)
    assert answer.status_code == 201
    found: str = answer.json()["secret"]
    return found


def by_http(gateway: GatewayProcess, topic: str) -> None:
    headers = {
        "content-type": "application/json",
        "x-correlation-data": "c1",
        "x-reply-to": "answers/1",
        "x-property-colour": "red",
    }
    answer = httpx.post(f"{gateway.url}/v1/topics/{topic}", content=BODY, headers=headers)
    assert answer.status_code == 200


def by_mqtt(gateway: GatewayProcess, topic: str) -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "push-test", protocol=paho.MQTTv5)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", gateway.mqtt_port)
    client.loop_start()
    assert connected.wait(SECONDS)
    said = Properties(PacketTypes.PUBLISH)
    said.ContentType = "application/json"
    said.CorrelationData = b"c1"
    said.ResponseTopic = "answers/1"
    said.UserProperty = [("colour", "red")]
    client.publish(topic, BODY, 1, properties=said).wait_for_publish(SECONDS)
    client.disconnect()
    client.loop_stop()


def by_amqp(gateway: GatewayProcess, topic: str) -> None:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port))
    channel = connection.channel()
    channel.confirm_delivery()
    said = pika.BasicProperties(
        content_type="application/json",
        correlation_id="c1",
        reply_to="answers/1",
        headers={"colour": "red"},
        delivery_mode=2,
    )
    channel.basic_publish("amq.topic", topic.replace("/", "."), BODY, said)
    connection.close()


def one(sink: Sink, topic: str) -> Received:
    """Wait for the message of a topic."""

    def found() -> list[Received]:
        return [each for each in sink.got("/all") if each.headers["x-topic"] == topic]

    wait_for(found, SECONDS, topic)
    (received,) = found()
    return received


@pytest.mark.parametrize("publish", [by_http, by_mqtt, by_amqp])
def test_a_message_of_any_door(gateway: GatewayProcess, sink: Sink, secret: str, publish: object) -> None:
    assert callable(publish)
    topic = f"orders/{publish.__name__}"
    publish(gateway, topic)
    received = one(sink, topic)
    headers = received.headers
    assert received.body == BODY
    assert headers["content-type"] == "application/json"
    assert headers["x-correlation-data"] == "c1"
    assert headers["x-property-colour"] == "red"
    assert "answers" in headers["x-reply-to"]
    Receiver(secret).verify(received.body, headers)
