"""Client certificates vouch for clients: TLS has verified them, here they get a name (RFC 5280).

Which authorities are trusted is the door's business; whoever has a certificate of theirs is in, or
with `users_only` whoever of them is a user.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..api import AuthenticationFailed, Authenticator, Certificate, Credentials, Exchange, Principal
from .names import checked_name, same_name
from .users import Lookup

METHOD = "EXTERNAL"  # RFC 4422, appendix A


def _alternative(kind: str) -> Callable[[Certificate], str]:
    def first(certificate: Certificate) -> str:
        return next((name[len(kind) :] for name in certificate.names if name.startswith(kind)), "")

    return first


#: What a name may be taken from.
NAMES: dict[str, Callable[[Certificate], str]] = {
    "cn": lambda certificate: certificate.common_name,
    "subject": lambda certificate: certificate.subject,
    "san:dns": _alternative("DNS:"),
    "san:uri": _alternative("URI:"),
    "san:email": _alternative("email:"),
}


def check(settings: Any) -> list[str]:
    """Return a line for each fault of `[certificates]`."""
    if settings.name in NAMES:
        return []
    return [f"name: {settings.name!r}; {', '.join(NAMES)} are possible"]


class CertificateLogins(Authenticator):
    """Vouches for clients with a certificate and no other login, and for AMQP's EXTERNAL.

    `name` is a key of NAMES. Admin and groups are the user's of that name, if there is one.
    """

    methods = (METHOD,)

    def __init__(self, users: Lookup, name: str = "cn", users_only: bool = False) -> None:
        self._users = users
        self._name = name
        self._name_of = NAMES[name]
        self._users_only = users_only

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Vouch unless the client shows something else too: that is for others to look at.

        A user name alone is fine if it is the certificate's.
        """
        certificate = credentials.certificate
        shown = (credentials.password, credentials.token, credentials.signed, credentials.method)
        if certificate is None or any(one is not None for one in shown):
            return None
        if not same_name(credentials.username, self._name_of(certificate)):
            return None
        return self.vouch(certificate)

    def exchange(self, credentials: Credentials) -> Exchange | None:
        return _External(self, credentials) if credentials.method == METHOD else None

    def vouch(self, certificate: Certificate) -> Principal:
        """Return who has the certificate. Raise AuthenticationFailed."""
        name = checked_name(self._name_of(certificate), f"the certificate's {self._name}")
        user = self._users(name)
        if user is None and self._users_only:
            raise AuthenticationFailed("the certificate is nobody's here: no user has its name")
        if user is not None and user.disabled:
            raise AuthenticationFailed("the certificate's user is disabled")
        return Principal(
            name,
            admin=user is not None and user.admin,
            groups=frozenset(user.groups if user is not None else ()),
            method="certificate",
            certificate=certificate,
        )


class _External(Exchange):
    """One step: the client says nothing, or its own name."""

    def __init__(self, logins: CertificateLogins, credentials: Credentials) -> None:
        self._logins = logins
        self._credentials = credentials

    async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
        certificate = self._credentials.certificate
        if certificate is None:
            raise AuthenticationFailed(
                "EXTERNAL needs a client certificate, at a door with TLS that asks for one"
            )
        principal = self._logins.vouch(certificate)
        given = data.decode("utf-8", "replace")
        if not same_name(given, principal.name) or not same_name(self._credentials.username, principal.name):
            raise AuthenticationFailed("nobody may act for another here: the name is not the certificate's")
        return b"", principal
