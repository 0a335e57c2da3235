"""A real gateway under mixed load that is killed again and again; the history is a file, with a verdict.

    GATEWAY_TEST_KILLS=200 make test ARGS=tests/chaos/test_process.py     for an hour

A failing run says where its history is; `python -m tests.chaos.checker FILE` reads it again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from gateway.protocols.mqtt.encoder import encode_ack, encode_publish
from gateway.protocols.mqtt.packets import PUBACK, Ack, Publish
from tests.chaos.checker import check
from tests.chaos.history import History
from tests.mqtt_client import V5, MqttClient
from tests.process import GatewayProcess, wait_for

KILLS = int(os.environ.get("GATEWAY_TEST_KILLS", "4"))
QUEUES = ["session", "jobs", "all/replay"]
WINDOW = 100
GONE = (OSError, httpx.HTTPError, AssertionError)  # what a client sees of a gateway that dies


class Client(threading.Thread):
    """Does its work until it is stopped, and comes again when the gateway has gone."""

    def __init__(self, gateway: GatewayProcess, history: History, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.gateway, self.history = gateway, history
        self.sent = self.seen = 0
        self.stopping = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    self.live()
                except GONE:
                    time.sleep(0.02)  # it is being started again
        except BaseException as error:  # told by the test
            self.failure = error

    def live(self) -> None:
        raise NotImplementedError

    def send(self) -> tuple[str, bytes]:
        """Note the next message; return its name and body."""
        number, self.sent = self.sent, self.sent + 1
        name = f"{self.name}-{number}"
        self.history.note("send", id=name, by=self.name, n=number, to=QUEUES, key="", text=name)
        return name, name.encode()

    def received(self, queue: str, body: str) -> None:
        self.seen += 1
        self.history.note("receive", id=body, queue=queue, who=self.name, text=body)


class MqttPublisher(Client):
    """QoS 1 with a window."""

    def live(self) -> None:
        client = MqttClient(self.gateway.mqtt_port, self.name, V5)
        waiting: dict[int, str] = {}
        while not self.stopping.is_set() or waiting:
            data = b""
            while len(waiting) < WINDOW and not self.stopping.is_set():
                name, body = self.send()
                packet_id = self.sent % 60_000 + 1
                waiting[packet_id] = name
                data += encode_publish(V5, b"load/mqtt", body, 1, False, False, packet_id)
            client.send(data)
            assert client.pump(5), "closed"
            for packet in client.inbox:
                assert isinstance(packet, Ack)
                what = "stored" if packet.reason < 0x80 else "refused"
                self.history.note(what, id=waiting.pop(packet.packet_id))
            client.inbox.clear()
        client.close()


class HttpPublisher(Client):
    """One request after another."""

    def live(self) -> None:
        with httpx.Client(base_url=self.gateway.url, timeout=5) as http:
            while not self.stopping.is_set():
                name, body = self.send()
                answer = http.post("/v1/topics/load/http", content=body)
                self.history.note("stored" if answer.is_success else "refused", id=name)


class Subscriber(Client):
    """A persistent session that acknowledges most of what it gets at once, the rest later."""

    def live(self) -> None:
        client = MqttClient(self.gateway.mqtt_port, self.name, V5, clean=False, properties=SESSION)
        client.subscribe("load/#")
        chance, late = random.Random(self.seen), b""
        while not self.stopping.is_set():
            alive = client.pump(0.2)
            answers = b""
            for packet in client.inbox:
                if isinstance(packet, Publish):
                    self.received("session", packet.payload.decode())
                    answer = encode_ack(V5, PUBACK, packet.packet_id)
                    if chance.random() < 0.1:
                        late += answer
                    else:
                        answers += answer
            if not client.inbox or len(late) > 500:
                answers, late = answers + late, b""
            client.inbox.clear()
            assert alive, "closed"
            client.send(answers)
        client.close()


class Worker(Client):
    """Takes jobs under a lease and acknowledges each."""

    def live(self) -> None:
        with httpx.Client(base_url=self.gateway.url, timeout=5) as http:
            while not self.stopping.is_set():
                answer = http.post("/v1/queues/jobs/receive?max=50&wait=1&lease=30").raise_for_status()
                for delivery in answer.json()["deliveries"]:
                    self.received("jobs", delivery["body"])
                    self.history.note("ack", id=delivery["body"], queue="jobs")
                    if http.post(f"/v1/deliveries/{delivery['id']}/ack").status_code == 204:
                        self.history.note("acked", id=delivery["body"], queue="jobs")


SESSION = {"session_expiry_interval": 3600}


def _replay(gateway: GatewayProcess, history: History) -> None:
    with httpx.Client(base_url=gateway.url, timeout=10) as http:
        http.post("/v1/queues/all/groups/last/seek", json={"offset": "earliest"}).raise_for_status()
        while deliveries := http.post("/v1/queues/all/receive?max=1000&group=last").json()["deliveries"]:
            for delivery in deliveries:
                body = delivery["body"]
                history.note("receive", id=body, queue="all/replay", who="last", text=body)
                http.post(f"/v1/deliveries/{delivery['id']}/ack")


def _stop(clients: list[Client]) -> None:
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join(20)
        assert not client.is_alive(), client.name
        assert client.failure is None, client.failure


def _depth(gateway: GatewayProcess, queue: str) -> Callable[[], bool]:
    def empty() -> bool:
        shown = httpx.get(f"{gateway.url}/v1/queues/{queue}").json()
        return bool(shown["depth"] == 0 and shown["unsettled"] == 0)

    return empty


@pytest.mark.timeout(120 + 20 * KILLS)
def test_nothing_is_lost_doubled_or_made_up_by_kill_9(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    sets = ("storage.segment_bytes=200000",)
    gateway = GatewayProcess(tmp_path / "data", sets).start()
    kinds = dict(zip(QUEUES, ("classic", "classic", "replay"), strict=True))
    history = History(kinds)
    httpx.put(f"{gateway.url}/v1/queues/jobs", json={"bindings": ["load/#"]}).raise_for_status()
    wanted = {"kind": "stream", "bindings": ["load/#"]}
    httpx.put(f"{gateway.url}/v1/queues/all", json=wanted).raise_for_status()
    first = MqttClient(gateway.mqtt_port, "subscriber", V5, clean=False, properties=SESSION)
    assert first.subscribe("load/#") == [1]
    first.close()
    publishers: list[Client] = [MqttPublisher(gateway, history, f"mqtt{n}") for n in range(2)]
    publishers.append(HttpPublisher(gateway, history, "http"))
    consumers: list[Client] = [Subscriber(gateway, history, "subscriber"), Worker(gateway, history, "worker")]
    for client in [*publishers, *consumers]:
        client.start()
    bugs = []
    for _ in range(KILLS):
        goal = sum(client.sent for client in publishers) + chance.randrange(100, 1000)
        wait_for(lambda goal=goal: sum(c.sent for c in publishers) >= goal, 30, "some load")  # type: ignore[misc]
        bugs += gateway.bugs()
        gateway.kill()
        history.note("crash", how="kill")
        gateway.start()
    _stop(publishers)
    wait_for(_depth(gateway, "jobs"), 60, "the jobs to be done")
    wait_for(lambda: _came(history, "session"), 30, "all that was stored to come")
    _stop(consumers)
    _replay(gateway, history)
    history.note("end")
    path = history.write(tmp_path / "history.ndjson")
    bugs += gateway.bugs()
    gateway.stop()
    verdict = check(history.events)
    assert not verdict.faults, f"seed {seed}, history {path}\n{verdict}"
    assert bugs == []
    assert verdict.stored > 100 * KILLS
    assert verdict.crashes == KILLS


def _came(history: History, queue: str) -> bool:
    """Tell whether all that was stored has come."""
    events = list(history.events)
    got = {event["id"] for event in events if event["op"] == "receive" and event["queue"] == queue}
    return all(event["id"] in got for event in events if event["op"] == "stored")
