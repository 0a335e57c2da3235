"""A device that speaks OSCORE by aiocoap, the link it is on, and a handler that keeps what it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiocoap import Message, oscore
from aiocoap.message import Direction

from gateway.api import Authenticator, Principal, SharedKey
from gateway.protocols.coap.codec import decode, encode, read_options
from gateway.protocols.coap.exchange import Link, Request, Response
from gateway.protocols.coap.numbers import ACK, CHANGED
from gateway.protocols.coap.oscore.oscore import Oscore
from gateway.testing import TestGateway

SECRET = b"0123456789abcdef"


class Users(Authenticator):
    """Names and keys, which a test may change."""

    def __init__(self, keys: dict[bytes, bytes]) -> None:
        self.keys = keys
        self.groups: frozenset[str] = frozenset()

    def shared_key(self, kind: str, identity: bytes) -> SharedKey | None:
        key = self.keys.get(identity)
        principal = Principal(identity.decode(errors="replace"), groups=self.groups, method=kind)
        return SharedKey(key, principal) if key is not None and kind == "oscore" else None


class Wire(Link):
    """An address; keeps what it is told without asking."""

    __slots__ = ("dropped", "told")

    def __init__(self, peer: str = "127.0.0.1:5000") -> None:
        super().__init__(peer)
        self.proven = False
        self.told: list[tuple[bytes, Response, bool, Callable[[bool], None]]] = []
        self.dropped: list[bytes] = []

    def notify(
        self, token: bytes, response: Response, confirmable: bool, done: Callable[[bool], None]
    ) -> None:
        self.told.append((token, response, confirmable, done))

    def drop_pending(self, token: bytes) -> None:
        self.dropped.append(token)


class Inner:
    """What is behind the layer. Answers at once with `answer`, or not if that is None."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.went: list[Link] = []
        self.resets: list[tuple[Link, bytes]] = []
        self.answer: Response | None = Response(CHANGED)

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        if self.answer is not None:
            request.respond(self.answer)

    def reset(self, link: Link, token: bytes) -> None:
        self.resets.append((link, token))

    def gone(self, link: Link) -> None:
        self.went.append(link)


class Device(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """A client's security context, whose numbers are in memory."""

    def __init__(
        self, kid: bytes = b"lamp", id_context: bytes | None = None, secret: bytes = SECRET, number: int = 0
    ) -> None:
        self.alg_aead = oscore.algorithms[oscore.DEFAULT_ALGORITHM]
        self.hashfun = oscore.hashfunctions[oscore.DEFAULT_HASHFUNCTION]
        self.sender_id, self.recipient_id, self.id_context = kid, b"gateway", id_context
        self.sender_sequence_number = number
        self.echo_recovery = None
        self.recipient_replay_window = oscore.ReplayWindow(32, lambda: None)
        self.recipient_replay_window.initialize_empty()
        self.derive_keys(b"", secret)
        self.echo: bytes | None = None

    def post_seqnoincrease(self) -> None:
        """Nothing is kept."""


class Talk:
    """A device at an address, and the layer it talks to."""

    def __init__(self, layer: Oscore, device: Device, wire: Wire | None = None) -> None:
        self.layer = layer
        self.device = device
        self.wire = wire or Wire()
        self.sent: tuple[bytes, bytes] = (b"", b"")

    def protect(self, token: bytes = b"t", **fields: Any) -> tuple[bytes, Any]:
        """Return a request as it is sent, and what its answers are read with."""
        message = Message(**fields)
        message.direction = Direction.OUTGOING
        outer, bound = self.device.protect(message)
        outer.mid, outer.mtype, outer.token = 7, 0, token
        data: bytes = outer.encode()
        return data, bound

    def feed(self, data: bytes) -> list[Response]:
        """Hand a datagram to the layer; return what is answered, also later."""
        packet = decode(data)
        answers: list[Response] = []
        self.layer.handle(
            Request(
                self.wire,
                packet.code,
                packet.token,
                read_options(packet.block),
                packet.payload,
                True,
                answers.append,
            )
        )
        return answers

    def read(self, response: Response, bound: Any) -> Any:
        """Return what a protected response says. Raises what aiocoap does."""
        data = encode(ACK, response.code, 7, b"t", response.options, response.payload)
        message = Message.decode(data)
        message.direction = Direction.INCOMING
        plain, _ = self.device.unprotect(message, bound)
        return plain

    def ask(self, token: bytes = b"t", **fields: Any) -> Any:
        """Send a request, answer a challenge, and return the answer."""
        data, bound = self.protect(token, **fields)
        answer = self.read(self.feed(data)[0], bound)
        if answer.opt.echo is not None:
            data, bound = self.protect(token, **fields, echo=answer.opt.echo)
            answer = self.read(self.feed(data)[0], bound)
        self.sent = (data, bound)
        return answer


def make(users: Users, inner: Inner) -> tuple[TestGateway, Oscore]:
    """Return a gateway, and the layer in it."""
    gateway = TestGateway(authenticators=(users,))
    return gateway, Oscore(gateway, inner)
