"""Sockets to connections: TCP and Unix listeners, limits, one flush per connection per turn.

A `SocketTransport` is both the loop's protocol object and the `Transport` a connection sees:
one object per client, because an idle client must cost little.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from typing import Protocol as Interface
from typing import cast

import structlog

from .api import Address, Certificate, Connection, ConnectionProtocol, Gateway
from .core.errors import GatewayError
from .proxy_protocol import MalformedHeader, NeedMore, parse_header
from .turn import Turn

log = structlog.get_logger("gateway")

BACKLOG = 4096  # a fleet reconnects all at once
KEEPALIVE_IDLE_SECONDS = 120  # how long a half-open connection goes unnoticed, if its protocol has no ping
PROXY_HEADER_BYTES_MAX = 16 + 536  # fixed part and the largest TLVs seen from common proxies


class Door:
    """What all connections of one listener share."""

    __slots__ = ("buffer_bytes_max", "gateway", "limits", "protocol", "proxy_from", "turn")

    def __init__(
        self,
        protocol: ConnectionProtocol,
        gateway: Gateway,
        turn: Turn,
        limits: ConnectionLimits,
        proxy_from: Callable[[str], bool] | None = None,
    ) -> None:
        self.protocol = protocol
        self.gateway = gateway
        self.turn = turn
        self.limits = limits
        self.proxy_from = proxy_from  # tells whether a peer address may speak for others


class Client(Interface):
    """Somebody with a socket: a connection, or a TLS handshake that may become one."""

    def abort(self) -> None: ...

    def drain(self) -> None: ...


class ConnectionLimits:
    """Connections of all doors together: how many, and which have not identified themselves yet."""

    __slots__ = (
        "_arriving",
        "buffer_bytes_max",
        "connections_max",
        "elsewhere",
        "handshake_ms_max",
        "none_open",
        "open",
        "refused",
    )

    def __init__(self, connections_max: int, handshake_seconds_max: float, buffer_bytes_max: int) -> None:
        self.connections_max = connections_max
        self.handshake_ms_max = int(handshake_seconds_max * 1000)
        self.buffer_bytes_max = buffer_bytes_max
        self.open: set[Client] = set()
        self.elsewhere: Callable[[], int] = int  # connections of doors that own their sockets
        self.none_open = asyncio.Event()  # for whoever waits for the last one to go
        self.none_open.set()
        self.refused = 0
        self._arriving: dict[Client, int] = {}  # -> deadline; in order of arrival

    def admit(self, transport: Client, now_ms: int) -> bool:
        """Count a new connection; False if there are too many."""
        if self.count() >= self.connections_max:
            self.refused += 1
            return False
        self.open.add(transport)
        self.none_open.clear()
        self._arriving[transport] = now_ms + self.handshake_ms_max
        return True

    def count(self) -> int:
        """Return how many connections there are, at all doors."""
        return len(self.open) + self.elsewhere()

    def established(self, transport: Client) -> None:
        """The handshake is over."""
        self._arriving.pop(transport, None)

    def forget(self, transport: Client) -> None:
        """The connection is closed."""
        self.open.discard(transport)
        self._arriving.pop(transport, None)
        if not self.open:
            self.none_open.set()

    def expire(self, now_ms: int) -> None:
        """Cut off whoever has taken too long to say who they are."""
        late = []
        for transport, deadline_ms in self._arriving.items():
            if deadline_ms > now_ms:
                break
            late.append(transport)
        for transport in late:
            self._arriving.pop(transport, None)
            transport.abort()


class SocketTransport(asyncio.Protocol):
    """One client's socket."""

    __slots__ = ("_closing", "_connection", "_door", "_head", "_out", "_socket", "peer")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._connection: Connection | None = None
        self._socket: asyncio.Transport | None = None
        self._out: list[bytes] | None = None
        self._closing = False
        self._head: bytes | None = None  # bytes of a PROXY header that is not complete yet
        self.peer = ""

    # -- what the loop calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        door = self._door
        door.turn.begin()
        self._socket = cast(asyncio.Transport, transport)
        self.peer = peer_name(transport)
        if not door.limits.admit(self, door.gateway.clock.monotonic_ms):
            self._socket.abort()
            return
        self._socket.set_write_buffer_limits(high=door.limits.buffer_bytes_max)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            _tune(raw)
        if door.proxy_from is not None and door.proxy_from(self.peer):
            self._head = b""
        else:
            self._connect()

    def data_received(self, data: bytes) -> None:
        turn = self._door.turn
        turn.begin()
        if self._head is not None:
            data = self._strip_proxy_header(data)
            if not data:
                return
        connection = self._connection
        if connection is None or self._closing:
            return
        try:
            connection.receive(data)
        except Exception as error:
            self._failed(error)
        turn.took(len(data))

    def eof_received(self) -> bool:
        return False  # close: no protocol here goes on after its client's FIN

    def connection_lost(self, error: Exception | None) -> None:
        self._door.turn.begin()
        self._door.limits.forget(self)
        self._closing = True
        self._out = None
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.closed(error)
            except Exception:
                log.exception("bug: while closing", door=self._door.protocol.name, peer=self.peer)

    def pause_writing(self) -> None:
        self._door.turn.begin()
        self._congested(True)

    def resume_writing(self) -> None:
        self._door.turn.begin()
        self._congested(False)

    # -- what the connection calls ----------------------------------------------------------

    @property
    def certificate(self) -> Certificate | None:
        if self._socket is None:
            return None
        found: Certificate | None = self._socket.get_extra_info("certificate")  # of TLS transports only
        return found

    @property
    def secure(self) -> bool:
        return self._socket is not None and self._socket.get_extra_info("sslcontext") is not None

    def write(self, data: bytes) -> None:
        out = self._out
        if out is not None:
            out.append(data)
        elif not self._closing:
            self._out = [data]
            self._door.turn.dirty(self)

    def flush(self) -> None:
        """End of turn: everything queued goes out as one write."""
        out = self._out
        if out is None or self._socket is None:
            return
        self._out = None
        self._socket.write(out[0] if len(out) == 1 else b"".join(out))
        if self._closing:
            self._socket.close()

    def close(self) -> None:
        if self._closing or self._socket is None:
            return
        self._closing = True
        if self._out is None:
            self._socket.close()
        # Otherwise flush closes, after what is queued.

    def abort(self) -> None:
        self._closing = True
        self._out = None
        if self._socket is not None:
            self._socket.abort()

    def established(self) -> None:
        self._door.limits.established(self)

    def pause_reading(self) -> None:
        if self._socket is not None and not self._closing:
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        if self._socket is not None and not self._closing:
            self._socket.resume_reading()

    def drain(self) -> None:
        """The gateway stops: let the connection say goodbye."""
        if self._connection is None:
            self.abort()
            return
        try:
            self._connection.drain()
        except Exception as error:
            self._failed(error)

    # -- what a protocol does wrong is its own client's loss, nobody else's ------------------

    def _connect(self) -> None:
        door = self._door
        try:
            self._connection = door.protocol.connect(self, door.gateway)
        except Exception as error:
            self._failed(error)

    def _congested(self, congested: bool) -> None:
        if self._connection is None:
            return
        try:
            self._connection.congested(congested)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        door, peer = self._door.protocol.name, self.peer
        if isinstance(error, GatewayError):
            log.info("connection closed", door=door, peer=peer, reason=error.detail)
            self.close()
        else:
            log.error("bug: connection aborted", door=door, peer=peer, exc_info=error)
            self.abort()

    def _strip_proxy_header(self, data: bytes) -> bytes:
        assert self._head is not None
        if self._closing:
            return b""
        data = self._head + data
        try:
            peer, length = parse_header(data)
        except NeedMore:
            self._head = data
            if len(data) > PROXY_HEADER_BYTES_MAX:
                self.abort()
            return b""
        except MalformedHeader as error:
            log.info("connection closed", door=self._door.protocol.name, peer=self.peer, reason=str(error))
            self.abort()
            return b""
        self._head = None
        self.peer = peer or self.peer
        self._connect()
        return data[length:]


def _tune(raw: socket.socket) -> None:
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Return "host:port" of the other side, or "unix"."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple) and len(name) >= 2:
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return "unix"


async def open_listener(
    loop: asyncio.AbstractEventLoop, address: Address, factory: Callable[[], asyncio.BaseProtocol]
) -> asyncio.AbstractServer:
    """Listen on a TCP or Unix address. Raise OSError."""
    if address.path:
        remove_stale_socket(address.path)
        # Bound here: given a path, the loop would take it away from a gateway that listens on it.
        bound = socket.socket(socket.AF_UNIX)
        try:
            bound.bind(address.path)
            return await loop.create_unix_server(factory, sock=bound, backlog=BACKLOG)
        except BaseException:
            bound.close()
            raise
    return await loop.create_server(factory, address.host, address.port, backlog=BACKLOG, reuse_address=True)


def remove_stale_socket(path: str) -> None:
    """Remove a Unix socket nobody listens on any more; leave everything else alone."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    finally:
        probe.close()
