"""The HTTP door as the gateway sees it. What it needs is imported when it opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...api import Address, Gateway
from .limits import Limits

if TYPE_CHECKING:
    from .server import HttpServer


class HttpDoor:
    """HTTP, server-sent events and WebSockets; implements `gateway.api.TlsServerProtocol`."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.name = "http"
        self.address = "127.0.0.1:8080"
        self.alpn = "http/1.1"  # has a TLS door, `https`
        self._server: HttpServer | None = None

    async def serve(self, address: Address, gateway: Gateway) -> None:
        """Open the door. May be called again, for another address."""
        if self._server is None:
            from .server import HttpServer  # FastAPI and uvicorn: 0.3 s and 25 MB, only for who wants them

            self._server = HttpServer(gateway, self._limits)
        await self._server.listen(address)

    def ports(self) -> list[int]:
        """Return the TCP ports that are open."""
        return [] if self._server is None else self._server.ports()

    def connections(self) -> int:
        """Return how many clients are connected."""
        return 0 if self._server is None else self._server.connections()

    async def stop(self) -> None:
        """Close the door, let requests finish for a moment, and return."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
