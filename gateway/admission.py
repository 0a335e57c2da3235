"""Who gets in: the chain of authenticators that all doors use, and what guards it.

Authenticators are asked in order until one vouches; nobody vouching is a refusal. Failures are
throttled, told to the audit log, and all look alike to whoever is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .api import Authenticator, Credentials, Exchange, Principal
from .core.clock import Clock
from .core.errors import AuthenticationFailed, Throttled
from .throttle import Throttle, host_of

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
        self._check(credentials, user)
        try:
            for authenticator in self._authenticators:
                principal = await authenticator.authenticate(credentials)
                if principal is not None:
                    self._succeeded(credentials, principal.name)
                    return principal
        except AuthenticationFailed as error:
            self._failed(credentials, user, error)
            raise
        refusal = AuthenticationFailed(NOBODY if credentials.username is None else UNKNOWN)
        self._failed(credentials, user, refusal)
        raise refusal

    def exchange(self, credentials: Credentials) -> Exchange | None:
        """Begin an exchange, None if nobody knows the method. Raise Throttled."""
        self._check(credentials, "")
        for authenticator in self._authenticators:
            exchange = authenticator.exchange(credentials)
            if exchange is not None:
                return _Watched(self, credentials, exchange)
        return None

    def _check(self, credentials: Credentials, user: str) -> None:
        wait_ms = self.throttle.wait_ms(host_of(credentials.peer), user, self._clock.monotonic_ms)
        if wait_ms:
            error = Throttled(f"too many failed logins; try again in {wait_ms / 1000:.0f} s", wait_ms)
            self._refused(credentials, error.detail)
            raise error

    def _succeeded(self, credentials: Credentials, user: str) -> None:
        self.throttle.succeeded(host_of(credentials.peer), user, self._clock.monotonic_ms)

    def _failed(self, credentials: Credentials, user: str, error: AuthenticationFailed) -> None:
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

    async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
        try:
            answer, principal = await self._exchange.step(data)
        except AuthenticationFailed as error:
            self._admission._failed(self._credentials, self._credentials.username or "", error)
            raise
        if principal is not None:
            self._admission._succeeded(self._credentials, principal.name)
        return answer, principal
