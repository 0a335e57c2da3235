"""Ask at one door, answer at another: all ordered pairs, with clients of others' make."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import quote

import httpx
import pika
import pytest

from gateway.auth.hashes import hash_password
from tests.interop.paho_client import PahoClient, publish_properties
from tests.process import GatewayProcess, wait_for

pytestmark = pytest.mark.interop
_numbers = count()
#: There is no TLS, and to read the certificates for it takes longer than a request.
get, post, put = (partial(getattr(httpx, name), verify=False) for name in ("get", "post", "put"))
SECONDS = 10.0


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("reply")).start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


def amqp(gateway: GatewayProcess) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port))


# -- who asks: return the answer's body and correlation ---------------------------------------------

Answer = tuple[bytes, bytes]
Channel = pika.adapters.blocking_connection.BlockingChannel


def ask_by_mqtt(gateway: GatewayProcess, topic: str) -> Answer:
    name = f"asker-{next(_numbers)}"
    return _ask_by_mqtt(gateway, topic, PahoClient(name), f"answers/{name}")


def ask_by_mqtt_response_information(gateway: GatewayProcess, topic: str) -> Answer:
    client = PahoClient(f"asker-{next(_numbers)}", connect={"RequestResponseInformation": 1})
    return _ask_by_mqtt(gateway, topic, client, None)


def _ask_by_mqtt(gateway: GatewayProcess, topic: str, client: PahoClient, answers: str | None) -> Answer:
    with client.open(gateway.mqtt_port):
        if answers is None:
            answers = client.connack.ResponseInformation + "/mine"
        client.subscribe(answers, 1)
        client.publish(
            topic, b"ask", 1, properties=publish_properties(ResponseTopic=answers, CorrelationData=b"c-1")
        )
        message = client.messages.get(timeout=SECONDS)
    assert message.topic == answers
    return message.payload, message.properties.CorrelationData


def ask_by_exclusive_queue(gateway: GatewayProcess, topic: str) -> Answer:
    with amqp(gateway) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        return _ask_by_amqp(channel, topic, queue)


def ask_by_direct_reply(gateway: GatewayProcess, topic: str) -> Answer:
    with amqp(gateway) as connection:
        return _ask_by_amqp(connection.channel(), topic, "amq.rabbitmq.reply-to")


def _ask_by_amqp(channel: Channel, topic: str, queue: str) -> Answer:
    found: list[Answer] = []

    def take(channel: object, method: object, properties: pika.BasicProperties, body: bytes) -> None:
        found.append((body, (properties.correlation_id or "").encode()))

    channel.basic_consume(queue, take, auto_ack=True)
    properties = pika.BasicProperties(reply_to=queue, correlation_id="c-1")
    channel.basic_publish("amq.topic", topic.replace("/", "."), b"ask", properties)
    channel.connection.process_data_events(0)

    def come() -> bool:
        channel.connection.process_data_events(0.05)
        return bool(found)

    wait_for(come, SECONDS, "the answer")
    return found[0]


def ask_by_http(gateway: GatewayProcess, topic: str) -> Answer:
    answer = post(
        f"{gateway.url}/v1/topics/{topic}/request?timeout={SECONDS}",
        content=b"ask",
        headers={"X-Correlation-Data": "c-1"},
        timeout=SECONDS + 5,
    )
    assert answer.status_code == 200, answer.text
    return answer.content, answer.headers["x-correlation-data"].encode()


# -- who answers: return when it is ready --------------------------------------------------------


@contextmanager
def answer_by_mqtt(gateway: GatewayProcess, topic: str) -> Iterator[None]:
    client = PahoClient(f"answerer-{next(_numbers)}")

    def answer(paho: object, data: object, message: object) -> None:
        asked = message.properties  # type: ignore[attr-defined]
        given = publish_properties(CorrelationData=asked.CorrelationData)
        client.client.publish(asked.ResponseTopic, b"to " + message.payload, 1, properties=given)  # type: ignore[attr-defined]

    client.client.on_message = answer
    with client.open(gateway.mqtt_port):
        client.subscribe(topic, 1)
        yield


@contextmanager
def answer_by_amqp(gateway: GatewayProcess, topic: str) -> Iterator[None]:
    """As RabbitMQ's own tutorial has it."""
    connection = amqp(gateway)
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", topic.replace("/", "."))

    def answer(
        channel: Channel,
        method: pika.spec.Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        given = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", properties.reply_to, b"to " + body, given)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, answer)
    thread = threading.Thread(target=channel.start_consuming)
    thread.start()
    try:
        yield
    finally:
        connection.add_callback_threadsafe(channel.stop_consuming)
        thread.join(SECONDS)
        connection.close()


@contextmanager
def answer_by_http(gateway: GatewayProcess, topic: str) -> Iterator[None]:
    name = f"asked-{next(_numbers)}"
    url = f"{gateway.url}/v1/queues/{name}"
    put(url, json={"bindings": [topic]}).raise_for_status()

    def answer() -> None:
        found = post(f"{url}/receive?wait={SECONDS}", timeout=SECONDS + 5).json()["deliveries"]
        for delivery in found:
            properties = delivery["properties"]
            correlation = properties.get("correlation", "").encode()
            post(
                f"{gateway.url}/v1/topics/{quote(properties['reply_to'])}",
                content=b"to " + delivery["body"].encode(),
                headers={"X-Correlation-Data": "base64:" + base64.b64encode(correlation).decode()},
            ).raise_for_status()
            post(f"{gateway.url}/v1/deliveries/{delivery['id']}/ack").raise_for_status()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        thread.join(SECONDS)


ASKERS: dict[str, Callable[[GatewayProcess, str], Answer]] = {
    "mqtt": ask_by_mqtt,
    "mqtt response information": ask_by_mqtt_response_information,
    "amqp exclusive queue": ask_by_exclusive_queue,
    "amqp direct reply-to": ask_by_direct_reply,
    "http": ask_by_http,
}
ANSWERERS = {"mqtt": answer_by_mqtt, "amqp": answer_by_amqp, "http": answer_by_http}


@pytest.mark.parametrize("answerer", ANSWERERS)
@pytest.mark.parametrize("asker", ASKERS)
def test_every_door_asks_every_door(door: GatewayProcess, asker: str, answerer: str) -> None:
    topic = f"service/{next(_numbers)}"
    with ANSWERERS[answerer](door, topic):
        assert ASKERS[asker](door, topic) == (b"to ask", b"c-1")


def test_a_queue_is_asked_too(door: GatewayProcess) -> None:
    topic = f"service/{next(_numbers)}"
    with answer_by_http(door, topic):
        queues = get(f"{door.url}/v1/queues").json()["queues"]
        (name,) = (queue["name"] for queue in queues if topic in queue["bindings"])
        answer = post(f"{door.url}/v1/queues/{name}/request", content=b"ask", timeout=SECONDS)
    assert (answer.status_code, answer.content) == (200, b"to ask")


def test_nobody_is_there_and_nobody_answers(door: GatewayProcess) -> None:
    nobody = post(f"{door.url}/v1/topics/nobody/request", content=b"?", timeout=SECONDS)
    assert (nobody.status_code, nobody.json()["type"]) == (504, "/docs#no-answer")
    put(f"{door.url}/v1/queues/silent", json={"bindings": ["silence"]}).raise_for_status()
    silent = post(f"{door.url}/v1/topics/silence/request?timeout=0.2", content=b"?", timeout=SECONDS)
    assert (silent.status_code, silent.json()["type"]) == (504, "/docs#no-answer")
    received = post(f"{door.url}/v1/queues/silent/receive").json()
    assert received["deliveries"] == [], "it expires with the request"


def test_what_comes_too_late_reaches_nobody(door: GatewayProcess) -> None:
    put(f"{door.url}/v1/queues/late", json={"bindings": ["late"]}).raise_for_status()
    url = f"{door.url}/v1/topics/late/request?timeout=0.3&ttl=60"
    assert post(url, content=b"?", timeout=SECONDS).status_code == 504
    with pytest.raises(httpx.ReadTimeout):  # the client leaves
        post(f"{door.url}/v1/topics/late/request?timeout=30", content=b"?", timeout=0.3)
    found = post(f"{door.url}/v1/queues/late/receive?max=2").json()["deliveries"]
    assert len(found) == 2

    def answer(address: str) -> bool:
        given = post(f"{door.url}/v1/topics/{quote(address)}", content=b"late").json()
        return bool(given["subscribers"])

    wait_for(lambda: not any(answer(one["properties"]["reply_to"]) for one in found), what="no taker")


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("timeout=0", {}, 422),
        ("timeout=61", {}, 422),
        ("timeout=nan", {}, 422),
        ("timeout=soon", {}, 422),
        ("timeout=", {}, 422),
        ("retain=true", {}, 422),
        ("wait=1", {}, 422),
        ("", {"Idempotency-Key": "k"}, 400),
    ],
)
def test_what_is_no_request(door: GatewayProcess, query: str, headers: dict[str, str], status: int) -> None:
    answer = post(f"{door.url}/v1/topics/t/request?{query}", content=b"x", headers=headers)
    assert answer.status_code == status


