"""Server-sent events: what comes, in which order, and what a broken connection costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.core.metrics import DropCause
from gateway.protocols.http import limits, resume, sse
from tests.protocols.http.http_support import Events, Running, eventually


@asynccontextmanager
async def subscribed(
    running: Running, query: str, last_id: str = "", **options: Any
) -> AsyncIterator[Events]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with running.client.stream("GET", f"/v1/subscribe?{query}", headers=headers, **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)


async def publish(running: Running, topic: str, *bodies: str, query: str = "") -> None:
    for body in bodies:
        answer = await running.client.post(f"/v1/topics/{topic}{query}", content=body.encode())
        assert answer.status_code == 200


def door_subscriptions(running: Running) -> resume.Subscriptions:
    return running.door._server._subscriptions  # type: ignore[union-attr]


async def test_what_matches_comes(running: Running) -> None:
    async with subscribed(running, "filter=a/%2B&filter=b") as events:
        await publish(running, "a/1", "x")
        await publish(running, "c", "not this")
        await running.client.post(
            "/v1/topics/b?qos=0", content=b"\xff", headers={"X-Key": "k", "X-Property-h": "v"}
        )
        name, first = await events.next()
        assert (name, first["topic"], first["body"], first["qos"], first["retain"]) == (
            "message",
            "a/1",
            "x",
            1,
            False,
        )
        _, second = await events.next()
        assert (second["topic"], second["body_base64"], second["qos"]) == ("b", "/w==", 0)
        assert (second["properties"]["key"], second["headers"]) == ("k", {"h": "v"})


async def test_retained_values_come_first_and_once(running: Running) -> None:
    await publish(running, "a/1", "kept", query="?retain=true")
    async with subscribed(running, "filter=a/%2B&filter=%23") as events:
        await publish(running, "a/2", "live")
        first, second = (await events.next())[1], (await events.next())[1]
        assert (first["body"], first["retain"]) == ("kept", True)
        assert (second["body"], second["retain"]) == ("live", False)
    async with subscribed(running, "filter=a/%2B&retained=false") as events:
        await publish(running, "a/2", "only this")
        assert (await events.next())[1]["body"] == "only this"


async def test_a_client_that_comes_back_misses_nothing(running: Running) -> None:
    async with subscribed(running, "filter=t") as events:
        await publish(running, "t", "1", "2")
        assert [(await events.next())[1]["body"] for _ in range(2)] == ["1", "2"]
        seen = events.last_id
    await publish(running, "t", "3", "4")
    async with subscribed(running, "filter=t", seen) as events:
        await publish(running, "t", "5")
        assert [(await events.next())[1]["body"] for _ in range(3)] == ["3", "4", "5"]
    async with subscribed(running, "filter=t", seen) as events:
        assert [(await events.next())[1]["body"] for _ in range(3)] == ["3", "4", "5"], (
            "lost on the way: again"
        )
    assert len(door_subscriptions(running)) == 1


async def test_a_client_has_a_place_before_its_first_event(running: Running) -> None:
    async with subscribed(running, "filter=t") as events:
        await events.until_id()
        place = events.last_id
    await publish(running, "t", "missed")
    async with subscribed(running, "filter=t", place) as events:
        assert (await events.next())[1]["body"] == "missed"


async def test_a_client_that_is_back_before_it_was_missed_takes_over(running: Running) -> None:
    async with subscribed(running, "filter=t") as events:
        await publish(running, "t", "1")
        await events.next()
        async with subscribed(running, "filter=t", events.last_id) as again:
            await publish(running, "t", "2")
            assert (await again.next())[1]["body"] == "2"
            with pytest.raises(EOFError):
                await events.next()
    assert len(door_subscriptions(running)) == 1


async def test_what_is_gone_is_said_to_be_gone(running: Running) -> None:
    async with subscribed(running, "filter=t", "nonsense-7") as events:
        name, data = await events.next()
        assert (name, data["missed"]) == ("gap", None)
        await publish(running, "t", "1")
        assert (await events.next())[1]["body"] == "1"
        seen = events.last_id
    async with subscribed(running, "filter=other", seen) as events:
        assert (await events.next())[0] == "gap", "another question"
    async with subscribed(running, "filter=t", seen, auth=("ann", "pass")) as events:
        assert (await events.next())[0] == "gap", "somebody else's"


async def test_more_than_is_kept_is_a_gap(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "REPLAY_EVENTS_MAX", 3)
    async with subscribed(running, "filter=t") as events:
        await publish(running, "t", "0")
        await events.next()
        seen = events.last_id
    await eventually(lambda: door_subscriptions(running)._lingering)
    await publish(running, "t", *"12345")
    async with subscribed(running, "filter=t", seen) as events:
        assert await events.next() == (
            "gap",
            {"reason": "more came than is kept for a client that is away", "missed": 2},
        )
        assert [(await events.next())[1]["body"] for _ in range(3)] == ["3", "4", "5"]


async def test_nobody_is_waited_for_for_ever(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "LINGER_MS", 30)
    async with subscribed(running, "filter=t") as events:
        await events.until_id()
        assert running.broker.router.bindings == 1
    await eventually(lambda: not len(door_subscriptions(running)))
    assert running.broker.router.bindings == 0


async def test_only_so_many_are_waited_for(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "LINGERING_MAX", 1)
    places = []
    for _ in range(2):
        async with subscribed(running, "filter=t") as events:
            await events.until_id()
            places.append(events.last_id)
        await eventually(lambda: len(door_subscriptions(running)._lingering) == 1)
    await eventually(lambda: len(door_subscriptions(running)) == 1)
    async with subscribed(running, "filter=t", places[0]) as events:
        assert (await events.next())[0] == "gap"


def test_all_replay_buffers_together_are_bounded() -> None:
    share = resume.Share()
    for count in (1, 64, 1000, 4096):
        share.among(count)
        assert share.bytes_max * count <= max(limits.REPLAY_BYTES_TOTAL_MAX, limits.REPLAY_BYTES_MIN * count)
        assert share.bytes_max <= limits.REPLAY_BYTES_MAX


async def test_silence_is_broken_by_heartbeats(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.02)
    async with running.client.stream("GET", "/v1/subscribe?filter=t") as response, asyncio.timeout(10):
        beats = 0
        async for line in response.aiter_lines():
            beats += line == ":"
            if beats == 3:
                break
    assert beats == 3


async def test_a_reader_that_stops_holds_up_nobody(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
    writer.write(b"GET /v1/subscribe?filter=t HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"retry")
    body = b"x" * 100_000
    dropped = running.broker.metrics.dropped
    async with asyncio.timeout(30):
        while not dropped[DropCause.SLOW_SUBSCRIBER]:
            answer = await running.client.post("/v1/topics/t", content=body)
            assert answer.status_code == 200
    receiver = next(s.receiver for s in running.gateway.sessions if s.receiver is not None)
    assert sum(len(message.body) for message, _ in receiver.inbox) <= receiver.bytes_max
    writer.close()
    await eventually(lambda: not running.door._server.context.lasting)  # type: ignore[union-attr]


async def test_the_door_closes_on_its_readers(running: Running) -> None:
    async with subscribed(running, "filter=t") as events:
        await events.until_id()
        await running.door.stop()
        with pytest.raises(EOFError):
            await events.next()
    assert running.broker.router.bindings == 0


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("", 422, "invalid-parameter"),
        ("filter=a/%23/b", 400, "invalid-topic"),
        ("filter=secret/x", 403, "not-authorized"),
        ("filter=$queue/q", 403, "not-authorized"),
        ("filter=a&stream=s", 422, "invalid-parameter"),
        ("filter=a&group=g", 422, "invalid-parameter"),
        ("stream=nope", 404, "not-found"),
        ("stream=classic", 409, "conflict"),
        ("stream=s&group=$x", 422, "invalid-parameter"),
        ("stream=s&offset=soon", 422, "invalid-parameter"),
        ("stream=secret", 403, "not-authorized"),
        ("&".join(["filter=a"] * 101), 422, "invalid-parameter"),
    ],
)
async def test_refusals(running: Running, query: str, status: int, kind: str) -> None:
    for name, make in (("s", "stream"), ("classic", "classic"), ("secret", "stream")):
        running.broker.catalog.declare(name, make)
    answer = await running.client.get(f"/v1/subscribe?{query}")
    assert (answer.status_code, answer.json()["type"]) == (status, f"/docs#{kind}")
    assert running.broker.router.bindings == 3, "the queues' own; nothing is left behind"
    assert not running.broker.catalog.get("s").groups()


# -- streams ------------------------------------------------------------------------------


async def stream(running: Running, *bodies: str) -> None:
    running.broker.catalog.declare("s", "stream")
    for body in bodies:
        answer = await running.client.post("/v1/queues/s/messages", content=body.encode())
        assert answer.status_code == 200


async def test_a_stream_is_read_from_an_offset(running: Running) -> None:
    await stream(running, "0", "1", "2")
    async with subscribed(running, "stream=s&offset=1") as events:
        assert [((await events.next())[1]["body"], events.last_id) for _ in range(2)] == [
            ("1", "1"),
            ("2", "2"),
        ]
        await stream(running, "3")
        assert (await events.next())[1]["body"] == "3"
    async with subscribed(running, "stream=s&offset=earliest") as events:
        assert (await events.next())[1]["body"] == "0"
    async with subscribed(running, "stream=s") as events:
        await eventually(lambda: running.broker.catalog.get("s").groups())
        await stream(running, "4")
        assert (await events.next())[1]["body"] == "4", "from now on, if nothing else is said"
    await eventually(lambda: not running.broker.catalog.get("s").groups())


async def test_last_event_id_resumes_a_stream_exactly(running: Running) -> None:
    await stream(running, "0", "1", "2", "3")
    async with subscribed(running, "stream=s&offset=earliest", "1") as events:
        assert [(await events.next())[1]["body"] for _ in range(2)] == ["2", "3"]


async def test_a_group_keeps_its_place(running: Running) -> None:
    await stream(running, "0", "1")
    async with subscribed(running, "stream=s&group=g&offset=0") as events:
        assert [(await events.next())[1]["body"] for _ in range(2)] == ["0", "1"]
        group = running.broker.catalog.get("s").groups()[0]
        await eventually(lambda: not group.unsettled)
    await eventually(lambda: not group.consumers)
    await stream(running, "2", "3")
    async with subscribed(running, "stream=s&group=g") as events:
        assert (await events.next())[1]["body"] == "2"
    await eventually(lambda: not group.consumers)
    async with subscribed(running, "stream=s&group=g", "0") as events:
        assert (await events.next())[1]["body"] == "1", "what Last-Event-ID says counts more"


async def test_readers_of_a_group_share_it(running: Running) -> None:
    await stream(running, "0", "1")
    async with subscribed(running, "stream=s&group=g&offset=0") as events:
        assert [(await events.next())[1]["body"] for _ in range(2)] == ["0", "1"]
        async with subscribed(running, "stream=s&group=g", "0") as other:
            group = running.broker.catalog.get("s").groups()[0]
            await eventually(lambda: len(group.consumers) == 2)
            await stream(running, "2", "3")
            got = {(await events.next())[1]["body"], (await other.next())[1]["body"]}
            assert got == {"2", "3"}, "its place is not moved while others read"


async def test_what_retention_removed_is_a_gap(running: Running) -> None:
    await stream(running, "0", "1", "2", "3")
    queue = running.broker.catalog.get("s")
    policy = type(queue.policy)(max_length=2)
    running.broker.catalog.set_policy(queue, policy)
    await publish(running, "$queue/s", "4")
    async with subscribed(running, "stream=s", "0") as events:
        assert await events.next() == ("gap", {"reason": "retention has removed events since", "missed": 2})
        assert (await events.next())[1]["body"] == "3"


async def test_a_reader_of_its_own_leaves_no_trace(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        running.gateway.engine, "cursor", lambda _, group, *__: written.append(group), raising=False
    )
    await stream(running, "0", "1")
    async with subscribed(running, "stream=s&offset=0") as events:
        await events.next()
    async with subscribed(running, "stream=s&offset=0&group=g") as events:
        await events.next()
    await eventually(lambda: "g" in written)
    assert not [name for name in written if name.startswith("$")]
