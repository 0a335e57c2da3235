"""Handlers to gRPC's methods: what is around each procedure, whoever's it is.

A handler is called with its client's session, in a turn that has begun; what it raises becomes the status of
an answer. Whoever is refused is named in the log. Who hangs up meanwhile is told nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from gateway.api import GatewayError, Series
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.schema import CLASSES, Status
from gateway.rocketmq.tables import PROCEDURES, SERVICE, Procedure

from .call import Call, Context, Handler, Part
from .clients.client import Client
from .clients.logins import Logins
from .errors import BrokenProtocol, Refused, code_of
from .refusals import Refusals

log = structlog.get_logger("gateway")

CALLS_MAX: Final = (
    2048  # of one client at once: a long poll for each of its topics, and what it sends besides
)
BUG: Final = "the gateway has a bug; its log says more"


class Procedures:
    """The service, of the parts' handlers."""

    def __init__(self, logins: Logins, refusals: Refusals, parts: Iterable[Part]) -> None:
        self._logins = logins
        self._refusals = refusals
        self._handlers: dict[str, Handler] = {}
        for part in parts:
            self._handlers.update(part.handlers())
        self._counts = dict.fromkeys(self._handlers, 0)

    def service(self) -> grpc.GenericRpcHandler:
        """Return what a server of gRPC's is given."""
        made = {
            procedure.name: self._method(procedure, self._handlers[procedure.name])
            for procedure in PROCEDURES
            if procedure.name in self._handlers
        }
        return grpc.method_handlers_generic_handler(SERVICE, made)

    def numbers(self) -> Iterable[Series]:
        """Return what /metrics says of calls."""
        counts = [((name,), float(count)) for name, count in self._counts.items()]
        yield Series("gateway_openmessaging_calls", "Calls, by procedure", counts, ("rpc",), True)
        refused = [((code.name,), float(count)) for code, count in self._refusals.counts.items()]
        yield Series("gateway_openmessaging_refused", "Calls refused, by code", refused, ("code",), True)

    def _method(self, procedure: Procedure, handler: Handler) -> grpc.RpcMethodHandler[Any, Any]:
        codec = {
            "request_deserializer": _parser(procedure),
            "response_serializer": CLASSES[procedure.response].SerializeToString,
        }
        if procedure.streams_requests:
            return grpc.stream_stream_rpc_method_handler(self._dialogue(procedure, handler), **codec)
        if procedure.streams_responses:
            return grpc.unary_stream_rpc_method_handler(self._stream(procedure, handler), **codec)
        return grpc.unary_unary_rpc_method_handler(self._unary(procedure, handler), **codec)

    def _unary(self, procedure: Procedure, handler: Handler) -> Callable[[Any, Context], Awaitable[Any]]:
        name, logins, counts, response = (
            procedure.name,
            self._logins,
            self._counts,
            CLASSES[procedure.response],
        )

        async def serve(request: Any, context: Context) -> Any:
            counts[name] += 1
            try:
                client = logins.known(context) or await logins.enter(context)
                _check(procedure, client, request)
                client.calls += 1
                try:
                    return await handler(Call(client, context), request)
                finally:
                    client.calls -= 1
            except Exception as error:
                return response(status=self._status(procedure, context, error))

        return serve

    def _stream(self, procedure: Procedure, handler: Handler) -> Callable[[Any, Context], Awaitable[None]]:
        name, logins, counts, response = (
            procedure.name,
            self._logins,
            self._counts,
            CLASSES[procedure.response],
        )

        async def serve(request: Any, context: Context) -> None:
            counts[name] += 1
            try:
                client = logins.known(context) or await logins.enter(context)
                _check(procedure, client, request)
                client.calls += 1
                try:
                    await handler(Call(client, context), request)
                finally:
                    client.calls -= 1
            except grpc.aio.BaseError:
                return  # it has hung up
            except Exception as error:
                await self._say(context, response(status=self._status(procedure, context, error)))

        return serve

    def _dialogue(
        self, procedure: Procedure, handler: Handler
    ) -> Callable[[AsyncIterator[Any], Context], Awaitable[None]]:
        """Serve a stream of requests; it does not keep its client: who says nothing else is gone."""
        name, logins, counts, response = (
            procedure.name,
            self._logins,
            self._counts,
            CLASSES[procedure.response],
        )

        async def serve(requests: AsyncIterator[Any], context: Context) -> None:
            counts[name] += 1
            try:
                client = logins.known(context) or await logins.enter(context)
                await handler(Call(client, context, requests), None)
            except grpc.aio.BaseError:
                return
            except BrokenProtocol as error:
                self._status(procedure, context, error)
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.detail)
            except Exception as error:
                await self._say(context, response(status=self._status(procedure, context, error)))

        return serve

    async def _say(self, context: Context, response: Any) -> None:
        """Write the last response of a stream, if anybody is there to read it."""
        if context.cancelled():
            return
        try:
            await context.write(response)
        except grpc.aio.BaseError:
            return

    def _status(self, procedure: Procedure, context: Context, error: Exception) -> Any:
        """Return what a client is told of an error."""
        if not isinstance(error, GatewayError):
            log.error("bug: an RPC failed", rpc=procedure.name, exc_info=error)
            return Status(code=Code.INTERNAL_SERVER_ERROR, message=BUG)
        code = code_of(error)
        self._refusals.note(procedure.name, context, code, error.detail)
        return Status(code=code, message=error.detail)


def _parser(procedure: Procedure) -> Callable[[bytes], Any]:
    """Return what reads a request; None is one that is none, which is answered as others are."""
    parse = CLASSES[procedure.request].FromString

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return None

    return parsed


def _check(procedure: Procedure, client: Client, request: Any) -> None:
    if request is None:
        raise Refused(Code.BAD_REQUEST, f"a {procedure.request} is expected, and this is none")
    if client.calls >= CALLS_MAX:
        raise Refused(
            Code.TOO_MANY_REQUESTS, f"{CALLS_MAX} calls are under way, as many as a client may have"
        )
