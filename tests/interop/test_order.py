"""Ordering keys with clients nobody here wrote, in one group; an operator; a cursor for each instance."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pika
import pytest
from paho.mqtt.packettypes import PacketTypes

from gateway.rocketmq.names import escape
from gateway.rocketmq.numbers import Code, MessageType
from tests.cli.test_commands import good, run
from tests.interop.group_member import KINDS, Stop, place_of
from tests.interop.paho_client import PahoClient, properties, publish_properties
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket

KEYS, EACH = 6, 40
DOORS = ("mqtt", "amqp", "http", "rocketmq")
POLLING = ("http", "rocketmq", "rocketmq-node")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(Path(tmp_path_factory.mktemp("order")) / "data")
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def http(running: RocketGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=10) as client:
        yield client


class Publisher:
    """Publishes with a key by any door."""

    def __init__(self, gateway: RocketGateway) -> None:
        self.http = httpx.Client(base_url=gateway.url, timeout=10)
        self.mqtt = PahoClient("publisher").open(gateway.mqtt_port)
        self.amqp = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port))
        self.channel = self.amqp.channel()
        self.channel.confirm_delivery()
        self.rocket = RawRocket(gateway.endpoints, "publisher")

    def publish(self, door: str, topic: str, key: str, body: str) -> None:
        if door == "mqtt":
            self.mqtt.publish(
                topic, body.encode(), 1, properties=publish_properties(UserProperty=[("$key", key)])
            )
        elif door == "amqp":
            made = pika.BasicProperties(delivery_mode=2, headers={"$key": key})
            self.channel.basic_publish("amq.topic", topic.replace("/", "."), body.encode(), made)
        elif door == "rocketmq":
            made = {"message_type": MessageType.FIFO, "message_group": key}
            assert self.rocket.send(escape(topic), body.encode(), **made).status.code == Code.OK
        else:
            answer = self.http.post(f"/v1/topics/{topic}", content=body, headers={"X-Key": key})
            answer.raise_for_status()

    def close(self) -> None:
        self.http.close()
        self.mqtt.close()
        self.amqp.close()
        self.rocket.close()


@pytest.fixture
def publisher(running: RocketGateway) -> Iterator[Publisher]:
    made = Publisher(running)
    yield made
    made.close()


class Watch:
    """What all members took, and whether two had one key at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: dict[str, list[int]] = defaultdict(list)
        self.active: dict[str, int] = defaultdict(int)
        self.together = 0
        self.members: set[int] = set()
        self.begin = threading.Event()  # until then everybody holds what it has got first

    def take(self, body: bytes) -> bool:
        assert self.begin.wait(30)
        key, number = body.decode().split(":")
        with self.lock:
            self.together += self.active[key]
            self.active[key] += 1
            self.seen[key].append(int(number))
            self.members.add(threading.get_ident())
        with self.lock:
            self.active[key] -= 1
        return True

    def count(self) -> int:
        with self.lock:
            return sum(len(numbers) for numbers in self.seen.values())


def test_members_at_every_door_get_each_key_in_order(running: RocketGateway, publisher: Publisher) -> None:
    place = place_of(running, "$share/ordered/orders/#")
    watch, stop, threads = Watch(), Stop(), []

    def join(kind: str) -> None:
        joined = threading.Event()
        arguments = (place, watch.take, stop, joined)
        threads.append(threading.Thread(target=KINDS[kind], args=arguments, daemon=True))
        threads[-1].start()
        assert joined.wait(10)

    try:
        for kind in KINDS:
            if kind not in POLLING:
                join(kind)
        for number in range(EACH):
            for key in range(KEYS):
                publisher.publish(DOORS[key % len(DOORS)], "orders/new", f"k{key}", f"k{key}:{number}")
        for kind in POLLING:  # their leases run while the others are held back
            join(kind)
        watch.begin.set()
        wait_for(lambda: watch.count() >= KEYS * EACH, 20, "all of it")
    finally:
        watch.begin.set()
        stop.set()
        for thread in threads:
            thread.join(10)
    assert watch.seen == {f"k{key}": list(range(EACH)) for key in range(KEYS)}
    assert not watch.together
    assert len(watch.members) > 1, "they share the work"


