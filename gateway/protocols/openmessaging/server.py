"""gRPC's server: sockets, TLS, limits, and the parts of the door behind them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Any, Final

import grpc
import msgspec

from gateway.api import Address, Gateway, Series, TlsMaterial

from .call import Part
from .clients.groups import Groups
from .clients.logins import Logins
from .clients.settings import Negotiation
from .clients.telemetry import Telemetry
from .existence import Existence
from .offsets.offsets import Offsets
from .procedures import Procedures
from .receiving.consuming import Consumers
from .receiving.receiving import Receiving
from .receiving.settling import Settling
from .refusals import Refusals
from .routing.addresses import Addresses
from .routing.routing import Routing
from .sending.sending import Sending

REQUEST_BYTES_MAX: Final = 32 << 20  # a batch of a hundred messages of 256 KB; a body may be larger by itself
REQUEST_BYTES_MORE: Final = 1 << 20  # what may be around the largest body: properties, mostly
RESPONSE_BYTES_MAX: Final = 130 << 20  # RocketMQ's, of what comes in; who asks for so much can take it
METADATA_BYTES_MAX: Final = 16 << 10  # ten headers, one of them a signature: clients send half a kilobyte
STREAMS_MAX: Final = 4096  # calls at once of one connection, which several clients of a process may share
CALLS_PER_CONNECTION: Final = 4  # at once, on average: Telemetry, a long poll, and what is sent meanwhile
STOP_SECONDS: Final = 1.0  # that requests under way may take to end


class RocketServer:
    """The door, open at one address or two."""

    def __init__(self, gateway: Gateway, config: Any) -> None:
        body_bytes_max = min(config.openmessaging.body_bytes_max, config.limits.body_bytes_max)
        settings = msgspec.structs.replace(config.openmessaging, body_bytes_max=body_bytes_max)
        self._gateway = gateway
        self._limits = config.limits
        self._settings = settings
        self._servers: list[grpc.aio.Server] = []  # one for each address: gRPC adds none to one that runs
        self._addresses = Addresses(settings)
        self.logins = Logins(gateway, settings.client_idle_seconds)
        self._refusals = Refusals(gateway.clock)
        self._procedures = Procedures(self.logins, self._refusals, self._parts())
        gateway.series.append(self._numbers)

    def _parts(self) -> list[Part]:
        gateway, settings, logins = self._gateway, self._settings, self.logins
        groups = Groups(gateway, settings)
        existence = Existence(gateway, groups, settings)
        consumers = Consumers(gateway, logins)
        receiving = Receiving(gateway, consumers, existence, settings)
        negotiation = Negotiation(gateway, logins, groups, existence, settings)
        negotiation.on_subscribed.append(receiving.subscribe)
        return [
            Telemetry(gateway, logins, negotiation, self._refusals),
            Routing(gateway, existence, self._addresses),
            Sending(gateway, settings, logins, existence, self._refusals),
            receiving,
            Settling(gateway, self._refusals),
            Offsets(gateway, consumers, existence, settings),
        ]

    async def listen(self, address: Address) -> None:
        """Open a port. Raise OSError if that cannot be."""
        calls_max = CALLS_PER_CONNECTION * self._limits.connections_max
        server = grpc.aio.server(options=self._options(), maximum_concurrent_rpcs=calls_max)
        server.add_generic_rpc_handlers((self._procedures.service(),))
        if address.path:
            _check_free(address.path)
        target = f"unix:{address.path}" if address.path else f"{_host(address.host)}:{address.port}"
        try:
            if address.tls:
                server.add_secure_port(target, self._credentials(address.tls))
            else:
                server.add_insecure_port(target)
        except RuntimeError as error:  # gRPC's one word for all that can be wrong with an address
            raise OSError("gRPC cannot use the address; it may be another program's") from error
        self._addresses.opened(address)
        await server.start()
        self._servers.append(server)

    def _options(self) -> list[tuple[str, Any]]:
        """Return what gRPC is told: nothing of its own may end a client's connection that waits."""
        idle_ms = round(self._settings.client_idle_seconds * 1000)
        request_bytes_max = max(REQUEST_BYTES_MAX, self._settings.body_bytes_max + REQUEST_BYTES_MORE)
        return [
            ("grpc.max_receive_message_length", request_bytes_max),
            ("grpc.max_send_message_length", RESPONSE_BYTES_MAX),
            ("grpc.max_metadata_size", METADATA_BYTES_MAX),
            ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
            ("grpc.max_concurrent_streams", STREAMS_MAX),
            ("grpc.max_allowed_incoming_connections", self._limits.connections_max),
            ("grpc.server_handshake_timeout_ms", round(self._limits.handshake_seconds_max * 1000)),
            ("grpc.so_reuseport", 0),  # two gateways at one address are a mistake
            # A peer that has vanished without a word is missed before its client would count as idle.
            ("grpc.keepalive_time_ms", idle_ms // 4),
            ("grpc.keepalive_timeout_ms", idle_ms // 6),
            ("grpc.http2.ping_timeout_ms", idle_ms // 6),  # what of the two is longer counts
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.max_connection_idle_ms", 2 * idle_ms),  # without any call: clients have a Telemetry stream
            # Clients may ask whether we are there, as often as they like.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ("grpc.http2.max_ping_strikes", 0),
        ]

    def _credentials(self, door: str) -> grpc.ServerCredentials:
        """Return credentials that are what the door's files say when a connection begins."""
        used: list[TlsMaterial] = []

        def configuration() -> Any:
            material = self._gateway.tls_material(door)
            if used and used[-1] is material:
                return None  # as before
            used[:] = [material]
            pair = (material.key, material.certificates)
            return grpc.ssl_server_certificate_configuration([pair], material.client_ca or None)

        required = self._gateway.tls_material(door).client_certificates == "required"
        self.logins.certificates |= required
        first = configuration()
        return grpc.dynamic_ssl_server_credentials(first, configuration, required)

    def _numbers(self) -> Iterable[Series]:
        """Return what /metrics says of this door."""
        lines = sum(len(client.lines) for client in self.logins)
        yield Series("gateway_openmessaging_clients", "Clients", [((), len(self.logins))])
        yield Series("gateway_openmessaging_streams", "Telemetry streams of clients", [((), lines)])
        yield from self._procedures.numbers()

    def connections(self) -> int:
        """Return how many clients are there."""
        return len(self.logins)

    async def stop(self) -> None:
        """Close the ports, end the streams, let requests end."""
        self.logins.stop()
        with contextlib.suppress(
            TimeoutError
        ):  # were a thread of gRPC's stuck, the log would still be closed
            async with asyncio.timeout(2 * STOP_SECONDS):
                await asyncio.gather(*(server.stop(STOP_SECONDS) for server in self._servers))


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _check_free(path: str) -> None:
    """Raise OSError if somebody listens on a Unix socket: gRPC would take it away from them."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
    raise OSError(f"another process listens on {path}")
