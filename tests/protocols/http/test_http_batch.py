"""Batches: every line that can be published is, and the answer tells of the others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.message import Message
from gateway.core.policy import QueuePolicy
from gateway.protocols.http import batch as batch_module
from tests.protocols.http.http_support import Running


def ndjson(*lines: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def test_lines_become_messages(running: Running) -> None:
    running.broker.catalog.declare("q")
    body = ndjson(
        {"body": "text", "topic": "$queue/q"},
        {
            "body_base64": "AP8=",
            "topic": "$queue/q",
            "qos": 2,
            "headers": {"n": 1},
            "key": "k",
            "message_id": "m",
        },
        {"body": "default topic"},
    )
    answer = await running.client.post("/v1/topics/a/b/batch", content=body)
    assert answer.json() == {"accepted": 3, "rejected": []}
    (_, first, _), (_, second, _) = running.broker.catalog.get("q").browse(0, 10)
    assert (first.body, first.properties.text) == (b"text", True)
    assert (second.body, second.qos, second.properties.message_id) == (b"\0\xff", 2, "m")
    assert (second.properties.headers, second.properties.key) == ((("n", 1),), "k")
    last = running.broker.router.routes["a/b"].last
    assert last is not None
    assert last.body == b"default topic"


@pytest.mark.parametrize("ending", [b"\n", b""])
async def test_bad_lines_are_named_by_their_number(running: Running, ending: bytes) -> None:
    lines = [
        b'{"body":"1"}',
        b"",
        b'{"body":"3","qos":9}',
        b"not json",
        b'{"body":"5","topic":"secret/x"}',
        b'{"body":"6","nope":1}',
        b'{"body":"7"}',
    ]
    answer = await running.client.post("/v1/topics/t/batch", content=b"\n".join(lines) + ending)
    found = answer.json()
    assert answer.status_code == 200
    assert found["accepted"] == 2
    assert [(r["line"], r["problem"]["status"]) for r in found["rejected"]] == [
        (3, 422),
        (4, 400),
        (5, 403),
        (6, 400),
    ]
    assert "nope" in found["rejected"][3]["problem"]["detail"]


async def test_numbers_are_right_without_empty_lines_too(running: Running) -> None:
    body = ndjson({"body": "1"}, {"body": "2", "topic": "a/+"}, {"body": "3"})
    answer = await running.client.post("/v1/topics/t/batch", content=body)
    assert [r["line"] for r in answer.json()["rejected"]] == [2]


async def test_a_batch_of_nothing_but_faults_is_a_problem(running: Running) -> None:
    answer = await running.client.post("/v1/topics/t/batch", content=b"x\ny\n")
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (400, "/docs#nothing-accepted")
    assert [r["line"] for r in problem["rejected"]] == [1, 2]
    denied = await running.client.post("/v1/topics/secret/x/batch", content=ndjson({"body": ""}))
    assert (denied.status_code, denied.json()["type"]) == (403, "/docs#not-authorized")


async def test_an_empty_batch_is_fine(running: Running) -> None:
    answer = await running.client.post("/v1/topics/t/batch", content=b"")
    assert answer.json() == {"accepted": 0, "rejected": []}


async def test_pieces_give_others_their_turn(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "BATCH_CHUNK_BYTES", 64)
    running.broker.catalog.declare("q")
    before = running.gateway.turn.turns
    lines = [{"body": str(number)} for number in range(100)]
    answer = await running.client.post("/v1/topics/$queue/q/batch", content=ndjson(*lines))
    assert answer.json()["accepted"] == 100
    assert running.gateway.turn.turns - before > 10
    bodies = [message.body for _, message, _ in running.broker.catalog.get("q").browse(0, 1000)]
    assert bodies == [str(number).encode() for number in range(100)]


async def test_lines_can_be_idempotent(running: Running) -> None:
    running.broker.catalog.declare("q")
    body = ndjson({"body": "x", "idempotency_key": "k"}, {"body": "x", "idempotency_key": "k"})
    for _ in range(2):
        answer = await running.client.post("/v1/topics/$queue/q/batch", content=body)
        assert answer.json()["accepted"] == 2
    assert running.broker.catalog.get("q").length() == 1
    whole = await running.client.post("/v1/topics/t/batch", content=body, headers={"Idempotency-Key": "k"})
    assert whole.status_code == 400


async def test_what_was_not_stored_is_not_accepted(running: Running) -> None:
    running.broker.catalog.declare("q")
    running.gateway.engine.full = True
    body = ndjson({"body": "1", "idempotency_key": "k"}, {"body": "2", "qos": 9}, {"body": "3"})
    answer = await running.client.post("/v1/topics/$queue/q/batch", content=body)
    problem = answer.json()
    assert answer.status_code == 400, "the lines failed for different reasons"
    assert sorted((r["line"], r["problem"]["status"]) for r in problem["rejected"]) == [
        (1, 507),
        (2, 422),
        (3, 507),
    ]
    only = await running.client.post("/v1/topics/$queue/q/batch", content=ndjson({"body": "1"}))
    assert (only.status_code, only.json()["type"]) == (507, "/docs#not-stored")
    running.gateway.engine.full = False
    again = await running.client.post("/v1/topics/$queue/q/batch", content=body)
    assert again.json()["accepted"] == 2
    assert running.broker.catalog.get("q").length() == 2


async def test_limits(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "BATCH_LINES_MAX", 10)
    monkeypatch.setattr(batch_module, "REJECTED_SHOWN_MAX", 3)
    long = await running.client.post("/v1/topics/t/batch", content=b"\n" * 11)
    assert long.status_code == 413
    lines = [{"body": "ok"}, *({"qos": 9} for _ in range(5))]
    answer = await running.client.post("/v1/topics/t/batch", content=ndjson(*lines))
    assert (len(answer.json()["rejected"]), answer.json()["rejected_count"]) == (3, 5)
    parameters = await running.client.post("/v1/topics/t/batch?qos=1", content=b"")
    assert parameters.status_code == 422


# -- all or nothing ---------------------------------------------------------------------------


async def test_an_atomic_batch_goes_to_all_its_topics(running: Running) -> None:
    running.broker.catalog.declare("q")
    running.broker.catalog.declare("r")
    body = ndjson({"body": "1", "topic": "$queue/q"}, {"body": "2", "topic": "$queue/r"}, {"body": "3"})
    answer = await running.client.post("/v1/topics/a/b/batch?atomic=true", content=body)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 3, "rejected": []})
    assert [running.broker.catalog.get(name).length() for name in ("q", "r")] == [1, 1]


BAD_LINES: list[tuple[bytes, int, str]] = [
    (b"not json", 400, "malformed"),
    (b'{"body":"x","qos":9}', 422, "invalid-parameter"),
    (b'{"body":"x","topic":"a/#"}', 400, "invalid-topic"),
    (b'{"body":"x","topic":"secret/x"}', 403, "not-authorized"),
    (b'{"body":"x","topic":"$transaction/t/commit"}', 403, "not-authorized"),
    (b'{"body":"x","topic":"$queue/full"}', 429, "queue-full"),
]


@pytest.mark.parametrize(("line", "status", "kind"), BAD_LINES)
async def test_one_bad_line_refuses_an_atomic_batch(
    running: Running, line: bytes, status: int, kind: str
) -> None:
    running.broker.catalog.declare("q")
    policy = QueuePolicy(max_length=1, overflow="reject")
    full, _ = running.broker.catalog.declare("full", policy=policy)
    running.broker.enqueue(full, Message("$queue/full", b""), None)
    body = ndjson({"body": "1", "topic": "$queue/q"}) + b"\n" + line + b"\n"
    answer = await running.client.post("/v1/topics/a/b/batch?atomic=true", content=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["type"].endswith(kind)
    assert status == 429 or "nothing was published; line 3: " in answer.json()["detail"]
    assert running.broker.catalog.get("q").length() == 0


async def test_an_atomic_batch_that_is_not_stored_is_nowhere(running: Running) -> None:
    running.broker.catalog.declare("q")
    running.gateway.engine.full = True
    body = ndjson({"body": "1", "topic": "$queue/q"}, {"body": "2", "topic": "$queue/q"})
    answer = await running.client.post("/v1/topics/a/batch?atomic=true", content=body)
    assert answer.status_code == 507
    running.gateway.engine.full = False
    assert running.broker.catalog.get("q").length() == 0


@pytest.mark.parametrize("query", ["atomic=yes", "atomic", "x=1", "atomic=true&atomic=true"])
async def test_a_batch_has_no_other_parameters(running: Running, query: str) -> None:
    answer = await running.client.post(f"/v1/topics/a/batch?{query}", content=b"")
    assert answer.status_code == 422


async def test_an_atomic_batch_has_fewer_lines(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "ATOMIC_LINES_MAX", 2)
    lines = [{"body": "x"}] * 3
    answer = await running.client.post("/v1/topics/a/batch?atomic=true", content=ndjson(*lines))
    assert answer.status_code == 413
    answer = await running.client.post("/v1/topics/a/batch?atomic=true", content=ndjson(*lines[:2]))
    assert answer.json()["accepted"] == 2
