"""Authenticators that ask for nothing: for development, and where the configuration says so."""

from __future__ import annotations

from ..api import Authenticator, Credentials, Principal


class AnyLogin(Authenticator):
    """Development mode: any login, or none, is an administrator. Only ever on loopback."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        name = credentials.username or ""
        return Principal(name, admin=True, anonymous=not name)


class Anonymous(Authenticator):
    """Vouch for clients that name no user."""

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        if credentials.username is None:
            return Principal("", anonymous=True)
        return None
