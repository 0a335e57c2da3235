"""Parts of the door that protocols and plugins have: what they are told, what is made of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest

from gateway.api import Conflict, HttpAnswer, HttpRequest
from gateway.protocols.http import parts, sessions
from tests.protocols.http.http_support import Running, close_door, eventually, open_door

Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]


class Part:
    """Implements `gateway.api.HttpPart` by a function."""

    http_prefixes: tuple[str, ...] = ("/part/",)

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def http_document(self) -> Mapping[str, Any]:
        return {}

    async def answer_http(self, request: HttpRequest) -> HttpAnswer:
        return await self._handler(request)


def serve(running: Running, handler: Handler) -> None:
    running.gateway.http_parts.append(Part(handler))


async def test_a_part_sees_the_request_and_its_answer_is_the_doors(running: Running) -> None:
    seen: list[HttpRequest] = []

    async def answer(request: HttpRequest) -> HttpAnswer:
        seen.append(request)
        return HttpAnswer(418, b"tea", "text/plain", [("x-pot", "small"), ("x-pot", "brown")])

    serve(running, answer)
    headers = {"X-Colour": "red", "authorization": "Basic Ym9zczpwYXNz"}
    found = await running.client.post("/part/a%2Fb?q=%20", content=b"water", headers=headers)
    assert (found.status_code, found.content, found.headers["content-type"]) == (418, b"tea", "text/plain")
    assert found.headers.get_list("x-pot") == ["small", "brown"]
    [request] = seen
    assert (request.method, request.path, request.query) == ("POST", "/part/a%2Fb", "q=%20")
    assert (request.body, dict(request.headers)["x-colour"]) == (b"water", "red")
    assert request.session.principal.name == "boss"


async def test_an_answer_without_a_body_has_no_type(running: Running) -> None:
    async def answer(request: HttpRequest) -> HttpAnswer:
        return HttpAnswer(204, content_type="")

    serve(running, answer)
    found = await running.client.get("/part/x")
    assert (found.status_code, "content-type" in found.headers) == (204, False)


async def test_what_a_part_refuses_is_a_problem(running: Running) -> None:
    async def answer(request: HttpRequest) -> HttpAnswer:
        raise Conflict("it is otherwise")

    serve(running, answer)
    found = await running.client.get("/part/x")
    assert (found.status_code, found.json()["detail"]) == (409, "it is otherwise")


async def test_a_body_has_a_limit(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES_MAX", 4)

    async def answer(request: HttpRequest) -> HttpAnswer:
        return HttpAnswer(200, request.body, "text/plain")

    serve(running, answer)
    assert (await running.client.post("/part/x", content=b"1234")).content == b"1234"
    assert (await running.client.post("/part/x", content=b"12345")).status_code == 413


async def test_who_waits_learns_that_the_client_has_left(running: Running) -> None:
    left: list[bool] = []

    async def answer(request: HttpRequest) -> HttpAnswer:
        left.append(await request.over())
        return HttpAnswer(204, content_type="")

    serve(running, answer)
    with pytest.raises(httpx.ReadTimeout):
        await running.client.get("/part/x", timeout=0.1)
    await eventually(lambda: left)
    assert left == [True]


async def test_who_waits_learns_that_the_door_closes() -> None:
    running = await open_door()
    waiting = asyncio.Event()
    left: list[bool] = []

    async def answer(request: HttpRequest) -> HttpAnswer:
        waiting.set()
        left.append(await request.over())
        left.append(await request.over())  # at once: it closes already
        return HttpAnswer(200, b"{}")

    serve(running, answer)
    asked = asyncio.ensure_future(running.client.get("/part/x"))
    await waiting.wait()
    await running.door.stop()
    assert (await asked).status_code == 200
    assert left == [False, False]
    await close_door(running)


async def test_a_session_is_not_closed_while_a_part_uses_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 1)  # the next login has this one's place
    known: list[bool] = []
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def answer(request: HttpRequest) -> HttpAnswer:
        if request.path == "/part/slow":
            waiting.set()
            await go_on.wait()
            known.append(request.session in running.gateway.authority.sessions)
        return HttpAnswer(200, b"{}")

    serve(running, answer)
    asked = asyncio.ensure_future(running.client.get("/part/slow"))
    await waiting.wait()
    await running.client.get("/part/quick", auth=("boss", "pass"))
    go_on.set()
    await asked
    assert known == [True]
    assert running.gateway.sessions[0] not in running.gateway.authority.sessions, "nobody uses it any more"
