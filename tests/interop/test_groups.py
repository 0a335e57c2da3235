"""One group with a member at every door: disjoint messages, and a member that is killed loses none."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pika
import pytest

from tests.interop.group_member import KINDS, Place, Stop, place_of
from tests.interop.paho_client import V311, PahoClient
from tests.process import RocketGateway, wait_for

MESSAGES = 300
PERSISTENT = pika.BasicProperties(delivery_mode=2)  # a transient one MQTT delivers at most once
SHARED, DECLARED = "$share/workers/jobs/#", "jobs"


class Group:
    """Members in threads, and what they were given."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.stop = Stop()
        self.got: dict[str, list[bytes]] = {}
        self.threads: list[threading.Thread] = []

    def join(self, kind: str) -> None:
        """Have one more member, and wait until it is one."""
        mine = self.got[kind] = []
        joined = threading.Event()

        def take(body: bytes) -> bool:
            mine.append(body)
            return True

        thread = threading.Thread(target=KINDS[kind], args=(self.place, take, self.stop, joined), daemon=True)
        thread.start()
        self.threads.append(thread)
        assert joined.wait(10), f"{kind} did not join"

    def bodies(self) -> list[bytes]:
        """Return everything that was received."""
        return [body for bodies in self.got.values() for body in list(bodies)]


@contextmanager
def group_at(place: Place) -> Iterator[Group]:
    group = Group(place)
    try:
        yield group
    finally:
        group.stop.set()
        for thread in group.threads:
            thread.join(10)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path / "data")
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(params=[SHARED, DECLARED])
def place(request: pytest.FixtureRequest, gateway: RocketGateway) -> Place:
    """A shared subscription, or a queue that somebody declared."""
    if request.param == DECLARED:
        wanted = {"bindings": ["jobs/#"]}
        httpx.put(f"{gateway.url}/v1/queues/jobs", json=wanted).raise_for_status()
    return place_of(gateway, request.param)


def publish(place: Place, count: int) -> set[bytes]:
    """Publish through three doors in turn; return the bodies."""
    bodies = [f"{number}".encode() for number in range(count)]
    amqp = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", place.amqp_port))
    with (
        PahoClient("publisher", V311).open(place.mqtt_port) as mqtt,
        httpx.Client(base_url=f"http://127.0.0.1:{place.http_port}") as http,
    ):
        channel = amqp.channel()
        for number, body in enumerate(bodies):
            if number % 3 == 0:
                mqtt.publish("jobs/by/mqtt", body)
            elif number % 3 == 1:
                channel.basic_publish("amq.topic", "jobs.by.amqp", body, PERSISTENT)
            else:
                http.post("/v1/topics/jobs/by/http", content=body).raise_for_status()
        channel.close()
    amqp.close()
    return set(bodies)


def test_members_at_every_door_share_the_work(place: Place) -> None:
    with group_at(place) as group:
        for kind in KINDS:
            group.join(kind)
        wanted = publish(place, MESSAGES)
        wait_for(lambda: len(group.bodies()) >= MESSAGES, 20)
        assert Counter(group.bodies()) == Counter(wanted), "each once, by one of them"
        assert all(group.got.values()), {kind: len(bodies) for kind, bodies in group.got.items()}


@pytest.mark.parametrize("victim", list(KINDS))
def test_a_member_that_is_killed_loses_nothing(place: Place, victim: str) -> None:
    command = [sys.executable, "-m", "tests.interop.group_member", victim, *map(str, place[:-1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            depth = f"http://127.0.0.1:{place.http_port}/v1/queues"
            wait_for(lambda: _consumers(depth, place.queue) or victim == "http", 10, "the victim's joining")
            with group_at(place) as group:
                for kind in KINDS:
                    if kind != victim:
                        group.join(kind)
                wanted = publish(place, MESSAGES)
                assert process.stdout is not None
                held = {process.stdout.readline().strip().encode()}
                process.kill()
                held |= {line.strip().encode() for line in process.stdout}
                assert held <= wanted
                wait_for(lambda: wanted <= set(group.bodies()), 60, "the redelivery")
                assert held <= set(group.bodies())
                assert Counter(group.bodies()) == Counter(wanted), "none twice, as it settled none"
        finally:
            process.kill()


def _consumers(url: str, queue: str) -> int:
    shown = httpx.get(f"{url}/{queue.replace('/', '%2F').replace('#', '%23')}")
    return int(shown.json()["consumers"]) if shown.status_code == 200 else 0
