"""What became of a message, asked of a real gateway after real clients have had it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.cli.test_commands import run
from tests.process import GatewayProcess, wait_for


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=10) as client:
        yield client


def _paho(gateway: GatewayProcess, name: str, got: list[bytes] | None = None) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()

    def on_message(client: Client, _: object, message: MQTTMessage) -> None:
        if got is not None:
            got.append(message.payload)

    client.on_message = on_message
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    client.connect("127.0.0.1", gateway.mqtt_port, clean_start=False, properties=properties)
    client.loop_start()
    assert connected.wait(10)
    return client


def _events(journey: dict[str, Any], queue: str) -> list[str]:
    (stay,) = (each for each in journey["queues"] if each["queue"] == queue)
    return [f"{e['event']} {e.get('outcome', '')}".strip() for e in stay["events"]]


def _state(journey: dict[str, Any], queue: str) -> str:
    return next(str(each["state"]) for each in journey["queues"] if each["queue"] == queue)


def test_from_http_to_mqtt_a_pull_consumer_a_stream_and_the_dead_letters(
    gateway: GatewayProcess, http: httpx.Client
) -> None:
    http.put("/v1/queues/jobs", json={"bindings": ["shop/+"], "policy": {"dead_letter": "$queue/dead"}})
    http.put("/v1/queues/dead", json={})
    http.put("/v1/queues/history", json={"kind": "stream", "bindings": ["shop/#"]})
    got: list[bytes] = []
    session = _paho(gateway, "till-1", got)
    subscribed = threading.Event()
    session.on_subscribe = lambda *_: subscribed.set()
    session.subscribe("shop/#", 1)
    assert subscribed.wait(10)
    sent = http.post(
        "/v1/topics/shop/7", content=b"sale", headers={"X-Message-Id": "sale-7", "X-Keys": "till,sale"}
    )
    assert sent.status_code == 200
    wait_for(lambda: got == [b"sale"], what="the delivery")
    first = http.post("/v1/queues/jobs/receive").json()["deliveries"][0]
    http.post(f"/v1/deliveries/{first['id']}/nack", json={"outcome": "requeue", "delay": 0})
    second = http.post("/v1/queues/jobs/receive").json()["deliveries"][0]
    http.post(f"/v1/deliveries/{second['id']}/nack", json={"outcome": "reject"})
    third = http.post("/v1/queues/history/receive?group=audit").json()["deliveries"]
    if third:
        http.post(f"/v1/deliveries/{third[0]['id']}/ack")
    own = "$session/till-1"

    def journeys() -> list[dict[str, Any]]:
        return list(http.get("/v1/messages/sale-7/journey").json()["journeys"])

    wait_for(lambda: _state(journeys()[-1], own) == "acknowledged", what="the acknowledgement")
    wait_for(lambda: _state(journeys()[-1], "jobs").startswith("dropped"), what="the dead letter on the disk")
    answer = journeys()
    assert [each["topic"] for each in answer] == ["$queue/dead", "shop/7"], (
        "newest first: its dead letter, itself"
    )
    letter, found = answer
    assert found["from"]["protocol"] == "http"
    assert found["from"]["address"].startswith("127.0.0.1")
    assert found["keys"] == ["till", "sale"]
    assert _events(found, own) == ["delivered", "settled ack"]
    assert _events(found, "jobs") == ["delivered", "returned requeue", "delivered", "settled rejected"]
    assert _state(found, "jobs") == "dropped: rejected"
    assert (_state(found, "history"), _state(letter, "dead")) == ("kept", "waiting")
    assert found["dead_letters"] == [
        {"position": letter["position"], "topic": "$queue/dead", "queue": "jobs", "cause": "rejected"}
    ]
    stays = {stay["queue"]: stay for stay in found["queues"]}
    assert stays[own]["events"][0]["consumer"]["client_id"] == "till-1"
    assert stays[own]["events"][0]["consumer"]["protocol"] == "mqtt"
    assert (stays["jobs"]["subscriptions"], stays[own]["subscriptions"]) == (["shop/+"], ["shop/#"])
    assert stays["jobs"]["attempts"] == 2
    times = [event["at"] for event in stays["jobs"]["events"]]
    assert times == sorted(times)
    assert found["stored_at"] <= times[0]
    session.disconnect()
    session.loop_stop()


def test_the_story_outlives_kill_9_and_the_command_tells_it(
    gateway: GatewayProcess, http: httpx.Client
) -> None:
    http.put("/v1/queues/jobs", json={"bindings": ["jobs"]})
    for number in range(3):
        http.post("/v1/topics/jobs", content=b"%d" % number, headers={"X-Message-Id": f"job-{number}"})
    lease = http.post("/v1/queues/jobs/receive").json()["deliveries"][0]["id"]
    assert http.post(f"/v1/deliveries/{lease}/ack").status_code == 204
    http.post("/v1/topics/jobs", content=b"so that all before is on disk")
    gateway.kill()
    gateway.start()
    text = run("trace", "job-0", "--url", gateway.url)
    assert text.returncode == 0, text.stderr
    for part in (
        "job-0 at position",
        "accepted from",
        "jobs by jobs: acknowledged",
        "settled: ack",
        "by http",
    ):
        assert part in text.stdout, text.stdout
    found = json.loads(run("trace", "job-1", "--url", gateway.url, "--json").stdout)["journeys"][0]
    assert _state(found, "jobs") == "waiting"
    by_position = json.loads(run("trace", f"@{found['position']}", "--url", gateway.url, "--json").stdout)
    assert by_position["journeys"] == [found]
    nothing = run("trace", "job-9", "--url", gateway.url)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "never stored" in nothing.stderr


def test_messages_are_listed_by_key_and_time(gateway: GatewayProcess, http: httpx.Client) -> None:
    http.put("/v1/queues/q", json={"bindings": ["t/#"]})
    for number in range(7):
        headers = {"X-Message-Id": f"m{number}", "X-Keys": "even" if number % 2 == 0 else "odd"}
        http.post(f"/v1/topics/t/{number}", content=b"", headers=headers)

    def listed(**query: Any) -> list[str]:
        answer = http.get("/v1/messages", params=query)
        assert answer.status_code == 200, answer.text
        return [message["id"] for message in answer.json()["messages"]]

    assert listed(key="even") == ["m6", "m4", "m2", "m0"]
    assert listed(key="m3") == ["m3"]
    assert listed(key="nobody") == []
    assert listed() == [f"m{n}" for n in range(7)]
    page = http.get("/v1/messages?limit=4").json()
    assert [message["id"] for message in page["messages"]] == ["m0", "m1", "m2", "m3"]
    assert listed(after=page["next"]) == ["m4", "m5", "m6"]
    stored = http.get("/v1/messages?key=m4").json()["messages"][0]["stored_at"]
    assert "m4" in listed(**{"from": stored, "to": stored + 1})
    assert listed(to="2001-01-01T00:00:00Z") == []
    refused = http.get("/v1/messages?from=yesterday")
    assert (refused.status_code, "from is 'yesterday'" in refused.text) == (422, True)
