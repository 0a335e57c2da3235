"""Priorities, expiry and lengths mean the same at every door: each fills a queue, each empties it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import httpx
import pika
import pytest
from websockets.sync.client import connect

from gateway.protocols.coap.numbers import POST
from gateway.rocketmq.numbers import Code, MessageType
from tests.coap_client import CoapClient
from tests.interop.paho_client import PahoClient, publish_properties
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket, new_id

pytestmark = pytest.mark.interop
_numbers = count()
#: There is no TLS, and to read the certificates for it takes longer than a request.
get, post, put = (partial(getattr(httpx, name), verify=False) for name in ("get", "post", "put"))
SECONDS = 10.0


class Given(NamedTuple):
    """What is published; seconds until it expires, 0: never."""

    body: str
    priority: int | None = None
    expires: int = 0


class Got(NamedTuple):
    """What is read: seconds until it expires, at most; None: it does not."""

    body: str
    priority: int | None
    expires: float | None


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("limits"))
    process.start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


def declare(gateway: RocketGateway, **policy: Any) -> str:
    name = f"q{next(_numbers)}"
    put(f"{gateway.url}/v1/queues/{name}", json={"policy": policy}).raise_for_status()
    return name


def depth(gateway: RocketGateway, name: str) -> int:
    return int(get(f"{gateway.url}/v1/queues/{name}").json()["depth"])


# -- writing: return which of them were accepted -----------------------------------------------------


def write_mqtt(gateway: RocketGateway, name: str, messages: Sequence[Given]) -> list[bool]:
    found = []
    with PahoClient(f"writer-{next(_numbers)}").open(gateway.mqtt_port) as client:
        for one in messages:
            values: dict[str, Any] = {"MessageExpiryInterval": one.expires} if one.expires else {}
            if one.priority is not None:
                values["UserProperty"] = [("$priority", str(one.priority))]
            reason = client.publish(f"$queue/{name}", one.body, 1, properties=publish_properties(**values))
            found.append(reason < 0x80)
    return found


def write_amqp(gateway: RocketGateway, name: str, messages: Sequence[Given]) -> list[bool]:
    found = []
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for one in messages:
            expiration = str(one.expires * 1000) if one.expires else None
            properties = pika.BasicProperties(priority=one.priority, expiration=expiration, delivery_mode=2)
            try:
                channel.basic_publish("", name, one.body.encode(), properties)
                found.append(True)
            except pika.exceptions.NackError:
                found.append(False)
    return found


def write_http(gateway: RocketGateway, name: str, messages: Sequence[Given]) -> list[bool]:
    found = []
    for one in messages:
        query = {"ttl": one.expires} if one.expires else {}
        headers = {} if one.priority is None else {"X-Priority": str(one.priority)}
        url = f"{gateway.url}/v1/queues/{name}/messages"
        answer = post(url, params=query, headers=headers, content=one.body.encode())
        assert answer.status_code in (200, 429)
        found.append(answer.status_code == 200)
    return found


def write_batch(gateway: RocketGateway, name: str, messages: Sequence[Given]) -> list[bool]:
    found = []
    for one in messages:
        answer = post(f"{gateway.url}/v1/topics/$queue/{name}/batch", json=_line(one))
        assert answer.status_code in (200, 429)
        found.append(answer.status_code == 200)
    return found


def write_websocket(gateway: RocketGateway, name: str, messages: Sequence[Given]) -> list[bool]:
    found = []
    with connect(gateway.url.replace("http", "ws") + "/v1/ws") as socket:
        for one in messages:
            socket.send(json.dumps({"op": "publish", "topic": f"$queue/{name}", **_line(one)}))
            found.append(json.loads(socket.recv(SECONDS))["op"] == "published")
    return found


def write_coap(gateway: RocketGateway, name: str, messages: Sequence[Given]) -> list[bool]:
    """In an envelope, which has room for a priority."""
    found = []
    with CoapClient(gateway.coap_port) as client:
        for one in messages:
            answer = client.request(POST, f"/queues/{name}", json.dumps(_line(one)).encode(), ("meta=1",))
            assert answer.code in ("2.04", "5.03"), answer
            found.append(answer.code == "2.04")
    return found


def write_rocketmq(gateway: RocketGateway, name: str, messages: Sequence[Given]) -> list[bool]:
    found = []
    with RawRocket(gateway.endpoints, f"writer-{next(_numbers)}") as client:
        for one in messages:
            system: dict[str, Any] = {"message_id": new_id(), "message_type": MessageType.NORMAL}
            if one.priority is not None:
                system |= {"priority": one.priority, "message_type": MessageType.PRIORITY}
            message = {"topic": {"name": f"%24queue%2F{name}"}, "body": one.body.encode()}
            users = {"$ttl": str(one.expires)} if one.expires else {}
            message |= {"system_properties": system, "user_properties": users}
            code = client.code("SendMessage", messages=[message])
            assert code in (Code.OK, Code.TOO_MANY_REQUESTS)
            found.append(code == Code.OK)
    return found


def _line(one: Given) -> dict[str, Any]:
    line: dict[str, Any] = {"body": one.body}
    if one.priority is not None:
        line["priority"] = one.priority
    if one.expires:
        line["ttl"] = one.expires
    return line


# -- reading ------------------------------------------------------------------------------------------


def read_mqtt(gateway: RocketGateway, name: str, wanted: int) -> list[Got]:
    found = []
    with PahoClient(f"reader-{next(_numbers)}").open(gateway.mqtt_port) as client:
        client.subscribe(f"$queue/{name}", 1)
        for _ in range(wanted):
            message = client.messages.get(timeout=SECONDS)
            pairs = dict(getattr(message.properties, "UserProperty", []))
            priority = int(pairs["$priority"]) if "$priority" in pairs else None
            expires = getattr(message.properties, "MessageExpiryInterval", None)
            found.append(Got(message.payload.decode(), priority, expires))
    return found


def read_amqp(gateway: RocketGateway, name: str, wanted: int) -> list[Got]:
    found = []
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)) as connection:
        channel = connection.channel()
        for _ in range(wanted):
            _, properties, body = channel.basic_get(name, auto_ack=True)
            assert properties is not None, "there is no more"
            expires = None if properties.expiration is None else int(properties.expiration) / 1000
            found.append(Got(body.decode(), properties.priority, expires))
    return found


def read_coap(gateway: RocketGateway, name: str, wanted: int) -> list[Got]:
    found = []
    with CoapClient(gateway.coap_port) as client:
        for _ in range(wanted):
            answer = client.request(POST, f"/queues/{name}/receive", b"", ("ack=auto", "meta=1"))
            assert answer.code == "2.01", answer
            one = json.loads(answer.payload)
            found.append(Got(one["body"], one.get("priority"), one.get("ttl")))
    return found


def read_http(gateway: RocketGateway, name: str, wanted: int) -> list[Got]:
    url = f"{gateway.url}/v1/queues/{name}/receive?max={max(wanted, 1)}"
    found = []
    now_ms = time.time() * 1000
    for one in post(url).json()["deliveries"]:
        expires = (one["expires_at"] - now_ms) / 1000 if "expires_at" in one else None
        found.append(Got(one["body"], one.get("properties", {}).get("priority"), expires))
        post(f"{gateway.url}/v1/deliveries/{one['id']}/ack").raise_for_status()
    assert len(found) == wanted
    return found


def read_rocketmq(gateway: RocketGateway, name: str, wanted: int) -> list[Got]:
    found: list[Got] = []
    topic = f"%24queue%2F{name}"
    with RawRocket(gateway.endpoints, f"reader-{next(_numbers)}") as client:
        messages = client.receive("any", topic, max(wanted, 1))
        for one in messages:
            system, expires = one.system_properties, one.user_properties.get("$ttl")
            priority = system.priority if system.HasField("priority") else None
            found.append(Got(one.body.decode(), priority, None if expires is None else float(expires)))
        client.ack("any", topic, *messages)
    assert len(found) == wanted
    return found


Write = Callable[[RocketGateway, str, Sequence[Given]], list[bool]]
Read = Callable[[RocketGateway, str, int], list[Got]]
WRITERS: dict[str, Write] = {
    "mqtt": write_mqtt,
    "amqp": write_amqp,
    "http": write_http,
    "batch": write_batch,
    "websocket": write_websocket,
    "coap": write_coap,
    "rocketmq": write_rocketmq,
}
READERS: dict[str, Read] = {
    "mqtt": read_mqtt,
    "amqp": read_amqp,
    "http": read_http,
    "coap": read_coap,
    "rocketmq": read_rocketmq,
}
every_writer = pytest.mark.parametrize("writer", WRITERS)
#: Each of them fills for one, each of them empties after one; the queue in between knows neither.
PAIRS = [("mqtt", "amqp"), ("mqtt", "http"), ("amqp", "mqtt"), ("amqp", "amqp"), ("http", "mqtt")]
every_pair = pytest.mark.parametrize(
    ("writer", "reader"),
    [
        *PAIRS,
        ("http", "http"),
        ("batch", "amqp"),
        ("websocket", "mqtt"),
        ("coap", "coap"),
        ("coap", "amqp"),
        ("http", "coap"),
        ("rocketmq", "rocketmq"),
        ("rocketmq", "amqp"),
        ("mqtt", "rocketmq"),
    ],
)


@every_pair
def test_priorities(door: RocketGateway, writer: str, reader: str) -> None:
    """Higher first, in order among equals; what is over the queue's greatest is as good as that."""
    name = declare(door, max_priority=5)
    given = [Given(f"{n}", priority) for n, priority in enumerate((1, 5, None, 9, 0, 3, 255, 5))]
    assert all(WRITERS[writer](door, name, given))
    found = READERS[reader](door, name, len(given))
    assert [one.body for one in found] == ["1", "3", "6", "7", "5", "0", "2", "4"]
    assert {one.body: one.priority for one in found} == {one.body: one.priority for one in given}
    plain = declare(door)
    assert all(WRITERS[writer](door, plain, given))
    assert [one.body for one in READERS[reader](door, plain, len(given))] == [one.body for one in given]


