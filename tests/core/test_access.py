"""Who may do what: how opinions are counted, what is remembered, what users' rules say."""

from __future__ import annotations

import pytest

from gateway.auth.rules import Admins, UserRules
from gateway.core import access as access_module
from gateway.core.access import Access, Action, Authorizer, Credentials, Principal
from gateway.core.errors import NotAuthorized

USER = Principal("user")


class Says:
    """An authorizer with one opinion that counts how often it is asked."""

    def __init__(self, opinion: bool | None) -> None:
        self.opinion = opinion
        self.asked: list[tuple[str, Action, str]] = []

    def authorize(self, principal: Principal, action: Action, resource: str) -> bool | None:
        self.asked.append((principal.name, action, resource))
        return self.opinion


def _allowed(access: Access, action: Action, resource: str) -> bool:
    try:
        access.check(action, resource)
    except NotAuthorized:
        return False
    return True


@pytest.mark.parametrize(
    ("opinions", "allowed"),
    [
        ([], False),
        ([None], False),
        ([True], True),
        ([False], False),
        ([None, None], False),
        ([None, True], True),
        ([True, None], True),
        ([True, False], False),
        ([False, True], False),
        ([True, True, None, False], False),
    ],
)
def test_one_no_outvotes_every_yes_and_silence_is_a_no(opinions: list[bool | None], allowed: bool) -> None:
    access = Access(USER, [Says(opinion) for opinion in opinions])
    assert [_allowed(access, Action.PUBLISH, "t") for _ in range(2)] == [allowed, allowed]


def test_a_truthy_answer_is_not_a_yes() -> None:
    assert not _allowed(Access(USER, [Says("yes")]), Action.PUBLISH, "t")  # type: ignore[arg-type]


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize(("name", "who"), [("user", "user"), ("", "anonymous")])
def test_a_refusal_names_who_and_what(action: Action, name: str, who: str) -> None:
    with pytest.raises(NotAuthorized) as refused:
        Access(Principal(name), []).check(action, "a/b")
    assert refused.value.detail == f"{who} may not {action.value} 'a/b'"


def test_a_yes_is_remembered_for_its_action_and_resource_alone() -> None:
    says = Says(True)
    access = Access(USER, [says])
    asked = [(Action.PUBLISH, "t"), (Action.SUBSCRIBE, "t"), (Action.PUBLISH, "u")]
    for action, resource in asked * 3:
        access.check(action, resource)
    assert says.asked == [("user", action, resource) for action, resource in asked]


def test_a_no_is_asked_again() -> None:
    says = Says(None)
    access = Access(USER, [says])
    assert not _allowed(access, Action.PUBLISH, "t")
    says.opinion = True
    assert _allowed(access, Action.PUBLISH, "t")


@pytest.mark.parametrize("renewed", [False, True], ids=["rules changed", "authenticated again"])
def test_what_was_allowed_is_asked_again_after_a_change(renewed: bool) -> None:
    says = Says(True)
    access = Access(USER, [says])
    access.check_publish("t")
    assert access.publishable == {"t"}
    says.opinion = False
    assert _allowed(access, Action.PUBLISH, "t")
    if renewed:
        access.renew(Principal("other"))
    else:
        access.forget()
    assert not access.publishable
    assert not _allowed(access, Action.PUBLISH, "t")
    assert says.asked[-1][0] == ("other" if renewed else "user")


def test_a_refused_topic_is_not_noted_as_publishable() -> None:
    access = Access(USER, [Says(None)])
    with pytest.raises(NotAuthorized):
        access.check_publish("t")
    assert not access.publishable


def test_the_memory_of_one_session_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "DECISIONS_CACHED_MAX", 3)
    says = Says(True)
    access = Access(USER, [says])
    for topic in "abcd":
        access.check_publish(topic)
    assert access.publishable == {"d"}
    access.check(Action.PUBLISH, "a")
    assert [resource for _, _, resource in says.asked] == ["a", "b", "c", "d", "a"]


def test_sessions_do_not_share_what_they_remember() -> None:
    first, second = Access(USER, [Says(True)]), Access(USER, [Says(None)])
    first.check_publish("t")
    assert not second.publishable
    assert not _allowed(second, Action.PUBLISH, "t")


def test_a_password_is_not_shown() -> None:
    credentials = Credentials("mqtt", "peer", "client", "user", b"secret", "SCRAM", b"secret")
    assert "secret" not in repr(credentials)


RULES: list[Authorizer] = [
    Admins(),
    UserRules({"user": (("out/#", "$queue/jobs"), ("in/+/x", "$queue/jobs"))}, anonymous=True),
]
ADMIN, STRANGER = Principal("root", admin=True), Principal("stranger")
NOBODY = Principal("", anonymous=True)


@pytest.mark.parametrize(
    ("principal", "action", "resource", "allowed"),
    [
        (USER, Action.PUBLISH, "out/a/b", True),
        (USER, Action.PUBLISH, "in/a/x", False),
        (USER, Action.PUBLISH, "$queue/jobs", True),
        (USER, Action.SUBSCRIBE, "in/a/x", True),
        (USER, Action.SUBSCRIBE, "in/+/x", True),
        (USER, Action.SUBSCRIBE, "in/#", False),
        (USER, Action.SUBSCRIBE, "out/a", False),
        (USER, Action.CONSUME, "jobs", True),
        (USER, Action.CONSUME, "other", False),
        (USER, Action.MANAGE, "jobs", False),
        (STRANGER, Action.PUBLISH, "out/a", False),
        (ADMIN, Action.MANAGE, "jobs", True),
        (ADMIN, Action.PUBLISH, "anything", True),
        (NOBODY, Action.PUBLISH, "anything", True),
        (NOBODY, Action.MANAGE, "jobs", False),
    ],
)
def test_what_the_configured_rules_allow(
    principal: Principal, action: Action, resource: str, allowed: bool
) -> None:
    assert _allowed(Access(principal, RULES), action, resource) is allowed
