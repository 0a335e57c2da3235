"""Who is asking: sessions by login, kept for a minute.

A login costs an argon2 hash, a request must not: requests of one address with the same login
(`Authorization` or `X-API-Key`) and client certificate share one session, and logins of the same kind
under way are waited for, not repeated. What owns a receiver (an event stream, a WebSocket) opens a
session of its own.

Logins come in headers only. Browsers can set none on WebSockets and EventSource; a token in the
query string would be in every proxy's log and browser's history, so there is no such way.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable
from hashlib import blake2b

from ...api import AuthenticationFailed, Certificate, Credentials, Gateway, Session
from .answers import Header, Scope
from .limits import SESSION_SECONDS_MAX, SESSIONS_MAX

Key = tuple[str, bytes, str]  # address, login, certificate
#: The values of `Authorization` and of `X-API-Key`, empty where there is none.
Login = tuple[bytes, bytes]
NOBODY: Login = (b"", b"")

WAYS = "Basic (RFC 7617) or Bearer (RFC 6750) in Authorization, or X-API-Key"
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1
_API_KEY = re.compile(rb"[\x21-\x7e]+")

CERTIFICATE = "gateway.certificate"  # key of a scope: the client's, if TLS has verified one


def certificate_of(scope: Scope) -> Certificate | None:
    """Return the certificate of whoever is behind a request."""
    found: Certificate | None = scope.get(CERTIFICATE)
    return found


class Lent:
    """A shared session; `users` counts who must not have it closed under them."""

    __slots__ = ("expired", "expires_at_ms", "session", "users")

    def __init__(self, session: Session, expires_at_ms: int) -> None:
        self.session = session
        self.expires_at_ms = expires_at_ms
        self.users = 0
        self.expired = False

    def take(self) -> Session:
        """Use the session across an await; give_back ends that."""
        self.users += 1
        return self.session

    def give_back(self) -> None:
        """The use is over."""
        self.users -= 1
        self._close_if_unused()

    def expire(self) -> None:
        """Close the session as soon as nobody uses it."""
        self.expired = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self.expired and not self.users:
            self.session.close()


class Sessions:
    """Shared sessions by address and login."""

    __slots__ = ("_gateway", "_lent", "_logins")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lent: dict[Key, Lent] = {}  # in the order in which they were made
        self._logins: dict[Key, asyncio.Task[Lent]] = {}

    def __len__(self) -> int:
        return len(self._lent)

    def known(self, scope: Scope) -> Lent | None:
        """Return the session of a request if it is here: the hot path's way, without waiting."""
        lent = self._lent.get(_key(scope))
        if lent is None or lent.expires_at_ms <= self._gateway.clock.monotonic_ms or lent.session.ended:
            return None
        return lent

    async def of(self, scope: Scope) -> Lent:
        """Return the session of a request. Raise AuthenticationFailed."""
        self._gateway.begin_turn()
        lent = self.known(scope)
        if lent is not None:
            return lent
        key = _key(scope)
        task = self._logins.get(key)
        if task is None:
            who = _credentials(scope, key[0])
            task = asyncio.get_running_loop().create_task(self._log_in(key, who))
            self._logins[key] = task
            task.add_done_callback(lambda _: self._logins.pop(key, None))
        # Shielded: the first of several waiting requests may be cancelled, the others go on.
        lent = await asyncio.shield(task)
        self._gateway.begin_turn()
        return lent

    async def own(self, scope: Scope) -> Session:
        """Open a session for one client alone. Raise AuthenticationFailed."""
        client = scope["client"]
        peer = f"{client[0]}:{client[1]}" if client else "unix"
        session = await self._gateway.connect(_credentials(scope, peer))
        self._gateway.begin_turn()
        return session

    async def _log_in(self, key: Key, who: Credentials) -> Lent:
        # Before, not after: a session that is over must not be the one too many of a quota.
        self._expire(self._gateway.clock.monotonic_ms, len(self._lent) + 1)
        replaced = self._lent.pop(key, None)
        if replaced is not None:
            replaced.expire()
        session = await self._gateway.connect(who)
        self._gateway.begin_turn()
        now_ms = self._gateway.clock.monotonic_ms
        self._expire(now_ms, SESSIONS_MAX)
        lent = self._lent[key] = Lent(session, now_ms + self._lasts_ms(session))
        return lent

    def _lasts_ms(self, session: Session) -> int:
        """Return how long a session may be shared: never longer than who vouched for it does."""
        longest = int(SESSION_SECONDS_MAX * 1000)
        ends_ms = session.principal.expires_at_ms
        return min(longest, ends_ms - self._gateway.clock.wall_ms) if ends_ms else longest

    def _expire(self, now_ms: int, count_max: int) -> None:
        while self._lent:
            key = next(iter(self._lent))
            if self._lent[key].expires_at_ms > now_ms and len(self._lent) < count_max:
                return
            self._lent.pop(key).expire()

    def close(self) -> None:
        """Forget everybody."""
        for lent in self._lent.values():
            lent.expire()
        self._lent.clear()


