"""Who may do what, asked once per session and resource, then remembered.

Any authorizer's no outvotes every yes, and silence is a no.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from .errors import NotAuthorized

DECISIONS_CACHED_MAX = 1024  # per session and action: a client's working set of topics


class Action(Enum):
    """What a principal can be allowed to do with a resource (topic, filter or queue)."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    CONSUME = "consume"
    MANAGE = "manage"


class Certificate:
    """A client certificate that TLS has verified.

    `subject` is a string as RFC 4514 writes it (`CN=device7,O=Example`); `names` are the subject
    alternative names, each with its kind: `DNS:a.example`, `URI:urn:device:7`, `email:...`, `IP:...`.
    `common_name` is "" if there are several. `fingerprint` is the SHA-256 of it all, in hexadecimal.
    """

    __slots__ = ("common_name", "fingerprint", "names", "subject")

    def __init__(
        self, subject: str, common_name: str = "", names: tuple[str, ...] = (), fingerprint: str = ""
    ) -> None:
        self.subject = subject
        self.common_name = common_name
        self.names = names
        self.fingerprint = fingerprint

    def __repr__(self) -> str:
        return f"Certificate({self.subject!r})"


_NO_GROUPS: frozenset[str] = frozenset()


class Principal:
    """Who: a name, and what rules may go by. Made by an authenticator.

    An `admin` passes every check. `expires_at_ms` (Unix time, 0: never) is when whoever vouched
    no longer does; `method` says how: `password`, `token`, `certificate`, `key` ... `claims` are for
    the authorizer that knows them, such as the rules in a token.
    """

    __slots__ = (
        "admin",
        "anonymous",
        "certificate",
        "claims",
        "expires_at_ms",
        "groups",
        "method",
        "name",
    )

    def __init__(
        self,
        name: str,
        admin: bool = False,
        anonymous: bool = False,
        groups: frozenset[str] = _NO_GROUPS,
        method: str = "",
        certificate: Certificate | None = None,
        expires_at_ms: int = 0,
        claims: object = None,
    ) -> None:
        self.name = name
        self.admin = admin
        self.anonymous = anonymous
        self.groups = groups
        self.method = method
        self.certificate = certificate
        self.expires_at_ms = expires_at_ms
        self.claims = claims

    def __repr__(self) -> str:
        return f"Principal({self.name!r}, admin={self.admin})"


class Credentials:
    """What a client says about itself, in any protocol's handshake.

    `password` is what came with a user name, `token` what came alone (HTTP's Bearer, an API key),
    `certificate` what TLS has verified. `method` and `data` carry a multi-step exchange (MQTT 5
    AUTH, SASL): an authenticator that knows the method continues it with
    `gateway.api.Authenticator.exchange`. For a signature, `data` is it and `signed` what it covers.
    """

    __slots__ = (
        "certificate",
        "client_id",
        "data",
        "method",
        "password",
        "peer",
        "protocol",
        "signed",
        "token",
        "username",
    )

    def __init__(
        self,
        protocol: str,
        peer: str = "",
        client_id: str = "",
        username: str | None = None,
        password: bytes | None = None,
        method: str | None = None,
        data: bytes | None = None,
        token: str | None = None,
        certificate: Certificate | None = None,
        signed: bytes | None = None,
    ) -> None:
        self.protocol = protocol
        self.peer = peer
        self.client_id = client_id
        self.username = username
        self.password = password
        self.method = method
        self.data = data
        self.token = token
        self.certificate = certificate
        self.signed = signed

    def __repr__(self) -> str:  # never the password
        return f"Credentials({self.protocol!r}, {self.peer!r}, {self.client_id!r}, {self.username!r})"


class Authorizer(Protocol):
    """Decides from memory: it is asked in the hot path (once per resource and session)."""

    def authorize(self, principal: Principal, action: Action, resource: str) -> bool | None:
        """True allows, False denies, None has no opinion."""


_NOTHING: frozenset[str] = frozenset()  # what every session starts with: an empty set costs 216 bytes


class Access:
    """One session's permissions, with a cache of what was allowed."""

    __slots__ = ("_allowed", "_authorizers", "principal", "publishable")

    def __init__(self, principal: Principal, authorizers: Sequence[Authorizer]) -> None:
        self.principal = principal
        self._authorizers = authorizers
        self.publishable: set[str] | frozenset[str] = _NOTHING  # topics this session may publish to
        self._allowed: set[tuple[Action, str]] | None = None

    def check(self, action: Action, resource: str) -> None:
        """Raise NotAuthorized unless allowed."""
        remembered = self._allowed
        if remembered is not None and (action, resource) in remembered:
            return
        allowed = False
        for authorizer in self._authorizers:
            opinion = authorizer.authorize(self.principal, action, resource)
            if opinion is False:
                allowed = False
                break
            allowed = allowed or opinion is True
        if not allowed:
            who = self.principal.name or "anonymous"
            raise NotAuthorized(f"{who} may not {action.value} {resource!r}")
        if remembered is None or len(remembered) >= DECISIONS_CACHED_MAX:
            remembered = self._allowed = set()
        remembered.add((action, resource))

    def check_publish(self, topic: str) -> None:
        """Raise NotAuthorized unless the topic may be published to; remember it if so."""
        self.check(Action.PUBLISH, topic)
        known = self.publishable
        if not isinstance(known, set) or len(known) >= DECISIONS_CACHED_MAX:
            known = self.publishable = set()
        known.add(topic)

    def renew(self, principal: Principal) -> None:
        """The client has authenticated again: what it may do is asked again."""
        self.principal = principal
        self.forget()

    def forget(self) -> None:
        """Rules have changed: ask again."""
        self._allowed = None
        self.publishable = _NOTHING
