"""API keys: long random texts that stand for a user, each with an end and a name of its own.

`gwk_<id>_<secret>`: the prefix lets scanners of repositories find one that has leaked, the id is
public, and of the secret only a digest is kept. A plain SHA-256 is enough: nobody guesses 32 random
bytes, so there is nothing to slow down.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable

import msgspec

from ..api import AuthenticationFailed, Authenticator, Credentials, Principal
from .names import same_name
from .users import Lookup

PREFIX = "gwk_"
ID_BYTES = 6  # 12 hexadecimal digits: a million keys share one by a chance of 1 in 500
SECRET_BYTES = 32
DESCRIPTION_MAX = 200  # characters: a line of a listing
WRONG = (
    "this API key is not valid (any more)"  # the same whether unknown, expired, wrong or of a disabled user
)

_KEY = re.compile(rb"gwk_([0-9a-f]{8,32})_([A-Za-z0-9_-]{43})")
_NO_DIGEST = hashlib.sha256(b"").hexdigest()  # of what no key can be


class ApiKey(msgspec.Struct, frozen=True):
    """What is kept of a key. `groups` narrow the user's to some of them; times are Unix time, 0: never."""

    id: str
    digest: str
    user: str
    created_ms: int
    expires_at_ms: int = 0
    description: str = ""
    groups: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"ApiKey({self.id!r}, user={self.user!r})"


#: Returns the key of that id, None if there is none. From memory: it is asked on the event loop.
KeyLookup = Callable[[str], ApiKey | None]


def make_key(
    user: str,
    now_ms: int,
    expires_at_ms: int = 0,
    description: str = "",
    groups: tuple[str, ...] = (),
) -> tuple[str, ApiKey]:
    """Return a new key, to be shown once, and what to keep of it. Raise ValueError."""
    if expires_at_ms and expires_at_ms <= now_ms:
        raise ValueError("the key would have expired before it is used")
    if len(description) > DESCRIPTION_MAX or not description.isprintable():
        raise ValueError(f"a description is one line of at most {DESCRIPTION_MAX} characters")
    name = secrets.token_hex(ID_BYTES)
    text = f"{PREFIX}{name}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return text, ApiKey(name, _digest(text.encode()), user, now_ms, expires_at_ms, description, groups)


class KeyLogins(Authenticator):
    """Vouches for the users of API keys: as a token, or as a password at doors that know nothing else."""

    def __init__(self, keys: KeyLookup, users: Lookup, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._users = users
        self._now = now

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Vouch for the user of a key. Raise AuthenticationFailed for whatever looks like one and is none."""
        text = credentials.password
        if credentials.token is not None:
            text = credentials.token.encode("utf-8", "replace")
        if text is None or not text.startswith(PREFIX.encode()):
            return None
        found = _KEY.fullmatch(text)
        key = self._keys(found.group(1).decode()) if found is not None else None
        user = self._users(key.user) if key is not None else None
        good = hmac.compare_digest(_digest(text), key.digest if key is not None else _NO_DIGEST)
        if not good or key is None or user is None or user.disabled:
            raise AuthenticationFailed(WRONG)
        if key.expires_at_ms and key.expires_at_ms <= self._now() * 1000:
            raise AuthenticationFailed(WRONG)
        if not same_name(credentials.username, user.name):
            raise AuthenticationFailed(WRONG)
        groups = frozenset(user.groups)
        if key.groups:  # a key never gives more than its user has
            groups &= frozenset(key.groups)
        return Principal(
            user.name, admin=user.admin, groups=groups, method="key", expires_at_ms=key.expires_at_ms
        )


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
