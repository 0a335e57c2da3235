"""The HTTP door read by clients nobody here wrote: curl, httpx-sse and websockets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from httpx_sse import connect_sse
from websockets.sync.client import connect

from tests.mqtt_client import V5, MqttClient
from tests.peers import executable
from tests.process import GatewayProcess

pytestmark = pytest.mark.interop
SECONDS_MAX = "20"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("http")).start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


def _events(door: GatewayProcess, topic: str, count: int, last_id: str = "") -> list[tuple[str, str]]:
    """Subscribe, publish from MQTT once the stream is open, and return (id, body) of so many events."""
    headers = {"last-event-id": last_id} if last_id else {}
    found: list[tuple[str, str]] = []
    with (
        httpx.Client(base_url=door.url, timeout=20) as client,
        connect_sse(client, "GET", "/v1/subscribe", params={"filter": topic}, headers=headers) as source,
    ):
        if not last_id:
            _publish(door, topic, count)
        for event in source.iter_sse():
            if not event.data:
                continue  # `retry` alone: browsers dispatch nothing for it (WHATWG HTML 9.2.6)
            found.append((event.id, json.loads(event.data)["body"]))
            if len(found) == count:
                break
    return found


def _publish(door: GatewayProcess, topic: str, count: int, first: int = 0) -> None:
    publisher = MqttClient(door.mqtt_port, "publisher", V5)
    for number in range(first, first + count):
        publisher.publish_stored(topic, b"%d" % number)
    publisher.close()


def test_an_sse_client_reads_what_mqtt_publishes(door: GatewayProcess) -> None:
    found = _events(door, "sse/plain", 3)
    assert [body for _, body in found] == ["0", "1", "2"]
    assert len({event_id for event_id, _ in found}) == 3


def test_an_sse_client_comes_back_and_misses_nothing(door: GatewayProcess) -> None:
    last_id = _events(door, "sse/again", 2)[-1][0]
    _publish(door, "sse/again", 2, first=2)  # while nobody is connected
    assert [body for _, body in _events(door, "sse/again", 2, last_id)] == ["2", "3"]


def test_curl_reads_a_stream_and_publishes(door: GatewayProcess) -> None:
    curl = executable("curl")
    url = f"{door.url}/v1/subscribe?filter=curl/%23"
    with subprocess.Popen(
        [curl, "-sSN", "--max-time", SECONDS_MAX, url], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline().startswith((":", "retry", "id", "event"))  # the stream is open
        answer = subprocess.run(
            [curl, "-sS", "--max-time", SECONDS_MAX, "-d", "from curl", f"{door.url}/v1/topics/curl/t"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(answer.stdout)["topic"] == "curl/t"
        data = next(line for line in reader.stdout if line.startswith("data:"))
        reader.kill()
    assert json.loads(data[5:])["body"] == "from curl"


def test_a_websocket_client_subscribes_and_publishes(door: GatewayProcess) -> None:
    with connect(door.url.replace("http", "ws") + "/v1/ws", open_timeout=20) as socket:
        socket.send(json.dumps({"op": "subscribe", "filter": "ws/#", "qos": 0, "id": 1}))
        assert json.loads(socket.recv(20))["id"] == 1
        _publish(door, "ws/t", 1)
        message = json.loads(socket.recv(20))
        assert (message["topic"], message["body"]) == ("ws/t", "0")
        mqtt = MqttClient(door.mqtt_port, "reader", V5)
        mqtt.subscribe("ws/back")
        socket.send(json.dumps({"op": "publish", "topic": "ws/back", "body": "from a page", "id": 2}))
        assert mqtt.receive().payload == b"from a page"
        mqtt.close()
