"""Who is asking: sessions by login, kept for a minute.

A login costs an argon2 hash, a request must not: requests of one address with the same
`Authorization` share one session, and logins of the same kind under way are waited for, not
repeated. What owns a receiver (an event stream, a WebSocket) opens a session of its own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from hashlib import blake2b
from typing import Any

from ...api import AuthenticationFailed, Credentials, Gateway, Session
from .answers import Header
from .limits import SESSION_SECONDS_MAX, SESSIONS_MAX

Key = tuple[str, bytes]


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
        self._lent: dict[Key, Lent] = {}  # in order of expiry
        self._logins: dict[Key, asyncio.Task[Lent]] = {}

    def __len__(self) -> int:
        return len(self._lent)

    def known(self, client: Any, headers: list[Header]) -> Lent | None:
        """Return the session of a request if it is here: the hot path's way, without waiting."""
        host = client[0] if client else "unix"
        lent = self._lent.get((host, _digest(authorization(headers))))
        if lent is None or lent.expires_at_ms <= self._gateway.clock.monotonic_ms or lent.session.ended:
            return None
        return lent

    async def of(self, client: Any, headers: list[Header]) -> Lent:
        """Return the session of a request. Raise AuthenticationFailed."""
        self._gateway.begin_turn()
        lent = self.known(client, headers)
        if lent is not None:
            return lent
        host = client[0] if client else "unix"
        login = authorization(headers)
        key = (host, _digest(login))
        task = self._logins.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._log_in(key, credentials(host, login)))
            self._logins[key] = task
            task.add_done_callback(lambda _: self._logins.pop(key, None))
        # Shielded: the first of several waiting requests may be cancelled, the others go on.
        lent = await asyncio.shield(task)
        self._gateway.begin_turn()
        return lent

    async def own(self, client: Any, headers: list[Header]) -> Session:
        """Open a session for one client alone. Raise AuthenticationFailed."""
        peer = f"{client[0]}:{client[1]}" if client else "unix"
        session = await self._gateway.connect(credentials(peer, authorization(headers)))
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
        lent = self._lent[key] = Lent(session, now_ms + int(SESSION_SECONDS_MAX * 1000))
        return lent

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


def authorization(headers: list[Header]) -> bytes:
    """Return the value of `Authorization`, empty if there is none."""
    for name, value in headers:
        if name == b"authorization":
            return value
    return b""


def _digest(login: bytes) -> bytes:
    """Return what stands for a login in memory; nothing is kept in clear."""
    return blake2b(login, digest_size=16).digest() if login else b""


def credentials(peer: str, login: bytes) -> Credentials:
    """Return what an `Authorization` header says. Raise AuthenticationFailed if that is not Basic."""
    if not login:
        return Credentials("http", peer)
    scheme, _, encoded = login.partition(b" ")
    if scheme.lower() != b"basic":
        raise AuthenticationFailed("Authorization: the Basic scheme is expected (RFC 7617)")
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        if not colon:
            raise ValueError("no colon between name and password")
        return Credentials("http", peer, username=name.decode(), password=password)
    except (binascii.Error, ValueError) as error:
        raise AuthenticationFailed(f"Authorization: not a valid Basic login ({error})") from error
