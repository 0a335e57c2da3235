"""gRPC, as this driver uses it: a channel to each server, and the procedures on it.

The only module that knows grpc. What goes wrong on the way is an OMSError here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio

from gateway.rocketmq.schema import CLASSES
from gateway.rocketmq.tables import PROCEDURES, SERVICE, Procedure

from .endpoints import Endpoint
from .statuses import of_transport

Metadata = Sequence[tuple[str, str]]

MESSAGE_BYTES_MAX: Final = 64 << 20  # of one reply; a message's own limit is the server's
#: A server that was restarted is found again this quickly; gRPC's own would be up to two minutes.
RECONNECT_MS: Final = (100, 3000)
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),  # the server says what it takes
    ("grpc.use_local_subchannel_pool", 1),  # a channel has a connection of its own: see `Wire.renew`
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS[0]),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_MS[1]),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS[1]),
)
_KINDS: Final = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, True): "stream_stream",
}


class Tls(NamedTuple):
    """What TLS needs; None is the system's, or nothing."""

    authorities: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    server_name: str = ""


class Wire:
    """The channel to one server."""

    def __init__(self, endpoint: Endpoint, tls: Tls | None) -> None:
        self.endpoint = endpoint
        self._tls = tls
        self._channel = _channel(endpoint.target, tls)
        self._procedures = {one.name: self._procedure(one) for one in PROCEDURES}

    async def renew(self) -> None:
        """Connect anew: what was under way fails. For a peer that is silent, but has not hung up."""
        silent, self._channel = self._channel, _channel(self.endpoint.target, self._tls)
        self._procedures = {one.name: self._procedure(one) for one in PROCEDURES}
        await silent.close()

    def _procedure(self, procedure: Procedure) -> Any:
        make = getattr(self._channel, _KINDS[procedure.streams_requests, procedure.streams_responses])
        return make(
            f"/{SERVICE}/{procedure.name}",
            request_serializer=CLASSES[procedure.request].SerializeToString,
            response_deserializer=CLASSES[procedure.response].FromString,
        )

    async def call(self, name: str, request: Any, metadata: Metadata, seconds: float) -> Any:
        """Return the reply. Raise OMSError if there is none."""
        try:
            return await self._procedures[name](request, timeout=seconds, metadata=metadata)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self.failure(name, error) from None

    async def stream(self, name: str, request: Any, metadata: Metadata, seconds: float) -> AsyncIterator[Any]:
        """Yield the replies. Raise OMSError if they break off."""
        call = self._procedures[name](request, timeout=seconds, metadata=metadata)
        try:
            async for reply in call:
                yield reply
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self.failure(name, error) from None
        finally:
            call.cancel()  # nothing, if it has ended

    def open(self, name: str, metadata: Metadata) -> Stream:
        """Return a stream both ways."""
        return Stream(self, name, self._procedures[name](metadata=metadata))

    def failure(self, name: str, error: BaseException) -> BaseException:
        """Return what to raise for what gRPC has raised."""
        if isinstance(error, grpc.aio.AioRpcError):
            return of_transport(error.code().name, error.details() or "", f"{name} at {self}")
        task = asyncio.current_task()
        if task is None or task.cancelling():
            return error
        # nobody has cancelled the task: its call was, because its channel was closed
        return of_transport("CANCELLED", "the connection was closed", f"{name} at {self}")

    async def close(self) -> None:
        """Close it; what is under way fails."""
        await self._channel.close()

    def __str__(self) -> str:
        return str(self.endpoint)


class Stream:
    """A stream both ways."""

    def __init__(self, wire: Wire, name: str, call: Any) -> None:
        self._wire = wire
        self._name = name
        self._call = call
        self._writing = asyncio.Lock()  # gRPC takes one message at a time

    async def write(self, message: Any) -> None:
        """Say something. Raise OMSError if the stream has ended."""
        try:
            async with self._writing:
                await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._wire.failure(self._name, error) from None
        except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise of_transport("UNAVAILABLE", str(error), f"{self._name} at {self._wire}") from None

    async def read(self) -> Any:
        """Return what the other side says, or None at the end. Raise OMSError."""
        try:
            message = await self._call.read()
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._wire.failure(self._name, error) from None
        return None if message is grpc.aio.EOF else message

    def cancel(self) -> None:
        """End it."""
        self._call.cancel()


class Wires:
    """The channels of an access point: one for each server, made when it is first asked for."""

    def __init__(self, tls: Tls | None = None) -> None:
        self._tls = tls
        self._wires: dict[Endpoint, Wire] = {}

    def to(self, endpoint: Endpoint) -> Wire:
        """Return the channel to a server."""
        found = self._wires.get(endpoint)
        if found is None:
            found = self._wires[endpoint] = Wire(endpoint, self._tls)
        return found

    async def close(self) -> None:
        """Close them all."""
        wires, self._wires = list(self._wires.values()), {}
        await asyncio.gather(*(wire.close() for wire in wires))


def _channel(target: str, tls: Tls | None) -> Any:
    if tls is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(tls.authorities, tls.key, tls.certificate)
    name = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()
    return grpc.aio.secure_channel(target, credentials, options=(*_OPTIONS, *name))
