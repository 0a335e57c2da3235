"""Signed requests: RocketMQ 5's `MQv2-HMAC-SHA1`, the header that its gRPC clients send.

The signature covers the date alone. Whoever overhears a request can repeat it, so this login is for
TLS; and as official clients send their local time as if it were UTC, dates up to 14 hours off are
right, and no window can be narrow.
"""

from __future__ import annotations

import hmac
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from ..api import AuthenticationFailed, Authenticator, Credentials, Principal
from ..rocketmq.signature import DATE_FORMAT, METHOD, SIGNED_HEADER, sign
from .users import Lookup, Secrets

#: Time zones reach from UTC-12 to UTC+14; the rest is for clocks that are wrong.
SKEW_SECONDS_MAX = 24 * 3600.0
WRONG = "wrong access key or signature"  # the same whether the key is unknown or the signature wrong

_DATE = re.compile(rb"[0-9]{8}T[0-9]{6}Z")


class SignatureLogins(Authenticator):
    """Users with a shared secret: `username` is the access key, `signed` the date that `data` signs."""

    def __init__(
        self,
        users: Lookup,
        secrets: Secrets,
        skew_seconds_max: float = SKEW_SECONDS_MAX,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._users = users
        self._secrets = secrets
        self._skew_seconds_max = skew_seconds_max
        self._now = now
        self._decoy = os.urandom(20)  # an unknown user costs as much time as a wrong signature

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Vouch for a user whose signature is right. Raise AuthenticationFailed for any other."""
        if credentials.method != METHOD or not credentials.username:
            return None
        date, given = credentials.signed or b"", credentials.data or b""
        self._check_date(date)
        user = self._users(credentials.username)
        secret = self._secrets(user) if user is not None else None
        expected = sign(secret or self._decoy, date)
        good = hmac.compare_digest(given.lower(), expected)
        if not good or secret is None or user is None or user.disabled:
            raise AuthenticationFailed(WRONG)
        return Principal(user.name, admin=user.admin, groups=frozenset(user.groups), method="signature")

    def _check_date(self, text: bytes) -> None:
        try:
            if not _DATE.fullmatch(text):
                raise ValueError("another form")
            date = datetime.strptime(text.decode(), DATE_FORMAT).replace(tzinfo=UTC)
        except ValueError as error:
            raise AuthenticationFailed(f"{SIGNED_HEADER}: a date as 20260131T235959Z is expected") from error
        if abs(date.timestamp() - self._now()) > self._skew_seconds_max:
            hours = self._skew_seconds_max / 3600
            raise AuthenticationFailed(f"{SIGNED_HEADER}: the date is more than {hours:g} hours off")
