"""Sending answers over plain ASGI, for the routes that do without FastAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from .problems import MEDIA_TYPE, Problem

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Header = tuple[bytes, bytes]

_JSON: Header = (b"content-type", b"application/json")
_PROBLEM: Header = (b"content-type", MEDIA_TYPE.encode())


async def send_json(send: Send, body: bytes, status: int = 200) -> None:
    """Answer with JSON that is encoded already."""
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem, extra: Sequence[Header] = ()) -> None:
    """Answer with a problem."""
    body = problem.to_json()
    headers = [_PROBLEM, (b"content-length", b"%d" % len(body)), *problem.headers, *extra]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse_websocket(send: Send, problem: Problem) -> None:
    """Answer a WebSocket handshake with a problem."""
    body = problem.to_json()
    headers = [_PROBLEM, (b"content-length", b"%d" % len(body)), *problem.headers]
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
