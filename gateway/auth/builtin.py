"""The built-in authenticators, authorizer and limiter, offered by the hooks as anybody's are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog

from ..api import Authenticator, Authorizer, Gateway, GatewayError, HttpPart, InvalidValue, Limiter
from ..hookspecs import hookimpl
from . import certificates
from .acl.token import check_rules
from .anonymous import Anonymous, AnyLogin
from .certificates import CertificateLogins
from .directory import Directory
from .keys import KeyLogins
from .scram import ScramLogins
from .shared_keys import SharedKeys
from .signatures import SignatureLogins
from .users import User

log = structlog.get_logger("gateway")


class Auth:
    """One for each gateway: what the hooks return shares its directory."""

    def __init__(self) -> None:
        self.directory = Directory()

    @hookimpl
    def gateway_authenticators(self, config: Any) -> Iterable[Authenticator]:
        """Development mode lets anybody in (on loopback); otherwise who has a login, then who needs none."""
        if config.dev:
            return [AnyLogin()]
        from .passwords import Passwords  # argon2 takes 10 ms to import

        directory = self.directory
        faults = certificates.check(config.certificates)
        if faults:
            raise InvalidValue("; ".join(f"certificates.{fault}" for fault in faults))
        return [
            CertificateLogins(directory.user, config.certificates.name, config.certificates.users_only),
            KeyLogins(directory.key, directory.user),
            *self._tokens(config),
            SignatureLogins(directory.user, directory.secret),
            SharedKeys(directory.user, directory.secret),
            ScramLogins(directory.user, directory.derived),
            Passwords(directory.user, self._rehashed, directory.users.all),
            Anonymous(directory.acl.welcomes),
        ]

    def _tokens(self, config: Any) -> Iterable[Authenticator]:
        settings = config.tokens
        if settings == type(settings)():
            return []  # what is said of tokens without a key is a fault
        from .tokens import TokenLogins

        return [TokenLogins(settings, self.directory.user, check_rules=check_rules)]

    @hookimpl
    def gateway_authorizers(self, config: Any) -> Iterable[Authorizer]:
        """Rules. Raise InvalidValue for a file of them that cannot be used."""
        self.directory.configure(config)
        return [self.directory.acl]

    @hookimpl
    def gateway_limiters(self, config: Any) -> Iterable[Limiter]:
        """Quotas."""
        return [self.directory.limiter]

    @hookimpl
    def gateway_recovered(self, gateway: Gateway) -> None:
        """Read what is kept in the metadata store, and the file of rules when it is to be read again."""
        self.directory.open(gateway)
        gateway.on_reload.append(self._reload)

    @hookimpl
    def gateway_http_parts(self, gateway: Gateway) -> Iterable[HttpPart]:
        """Offer the API for users, rules, keys and quotas."""
        from .admin import AccessApi

        return [AccessApi(self.directory, gateway)]

    def _reload(self) -> None:
        try:
            self.directory.reload()
        except GatewayError as error:
            log.error("the file of rules stays as it was", reason=error.detail)

    def _rehashed(self, user: User, password: str) -> None:
        self.directory.rehashed(user, password)


#: What the plugin manager makes one of for each gateway.
plugin = Auth
