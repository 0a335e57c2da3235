"""CloudEvents from every door to every door; written and read by the CloudEvents project's own SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import httpx
import pika
import pytest
from cloudevents.core.bindings import amqp as amqp_binding
from cloudevents.core.bindings import http as http_binding
from cloudevents.core.bindings import rabbitmq as rabbitmq_binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from paho.mqtt.packettypes import PacketTypes

from gateway.rocketmq.names import escape
from gateway.rocketmq.numbers import Code
from tests.interop.paho_client import V5, V311, PahoClient, properties
from tests.process import GatewayProcess, RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket, new_id

pytestmark = pytest.mark.interop
_numbers = count()
#: There is no TLS, and to read the certificates for it takes longer than a request.
get, post, put = (partial(getattr(httpx, name), verify=False) for name in ("get", "post", "put"))
FORMAT = JSONFormat()
STRUCTURED = "application/cloudevents+json"
ATTRIBUTES: dict[str, Any] = {
    "specversion": "1.0",
    "id": "ид 1%25",
    "source": '/σ/"quoted"?a=b&c=%20',
    "type": "com.example.order.placed",
    "subject": "with spaces, and €",
    "time": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
    "dataschema": "https://example.com/schema#1",
    "partitionkey": "customer 7",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "myext1": "mine",
}
DATA = {"json": CloudEvent({**ATTRIBUTES, "datacontenttype": "application/json"}, {"größe": [1, None]}),
        "bytes": CloudEvent({**ATTRIBUTES, "datacontenttype": "image/x-thing"}, b"\x00\xff"),
        "text": CloudEvent({**ATTRIBUTES, "datacontenttype": "text/plain"}, "grüße"),
        "nothing": CloudEvent(dict(ATTRIBUTES), None)}  # fmt: skip


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = RocketGateway(tmp_path_factory.mktemp("events")).start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


def attributes(event: Any) -> dict[str, Any]:
    """Return the attributes, in types that do not depend on who has read them."""
    return {name: value for name, value in event.get_attributes().items() if value is not None}


def text(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


# -- writing ------------------------------------------------------------------------------------------


def write_http(gateway: GatewayProcess, topic: str, event: CloudEvent) -> None:
    message = http_binding.to_binary(event, FORMAT)
    url = f"{gateway.url}/v1/topics/{topic}"
    post(url, headers=message.headers, content=message.body).raise_for_status()


def write_json(gateway: GatewayProcess, topic: str, event: CloudEvent) -> None:
    """A line of a batch, with what JSON has for a body."""
    import base64

    message = http_binding.to_binary(event, FORMAT)
    headers = {f"cloudEvents_{name}": text(value) for name, value in attributes(event).items()}
    kind = headers.pop("cloudEvents_datacontenttype", None)
    body = base64.b64encode(message.body).decode()
    line = {"body_base64": body, "content_type": kind, "headers": headers}
    answer = post(f"{gateway.url}/v1/topics/{topic}/batch", json=line).json()
    assert answer["accepted"] == 1


def write_mqtt(gateway: GatewayProcess, topic: str, event: CloudEvent) -> None:
    """As the MQTT binding says: attributes are user properties, `datacontenttype` is the content type."""
    values = {name: text(value) for name, value in attributes(event).items()}
    given: dict[str, Any] = {}
    if "datacontenttype" in values:
        given["ContentType"] = values.pop("datacontenttype")
    given["UserProperty"] = list(values.items())
    body = http_binding.to_binary(event, FORMAT).body
    with PahoClient(f"writer-{next(_numbers)}").open(gateway.mqtt_port) as client:
        client.publish(topic, body, 1, properties=properties(PacketTypes.PUBLISH, **given))


def _write_amqp(
    gateway: GatewayProcess, topic: str, kind: str | None, headers: dict[str, Any], body: bytes
) -> None:
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        made = pika.BasicProperties(content_type=kind, headers=headers, delivery_mode=2)
        channel.basic_publish("amq.topic", topic.replace("/", "."), body, made)


def write_amqp(gateway: GatewayProcess, topic: str, event: CloudEvent) -> None:
    """The AMQP binding: typed values (a time is one) in application properties."""
    message = amqp_binding.to_binary(event, FORMAT)
    headers = message.application_properties
    _write_amqp(gateway, topic, message.properties.get("content-type"), headers, message.application_data)


def write_amqp_colon(gateway: GatewayProcess, topic: str, event: CloudEvent) -> None:
    message = rabbitmq_binding.to_binary(event, FORMAT)
    headers = {"cloudEvents:" + name.removeprefix("ce-"): value for name, value in message.headers.items()}
    _write_amqp(gateway, topic, message.content_type, headers, message.body)


def write_rabbitmq(gateway: GatewayProcess, topic: str, event: CloudEvent) -> None:
    message = rabbitmq_binding.to_binary(event, FORMAT)
    _write_amqp(gateway, topic, message.content_type, message.headers, message.body)


def write_rocketmq(gateway: GatewayProcess, topic: str, event: CloudEvent) -> None:
    """As CloudEvents' binding for RocketMQ has it, which writes no data as one byte."""
    assert isinstance(gateway, RocketGateway)
    user = {f"CE_{name}": text(value) for name, value in attributes(event).items()}
    if "CE_datacontenttype" in user:
        user["CE_contenttype"] = user.pop("CE_datacontenttype")
    body = http_binding.to_binary(event, FORMAT).body or b"\0"
    message = {
        "topic": {"name": escape(topic)},
        "body": body,
        "user_properties": user,
        "system_properties": {"message_id": new_id()},
    }
    with RawRocket(gateway.endpoints, "writer") as raw:
        assert raw.call("SendMessage", messages=[message]).status.code == Code.OK


