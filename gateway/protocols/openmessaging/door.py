"""The door as the gateway sees it. gRPC is an extra: what needs it is imported when the door opens."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from gateway.api import Address, Gateway

if TYPE_CHECKING:
    from .server import RocketServer

ADDRESS: Final = "127.0.0.1:8081"  # the port of RocketMQ's proxy
REPEATS_MS: Final = 30_000  # clients try three times, and give each answer three seconds
MISSING: Final = "gRPC is not installed; pip install 'gateway[openmessaging]'"


def installed() -> bool:
    """Tell whether the extra is there."""
    return find_spec("grpc") is not None and find_spec("google.protobuf") is not None


class OpenMessaging:
    """RocketMQ 5 clients; a `TlsServerProtocol`, `OwnTlsProtocol` and `OptionalProtocol`."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self.name = "openmessaging"
        self.address = ADDRESS if installed() else ""
        self.repeats_ms = REPEATS_MS
        self.alpn = "h2"  # has a TLS door, `openmessagings`
        self.tls_library = "gRPC"
        self._server: RocketServer | None = None

    def missing(self) -> str:
        return "" if installed() else MISSING

    async def serve(self, address: Address, gateway: Gateway) -> None:
        """Open the door. May be called again, for another address."""
        if not installed():
            raise OSError(MISSING)
        if self._server is None:
            # Anybody can fail at a TLS handshake: gRPC would write a line about each to our standard error.
            os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
            from .server import RocketServer  # gRPC: 20 MB, only for who wants it

            self._server = RocketServer(gateway, self._config)
        await self._server.listen(address)

    def connections(self) -> int:
        """Return how many clients are there."""
        return 0 if self._server is None else self._server.connections()

    async def stop(self) -> None:
        """Close the door, let requests finish for a moment, and return."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