def login_of(headers: list[Header]) -> Login:
    """Return what a request says of who asks. A header that comes twice is no login that could be read."""
    login, api_key = NOBODY
    for name, value in headers:
        if name == b"authorization":
            login = login + b", " + value if login else value
        elif name == b"x-api-key":
            api_key = api_key + b", " + value if api_key else value
    return login, api_key


def _key(scope: Scope) -> Key:
    """Return what requests have in common that share a session."""
    client = scope["client"]
    certificate = certificate_of(scope)
    return (
        client[0] if client else "unix",
        _digest(login_of(scope["headers"])),
        certificate.fingerprint if certificate is not None else "",
    )


def _digest(login: Login) -> bytes:
    """Return what stands for a login in memory; nothing is kept in clear."""
    if login == NOBODY:
        return b""
    return blake2b(b"\n".join(login), digest_size=16).digest()  # no header has a line end in it


def _credentials(scope: Scope, peer: str) -> Credentials:
    """Return what a request says of who asks. Raise AuthenticationFailed."""
    found = credentials(peer, login_of(scope["headers"]))
    found.certificate = certificate_of(scope)
    return found


def credentials(peer: str, login: Login) -> Credentials:
    """Return what a login says. Raise AuthenticationFailed if it says nothing that is understood."""
    authorization, api_key = login
    if authorization and api_key:
        raise AuthenticationFailed(f"one login at a time: {WAYS}")
    if api_key:
        if not _API_KEY.fullmatch(api_key):
            raise AuthenticationFailed("X-API-Key: not a valid key")
        return Credentials("http", peer, token=api_key.decode())
    if not authorization:
        return Credentials("http", peer)
    scheme, _, rest = authorization.partition(b" ")
    known = _SCHEMES.get(scheme.lower())
    if known is None:
        raise AuthenticationFailed(f"Authorization: an unknown scheme; possible are {WAYS}")
    return known(peer, rest.strip())


def _basic(peer: str, encoded: bytes) -> Credentials:
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
        if not colon:
            raise ValueError("no colon between name and password")
        return Credentials("http", peer, username=name.decode(), password=password)
    except UnicodeDecodeError as error:  # whose text has bytes of the password in it
        raise AuthenticationFailed("Authorization: not a valid Basic login (the name is no UTF-8)") from error
    except (binascii.Error, ValueError) as error:
        raise AuthenticationFailed(f"Authorization: not a valid Basic login ({error})") from error


def _bearer(peer: str, token: bytes) -> Credentials:
    if not _TOKEN.fullmatch(token):
        raise AuthenticationFailed("Authorization: not a valid Bearer token (RFC 6750, 2.1)")
    return Credentials("http", peer, token=token.decode())


_SCHEMES: dict[bytes, Callable[[str, bytes], Credentials]] = {b"basic": _basic, b"bearer": _bearer}
