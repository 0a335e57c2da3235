"""One client: a process that calls itself by a client id, its session, and what it has said of itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gateway.api import GatewayError, Session
from gateway.rocketmq.numbers import ClientType

if TYPE_CHECKING:
    from .logins import Logins


class Client:
    """A client's session, its Telemetry streams, and what it publishes and consumes.

    `key` is what it is known by: host, client id, access key, namespace, certificate.
    """

    __slots__ = (
        "_logins",
        "authorization",
        "calls",
        "commands",
        "ended",
        "group",
        "id",
        "key",
        "kind",
        "namespace",
        "publishes",
        "seen_ms",
        "session",
        "settings",
        "user_agent",
    )

    def __init__(
        self, logins: Logins, key: tuple[str, ...], id: str, namespace: str, session: Session
    ) -> None:
        self._logins = logins
        self.key = key
        self.id = id
        self.namespace = namespace
        self.session = session
        session.owner = self
        self.authorization = ""  # the header that was found good: the same one need not be looked at again
        self.kind = ClientType.CLIENT_TYPE_UNSPECIFIED
        self.group = ""  # of a consumer
        self.publishes: set[str] = set()  # topics of ours
        self.settings: Any = None  # as it sent them last
        self.user_agent = ""  # language, version and host, for people
        self.commands: list[asyncio.Queue[Any]] = []  # of its Telemetry streams, the newest last
        self.calls = 0  # under way
        self.seen_ms = 0
        self.ended = False

    def __repr__(self) -> str:
        return f"Client({self.id!r}, {self.session.principal.name!r})"

    def tell(self, command: Any) -> bool:
        """Send a command by its Telemetry stream; False if it has none."""
        if not self.commands:
            return False
        self.commands[-1].put_nowait(command)
        return True

    def end(self, error: GatewayError) -> None:
        """The session may not go on (`core.caller.Owner`): the next request has to log in again."""
        self._logins.end(self, error)
