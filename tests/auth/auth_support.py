"""What the tests of authenticators share: credentials, users, and asking on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from gateway.api import Authenticator, Credentials, Principal
from gateway.auth.users import Lookup, User
from gateway.core.errors import AuthenticationFailed

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def ask(authenticator: Authenticator, credentials: Credentials) -> Principal | None:
    return run(authenticator.authenticate(credentials))


def vouched(authenticator: Authenticator, credentials: Credentials) -> Principal:
    principal = ask(authenticator, credentials)
    assert principal is not None, "nobody vouched"
    return principal


def refused(authenticator: Authenticator, credentials: Credentials) -> str:
    """Return why."""
    with pytest.raises(AuthenticationFailed) as caught:
        ask(authenticator, credentials)
    return caught.value.detail


def users(*known: User) -> Lookup:
    return {user.name: user for user in known}.get


class Hands:
    """A clock's: call it for the time."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at
