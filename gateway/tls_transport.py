"""TLS around one socket: what is between the loop's transport and the protocol of a plain door.

asyncio's and uvloop's own TLS would do, but for three things: a server of theirs is bound to one
context, so that new certificates need a new socket; nobody can count, or limit, handshakes under
way; and a client that is refused is not told why (the alert stays in the buffer). OpenSSL's part
is the same here: an `ssl.SSLObject`. An idle connection takes 20 KB (uvloop's 29, asyncio's 290).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

import structlog

from .api import Certificate
from .listeners import ConnectionLimits, peer_name
from .tls import TlsDoor
from .turn import Turn

log = structlog.get_logger("gateway")

RECORD_BYTES_MAX = 1 << 14  # RFC 8446, 5.1: OpenSSL returns no more at once
LOG_INTERVAL_MS = 1000  # who tries ten thousand times a second fills no disk


class TlsListener:
    """What the connections of one TLS listener share: certificates, limits, and what is behind."""

    __slots__ = ("_limits", "_logged_ms", "_now_ms", "_turn", "_unsaid", "door", "factory")

    def __init__(
        self,
        door: TlsDoor,
        factory: Callable[[], asyncio.BaseProtocol],
        limits: ConnectionLimits,
        turn: Turn,
        now_ms: Callable[[], int],
    ) -> None:
        self.door = door
        self.factory = factory
        self._limits = limits
        self._turn = turn
        self._now_ms = now_ms  # as of this turn, monotonic
        self._logged_ms = -LOG_INTERVAL_MS
        self._unsaid = 0  # failures since the last that was logged

    def connection(self) -> TlsTransport:
        """Return what the loop is to call for a new socket."""
        return TlsTransport(self)

    def admit(self, transport: TlsTransport) -> bool:
        """Count a handshake, as a connection that has not said who it is; False if there are too many."""
        self._turn.begin()
        return self._limits.admit(transport, self._now_ms())

    def done(self, transport: TlsTransport) -> None:
        """The handshake is over, well or not. Idempotent."""
        self._limits.forget(transport)

    def failed(self, peer: str, reason: str) -> None:
        """Log a failed handshake, unless another one just was."""
        self._turn.begin()
        now_ms = self._now_ms()
        if now_ms - self._logged_ms < LOG_INTERVAL_MS:
            self._unsaid += 1
            return
        more = {"unsaid": self._unsaid} if self._unsaid else {}
        self._logged_ms, self._unsaid = now_ms, 0
        log.info("TLS handshake failed", door=self.door.name, peer=peer, reason=reason, **more)


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """One client's socket with TLS: a protocol for the loop, and for the door's protocol a transport."""

    __slots__ = ("_closing", "_incoming", "_listener", "_outgoing", "_paused", "_protocol", "_raw", "_tls")

    _raw: asyncio.Transport
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO

    def __init__(self, listener: TlsListener) -> None:
        self._listener = listener
        self._protocol: asyncio.Protocol | None = None  # None until the handshake is over
        self._tls: ssl.SSLObject | None = None  # None until the client's first byte
        self._paused = False
        self._closing = False

    # -- what the loop calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        if not self._listener.admit(self):
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._tls is None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = self._listener.door.context
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(data)
        if self._protocol is not None or self._shake_hands(self._tls):
            self._read()

    def eof_received(self) -> bool:
        if self._protocol is not None and not self._closing:
            self._protocol.eof_received()
        return False  # close: TLS has no use for a half-closed connection

    def connection_lost(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None  # it has us, too: no cycle is left behind
        if protocol is not None:
            self._closing = True
            protocol.connection_lost(error)
            return
        self._listener.done(self)
        if self._tls is not None:  # who has sent nothing, such as a health check, is not worth a line
            reason = "it takes too long, or the gateway stops" if self._closing else "the client left"
            self._listener.failed(peer_name(self._raw), reason)
        self._closing = True

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # -- TLS ------------------------------------------------------------------------------------

    def _shake_hands(self, tls: ssl.SSLObject) -> bool:
        """Go on with the handshake; True if it is over."""
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return False
        except ssl.SSLError as error:
            self._send()  # the alert that says why
            self._listener.failed(peer_name(self._raw), _reason(error))
            self._tls = None
            self._closing = True
            self._raw.close()
            return False
        self._send()
        self._listener.done(self)
        self._protocol = cast(asyncio.Protocol, self._listener.factory())
        self._protocol.connection_made(self)
        return True

    def _read(self) -> None:
        """Decrypt what has come and pass it on in one piece."""
        chunks: list[bytes] = []
        ended = broken = False
        tls, protocol = self._tls, self._protocol
        if tls is None or protocol is None or self._closing:
            return
        try:
            while not self._paused and not ended:
                chunk = tls.read(RECORD_BYTES_MAX)
                chunks.append(chunk)
                ended = not chunk  # the client has said goodbye
        except ssl.SSLWantReadError:
            pass  # that was all there is
        except ssl.SSLError:
            broken = True  # a record that was tampered with, or no record: as if the socket had broken
        self._send()  # what TLS has to say by itself: alerts, new keys
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if data:
            protocol.data_received(data)
        if broken:
            self.abort()
        elif ended and not self._closing:
            protocol.eof_received()
            self.close()

    def _send(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    # -- what the door's protocol calls: asyncio.Transport ----------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        tls = self._tls
        if self._closing or tls is None or not data:
            return
        try:
            sent = tls.write(data)
            while sent < len(data):
                sent += tls.write(memoryview(data)[sent:])
        except ssl.SSLError:  # the connection is broken, which is this client's misfortune alone
            self.abort()
            return
        self._send()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._protocol is not None and self._tls is not None:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it wants to wait for the client's goodbye, which RFC 8446, 6.1 does not ask for
            self._send()
        self._raw.close()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def drain(self) -> None:
        """The gateway stops: who is not in yet stays out."""
        self.abort()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        if not self._paused and not self._closing:
            self._paused = True
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._raw.resume_reading()
            # What came before the pause is here already, and no event will tell of it.
            asyncio.get_running_loop().call_soon(self._read)

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what asyncio's TLS transports know, and `certificate`: the client's, as a `Certificate`."""
        tls = self._tls
        if tls is None or name not in ("ssl_object", "sslcontext", "certificate"):
            return self._raw.get_extra_info(name, default)
        if name == "ssl_object":
            return tls
        return tls.context if name == "sslcontext" else certificate_of(tls)


def _reason(error: ssl.SSLError) -> str:
    words = (error.reason or str(error)).lower().replace("_", " ")
    why = getattr(error, "verify_message", "")  # of SSLCertVerificationError alone
    return f"{words}: {why}" if why else words


def certificate_of(tls: ssl.SSLObject) -> Certificate | None:
    """Return the certificate that the client has proved to be its own; None if it showed none.

    There is none that was not verified: OpenSSL ends the handshake instead.
    """
    der = tls.getpeercert(binary_form=True)
    if der is None:
        return None
    from .peer_certificate import read_certificate  # cryptography: only where clients have certificates

    try:
        return read_certificate(der)
    except ValueError as error:
        log.warning("a client's certificate cannot be read; it counts as none", reason=str(error))
        return None
