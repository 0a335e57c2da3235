"""The same selectors over the same messages, published and read at each door: the same set everywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import httpx
import pika
import pytest
from httpx_sse import connect_sse
from paho.mqtt.packettypes import PacketTypes
from websockets.sync.client import connect

from gateway.protocols.coap.numbers import PUT
from gateway.rocketmq.names import escape
from gateway.rocketmq.numbers import Code, FilterType, MessageType
from tests.coap_client import CoapClient
from tests.interop.paho_client import PahoClient, properties, publish_properties
from tests.process import RocketGateway
from tests.rocketmq_raw import RawRocket, new_id

SECONDS_MAX = 20.0
END = "end"

#: What is published: headers, with their types where a door has some; and tag, priority, key.
MESSAGES: list[dict[str, Any]] = [
    {"color": "red", "price": 10, "weight": 1.5, "hot": True, "region": "eu", "$tag": "A", "$priority": 1},
    {"color": "blue", "price": 5, "weight": 2.25, "hot": False, "region": "us", "$tag": "B", "$priority": 9},
    {"color": "red", "price": 100, "region": "us", "note": "50% off", "$key": "k1"},
    {"color": "green", "weight": -3.5, "hot": True, "$tag": "A"},
    {},
    {"price": 9, "color": "RED", "note": "", "$key": "k2", "$tag": "C"},
]

#: selector, language, the messages that it takes
SELECTORS: list[tuple[str, str, set[int]]] = [
    ("price > 9", "sql", {0, 2}),
    ("price = '10' OR price = 9.0", "sql", {0, 5}),
    ("price > '9' AND price <> 100", "sql", {0}),
    ("color = 'red' AND NOT hot", "sql", set()),
    ("NOT hot OR weight < 0", "sql", {1, 3}),
    ("hot = TRUE", "sql", {0, 3}),
    ("color <> 'red'", "sql", {1, 3, 5}),
    ("color IS NULL", "sql", {4}),
    ("price BETWEEN 5 AND 10 AND region IN ('eu', 'asia')", "sql", {0}),
    ("price NOT IN (5, 10)", "sql", {2, 5}),
    ("price LIKE '1%'", "sql", {0, 2}),
    ("note LIKE '%!%%' ESCAPE '!' OR note = ''", "sql", {2, 5}),
    ("color STARTSWITH 'r' OR color CONTAINS 'lu'", "sql", {0, 1, 2}),
    ("price * 2 - 1 > 15 AND weight / 0 IS NULL", "sql", {0, 2, 5}),
    ("color > 5 OR price > 'x'", "sql", set()),
    ("priority > 5 OR key LIKE 'k_ at %'", "sql", {1, 2, 5}),
    ("topic LIKE 'p/%' AND TAGS = 'A' AND \"weight\" IS NOT NULL", "sql", {0, 3}),
    ("A || C", "tags", {0, 3, 5}),
]
ATTRIBUTES = {"$tag", "$priority", "$key"}
#: The same as RocketMQ's fields, and what they make of a message.
FIELDS = {"$tag": "tag", "$priority": "priority", "$key": "message_group"}
TYPES = {"$priority": MessageType.PRIORITY, "$key": MessageType.FIFO}


def text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


# -- publishing -------------------------------------------------------------------------------


def publish_by_mqtt(gateway: RocketGateway, headers: dict[str, Any], body: str, topic: str) -> None:
    with PahoClient(f"publisher-{body}").open(gateway.mqtt_port) as client:
        pairs = [(name, text(value)) for name, value in headers.items()]
        client.publish(topic, body, 1, properties=publish_properties(UserProperty=pairs))


def publish_by_amqp(gateway: RocketGateway, headers: dict[str, Any], body: str, topic: str) -> None:
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        table = {
            name: Decimal(str(value)) if isinstance(value, float) else value  # pika has no floats
            for name, value in headers.items()
            if name != "$priority"
        }
        made = pika.BasicProperties(headers=table, priority=headers.get("$priority"))
        channel.basic_publish("amq.topic", topic.replace("/", "."), body.encode(), made)


def publish_by_http(gateway: RocketGateway, headers: dict[str, Any], body: str, topic: str) -> None:
    sent: dict[str, str] = {}
    for name, value in headers.items():
        if name in ATTRIBUTES:
            sent[f"x-{name[1:]}"] = text(value)
        else:
            sent[f"x-property-{name}"] = value if isinstance(value, str) else "json:" + json.dumps(value)
    httpx.post(f"{gateway.url}/v1/topics/{topic}", content=body, headers=sent).raise_for_status()


def publish_by_coap(gateway: RocketGateway, headers: dict[str, Any], body: str, topic: str) -> None:
    envelope = {"body": body} | {name[1:]: value for name, value in headers.items() if name in ATTRIBUTES}
    envelope["headers"] = [[name, value] for name, value in headers.items() if name not in ATTRIBUTES]
    with CoapClient(gateway.coap_port) as client:
        answer = client.request(PUT, f"/ps/{topic}", json.dumps(envelope).encode(), ("meta=1",))
        assert answer.code in ("2.01", "2.04"), answer


def publish_by_rocketmq(gateway: RocketGateway, headers: dict[str, Any], body: str, topic: str) -> None:
    fields = {FIELDS[name]: value for name, value in headers.items() if name in FIELDS}
    fields["message_type"] = next(
        (kind for name, kind in TYPES.items() if name in headers), MessageType.NORMAL
    )
    users = {name: text(value) for name, value in headers.items() if name not in FIELDS}
    message = {
        "topic": {"name": escape(topic)},
        "body": body.encode(),
        "user_properties": users,
        "system_properties": {"message_id": new_id(), **fields},
    }
    with RawRocket(gateway.endpoints) as client:
        answer = client.call("SendMessage", messages=[message])
        assert answer.status.code == Code.OK, answer


PUBLISHERS = {
    "mqtt": publish_by_mqtt,
    "amqp": publish_by_amqp,
    "http": publish_by_http,
    "coap": publish_by_coap,
    "rocketmq": publish_by_rocketmq,
}


# -- reading: a reader subscribes when it is made, and returns all bodies until the last -----------


def last_too(selector: str, language: str) -> tuple[str, str]:
    """Have a selector take the last message as well, so that it is known when everything has come."""
    if language == "tags":
        return f"{selector} || {END}", language
    return f"({selector}) OR tag = '{END}'", language


class Readers:
    """All readers of one selector, at every door."""

    def __init__(
        self, gateway: RocketGateway, http: httpx.Client, channel: Any, number: int, opened: ExitStack
    ) -> None:
        self.gateway, self.http, self.channel, self.number = gateway, http, channel, number
        self.open = opened  # what is to be closed at the end
        selector, language, _ = SELECTORS[number]
        self.text, self.language = last_too(selector, language)
        self.query = {"selector": self.text, "selector_language": self.language}
        self.arguments = {"x-filter": self.text, "x-filter-language": self.language}
        self.found: dict[str, list[str]] = {}
        self._mqtt()
        self._amqp()
        self._sse()
        self._websocket()
        self._queue()
        self._coap()
        self._rocketmq()

    def _mqtt(self) -> None:
        client = PahoClient(f"reader-{self.number}", expiry=60).open(self.gateway.mqtt_port)
        self.client = self.open.enter_context(client)
        doors = [("p/#", "subscribe"), (f"$share/m{self.number}/p/#", "$share"), ("$queue/s", "$queue")]
        for identifier, (topic_filter, name) in enumerate(doors, 1):
            asked = properties(
                PacketTypes.SUBSCRIBE,
                UserProperty=[
                    ("filter", self.text),
                    ("filter-language", self.language),
                    ("group", f"m{self.number}"),
                ],
                SubscriptionIdentifier=identifier,
            )
            assert client.subscribe(topic_filter, 1, properties=asked) == [1]
            self.found[f"mqtt {name}"] = []

    def read_mqtt(self) -> None:
        names = {1: "mqtt subscribe", 2: "mqtt $share", 3: "mqtt $queue"}
        ended = 0
        while ended < 3:
            message = self.client.receive()
            assert message.properties is not None
            (identifier,) = message.properties.SubscriptionIdentifier
            self.found[names[identifier]].append(message.payload.decode())
            ended += message.payload == END.encode()

    def _amqp(self) -> None:
        channel, queue = self.channel, f"a{self.number}"
        channel.queue_declare(queue)
        channel.queue_bind(queue, "amq.topic", "p.#", self.arguments)
        share = f"$share/a{self.number}/p/#"
        self._consume("amqp bind", queue, {})
        self._consume("amqp stream", "s", {"x-stream-offset": "first", **self.arguments})
        self._consume("amqp $share", share, self.arguments)

    def _consume(self, name: str, queue: str, arguments: dict[str, Any]) -> None:
        got = self.found[name] = []

        def take(channel: Any, method: Any, made: Any, body: bytes) -> None:
            got.append(body.decode())
            channel.basic_ack(method.delivery_tag)

        self.channel.basic_consume(queue, take, arguments=arguments)

    def read_amqp(self, connection: Any) -> None:
        for name in ("amqp bind", "amqp stream", "amqp $share"):
            for _ in range(int(SECONDS_MAX * 10)):
                if END in self.found[name]:
                    break
                connection.process_data_events(0.1)
            assert END in self.found[name], name

    def _sse(self) -> None:
        got = self.found["http sse"] = []
        ready = threading.Event()
        params = {"filter": "p/#", **self.query}

        def read() -> None:
            with (
                httpx.Client(base_url=self.gateway.url, timeout=SECONDS_MAX) as client,
                connect_sse(client, "GET", "/v1/subscribe", params=params) as source,
            ):
                ready.set()
                for event in source.iter_sse():
                    if event.data:
                        got.append(json.loads(event.data)["body"])
                        if got[-1] == END:
                            return

        self.thread = threading.Thread(target=read, daemon=True)
        self.thread.start()
        assert ready.wait(SECONDS_MAX)

    def _websocket(self) -> None:
        self.socket = self.open.enter_context(connect(f"ws://127.0.0.1:{self.gateway.http_port}/v1/ws"))
        self.socket.send(json.dumps({"op": "subscribe", "filter": "p/#", **self.query}))
        assert json.loads(self.socket.recv(SECONDS_MAX))["op"] == "subscribed"

    def read_websocket(self) -> None:
        got = self.found["http websocket"] = []
        while END not in got:
            got.append(json.loads(self.socket.recv(SECONDS_MAX))["body"])

    def _coap(self) -> None:
        """An observer can say SQL alone."""
        if self.language != "sql":
            return
        self.observer = self.open.enter_context(CoapClient(self.gateway.coap_port))
        query = ("filter=p/#", "qos=1", f"selector={self.text}")
        self.token = self.observer.observe("/ps", query).token

    def read_coap(self) -> None:
        if self.language != "sql":
            return
        got = self.found["coap observe"] = []
        while END not in got:
            got.append(self.observer.receive(self.token, SECONDS_MAX).payload.decode())

    def _rocketmq(self) -> None:
        self.rocket = self.open.enter_context(RawRocket(self.gateway.endpoints, f"reader-{self.number}"))
        self.filter = {"filter": self.text, "sql": self.language == "sql"}
        assert self.rocket.receive(f"r{self.number}", "p%2F%23", **self.filter) == []  # the group is there

    def read_rocketmq(self) -> None:
        got = self.found["rocketmq group"] = []
        while END not in got:
            messages = self.rocket.receive(f"r{self.number}", "p%2F%23", wait=5, **self.filter)
            assert messages, got
            got += [message.body.decode() for message in messages]
            self.rocket.ack(f"r{self.number}", "p%2F%23", *messages)
        kind = FilterType.SQL if self.language == "sql" else FilterType.TAG
        pulled = self.rocket.stream(
            "PullMessage",
            group={"name": "anybody"},
            message_queue={"topic": {"name": "%24queue%2Fs"}},
            batch_size=1000,
            filter_expression={"type": kind, "expression": self.text},
        )
        bodies = [answer.message.body for answer in pulled if answer.HasField("message")]
        self.found["rocketmq pull"] = [body.decode() for body in bodies]

    def _queue(self) -> None:
        bindings = [{"filter": "p/#", **self.query}]
        self.http.put(f"/v1/queues/h{self.number}", json={"bindings": bindings}).raise_for_status()

    def read_http(self) -> None:
        self.http.post(f"/v1/queues/s/groups/h{self.number}/seek", json={"offset": 0}).raise_for_status()
        self._receive("http binding", f"h{self.number}", {})
        self._receive("http receive", "s", {"group": f"h{self.number}", **self.query})

    def _receive(self, name: str, queue: str, params: dict[str, str]) -> None:
        got = self.found[name] = []
        while END not in got:
            params = {**params, "max": "100", "wait": "5"}
            answer = self.http.post(f"/v1/queues/{queue}/receive", params=params)
            deliveries = answer.raise_for_status().json()["deliveries"]
            assert deliveries, f"{name}: {got}"
            for delivery in deliveries:
                got.append(delivery["body"])
                self.http.post(f"/v1/deliveries/{delivery['id']}/ack").raise_for_status()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("parity") / "data")
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module")
def found(gateway: RocketGateway) -> Iterator[list[dict[str, list[str]]]]:
    """What each reader of each selector has got."""
    with (
        httpx.Client(base_url=gateway.url, timeout=SECONDS_MAX) as http,
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)) as connection,
        ExitStack() as opened,
    ):
        http.put("/v1/queues/s", json={"kind": "stream", "bindings": ["p/#"]}).raise_for_status()
        channel = connection.channel()
        channel.basic_qos(prefetch_count=50)
        readers = [Readers(gateway, http, channel, number, opened) for number in range(len(SELECTORS))]
        for index, headers in enumerate(MESSAGES):
            for door, publish in PUBLISHERS.items():
                if "$key" in headers:  # of one key one is out at a time: the last would overtake the others
                    headers = {**headers, "$key": f"{MESSAGES[index]['$key']} at {door}"}
                publish(gateway, headers, f"{door}-{index}", f"p/{index}")
        publish_by_http(gateway, {"$tag": END}, END, "p/end")
        for reader in readers:
            reader.read_mqtt()
            reader.read_amqp(connection)
            reader.read_websocket()
            reader.read_http()
            reader.read_coap()
            reader.read_rocketmq()
            reader.thread.join(SECONDS_MAX)
            assert not reader.thread.is_alive()
        yield [reader.found for reader in readers]


@pytest.mark.parametrize("number", range(len(SELECTORS)), ids=[selector for selector, _, _ in SELECTORS])
def test_a_selector_takes_the_same_messages_at_every_door(
    found: list[dict[str, list[str]]], number: int
) -> None:
    _, language, taken = SELECTORS[number]
    expected = sorted([END, *(f"{door}-{index}" for door in PUBLISHERS for index in taken)])
    assert {name: sorted(bodies) for name, bodies in found[number].items()} == dict.fromkeys(
        (
            "mqtt subscribe",
            "mqtt $share",
            "mqtt $queue",
            "amqp bind",
            "amqp stream",
            "amqp $share",
            "http sse",
            "http websocket",
            "http binding",
            "http receive",
            "rocketmq group",
            "rocketmq pull",
            *(["coap observe"] if language == "sql" else []),
        ),
        expected,
    )
