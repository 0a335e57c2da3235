"""Authenticators that ask for nothing: for development, and where a rule says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from ..api import Authenticator, Credentials, Origin, Principal
from .users import PRINCIPALS_SHARED_MAX


class AnyLogin(Authenticator):
    """Development mode: any login, or none, is an administrator. Only ever on loopback."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        return _anybody(credentials.username or "")

    def principal(self, name: str) -> Principal | None:
        """Return the same."""
        return _anybody(name)


@lru_cache(PRINCIPALS_SHARED_MAX)
def _anybody(name: str) -> Principal:
    return Principal(name, admin=True, anonymous=not name)


NOBODY = Principal("", anonymous=True)


class Anonymous(Authenticator):
    """Vouch for clients that bring no login, where a rule for `anonymous` lets them in."""

    def __init__(self, welcomes: Callable[[Origin], bool]) -> None:
        self._welcomes = welcomes

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        brought = (credentials.username, credentials.password, credentials.token, credentials.method)
        if any(item is not None for item in brought):
            return None
        origin = Origin(credentials.protocol, "", credentials.client_id, credentials.peer)
        return NOBODY if self._welcomes(origin) else None
