"""What is known of a user, and how the parts of this package look one up."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from ..api import Principal


class User(msgspec.Struct, frozen=True):
    """One user. Whatever is secret is hashed, or sealed with the gateway's own key.

    `password` is a hash as `gateway.auth.hashes` knows it, `scram` a SCRAM-SHA-256 verifier as RFC 5803
    writes it, `secret` a shared key (for signatures and PSK) sealed by `gateway.auth.sealing`. Each is
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