@every_pair
def test_what_is_left_until_it_expires(door: RocketGateway, writer: str, reader: str) -> None:
    name = declare(door)
    assert all(WRITERS[writer](door, name, [Given("never"), Given("later", expires=100)]))
    never, later = READERS[reader](door, name, 2)
    assert (never.body, never.expires, later.body) == ("never", None, "later")
    assert later.expires is not None
    assert 60 < later.expires <= 100


@every_writer
def test_what_expires_is_gone_for_every_door(door: RocketGateway, writer: str) -> None:
    """By its own time, or by the queue's: whichever is first. Behind another it goes when its turn comes."""
    dead = declare(door)
    queues = [declare(door, dead_letter=f"$queue/{dead}") for _ in READERS]
    quick = declare(door, ttl_ms=300, dead_letter=f"$queue/{dead}")
    given = [Given("first", expires=1), Given("kept", expires=100), Given("behind", expires=1)]
    for name in queues:
        WRITERS[writer](door, name, given)
    WRITERS[writer](door, quick, [Given("queue's", expires=100)])
    wait_for(lambda: depth(door, dead) == len(queues) + 1, what="the dead letters")
    assert depth(door, quick) == 0
    for read, name in zip(READERS.values(), queues, strict=True):
        assert [one.body for one in read(door, name, 1)] == ["kept"]
    wait_for(lambda: depth(door, dead) == 2 * len(queues) + 1, what="the other dead letters")
    letters = post(f"{door.url}/v1/queues/{dead}/receive?max=100").json()["deliveries"]
    assert {one["headers"]["dead-letter-cause"] for one in letters} == {"expired"}
    assert sorted(one["body"] for one in letters) == ["behind"] * len(READERS) + ["first"] * len(READERS) + [
        "queue's"
    ]


@every_pair
@pytest.mark.parametrize(
    ("overflow", "accepted", "kept", "died"),
    [
        ("drop-head", [True] * 5, ["3", "4", "5"], ["1", "2"]),
        ("reject", [True] * 3 + [False] * 2, ["1", "2", "3"], []),
        ("reject-dead-letter", [True] * 3 + [False] * 2, ["1", "2", "3"], ["4", "5"]),
    ],
)
def test_lengths(
    door: RocketGateway,
    writer: str,
    reader: str,
    overflow: str,
    accepted: list[bool],
    kept: list[str],
    died: list[str],
) -> None:
    dead = declare(door)
    name = declare(door, max_length=3, overflow=overflow, dead_letter=f"$queue/{dead}")
    assert WRITERS[writer](door, name, [Given(str(n)) for n in range(1, 6)]) == accepted
    assert [one.body for one in READERS[reader](door, name, 3)] == kept
    wait_for(lambda: depth(door, dead) == len(died), what="the dead letters")
    assert [one.body for one in READERS[reader](door, dead, len(died))] == died
