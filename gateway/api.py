"""The interfaces a plugin implements, and what it may ask of the gateway.

A *protocol* comes in one of two shapes. A `ConnectionProtocol` makes one object per client
that gets bytes by plain call: the gateway owns the sockets, batches writes and enforces
limits. A `ServerProtocol` brings a server of its own (HTTP, gRPC, a UDP stack) and gets an
address. `StreamProtocol` is the first shape for authors who prefer to await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, runtime_checkable
from typing import Protocol as Interface

from .awaiting import Stream, StreamProtocol
from .core.access import (
    Action,
    Authority,
    Authorizer,
    Certificate,
    Credentials,
    Principal,
    Ruling,
    group_resource,
    queue_resource,
)
from .core.broker import NO_SUBSCRIBERS, Broker
from .core.clock import Clock
from .core.delivery import Consumer, Delivery
from .core.engine import Extent, Recovery, StorageEngine, Stored
from .core.errors import (
    AuthenticationFailed,
    Conflict,
    GatewayError,
    InvalidTopic,
    InvalidValue,
    NotAuthorized,
    NotFound,
    NotStored,
    QueueFull,
    QuotaExceeded,
    StorageError,
    Throttled,
    TooLarge,
)
from .core.message import Message, Origin
from .core.quota import Limiter, Limits
from .core.receiver import Item, Receiver
from .core.scheduler import Scheduler
from .core.selector import Compiler, InvalidSelector, Predicate, Selector
from .core.session import Session
from .http_part import HttpAnswer, HttpPart, HttpRequest, Series

__all__ = [
    "NO_SUBSCRIBERS",
    "Action",
    "Address",
    "AuthenticationFailed",
    "Authenticator",
    "Authority",
    "Authorizer",
    "Broker",
    "Certificate",
    "Clock",
    "Compiler",
    "Config",
    "Conflict",
    "Connection",
    "ConnectionProtocol",
    "Consumer",
    "Credentials",
    "DatagramProtocol",
    "Delivery",
    "Exchange",
    "Extent",
    "Flushable",
    "Gateway",
    "GatewayError",
    "HttpAnswer",
    "HttpPart",
    "HttpRequest",
    "Interceptor",
    "InvalidSelector",
    "InvalidTopic",
    "InvalidValue",
    "Item",
    "Limiter",
    "Limits",
    "NotAuthorized",
    "NotFound",
    "NotStored",
    "Origin",
    "Predicate",
    "Principal",
    "Protocol",
    "QueueFull",
    "QuotaExceeded",
    "Receiver",
    "Recovery",
    "Ruling",
    "Scheduler",
    "Selector",
    "Series",
    "ServerProtocol",
    "Session",
    "SharedKey",
    "StorageEngine",
    "StorageError",
    "Stored",
    "Stream",
    "StreamProtocol",
    "Throttled",
    "TlsServerProtocol",
    "TooLarge",
    "Transport",
    "group_resource",
    "queue_resource",
]


class Address(Interface):
    """Where a door listens: TCP `host` and `port`, or a Unix socket's `path`."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def path(self) -> str: ...

    @property
    def tls(self) -> str:
        """The TLS door it is for, "" if it is a plain one."""
        ...


class Config(Interface):
    """The parsed configuration. `limits`, `mqtt` and so on are its sections."""

    @property
    def limits(self) -> Any: ...

    @property
    def data(self) -> Any: ...

    def plugin(self, name: str) -> Mapping[str, Any]:
        """Return the table `[plugins.<name>]`, empty if there is none."""


class Transport(Interface):
    """One client's socket, as its connection sees it."""

    peer: str

    @property
    def certificate(self) -> Certificate | None:
        """What TLS has verified of the client; None if there is no TLS, or no certificate. Ask once."""
        ...

    def write(self, data: bytes) -> None:
        """Queue bytes; everything queued in a turn is one write to the socket."""

    def close(self) -> None:
        """Close after what is queued has been sent. Idempotent; `closed` is called once."""

    def abort(self) -> None:
        """Close at once."""

    def established(self) -> None:
        """The client has identified itself: the handshake's time limit no longer applies."""

    def pause_reading(self) -> None:
        """Take no more bytes from the client for now."""

    def resume_reading(self) -> None:
        """Take bytes again."""


