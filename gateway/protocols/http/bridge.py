"""WebSockets for protocols over byte streams: MQTT at /mqtt, and any other that has a path.

A WebSocket is made to look like a socket: binary messages are bytes that arrive, wherever
they are cut, and everything written in a turn goes out as one message. For a protocol whose
own messages are those of the WebSocket (CoAP), each write is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from ...api import Certificate, Connection, ConnectionProtocol, GatewayError, MessageProtocol
from .answers import Receive, Scope, Send
from .context import Context, cutter
from .limits import BRIDGE_PENDING_BYTES_MAX, CLOSE_SECONDS_MAX
from .problems import Refused
from .sessions import certificate_of

log = structlog.get_logger("gateway")

NORMAL, UNSUPPORTED = 1000, 1003  # close codes (RFC 6455, 7.4.1)


class Bridge:
    """One WebSocket client of a protocol over byte streams; implements `gateway.api.Transport`."""

    def __init__(
        self,
        context: Context,
        protocol: ConnectionProtocol,
        peer: str,
        cut: Callable[[], None],
        certificate: Certificate | None = None,
        secure: bool = False,
    ) -> None:
        self.peer = peer
        self.certificate = certificate
        self.secure = secure
        self._cut = cut  # closes the socket at once
        self._context = context
        self._out: list[bytes] = []
        self._pending = 0  # bytes written and not sent
        self._congested = False
        self._wake = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._ended = asyncio.Event()  # nothing more will be read
        self._closing = False
        self.code = NORMAL
        self._protocol = protocol
        self._whole = isinstance(protocol, MessageProtocol)  # a message stays one, both ways
        self._timer: asyncio.TimerHandle | None = None
        self._connection: Connection | None = None

    # -- what the connection calls: gateway.api.Transport -----------------------------------

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        self._out.append(data)
        self._pending += len(data)
        self._wake.set()
        if self._pending > BRIDGE_PENDING_BYTES_MAX and not self._congested and self._connection is not None:
            self._congested = True
            self._connection.congested(True)

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._ended.set()

    def abort(self) -> None:
        self._out.clear()
        self.close()
        self._cut()

    def established(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    # -- life ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """The gateway stops: let the connection say goodbye."""
        self._context.gateway.begin_turn()
        if self._connection is not None:
            self._connection.drain()

    async def run(self, receive: Receive, send: Send) -> None:
        """Serve the client until either side ends."""
        gateway = self._context.gateway
        gateway.begin_turn()
        self._timer = asyncio.get_running_loop().call_later(
            self._context.limits.handshake_seconds_max, self.abort
        )
        connection = self._connection = self._connect()
        sender = asyncio.create_task(self._send_all(send))
        reader = asyncio.create_task(self._read_all(connection, receive))
        error: Exception | None = None
        try:
            await self._ended.wait()
            await asyncio.wait_for(sender, CLOSE_SECONDS_MAX)  # what is queued goes out before the close
        except (OSError, TimeoutError) as gone:
            error = gone
            self._cut()
        finally:
            self._closing = True
            reader.cancel()
            sender.cancel()
            self.established()
            gateway.begin_turn()
            connection.closed(error)

    def _connect(self) -> Connection:
        gateway = self._context.gateway
        if self._whole:
            assert isinstance(self._protocol, MessageProtocol)
            return self._protocol.connect_messages(self, gateway)
        return self._protocol.connect(self, gateway)

    async def _read_all(self, connection: Connection, receive: Receive) -> None:
        try:
            while not self._closing:
                await self._reading.wait()
                event = await receive()
                if event["type"] != "websocket.receive":
                    self._out.clear()  # nobody is there to read it
                    break
                data: bytes | None = event.get("bytes")
                if data is None:
                    self.code = UNSUPPORTED  # [MQTT-6.0.0-1]: binary frames only
                    break
                if (data or self._whole) and not self._take(connection, data):
                    break
        finally:
            self.close()

    def _take(self, connection: Connection, data: bytes) -> bool:
        self._context.gateway.begin_turn()
        try:
            connection.receive(data)  # [MQTT-6.0.0-2]: packets may be cut anywhere
        except GatewayError as error:
            log.info("connection closed", door=self._protocol.name, peer=self.peer, reason=error.detail)
            return False
        except Exception:
            log.exception("bug: connection aborted", door=self._protocol.name, peer=self.peer)
            self.abort()
            return False
        return True

    async def _send_all(self, send: Send) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                out, self._out = self._out, []
                if out:
                    if not self._whole and len(out) > 1:
                        out = [b"".join(out)]
                    for data in out:
                        await send({"type": "websocket.send", "bytes": data})
                        self._sent(len(data))
                elif self._closing:
                    await send({"type": "websocket.close", "code": self.code})
                    return
                if self._closing:
                    self._wake.set()
        except OSError:
            self._out.clear()
            self.close()

    def _sent(self, count: int) -> None:
        self._pending -= count
        if (
            self._congested
            and self._pending <= BRIDGE_PENDING_BYTES_MAX // 2
            and self._connection is not None
        ):
            self._congested = False
            self._context.gateway.begin_turn()
            self._connection.congested(False)


async def serve_bridge(
    context: Context, protocol: ConnectionProtocol, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve one client. Raise Refused if it does not offer the subprotocol."""
    wanted = protocol.websocket_subprotocol
    offered: list[Any] = scope.get("subprotocols") or []
    if wanted and wanted not in offered:  # [MQTT-6.0.0-3]
        raise Refused("malformed", f"offer the WebSocket subprotocol {wanted!r} (Sec-WebSocket-Protocol)")
    await receive()  # websocket.connect
    await send({"type": "websocket.accept", "subprotocol": wanted or None})  # [MQTT-6.0.0-4]
    client = scope["client"]
    peer = f"{client[0]}:{client[1]}" if client else "unix"
    secure = scope["scheme"] == "wss"
    bridge = Bridge(context, protocol, peer, cutter(scope), certificate_of(scope), secure)
    context.lasting.add(bridge)
    try:
        await bridge.run(receive, send)
    finally:
        context.lasting.discard(bridge)
