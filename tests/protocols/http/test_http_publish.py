"""Publishing one message: what arrives, what is answered, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core.message import Message
from gateway.core.metrics import DropCause
from gateway.core.policy import QueuePolicy
from tests.protocols.http.http_support import Running


def last(running: Running, topic: str) -> Message:
    message = running.broker.router.routes[topic].last
    assert message is not None
    return message


async def test_the_body_arrives_as_it_is(running: Running) -> None:
    body = bytes(range(256))
    answer = await running.client.post("/v1/topics/a/b", content=body)
    assert answer.status_code == 200
    assert answer.json() == {"id": last(running, "a/b").properties.message_id, "topic": "a/b",
                             "duplicate": False, "subscribers": False}  # fmt: skip
    message = last(running, "a/b")
    assert (message.body, message.qos, message.retain) == (body, 1, False)
    assert (message.origin.protocol, message.origin.principal) == ("http", "anonymous")
    assert message.timestamp_ms == running.gateway.clock.now_ms


@pytest.mark.parametrize(
    ("path", "topic"),
    [
        ("a//b", "a//b"),
        ("a/", "a/"),
        ("%C3%A9/x%20y", "é/x y"),
        ("a%2Fb", "a/b"),
        ("a/b%2Fbatch", "a/b/batch"),
        ("a/%62atch", "a/batch"),
        ("a.b/%25", "a.b/%"),
        ("a/%3Fq", "a/?q"),
    ],
)
async def test_a_topic_is_the_rest_of_the_path(running: Running, path: str, topic: str) -> None:
    answer = await running.client.post(f"/v1/topics/{path}", content=b"x")
    assert answer.json()["topic"] == topic
    assert last(running, topic).body == b"x"


async def test_options_and_properties(running: Running) -> None:
    answer = await running.client.post(
        "/v1/topics/t?qos=2&retain=true&ttl=1.5&key=k&tag=t",
        content=b"hi",
        headers={"Content-Type": "text/plain", "X-Message-Id": "m1", "X-Text": "true", "X-Property-a": "b"},
    )
    assert answer.json()["id"] == "m1"
    message = last(running, "t")
    assert (message.qos, message.retain, message.expires_at_ms - message.timestamp_ms) == (2, True, 1500)
    properties = message.properties
    assert (properties.content_type, properties.key, properties.tag, properties.text) == (
        "text/plain",
        "k",
        "t",
        True,
    )
    assert properties.headers == (("a", "b"),)
    assert running.broker.retained.get("t") is message


@pytest.mark.parametrize(
    ("target", "headers", "status", "kind", "named"),
    [
        ("t?qos=3", {}, 422, "invalid-parameter", "qos"),
        ("t?retain=maybe", {}, 422, "invalid-parameter", "retain"),
        ("t?ttl=soon", {}, 422, "invalid-parameter", "ttl"),
        ("t?ttl=nan", {}, 422, "invalid-parameter", "ttl"),
        ("t?ttl=-1", {}, 422, "invalid-parameter", "ttl"),
        ("t?nope=1", {}, 422, "invalid-parameter", "nope"),
        ("t?key=%ff", {}, 422, "invalid-parameter", "query"),
        *(
            (f"t?delay={delay}", {}, 422, "invalid-parameter", "delay")
            for delay in ("-1", "nan", "inf", "1e300", "5s", "", "400000000", "%2B5", "9" * 400)
        ),
        *(
            (f"t?deliver_at={at}", {}, 422, "invalid-parameter", "deliver_at")
            for at in ("", "-1", "soon", "nan", "1e3", "2026-01-01T00:00:00", "9" * 19)
        ),
        ("t?deliver_at=99999999999999", {}, 422, "invalid-parameter", "ten years"),
        ("t?delay=5&deliver_at=99", {}, 422, "invalid-parameter", "exclude"),
        ("$delayed/x/t", {}, 400, "invalid-topic", "seconds"),
        ("$delayed/5/secret/x", {}, 403, "not-authorized", "secret/x"),
        ("a/+", {}, 400, "invalid-topic", "wildcard"),
        ("a/%00", {}, 400, "invalid-topic", "U+0000"),
        ("a/%ff", {}, 400, "invalid-topic", "UTF-8"),
        ("", {}, 400, "invalid-topic", "empty"),
        ("$sys/x", {}, 403, "not-authorized", "own topics"),
        ("secret/x", {}, 403, "not-authorized", "secret/x"),
        ("t", {"X-Priority": "high"}, 400, "malformed", "X-Priority"),
        ("t", {"X-Text": "true"}, 400, "malformed", "UTF-8"),
        ("t", {"Idempotency-Key": "k" * 256}, 400, "malformed", "255"),
        ("t", {"Authorization": "Bearer x"}, 401, "authentication-failed", "token"),
        ("t", {"Authorization": "Digest x"}, 401, "authentication-failed", "Basic"),
        ("t", {"Authorization": "Digest x"}, 401, "authentication-failed", "X-API-Key"),
        ("t", {"Authorization": "Bearer a.0", "X-API-Key": "a.0"}, 401, "authentication-failed", "one login"),
    ],
)
async def test_refusals_are_problems(
    running: Running, target: str, headers: dict[str, str], status: int, kind: str, named: str
) -> None:
    answer = await running.client.post(f"/v1/topics/{target}", content=b"\xff", headers=headers)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, f"/docs#{kind}")
    assert named in problem["detail"]


async def test_whoever_is_not_known_is_asked_to_log_in(running: Running) -> None:
    answer = await running.client.post("/v1/topics/t", content=b"x", auth=("eve", "guess"))
    assert answer.status_code == 401
    assert [way.partition(" ")[0] for way in answer.headers.get_list("www-authenticate")] == [
        "Basic",
        "Bearer",
    ]
    declared = await running.client.put("/v1/queues/q", auth=("eve", "guess"))  # answered by FastAPI
    assert declared.headers.get_list("www-authenticate") == answer.headers.get_list("www-authenticate")
    assert "t" not in running.broker.router.routes


async def test_an_idempotency_key_publishes_once(running: Running) -> None:
    running.broker.catalog.declare("q")
    headers = {"Idempotency-Key": "order-1"}
    first = await running.client.post("/v1/topics/$queue/q", content=b"x", headers=headers)
    again = await running.client.post("/v1/topics/$queue/q", content=b"x", headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["subscribers"] is True
    assert running.broker.catalog.get("q").length() == 1
    other = await running.client.post(
        "/v1/topics/$queue/q", content=b"x", headers=headers, auth=("ann", "pass")
    )
    assert other.json()["duplicate"] is False, "keys of different people are different keys"


async def test_nothing_is_said_to_be_stored_that_is_not(running: Running) -> None:
    running.broker.catalog.declare("q")
    await running.client.post("/v1/topics/t", content=b"x")
    running.gateway.engine.full = True
    headers = {"Idempotency-Key": "order-2"}
    answer = await running.client.post("/v1/topics/$queue/q", content=b"x", headers=headers)
    assert answer.status_code == 507
    assert answer.json()["type"] == "/docs#not-stored"
    assert int(answer.headers["retry-after"]) > 0
    assert running.broker.catalog.get("q").length() == 0
    running.gateway.engine.full = False
    answer = await running.client.post("/v1/topics/$queue/q", content=b"x", headers=headers)
    assert (answer.status_code, answer.json()["duplicate"]) == (200, False), (
        "a retry is no duplicate of a failure"
    )
    assert running.broker.catalog.get("q").length() == 1


async def test_a_full_queue_refuses(running: Running) -> None:
    running.broker.catalog.declare("q", policy=QueuePolicy(max_length=1, overflow="reject"))
    first = await running.client.post("/v1/queues/q/messages", content=b"x")
    second = await running.client.post("/v1/queues/q/messages", content=b"x")
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["type"] == "/docs#queue-full"
    assert "retry-after" in second.headers


async def test_straight_to_a_queue(running: Running) -> None:
    running.broker.catalog.declare("a/b")
    answer = await running.client.post(
        "/v1/queues/a%2Fb/messages?key=k", content=b"x", headers={"X-Tag": "t"}
    )
    assert answer.json()["topic"] == "$queue/a/b"
    assert answer.json()["subscribers"] is True
    missing = await running.client.post("/v1/queues/nope/messages", content=b"x")
    assert (missing.status_code, missing.json()["type"]) == (404, "/docs#not-found")


async def test_a_body_over_the_limit_is_refused(running: Running) -> None:
    limit = running.door._server.context.limits  # type: ignore[union-attr]
    limit.body_bytes_max = 1000
    announced = await running.client.post("/v1/topics/t", content=b"x" * 1001)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 100

    streamed = await running.client.post("/v1/topics/t", content=chunks())
    assert (announced.status_code, streamed.status_code) == (413, 413)
    assert streamed.json()["type"] == "/docs#too-large"
    fits = await running.client.post("/v1/topics/t", content=b"x" * 1000)
    assert fits.status_code == 200


async def test_a_large_body_in_chunks_arrives(running: Running) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(300):
            yield bytes([number % 256]) * 1000

    answer = await running.client.post("/v1/topics/t", content=chunks())
    assert answer.status_code == 200
    assert len(last(running, "t").body) == 300_000


async def test_many_at_once(running: Running) -> None:
    running.broker.catalog.declare("q")

    async def publish(number: int) -> int:
        answer = await running.client.post("/v1/topics/$queue/q", content=str(number).encode())
        return answer.status_code

    statuses = await asyncio.gather(*(publish(number) for number in range(200)))
    assert set(statuses) == {200}
    bodies = {message.body for _, message, _ in running.broker.catalog.get("q").browse(0, 1000)}
    assert bodies == {str(number).encode() for number in range(200)}


async def test_the_books_balance(running: Running) -> None:
    running.broker.catalog.declare("q")
    for topic in ("t", "$queue/q", "secret/x", "a/+"):
        await running.client.post(f"/v1/topics/{topic}", content=b"x")
    metrics = running.broker.metrics
    # "a/+" is refused by the door before the session counts it.
    assert metrics.published == 3
    assert metrics.dropped[DropCause.NOT_AUTHORIZED] == 1
    assert (
        metrics.copies
        == metrics.delivered + metrics.streamed + sum(metrics.dropped) + running.broker.waiting()
    )
