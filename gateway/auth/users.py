"""What is known of a user, and how the parts of this package look one up."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec
import structlog

from ..api import Principal
from ..sealing import Sealer

log = structlog.get_logger("gateway")


class User(msgspec.Struct, frozen=True):
    """One user. Whatever is secret is hashed, or sealed with the gateway's own key.

    `password` is a hash as `gateway.auth.hashes` knows it, `scram` a SCRAM-SHA-256 verifier as RFC 5803
    writes it, `secret` a shared key (for signatures and PSK) sealed by `gateway.sealing`. Each is
    empty where the user cannot log in that way.
    """

    name: str
    password: str = ""
    scram: str = ""
    secret: str = ""
    admin: bool = False
    disabled: bool = False
    groups: tuple[str, ...] = ()

    def __repr__(self) -> str:  # never the secrets
        return f"User({self.name!r}, admin={self.admin})"


PRINCIPALS_SHARED_MAX = 10_000  # connections of one user share what they are: 100 bytes each


@lru_cache(PRINCIPALS_SHARED_MAX)
def principal_of(user: User, method: str) -> Principal:
    """Return what somebody is who logged in as a user."""
    return Principal(user.name, user.admin, groups=frozenset(user.groups), method=method)


#: Returns the user of that name, None if there is none. From memory: it is asked on the event loop.
Lookup = Callable[[str], User | None]

#: Returns a user's shared secret, None if there is none.
Secrets = Callable[[User], bytes | None]


def seal_for_user(sealer: Sealer, name: str, secret: bytes) -> str:
    """Return what `User.secret` keeps. Raise ValueError."""
    if not secret:
        raise ValueError("the secret is empty")
    return sealer.seal(secret, _context(name))


def secret_of(sealer: Sealer, user: User) -> bytes | None:
    """Return a user's shared secret; None if there is none, or it cannot be opened, which is logged."""
    if not user.secret:
        return None
    try:
        return sealer.open(user.secret, _context(user.name)) or None
    except ValueError as error:
        log.error("a user's secret cannot be opened", user=user.name, reason=str(error))
        return None


def _context(name: str) -> bytes:
    return b"user:" + name.encode()
