"""Who gets in without a login, and what the hooks offer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.api import Action, Authenticator, Origin
from gateway.auth.anonymous import Anonymous, AnyLogin
from gateway.auth.builtin import Auth
from gateway.auth.passwords import Passwords
from gateway.config import load
from gateway.core.access import Authority, Credentials, Principal, Ruling
from gateway.core.errors import Conflict, InvalidValue

HASH = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$5l5mB0cmS0Cd9hJZYh7pXw"
ANN, ROOT, NOBODY = Principal("ann"), Principal("root", admin=True), Principal("", anonymous=True)
HERE, THERE = Origin("mqtt", "", "c", "127.0.0.1:1"), Origin("mqtt", "", "c", "203.0.113.9:1")


def ask(authenticator: Authenticator, credentials: Credentials) -> Principal | None:
    return asyncio.run(authenticator.authenticate(credentials))


@pytest.mark.parametrize(("username", "anonymous"), [(None, True), ("", True), ("guest", False)])
def test_in_development_any_login_is_an_administrator(username: str | None, anonymous: bool) -> None:
    principal = ask(AnyLogin(), Credentials("test", username=username, password=b"anything"))
    assert principal is not None
    assert (principal.name, principal.admin, principal.anonymous) == (username or "", True, anonymous)


def test_without_a_login_those_get_in_that_a_rule_welcomes() -> None:
    asked: list[Origin] = []

    def welcomes(origin: Origin) -> bool:
        asked.append(origin)
        return origin.peer.startswith("10.")

    principal = ask(Anonymous(welcomes), Credentials("mqtt", "10.0.0.1:5", "dev"))
    assert principal is not None
    assert (principal.name, principal.admin, principal.anonymous) == ("", False, True)
    assert (asked[0].protocol, asked[0].client_id, asked[0].peer) == ("mqtt", "dev", "10.0.0.1:5")
    assert ask(Anonymous(welcomes), Credentials("mqtt", "11.0.0.1:5", "dev")) is None


@pytest.mark.parametrize(
    "brought",
    [
        {"username": "ann"},
        {"username": ""},
        {"password": b""},
        {"token": "t"},
        {"method": "SCRAM-SHA-256"},
    ],
)
def test_whoever_brings_a_login_is_not_taken_for_nobody(brought: dict[str, object]) -> None:
    """A wrong password must not become an anonymous session."""
    anyone = Anonymous(lambda origin: True)
    assert ask(anyone, Credentials("test", **brought)) is None  # type: ignore[arg-type]


# -- the hooks -------------------------------------------------------------------------------------


def built_in(directory: Path, text: str = "", dev: bool = False) -> Auth:
    file = directory / "gateway.toml"
    file.write_text(f'[users.root]\npassword = "{HASH}"\nadmin = true\n{text}')
    auth = Auth()
    config = load(file, [], dev, None)
    auth.directory.configure(config)
    return auth


@pytest.mark.parametrize(("dev", "expected"), [(False, [Passwords, Anonymous]), (True, [AnyLogin])])
def test_the_configuration_says_who_vouches(tmp_path: Path, dev: bool, expected: list[type]) -> None:
    auth = built_in(tmp_path)
    found = list(auth.gateway_authenticators(load(tmp_path / "gateway.toml", [], dev, None)))
    assert [type(each) for each in found][-len(expected) :] == expected
    assert len(found) == (1 if dev else 7), "and before them whoever does not refuse unknown names"


SHORT = f"""
[users.ann]
password = "{HASH}"
publish = ["out/#", "cmd/+/set", "$queue/in*"]
subscribe = ["in/+", "$queue/jobs"]
"""

#: (principal, action, resource, rule)
SAID = [
    (ANN, Action.PUBLISH, "out/1/2", "users.ann.publish"),
    (ANN, Action.PUBLISH, "out", "users.ann.publish"),
    (ANN, Action.PUBLISH, "cmd/7/8/set", None),
    (ANN, Action.PUBLISH, "in/1", None),
    (ANN, Action.PUBLISH, "$queue/in-box", "users.ann.publish.queues"),
    (ANN, Action.PUBLISH, "$queue/jobs", None),
    (ANN, Action.SUBSCRIBE, "in/+", "users.ann.subscribe"),
    (ANN, Action.SUBSCRIBE, "in/#", None),
    (ANN, Action.CONSUME, "$queue/jobs", "users.ann.subscribe.queues"),
    (ANN, Action.CONSUME, "$group/jobs/any", "users.ann.subscribe.queues"),
    (ANN, Action.CONSUME, "$queue/other", None),
    (ANN, Action.MANAGE, "$queue/jobs", None),
    (Principal("bob"), Action.PUBLISH, "out/1", None),
    (NOBODY, Action.PUBLISH, "out/1", None),
    (ROOT, Action.MANAGE, "$admin/users", "builtin.superuser"),
]


@pytest.mark.parametrize(("who", "action", "resource", "rule"), SAID)
def test_the_short_form_of_the_configuration_is_rules(
    tmp_path: Path, who: Principal, action: Action, resource: str, rule: str | None
) -> None:
    acl = built_in(tmp_path, SHORT).directory.acl
    assert acl.authorize(who, HERE, action, resource) == (rule and Ruling(True, rule))


@pytest.mark.parametrize(
    ("networks", "here", "there"),
    [
        ("", True, False),
        ('networks = ["203.0.113.0/24"]', False, True),
        ('networks = ["0.0.0.0/0"]', True, True),
    ],
)
def test_anonymous_clients_come_from_this_machine_unless_it_is_said(
    tmp_path: Path, networks: str, here: bool, there: bool
) -> None:
    acl = built_in(tmp_path, f'[anonymous]\npublish = ["open/#"]\n{networks}\n').directory.acl
    for origin, welcome in ((HERE, here), (THERE, there)):
        assert acl.welcomes(origin) is welcome
        ruling = acl.authorize(NOBODY, origin, Action.PUBLISH, "open/1")
        assert ruling == (Ruling(True, "anonymous.publish") if welcome else None)
        assert acl.authorize(NOBODY, origin, Action.PUBLISH, "closed") is None


def test_nobody_is_welcome_where_nothing_says_so(tmp_path: Path) -> None:
    assert not built_in(tmp_path).directory.acl.welcomes(HERE)


class No:
    """An authorizer that allows nothing."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(False, "plugin")


def test_a_plugins_no_binds_an_administrator_too(tmp_path: Path) -> None:
    authority = Authority([built_in(tmp_path).directory.acl, No()])
    assert authority.decide(ROOT, HERE, Action.PUBLISH, "a") == Ruling(False, "plugin")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("[[rules]]\nid = 'a b'\n", InvalidValue, "rules.toml: rule number 1"),
        ("nonsense", InvalidValue, "rules.toml: not valid TOML"),
        (
            "[[rules]]\nid='anonymous.publish'\nsubject='everyone'\nactions='view'\nresources='topic:a'\n",
            Conflict,
            "is in the configuration, too",
        ),
    ],
)
def test_a_file_of_rules_that_cannot_be_used_is_a_fault(
    tmp_path: Path, text: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "rules.toml").write_text(text)
    settings = f'[anonymous]\npublish = ["a"]\n[auth]\nrules = "{tmp_path / "rules.toml"}"\n'
    with pytest.raises(error, match=words):
        built_in(tmp_path, settings)
