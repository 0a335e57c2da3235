"""Client certificates: their names, and with what else they may come."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api import AuthenticationFailed, Certificate, Credentials
from gateway.auth.certificates import CertificateLogins, check
from gateway.auth.users import User
from gateway.settings import Certificates
from tests.auth.auth_support import ask, refused, run, users, vouched

CERTIFICATE = Certificate(
    "CN=lamp,O=Example",
    "lamp",
    ("IP:10.0.0.1", "DNS:lamp.example", "DNS:other.example", "URI:urn:device:7", "email:lamp@example"),
)
KNOWN = users(User("lamp", groups=("g",), admin=True), User("gone", disabled=True))
LOGINS = CertificateLogins(KNOWN)


def shown(certificate: Certificate | None = CERTIFICATE, **more: Any) -> Credentials:
    return Credentials("mqtt", certificate=certificate, **more)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("cn", "lamp"),
        ("subject", "CN=lamp,O=Example"),
        ("san:dns", "lamp.example"),
        ("san:uri", "urn:device:7"),
        ("san:email", "lamp@example"),
    ],
)
def test_a_name_comes_from_where_the_settings_say(template: str, name: str) -> None:
    assert check(Certificates(template)) == []
    principal = vouched(CertificateLogins(users(), template), shown())
    assert (principal.name, principal.method, principal.certificate) == (name, "certificate", CERTIFICATE)
    assert (principal.admin, principal.groups) == (False, frozenset())


def test_settings_that_name_nothing() -> None:
    assert check(Certificates("san:ip")) == [
        "name: 'san:ip'; cn, subject, san:dns, san:uri, san:email are possible"
    ]


def test_what_a_user_has_the_certificates_bearer_has() -> None:
    principal = vouched(LOGINS, shown())
    assert (principal.admin, principal.groups) == (True, {"g"})


@pytest.mark.parametrize("username", [None, "", "lamp"])
def test_a_user_name_alone_is_fine_if_it_is_the_same(username: str | None) -> None:
    assert vouched(LOGINS, shown(username=username)).name == "lamp"


@pytest.mark.parametrize(
    "more",
    [
        {"username": "root"},
        {"username": "lamp", "password": b"x"},
        {"password": b"x"},
        {"token": "x"},
        {"username": "lamp", "method": "MQv2-HMAC-SHA1", "signed": b"x"},
        {"certificate": None},
        {"certificate": None, "username": "lamp"},
    ],
)
def test_whoever_shows_something_else_is_left_to_others(more: dict[str, Any]) -> None:
    assert ask(LOGINS, shown(**more)) is None


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (Certificate("O=Example"), "the certificate's cn is empty"),
        (Certificate("CN=a\nb", "a\nb"), "cannot be seen"),
        (Certificate("CN=gone", "gone"), "disabled"),
    ],
)
def test_certificates_that_are_refused(certificate: Certificate, reason: str) -> None:
    assert reason in refused(LOGINS, shown(certificate))


def test_a_kind_of_name_that_is_not_there() -> None:
    assert "san:dns is empty" in refused(CertificateLogins(KNOWN, "san:dns"), shown(Certificate("CN=x", "x")))


def test_users_only() -> None:
    known = CertificateLogins(KNOWN, users_only=True)
    assert vouched(known, shown()).name == "lamp"
    assert "no user has its name" in refused(known, shown(Certificate("CN=x", "x")))


# -- EXTERNAL --------------------------------------------------------------------------------------------


def external(data: bytes, certificate: Certificate | None = CERTIFICATE, username: str | None = None) -> Any:
    credentials = Credentials("amqp", username=username, method="EXTERNAL", certificate=certificate)
    exchange = LOGINS.exchange(credentials)
    assert exchange is not None
    return run(exchange.step(data))


@pytest.mark.parametrize("data", [b"", b"lamp"])
def test_external_takes_one_step(data: bytes) -> None:
    assert LOGINS.methods == ("EXTERNAL",)
    answer, principal = external(data)
    assert (answer, principal.name, principal.method) == (b"", "lamp", "certificate")


@pytest.mark.parametrize(
    ("data", "certificate", "username", "reason"),
    [
        (b"root", CERTIFICATE, None, "nobody may act for another"),
        (b"\xff", CERTIFICATE, None, "nobody may act for another"),
        (b"", CERTIFICATE, "root", "nobody may act for another"),
        (b"", None, None, "needs a client certificate"),
        (b"", Certificate("CN=gone", "gone"), None, "disabled"),
    ],
)
def test_external_refuses(
    data: bytes, certificate: Certificate | None, username: str | None, reason: str
) -> None:
    with pytest.raises(AuthenticationFailed, match=reason):
        external(data, certificate, username)


def test_other_methods_are_not_ours() -> None:
    assert LOGINS.exchange(Credentials("amqp", method="PLAIN", certificate=CERTIFICATE)) is None
    assert LOGINS.exchange(Credentials("amqp", certificate=CERTIFICATE)) is None
