"""Batches: every line that can be published is, and the answer tells of the others."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
