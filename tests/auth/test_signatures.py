"""RocketMQ's signed date: as official clients send it, and as nobody should."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import AuthenticationFailed, Credentials
from gateway.auth.signatures import WRONG, SignatureLogins
from gateway.auth.users import User, seal_for_user, secret_of
from gateway.rocketmq.signature import METHOD, Signature, parse_authorization
from gateway.sealing import Sealer
from tests.auth.auth_support import Hands, ask, refused, users, vouched

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
SEALER = Sealer(b"k" * 32)
SEALED = seal_for_user(SEALER, "ann", b"sk")
KNOWN = users(
    User("ann", secret=SEALED, groups=("g",)),
    User("gone", secret=seal_for_user(SEALER, "gone", b"sk"), disabled=True),
    User("plain", password="$argon2id$..."),
    User("thief", secret=SEALED),
)
LOGINS = SignatureLogins(KNOWN, lambda user: secret_of(SEALER, user), now=Hands(NOW.timestamp()))
HEX = "0123456789abcdef0123456789abcdef01234567"


def date(moment: datetime) -> bytes:
    return moment.strftime("%Y%m%dT%H%M%SZ").encode()


def signed(name: str = "ann", secret: bytes = b"sk", when: bytes = date(NOW)) -> Credentials:
    data = hmac.digest(secret, when, "sha1").hex().encode()
    return Credentials("openmessaging", username=name, method=METHOD, data=data, signed=when)


def test_the_known_answer() -> None:
    """HMAC-SHA1("sk", "20260131T120000Z"), from `openssl dgst -sha1 -hmac sk`."""
    assert signed().data == KNOWN_ANSWER


KNOWN_ANSWER = b"1335e9e6835b29014915acfb3e2d31218e76fcce"


def test_a_right_signature() -> None:
    principal = vouched(LOGINS, signed())
    assert (principal.name, principal.method, principal.groups) == ("ann", "signature", {"g"})
    upper = signed()
    assert upper.data is not None
    upper.data = upper.data.upper()
    assert vouched(LOGINS, upper).name == "ann"


@pytest.mark.parametrize(
    "credentials",
    [
        signed(secret=b"SK"),
        signed("nobody"),
        signed("gone"),
        signed("plain"),
        signed("thief"),
        Credentials("x", username="ann", method=METHOD, data=b"", signed=date(NOW)),
        Credentials("x", username="ann", method=METHOD, signed=date(NOW)),
        Credentials(
            "x", username="ann", method=METHOD, data=signed().data, signed=date(NOW + timedelta(seconds=1))
        ),
    ],
)
def test_a_wrong_one_is_refused_in_the_same_words(credentials: Credentials) -> None:
    assert refused(LOGINS, credentials) == WRONG


@pytest.mark.parametrize("hours", [0, 14, -14, 24, -24])
def test_local_time_is_taken_for_utc(hours: int) -> None:
    assert vouched(LOGINS, signed(when=date(NOW + timedelta(hours=hours))))


@pytest.mark.parametrize("seconds", [24 * 3600 + 1, -24 * 3600 - 1, 365 * 86400])
def test_an_old_signature_is_not_taken(seconds: int) -> None:
    reason = refused(LOGINS, signed(when=date(NOW + timedelta(seconds=seconds))))
    assert reason == "x-mq-date-time: the date is more than 24 hours off"


@pytest.mark.parametrize(
    "when",
    [b"", b"now", b"20261331T000000Z", b"20260131T126000Z", b"00000101T000000Z", b"20260131T120000Z\n"],
)
def test_no_dates(when: bytes) -> None:
    assert "a date as" in refused(LOGINS, signed(when=when))


def test_what_is_not_signed_is_left_to_others() -> None:
    assert ask(LOGINS, Credentials("mqtt", username="ann", password=b"sk")) is None
    assert ask(LOGINS, Credentials("x", method=METHOD, signed=date(NOW))) is None
    assert ask(LOGINS, Credentials("x", username="ann", method="SCRAM-SHA-256", data=b"x")) is None


PARSED = {
    f"{METHOD} Credential=ak, SignedHeaders=x-mq-date-time, Signature={HEX}": Signature("ak", HEX.encode()),
    f"{METHOD} Credential=ak/eu/RocketMQ, SignedHeaders=x-mq-date-time, Signature={HEX.upper()}": Signature(
        "ak", HEX.upper().encode()
    ),
    f" {METHOD}  Signature={HEX},SignedHeaders=X-MQ-Date-Time,Credential=a k ": Signature(
        "a k", HEX.encode()
    ),
    f"{METHOD} Credential=, SignedHeaders=x-mq-date-time, Signature={HEX}": None,
    f"{METHOD} Credential=/region/RocketMQ, SignedHeaders=x-mq-date-time, Signature=": None,
}


@pytest.mark.parametrize("header", PARSED)
def test_headers(header: str) -> None:
    assert parse_authorization(header) == PARSED[header]


@pytest.mark.parametrize(
    "header",
    [
        "",
        METHOD,
        "Bearer x",
        f"MQv2-HMAC-SHA256 Credential=ak, SignedHeaders=x-mq-date-time, Signature={HEX}",
        f"{METHOD} Credential=ak, Signature={HEX}",
        f"{METHOD} Credential=ak, SignedHeaders=x-mq-date-time;x, Signature={HEX}",
        f"{METHOD} Credential=ak, SignedHeaders=x-mq-date-time, Signature={HEX[:-1]}",
        f"{METHOD} Credential=ak, SignedHeaders=x-mq-date-time, Signature={HEX}é",
        f"{METHOD} Credential=ak, Credential=bob, SignedHeaders=x-mq-date-time, Signature={HEX}",
        f"{METHOD} SignedHeaders=x-mq-date-time, Signature={HEX}",
        f"{METHOD} Credential, SignedHeaders=x-mq-date-time, Signature={HEX}",
        f"{METHOD} Credential={'a' * 2000}",
    ],
)
def test_headers_that_are_none(header: str) -> None:
    with pytest.raises(AuthenticationFailed, match="authorization"):
        parse_authorization(header)


@given(st.text() | st.text("CredentialSgSHs=,/ -x").map(lambda text: f"{METHOD} {text}"))
def test_any_header_is_a_signature_nothing_or_a_refusal(header: str) -> None:
    try:
        found = parse_authorization(header)
    except AuthenticationFailed:
        return
    assert found is None or (found.access_key and len(found.signature) == 40)


@given(st.binary(max_size=30), st.binary(max_size=50), st.text(max_size=10))
def test_any_credentials_are_refused(when: bytes, data: bytes, name: str) -> None:
    credentials = Credentials("x", username=name, method=METHOD, data=data, signed=when)
    try:
        assert ask(LOGINS, credentials) is None
    except AuthenticationFailed:
        pass