class Connection(Interface):
    """A protocol's side of one client. All calls come from the event loop's thread."""

    def receive(self, data: bytes) -> None:
        """Take what arrived: parse all of it, call the session once per message, write answers.

        A `GatewayError` that escapes closes the connection and is logged at INFO; anything
        else is a bug and is logged with its traceback.
        """

    def congested(self, congested: bool) -> None:
        """The client does (True) or does no longer (False) leave too many bytes unread."""

    def closed(self, error: Exception | None) -> None:
        """The socket is gone. Give back everything. Called exactly once."""

    def drain(self) -> None:
        """The gateway is stopping: say goodbye in the protocol's words and close."""


@runtime_checkable
class ConnectionProtocol(Interface):
    """A protocol over byte streams whose sockets the gateway owns; so it has a TLS door, `<name>s`, as well.

    `websocket_path` (with `websocket_subprotocol`), if not empty, also offers it to
    WebSocket clients on the HTTP door.
    """

    name: str
    address: str  # the default for `listeners.<name>`; "" opens no door unless configured
    websocket_path: str
    websocket_subprotocol: str

    def connect(self, transport: Transport, gateway: Gateway) -> Connection:
        """Return the connection for a client that has just arrived."""

    def start(self, gateway: Gateway) -> None:
        """Called once, after recovery and before doors open."""


@runtime_checkable
class DatagramProtocol(Interface):
    """A `ConnectionProtocol` that has a UDP socket at the address of each of its doors, too.

    It opens that socket itself; `address.tls` names the door whose datagrams are to be encrypted (DTLS).
    """

    async def listen_datagrams(self, address: Address, gateway: Gateway) -> None:
        """Open the socket and return. Raise OSError if the address cannot be used."""

    async def stop(self) -> None:
        """Close the sockets and return."""

    def connections(self) -> int:
        """Return how many clients there are by datagrams; they count towards `limits.connections_max`."""


class Flushable(Interface):
    """A socket with something waiting for the end of the turn."""

    def flush(self) -> None: ...


@runtime_checkable
class ServerProtocol(Interface):
    """A protocol that brings its own server, run in the gateway's event loop."""

    name: str
    address: str

    async def serve(self, address: Address, gateway: Gateway) -> None:
        """Open the door and return. Raise OSError if the address cannot be used."""

    async def stop(self) -> None:
        """Close the door, let requests finish for a moment, and return."""

    def connections(self) -> int:
        """Return how many clients are connected; they count towards `limits.connections_max`."""


@runtime_checkable
class TlsServerProtocol(Interface):
    """A `ServerProtocol` that has a TLS door, `<name>s`, as well: `serve` may be called twice.

    It opens its sockets with `Gateway.listen` alone, which knows which of them get TLS.
    """

    alpn: str  # what it is called in TLS (RFC 7301), such as "http/1.1"


Protocol = ConnectionProtocol | ServerProtocol


class Exchange:
    """Base class: a multi-step authentication under way (SCRAM, Kerberos).

    `name` is whom it is about, once the client has said so: wrong answers are counted against it.
    """

    name: str = ""

    async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
        """Take the client's data; return (what to answer, who it is or None to go on).

        Raise AuthenticationFailed to refuse.
        """
        raise NotImplementedError


class SharedKey(NamedTuple):
    """A key that the gateway and a client have in common, and whose it is."""

    key: bytes
    principal: Principal

    def __repr__(self) -> str:  # never the key
        return f"SharedKey({self.principal!r})"