# -- rights -----------------------------------------------------------------------------------------

HOUSE = """
[users.asker]
password = '{hash}'
publish = ["ask/#"]
[users.answerer]
password = '{hash}'
subscribe = ["ask/#"]
[users.nosy]
password = '{hash}'
subscribe = ["#", "$reply/#", "+/#"]
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory: Path = tmp_path_factory.mktemp("house")
    path = directory / "gateway.toml"
    path.write_text(HOUSE.format(hash=hash_password("pass")))
    process = GatewayProcess(directory / "data", dev=False, config=path).start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


def user(name: str, client: PahoClient) -> PahoClient:
    client.client.username_pw_set(name, "pass")
    return client


def test_an_address_is_all_that_an_answer_needs(house: GatewayProcess) -> None:
    """Who answers may publish nowhere; who asks may subscribe to nothing."""
    answerer = user("answerer", PahoClient("answerer"))

    def answer(paho: object, data: object, message: object) -> None:
        given = publish_properties(CorrelationData=message.properties.CorrelationData)  # type: ignore[attr-defined]
        topic = message.properties.ResponseTopic  # type: ignore[attr-defined]
        answerer.client.publish(topic, b"answer", 1, properties=given)

    answerer.client.on_message = answer
    asker = user("asker", PahoClient("asker", connect={"RequestResponseInformation": 1}))
    with answerer.open(house.mqtt_port), asker.open(house.mqtt_port):
        assert answerer.subscribe("ask/#", 1) == [1]
        asked = post(
            f"{house.url}/v1/topics/ask/1/request", content=b"?", auth=("asker", "pass"), timeout=SECONDS
        )
        assert (asked.status_code, asked.content) == (200, b"answer")
        own = asker.connack.ResponseInformation
        assert asker.subscribe(f"{own}/#", 1) == [1]
        given = publish_properties(ResponseTopic=f"{own}/2", CorrelationData=b"c")
        asker.publish("ask/2", b"?", 1, properties=given)
        assert asker.messages.get(timeout=SECONDS).payload == b"answer"
        credentials = pika.PlainCredentials("asker", "pass")
        parameters = pika.ConnectionParameters("127.0.0.1", house.amqp_port, credentials=credentials)
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            assert _ask_by_amqp(channel, "ask/3", "amq.rabbitmq.reply-to") == (b"answer", b"c-1")


def test_an_address_is_no_way_in(house: GatewayProcess) -> None:
    nosy = user("nosy", PahoClient("nosy"))
    asker = user("asker", PahoClient("asker2", connect={"RequestResponseInformation": 1}))
    with nosy.open(house.mqtt_port), asker.open(house.mqtt_port):
        own = asker.connack.ResponseInformation
        for topic_filter in ("$reply/#", "$reply/+/#", f"{own}/#", own):
            assert nosy.subscribe(topic_filter, 1)[0] >= 0x80, topic_filter
        assert asker.subscribe("$reply/#", 1)[0] >= 0x80
        assert asker.subscribe(f"{own}x/#", 1)[0] >= 0x80
        assert asker.subscribe(own, 1) == [1]
        assert nosy.subscribe("#", 1) == [1]
        nosy.publish("$reply/guess", b"?", 1)
        nosy.publish(own, b"sent", 1)  # whoever was told the address may answer, once they know it
        assert asker.messages.get(timeout=SECONDS).payload == b"sent"
        assert nosy.messages.empty()
    unknown = post(f"{house.url}/v1/topics/$reply/x", content=b"x", auth=("nosy", "pass"))
    assert (unknown.status_code, unknown.json()["subscribers"]) == (200, False)
    refused = post(f"{house.url}/v1/topics/other/request", content=b"x", auth=("asker", "pass"))
    assert refused.status_code == 403
