"""Who gets in: passwords, anonymous clients, and what the configuration makes of them."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest
from argon2 import extract_parameters

from gateway.auth import passwords as passwords_module
from gateway.auth.anonymous import Anonymous, AnyLogin
from gateway.auth.builtin import gateway_authenticators, gateway_authorizers
from gateway.auth.passwords import Passwords, hash_password
from gateway.core.access import Access, Action, Credentials, Principal
from gateway.core.errors import AuthenticationFailed, NotAuthorized
from gateway.settings import Auth, User

HASH = hash_password("right")  # one for all tests: a hash is slow by design
ROOT, ANN = Principal("root", admin=True), Principal("ann")


def login(username: str | None, password: bytes | None = None) -> Credentials:
    return Credentials("test", username=username, password=password)


def ask(authenticator: object, credentials: Credentials) -> Principal | None:
    return asyncio.run(authenticator.authenticate(credentials))  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def users() -> Passwords:
    return Passwords({"ann": (HASH, False), "root": (HASH, True), "broken": ("$argon2id$nonsense", True)})


def test_a_hash_is_salted_and_says_its_parameters() -> None:
    assert hash_password("right") != HASH
    found = extract_parameters(HASH)
    assert (found.type.name, found.memory_cost, found.time_cost) == ("ID", 19 * 1024, 2)
    assert "right" not in HASH


@pytest.mark.parametrize(("name", "admin"), [("ann", False), ("root", True)])
def test_the_right_password_lets_a_user_in(users: Passwords, name: str, admin: bool) -> None:
    principal = ask(users, login(name, b"right"))
    assert principal is not None
    assert (principal.name, principal.admin, principal.anonymous) == (name, admin, False)


@pytest.mark.parametrize("text", ["", "p" * 4096, "\u00e4\u20ac\U0001f511", "a\0b"])
def test_any_password_makes_the_round_trip(text: str) -> None:
    user = Passwords({"u": (hash_password(text), False)})
    assert ask(user, login("u", text.encode())) is not None
    with pytest.raises(AuthenticationFailed):
        ask(user, login("u", text.encode() + b"x"))


REFUSED = {
    "a wrong password": login("ann", b"wrong"),
    "the case is wrong": login("ann", b"Right"),
    "no password": login("ann", None),
    "an empty password": login("ann", b""),
    "no text at all": login("ann", b"\xff\xfe\0"),
    "the hash itself": login("ann", HASH.encode()),
    "an unknown user": login("bob", b"right"),
    "an unknown user with the decoy's password": login("bob", b"nobody"),
    "the empty name": login("", b"right"),
    "a user whose hash is damaged": login("broken", b"right"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_named_user_without_the_right_password_is_refused_in_the_same_words(
    users: Passwords, case: str
) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        ask(users, REFUSED[case])
    assert refused.value.detail == "wrong user name or password"


def test_who_names_no_user_is_left_to_the_next_authenticator(users: Passwords) -> None:
    assert ask(users, login(None, b"right")) is None


def test_an_unknown_user_costs_a_verification_too(users: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of the answer tells which users there are."""
    asked: list[str] = []
    monkeypatch.setattr(passwords_module, "_verify", lambda stored, password: asked.append(stored) or False)
    for name in ("ann", "bob"):
        with pytest.raises(AuthenticationFailed):
            ask(users, login(name, b"x"))
    assert asked[0] == HASH
    assert asked[1] != HASH
    assert extract_parameters(asked[1]) == extract_parameters(HASH)


def test_a_verified_login_is_remembered_only_for_that_user_and_password_and_for_a_while(
    users: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    verify = passwords_module._verify

    def counted(stored: str, password: bytes) -> bool:
        calls.append(threading.current_thread().name)
        return verify(stored, password)

    monkeypatch.setattr(passwords_module, "_verify", counted)
    ask(users, login("ann", b"right"))
    ask(users, login("ann", b"right"))
    assert len(calls) == 1
    for name, password in (("ann", b"wrong"), ("ann", b"wrong"), ("bob", b"right")):
        with pytest.raises(AuthenticationFailed):
            ask(users, login(name, password))
    ask(users, login("root", b"right"))
    assert len(calls) == 5
    monkeypatch.setattr(passwords_module.time, "monotonic", lambda: float("inf"))
    ask(users, login("ann", b"right"))
    assert len(calls) == 6
    assert all(thread.startswith("passwords") for thread in calls), "verified on the event loop"


def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords_module, "VERIFIED_MAX", 3)
    monkeypatch.setattr(passwords_module, "_verify", lambda stored, password: True)
    users = Passwords({f"u{n}": (HASH, False) for n in range(10)})
    for n in range(10):
        ask(users, login(f"u{n}", b"p"))
        assert 1 <= len(users._verified) <= 3


def test_anonymous_vouches_for_clients_that_name_no_user_and_for_no_other() -> None:
    principal = ask(Anonymous(), login(None))
    assert principal is not None
    assert (principal.name, principal.admin, principal.anonymous) == ("", False, True)
    assert ask(Anonymous(), login("ann", b"right")) is None
    assert ask(Anonymous(), login("")) is None


@pytest.mark.parametrize(("username", "anonymous"), [(None, True), ("", True), ("guest", False)])
def test_in_development_any_login_is_an_administrator(username: str | None, anonymous: bool) -> None:
    principal = ask(AnyLogin(), login(username, b"anything"))
    assert principal is not None
    assert (principal.name, principal.admin, principal.anonymous) == (username or "", True, anonymous)


def config(dev: bool = False, users: bool = True, anonymous: bool = False) -> SimpleNamespace:
    rules = {"ann": User(HASH, publish=["a/#"], subscribe=["b/+"])} if users else {}
    return SimpleNamespace(dev=dev, users=rules, auth=Auth(anonymous))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (config(), [Passwords]),
        (config(anonymous=True), [Passwords, Anonymous]),
        (config(users=False, anonymous=True), [Anonymous]),
        (config(users=False), []),
        (config(dev=True, anonymous=True), [AnyLogin]),
    ],
)
def test_the_configuration_says_who_vouches(settings: SimpleNamespace, expected: list[type]) -> None:
    assert [type(found) for found in gateway_authenticators(settings)] == expected


class No:
    """An authorizer that allows nothing."""

    def authorize(self, principal: Principal, action: Action, resource: str) -> bool | None:
        return False


def test_a_plugins_no_binds_an_administrator_too() -> None:
    access = Access(ROOT, [*gateway_authorizers(config()), No()])
    with pytest.raises(NotAuthorized):
        access.check(Action.PUBLISH, "a/b")


def test_the_rules_of_the_configuration_are_applied() -> None:
    access = Access(ANN, list(gateway_authorizers(config())))
    access.check(Action.PUBLISH, "a/x")
    access.check(Action.SUBSCRIBE, "b/x")
    for action, resource in ((Action.PUBLISH, "b/x"), (Action.SUBSCRIBE, "a/x")):
        with pytest.raises(NotAuthorized):
            access.check(action, resource)
