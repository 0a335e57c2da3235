"""Every door to every door: the same bytes, and properties with their types, by clients of others' make."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import pika
import pytest
from paho.mqtt.packettypes import PacketTypes

from tests.interop.aiocoap_client import AiocoapClient
from tests.interop.paho_client import V5, V311, PahoClient, properties
from tests.interop.rocketmq_client import RocketPeer
from tests.process import GatewayProcess, RocketGateway, wait_for

BODY = bytes(range(256))
BODIES = (b"", random.Random(3).randbytes(100_000))  # besides
TOPIC = "site/7/te.mp"  # in AMQP: site.7.te/mp
KEY = "site.7.te/mp"
ROCKET_TOPIC = "site%2F7%2Fte%2Emp"
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

#: What is sent where a door can say it: the model's names.
SENT: dict[str, Any] = {
    "content_type": "application/x-thing",
    "correlation": b"corr-1",
    "message_id": "id-1",
    "headers": {
        "text": "grüße",
        "int": -5,
        "yes": True,
        "nothing": None,
        "bytes": b"\x00\xff",
        "when": WHEN,
        "list": [1, "two", {"three": b"\x03"}],
        "map": {"a": {"b": [True, None]}},
    },
}
#: `$type:` of a user property, as docs/protocols/mqtt.md says.
KINDS: dict[type, str] = {int: "int", bool: "bool", bytes: "bytes", datetime: "timestamp", type(None): "null"}


def typed(value: Any) -> Any:
    """Return a value as JSON with its type, as docs/model.md says."""
    if isinstance(value, bytes):
        return {"$base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"$timestamp": value.isoformat()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    return value


def untyped(value: Any) -> Any:
    """Undo `typed`."""
    if isinstance(value, list):
        return [untyped(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$base64" in value:
        return base64.b64decode(value["$base64"])
    if "$timestamp" in value:
        return datetime.fromisoformat(value["$timestamp"])
    return {name: untyped(item) for name, item in value.items()}


# -- MQTT -------------------------------------------------------------------------------------------


def user_properties(headers: dict[str, Any], message_id: str) -> list[tuple[str, str]]:
    pairs = [("$message-id", message_id)]
    for name, value in headers.items():
        match value:
            case str():
                pairs.append((name, value))
                continue
            case bytes():
                text = base64.b64encode(value).decode()
            case datetime():
                text = value.isoformat()
            case bool() | None:
                text = {True: "true", False: "false", None: ""}[value]
            case int():
                text = str(value)
            case _:
                text = json.dumps(typed(value))
        pairs += [(name, text), (f"$type:{name}", KINDS.get(type(value), "json"))]
    return pairs


def from_user_properties(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    kinds = {name[6:]: kind for name, kind in pairs if name.startswith("$type:")}
    read: dict[str, Callable[[str], Any]] = {
        "int": int,
        "bool": lambda text: text == "true",
        "bytes": base64.b64decode,
        "timestamp": datetime.fromisoformat,
        "null": lambda text: None,
        "json": lambda text: untyped(json.loads(text)),
    }
    return {
        name: read[kinds[name]](text) if name in kinds else text
        for name, text in pairs
        if not name.startswith("$")
    }


class Mqtt:
    """A paho client; `version` decides what it can say."""

    def __init__(self, gateway: GatewayProcess, stack: ExitStack, name: str, version: int) -> None:
        self.five = version == V5
        self._client = stack.enter_context(PahoClient(name, version).open(gateway.mqtt_port))

    def listen(self) -> None:
        self._client.subscribe(TOPIC, 1)

    def send(self, body: bytes = BODY) -> None:
        made = None
        if self.five:
            made = properties(
                PacketTypes.PUBLISH,
                ContentType=SENT["content_type"],
                CorrelationData=SENT["correlation"],
                UserProperty=user_properties(SENT["headers"], SENT["message_id"]),
            )
        self._client.publish(TOPIC, body, 1, **({"properties": made} if made is not None else {}))

    def receive(self) -> tuple[bytes, dict[str, Any]]:
        message = self._client.messages.get(timeout=10)
        if not self.five:
            return message.payload, {}
        pairs = list(getattr(message.properties, "UserProperty", []))
        return message.payload, {
            "content_type": getattr(message.properties, "ContentType", None),
            "correlation": getattr(message.properties, "CorrelationData", None),
            "message_id": dict(pairs).get("$message-id"),
            "headers": from_user_properties(pairs),
        }


# -- HTTP -------------------------------------------------------------------------------------------


class Http:
    """httpx: a publish, and a queue that is pulled from."""

    def __init__(self, gateway: GatewayProcess, stack: ExitStack, name: str) -> None:
        self._client = stack.enter_context(httpx.Client(base_url=gateway.url, timeout=20))
        self._queue = f"/v1/queues/{name}"

    def listen(self) -> None:
        assert self._client.put(self._queue, json={"bindings": [TOPIC]}).status_code < 300

    def send(self, body: bytes = BODY) -> None:
        headers = {
            "content-type": SENT["content_type"],
            "x-correlation-data": SENT["correlation"].decode(),
            "x-message-id": SENT["message_id"],
        }
        for name, value in SENT["headers"].items():
            headers[f"x-property-{name}"] = "json:" + json.dumps(typed(value))
        answer = self._client.post(f"/v1/topics/{TOPIC}", content=body, headers=headers)
        assert answer.status_code == 200, answer.text

    def receive(self) -> tuple[bytes, dict[str, Any]]:
        (found,) = self._client.post(f"{self._queue}/receive?wait=10").json()["deliveries"]
        made = found.get("properties", {})
        body = base64.b64decode(found["body_base64"]) if "body_base64" in found else found["body"].encode()
        correlation = made.get("correlation")
        return body, {
            "content_type": made.get("content_type"),
            "correlation": correlation.encode() if correlation is not None else None,
            "message_id": made.get("message_id"),
            "headers": untyped(found.get("headers", {})),
        }


# -- AMQP -------------------------------------------------------------------------------------------


class Amqp:
    """pika: a queue bound to amq.topic."""

    def __init__(self, gateway: GatewayProcess, stack: ExitStack, name: str) -> None:
        parameters = pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)
        connection = pika.BlockingConnection(parameters)
        stack.callback(connection.close)
        self.channel = connection.channel()
        self.channel.confirm_delivery()
        self._queue = name

    def listen(self) -> None:
        self.channel.queue_declare(self._queue, durable=True)
        self.channel.queue_bind(self._queue, "amq.topic", KEY)

    def send(self, body: bytes = BODY) -> None:
        made = pika.BasicProperties(
            content_type=SENT["content_type"],
            correlation_id=SENT["correlation"].decode(),
            message_id=SENT["message_id"],
            headers=dict(SENT["headers"]),
            delivery_mode=2,
        )
        self.channel.basic_publish("amq.topic", KEY, body, made)

    def receive(self) -> tuple[bytes, dict[str, Any]]:
        method, made, body = wait_for(self._get, what="the message")
        assert (method.exchange, method.routing_key) == ("amq.topic", KEY)
        headers = {name: _with_zone(value) for name, value in (made.headers or {}).items()}
        headers.pop("$timestamp-ms", None)  # a time in milliseconds, for which AMQP has seconds
        return body, {
            "content_type": made.content_type,
            "correlation": made.correlation_id.encode() if made.correlation_id is not None else None,
            "message_id": made.message_id,
            "headers": headers,
        }

    def _get(self) -> Any:
        found = self.channel.basic_get(self._queue, auto_ack=True)
        return found if found[0] is not None else None


def _with_zone(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


# -- CoAP -------------------------------------------------------------------------------------------


class House(RocketGateway):
    """The gateway of all these tests, and one process of aiocoap's and of RocketMQ's client."""

    coap: AiocoapClient
    rocket: RocketPeer


class Coap:
    """aiocoap: a confirmable PUT, and an observation. It has no room for properties."""

    def __init__(self, gateway: House, stack: ExitStack, name: str) -> None:
        self._client, self._name = gateway.coap, name
        self._queries = ("qos=1", f"clientid={name}")

    def listen(self) -> None:
        assert self._client.observe(self._name, f"/ps/{TOPIC}", *self._queries, context=self._name)

    def send(self, body: bytes = BODY) -> None:
        answer = self._client.put(f"/ps/{TOPIC}", body, *self._queries, context=self._name)
        assert answer.code.startswith("2.")

    def receive(self) -> tuple[bytes, dict[str, Any]]:
        return self._client.next(self._name).payload, {}


# -- RocketMQ -----------------------------------------------------------------------------------------


class Rocket:
    """RocketMQ's own client for Node, which lets a property be empty. It names its messages itself."""

    def __init__(self, gateway: House, stack: ExitStack, name: str) -> None:
        self._gateway, self._stack, self._name = gateway, stack, name
        self._producer = stack.enter_context(gateway.rocket.producer(gateway, f"producer {name}"))

    def listen(self) -> None:
        made = self._gateway.rocket.simple(self._gateway, self._name, ROCKET_TOPIC)
        self._consumer = self._stack.enter_context(made)

    def send(self, body: bytes = BODY) -> None:
        given = {"$content-type": SENT["content_type"], "$correlation": SENT["correlation"].decode()}
        pairs = [pair for pair in user_properties(SENT["headers"], "") if pair[0] != "$message-id"]
        self._producer.send(ROCKET_TOPIC, body, properties={**given, **dict(pairs)})

    def receive(self) -> tuple[bytes, dict[str, Any]]:
        (found,) = self._consumer.collect(1)
        assert found.topic == ROCKET_TOPIC
        correlation = found.properties.get("$correlation")
        return found.body, {
            "content_type": found.properties.get("$content-type"),
            "correlation": correlation.encode() if correlation is not None else None,
            "message_id": found.id,
            "headers": from_user_properties(list(found.properties.items())),
        }


