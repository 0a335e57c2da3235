"""SCRAM-SHA-256: the standard's example, an independent client, and everything that must not log in."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramClient, core

from gateway.api import AuthenticationFailed, Credentials, Principal
from gateway.auth import scram
from gateway.auth.saslprep import saslprep
from gateway.auth.scram import (
    ITERATIONS_MIN,
    WRONG,
    ScramExchange,
    ScramLogins,
    make_verifier,
    make_verifier_in_thread,
    parse_verifier,
)
from gateway.auth.users import User
from tests.auth.auth_support import run, users

#: RFC 7677, 3.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
OWN_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
RFC = [
    b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
]
FIRST, FINAL = RFC[0], RFC[2]


def verifier(password: str) -> str:
    return make_verifier(password, ITERATIONS_MIN)


KNOWN = users(
    User("user", scram=make_verifier("pencil", ITERATIONS_MIN, SALT)),
    User("root", scram=verifier("pw"), admin=True, groups=("ops",)),
    User("a=b,c", scram=verifier("pw")),
    User("Ärger", scram=verifier("Straße")),
    User("gone", scram=verifier("pw"), disabled=True),
    User("other", password="$argon2id$..."),
    User("damaged", scram="SCRAM-SHA-256$4096:nonsense"),
)
LOGINS = ScramLogins(KNOWN, lambda: b"s" * 32, ITERATIONS_MIN)


def begin(logins: ScramLogins = LOGINS, username: str | None = None) -> Any:
    exchange = logins.exchange(Credentials("test", username=username, method=scram.METHOD))
    assert exchange is not None
    return exchange


def example() -> ScramExchange:
    return ScramExchange(LOGINS, None, OWN_NONCE)


def why(exchange: Any, *messages: bytes) -> str:
    """Return why the last message is refused."""
    for message in messages[:-1]:
        assert run(exchange.step(message))[1] is None
    with pytest.raises(AuthenticationFailed) as caught:
        run(exchange.step(messages[-1]))
    return caught.value.detail


def log_in(name: str, password: str, exchange: Any = None) -> Principal:
    """Log in with a client nobody here wrote."""
    exchange = exchange or begin()
    client = ScramClient(["SCRAM-SHA-256"], name, password)
    answer, nobody = run(exchange.step(client.get_client_first().encode()))
    assert nobody is None
    client.set_server_first(answer.decode())
    answer, principal = run(exchange.step(client.get_client_final().encode()))
    client.set_server_final(answer.decode())  # the gateway has proved itself too
    assert isinstance(principal, Principal)
    return principal


def test_the_standards_example() -> None:
    exchange = example()
    assert run(exchange.step(RFC[0])) == (RFC[1], None)
    answer, principal = run(exchange.step(RFC[2]))
    assert answer == RFC[3]
    assert principal is not None
    assert (principal.name, principal.method, principal.admin) == ("user", "scram", False)
    assert why(exchange, b"again") == "the exchange is over"


@pytest.mark.parametrize(
    ("name", "password"), [("root", "pw"), ("a=b,c", "pw"), ("Ärger", "Straße"), ("user", "pencil")]
)
def test_an_independent_client_logs_in(name: str, password: str) -> None:
    principal = log_in(name, password)
    assert principal.name == name
    assert (principal.admin, principal.groups) == (
        (True, frozenset({"ops"})) if name == "root" else (False, frozenset())
    )


def test_a_client_that_waits_to_be_asked() -> None:
    exchange = begin()
    assert run(exchange.step(b"")) == (b"", None)
    assert log_in("root", "pw", exchange).name == "root"
    assert "malformed" in why(begin(), b"", b"")


@pytest.mark.parametrize("binding", [b"n,,", b"y,,", b"n,a=user,", b"y,a=user,"])
def test_a_client_says_that_it_could_bind_channels(binding: bytes) -> None:
    """`y`: it could, but believes that the gateway cannot. So it is."""
    exchange = begin()
    first = binding + b"n=user,r=abc"
    answer, _ = run(exchange.step(first))
    nonce = re.match(rb"r=([^,]+)", answer)
    assert nonce is not None
    _, final = core._get_client_final(  # the library offers no `y` and no authzid
        hashlib.sha256,
        core.Password("pencil"),
        core.Salt(SALT),
        4096,
        nonce.group(1).decode(),
        "n=user,r=abc",
        answer.decode(),
        None,
        _Gs2(binding),
    )
    assert run(exchange.step(final.encode()))[1] is not None


class _Gs2:
    def __init__(self, header: bytes) -> None:
        self._header = header

    def make_cbind_input(self, _: object) -> bytes:
        return self._header


@pytest.mark.parametrize("name", ["root", "gone", "other", "damaged", "nobody"])
def test_who_cannot_log_in_is_refused_in_the_same_words_at_the_same_step(name: str) -> None:
    exchange = begin()
    client = ScramClient(["SCRAM-SHA-256"], name, "pw" if name != "root" else "wrong")
    answer, _ = run(exchange.step(client.get_client_first().encode()))
    assert re.fullmatch(rb"r=[^,]+,s=[A-Za-z0-9+/]{22}==,i=4096", answer), "no other form for unknown users"
    client.set_server_first(answer.decode())
    assert why(exchange, client.get_client_final().encode()) == WRONG


def test_an_unknown_user_has_always_the_same_salt_and_another_than_others() -> None:
    def salt(name: str, logins: ScramLogins = LOGINS) -> bytes:
        answer, _ = run(begin(logins).step(b"n,,n=%s,r=abc" % name.encode()))
        return bytes(answer.split(b",")[1])

    assert salt("nobody") == salt("nobody") == salt("nobody", ScramLogins(KNOWN, lambda: b"s" * 32))
    assert salt("nobody") != salt("nobody2")
    assert salt("nobody") != salt("nobody", ScramLogins(KNOWN))
    assert salt("other") == salt("other"), "a user without a verifier looks like any other"


def test_the_gateways_nonce_is_its_own_and_new() -> None:
    answers = {run(begin().step(FIRST))[0] for _ in range(20)}
    assert len(answers) == 20
    assert all(answer.startswith(b"r=rOprNGfwEbeRWgbNEkqO") for answer in answers)
    assert all(len(answer.split(b",")[0]) == len(b"r=rOprNGfwEbeRWgbNEkqO") + 24 for answer in answers)


BAD_FIRST = {
    b"n,,": "malformed",
    b"n": "malformed",
    b"n,,n=user": "malformed",
    b"n,,n=user,r=": "malformed",
    b"n,,n=,r=abc": "malformed",
    b"n,,r=abc,n=user": "malformed",
    b"n,,m=ext,n=user,r=abc": "malformed",
    b"x,,n=user,r=abc": "malformed",
    b"p=,,n=user,r=abc": "malformed",
    b"n=user,r=abc": "malformed",
    b"n,,n=user,r=a\x7fb": "malformed",
    b"n,,n=user,r=abc\n": "malformed",
    b"n,,n=us\0er,r=abc": "malformed",
    b"n,,n=user,r=abc,x": "malformed",
    b"p=tls-unique,,n=user,r=abc": "channel binding is not offered",
    b"n,a=root,n=user,r=abc": "authzid",
    b"n,a=,n=user,r=abc": "malformed",
    b"n,,n=us=er,r=abc": "=3D",
    b"n,,n=us=3der,r=abc": "=3D",
    b"n,,n=us=2,r=abc": "=3D",
    "n,,n=us\u0007er,r=abc".encode(): "cannot be used",
    "n,,n=\u00ad,r=abc".encode(): "is empty",
    b"n,,n=%s,r=abc" % (b"x" * 300): "bytes",
    b"n,,n=\xff,r=abc": "UTF-8",
    b"n,,n=user,r=" + b"x" * 5000: "bytes",
}


@pytest.mark.parametrize("message", BAD_FIRST)
def test_first_messages_that_are_none(message: bytes) -> None:
    assert BAD_FIRST[message] in why(begin(), message)


NONCE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
PROOF = b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
BAD_FINAL = {
    b"": "malformed",
    FIRST: "malformed",
    b"c=biws," + NONCE: "malformed",
    NONCE + b",c=biws," + PROOF: "malformed",
    FINAL + b",x=1": "malformed",
    FINAL + b"\n": "malformed",
    FINAL.replace(b"c=biws", b"c=eSws"): "channel binding",
    FINAL.replace(b"c=biws", b"c=biwsCg=="): "channel binding",
    FINAL.replace(b"$k0", b"$k1"): "nonce",
    FINAL.replace(NONCE, b"r=rOprNGfwEbeRWgbNEkqO"): "nonce",
    FINAL.replace(b"VQ=", b"VQ"): "base64",
    FINAL.replace(PROOF, b"p=AAAA"): "32 bytes",
    FINAL.replace(PROOF, b"p=" + base64.b64encode(bytes(32))): WRONG,
    FINAL.replace(b",p=", b",x=1,p="): WRONG,  # what is not signed
}


@pytest.mark.parametrize("message", BAD_FINAL)
def test_final_messages_that_are_none(message: bytes) -> None:
    exchange = example()
    assert BAD_FINAL[message] in why(exchange, FIRST, message)
    assert why(exchange, FINAL) == "the exchange is over", "a second try on the same nonce"


def test_a_login_cannot_be_replayed() -> None:
    assert "nonce" in why(begin(), FIRST, FINAL)


def test_a_user_name_beside_the_exchange_must_be_the_same() -> None:
    assert log_in("root", "pw", begin(username="root")).name == "root"
    assert log_in("root", "pw", begin(username="")).name == "root"
    assert "another" in why(begin(username="root"), FIRST)


def test_other_methods_are_not_ours() -> None:
    for method in (None, "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256"):
        assert LOGINS.exchange(Credentials("test", method=method)) is None
    assert LOGINS.methods == ("SCRAM-SHA-256",)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_changed_messages_raise_nothing_but_refusals_and_never_log_in(data: st.DataObject) -> None:
    original = list(RFC[::2])
    which = data.draw(st.integers(0, 1))
    message = bytearray(original[which])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(0, len(message) - 1)))
        width = data.draw(st.integers(0, 3))
        message[place : place + width] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b",", b"=", b"r="])
        )
    messages = list(original)
    messages[which] = bytes(message)
    exchange = example()
    try:
        for one in messages:
            _, principal = run(exchange.step(one))
    except AuthenticationFailed:
        return
    assert principal is None or messages == original or messages[0] == b"", messages


@given(st.lists(st.binary(max_size=40) | st.sampled_from(RFC), max_size=4))
def test_any_bytes_raise_nothing_but_refusals(messages: list[bytes]) -> None:
    exchange = begin()
    for one in messages:
        try:
            _, principal = run(exchange.step(one))
        except AuthenticationFailed:
            continue
        assert principal is None


# -- verifiers ------------------------------------------------------------------------------------------


def test_a_verifier_is_postgresqls() -> None:
    assert make_verifier("pencil", 4096, SALT) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


async def test_a_verifier_is_salted_and_made_in_a_thread() -> None:
    one, other = await make_verifier_in_thread("x", 4096), await make_verifier_in_thread("x", 4096)
    assert one != other
    assert len(parse_verifier(one).salt) == 16
    assert "4096" in repr(parse_verifier(one))
    assert "=" not in repr(parse_verifier(one))


def test_verifiers_have_owasps_iterations_unless_told_otherwise() -> None:
    assert parse_verifier(make_verifier("x")).iterations == 600_000


@pytest.mark.parametrize(
    ("password", "iterations"),
    [("", 4096), ("\u00ad", 4096), ("a\0", 4096), ("\u0221", 4096), ("x", 4095), ("x", 10**8)],
)
def test_what_makes_no_verifier(password: str, iterations: int) -> None:
    with pytest.raises(ValueError) as caught:
        make_verifier(password, iterations)
    assert not password or password not in str(caught.value) or password == "x"


KEPT = make_verifier("x", 4096, bytes(16))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SCRAM-SHA-1$4096:AAAA$AAAA:AAAA",
        "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
        "SCRAM-SHA-256$1:" + KEPT.split(":", 1)[1],
        "SCRAM-SHA-256$4096:*$A:A",
        KEPT + "\n",
        KEPT.rpartition(":")[0] + ":AAAA",  # one key is one, the other none
        KEPT.rpartition("$")[0] + "$AAAA:" + KEPT.rpartition(":")[2],
    ],
    ids=range(8),  # verifiers are others in each process
)
def test_what_is_no_verifier(text: str) -> None:
    with pytest.raises(ValueError):
        parse_verifier(text)


#: RFC 4013, 3, and more.
PREPARED = [
    ("I\u00adX", "IX"),
    ("user", "user"),
    ("USER", "USER"),
    ("\u00aa", "a"),
    ("\u2168", "IX"),
    ("a\u00a0b", "a b"),
    ("\u0627\u0628", "\u0627\u0628"),
    ("\u0007", None),
    ("\u0627\u0031", None),
    ("\u0627a\u0628", None),
    ("\ue000", None),
]


@pytest.mark.parametrize(("text", "expected"), PREPARED)
def test_saslprep(text: str, expected: str | None) -> None:
    if expected is not None:
        assert saslprep(text) == saslprep(text, stored=True) == expected
        return
    with pytest.raises(ValueError):
        saslprep(text)


def test_what_unicode_32_does_not_know_may_be_asked_for_but_not_stored() -> None:
    assert saslprep("\u0221") == "\u0221"
    with pytest.raises(ValueError, match=r"3\.2"):
        saslprep("\u0221", stored=True)
