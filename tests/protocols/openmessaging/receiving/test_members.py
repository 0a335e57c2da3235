"""A group with members at several doors: nothing is lost, each message is with one of them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import httpx
import pytest

pytest.importorskip("grpc")

from gateway.rocketmq.numbers import Code
from tests.mqtt_client import MqttClient
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket

SHARE = "$share/crew/cargo"
MESSAGES = 120


class Members:
    """What each door's member has acknowledged."""

    def __init__(self) -> None:
        self.got: dict[str, list[bytes]] = {"rocketmq": [], "http": [], "mqtt": []}
        self.over = threading.Event()

    def count(self) -> int:
        return len({body for bodies in self.got.values() for body in bodies})

    def rocketmq(self, gateway: RocketGateway) -> None:
        with RawRocket(gateway.endpoints, "sailor") as raw:
            while not self.over.is_set():
                found = raw.receive("crew", "cargo", 4, wait=0.2)
                if found:
                    assert raw.ack("crew", "cargo", *found).status.code == Code.OK
                    self.got["rocketmq"] += [message.body for message in found]

    def http(self, gateway: RocketGateway) -> None:
        url = f"{gateway.url}/v1/queues/%24share%2Fcrew%2Fcargo/receive"
        while not self.over.is_set():
            for one in httpx.post(url, params={"max": 4, "wait": 0.2}).json()["deliveries"]:
                httpx.post(f"{gateway.url}/v1/deliveries/{one['id']}/ack").raise_for_status()
                self.got["http"].append(one["body"].encode())

    def mqtt(self, gateway: RocketGateway) -> None:
        client = MqttClient(gateway.mqtt_port, "docker")
        client.subscribe(SHARE)
        while not self.over.is_set():
            _take(client, self.got["mqtt"])
        client.close()


def _take(client: MqttClient, got: list[bytes]) -> None:
    try:
        found: Any = client.receive(0.2)
    except (AssertionError, TimeoutError):
        return
    got.append(bytes(found.payload))


def test_members_at_three_doors(gateway: RocketGateway, raw: RawRocket) -> None:
    raw.receive("crew", "cargo")
    members = Members()
    doomed = RawRocket(gateway.endpoints, "doomed")
    threads = [
        threading.Thread(target=run, args=(gateway,))
        for run in (members.rocketmq, members.http, members.mqtt)
    ]
    raw.send("cargo", b"0", b"1", b"2")
    held = doomed.receive("crew", "cargo", auto_renew=True)
    assert len(held) == 3
    for thread in threads:
        thread.start()
    try:
        for number in range(3, MESSAGES):
            raw.send("cargo", b"%d" % number)
        wait_for(lambda: members.count() == MESSAGES - 3, what="all but what one of them holds")
        doomed.code("NotifyClientTermination", group={"name": "crew"})
        wait_for(lambda: members.count() == MESSAGES, what="what the one that left has held")
    finally:
        members.over.set()
        for thread in threads:
            thread.join()
        doomed.close()
    counted = Counter(body for bodies in members.got.values() for body in bodies)
    assert counted == {b"%d" % number: 1 for number in range(MESSAGES)}
    assert all(members.got.values()), {door: len(bodies) for door, bodies in members.got.items()}
