"""Protocols for authors who prefer to await: one coroutine per client, over plain calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .core.access import Certificate
from .core.errors import GatewayError
from .core.session import Session

if TYPE_CHECKING:
    from .api import Connection, Gateway, Transport


class Stream:
    """One client's bytes, for protocols that prefer to await (see StreamProtocol)."""

    READ_AHEAD_BYTES_MAX = 1 << 18  # then the socket is not read until the protocol catches up

    def __init__(self, transport: Transport) -> None:
        self.peer = transport.peer
        self._transport = transport
        self._arrived = bytearray()
        self._ended = False
        self._wake = asyncio.Event()
        self._session: Session | None = None

    @property
    def certificate(self) -> Certificate | None:
        """What TLS has verified of the client; None if there is no TLS, or no certificate."""
        return self._transport.certificate

    def hold_back(self, session: Session) -> None:
        """Deliver nothing to this session while the client does not read what was written."""
        self._session = session
        session.owner = _Closer(self)

    async def read(self) -> bytes:
        """Return what has arrived, or b"" at the end."""
        while not self._arrived and not self._ended:
            self._wake.clear()
            await self._wake.wait()
        data = bytes(self._arrived)
        self._arrived.clear()
        self._transport.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        """Queue bytes; everything queued in a turn is one write to the socket."""
        self._transport.write(data)

    def established(self) -> None:
        """The client has identified itself: the handshake's time limit no longer applies."""
        self._transport.established()

    def close(self) -> None:
        """Close after what is queued has been sent."""
        self._transport.close()

    def feed(self, data: bytes) -> None:
        """Take bytes from the socket."""
        self._arrived += data
        if len(self._arrived) > self.READ_AHEAD_BYTES_MAX:
            self._transport.pause_reading()
        self._wake.set()

    def congest(self, congested: bool) -> None:
        """Note whether the client reads."""
        if self._session is not None:
            self._session.congest(congested)

    def end(self) -> None:
        """No more bytes will come."""
        self._ended = True
        self._wake.set()


class _Closer:
    """Closes a stream whose session the gateway ends."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def end(self, error: GatewayError) -> None:
        """What the client may do has changed, or its login has ended; the protocol has no words for it."""
        self._stream.close()


class StreamProtocol:
    """Base class of a protocol written as one coroutine per client: override `handle`."""

    name = ""
    address = ""
    websocket_path = ""
    websocket_subprotocol = ""

    async def handle(self, stream: Stream, gateway: Gateway) -> None:
        """Serve one client until it leaves. The stream is closed on return.

        Sessions opened here must be closed here (`try ... finally: session.close()`).
        """
        raise NotImplementedError

    def start(self, gateway: Gateway) -> None:
        """Nothing to prepare."""

    def connect(self, transport: Transport, gateway: Gateway) -> Connection:
        """Run `handle` for a client."""
        return _StreamConnection(self, transport, gateway)


class _StreamConnection:
    """Plain calls on one side, a coroutine on the other."""

    def __init__(self, protocol: StreamProtocol, transport: Transport, gateway: Gateway) -> None:
        self._stream = Stream(transport)
        gateway.task(self._run(protocol, gateway))

    async def _run(self, protocol: StreamProtocol, gateway: Gateway) -> None:
        try:
            await protocol.handle(self._stream, gateway)
        finally:
            self._stream.close()

    def receive(self, data: bytes) -> None:
        self._stream.feed(data)

    def congested(self, congested: bool) -> None:
        self._stream.congest(congested)

    def closed(self, error: Exception | None) -> None:
        self._stream.end()

    def drain(self) -> None:
        self._stream.close()
