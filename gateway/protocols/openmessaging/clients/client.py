"""One client: a process that calls itself by a client id, its session, and what it has said of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.api import GatewayError, Session
from gateway.rocketmq.numbers import ClientType

if TYPE_CHECKING:
    from .line import Line
    from .logins import Key, Logins

LINES_MAX: Final = 4  # Telemetry streams of one client: it has one, and for a moment two


class Client:
    """A client's session, its Telemetry streams, and what it publishes and consumes.

    `key` is what it is known by: host, client id, access key, namespace, certificate.
    """

    __slots__ = (
        "_logins",
        "authorization",
        "authorized_ms",
        "calls",
        "ended",
        "group",
        "hung_up",
        "id",
        "key",
        "kind",
        "lines",
        "namespace",
        "publishes",
        "seen_ms",
        "session",
        "settings",
    )

    def __init__(self, logins: Logins, key: Key, id: str, namespace: str, session: Session) -> None:
        self._logins = logins
        self.key = key
        self.id = id
        self.namespace = namespace
        self.session = session
        session.owner = self
        self.authorization = ""  # the header that was found good last, and when: see `Logins.known`
        self.authorized_ms = 0
        self.kind = ClientType.CLIENT_TYPE_UNSPECIFIED
        self.group = ""  # of a consumer
        self.publishes: set[str] = set()  # topics of ours
        self.settings: Any = None  # as it sent them last
        self.lines: list[Line] = []  # its Telemetry streams, the newest last
        self.hung_up = False  # it had one, and it broke: the client has gone, or will soon say something
        self.calls = 0  # under way
        self.seen_ms = 0
        self.ended = False

    def __repr__(self) -> str:
        return f"Client({self.id!r}, {self.session.principal.name!r})"

    def tell(self, command: Any) -> bool:
        """Send a command by its Telemetry stream; False if it has none, or does not read it."""
        return bool(self.lines) and self.lines[-1].put(command)

    def take(self, line: Line) -> None:
        """Begin a Telemetry stream; the oldest ends if they become too many."""
        self.lines.append(line)
        self.hung_up = False
        if len(self.lines) > LINES_MAX:
            self.lines.pop(0).close()

    def end(self, error: GatewayError) -> None:
        """The session may not go on (`core.caller.Owner`): the next request has to log in again."""
        self._logins.end(self, error)