# -- reading: a context, in which a call returns the next event ------------------------------------------

Reader = Callable[[GatewayProcess, str], AbstractContextManager[Callable[[], Any]]]


@contextmanager
def read_http(gateway: GatewayProcess, topic: str) -> Iterator[Callable[[], Any]]:
    def read() -> Any:
        answer = get(f"{gateway.url}/v1/topics/{topic}")
        return http_binding.from_binary(
            http_binding.HTTPMessage(dict(answer.headers), answer.content), FORMAT, CloudEvent
        )

    yield read


@contextmanager
def read_http_structured(gateway: GatewayProcess, topic: str) -> Iterator[Callable[[], Any]]:
    def read() -> Any:
        answer = get(f"{gateway.url}/v1/topics/{topic}", headers={"Accept": STRUCTURED})
        message = http_binding.HTTPMessage(dict(answer.headers), answer.content)
        return http_binding.from_structured(message, FORMAT, CloudEvent)

    yield read


@contextmanager
def read_mqtt(gateway: GatewayProcess, topic: str) -> Iterator[Callable[[], Any]]:
    with PahoClient(f"reader-{next(_numbers)}").open(gateway.mqtt_port) as client:
        client.subscribe(topic, 1)

        def read() -> Any:
            message = client.receive()
            pairs = message.properties.UserProperty
            names = [name for name, _ in pairs]
            assert len(names) == len(set(names))
            found = {f"ce-{name}": value for name, value in pairs if name.isalnum() and name.islower()}
            kind = getattr(message.properties, "ContentType", None)
            return rabbitmq_binding.from_binary(
                rabbitmq_binding.RabbitMQMessage(found, kind, message.payload), FORMAT, CloudEvent
            )

        yield read


@contextmanager
def read_amqp(gateway: GatewayProcess, topic: str) -> Iterator[Callable[[], Any]]:
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "amq.topic", topic.replace("/", "."))

        def read() -> Any:
            got: Any = wait_for(lambda: _got(channel, queue), what="the event")
            made, body = got
            headers = dict(made.headers)
            if any(name.startswith("ce-") for name in headers):  # another AMQP client's own: as it was sent
                message = rabbitmq_binding.RabbitMQMessage(headers, made.content_type, body)
                return rabbitmq_binding.from_binary(message, FORMAT, CloudEvent)
            for name, value in headers.items():
                if isinstance(value, datetime):  # pika gives AMQP's times without their zone
                    headers[name] = value.replace(tzinfo=UTC)
            found = {"content-type": made.content_type} if made.content_type else {}
            return amqp_binding.from_binary(
                amqp_binding.AMQPMessage(found, headers, body), FORMAT, CloudEvent
            )

        yield read


@contextmanager
def read_rocketmq(gateway: GatewayProcess, topic: str) -> Iterator[Callable[[], Any]]:
    assert isinstance(gateway, RocketGateway)
    with RawRocket(gateway.endpoints, "reader") as raw:
        raw.receive("readers", escape(topic))

        def read() -> Any:
            (message,) = raw.receive("readers", escape(topic), wait=10)
            user = dict(message.user_properties)
            kind = user.pop("CE_contenttype", None)
            found = {f"ce-{name[3:]}": value for name, value in user.items() if name.startswith("CE_")}
            return rabbitmq_binding.from_binary(
                rabbitmq_binding.RabbitMQMessage(found, kind, message.body), FORMAT, CloudEvent
            )

        yield read


