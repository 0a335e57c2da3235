"""Streams read from every door, also over a restart: by groups that start where they say, and compacted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from httpx_sse import connect_sse
from paho.mqtt.packettypes import PacketTypes
from websockets.sync.client import connect

from tests.cli.test_commands import run
from tests.interop.paho_client import PahoClient, properties
from tests.process import GatewayProcess, wait_for


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=10) as client:
        yield client


def _by_mqtt(gateway: GatewayProcess, name: str, count: int, **replay: str) -> list[bytes]:
    """Read by paho, as a new client."""
    with PahoClient(name).open(gateway.mqtt_port) as client:
        user = properties(PacketTypes.SUBSCRIBE, UserProperty=list(replay.items()))
        assert client.subscribe("$queue/s", 1, properties=user) == [1]
        return client.bodies(count)


def _by_sse(gateway: GatewayProcess, count: int, **where: str) -> list[str]:
    headers = {"last-event-id": where.pop("last_id")} if "last_id" in where else {}
    params = {"stream": "s", **where}
    with (
        httpx.Client(base_url=gateway.url, timeout=10) as client,
        connect_sse(client, "GET", "/v1/subscribe", params=params, headers=headers) as source,
    ):
        found: list[str] = []
        for event in source.iter_sse():
            if event.data:
                found.append(json.loads(event.data)["body"])
            if len(found) == count:
                break
    return found


def _by_websocket(gateway: GatewayProcess, group: str, count: int) -> list[str]:
    found: list[str] = []
    with connect(f"ws://127.0.0.1:{gateway.http_port}/v1/ws") as socket:
        socket.send(json.dumps({"op": "consume", "queue": "s", "group": group, "window": 100}))
        while len(found) < count:
            message = json.loads(socket.recv(10))
            if message.get("op") == "delivery":
                found.append(message["body"])
                socket.send(json.dumps({"op": "ack", "delivery": message["delivery"]}))
    return found


def _pulled(http: httpx.Client, group: str, count: int) -> list[str]:
    answer = http.post(f"/v1/queues/s/receive?group={group}&max={count}&wait=5").json()
    for delivery in answer["deliveries"]:
        http.post(f"/v1/deliveries/{delivery['id']}/ack")
    return [delivery["body"] for delivery in answer["deliveries"]]


def _browsed(http: httpx.Client) -> list[tuple[int, str]]:
    return [(m["offset"], m["body"]) for m in http.get("/v1/queues/s/browse").json()["messages"]]


def test_every_door_starts_where_it_is_told_and_is_moved(gateway: GatewayProcess, http: httpx.Client) -> None:
    http.put("/v1/queues/s", json={"kind": "stream"})
    for n in range(3):
        http.post("/v1/queues/s/messages", content=b"%d" % n)
    instant = datetime.now(UTC) + timedelta(milliseconds=2)  # the log counts milliseconds
    wait_for(lambda: datetime.now(UTC) > instant, what="another time")
    between = instant.isoformat()
    for n in range(3, 6):
        http.post("/v1/queues/s/messages", content=b"%d" % n)
    for start, first in [("earliest", 0), ("4", 4), (between, 3)]:
        expected = [b"%d" % n for n in range(first, 6)]
        texts = [body.decode() for body in expected]
        assert _by_mqtt(gateway, f"mqtt-{first}", len(expected), start=start) == expected
        assert _by_mqtt(gateway, "other", len(expected), group=f"mqtt-{first}", seek=start) == expected
        assert _by_sse(gateway, len(expected), offset=start) == texts
        result = run("queues", "seek", "s", f"cli-{first}", start, "--url", gateway.url)
        assert result.returncode == 0, result.stderr
        assert _pulled(http, f"cli-{first}", len(expected)) == texts
        http.post(f"/v1/queues/s/groups/web-{first}/seek", json={"offset": start})
        assert _by_websocket(gateway, f"web-{first}", len(expected)) == texts
    assert _by_sse(gateway, 2, last_id="3") == ["4", "5"]
    assert [offset for offset, _ in _browsed(http)] == [0, 1, 2, 3, 4, 5]


def test_a_compacted_stream_is_read_from_every_door_and_over_a_kill(
    gateway: GatewayProcess, http: httpx.Client
) -> None:
    made = http.put(
        "/v1/queues/s", json={"kind": "stream", "bindings": ["car/#"], "policy": {"compact": True}}
    )
    assert made.status_code == 201
    with PahoClient("car").open(gateway.mqtt_port) as car:
        for lap in range(20):
            for name in ("a", "b", "c"):
                car.publish(f"car/{name}", f"{name}{lap}".encode(), 1)
        car.publish("car/b", b"", 1)
    expected = ["a19", "c19", ""]
    for kill in (False, True):
        if kill:
            gateway.kill()
            gateway.start()
        wait_for(lambda: [body for _, body in _browsed(http)] == expected, what="the last of each")
        assert _by_mqtt(gateway, f"m{kill}", 3, start="earliest") == [body.encode() for body in expected]
        assert _by_sse(gateway, 3, offset="earliest") == expected
        http.post(f"/v1/queues/s/groups/w{kill}/seek", json={"offset": "earliest"})
        assert _by_websocket(gateway, f"w{kill}", 3) == expected
        http.post(f"/v1/queues/s/groups/p{kill}/seek", json={"offset": 0})
        assert _pulled(http, f"p{kill}", 100) == expected
    changed = http.put("/v1/queues/s?update=true", json={"kind": "stream", "policy": {}})
    assert changed.status_code == 409
    assert "compacted from its beginning" in changed.json()["detail"]
    refused = http.put("/v1/queues/classic", json={"policy": {"compact": True}})
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "policy.compact: only a durable stream can be compacted",
    )
