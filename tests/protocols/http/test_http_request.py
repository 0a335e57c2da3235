"""Requests that wait: their end, whoever brings it about."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx
import pytest

from gateway.core import replies as replies_module
from gateway.core.message import Message, Properties
from gateway.protocols.http.limits import REQUEST_SECONDS_DEFAULT
from gateway.protocols.http.problems import Refused
from gateway.protocols.http.request import split_timeout
from tests.protocols.http.http_support import Running, eventually

BOSS = ("boss", "pass")


def asked(running: Running) -> Message:
    """Return the request that waits in the queue."""
    ((_, message, _),) = running.broker.catalog.get("q").browse(0, 10)
    assert isinstance(message, Message)
    return message


async def ask(running: Running, query: str = "", **headers: str) -> httpx.Response:
    return await running.client.post(
        f"/v1/queues/q/request?{query}", content=b"?", headers=headers, auth=BOSS, timeout=20
    )


async def test_the_first_answer_is_it(running: Running) -> None:
    queue, _ = running.broker.catalog.declare("q")
    request = asyncio.create_task(ask(running))
    await eventually(lambda: queue.length() == 1)
    message = asked(running)
    properties = message.properties
    assert properties.reply_to is not None
    assert (properties.correlation or b"").decode() == properties.message_id
    assert message.expires_at_ms > running.gateway.clock.now_ms
    answerer = running.gateway.sessions[-1]
    given = Properties(content_type="text/x", headers=(("n", 7),))
    answerer.publish(Message(properties.reply_to, b"1", properties=given))
    answerer.publish(Message(properties.reply_to, b"2"))
    answer = await request
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"1", "text/x")
    assert answer.headers["x-property-n"] == "json:7"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answerer.publish(Message(properties.reply_to, b"3")) == -1


async def test_what_the_client_says_stays(running: Running) -> None:
    queue, _ = running.broker.catalog.declare("q")
    headers = {"X-Correlation-Data": "mine", "X-Reply-To": "elsewhere", "X-Message-Id": "id"}
    request = asyncio.create_task(ask(running, "timeout=0.05&ttl=99&key=k", **headers))
    await eventually(lambda: queue.length() == 1)
    message = asked(running)
    assert message.expires_at_ms - running.gateway.clock.now_ms > 90_000
    properties = message.properties
    assert (properties.correlation, properties.message_id, properties.key) == (b"mine", "id", "k")
    assert (properties.reply_to or "").startswith("$reply/")
    assert (await request).status_code == 504


async def test_the_end_of_the_gateway_is_the_end(running: Running) -> None:
    queue, _ = running.broker.catalog.declare("q")
    request = asyncio.create_task(ask(running))
    await eventually(lambda: queue.length() == 1)
    context = running.door._server.context  # type: ignore[union-attr]
    context.stop()
    answer = await request
    assert (answer.status_code, answer.json()["type"]) == (503, "/docs#stopping")
    assert not context.lasting
    assert (await ask(running)).status_code == 503


async def test_who_leaves_takes_the_address_away(running: Running) -> None:
    queue, _ = running.broker.catalog.declare("q")
    with suppress(httpx.ReadTimeout):
        await running.client.post("/v1/queues/q/request", content=b"?", auth=BOSS, timeout=0.2)
    await eventually(lambda: queue.length() == 1)
    await eventually(lambda: not running.door._server.context.lasting)  # type: ignore[union-attr]
    address = asked(running).properties.reply_to or ""
    assert running.gateway.sessions[-1].publish(Message(address, b"late")) == -1


async def test_what_could_not_be_stored_is_not_asked(running: Running) -> None:
    running.broker.catalog.declare("q", durable=True)
    running.gateway.engine.full = True
    assert (await ask(running)).status_code == 507
    assert not running.door._server.context.lasting  # type: ignore[union-attr]


async def test_there_are_so_many_and_no_more(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.broker.catalog.declare("q")
    monkeypatch.setattr(replies_module, "WAITING_MAX", 0)
    answer = await ask(running)
    assert (answer.status_code, answer.json()["type"]) == (429, "/docs#quota-exceeded")


async def test_who_may_not_publish_may_not_ask(running: Running) -> None:
    running.broker.catalog.declare("q")
    guest = await running.client.post("/v1/queues/q/request", content=b"?", auth=("guest", "pass"))
    assert guest.status_code == 403
    assert (await running.client.post("/v1/queues/none/request", content=b"?", auth=BOSS)).status_code == 404
    own = await running.client.post("/v1/queues/%24session%2Fx/request", content=b"?", auth=BOSS)
    assert own.status_code in (403, 404)


@pytest.mark.parametrize(
    ("query", "left", "seconds"),
    [
        (b"", b"", REQUEST_SECONDS_DEFAULT),
        (b"key=timeout=1", b"key=timeout=1", REQUEST_SECONDS_DEFAULT),
        (b"timeout=5&key=a", b"key=a", 5.0),
        (b"a=b&timeout=0.5", b"a=b", 0.5),
        (b"timeout=1&timeout=%32", b"", 2.0),
    ],
)
def test_the_timeout_is_no_option_of_a_publish(query: bytes, left: bytes, seconds: float) -> None:
    assert split_timeout(query) == (left, seconds)


@pytest.mark.parametrize("text", [b"", b"0", b"-1", b"nan", b"inf", b"1e9", b"soon", b"\xff"])
def test_what_is_no_timeout(text: bytes) -> None:
    with pytest.raises(Refused, match="timeout"):
        split_timeout(b"timeout=" + text)