def _receive(http: httpx.Client, queue: str, count: int = 10, wait: float = 5, **more: Any) -> list[Any]:
    answer = http.post(f"/v1/queues/{queue}/receive", params={"max": count, "wait": wait, **more})
    found: list[Any] = answer.raise_for_status().json()["deliveries"]
    return found


def _bodies(deliveries: list[Any]) -> list[str]:
    return [delivery["body"] for delivery in deliveries]


def test_an_operator_lists_parks_and_skips(running: RocketGateway, http: httpx.Client) -> None:
    policy = {"retry_delay_ms": 60_000, "dead_letter": "$dead"}
    http.put("/v1/queues/work", json={"policy": policy}).raise_for_status()
    for key in ("a/b", "a/b", "good"):
        http.post("/v1/queues/work/messages", content=key, headers={"X-Key": key}).raise_for_status()
    held = _receive(http, "work")
    assert _bodies(held) == ["a/b", "good"]
    http.post(f"/v1/deliveries/{held[0]['id']}/nack", json={"outcome": "requeue", "delay": 600})
    http.post(f"/v1/deliveries/{held[1]['id']}/ack").raise_for_status()

    def shown(*more: str) -> dict[str, tuple[str, int, int]]:
        keys = json.loads(good("queues", "keys", "work", "--json", "--url", running.url, *more))["keys"]
        return {key["key"]: (key["state"], key["attempts"], key["behind"]) for key in keys}

    assert shown("--failing") == {"a/b": ("delayed", 1, 1)}
    assert "delayed" in good("queues", "keys", "work", "--url", running.url)
    good("queues", "skip", "work", "a/b", "--url", running.url)
    letters = http.get("/v1/queues/%24dead%2Fwork/browse").json()["messages"]
    assert [letter["body"] for letter in letters] == ["a/b"]
    good("queues", "park", "work", "a/b", "--url", running.url)
    for key in ("a/b", "good"):
        http.post("/v1/queues/work/messages", content=key, headers={"X-Key": key}).raise_for_status()
    held = _receive(http, "work")
    assert _bodies(held) == ["good"]
    http.post(f"/v1/deliveries/{held[0]['id']}/ack").raise_for_status()
    running.kill()
    running.start()
    assert shown() == {"a/b": ("parked", 0, 0)}, "nobody has asked for it yet"
    with httpx.Client(base_url=running.url, timeout=10) as again:
        assert _receive(again, "work", wait=0.2) == []
        assert shown() == {"a/b": ("parked", 0, 2)}
        good("queues", "unpark", "work", "a/b", "--url", running.url)
        for _ in range(2):
            (delivery,) = _receive(again, "work")
            again.post(f"/v1/deliveries/{delivery['id']}/ack").raise_for_status()


def test_what_an_operator_asks_wrongly_is_refused(running: RocketGateway) -> None:
    with httpx.Client(base_url=running.url, timeout=10) as http:
        http.put("/v1/queues/plain", json={"policy": {"ordered": False}}).raise_for_status()
        http.put("/v1/queues/log", json={"kind": "stream"}).raise_for_status()
        for method, path, status in (
            ("GET", "nothing/keys", 404),
            ("GET", "plain/keys?group=g", 409),
            ("GET", "log/keys", 409),
            ("GET", "log/keys?group=g", 404),
            ("GET", "plain/keys?limit=0", 422),
            ("POST", "plain/keys/k/park", 409),
            ("POST", "plain/keys/k/unpark", 404),
            ("POST", "plain/keys/k/skip", 404),
            ("POST", "plain/keys/%FF/park", 400),
            ("DELETE", "plain/groups/g", 409),
            ("DELETE", "log/groups/g", 404),
            ("DELETE", "log/groups/%24g", 404),
        ):
            answer = http.request(method, f"/v1/queues/{path}")
            assert answer.status_code == status, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
    assert run("queues", "skip", "plain", "k", "--url", running.url).returncode == 1