# -- the pairs ----------------------------------------------------------------------------------------

DOORS: dict[str, Callable[[House, ExitStack, str], Any]] = {
    "mqtt311": lambda gateway, stack, name: Mqtt(gateway, stack, name, V311),
    "mqtt5": lambda gateway, stack, name: Mqtt(gateway, stack, name, V5),
    "http": Http,
    "amqp": Amqp,
    "coap": Coap,
    "rocketmq": Rocket,
}
PLAIN = {"mqtt311", "coap"}  # bodies alone


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    process = House(tmp_path_factory.mktemp("matrix") / "data")
    process.start()
    with AiocoapClient(process.coap_port) as process.coap, RocketPeer("node") as process.rocket:
        yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.mark.parametrize("receiver", DOORS)
@pytest.mark.parametrize("sender", DOORS)
def test_from_to(shared: House, sender: str, receiver: str) -> None:
    with ExitStack() as stack:
        to = DOORS[receiver](shared, stack, f"to-{sender}-{receiver}")
        by = DOORS[sender](shared, stack, f"by-{sender}-{receiver}")
        to.listen()
        by.send()
        body, made = to.receive()
        for more in BODIES:
            if sender == "rocketmq" and not more:
                continue  # has no empty bodies; one that comes by another door arrives there as it is
            by.send(more)
            assert to.receive()[0] == more
    assert body == BODY
    if PLAIN & {sender, receiver}:
        assert not {name: value for name, value in made.items() if value and name != "message_id"}
    elif sender == "rocketmq":
        assert made.pop("message_id")
        assert made == {name: value for name, value in SENT.items() if name != "message_id"}
    else:
        assert made == SENT


