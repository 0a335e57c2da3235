"""One RPC under way: whose it is, and what its handler needs of it; and what handlers are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gateway.api import Session

    from .clients.client import Client


class Context(Protocol):
    """What gRPC knows of an RPC (`grpc.aio.ServicerContext`), as far as we ask it."""

    def peer(self) -> str: ...

    def invocation_metadata(self) -> Any: ...

    def time_remaining(self) -> float | None: ...

    def auth_context(self) -> Mapping[str, Any]: ...

    def cancelled(self) -> bool: ...

    async def write(self, message: Any) -> None: ...

    async def abort(self, code: Any, details: str = "") -> Any: ...


class Call:
    """A request of a client that has logged in. `requests` are those of a procedure that streams them."""

    __slots__ = ("client", "context", "requests")

    def __init__(self, client: Client, context: Context, requests: AsyncIterator[Any] | None = None) -> None:
        self.client = client
        self.context = context
        self.requests = requests

    @property
    def session(self) -> Session:
        """The client's session with the broker."""
        return self.client.session

    @property
    def secure(self) -> bool:
        """Whether it came by TLS."""
        return b"ssl" in self.context.auth_context().get("transport_security_type", ())

    def seconds_left(self) -> float | None:
        """Return until when its client waits, as seconds from now; None: for ever."""
        return self.context.time_remaining()

    async def write(self, response: Any) -> None:
        """Send one response of a stream."""
        await self.context.write(response)


#: Answers a request. It returns the response; one of a stream of responses writes them, and returns None.
#: A GatewayError that it raises becomes the status of an answer (see `errors`); any other is our bug.
Handler = Callable[[Call, Any], Awaitable[Any]]


class Part(Protocol):
    """A part of the door: the procedures it has, by name (see `gateway.rocketmq.tables.PROCEDURES`)."""

    def handlers(self) -> Mapping[str, Handler]: ...
