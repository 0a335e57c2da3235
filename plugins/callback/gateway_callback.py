"""Logins that a web service decides: an authenticator of one's own, complete."""

import hashlib
import hmac
import os
import time
from typing import Any

import httpx

from gateway import AuthenticationFailed, Credentials, Principal, hookimpl
from gateway.api import Authenticator

CACHED_MAX = 10_000  # good logins remembered: 2 MB
CONNECTIONS_MAX = 20  # to the service: a storm of logins waits here, not there


class Callback(Authenticator):
    """Asks `url`; what was good is not asked again for `cache_seconds`."""

    def __init__(self, url: str, timeout_seconds: float = 2.0, cache_seconds: float = 30.0) -> None:
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX)
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(timeout_seconds, pool=None), limits=limits)
        self._url = url
        self._seconds = cache_seconds
        self._good: dict[bytes, tuple[float, Principal]] = {}
        self._secret = os.urandom(32)  # so that memory gives no digest of a password away

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Vouch for whom the service knows. Raise AuthenticationFailed if it refuses, or does not answer."""
        if credentials.username is None or credentials.password is None or credentials.method is not None:
            return None
        said = (credentials.username, credentials.client_id, credentials.protocol)
        key = hmac.digest(self._secret, repr(said).encode() + credentials.password, hashlib.sha256)
        until, principal = self._good.get(key, (0.0, None))
        if principal is None or until < time.monotonic():
            principal = await self._ask(credentials)
            if principal is not None:
                if len(self._good) >= CACHED_MAX:
                    self._good.clear()
                self._good[key] = (time.monotonic() + self._seconds, principal)
        return principal

    async def _ask(self, credentials: Credentials) -> Principal | None:
        asked = {
            "username": credentials.username,
            "password": (credentials.password or b"").decode("utf-8", "replace"),
            "client_id": credentials.client_id,
            "door": credentials.protocol,
            "peer": credentials.peer,
        }
        try:
            answer = await self._http.post(self._url, json=asked)
            if answer.status_code == 404:
                return None
            if answer.status_code == 200:
                return _principal(answer.json(), credentials.username or "")
        except (httpx.HTTPError, ValueError, TypeError) as error:
            raise AuthenticationFailed("who you are cannot be found out now; try again later") from error
        raise AuthenticationFailed("wrong user name or password")


def _principal(found: Any, username: str) -> Principal:
    if not isinstance(found, dict):
        raise TypeError("an object is expected")
    name, groups = found.get("name", username), found.get("groups", [])
    if not isinstance(name, str) or not name or not all(isinstance(group, str) for group in groups):
        raise TypeError("name is a text, groups are texts")
    return Principal(name, found.get("admin") is True, groups=frozenset(groups), method="callback")


@hookimpl
def gateway_authenticators(config: Any) -> list[Authenticator]:
    """Offer it where the configuration names a service. Raise TypeError for a key that it does not know."""
    settings = dict(config.plugin("callback"))
    return [Callback(**settings)] if settings and not config.dev else []
