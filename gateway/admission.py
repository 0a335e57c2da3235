"""Who gets in: the chain of authenticators that all doors use, and what guards it.

Authenticators are asked in order until one vouches; nobody vouching is a refusal. Failures are
throttled, told to the audit log, and all look alike to whoever is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .api import Authenticator, Credentials, Exchange, Principal
from .core.clock import Clock
from .core.errors import AuthenticationFailed, Throttled
from .core.message import host_of
from .throttle import Throttle

NOBODY = "nobody vouches for this client; log in with a user name and password"
UNKNOWN = "wrong user name or password"  # what somebody who knows the name says of a wrong password

#: Is told of a refused login: credentials, why.
Refused = Callable[[Credentials, str], None]


class Admission:
    """One for all doors."""

    __slots__ = ("_authenticators", "_clock", "_refused", "throttle")

    def __init__(self, authenticators: Sequence[Authenticator], clock: Clock, refused: Refused) -> None:
        self._authenticators = tuple(authenticators)
        self._clock = clock
        self._refused = refused
        self.throttle = Throttle()

    async def admit(self, credentials: Credentials) -> Principal:
        """Return who this is. Raise AuthenticationFailed, Throttled if too many have failed before."""
        user = credentials.username or ""
        self.check(credentials, user)
        try:
            for authenticator in self._authenticators:
                principal = await authenticator.authenticate(credentials)
                if principal is not None:
                    self.succeeded(credentials, principal.name)
                    return principal
        except AuthenticationFailed as error:
            self.failed(credentials, user, error)
            raise
        refusal = AuthenticationFailed(NOBODY if credentials.username is None else UNKNOWN)
        self.failed(credentials, user, refusal)
        raise refusal

    def exchange(self, credentials: Credentials) -> Exchange | None:
        """Begin an exchange, None if nobody knows the method. Raise Throttled."""
        self.check(credentials, "")
        for authenticator in self._authenticators:
            exchange = authenticator.exchange(credentials)
            if exchange is not None:
                return _Watched(self, credentials, exchange)
        return None

    def check(self, credentials: Credentials, user: str) -> None:
        """Raise Throttled if too many logins from there, or as this user, have failed."""
        wait_ms = self.throttle.wait_ms(host_of(credentials.peer), user, self._clock.monotonic_ms)
        if wait_ms:
            error = Throttled(f"too many failed logins; try again in {wait_ms / 1000:.0f} s", wait_ms)
            self._refused(credentials, error.detail)
            raise error

    def succeeded(self, credentials: Credentials, user: str) -> None:
        """A login was right."""
        self.throttle.succeeded(host_of(credentials.peer), user, self._clock.monotonic_ms)

    def failed(self, credentials: Credentials, user: str, error: AuthenticationFailed) -> None:
        """A login was wrong."""
        if credentials.username is not None or credentials.token or credentials.method:
            # Nobody guesses by saying nothing: a client without a login is refused, and no more.
            self.throttle.failed(host_of(credentials.peer), user, self._clock.monotonic_ms)
        self._refused(credentials, error.detail)


class _Watched(Exchange):
    """An exchange whose end is counted."""

    def __init__(self, admission: Admission, credentials: Credentials, exchange: Exchange) -> None:
        self._admission = admission
        self._credentials = credentials
        self._exchange = exchange
        self.name = credentials.username or ""

    async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
        before = self.name
        try:
            answer, principal = await self._exchange.step(data)
        except AuthenticationFailed as error:
            self.name = self._exchange.name
            self._admission.failed(self._credentials, self.name, error)
            raise
        self.name = self._exchange.name
        if self.name != before:  # now it is known against whom it would count
            self._admission.check(self._credentials, self.name)
        if principal is not None:
            self._admission.succeeded(self._credentials, principal.name)
        return answer, principal
