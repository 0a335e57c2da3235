"""The JSON WebSocket: publish, subscribe, consume, settle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.core.metrics import DropCause
from gateway.core.policy import QueuePolicy
from gateway.protocols.http import ws as ws_module
from tests.protocols.http.http_support import DEADLINE_SECONDS, Running, eventually


class Client:
    """One WebSocket, speaking JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **request: Any) -> None:
        await self.connection.send(json.dumps(request))

    async def read(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            found: dict[str, Any] = json.loads(await self.connection.recv())
            return found

    async def ask(self, **request: Any) -> dict[str, Any]:
        await self.send(**request)
        return await self.read()


@asynccontextmanager
async def opened(running: Running, **options: Any) -> AsyncIterator[Client]:
    async with connect(f"{running.ws_url}/v1/ws", compression=None, **options) as connection:
        yield Client(connection)


async def test_ping(running: Running) -> None:
    async with opened(running) as client:
        assert await client.ask(op="ping", id=7) == {"op": "pong", "id": 7}
        assert await client.ask(op="ping") == {"op": "pong"}


async def test_published_and_received(running: Running) -> None:
    async with opened(running) as client:
        answer = await client.ask(op="subscribe", filter="a/#", id="s1")
        assert answer == {"op": "subscribed", "id": "s1", "filter": "a/#", "qos": 1, "replaced": False}
        await client.send(op="publish", topic="a/b", body="hi", key="k", headers={"h": 1}, id="p1")
        published, message = await client.read(), await client.read()
        if published["op"] == "message":
            published, message = message, published
        assert published["op"] == "published"
        assert (published["id"], published["duplicate"], published["subscribers"]) == ("p1", False, True)
        assert (message["op"], message["topic"], message["body"]) == ("message", "a/b", "hi")
        assert (message["properties"]["key"], message["headers"]) == ("k", {"h": 1})
        assert await client.ask(op="unsubscribe", filter="a/#") == {"op": "unsubscribed", "filter": "a/#"}
        await running.client.post("/v1/topics/a/b", content=b"x")
        assert (await client.ask(op="ping"))["op"] == "pong", "and no message"


async def test_live_subscription_with_retained_values(running: Running) -> None:
    await running.client.post("/v1/topics/t?retain=true", content=b"\xff")
    async with opened(running) as client:
        assert (await client.ask(op="subscribe", filter="t", qos=0))["op"] == "subscribed"
        message = await client.read()
        assert (message["body_base64"], message["retain"]) == ("/w==", True)
        assert "delivery" not in message
        assert (await client.ask(op="subscribe", filter="t", qos=0, retained=False))["replaced"] is True
        assert (await client.ask(op="ping"))["op"] == "pong"


async def test_what_must_not_be_lost_is_acknowledged(running: Running) -> None:
    async with opened(running) as client:
        await client.ask(op="subscribe", filter="t", qos=1, window=1)
        for body in (b"1", b"2"):
            await running.client.post("/v1/topics/t", content=body)
        first = await client.read()
        assert (first["body"], first["attempt"]) == ("1", 1)
        assert (await client.ask(op="ping"))["op"] == "pong", "the window is full"
        await client.send(op="ack", delivery=first["delivery"], id=1)
        assert await client.read() == {"op": "settled", "id": 1, "delivery": first["delivery"]}
        assert (await client.read())["body"] == "2"
    await eventually(lambda: not running.broker.catalog.queues)


async def test_consuming_a_queue(running: Running) -> None:
    running.broker.catalog.declare("q")
    for body in (b"1", b"2", b"3"):
        await running.client.post("/v1/queues/q/messages", content=body)
    async with opened(running) as client:
        assert (await client.ask(op="consume", queue="q", window=2))["op"] == "consuming"
        first, second = await client.read(), await client.read()
        assert (first["op"], first["queue"], first["body"], first["attempt"]) == ("delivery", "q", "1", 1)
        await client.send(op="nack", delivery=first["delivery"], outcome="requeue")
        assert (await client.read())["op"] == "settled"
        again = await client.read()
        assert (again["body"], again["attempt"]) == ("1", 2)
        twice = await client.ask(op="ack", delivery=first["delivery"])
        assert twice["problem"]["type"] == "/docs#not-found"
        await client.send(op="ack", delivery=second["delivery"])
        assert {(await client.read())["op"], (await client.read())["op"]} == {"settled", "delivery"}
        assert await client.ask(op="cancel", queue="q") == {"op": "cancelled", "queue": "q"}
        assert running.broker.catalog.get("q").length() == 2
        assert (await client.ask(op="ack", delivery=again["delivery"]))["op"] == "error", "it was given back"
    queue = running.broker.catalog.get("q")
    await eventually(lambda: not queue.groups()[0].consumers)
    assert queue.length() == 2


async def test_a_lease_is_extended_and_one_that_ended_settles_nothing(running: Running) -> None:
    running.broker.catalog.declare("q", policy=QueuePolicy(lease_ms=60_000))
    for body in (b"1", b"2"):
        await running.client.post("/v1/queues/q/messages", content=body)
    async with opened(running) as client:
        await client.ask(op="consume", queue="q", window=2)
        first, second = await client.read(), await client.read()
        extended = await client.ask(op="extend", delivery=first["delivery"])
        assert extended == {"op": "extended", "delivery": first["delivery"]}
        queue = running.broker.catalog.get("q")
        running.broker.catalog.set_policy(queue, QueuePolicy(lease_ms=1, backoff_ms=(60_000,)))
        held = list(queue.groups()[0].unsettled.values())
        assert [delivery.message.body for delivery in held] == [b"2", b"1"], "the one extended is due last"
        for missing in ({}, {"delivery": 99}):
            assert (await client.ask(op="extend", **missing))["op"] == "error"
        await client.send(op="ack", delivery=second["delivery"])
        assert (await client.read())["op"] == "settled"
        assert (await client.ask(op="extend", delivery=second["delivery"]))["op"] == "error"


async def test_consuming_a_stream_in_a_group(running: Running) -> None:
    running.broker.catalog.declare("s", "stream")
    async with opened(running) as client:
        assert (await client.ask(op="consume", queue="s"))["problem"]["status"] == 409
        await client.ask(op="consume", queue="s", group="g")
        await running.client.post("/v1/queues/s/messages", content=b"x")
        delivery = await client.read()
        assert (delivery["group"], delivery["offset"], delivery["body"]) == ("g", 0, "x")


@pytest.mark.parametrize(
    ("text", "kind", "named"),
    [
        ("{", "malformed", "JSON"),
        ("[]", "malformed", "object"),
        ('{"op":"fly"}', "malformed", "known: ping"),
        ('{"nope":1}', "malformed", "nope"),
        ('{"op":"subscribe"}', "malformed", "filter is missing"),
        ('{"op":"subscribe","filter":"a/#/b"}', "invalid-topic", "#"),
        ('{"op":"subscribe","filter":"secret/x"}', "not-authorized", "secret/x"),
        ('{"op":"subscribe","filter":"a","qos":3}', "invalid-parameter", "qos"),
        ('{"op":"unsubscribe","filter":"a"}', "not-found", "a"),
        ('{"op":"publish","body":"x"}', "malformed", "topic is missing"),
        ('{"op":"publish","topic":"a/+"}', "invalid-topic", "wildcard"),
        ('{"op":"publish","topic":"t","qos":9}', "invalid-parameter", "qos"),
        ('{"op":"publish","topic":"t","delay":-1}', "invalid-parameter", "delay"),
        ('{"op":"publish","topic":"t","deliver_at":"soon"}', "invalid-parameter", "deliver_at"),
        ('{"op":"publish","topic":"t","deliver_at":99999999999999}', "invalid-parameter", "ten years"),
        ('{"op":"consume","queue":"nope"}', "not-found", "nope"),
        ('{"op":"consume","queue":"q","window":0}', "invalid-parameter", "window"),
        ('{"op":"cancel","queue":"q"}', "not-found", "q"),
        ('{"op":"ack"}', "malformed", "delivery is missing"),
        ('{"op":"ack","delivery":5}', "not-found", "5"),
        ('{"op":"nack","delivery":5,"delay":-1}', "invalid-parameter", "delay"),
    ],
)
async def test_a_fault_is_answered_and_ends_nothing(
    running: Running, text: str, kind: str, named: str
) -> None:
    async with opened(running) as client:
        await client.connection.send(text)
        answer = await client.read()
        assert answer["op"] == "error"
        assert answer["problem"]["type"] == f"/docs#{kind}"
        assert named in answer["problem"]["detail"]
        assert (await client.ask(op="ping"))["op"] == "pong"


async def test_idempotent_and_not_stored(running: Running) -> None:
    running.broker.catalog.declare("q")
    request = {"op": "publish", "topic": "$queue/q", "body": "x", "idempotency_key": "k", "id": 1}
    async with opened(running) as client:
        running.gateway.engine.full = True
        failed = await client.ask(**request)
        assert (failed["op"], failed["problem"]["type"]) == ("error", "/docs#not-stored")
        running.gateway.engine.full = False
        assert (await client.ask(**request))["duplicate"] is False
        assert (await client.ask(**request))["duplicate"] is True
    assert running.broker.catalog.get("q").length() == 1


async def test_logins(running: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(running, additional_headers={"Authorization": "Basic eDp5"}):
            raise AssertionError("wrong password")
    assert refused.value.response.status_code == 401
    async with opened(running, additional_headers={"Authorization": "Basic Z3Vlc3Q6cGFzcw=="}) as client:
        answer = await client.ask(op="publish", topic="t", body="x")
        assert answer["problem"]["type"] == "/docs#not-authorized"


async def test_a_token_logs_in_by_its_header_and_never_by_the_query(running: Running) -> None:
    async with opened(running, additional_headers={"Authorization": "Bearer guest.0"}) as client:
        answer = await client.ask(op="publish", topic="t", body="x")
        assert answer["problem"]["type"] == "/docs#not-authorized"
    async with opened(running, additional_headers={"X-API-Key": "boss.0"}) as client:
        assert "problem" not in await client.ask(op="publish", topic="secret/t", body="x")
    for query in ("access_token=boss.0", "token=boss.0", "api_key=boss.0"):
        answered = await running.client.post(f"/v1/topics/secret/t?{query}", content=b"x")
        assert answered.status_code == 422
    assert {login.token for login in running.gateway.logins} == {"guest.0", "boss.0"}


async def test_binary_messages_are_not_spoken_here(running: Running) -> None:
    async with opened(running) as client:
        await client.connection.send(b"\0")
        with pytest.raises(ConnectionClosed) as closed:
            await client.read()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003


async def test_unknown_paths(running: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{running.ws_url}/nothing"):
            raise AssertionError("nothing is here")
    assert refused.value.response.status_code == 404


async def test_limits(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_module, "WS_SUBSCRIPTIONS_MAX", 1)
    monkeypatch.setattr(ws_module, "WS_CONSUMERS_MAX", 1)
    running.broker.catalog.declare("q1")
    running.broker.catalog.declare("q2")
    async with opened(running) as client:
        await client.ask(op="subscribe", filter="a")
        assert (await client.ask(op="subscribe", filter="b"))["problem"]["type"] == "/docs#quota-exceeded"
        await client.ask(op="consume", queue="q1")
        assert (await client.ask(op="consume", queue="q2"))["problem"]["type"] == "/docs#quota-exceeded"
        assert (await client.ask(op="consume", queue="q1"))["problem"]["type"] == "/docs#conflict"


async def test_a_client_that_does_not_read_holds_up_nobody(running: Running) -> None:
    async with opened(running, max_queue=1) as client:
        await client.ask(op="subscribe", filter="t", qos=0)
        client.connection.transport.pause_reading()
        body = b"x" * 100_000
        async with asyncio.timeout(30):
            while not running.broker.metrics.dropped[DropCause.SLOW_SUBSCRIBER]:
                answer = await running.client.post("/v1/topics/t", content=body)
                assert answer.status_code == 200
        client.connection.transport.abort()
    await eventually(lambda: not running.broker.router.bindings)


async def test_a_client_that_only_writes_is_not_read_for_ever(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws_module, "WS_PENDING_BYTES_MAX", 10_000)
    async with opened(running, max_queue=1) as client:
        client.connection.transport.pause_reading()
        padding = "x" * 100_000

        async def flood() -> None:
            while True:
                await client.send(op="ping", id=padding)

        task = asyncio.create_task(flood())
        (socket,) = running.door._server.context.lasting  # type: ignore[union-attr]
        assert isinstance(socket, ws_module.Socket)
        await eventually(lambda: not socket._room.is_set())
        assert socket._pending < 1_000_000
        task.cancel()
        client.connection.transport.abort()


async def test_the_door_closes_on_its_clients(running: Running) -> None:
    async with opened(running) as client:
        await client.ask(op="ping")
        stop = asyncio.create_task(running.door.stop())
        with pytest.raises(ConnectionClosed) as closed:
            await client.read()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        await stop
