"""Users with password hashes, verified in threads: never on the event loop.

A verification costs tens of milliseconds by design, so a login storm must not stall traffic
(threads, few of them) nor repeat itself (what was verified is remembered for a short time).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from ..api import AuthenticationFailed, Authenticator, Credentials, Principal
from .hashes import hash_password, verify

VERIFY_THREADS = 2  # argon2 releases the interpreter lock; more would starve the loop on small machines
VERIFIED_SECONDS = 60  # how long a changed password keeps working at most
VERIFIED_MAX = 10_000  # 10 k logins remembered: about 2 MB


class Passwords(Authenticator):
    """Users from the configuration: name -> (hash, admin)."""

    def __init__(self, users: Mapping[str, tuple[str, bool]]) -> None:
        self._users = dict(users)
        self._threads = ThreadPoolExecutor(VERIFY_THREADS, thread_name_prefix="passwords")
        self._verified: dict[bytes, float] = {}
        self._secret = os.urandom(32)  # so that the memory of a process gives no password hashes away
        self._decoy = hash_password("nobody")  # an unknown user costs as much time as a wrong password

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Vouch for a user with the right password; refuse everybody who names another."""
        name = credentials.username
        if name is None:
            return None
        stored, admin = self._users.get(name, (self._decoy, False))
        password = credentials.password or b""
        key = hmac.digest(self._secret, name.encode() + b"\0" + password + stored.encode(), hashlib.sha256)
        until = self._verified.get(key)
        if until is None or until < time.monotonic():
            loop = asyncio.get_running_loop()
            good = await loop.run_in_executor(self._threads, verify, stored, password)
            if not good or name not in self._users:
                raise AuthenticationFailed("wrong user name or password")
            if len(self._verified) >= VERIFIED_MAX:
                self._verified.clear()
            self._verified[key] = time.monotonic() + VERIFIED_SECONDS
        return Principal(name, admin=admin)
