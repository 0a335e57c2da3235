"""The interfaces of doors: an address, a client's socket and its connection, and the shapes of protocols.

Part of `gateway.api`, where plugins find them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, runtime_checkable
from typing import Protocol as Interface

from .core.access import Certificate

if TYPE_CHECKING:
    from .api import Gateway


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


class Transport(Interface):
    """One client's socket, as its connection sees it."""

    peer: str

    @property
    def certificate(self) -> Certificate | None:
        """What TLS has verified of the client; None if there is no TLS, or no certificate. Ask once."""
        ...

    @property
    def secure(self) -> bool:
        """Whether there is TLS, ended by this gateway: nobody on the way reads along."""
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
class MessageProtocol(Interface):
    """A `ConnectionProtocol` to which it matters what one WebSocket message is.

    To others a WebSocket is a stream of bytes: messages may be cut anywhere.
    """

    def connect_messages(self, transport: Transport, gateway: Gateway) -> Connection:
        """Return the connection for a WebSocket client that has just arrived.

        Each `Connection.receive` gets one binary message, and each `Transport.write` makes one.
        """


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


@runtime_checkable
class Repeating(Interface):
    """A protocol whose clients send a message again, under the same message id, if they get no answer.

    For `repeats_ms` a client's second message of that id to a topic is known to be one: see `core.dedup`.
    """

    name: str
    repeats_ms: int


@runtime_checkable
class OwnTlsProtocol(Interface):
    """A `TlsServerProtocol` whose sockets are a library's own, and their TLS, too (`Gateway.tls_material`).

    Such a library takes certificates, but neither versions nor ciphers, and asks clients for a certificate
    only where one is required: what else `[tls]` says of its door is refused, as it would not be so.
    """

    tls_library: str  # what it is called


@runtime_checkable
class OptionalProtocol(Interface):
    """A protocol that may be unable to open its doors."""

    def missing(self) -> str:
        """Return what is missing, in a sentence; "" if nothing is."""


Protocol = ConnectionProtocol | ServerProtocol
