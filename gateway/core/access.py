"""Who clients are, and who decides what they may do.

A session asks once per resource and remembers. Any authorizer's no outvotes every yes, and silence is a no.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from .errors import GatewayError, NotAuthorized
from .message import Origin
from .quota import Limiter, Quotas
from .topic import DELAYED_PREFIX, QUEUE_PREFIX, RESERVED_PREFIXES, SESSION_PREFIX, SHARE_PREFIX, check_topic

GROUP_PREFIX = "$group/"
ADMIN_PREFIX = "$admin/"

#: How people call what a resource's prefix says.
RESOURCE_KINDS = ((QUEUE_PREFIX, "queue"), (GROUP_PREFIX, "group"), (ADMIN_PREFIX, "admin area"))


class Action(Enum):
    """What a principal can be allowed to do with a resource (see `Authorizer.authorize`)."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    CONSUME = "consume"
    MANAGE = "manage"
    VIEW = "view"


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


class Ruling(NamedTuple):
    """What was decided, and by which rule: its id, empty if no rule said anything."""

    allowed: bool
    rule: str = ""


class Authorizer(Protocol):
    """Decides from memory: it is asked in the hot path (once per resource and session)."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        """Allow or deny; None has no opinion. Any denial outvotes every yes, silence of all is a no.

        `resource` is a topic, or for SUBSCRIBE and MANAGE a filter; `$queue/NAME`; `$group/QUEUE/GROUP`
        (see `group_resource`); or `$admin/AREA`.
        """


SILENCE = Ruling(False)
NO_ANONYMOUS_ADMIN = Ruling(False, "builtin.no-anonymous-admin")  # whatever rules say


class Watcher(Protocol):
    """Is told what was refused, and what was changed: the audit log."""

    def refused(
        self, principal: Principal, origin: Origin, action: Action, resource: str, ruling: Ruling
    ) -> None:
        """A session was refused."""

    def changed(self, principal: Principal, origin: Origin, what: str, resource: str, detail: str) -> None:
        """An administrative change was made, such as `queue.delete` of `$queue/jobs`."""


class Unwatched:
    """Nobody watches."""

    def refused(
        self, principal: Principal, origin: Origin, action: Action, resource: str, ruling: Ruling
    ) -> None:
        """Ignore it."""

    def changed(self, principal: Principal, origin: Origin, what: str, resource: str, detail: str) -> None:
        """Ignore it."""


class Holder(Protocol):
    """A session, as the authority sees it: it remembers rulings."""

    @property
    def principal(self) -> Principal: ...

    def forget_rulings(self) -> None:
        """Rules have changed: ask again."""

    def review(self) -> None:
        """Give up what is not allowed any more."""

    def end(self, error: GatewayError) -> None:
        """Have the client told why, and cut off."""


class Authority:
    """What all sessions share: who decides, who is counted, who is told."""

    __slots__ = (
        "_unreviewed",
        "authorizers",
        "logins_refused",
        "quotas",
        "refusals",
        "sessions",
        "watcher",
    )

    def __init__(
        self,
        authorizers: Sequence[Authorizer] = (),
        limiters: Sequence[Limiter] = (),
        watcher: Watcher | None = None,
    ) -> None:
        self.authorizers = tuple(authorizers)
        self.quotas = Quotas(limiters)
        self.watcher: Watcher = watcher or Unwatched()
        self.sessions: set[Holder] = set()
        self.refusals: dict[tuple[str, str], int] = {}  # (door, action) -> how many, since start
        self.logins_refused: dict[str, int] = {}  # by door
        self._unreviewed: list[Holder] = []

    def decide(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling:
        """Ask everybody."""
        if principal.anonymous and not principal.admin and resource.startswith(ADMIN_PREFIX):
            return NO_ANONYMOUS_ADMIN
        found: Ruling | None = None
        for authorizer in self.authorizers:
            ruling = authorizer.authorize(principal, origin, action, resource)
            if ruling is None:
                continue
            if ruling.allowed is not True:
                return Ruling(False, ruling.rule)
            found = found or ruling
        return found or SILENCE

    def refuse(
        self, principal: Principal, origin: Origin, action: Action, resource: str, ruling: Ruling
    ) -> NotAuthorized:
        """Count a refusal and tell the watcher; return the error for the client."""
        key = (origin.protocol, action.value)
        self.refusals[key] = self.refusals.get(key, 0) + 1
        self.watcher.refused(principal, origin, action, resource, ruling)
        return refusal(principal, action, resource, ruling)

    def reconsider(self) -> None:
        """Rules have changed: nothing that was remembered counts; then call `review` until it is done."""
        self._unreviewed = list(self.sessions)
        for session in self._unreviewed:
            session.forget_rulings()

    def review(self, count: int) -> bool:
        """Have some sessions give up what is not allowed any more; tell whether there are others."""
        for _ in range(min(count, len(self._unreviewed))):
            session = self._unreviewed.pop()
            if session in self.sessions:
                session.review()
        return bool(self._unreviewed)

    def end_all(self, name: str, error: GatewayError) -> int:
        """End every session of a principal, as when its password was changed; return how many."""
        found = [session for session in self.sessions if session.principal.name == name]
        for session in found:
            session.end(error)
        return len(found)


def refusal(principal: Principal, action: Action, resource: str, ruling: Ruling) -> NotAuthorized:
    """Return the error that tells a client what it may not do, and which rule says so."""
    who = principal.name or "anonymous"
    why = f"rule {ruling.rule!r} denies it" if ruling.rule else "no rule allows it"
    return NotAuthorized(f"{who} may not {action.value} {describe(resource)}: {why}", ruling.rule)


def describe(resource: str) -> str:
    """Return a resource as people call it."""
    for prefix, kind in RESOURCE_KINDS:
        if resource.startswith(prefix):
            return f"{kind} {resource[len(prefix) :]!r}"
    return repr(resource)


def check_open(topic: str) -> None:
    """Raise InvalidTopic or NotAuthorized for a topic that no client may publish to, whatever rules say."""
    check_topic(topic)
    if topic.startswith(RESERVED_PREFIXES):
        raise NotAuthorized(f"{topic!r}: clients may not publish to the gateway's own topics")


def check_declared(queue: str) -> None:
    """Raise NotAuthorized for a queue that no client may name, whatever rules say.

    A session's own queue is reached by connecting: a rule that allows every queue must not open other
    clients' mail. A shared subscription is asked for by its filter (see `shares`).
    """
    if queue.startswith((SESSION_PREFIX, SHARE_PREFIX)):
        raise NotAuthorized(f"queue {queue!r} belongs to the sessions that made it")
    if queue.startswith(DELAYED_PREFIX):
        raise NotAuthorized(f"queue {queue!r} is of the calendar; /v1/schedules has what waits for its time")


def queue_resource(name: str) -> str:
    """Return the resource of a queue."""
    return QUEUE_PREFIX + name


def group_resource(queue: str, group: str) -> str:
    """Return the resource of a stream's group; the group is one level, whatever is in its name."""
    return f"{GROUP_PREFIX}{queue}/{group.replace('%', '%25').replace('/', '%2F')}"
