"""The interfaces a plugin implements, and what it may ask of the gateway.

A *protocol* comes in one of two shapes. A `ConnectionProtocol` makes one object per client
that gets bytes by plain call: the gateway owns the sockets, batches writes and enforces
limits. A `ServerProtocol` brings a server of its own (HTTP, gRPC, a UDP stack) and gets an
address. `StreamProtocol` is the first shape for authors who prefer to await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
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
from .core.message import Headers, HeaderValue, Message, Origin, Outcome, Properties, Qos, host_of
from .core.policy import WORK, QueuePolicy
from .core.queue import Queue
from .core.quota import Limiter, Limits
from .core.receiver import Item, Receiver
from .core.router import Binding, Relay
from .core.scheduler import Scheduler
from .core.selector import Compiler, InvalidSelector, Predicate, Selector
from .core.session import Session
from .core.stream import StreamQueue
from .core.values import from_text as header_from_text
from .core.values import to_text as header_to_text
from .door_api import (
    Address,
    Connection,
    ConnectionProtocol,
    DatagramProtocol,
    Flushable,
    MessageProtocol,
    OptionalProtocol,
    OwnTlsProtocol,
    Protocol,
    ServerProtocol,
    TlsServerProtocol,
    Transport,
)
from .http_part import HttpAnswer, HttpHeaders, HttpPart, HttpRequest, Series

__all__ = [
    "NO_SUBSCRIBERS",
    "WORK",
    "Action",
    "Address",
    "AuthenticationFailed",
    "Authenticator",
    "Authority",
    "Authorizer",
    "Binding",
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
    "HeaderValue",
    "Headers",
    "HttpAnswer",
    "HttpHeaders",
    "HttpPart",
    "HttpRequest",
    "Interceptor",
    "InvalidSelector",
    "InvalidTopic",
    "InvalidValue",
    "Item",
    "Limiter",
    "Limits",
    "Message",
    "MessageProtocol",
    "NotAuthorized",
    "NotFound",
    "NotStored",
    "OptionalProtocol",
    "Origin",
    "Outcome",
    "OwnTlsProtocol",
    "Predicate",
    "Principal",
    "Properties",
    "Protocol",
    "Qos",
    "Queue",
    "QueueFull",
    "QueuePolicy",
    "QuotaExceeded",
    "Receiver",
    "Recovery",
    "Relay",
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
    "StreamQueue",
    "Throttled",
    "TlsMaterial",
    "TlsServerProtocol",
    "TooLarge",
    "Transport",
    "group_resource",
    "header_from_text",
    "header_to_text",
    "host_of",
    "queue_resource",
]


class Config(Interface):
    """The parsed configuration. `limits`, `mqtt` and so on are its sections."""

    @property
    def limits(self) -> Any: ...

    @property
    def data(self) -> Any: ...

    def plugin(self, name: str) -> Mapping[str, Any]:
        """Return the table `[plugins.<name>]`, empty if there is none."""


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


class TlsMaterial(NamedTuple):
    """What a TLS door's files say, in PEM, found good: for a protocol with encryption of its own: DTLS, gRPC.

    Another one, and not an equal one, when files have changed.
    """

    certificates: bytes = b""  # the door's own first; nothing if clients have pre-shared keys alone
    key: bytes = b""
    client_ca: bytes = b""
    client_certificates: str = "none"  # or "optional", "required"
    ciphers: str = ""  # in OpenSSL's words; "": its own choice

    def __repr__(self) -> str:  # never the key
        return f"TlsMaterial({self.client_certificates!r}, {self.ciphers!r})"


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

    def login_refused(self, credentials: Credentials, why: str) -> None:
        """Count a login that a protocol's own handshake has refused (a wrong key), and have it audited.

        `why` is for the administrator. Nobody is throttled: keys are not guessed, and who fails may
        be behind the same address as who does not.
        """

    def tls_material(self, door: str) -> TlsMaterial:
        """Return what a TLS door is to use for connections that begin now. Cheap: ask each time."""

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
