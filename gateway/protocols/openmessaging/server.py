"""gRPC's server: sockets, TLS, and what is around each procedure.

A procedure's handler is called with its client's session, in a turn that has begun; what it raises becomes
the status of an answer. Whoever is refused is named in the log, not more often than once in some seconds for
each client and code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

import grpc
import structlog

from gateway.api import Address, Gateway, GatewayError, Series, TlsMaterial
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.schema import CLASSES, Status
from gateway.rocketmq.tables import PROCEDURES, SERVICE, Procedure

from .call import Call, Context, Handler, Part
from .clients.groups import Groups
from .clients.logins import Logins
from .clients.telemetry import Telemetry
from .errors import code_of
from .receiving.receiving import Receiving
from .receiving.settling import Settling
from .refusals import Refusals
from .routing.routing import Routing

log = structlog.get_logger("gateway")

BATCH_BYTES_MAX: Final = (
    130 << 20
)  # of a request, as RocketMQ's proxy has it: bodies have a limit of their own
STOP_SECONDS: Final = 1.0  # that requests under way may take to end
#: Nothing of gRPC's own may end a client's connection that waits for messages.
OPTIONS: Final = (
    ("grpc.max_receive_message_length", BATCH_BYTES_MAX),
    ("grpc.max_send_message_length", BATCH_BYTES_MAX),
    ("grpc.so_reuseport", 0),  # two gateways at one address are a mistake
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
)


class RocketServer:
    """The door, open at one address or two."""

    def __init__(self, gateway: Gateway, config: Any) -> None:
        settings = config.openmessaging
        self._gateway = gateway
        self._server: grpc.aio.Server | None = None
        self.logins = Logins(gateway, settings.client_idle_seconds)
        groups = Groups(gateway)
        self._refusals = Refusals(gateway.clock)
        self._parts: list[Part] = [
            Telemetry(gateway, self.logins, groups, settings),
            Routing(gateway, groups, settings),
            Receiving(gateway, self.logins, settings),
            Settling(gateway),
        ]
        gateway.series.append(self._numbers)

    async def listen(self, address: Address) -> None:
        """Open a port. Raise OSError if that cannot be."""
        first = self._server is None
        if self._server is None:
            self._server = grpc.aio.server(options=OPTIONS)
            self._server.add_generic_rpc_handlers((self._handlers(),))
        target = f"unix:{address.path}" if address.path else f"{_host(address.host)}:{address.port}"
        try:
            if address.tls:
                self._server.add_secure_port(target, self._credentials(address.tls))
            else:
                self._server.add_insecure_port(target)
        except RuntimeError as error:  # gRPC's one word for all that can be wrong with an address
            raise OSError(f"gRPC cannot use the address: {error}") from error
        if first:
            await self._server.start()

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
        first = configuration()
        return grpc.dynamic_ssl_server_credentials(first, configuration, required)

    def _handlers(self) -> grpc.GenericRpcHandler:
        known: dict[str, Handler] = {}
        for part in self._parts:
            known.update(part.handlers())
        made = {
            procedure.name: self._method(procedure, known[procedure.name])
            for procedure in PROCEDURES
            if procedure.name in known
        }
        return grpc.method_handlers_generic_handler(SERVICE, made)

    def _method(self, procedure: Procedure, handler: Handler) -> grpc.RpcMethodHandler[Any, Any]:
        codec = {
            "request_deserializer": CLASSES[procedure.request].FromString,
            "response_serializer": CLASSES[procedure.response].SerializeToString,
        }
        if procedure.streams_requests:
            return grpc.stream_stream_rpc_method_handler(self._dialogue(procedure, handler), **codec)
        if procedure.streams_responses:
            return grpc.unary_stream_rpc_method_handler(self._stream(procedure, handler), **codec)
        return grpc.unary_unary_rpc_method_handler(self._unary(procedure, handler), **codec)

    def _unary(self, procedure: Procedure, handler: Handler) -> Callable[[Any, Context], Awaitable[Any]]:
        logins, response = self.logins, CLASSES[procedure.response]

        async def serve(request: Any, context: Context) -> Any:
            try:
                client = await logins.of(context)
                client.calls += 1
                try:
                    return await handler(Call(client, context), request)
                finally:
                    client.calls -= 1
            except Exception as error:
                return response(status=self._status(procedure, context, error))

        return serve

    def _stream(self, procedure: Procedure, handler: Handler) -> Callable[[Any, Context], Awaitable[None]]:
        logins, response = self.logins, CLASSES[procedure.response]

        async def serve(request: Any, context: Context) -> None:
            try:
                client = await logins.of(context)
                client.calls += 1
                try:
                    await handler(Call(client, context), request)
                finally:
                    client.calls -= 1
            except Exception as error:
                await context.write(response(status=self._status(procedure, context, error)))

        return serve

    def _dialogue(
        self, procedure: Procedure, handler: Handler
    ) -> Callable[[AsyncIterator[Any], Context], Awaitable[None]]:
        """Serve a stream of requests; it does not keep its client: who says nothing else is gone."""
        logins, response = self.logins, CLASSES[procedure.response]

        async def serve(requests: AsyncIterator[Any], context: Context) -> None:
            try:
                client = await logins.of(context)
                await handler(Call(client, context, requests), None)
            except Exception as error:
                await context.write(response(status=self._status(procedure, context, error)))

        return serve

    def _status(self, procedure: Procedure, context: Context, error: Exception) -> Any:
        """Return what a client is told of an error."""
        if not isinstance(error, GatewayError):
            log.error("bug: an RPC failed", rpc=procedure.name, exc_info=error)
            return Status(code=Code.INTERNAL_SERVER_ERROR, message="the gateway has a bug; its log says more")
        code = code_of(error)
        self._refusals.note(procedure.name, context, code, error.detail)
        return Status(code=code, message=error.detail)

    def _numbers(self) -> Iterable[Series]:
        """Return what /metrics says of this door."""
        return [Series("gateway_openmessaging_clients", "Clients", [((), len(self.logins))])]

    def connections(self) -> int:
        """Return how many clients are there."""
        return len(self.logins)

    async def stop(self) -> None:
        """Close the ports, end the streams, let requests end."""
        self.logins.stop()
        if self._server is not None:
            async with asyncio.timeout(2 * STOP_SECONDS):
                await self._server.stop(STOP_SECONDS)


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