class Authenticator:
    """Base class: override what you need."""

    methods: tuple[str, ...] = ()  # the exchanges it knows, by their SASL names, for doors that say so

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return who this is, or None to let the next authenticator decide.

        Raise AuthenticationFailed to refuse at once. Nobody vouching is a refusal.
        """
        return None

    def users(self) -> Iterable[tuple[str, bool]]:
        """Return (name, whether an administrator) of everybody known by name."""
        return ()

    def principal(self, name: str) -> Principal | None:
        """Return who a name is, for what goes on in it without a login (a webhook); None if it is not yours.

        None, too, if nobody may log in by it any more. From memory: asked on the event loop.
        """
        return None

    def exchange(self, credentials: Credentials) -> Exchange | None:
        """Begin a multi-step exchange if `credentials.method` is one of yours, else None."""
        return None

    def shared_key(self, kind: str, identity: bytes) -> SharedKey | None:
        """Return the key of an identity, for doors whose handshake is made of it; None if it is not yours.

        `kind` is `psk` (DTLS, RFC 4279) or `oscore` (RFC 8613). From memory: asked on the event loop.
        """
        return None


class Interceptor:
    """Base class: override only what you need; what you do not costs nothing."""

    def on_publish(self, message: Message, session: Session) -> Message | None:
        """Return the message, a replacement, or None to drop it."""
        return message


class Gateway(Interface):
    """What a plugin may ask of the running gateway."""

    @property
    def config(self) -> Any: ...

    @property
    def broker(self) -> Broker: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def scheduler(self) -> Scheduler: ...

    @property
    def protocols(self) -> Mapping[str, Protocol]:
        """Every protocol by name, with a door of its own or not."""
        ...

    def begin_turn(self) -> None:
        """Bring the clock up to date and have the turn ended soon: deliver, write the log, write sockets.

        The gateway does this before it calls `Connection.receive`; a `ServerProtocol` does it
        itself before each use of a session. Cheap, and idempotent within a turn.
        """

    def flush_later(self, socket: Flushable) -> None:
        """Have `flush` called once at the end of this turn, after the log was written.

        For a `DatagramProtocol`: what it sends of a delivery must not be ahead of the journal.
        """

    async def authenticate(self, credentials: Credentials) -> Principal:
        """Return who this is, for a session that goes on. Raise AuthenticationFailed."""

    async def connect(self, credentials: Credentials) -> Session:
        """Authenticate and open a session. Raise AuthenticationFailed or QuotaExceeded."""

    def begin_exchange(self, credentials: Credentials) -> Exchange | None:
        """Begin multi-step authentication; None if no authenticator knows the method."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of all authenticators' exchanges, in their order."""
        ...

    def shared_key(self, kind: str, identity: bytes) -> SharedKey | None:
        """Return the key of an identity; None if no authenticator has one. See `Authenticator.shared_key`."""

    def open_session(self, principal: Principal, credentials: Credentials) -> Session:
        """Open a session for somebody an exchange has vouched for. Raise QuotaExceeded."""

    def rules_changed(self) -> None:
        """Authorizers or limiters decide otherwise now: sessions ask again, and give up what they must."""

    def users(self) -> list[tuple[str, bool]]:
        """Return (name, whether an administrator) of everybody that authenticators know by name."""

    def principal(self, name: str) -> Principal | None:
        """Return who a name is now; None if no authenticator knows it. See `Authenticator.principal`."""

    @property
    def authority(self) -> Authority:
        """Who decides, who is counted, who is told: for all sessions."""
        ...

    @property
    def on_reload(self) -> list[Callable[[], None]]:
        """Called when files are to be read again; each logs what is wrong with its own."""
        ...

    @property
    def series(self) -> list[Callable[[], Iterable[Series]]]:
        """Asked for more numbers whenever /metrics is; the event loop waits meanwhile."""
        ...

    @property
    def http_parts(self) -> Sequence[HttpPart]:
        """The parts of the HTTP door that protocols and plugins have."""
        ...

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        """Call with True once everything up to `position` is on disk, with False if it never will be."""

    async def durable(self, position: int) -> None:
        """Wait until everything up to `position` is on disk. Raise NotStored if it never will be."""

    def task(self, coroutine: Any) -> None:
        """Run a coroutine to its end; what escapes it is logged."""

    async def listen(
        self, address: Address, factory: Callable[[], asyncio.BaseProtocol]
    ) -> asyncio.AbstractServer:
        """Open a listening socket for a `ServerProtocol`. Raise OSError if the address cannot be used.

        For a TLS door (`address.tls`) there is TLS between the socket and what `factory` makes; the
        transport's `get_extra_info("certificate")` is then what `Transport.certificate` would be.
        """

    def connections(self) -> int:
        """Return how many clients are connected, at all doors together."""
