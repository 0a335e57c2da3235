"""Pulling with a lease: nothing is handed out twice at once, nothing is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.policy import QueuePolicy
from gateway.protocols.http import deliveries
from tests.protocols.http.http_support import Running, eventually


async def fill(running: Running, *bodies: str, kind: str = "classic", **policy: Any) -> None:
    running.broker.catalog.declare("q", kind, QueuePolicy(**policy))
    for body in bodies:
        await running.client.post("/v1/queues/q/messages", content=body.encode())


async def receive(running: Running, query: str = "") -> list[dict[str, Any]]:
    answer = await running.client.post(f"/v1/queues/q/receive?{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["deliveries"]
    return found


async def settle(running: Running, delivery: dict[str, Any], how: str, **wanted: Any) -> int:
    body = wanted or None
    answer = await running.client.post(f"/v1/deliveries/{delivery['id']}/{how}", json=body)
    return answer.status_code


def unsettled(running: Running) -> int:
    return sum(len(group.unsettled) for group in running.broker.catalog.get("q").groups())


async def test_received_and_acknowledged(running: Running) -> None:
    await fill(running, "1", "2", "3")
    first = await receive(running, "max=2")
    assert [(d["body"], d["attempt"], d["queue"], d["topic"]) for d in first] == [
        ("1", 1, "q", "$queue/q"),
        ("2", 1, "q", "$queue/q"),
    ]
    assert len({d["id"] for d in first}) == 2
    assert [d["body"] for d in await receive(running, "max=10")] == ["3"], "what is leased is nobody else's"
    assert await receive(running) == []
    assert [await settle(running, d, "ack") for d in first] == [204, 204]
    assert await settle(running, first[0], "ack") == 404, "settled is settled"
    assert unsettled(running) == 1
    assert not running.broker.catalog.get("q").groups()[0].consumers, "nobody waits"


async def test_a_lease_that_ends_gives_back(running: Running) -> None:
    await fill(running, "1")
    (delivery,) = await receive(running, "lease=0.02")
    (again,) = await receive(running, "wait=10")
    assert (again["body"], again["attempt"]) == ("1", 2)
    assert again["id"] != delivery["id"]
    assert await settle(running, delivery, "ack") == 404
    assert await settle(running, again, "ack") == 204


async def test_a_lease_can_be_extended(running: Running) -> None:
    await fill(running, "1")
    (delivery,) = await receive(running, "lease=0.2")
    due = running.broker.leases._held[delivery["id"]].timer.due_ms
    assert await settle(running, delivery, "extend", lease=3600) == 204
    assert running.broker.leases._held[delivery["id"]].timer.due_ms - due > 3_000_000
    assert await settle(running, {"id": "unknown"}, "extend") == 404


@pytest.mark.parametrize(
    ("wanted", "attempt"),
    [({}, 2), ({"outcome": "requeue"}, 2), ({"outcome": "retry", "delay": 0.01}, 1), ({"delay": 0.01}, 2)],
)
async def test_given_back(running: Running, wanted: dict[str, Any], attempt: int) -> None:
    await fill(running, "1")
    (delivery,) = await receive(running)
    assert await settle(running, delivery, "nack", **wanted) == 204
    (again,) = await receive(running, "wait=10")
    assert (again["body"], again["attempt"]) == ("1", attempt)


async def test_rejected_goes_to_the_dead_letters(running: Running) -> None:
    running.broker.catalog.declare("dead")
    await fill(running, "1", dead_letter="$queue/dead")
    (delivery,) = await receive(running)
    assert await settle(running, delivery, "nack", outcome="reject") == 204
    (letter,) = (await running.client.post("/v1/queues/dead/receive?wait=10")).json()["deliveries"]
    assert (letter["body"], letter["headers"]["dead-letter-queue"]) == ("1", "q")


async def test_waiting_ends_with_the_first_message(running: Running) -> None:
    await fill(running)
    poll = asyncio.create_task(receive(running, "wait=60&max=10"))
    group = running.broker.catalog.get("q").groups()[0]
    await eventually(lambda: group.consumers)
    await running.client.post("/v1/queues/q/messages", content=b"now")
    assert [d["body"] for d in await poll] == ["now"]
    assert not group.consumers


async def test_waiting_ends_with_its_time(running: Running) -> None:
    await fill(running)
    assert await receive(running, "wait=0.02") == []


async def test_many_pollers_share(running: Running) -> None:
    await fill(running)
    polls = [asyncio.create_task(receive(running, "wait=60&max=1")) for _ in range(10)]
    group = running.broker.catalog.get("q").groups()[0]
    await eventually(lambda: len(group.consumers) == 10)
    for number in range(10):
        await running.client.post("/v1/queues/q/messages", content=str(number).encode())
    got = [d["body"] for found in await asyncio.gather(*polls) for d in found]
    assert sorted(got) == [str(number) for number in range(10)]


async def test_a_client_that_leaves_takes_nothing(running: Running) -> None:
    await fill(running)
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"POST /v1/queues/q/receive?wait=60 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    group = running.broker.catalog.get("q").groups()[0]
    await eventually(lambda: group.consumers)
    writer.transport.abort()
    await eventually(lambda: not group.consumers)
    await running.client.post("/v1/queues/q/messages", content=b"x")
    (delivery,) = await receive(running, "wait=10")
    assert (delivery["body"], delivery["attempt"]) == ("x", 1)


async def test_what_was_collected_for_a_client_that_left_is_given_back(running: Running) -> None:
    from gateway.protocols.http.deliveries import Poll
    from gateway.protocols.http.publish import ClientGone

    await fill(running, "1", "2")
    context = running.door._server.context  # type: ignore[union-attr]
    left = asyncio.Event()

    async def receive_event() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        raise AssertionError("nobody is there")

    poll = Poll(context, "q", "", 10, 5, 30)
    deliver = poll._deliver

    def deliver_and_leave(batch: list[Any]) -> None:
        left.set()
        deliver(batch)

    poll._deliver = deliver_and_leave  # type: ignore[method-assign]
    scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": []}
    with pytest.raises(ClientGone):
        await poll.answer(scope, receive_event, send)
    again = await receive(running, "wait=10&max=10")
    if len(again) < 2:
        again += await receive(running, "wait=10&max=10")
    assert [(d["body"], d["attempt"]) for d in again] == [("1", 1), ("2", 1)]
    assert len(running.broker.leases) == 2


async def test_a_stream_is_received_by_group(running: Running) -> None:
    await fill(running, "0", "1", kind="stream")
    without = await running.client.post("/v1/queues/q/receive")
    assert without.status_code == 409
    await running.client.post("/v1/queues/q/groups/g/seek", json={"offset": 0})
    (first,) = await receive(running, "group=g")
    assert (first["body"], first["offset"]) == ("0", 0)
    assert await settle(running, first, "nack") == 204
    found = await receive(running, "group=g&max=2&wait=10")
    assert [d["body"] for d in found] == ["0", "1"]
    for delivery in found:
        assert await settle(running, delivery, "ack") == 204
    (group,) = (await running.client.get("/v1/queues/q")).json()["groups"]
    assert (group["cursor"], group["lag"], group["unsettled"]) == (2, 0, 0)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("max=0", 422),
        ("max=1001", 422),
        ("wait=61", 422),
        ("wait=-1", 422),
        ("wait=nan", 422),
        ("lease=0", 422),
        ("lease=43201", 422),
        ("group=g", 409),
        ("group=$g", 422),
    ],
)
async def test_refusals(running: Running, query: str, status: int) -> None:
    await fill(running, "1")
    answer = await running.client.post(f"/v1/queues/q/receive?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert unsettled(running) == 0


async def test_an_answer_is_bounded_in_bytes(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "RECEIVE_BYTES_MAX", 1000)
    sizes = [600, 100, 600, 5000, 1]
    await fill(running, *("x" * size for size in sizes))
    got: list[list[int]] = []
    while sum(len(answer) for answer in got) < len(sizes):
        found = await receive(running, "max=10&wait=10")
        assert all(delivery["attempt"] == 1 for delivery in found)
        got.append([len(delivery["body"]) for delivery in found])
    assert [size for answer in got for size in answer] == sizes
    assert all(len(answer) == 1 or sum(answer) <= 1000 for answer in got)


async def test_a_queue_that_would_go_with_its_consumer_is_not_polled(running: Running) -> None:
    running.broker.catalog.declare("q", auto_delete=True)
    answer = await running.client.post("/v1/queues/q/receive")
    assert answer.status_code == 409
    assert "q" in running.broker.catalog.queues


async def test_the_door_closes_on_its_pollers(running: Running) -> None:
    await fill(running)
    poll = asyncio.create_task(receive(running, "wait=60"))
    await eventually(lambda: running.broker.catalog.get("q").groups()[0].consumers)
    await running.door.stop()
    assert await poll == []


async def test_a_session_that_expires_does_not_end_a_poll(running: Running) -> None:
    await fill(running)
    poll = asyncio.create_task(receive(running, "wait=60"))
    await eventually(lambda: running.broker.catalog.get("q").groups()[0].consumers)
    running.door._server.context.sessions.close()  # type: ignore[union-attr]
    await running.client.post("/v1/queues/q/messages", content=b"x")
    assert [d["body"] for d in await poll] == ["x"]
