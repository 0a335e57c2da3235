"""Signed requests: RocketMQ 5's `MQv2-HMAC-SHA1`, the `authorization` header that its gRPC clients send.

The signature covers the date alone: whoever overhears a request can repeat it, so this is a login for TLS.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime
from typing import Final, NamedTuple

from gateway.core.errors import AuthenticationFailed

METHOD: Final = "MQv2-HMAC-SHA1"
SIGNED_HEADER: Final = "x-mq-date-time"
DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
HEADER_CHARACTERS_MAX: Final = 1024

_SIGNATURE: Final = re.compile(rb"[0-9A-Fa-f]{40}")


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


def sign(secret: bytes, date: bytes) -> bytes:
    """Return the signature of a date, in hexadecimal digits."""
    return hmac.digest(secret, date, "sha1").hex().encode()


def authorization(access_key: str, secret: str, now: datetime) -> tuple[str, str]:
    """Return what a client sends: the values of `x-mq-date-time` and `authorization`; `now` is in UTC."""
    date = now.strftime(DATE_FORMAT)
    signature = sign(secret.encode(), date.encode()).decode()
    return date, f"{METHOD} Credential={access_key}, SignedHeaders={SIGNED_HEADER}, Signature={signature}"
