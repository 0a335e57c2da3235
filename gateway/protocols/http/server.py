"""uvicorn inside our own loop: sockets, time limits, and an orderly end.

Of uvicorn we take its HTTP and WebSocket protocols; the server around them is ours, because
uvicorn's own wants to exit the process on a fault, wakes up ten times a second, and lets a
client take for ever to send a request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from ...api import Address, Certificate, Gateway
from .answers import Scope
from .app import build_app
from .asgi import Front
from .context import CUT, Context
from .limits import DRAIN_SECONDS_MAX, HEAD_BYTES_MAX, Limits
from .problems import MEDIA_TYPE, Problem
from .resume import Subscriptions
from .sessions import CERTIFICATE
from .transport import CollectingTransport, Flusher

TICK_SECONDS = 1.0  # how late a slow client may be cut off; also how often the Date header changes
WS_PING_SECONDS = 20.0  # finds half-open connections; proxies see traffic


class Watch:
    """The time as the door's connections see it: read once a second, not once a request."""

    __slots__ = ("connections", "limits", "now", "refused")

    def __init__(self, limits: Limits, connections: Callable[[], int]) -> None:
        self.limits = limits
        self.connections = connections  # of all doors together
        self.now = time.monotonic()
        self.refused = 0  # connections over the limit


class HttpConnection(HttpToolsProtocol):
    """One HTTP connection. `deadline` is when the client must have gone on, 0: no need to."""

    def __init__(self, watch: Watch, flusher: Flusher, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self._watch = watch
        self._flusher = flusher
        self.deadline = 0.0
        self.head_bytes = -1  # of the head that is arriving; -1: none is

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(CollectingTransport(transport, self._flusher))
        self._certificate: Certificate | None = transport.get_extra_info("certificate")
        watch = self._watch
        self.deadline = watch.now + watch.limits.handshake_seconds_max
        if watch.connections() > watch.limits.connections_max:
            watch.refused += 1
            problem = Problem("stopping", "too many connections; try again later, or keep fewer open")
            self.transport.write(plain_answer(503, problem))
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._certificate is not None:
            cast(Scope, self.scope)[CERTIFICATE] = self._certificate
        self.head_bytes = 0
        self.deadline = self._watch.now + self._watch.limits.handshake_seconds_max

    def on_headers_complete(self) -> None:
        self.head_bytes = -1
        self.deadline = self._watch.now + self._watch.limits.body_seconds_max
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.deadline = 0.0
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.head_bytes >= 0:
            self.head_bytes += len(data)
            if self.head_bytes > HEAD_BYTES_MAX:
                detail = f"a request head has at most {HEAD_BYTES_MAX} bytes"
                self.transport.write(plain_answer(431, Problem("head-too-large", detail)))
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        problem = Problem("malformed", "this is not HTTP/1.1; see RFC 9112")
        self.transport.write(plain_answer(400, problem))
        self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        self.deadline = 0.0
        super().handle_websocket_upgrade()

    def late(self) -> bool:
        """Tell whether the client has taken too long to send what it began."""
        return 0.0 < self.deadline < self._watch.now and not self.flow.read_paused


def plain_answer(status: int, problem: Problem) -> bytes:
    """Return a whole response for a connection that is then closed."""
    body = problem.to_json()
    head = (
        f"HTTP/1.1 {status} {problem.title}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
    )
    return head.encode("ascii") + b"connection: close\r\n\r\n" + body


class SocketConnection(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    async def run_asgi(self) -> None:
        scope = cast(Scope, self.scope)
        scope[CUT] = self.transport.abort
        certificate: Certificate | None = self.transport.get_extra_info("certificate")
        if certificate is not None:
            scope[CERTIFICATE] = certificate
        await super().run_asgi()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # what it has not read in all that time would keep the socket open


class HttpServer:
    """All listeners of the HTTP door, and the connections they made."""

    def __init__(self, gateway: Gateway, limits: Limits) -> None:
        self._watch = Watch(limits, gateway.connections)
        self._flusher = Flusher(asyncio.get_running_loop())
        self.context = Context(gateway, limits)
        self._subscriptions = Subscriptions(self.context)
        self._state = ServerState()
        app = build_app(self.context, self._subscriptions, self.numbers)
        self._config = uvicorn.Config(
            app=Front(self.context, app),
            http=HttpConnection,
            ws=SocketConnection,
            ws_max_size=limits.body_bytes_max,
            ws_ping_interval=WS_PING_SECONDS,
            ws_ping_timeout=WS_PING_SECONDS,
            ws_per_message_deflate=False,  # 300 KB a connection, for messages that are mostly small
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            log_level=logging.CRITICAL,  # what matters is logged by us, as ours
            proxy_headers=False,
            server_header=False,
            date_header=False,  # set by _tick
            timeout_keep_alive=int(limits.keep_alive_seconds_max),
        )
        self._config.load()
        self._listeners: list[asyncio.AbstractServer] = []
        self._timer: asyncio.TimerHandle | None = None

    def numbers(self) -> dict[str, int]:
        """Return the door's own numbers, for metrics."""
        return {
            "connections": len(self._state.connections),
            "connections_refused": self._watch.refused,
            "requests": self._state.total_requests,
            "event_subscriptions": len(self._subscriptions),
            "sessions": len(self.context.sessions),
        }

    async def listen(self, address: Address) -> None:
        """Open a door. Raise OSError if the address cannot be used."""
        listener = await self.context.gateway.listen(address, self._connection)
        self._listeners.append(listener)
        if self._timer is None:
            self._tick()

    def ports(self) -> list[int]:
        """Return the TCP ports that are open; they were chosen by the system if 0 was asked for."""
        names = [s.getsockname() for listener in self._listeners for s in getattr(listener, "sockets", ())]
        return [name[1] for name in names if isinstance(name, tuple)]

    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self._state.connections)

    def _connection(self) -> asyncio.Protocol:
        return HttpConnection(self._watch, self._flusher, self._config, self._state)

    def _tick(self) -> None:
        self._watch.now = time.monotonic()
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]
        for connection in list(self._state.connections):
            if isinstance(connection, HttpConnection) and connection.late():
                connection.transport.abort()
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    async def stop(self) -> None:
        """Close the door, let requests finish for a moment, cut off the rest."""
        for listener in self._listeners:
            listener.close()
        if not self.context.stopping:
            self.context.stop()
        await asyncio.sleep(0)
        for connection in list(self._state.connections):
            if isinstance(connection, HttpToolsProtocol):
                connection.shutdown()
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        # uvicorn's sets tell nobody when they are empty.
        while (self._state.connections or self._state.tasks) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.sleep(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.context.gateway.begin_turn()
        self._subscriptions.close()
        self.context.sessions.close()
