"""Users with password hashes, verified in threads: never on the event loop.

A verification costs tens of milliseconds by design, so a login storm must not stall traffic (few
threads, which give way to the event loop) nor repeat itself (what was verified is remembered for a
short time).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from ..api import AuthenticationFailed, Authenticator, Credentials, Principal
from .hashes import hash_password, needs_rehash, verify
from .users import Lookup, User, principal_of

VERIFY_THREADS = 2  # argon2 releases the interpreter lock; more would starve the loop on small machines
VERIFY_NICE = 10  # the loop comes first; where others use the machine, too, a tenth is left for logins
VERIFIED_SECONDS = 60  # how long a disabled login would be remembered, if it were not looked up
VERIFIED_MAX = 10_000  # 10 k logins remembered: about 2 MB
WAITING_MAX = 20_000  # logins that wait for a thread: some minutes' work, and 20 MB
PASSWORD_BYTES_MAX = 1024  # a hash function must not be fed megabytes

WRONG = "wrong user name or password"  # the same whatever is wrong; also what admission says of unknown names
Rehashed = Callable[[User, str], None]


class Passwords(Authenticator):
    """Vouches for users with the right password. `rehashed` is told a better hash for one that was good."""

    def __init__(
        self, lookup: Lookup, rehashed: Rehashed | None = None, known: Callable[[], Iterable[User]] = tuple
    ) -> None:
        self._lookup = lookup
        self._known = known
        self._rehashed = rehashed
        self._threads = ThreadPoolExecutor(VERIFY_THREADS, "passwords", initializer=_step_back)
        self._verified: dict[bytes, float] = {}
        self._secret = os.urandom(32)  # so that the memory of a process gives no password hashes away
        self._waiting = 0

    def users(self) -> Iterable[tuple[str, bool]]:
        """Return everybody."""
        return [(user.name, user.admin) for user in self._known()]

    def principal(self, name: str) -> Principal | None:
        """Return a user that could log in, in whatever way."""
        user = self._lookup(name)
        return None if user is None or user.disabled else principal_of(user, "name")

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Vouch for a user with the right password; refuse a wrong one; leave other names alone."""
        name = credentials.username
        if name is None:
            return None
        password = credentials.password or b""
        user = self._lookup(name)
        # An unknown user costs as much time as a wrong password: nobody learns who there is.
        stored = user.password if user is not None and user.password else _decoy()
        key = hmac.digest(self._secret, name.encode() + b"\0" + password + stored.encode(), hashlib.sha256)
        until = self._verified.get(key)
        if until is None or until < time.monotonic():
            good = len(password) <= PASSWORD_BYTES_MAX and await self._verify(stored, password)
            if user is None:
                return None  # somebody else may know this name
            if not good:
                raise AuthenticationFailed(WRONG)
            self._remember(key)
            await self._renew(user, password)
        if user is None or user.disabled or not user.password:
            raise AuthenticationFailed(WRONG)
        return principal_of(user, "password")

    async def _verify(self, stored: str, password: bytes) -> bool:
        if self._waiting >= WAITING_MAX:
            raise AuthenticationFailed("too many clients log in at once; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, verify, stored, password)
        finally:
            self._waiting -= 1

    async def _renew(self, user: User, password: bytes) -> None:
        """Replace a hash that another program wrote, or that is weaker than ours are now."""
        if self._rehashed is None or not user.password or not needs_rehash(user.password):
            return
        with contextlib.suppress(UnicodeDecodeError):  # such a password stays as it is
            text = password.decode()
            loop = asyncio.get_running_loop()
            self._rehashed(user, await loop.run_in_executor(self._threads, hash_password, text))

    def _remember(self, key: bytes) -> None:
        if len(self._verified) >= VERIFIED_MAX:
            self._verified.clear()
        self._verified[key] = time.monotonic() + VERIFIED_SECONDS


def _step_back() -> None:
    """Give this thread the least of the processor that the system can (Linux counts niceness by thread)."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), VERIFY_NICE)


@lru_cache(1)
def _decoy() -> str:
    """Return a hash that no password is known for. Made once, by the first who is unknown."""
    return hash_password(os.urandom(16).hex())
