"""The front of the HTTP door: what every request passes, and where it goes.

Hot routes are called at once; everything else goes to FastAPI, which is 5 times slower.
Both get the path undecoded: an empty level, or a slash within a queue's name, survives.
Whatever escapes becomes a problem; a page of another origin is refused here, for all.
"""

from __future__ import annotations

from typing import Any

import structlog

from ...api import GatewayError, HttpPart, ServerProtocol
from .answers import Header, Receive, Scope, Send, refuse_websocket, send_problem
from .app import limited
from .batch import publish_batch
from .bridge import serve_bridge
from .context import Context
from .limits import HEADERS_MAX
from .origins import allowed_origin, check_site, preflight, with_origin
from .parts import serve_part
from .problems import BUG, Problem, Refused, problem_of
from .publish import (
    BATCH_SUFFIX,
    MESSAGES_SUFFIX,
    QUEUES_PATH,
    TOPICS_PATH,
    TRANSACTION_TOPICS,
    TRANSACTIONS_PATH,
    ClientGone,
    Publishing,
)
from .request import REQUEST_SUFFIX, request
from .ws import serve_socket

log = structlog.get_logger("gateway")

SOCKET_PATH = "/v1/ws"
EVENTS_PATH = "/v1/subscribe"


class Front:
    """The ASGI application that the server runs."""

    def __init__(self, context: Context, app: Any) -> None:
        self._context = context
        self._app = app
        self._publishing = Publishing(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = _Started(send)
        try:
            headers: list[Header] = scope["headers"]
            if len(headers) > HEADERS_MAX:
                raise Refused("head-too-large", f"a request has at most {HEADERS_MAX} headers")
            origin = _header(headers, b"origin")
            if origin is None:
                check_site(_header(headers, b"sec-fetch-site"), scope["method"])
            else:
                if scope["method"] == "OPTIONS":
                    await preflight(self._context.limits.origins, origin, send)
                    return
                if allowed_origin(
                    self._context.limits.origins, origin, headers, scope["method"], scope["scheme"]
                ):
                    started.send = with_origin(self._context.limits.origins, origin, send)
            await self._route(scope, receive, started)
        except GatewayError as error:
            await self._fail(started, problem_of(error))
        except ClientGone:
            pass
        except Exception:
            log.exception("bug: a request failed", method=scope["method"], path=scope["path"])
            await self._fail(started, Problem("internal-error", BUG))

    async def _fail(self, started: _Started, problem: Problem) -> None:
        if not started.started:
            await send_problem(started.send, problem)
        elif not started.complete:
            raise ConnectionError(problem.detail)  # the server cuts the connection: the answer is incomplete

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes = scope["raw_path"]
        if scope["method"] == "POST":
            if raw.startswith(TOPICS_PATH):
                if raw.endswith(BATCH_SUFFIX):
                    await publish_batch(self._context, scope, receive, send)
                elif raw.endswith(REQUEST_SUFFIX):
                    await request(self._context, self._publishing, scope, receive, send)
                else:
                    await self._publishing.to_topic(scope, receive, send)
                return
            if raw.startswith(QUEUES_PATH) and raw.endswith(MESSAGES_SUFFIX):
                await self._publishing.to_queue(scope, receive, send)
                return
            if raw.startswith(QUEUES_PATH) and raw.endswith(REQUEST_SUFFIX):
                await request(self._context, self._publishing, scope, receive, send)
                return
            if raw.startswith(TRANSACTIONS_PATH) and TRANSACTION_TOPICS in raw:
                await self._publishing.to_transaction(scope, receive, send)
                return
        path = raw.decode("ascii")
        part = self._part(path)
        if part is not None:
            await serve_part(self._context, part, path, scope, receive, send)
            return
        if scope["method"] == "HEAD" and path != EVENTS_PATH:  # the server leaves the body out
            scope = {**scope, "method": "GET", "path": path}
        else:
            scope["path"] = path
        await self._app(scope, limited(receive), send)

    def _part(self, path: str) -> HttpPart | None:
        """Return the protocol whose part of this door a path is in."""
        parts = self._context.gateway.http_parts
        return next((part for part in parts if path.startswith(part.http_prefixes)), None)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers: list[Header] = scope["headers"]
            origin = _header(headers, b"origin")
            if origin is not None:
                allowed_origin(self._context.limits.origins, origin, headers, "WEBSOCKET", scope["scheme"])
            if self._context.stopping:
                raise Refused("stopping", "the gateway is stopping; connect again in a moment")
            if scope["path"] == SOCKET_PATH:
                await serve_socket(self._context, scope, receive, send)
                return
            for protocol in self._context.gateway.protocols.values():
                if isinstance(protocol, ServerProtocol) or not protocol.websocket_path:
                    continue
                if scope["path"] == protocol.websocket_path:
                    await serve_bridge(self._context, protocol, scope, receive, send)
                    return
            raise Refused("no-such-route", f"{scope['path'][:200]!r} is no WebSocket; {SOCKET_PATH} is")
        except GatewayError as error:
            await receive()  # websocket.connect
            await refuse_websocket(send, problem_of(error))
        except Exception:
            log.exception("bug: a WebSocket failed", path=scope["path"])


class _Started:
    """A `send` that knows whether the answer has begun."""

    __slots__ = ("complete", "send", "started")

    def __init__(self, send: Send) -> None:
        self.send = send
        self.started = False
        self.complete = False

    async def __call__(self, event: Any) -> None:
        if self.started:
            self.complete = not event.get("more_body")
        self.started = True
        await self.send(event)


def _header(headers: list[Header], wanted: bytes) -> bytes | None:
    for name, value in headers:
        if name == wanted:
            return value
    return None
