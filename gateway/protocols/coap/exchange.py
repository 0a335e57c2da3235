"""What travels between the transports and the resources: a request, its response, and the link it came by.

Transports (`udp`, `dtls`, `stream`, `oscore`) make a `Request` and call `Resources.handle`; whoever
answers calls `request.respond` once, now or when the disk has answered. What a transport's client is
told without asking (Observe, RFC 7641) goes through `Link.notify`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from gateway.core.access import Certificate, Principal

from .codec import Option, Options
from .numbers import CHANGED, EMPTY

if TYPE_CHECKING:
    from .clients import Client

#: Who a request says it is from: client id, user name, password, token; "" where it does not say.
Login = tuple[str, str, str, str]

NO_OPTIONS: Final[tuple[Option, ...]] = ()


class Response:
    """An answer, or a notification. `options` in any order; Block2 and the like are the transport's.

    `done`, if set, is called when the transport gets to know whether the answer has arrived: with False
    after RST or no acknowledgement in time. Mostly it does not get to know: then it is not called.
    """

    __slots__ = ("code", "done", "options", "payload")

    def __init__(
        self, code: int = CHANGED, payload: bytes = b"", options: Sequence[Option] = NO_OPTIONS
    ) -> None:
        self.code = code
        self.payload = payload
        self.options = options
        self.done: Callable[[bool], None] | None = None


#: What is answered to somebody who wants no answer (RFC 7967): an acknowledgement, if it was confirmable.
SILENCE: Final = Response(EMPTY)


class Link:
    """One client's side of a transport: an address over UDP, a DTLS or OSCORE association, a TCP connection.

    `client` is the door's: whom it has found behind this link (`clients.Client`), None before the first
    request. `clients` are others that were named in requests of the same link.
    """

    __slots__ = (
        "bert",
        "certificate",
        "client",
        "clients",
        "held",
        "identity",
        "peer",
        "principal",
        "proven",
        "reliable",
        "secure",
        "size_max",
    )

    def __init__(self, peer: str, secure: bool = False, reliable: bool = False, size_max: int = 1024) -> None:
        self.peer = peer  # "host:port", "[v6]:port" or "unix"
        self.secure = secure  # encrypted: credentials may be in a request
        self.reliable = reliable  # ordered and without loss: no Block needed for its own sake, no CON
        self.size_max = size_max  # bytes of a payload that fit one message; more goes in blocks
        self.bert = False  # reliable, and its peer takes blocks of many KiB (RFC 8323, 6)
        self.proven = True  # its peer gets what it is sent; only an address over UDP has to show it (guard)
        self.principal: Principal | None = None  # whom a handshake has shown this to be
        self.certificate: Certificate | None = None  # what TLS or DTLS has verified
        self.client: Client | None = None
        self.clients: dict[Login, Client] | None = None
        self.identity = ""  # among its principal's, at every address; "": it is its address
        self.held = 0  # by so many observations: it is not to be forgotten

    def notify(
        self, token: bytes, response: Response, confirmable: bool, done: Callable[[bool], None]
    ) -> None:
        """Send a notification for the observation `token` (RFC 7641, 3.2; the Observe option is in it).

        `done` is called once, never before this has returned: True when it was acknowledged or, over a
        `reliable` link, taken; False when the client answered RST, did not answer in time, or is gone. It is
        not called for one that is not confirmable over a link that is not reliable: nobody ever knows.
        A `reliable` link takes everything for not confirmable.
        """
        raise NotImplementedError

    def drop_pending(self, token: bytes) -> None:
        """The observation `token` is over: give up notifying; no `done` of it is called any more."""

    def confirm(self) -> None:
        """Ask anew whoever vouched for `principal`: a session is to begin. Raise AuthenticationFailed."""

    @property
    def open(self) -> bool:
        """Whether something can be sent."""
        return True


class Request:
    """One request. `respond` is called exactly once; `options.meaning` may keep what was made of them."""

    __slots__ = ("code", "confirmable", "link", "options", "payload", "respond", "token")

    def __init__(
        self,
        link: Link,
        code: int,
        token: bytes,
        options: Options,
        payload: bytes,
        confirmable: bool,
        respond: Callable[[Response], None],
    ) -> None:
        self.link = link
        self.code = code
        self.token = token
        self.options = options
        self.payload = payload
        self.confirmable = confirmable  # of reliable transports, too: its sender waits for the answer
        self.respond = respond


def unheard(arrived: bool) -> None:
    """Be the `done` of a message of which nobody wants to know whether it arrived."""


class Handler(Protocol):
    """What transports hand requests to."""

    def handle(self, request: Request) -> None:
        """Take a request whose options are understood and whose blocks are one payload again.

        Never raises; what a client may not, or does wrong, is a response.
        """

    def reset(self, link: Link, token: bytes) -> None:
        """The client refused a notification (RFC 7641, 3.6): it does not know the observation `token`."""

    def gone(self, link: Link) -> None:
        """A link is closed: forget its client, if nobody else has it."""