def test_amqp_to_mqtt_and_back_loses_nothing(shared: GatewayProcess) -> None:
    """An MQTT 5 client that sends on what it got, properties and all."""
    everything = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="gzip",
        headers={**SENT["headers"], "x-death": [{"count": 1, "time": WHEN, "routing-keys": ["a.b"]}]},
        delivery_mode=2,
        priority=7,
        correlation_id="c",
        reply_to="an.answer/queue",
        message_id="m",
        timestamp=1_700_000_000,
        type="the.type",
        user_id="guest",
        app_id="app",
    )
    with ExitStack() as stack:
        amqp = Amqp(shared, stack, "there-and-back")
        amqp.channel.queue_declare("there-and-back")
        amqp.channel.queue_bind("there-and-back", "amq.topic", "back.k")
        mqtt = stack.enter_context(PahoClient("sends-on", V5).open(shared.mqtt_port))
        mqtt.subscribe("there/k", 1)
        amqp.channel.basic_publish("amq.topic", "there.k", BODY, everything)
        message = mqtt.messages.get(timeout=10)
        again = properties(PacketTypes.PUBLISH)
        for name in ("ContentType", "CorrelationData", "ResponseTopic", "UserProperty"):
            if hasattr(message.properties, name):
                setattr(again, name, getattr(message.properties, name))
        mqtt.publish("back/k", message.payload, 1, properties=again)
        deadline = time.monotonic() + 10
        while True:
            method, made, body = amqp.channel.basic_get("there-and-back", auto_ack=True)
            if method is not None:
                break
            assert time.monotonic() < deadline
    assert body == BODY
    assert made.__dict__ == everything.__dict__
