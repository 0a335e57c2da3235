"""Retry and dead letters at every door, and the workbench: a real gateway, real clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pika
import pytest

from gateway.protocols.mqtt.encoder import encode_ack
from gateway.protocols.mqtt.packets import PUBACK, V5, Publish
from tests.mqtt_client import MqttClient
from tests.process import GatewayProcess, wait_for

FAST = {"backoff_ms": [1], "delivery_limit": 3}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    made = GatewayProcess(tmp_path_factory.mktemp("dead") / "data").start()
    yield made
    bugs = made.bugs()
    made.stop()
    assert bugs == []


@pytest.fixture(scope="module")
def http(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=15, auth=("admin", "admin")) as client:
        yield client


def put(http: httpx.Client, name: str, policy: dict[str, Any] | None = None, **more: Any) -> None:
    http.put(f"/v1/queues/{name}", json={"policy": {**FAST, **(policy or {})}, **more}).raise_for_status()


def send(http: httpx.Client, queue: str, *bodies: str, **headers: str) -> None:
    for body in bodies:
        http.post(f"/v1/queues/{queue}/messages", content=body, headers=headers).raise_for_status()


def take(http: httpx.Client, queue: str, group: str = "") -> dict[str, Any]:
    answer = http.post(f"/v1/queues/{queue}/receive?wait=10&group={group}").raise_for_status().json()
    return dict(answer["deliveries"][0])


def nack(http: httpx.Client, delivery: dict[str, Any], **how: Any) -> None:
    http.post(f"/v1/deliveries/{delivery['id']}/nack", json=how).raise_for_status()


def letters(http: httpx.Client, queue: str, **asked: Any) -> list[dict[str, Any]]:
    answer = http.get(f"/v1/dead-letters/{queue}/letters", params=asked)
    return list(answer.raise_for_status().json()["letters"]) if answer.status_code != 404 else []


def bury(http: httpx.Client, queue: str, *bodies: str) -> list[dict[str, Any]]:
    put(http, queue)
    send(http, queue, *bodies)
    for _ in bodies:
        nack(http, take(http, queue), outcome="reject", reason="no good")
    return letters(http, queue)


def replay(http: httpx.Client, queue: str, **wanted: Any) -> dict[str, Any]:
    answer = http.post(f"/v1/dead-letters/{queue}/replay", json=wanted)
    assert answer.status_code == 201, answer.text
    number = answer.json()["id"]

    def ended() -> Any:
        job = http.get(f"/v1/dead-letters-replays/{number}").json()
        return job if job["state"] != "running" else None

    return dict(wait_for(ended, what="the end of the replay"))


# -- retry and rejection at every door -----------------------------------------------------------------


def test_http_says_which_attempt_it_is_and_why_it_ended(http: httpx.Client) -> None:
    put(http, "h")
    send(http, "h", "x")
    for attempt in (1, 2, 3):
        delivery = take(http, "h")
        assert delivery["attempt"] == attempt
        nack(http, delivery, reason=f"failed {attempt}")
    (letter,) = letters(http, "h")
    story = letter["story"]
    assert (story["cause"], story["attempts"], story["reason"]) == ("delivery_limit", 3, "failed 3")
    assert (story["protocol"], story["queue"], story["topic"]) == ("http", "h", "$queue/h")


@pytest.mark.parametrize("how", [{"delay": -1}, {"reason": "x" * 1001}, {"reason": 1}, {"delay": "soon"}])
def test_http_refuses_what_makes_no_sense(http: httpx.Client, how: dict[str, Any]) -> None:
    assert http.post("/v1/deliveries/any/nack", json=how).status_code == 422


@pytest.mark.parametrize(
    "policy", [{"backoff_ms": [-1]}, {"backoff_ms": 1}, {"backoff_ms": [1] * 65}, {"backoff_ms": ["1"]}]
)
def test_pauses_that_make_no_sense_are_refused(http: httpx.Client, policy: dict[str, Any]) -> None:
    assert http.put("/v1/queues/never", json={"policy": policy}).status_code == 422


def test_by_default_it_is_rocketmqs_schedule(http: httpx.Client) -> None:
    http.put("/v1/queues/plain").raise_for_status()
    policy = http.get("/v1/queues/plain").json()["policy"]
    assert (policy["delivery_limit"], policy["dead_letter"]) == (17, "$dead")
    assert (policy["backoff_ms"][0], policy["backoff_ms"][-1]) == (10_000, 7_200_000)


def _attempt(packet: Publish) -> list[str]:
    found = packet.properties.get("user_property", [])
    assert isinstance(found, list)
    return [value for name, value in found if name == "$attempt"]


def test_mqtt_is_told_the_attempt_and_may_refuse(gateway: GatewayProcess, http: httpx.Client) -> None:
    put(http, "m")
    client = MqttClient(gateway.mqtt_port, "worker", V5)
    assert client.subscribe("$queue/m") == [1]
    send(http, "m", "x")
    first = client.expect(Publish)
    assert _attempt(first) == []
    client.close()
    client = MqttClient(gateway.mqtt_port, "worker", V5)
    assert client.subscribe("$queue/m") == [1]
    second = client.expect(Publish)
    assert _attempt(second) == ["2"]
    client.send(encode_ack(V5, PUBACK, second.packet_id, 0x99, {"reason_string": "no JSON"}))
    (letter,) = wait_for(lambda: letters(http, "m"), what="the letter")
    story = letter["story"]
    assert (story["cause"], story["reason"], story["attempts"]) == ("rejected", "no JSON", 2)
    assert (story["consumer"], story["protocol"]) == ("worker", "mqtt")
    client.close()


def test_a_session_that_refuses_has_a_letter_too(gateway: GatewayProcess, http: httpx.Client) -> None:
    client = MqttClient(
        gateway.mqtt_port, "picky", V5, clean=False, properties={"session_expiry_interval": 60}
    )
    watcher = MqttClient(gateway.mqtt_port, "watcher", V5)
    assert watcher.subscribe("$dead/#") == [1]
    assert client.subscribe("news/#") == [1]
    http.post("/v1/topics/news/1", content="x").raise_for_status()
    client.send(encode_ack(V5, PUBACK, client.expect(Publish).packet_id, 0x83))
    (letter,) = wait_for(lambda: letters(http, "$session"), what="the letter")
    assert (letter["story"]["queue"], letter["story"]["reason"]) == ("$session/picky", "reason code 0x83")
    live = watcher.receive()
    assert (live.topic, live.payload) == ("$dead/$session", b"x")
    assert replay(http, "$session")["sent"] == 1
    again = client.receive()
    assert (again.topic, again.payload) == ("news/1", b"x")
    client.close()
    watcher.close()


def test_a_shared_subscription_and_a_streams_group(gateway: GatewayProcess, http: httpx.Client) -> None:
    client = MqttClient(gateway.mqtt_port, "sharer", V5)
    assert client.subscribe("$share/g/shared/+") == [1]
    put(http, "stream", kind="stream", bindings=["shared/+"])
    http.post("/v1/topics/shared/1", content="x").raise_for_status()
    client.send(encode_ack(V5, PUBACK, client.expect(Publish).packet_id, 0x83))
    (letter,) = wait_for(lambda: letters(http, "$share%2Fg%2Fshared%2F%2B"), what="the letter")
    assert letter["story"]["queue"] == "$share/g/shared/+"
    http.post("/v1/queues/stream/groups/g/seek", json={"offset": "earliest"}).raise_for_status()
    nack(http, take(http, "stream", "g"), outcome="reject")
    (letter,) = letters(http, "stream")
    assert letter["story"]["group"] == "g"
    job = replay(http, "stream")
    assert job["sent"] == 0
    assert "say where to send it" in next(iter(job["left"]))
    client.close()


def test_amqp_counts_pauses_and_rejects(gateway: GatewayProcess, http: httpx.Client) -> None:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port))
    channel = connection.channel()
    put(http, "a")
    send(http, "a", "x")
    method, props, _ = next(channel.consume("a", inactivity_timeout=10))
    assert not method.redelivered
    channel.basic_nack(method.delivery_tag, requeue=True)
    method, props, _ = next(channel.consume("a", inactivity_timeout=10))
    assert method.redelivered
    assert props.headers["x-delivery-count"] == 1
    channel.basic_reject(method.delivery_tag, requeue=False)
    (letter,) = wait_for(lambda: letters(http, "a"), what="the letter")
    assert (letter["story"]["protocol"], letter["story"]["attempts"]) == ("amqp", 2)
    channel.cancel()
    connection.close()


def test_amqps_own_queues_are_as_they_were(gateway: GatewayProcess, http: httpx.Client) -> None:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port))
    channel = connection.channel()
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "buried"}
    channel.queue_declare("own", durable=True, arguments=arguments)
    channel.queue_declare("buried", durable=True)
    channel.queue_declare("bare", durable=True)
    for queue in ("own", "bare"):
        channel.basic_publish("", queue, b"x")
        method, _, _ = next(channel.consume(queue, inactivity_timeout=10))
        for _ in range(20):  # no limit, no pause
            channel.basic_nack(method.delivery_tag, requeue=True)
            method, props, _ = next(channel.consume(queue, inactivity_timeout=10))
            assert method.redelivered
            assert "x-delivery-count" not in (props.headers or {})
        channel.basic_reject(method.delivery_tag, requeue=False)
        channel.cancel()
    method, props, body = next(channel.consume("buried", inactivity_timeout=10))
    death = props.headers["x-death"][0]
    assert (body, death["reason"], death["queue"], death["count"]) == (b"x", "rejected", "own", 1)
    assert letters(http, "own") == letters(http, "bare") == []
    connection.close()


def test_amqp_may_ask_for_pauses(gateway: GatewayProcess) -> None:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port))
    channel = connection.channel()
    channel.queue_declare("paused", durable=True, arguments={"x-backoff": [600_000]})
    channel.basic_publish("", "paused", b"later")
    channel.basic_publish("", "paused", b"now")
    deliveries = channel.consume("paused", inactivity_timeout=10)
    first, _, body = next(deliveries)
    channel.basic_nack(first.delivery_tag, requeue=True)
    method, _, other = next(deliveries)
    assert (body, other, method.redelivered) == (b"later", b"now", False)
    connection.close()


# -- the workbench ---------------------------------------------------------------------------------------


def test_letters_are_listed_filtered_and_paged(http: httpx.Client) -> None:
    found = bury(http, "list", "1", "2", "3")
    rows = {row["queue"]: row for row in http.get("/v1/dead-letters").json()["queues"]}
    assert (rows["$dead/list"]["letters"], rows["$dead/list"]["bytes"]) == (3, 3)
    assert [letter["position"] for letter in found] == sorted(letter["position"] for letter in found)
    assert letters(http, "$dead%2Flist") == found
    for selector, count in {
        "cause = 'rejected' AND age < 3600 AND attempts = 1": 3,
        "reason LIKE '%good' AND consumer_protocol = 'http' AND original_topic = '$queue/list'": 3,
        "\"dead-letter-queue\" = 'list' AND size = 1": 3,
        "cause = 'delivery_limit' OR age > 3600": 0,
    }.items():
        assert len(letters(http, "list", selector=selector)) == count, selector
    page = http.get("/v1/dead-letters/list/letters?limit=2").json()
    rest = http.get(f"/v1/dead-letters/list/letters?after={page['next']}").json()
    assert [*page["letters"], *rest["letters"]] == found
    assert rest["next"] == 0
    one = http.get(f"/v1/dead-letters/list/letters/{found[1]['position']}").json()
    assert one["body"] == "2"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nobody/letters", None, 404),
        ("GET", "bad/letters?limit=0", None, 422),
        ("GET", "bad/letters?limit=1001", None, 422),
        ("GET", "bad/letters?after=-1", None, 422),
        ("GET", "bad/letters?what=1", None, 422),
        ("GET", "bad/letters?selector=cause+=", None, 422),
        ("GET", "bad/letters/1", None, 404),
        ("GET", "bad/letters/x", None, 404),
        ("PUT", "bad/letters/1", {}, 404),
        ("POST", "bad/replay", {"to": 1}, 422),
        ("POST", "bad/replay", {"to": "a/#"}, 400),
        ("POST", "bad/replay", {"to": "$sys/x"}, 403),
        ("POST", "bad/replay", {"rate": 0}, 422),
        ("POST", "bad/replay", {"rate": 10_001}, 422),
        ("POST", "bad/replay", {"limit": -1}, 422),
        ("POST", "bad/replay", {"dry_run": 1}, 422),
        ("POST", "bad/replay", {"positions": []}, 422),
        ("POST", "bad/replay", {"positions": [True]}, 422),
        ("POST", "bad/replay", {"positions": [1], "selector": "size = 1"}, 422),
        ("POST", "bad/replay", {"selector": "size = "}, 422),
        ("POST", "bad/replay", {"selector": 1}, 422),
        ("POST", "bad/replay", {"what": 1}, 422),
        ("POST", "bad/replay", [], 422),
        ("POST", "bad/purge", {}, 422),
        ("POST", "bad/purge", {"count": 2}, 409),
        ("POST", "bad/purge", {"count": True}, 422),
        ("DELETE", "bad/purge", None, 405),
    ],
)
def test_what_makes_no_sense_is_refused(
    http: httpx.Client, method: str, path: str, body: Any, status: int
) -> None:
    if not letters(http, "bad"):
        bury(http, "bad", "1")
    answer = http.request(method, f"/v1/dead-letters/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert len(letters(http, "bad")) == 1


@pytest.mark.parametrize("path", ["x", "0", "99999", "1" * 20])
def test_a_replay_nobody_knows(http: httpx.Client, path: str) -> None:
    assert http.get(f"/v1/dead-letters-replays/{path}").status_code == 404
    assert http.delete(f"/v1/dead-letters-replays/{path}").status_code == 404


def test_a_letter_is_mended(http: httpx.Client) -> None:
    (letter,) = bury(http, "mend", "broken")
    path = f"/v1/dead-letters/mend/letters/{letter['position']}"
    for wrong in (
        {"body": "a", "body_base64": "YQ=="},
        {"body": 1},
        {"body_base64": "?"},
        {"headers": []},
        {"headers": {"dead-letter-cause": "none"}},
        {"key": 1},
        {"topic": "t"},
    ):
        assert http.put(path, json=wrong).status_code == 422, wrong
    wanted = {"body": "mended", "headers": {"tries": 3, "flag": True}, "key": "k", "tag": "t"}
    mended = http.put(path, json=wanted).raise_for_status().json()
    assert (mended["body"], mended["headers"], mended["key"]) == ("mended", {"tries": 3, "flag": True}, "k")
    assert mended["story"] == letter["story"]
    assert http.get(path).status_code == 404
    path = f"/v1/dead-letters/mend/letters/{mended['position']}"
    again = http.put(path, json={"headers": {"flag": None}, "body_base64": "AP8="}).raise_for_status().json()
    assert (again["headers"], again["body_base64"]) == ({"tries": 3}, "AP8=")
    assert [each["position"] for each in letters(http, "mend")] == [again["position"]]
    assert replay(http, "mend", positions=[again["position"]])["sent"] == 1
    delivery = take(http, "mend")
    assert (delivery["body_base64"], delivery["headers"]["tries"]) == ("AP8=", 3)


def test_replayed_to_where_it_died_and_nowhere_else(http: httpx.Client) -> None:
    for queue in ("one", "other"):
        put(http, queue, bindings=["both"])
    http.post("/v1/topics/both", content="x").raise_for_status()
    nack(http, take(http, "one"), outcome="reject")
    (letter,) = letters(http, "one")
    dry = http.post("/v1/dead-letters/one/replay", json={"dry_run": True}).json()
    assert (dry["would_send"], dry["complete"]) == (1, True)
    assert dry["first"] == [{"position": letter["position"], "to": "one", "topic": "both"}]
    assert letters(http, "one") == [letter]
    job = replay(http, "one")
    assert (job["state"], job["sent"], job["waiting"], job["left"]) == ("done", 1, 0, {})
    again = take(http, "one")
    assert (again["topic"], again["attempt"]) == ("both", 1)
    assert http.get("/v1/queues/other").json()["depth"] == 1
    nack(http, again, outcome="reject", reason="still")
    (second,) = letters(http, "one")
    story = second["story"]
    assert (story["count"], story["reason"]) == (2, "still")
    assert story["first-position"] == letter["story"]["position"]
    assert story["first-time-ms"] == letter["story"]["time-ms"]


def test_replayed_elsewhere_in_part_and_as_it_is_wanted(http: httpx.Client) -> None:
    bury(http, "part", *"12345")
    put(http, "target", bindings=["elsewhere"])
    job = replay(http, "part", to="elsewhere", limit=2)
    assert (job["sent"], job["waiting"]) == (2, 3)
    job = replay(http, "part", to="$queue/target", positions=[letters(http, "part")[1]["position"], 1])
    assert (job["sent"], len(job["left"])) == (1, 1)
    job = replay(http, "part", to="elsewhere", selector="size > 1")
    assert (job["sent"], job["waiting"]) == (0, 2)
    job = replay(http, "part", selector="cause = 'rejected'", rate=10_000)
    assert (job["sent"], job["waiting"]) == (2, 0)
    found = sorted(take(http, "target")["body"] for _ in range(3))
    assert found == ["1", "2", "4"]


def test_a_replay_is_slow_watched_and_stopped(http: httpx.Client) -> None:
    bury(http, "slow", *"123456789")
    job = http.post("/v1/dead-letters/slow/replay", json={"rate": 1}).json()
    path = f"/v1/dead-letters-replays/{job['id']}"
    wait_for(lambda: http.get(path).json()["sent"], what="the first")
    assert http.delete(path).status_code == 204
    stopped = http.get(path).json()
    assert stopped["state"] == "stopped"
    assert 1 <= stopped["sent"] < 9
    assert stopped["waiting"] == len(letters(http, "slow")) == 9 - stopped["sent"]
    assert path.rpartition("/")[2] in {
        str(j["id"]) for j in http.get("/v1/dead-letters-replays").json()["replays"]
    }


def test_a_target_that_is_full_ends_it(http: httpx.Client) -> None:
    bury(http, "much", "1", "2", "3")
    put(http, "tiny", {"max_length": 1, "overflow": "reject"})
    job = replay(http, "much", to="$queue/tiny")
    assert (job["state"], job["sent"], job["waiting"]) == ("its target is full", 1, 2)


def test_an_origin_that_is_gone_is_said(http: httpx.Client) -> None:
    bury(http, "gone", "1")
    http.delete("/v1/queues/gone").raise_for_status()
    job = replay(http, "gone")
    assert (job["sent"], job["waiting"]) == (0, 1)
    assert "is gone" in next(iter(job["left"]))


def test_purged_when_it_is_confirmed(http: httpx.Client) -> None:
    bury(http, "purge", "1", "2")
    assert http.post("/v1/dead-letters/purge/purge", json={"count": 1}).status_code == 409
    assert http.post("/v1/dead-letters/purge/purge", json={"count": 2}).json() == {"purged": 2}
    assert letters(http, "purge") == []


def test_a_restart_loses_the_job_and_no_letter(gateway: GatewayProcess, http: httpx.Client) -> None:
    bury(http, "kill", *"12345678")
    http.post("/v1/dead-letters/kill/replay", json={"rate": 5}).raise_for_status()
    wait_for(lambda: http.get("/v1/queues/kill").json()["depth"] >= 2, what="some")
    gateway.kill()
    gateway.start()
    assert http.get("/v1/dead-letters-replays").json() == {"replays": []}
    back = http.get("/v1/queues/kill").json()["depth"]
    assert back >= 1
    assert len(letters(http, "kill")) == 8 - back
