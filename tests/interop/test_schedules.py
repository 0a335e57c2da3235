"""Messages that are scheduled at one door and come out at all of them, with real clients."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pika
import pytest
from websockets.sync.client import connect as connect_websocket

from gateway.rocketmq.numbers import Code, MessageType
from tests.interop.paho_client import V5, V311, PahoClient, publish_properties
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket, duration

pytestmark = pytest.mark.interop
SOON_MS = 300
INVALID_TOPIC, INVALID_VALUE = 0x90, 0x83


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("schedules"))
    process.start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


@pytest.fixture
def sub(door: RocketGateway) -> Iterator[PahoClient]:
    with PahoClient("sub").open(door.mqtt_port) as client:
        client.subscribe("later/#", 1)
        yield client


@pytest.fixture
def channel(door: RocketGateway) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", door.amqp_port))
    found = connection.channel()
    found.confirm_delivery()
    yield found
    connection.close()


def user_property(message: Any, name: str) -> str | None:
    pairs = dict(getattr(message.properties, "UserProperty", []))
    return pairs.get(name)


def comes_later(sub: PahoClient, body: bytes, began: float, topic: str = "later/t") -> Any:
    """Return the message, which must not come early."""
    message = sub.receive()
    assert (message.topic, message.payload) == (topic, body)
    assert time.time() >= began + SOON_MS / 1000 - 0.002, "early"
    return message


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_by_topic(door: RocketGateway, sub: PahoClient, version: int, qos: int) -> None:
    with PahoClient("pub", version).open(door.mqtt_port) as pub:
        began = time.time()
        assert pub.publish(f"$delayed/{SOON_MS / 1000}/later/t", b"x", qos) == 0
        message = comes_later(sub, b"x", began)
        assert message.qos == min(qos, 1)


def test_mqtt_5_by_user_property(door: RocketGateway, sub: PahoClient) -> None:
    with PahoClient("pub").open(door.mqtt_port) as pub:
        for name, value in (("$delay", str(SOON_MS / 1000)), ("$deliver-at-ms", "")):
            began = time.time()
            pairs = [(name, value or str(int(began * 1000) + SOON_MS)), ("a", "b")]
            assert pub.publish("later/t", b"x", properties=publish_properties(UserProperty=pairs)) == 0
            message = comes_later(sub, b"x", began)
            due_ms = int(user_property(message, "$deliver-at-ms") or 0)
            assert abs(due_ms - began * 1000 - SOON_MS) < SOON_MS
            assert user_property(message, "a") == "b"
            assert user_property(message, "$delay") is None


def test_mqtt_bad_times(door: RocketGateway, sub: PahoClient) -> None:
    with PahoClient("pub").open(door.mqtt_port) as pub:
        for value in ("", "-1", "nan", "inf", "1e300", "soon", "400000000", "9" * 400):
            sent = publish_properties(UserProperty=[("$delay", value)])
            assert pub.publish("later/t", b"bad", properties=sent) == INVALID_VALUE, value
        for value in ("-1", "soon", "1.5", "99999999999999", "9" * 30):
            sent = publish_properties(UserProperty=[("$deliver-at-ms", value)])
            assert pub.publish("later/t", b"bad", properties=sent) == INVALID_VALUE, value
        for topic in ("$delayed/x/t", "$delayed/5", "$delayed/-1/t", "$delayed/1e300/t"):
            assert pub.publish(topic, b"bad") == INVALID_TOPIC, topic
        for value in ("0", "1"):  # 1970: past times are now
            sent = publish_properties(UserProperty=[("$deliver-at-ms", value)])
            assert pub.publish("later/t", b"past", properties=sent) == 0
        assert sub.bodies(2) == [b"past", b"past"]
    with PahoClient("old", V311).open(door.mqtt_port) as old:
        assert old.publish("$delayed/x/t", b"bad") == 0  # 3.1.1 cannot say no


def test_retained_when_it_is_due(door: RocketGateway, sub: PahoClient) -> None:
    with PahoClient("pub").open(door.mqtt_port) as pub:
        began = time.time()
        pub.publish(f"$delayed/{SOON_MS / 1000}/later/kept", b"x", 1, retain=True)
        assert httpx.get(f"{door.url}/v1/topics/later/kept").status_code == 404
        comes_later(sub, b"x", began, "later/kept")
        assert httpx.get(f"{door.url}/v1/topics/later/kept").content == b"x"
        pub.publish("later/kept", b"", 1, retain=True)
        sub.receive()


@pytest.mark.parametrize("exchange", ["amq.topic", "delaying", ""])
def test_amqp_by_header(door: RocketGateway, channel: Any, exchange: str) -> None:
    channel.exchange_declare("delaying", "x-delayed-message", arguments={"x-delayed-type": "direct"})
    channel.queue_declare("due")
    if exchange:
        channel.queue_bind("due", exchange, "due")
    began = time.time()
    sent = pika.BasicProperties(headers={"x-delay": SOON_MS, "h": 1}, app_id="me", type="kind")
    channel.basic_publish(exchange, "due", b"x", sent)
    method, properties, body = wait_for(lambda: _get(channel), what="the message")
    assert time.time() >= began + SOON_MS / 1000 - 0.002
    assert body == b"x"
    assert (method.exchange, method.routing_key) == (exchange, "due")
    assert (properties.app_id, properties.type) == ("me", "kind")
    assert properties.headers == {"x-delay": -SOON_MS, "h": 1}
    for delay in (0, -5, None, "soon", True):
        sent = pika.BasicProperties(headers={"x-delay": delay})
        channel.basic_publish(exchange, "due", b"now", sent)
        assert wait_for(lambda: _get(channel), what="the message")[2] == b"now"
    channel.queue_delete("due")


def _get(channel: Any) -> Any:
    found = channel.basic_get("due", auto_ack=True)
    return found if found[0] is not None else None


def test_amqp_copies_and_transactions(channel: Any) -> None:
    for name in ("due", "copy", "blind"):
        channel.queue_declare(name)
    sent = pika.BasicProperties(headers={"x-delay": SOON_MS, "CC": ["copy"], "BCC": ["blind"]})
    channel.basic_publish("", "due", b"x", sent)
    for name in ("due", "copy", "blind"):
        found = wait_for(lambda name=name: _of(channel, name), what=name)  # type: ignore[misc]
        assert "BCC" not in found[1].headers
    with channel.connection.channel() as tx:
        tx.tx_select()
        tx.basic_publish("", "due", b"rolled back", pika.BasicProperties(headers={"x-delay": 1}))
        tx.tx_rollback()
        tx.basic_publish("", "due", b"committed", pika.BasicProperties(headers={"x-delay": SOON_MS}))
        began = time.time()
        tx.tx_commit()
    assert wait_for(lambda: _get(channel), what="the message")[2] == b"committed"
    assert time.time() >= began + SOON_MS / 1000 - 0.002
    for name in ("due", "copy", "blind"):
        channel.queue_delete(name)


def _of(channel: Any, name: str) -> Any:
    found = channel.basic_get(name, auto_ack=True)
    return found if found[0] is not None else None


def test_amqp_to_mqtt_by_topic(channel: Any, sub: PahoClient) -> None:
    began = time.time()
    channel.basic_publish("", f"$topic/$delayed/{SOON_MS / 1000}/later/t", b"by topic")
    comes_later(sub, b"by topic", began)
    began = time.time()
    sent = pika.BasicProperties(headers={"$deliver-at-ms": int(began * 1000) + SOON_MS})
    channel.basic_publish("amq.topic", "later.t", b"at", sent)
    comes_later(sub, b"at", began)


def test_http(door: RocketGateway, sub: PahoClient) -> None:
    at_ms = int(time.time() * 1000) + SOON_MS
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ms / 1000)) + f".{at_ms % 1000:03}Z"
    targets = ("later/t?delay=0.3", "later/t?deliver_at={at}", "%24delayed/0.3/later/t")
    for target in targets:
        began = time.time()
        target = target.format(at=int(began * 1000) + SOON_MS)
        answer = httpx.post(f"{door.url}/v1/topics/{target}", content=b"x")
        assert answer.status_code == 200
        assert answer.json()["schedule"].isdigit()
        comes_later(sub, b"x", began)
    answer = httpx.post(f"{door.url}/v1/topics/later/t?deliver_at={at}", content=b"past by now")
    assert "schedule" not in answer.json()
    assert sub.receive().payload == b"past by now"
    lines = [{"body": "a", "delay": SOON_MS / 1000}, {"body": "b"}, {"body": "c", "deliver_at": 1}]
    body = "\n".join(json.dumps(line) for line in lines)
    began = time.time()
    assert httpx.post(f"{door.url}/v1/topics/later/t/batch", content=body).json()["accepted"] == 3
    assert sub.bodies(2) == [b"b", b"c"]
    comes_later(sub, b"a", began)


def test_http_once(door: RocketGateway, sub: PahoClient) -> None:
    began = time.time()
    found = [
        httpx.post(
            f"{door.url}/v1/topics/later/t?delay={SOON_MS / 1000}",
            content=b"once",
            headers={"Idempotency-Key": "k"},
        ).json()
        for _ in range(2)
    ]
    assert [answer["duplicate"] for answer in found] == [False, True]
    assert found[0]["schedule"] == found[1]["schedule"]
    comes_later(sub, b"once", began)
    httpx.post(f"{door.url}/v1/topics/later/t", content=b"end")
    assert sub.receive().payload == b"end"


def test_websocket(door: RocketGateway, sub: PahoClient) -> None:
    with connect_websocket(door.url.replace("http", "ws", 1) + "/v1/ws") as socket:
        began = time.time()
        socket.send(json.dumps({"op": "publish", "topic": "later/t", "body": "x", "delay": SOON_MS / 1000}))
        assert json.loads(socket.recv(10))["schedule"].isdigit()
        comes_later(sub, b"x", began)


def test_rocketmq_by_its_delivery_timestamp(door: RocketGateway, sub: PahoClient) -> None:
    with RawRocket(door.endpoints) as client:

        def send(body: bytes, seconds: float) -> Any:
            made = {"message_type": MessageType.DELAY, "delivery_timestamp": duration(seconds)}
            (entry,) = client.send("later%2Ft", body, **made).entries
            assert entry.status.code == Code.OK
            return entry

        began = time.time()
        send(b"x", began + SOON_MS / 1000)
        due_ms = int(user_property(comes_later(sub, b"x", began), "$deliver-at-ms") or 0)
        assert abs(due_ms - began * 1000 - SOON_MS) <= 1
        waits = send(b"never", began + 3600)
        (listed,) = httpx.get(f"{door.url}/v1/schedules").json()["schedules"]
        assert listed["topic"] == "later/t"
        fields = {"topic": {"name": "later%2Ft"}, "recall_handle": waits.recall_handle}
        assert client.call("RecallMessage", **fields).message_id == waits.message_id
        assert httpx.get(f"{door.url}/v1/schedules").json()["schedules"] == []


def test_rocketmq_consumers_get_what_others_have_scheduled(door: RocketGateway, sub: PahoClient) -> None:
    with RawRocket(door.endpoints) as client, PahoClient("pub").open(door.mqtt_port) as pub:
        assert client.receive("later", "later%2Ft") == []
        began = time.time()
        assert pub.publish(f"$delayed/{SOON_MS / 1000}/later/t", b"x", 1) == 0
        (message,) = client.receive("later", "later%2Ft", wait=10)
        assert time.time() >= began + SOON_MS / 1000 - 0.002, "early"
        assert (message.body, message.system_properties.message_type) == (b"x", MessageType.DELAY)
        client.ack("later", "later%2Ft", message)
        comes_later(sub, b"x", began)


def test_many_on_time(door: RocketGateway, sub: PahoClient) -> None:
    """Each has its own time; none comes before it, and they come in order."""
    dues = [50 + (number * 37) % 400 for number in range(200)]
    with PahoClient("pub", V311).open(door.mqtt_port) as pub:
        began = time.time()
        for due_ms in dues:
            pub.client.publish(f"$delayed/{due_ms / 1000}/later/t", b"%d" % due_ms, 1)
        for _ in dues:
            body = sub.receive().payload
            assert time.time() - began >= int(body) / 1000 - 0.002
