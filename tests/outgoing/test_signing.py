"""Signatures, checked by an implementation that is not ours and by the specification's own words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from gateway.api import InvalidValue
from gateway.outgoing.signing import key_of, make_secret, signatures


def test_the_example_of_the_specification() -> None:
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signatures([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(max_size=200), st.binary(min_size=24, max_size=64))
def test_what_the_words_of_the_specification_say(body: bytes, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    expected = base64.b64encode(hmac.new(key, b"msg_1.17." + body, hashlib.sha256).digest()).decode()
    assert signatures([key_of(secret)], "msg_1", 17, body) == "v1," + expected


def test_both_secrets_of_a_rotation_sign() -> None:
    old, new, other = make_secret(), make_secret(), make_secret()
    now, body = int(time.time()), b'{"a": 1}'
    signature = signatures([key_of(new), key_of(old)], "msg_1", now, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": signature}
    for secret in (old, new):
        Receiver(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Receiver(other).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Receiver(new).verify(body + b" ", headers)


def test_secrets_are_new_each_time() -> None:
    assert make_secret() != make_secret()
    assert len(key_of(make_secret())) == 32


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        base64.b64encode(b"x" * 32).decode(),  # without the prefix it may be another's
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_" + "!" * 40,
        "whsec_" + "A" * 41,
        "whsec_" + "é" * 40,
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        key_of(secret)
    assert len(secret) < 10 or secret not in refused.value.detail