def _got(channel: Any, queue: str) -> Any:
    method, made, body = channel.basic_get(queue, auto_ack=True)
    return None if method is None else (made, body)


WRITERS = {
    "http": write_http,
    "json": write_json,
    "mqtt": write_mqtt,
    "amqp": write_amqp,
    "amqp colon": write_amqp_colon,
    "rabbitmq": write_rabbitmq,
    "rocketmq": write_rocketmq,
}
READERS: dict[str, Reader] = {
    "http": read_http,
    "http structured": read_http_structured,
    "mqtt": read_mqtt,
    "amqp": read_amqp,
    "rocketmq": read_rocketmq,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_binary_event_is_one_at_every_door(door: GatewayProcess, writer: str, reader: str) -> None:
    for name, event in DATA.items():
        topic = f"events/{next(_numbers)}"
        with READERS[reader](door, topic) as read:
            WRITERS[writer](door, topic, event)
            found = read()
        assert (name, attributes(found)) == (name, attributes(event))
        assert (found.get_data() or None) == event.get_data()


@pytest.mark.parametrize("version", [V311, V5])
def test_a_structured_event_is_not_touched(door: GatewayProcess, version: int) -> None:
    body = b'{ "specversion":"1.0", "type":"t", "source":"/s", "id":"1",\n "data": {"a": 1.00} }'
    topic = f"events/{next(_numbers)}"
    kind = f"{STRUCTURED}; charset=utf-8"
    with (
        PahoClient(f"reader-{version}", version).open(door.mqtt_port) as reader,
        PahoClient(f"writer-{version}", version).open(door.mqtt_port) as writer,
    ):
        reader.subscribe(topic, 1)
        post(f"{door.url}/v1/topics/{topic}", headers={"Content-Type": kind}, content=body).raise_for_status()
        got = reader.receive()
        assert got.payload == body
        if version == V5:
            assert got.properties.ContentType == kind
            given = {"properties": properties(PacketTypes.PUBLISH, ContentType=kind)}
            writer.publish(topic, body, 1, **given)
        else:
            _write_amqp(door, topic, kind, {}, body)
    value = get(f"{door.url}/v1/topics/{topic}")
    assert (value.content, value.headers["content-type"]) == (body, kind)
    again = get(f"{door.url}/v1/topics/{topic}", headers={"Accept": STRUCTURED})
    assert again.content == body


def test_a_batch_of_events_is_a_message_each(door: GatewayProcess) -> None:
    put(f"{door.url}/v1/queues/batch", json={"bindings": ["batched"]}).raise_for_status()
    good = [
        b'{"specversion":"1.0","type":"t","source":"/s","id":"%d", "data":"\\u00fc\\n"}' % n for n in range(3)
    ]
    body = b"[" + b" ,\n".join([good[0], b'{"specversion":"1.0","type":"t"}', good[1], b"7", good[2]]) + b"]"
    url, headers = (
        f"{door.url}/v1/topics/batched/batch",
        {"Content-Type": "application/cloudevents-batch+json"},
    )
    answer = post(url, headers=headers, content=body).json()
    assert (answer["accepted"], [one["line"] for one in answer["rejected"]]) == (3, [2, 4])
    found = post(f"{door.url}/v1/queues/batch/receive?max=10").json()["deliveries"]
    assert [one["body"].encode() for one in found] == good
    assert {one["properties"]["content_type"] for one in found} == {STRUCTURED}
    for bad in (b"{}", b"[", b"[1 2]", b'["\xff"]', b""):
        assert post(url, headers=headers, content=bad).status_code in (400, 422), bad


def test_what_a_key_and_a_trace_are_for_the_gateway(door: GatewayProcess) -> None:
    """Extensions are the model's own properties, and the other way round."""
    put(
        f"{door.url}/v1/queues/shared", json={"bindings": ["shared"], "policy": {"ordered": False}}
    ).raise_for_status()
    write_mqtt(door, "shared", DATA["json"])
    write_rabbitmq(door, "shared", DATA["json"])
    found = post(f"{door.url}/v1/queues/shared/receive?max=2").json()["deliveries"]
    assert [one["properties"]["key"] for one in found] == ["customer 7"] * 2
    assert [one["properties"]["traceparent"] for one in found] == [ATTRIBUTES["traceparent"]] * 2
    assert all(one["headers"]["cloudEvents_type"] == ATTRIBUTES["type"] for one in found)
    required = {f"ce-{name}": "1.0" for name in ("specversion", "id", "source", "type")}
    post(f"{door.url}/v1/topics/shared", headers={**required, "X-Key": "k"}, content=b"x")
    assert get(f"{door.url}/v1/topics/shared").headers["ce-partitionkey"] == "k"


def test_other_headers_stay_apart(door: GatewayProcess) -> None:
    """A header that is called as an attribute may be, in a message that is an event."""
    required = {f"ce-{name}": "1.0" for name in ("specversion", "id", "source", "type")}
    with read_mqtt(door, "apart") as read:
        post(f"{door.url}/v1/topics/apart", headers={**required, "X-Property-color": "red"}, content=b"x")
        assert "color" not in attributes(read())
    with PahoClient("apart").open(door.mqtt_port) as client:
        pairs = [(name.removeprefix("ce-"), value) for name, value in required.items()]
        pairs.append(("$header:color", "blue"))
        client.publish("apart", b"x", 1, properties=properties(PacketTypes.PUBLISH, UserProperty=pairs))
    headers = get(f"{door.url}/v1/topics/apart").headers
    assert (headers["x-property-color"], "ce-color" in headers, headers["ce-id"]) == ("blue", False, "1.0")


REQUIRED = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([*REQUIRED.items()][1:], 422),
        ([*REQUIRED.items()][:-1], 422),
        ([*({**REQUIRED, "ce-id": ""}).items()], 422),
        ([*({**REQUIRED, "ce-specversion": "0.3"}).items()], 422),
        ([*REQUIRED.items(), ("ce-id", "2")], 422),
        ([*REQUIRED.items(), ("ce-no_name", "x")], 422),
        ([*REQUIRED.items(), ("ce-", "x")], 422),
        ([*REQUIRED.items(), ("ce-datacontenttype", "text/plain")], 422),
        ([*REQUIRED.items(), ("ce-time", "yesterday")], 422),
        ([*REQUIRED.items(), ("ce-time", "2026-01-01T00:00:00")], 422),
        ([*REQUIRED.items(), ("ce-subject", "a%00b")], 422),
        ([*REQUIRED.items(), ("ce-subject", "%FF")], 400),
        ([*REQUIRED.items(), (b"ce-subject", "grün".encode())], 400),
        ([("ce-subject", "alone")], 422),
    ],
)
def test_what_is_no_event_is_refused_by_http(door: GatewayProcess, headers: Any, status: int) -> None:
    answer = post(f"{door.url}/v1/topics/bad", headers=headers, content=b"x")
    assert (answer.status_code, "ce-" in answer.text or "CloudEvents" in answer.text) == (status, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"7",
        b"{",
        b'{"specversion":"1.0","type":"t","source":"/s"}',
        b'{"specversion":"2.0","type":"t","source":"/s","id":"1"}',
        b'{"specversion":"1.0","type":"t","source":"/s","id":1}',
        b'{"specversion":"1.0","type":"t","source":"/s","id":"1","ext":{}}',
        b'{"specversion":"1.0","type":"t","source":"/s","id":"1","Ext":"x"}',
        b'{"specversion":"1.0","type":"t","source":"/s","id":"1","data":1,"data_base64":""}',
        b"[" * 5000,
    ],
)
def test_what_is_no_structured_event_is_refused_by_http(door: GatewayProcess, body: bytes) -> None:
    answer = post(f"{door.url}/v1/topics/bad", headers={"Content-Type": STRUCTURED}, content=body)
    assert (answer.status_code, "CloudEvents" in answer.text) == (422, True)
    line = json.dumps({"body": body.decode(), "content_type": STRUCTURED})
    assert post(f"{door.url}/v1/topics/bad/batch", content=line).status_code == 422


@pytest.mark.parametrize(
    "pairs",
    [
        [("specversion", "1.0"), ("id", "1"), ("source", "/s")],
        [("specversion", "0.3"), ("id", "1"), ("source", "/s"), ("type", "t")],
        [("specversion", "1.0"), ("id", "1"), ("id", "2"), ("source", "/s"), ("type", "t")],
        [("id", "1"), ("source", "/s"), ("type", "t")],
    ],
)
def test_user_properties_that_make_no_event_are_just_that(
    door: GatewayProcess, pairs: list[tuple[str, str]]
) -> None:
    with PahoClient("none").open(door.mqtt_port) as client:
        client.publish("none", b"x", 1, properties=properties(PacketTypes.PUBLISH, UserProperty=pairs))
    headers = get(f"{door.url}/v1/topics/none").headers
    assert not any(name.startswith("ce-") for name in headers)
    assert headers["x-property-source"] == "/s"
    answer = get(f"{door.url}/v1/topics/none", headers={"Accept": STRUCTURED})
    assert answer.content == b"x", "what is no event is sent as it is"
