"""The built-in authenticators and authorizers, offered by the hooks as anybody's are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..api import Authenticator, Authorizer
from ..hookspecs import hookimpl
from .anonymous import Anonymous, AnyLogin
from .rules import Admins, UserRules


@hookimpl
def gateway_authenticators(config: Any) -> Iterable[Authenticator]:
    """Development mode lets anybody in (on loopback); otherwise users, then anonymous if allowed."""
    if config.dev:
        return [AnyLogin()]
    found: list[Authenticator] = []
    if config.users:
        from .passwords import Passwords

        found.append(Passwords({name: (user.password, user.admin) for name, user in config.users.items()}))
    if config.auth.anonymous:
        found.append(Anonymous())
    return found


@hookimpl
def gateway_authorizers(config: Any) -> Iterable[Authorizer]:
    """Admins may do everything, users what their filters say, anonymous clients no management."""
    rules = {name: (tuple(user.publish), tuple(user.subscribe)) for name, user in config.users.items()}
    return [Admins(), UserRules(rules, anonymous=config.auth.anonymous)]
