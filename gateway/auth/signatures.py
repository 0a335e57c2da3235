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
from typing import NamedTuple

from ..api import AuthenticationFailed, Authenticator, Credentials, Principal
from .users import Lookup, Secrets

METHOD = "MQv2-HMAC-SHA1"
SIGNED_HEADER = "x-mq-date-time"
#: Time zones reach from UTC-12 to UTC+14; the rest is for clocks that are wrong.
SKEW_SECONDS_MAX = 24 * 3600.0
HEADER_CHARACTERS_MAX = 1024
WRONG = "wrong access key or signature"  # the same whether the key is unknown or the signature wrong

_SIGNATURE = re.compile(rb"[0-9A-Fa-f]{40}")
_DATE = re.compile(rb"[0-9]{8}T[0-9]{6}Z")


class Signature(NamedTuple):
    """What an `authorization` header says: for `Credentials.username` and `.data`."""

    access_key: str
    signature: bytes  # 40 hexadecimal digits


def parse_authorization(header: str) -> Signature | None:
    """Read `MQv2-HMAC-SHA1 Credential=AK/REGION/SERVICE, SignedHeaders=x-mq-date-time, Signature=HEX`.

    Return None for an empty credential: clients without a login send the header too. Raise
    AuthenticationFailed for anything else that is none.
    """
    if len(header) > HEADER_CHARACTERS_MAX:
        raise AuthenticationFailed("authorization: the header is too long")
    scheme, _, rest = header.strip().partition(" ")
    if scheme != METHOD:
        raise AuthenticationFailed(f"authorization: {METHOD} is expected")
    fields: dict[str, str] = {}
    for piece in rest.split(","):
        name, equals, value = piece.strip().partition("=")
        if not equals or name in fields:
            raise AuthenticationFailed("authorization: NAME=VALUE is expected, each name once")
        fields[name] = value
    access_key = fields.get("Credential", "").partition("/")[0]
    if "Credential" in fields and not access_key:
        return None
    signature = fields.get("Signature", "").encode("utf-8", "replace")
    if fields.get("SignedHeaders", "").lower() != SIGNED_HEADER:
        raise AuthenticationFailed(f"authorization: {SIGNED_HEADER} alone is to be signed")
    if not access_key or not _SIGNATURE.fullmatch(signature):
        raise AuthenticationFailed("authorization: Credential, SignedHeaders and Signature are expected")
    return Signature(access_key, signature)


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
        expected = hmac.digest(secret or self._decoy, date, "sha1").hex().encode()
        good = hmac.compare_digest(given.lower(), expected)
        if not good or secret is None or user is None or user.disabled:
            raise AuthenticationFailed(WRONG)
        return Principal(user.name, admin=user.admin, groups=frozenset(user.groups), method="signature")

    def _check_date(self, text: bytes) -> None:
        try:
            if not _DATE.fullmatch(text):
                raise ValueError("another form")
            date = datetime.strptime(text.decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise AuthenticationFailed(f"{SIGNED_HEADER}: a date as 20260131T235959Z is expected") from error
        if abs(date.timestamp() - self._now()) > self._skew_seconds_max:
            hours = self._skew_seconds_max / 3600
            raise AuthenticationFailed(f"{SIGNED_HEADER}: the date is more than {hours:g} hours off")