def test_what_an_mqtt_client_hangs_on_goes_to_another(running: RocketGateway) -> None:
    with httpx.Client(base_url=running.url, timeout=10) as http:
        http.put("/v1/queues/leased", json={"policy": {"lease_ms": 300}}).raise_for_status()
        hanging = PahoClient("hanging")
        hanging.client.manual_ack_set(True)
        with hanging.open(running.mqtt_port):
            assert hanging.subscribe("$queue/leased", 1) == [1]
            http.post("/v1/queues/leased/messages", content="x", headers={"X-Key": "k"}).raise_for_status()
            message = hanging.messages.get(timeout=10)
            (delivery,) = _receive(http, "leased", 1, 10)
            assert (delivery["body"], delivery["attempt"]) == ("x", 2)
            http.post(f"/v1/deliveries/{delivery['id']}/extend", json={"lease": 60}).raise_for_status()
            hanging.client.ack(message.mid, message.qos)
            http.post(f"/v1/deliveries/{delivery['id']}/ack").raise_for_status()
            shown = http.get("/v1/queues/leased").json()
            assert (shown["depth"], shown["unsettled"]) == (0, 0)


def test_each_instance_has_a_cursor_that_is_kept(running: RocketGateway) -> None:
    """Broadcast: a stream, read by a group for each instance, whatever its door."""
    with httpx.Client(base_url=running.url, timeout=10) as http:
        http.put("/v1/queues/news", json={"kind": "stream"}).raise_for_status()
        for body in ("1", "2"):
            http.post("/v1/queues/news/messages", content=body).raise_for_status()
        wanted = ["1", "2"]
        assert _all_instances(running, http, start=True) == [wanted] * 3
        groups = {group["name"]: group for group in http.get("/v1/queues/news").json()["groups"]}
        assert {name: group["lag"] for name, group in groups.items()} == {"m": 0, "a": 0, "h": 0}
    running.kill()
    running.start()
    with httpx.Client(base_url=running.url, timeout=10) as http:
        http.post("/v1/queues/news/messages", content="3").raise_for_status()
        assert _all_instances(running, http, start=False) == [["3"]] * 3
        good("queues", "forget", "news", "h", "--url", running.url)
        http.delete("/v1/queues/news/groups/a").raise_for_status()
        assert [group["name"] for group in http.get("/v1/queues/news").json()["groups"]] == ["m"]
    running.kill()
    running.start()
    with httpx.Client(base_url=running.url, timeout=10) as http:
        assert [group["name"] for group in http.get("/v1/queues/news").json()["groups"]] == ["m"]


def _all_instances(running: RocketGateway, http: httpx.Client, start: bool) -> list[list[str]]:
    """Read what is new by an instance at each door."""
    count = 2 if start else 1
    with PahoClient("m", clean=False, expiry=600).open(running.mqtt_port) as client:
        if start:
            user = properties(PacketTypes.SUBSCRIBE, UserProperty=[("start", "earliest")])
            assert client.subscribe("$queue/news", 1, properties=user) == [1]
        by_mqtt = [body.decode() for body in client.bodies(count)]
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", running.amqp_port))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=10)
    by_amqp: list[str] = []
    arguments = {"x-group": "a", "x-stream-offset": "first"}
    for method, _, body in channel.consume("news", arguments=arguments, inactivity_timeout=10):
        assert method is not None, "nothing came"
        by_amqp.append(body.decode())
        channel.basic_ack(method.delivery_tag)
        if len(by_amqp) == count:
            break
    channel.cancel()
    connection.close()
    if start:
        http.post("/v1/queues/news/groups/h/seek", json={"offset": "earliest"}).raise_for_status()
    deliveries = _receive(http, "news", group="h")
    for delivery in deliveries:
        http.post(f"/v1/deliveries/{delivery['id']}/ack").raise_for_status()
    return [by_mqtt, by_amqp, _bodies(deliveries)]
