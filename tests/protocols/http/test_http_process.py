"""The door of a real gateway: other protocols behind it, restarts, its end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.process import GatewayProcess, wait_for


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=10) as client:
        yield client


def events(client: httpx.Client, query: str, count: int, last_id: str = "") -> list[tuple[str, Any]]:
    """Return (id, data) of the next `count` events."""
    found: list[tuple[str, Any]] = []
    headers = {"Last-Event-ID": last_id} if last_id else {}
    identity = ""
    with client.stream("GET", f"/v1/subscribe?{query}", headers=headers) as response:
        for line in response.iter_lines():
            if line.startswith("id: "):
                identity = line[4:]
            elif line.startswith("data: "):
                found.append((identity, json.loads(line[6:])))
                if len(found) == count:
                    break
    return found


def test_published_and_read(client: httpx.Client) -> None:
    assert client.post("/v1/topics/a/b?retain=true", content=b"21.5").json()["subscribers"] is True
    assert client.get("/v1/topics/a/b").content == b"21.5"
    assert [data["body"] for _, data in events(client, "filter=a/%23", 1)] == ["21.5"]


def test_what_was_acknowledged_survives_kill_9(gateway: GatewayProcess, client: httpx.Client) -> None:
    client.put("/v1/queues/jobs", json={"bindings": ["jobs/#"]})
    client.put("/v1/queues/log", json={"kind": "stream", "bindings": ["jobs/#"]})
    for number in range(20):
        answer = client.post(
            "/v1/topics/jobs/x", content=str(number).encode(), headers={"Idempotency-Key": f"k{number}"}
        )
        assert answer.status_code == 200
    client.post("/v1/topics/kept?retain=true", content=b"value")
    first = client.post("/v1/queues/jobs/receive?max=5").json()["deliveries"]
    for delivery in first:
        assert client.post(f"/v1/deliveries/{delivery['id']}/ack").status_code == 204
    read = events(client, "stream=log&offset=earliest", 7)
    client.post(
        "/v1/topics/sync", content=b"", headers={"Idempotency-Key": "sync"}
    )  # acks are on disk with this
    gateway.kill()
    gateway.start()
    with httpx.Client(base_url=gateway.url, timeout=10) as again:
        left = again.post("/v1/queues/jobs/receive?max=100&wait=10").json()["deliveries"]
        assert [d["body"] for d in left] == [str(number) for number in range(5, 20)]
        assert again.get("/v1/topics/kept").content == b"value"
        rest = events(again, "stream=log", 13, read[-1][0])
        assert [data["body"] for _, data in rest] == [str(number) for number in range(7, 20)]
        repeated = again.post("/v1/topics/jobs/x", content=b"0", headers={"Idempotency-Key": "k0"})
        assert repeated.json()["duplicate"] is True
        shown = again.get("/v1/queues/jobs").json()
        assert (shown["bindings"], shown["unsettled"]) == (["jobs/#"], 15)


def test_it_stops_in_time_with_clients_connected(make_gateway: Callable[..., GatewayProcess]) -> None:
    process = make_gateway().start()
    with httpx.Client(base_url=process.url, timeout=20) as client:
        client.put("/v1/queues/q", json={})
        answers: list[int] = []

        def poll() -> None:
            answers.append(client.post("/v1/queues/q/receive?wait=60").status_code)

        thread = threading.Thread(target=poll)
        thread.start()
        with client.stream("GET", "/v1/subscribe?filter=t") as stream:
            lines = stream.iter_lines()
            next(lines)
            wait_for(lambda: client.get("/v1/queues/q").json()["consumers"] == 1)
            assert process.stop() == 0
            assert not [line for line in lines if line.startswith("data")]
        thread.join(10)
    assert answers == [200]
    assert not process.bugs()


def test_a_fault_in_its_table_stops_the_start(make_gateway: Callable[..., GatewayProcess]) -> None:
    process = make_gateway("plugins.http.orgins=[]")
    with pytest.raises(AssertionError, match=r"plugins\.http\.orgins"):
        process.start()
    assert process.process is not None
    assert process.process.wait(10) == 2


@pytest.mark.interop
@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_over_websocket(gateway: GatewayProcess, client: httpx.Client, version: int) -> None:
    mqtt = pytest.importorskip("paho.mqtt.client")
    got: list[tuple[str, bytes]] = []
    ready = threading.Event()
    peer = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, transport="websockets", protocol=version)
    peer.ws_set_options(path="/mqtt")
    peer.on_connect = lambda *_: peer.subscribe("to/mqtt", qos=1)
    peer.on_subscribe = lambda *_: ready.set()
    peer.on_message = lambda _, __, message: got.append((message.topic, message.payload))
    peer.connect("127.0.0.1", gateway.http_port)
    peer.loop_start()
    try:
        assert ready.wait(10)
        client.post("/v1/topics/to/mqtt", content=b"hello")
        wait_for(lambda: got == [("to/mqtt", b"hello")], what="the message over WebSocket")
        large = bytes(range(256)) * 2000
        peer.publish("from/mqtt", large, qos=1).wait_for_publish(10)
        assert client.get("/v1/topics/from/mqtt").content == large
    finally:
        peer.disconnect()
        peer.loop_stop()
