"""Signatures as Standard Webhooks has them (standardwebhooks.com, specification of 2023).

HMAC-SHA-256 of `id.timestamp.body`, so that neither can be replayed with another; one for each active
secret, so that a receiver can change its own at any time during a rotation.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Sequence
from typing import Final

from ..api import InvalidValue

PREFIX: Final = "whsec_"
VERSION: Final = "v1,"  # symmetric
SECRET_BYTES: Final = 32
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64  # what the specification allows


def make_secret() -> str:
    """Return a new secret, as receivers are given it."""
    return PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the key that a secret stands for. Raise InvalidValue, never with the secret."""
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"secret: {PREFIX} and base64 are expected") from error
    if text == secret or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        size = f"{SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}"
        raise InvalidValue(f"secret: {PREFIX} and the base64 of {size} bytes are expected")
    return key


def signatures(keys: Sequence[bytes], message_id: str, unix_seconds: int, body: bytes) -> str:
    """Return the value of `webhook-signature`."""
    assert "." not in message_id, "what is signed could be read in two ways"
    signed = b"%s.%d.%s" % (message_id.encode("ascii"), unix_seconds, body)
    found = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return " ".join(VERSION + signature for signature in found)
