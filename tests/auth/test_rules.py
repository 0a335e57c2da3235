"""What users may do: filters that cover filters, tables of decisions, and one no against any yes."""

from __future__ import annotations

import pytest

from gateway.auth.rules import Admins, UserRules, covers
from gateway.core.access import Access, Action, Principal
from gateway.core.errors import NotAuthorized

ROOT, ANN, NOBODY = Principal("root", admin=True), Principal("ann"), Principal("", anonymous=True)

COVERS = [
    ("a/b", "a/b", True),
    ("a/b", "a/c", False),
    ("a/b", "a", False),
    ("a/b", "a/b/c", False),
    ("a/+", "a/b", True),
    ("a/+", "a/+", True),
    ("a/+", "a/#", False),
    ("a/+", "a/b/c", False),
    ("a/+", "+/b", False),
    ("+/+", "+/b", True),
    ("a/#", "a", True),
    ("a/#", "a/b/c", True),
    ("a/#", "a/+/#", True),
    ("a/#", "#", False),
    ("a/#", "+/b", False),
    ("a/#", "ab/c", False),
    ("#", "#", True),
    ("#", "+/a", True),
    ("+", "#", False),
    ("#", "$sys/#", False),
    ("+/#", "$sys/broker", False),
    ("$sys/#", "$sys/+", True),
    ("a/b", "a/#", False),
    ("a//b", "a//b", True),
    ("a/+/b", "a//b", True),
]


@pytest.mark.parametrize(("allowed", "wanted", "expected"), COVERS)
def test_a_filter_is_allowed_if_all_it_can_match_is(allowed: str, wanted: str, expected: bool) -> None:
    assert covers(allowed, wanted) is expected


RULES = {"ann": (("out/#", "cmd/+/set"), ("in/+", "$queue/jobs", "$queue/mail/#"))}
P, S, C, M = Action.PUBLISH, Action.SUBSCRIBE, Action.CONSUME, Action.MANAGE

#: (principal, action, resource, may)
DECISIONS = [
    (ROOT, P, "any/thing", True),
    (ROOT, M, "", True),
    (ANN, P, "out/1/2", True),
    (ANN, P, "out", True),
    (ANN, P, "cmd/7/set", True),
    (ANN, P, "cmd/7/8/set", False),
    (ANN, P, "in/1", False),
    (ANN, P, "$sys/out", False),
    (ANN, S, "in/1", True),
    (ANN, S, "in/+", True),
    (ANN, S, "in/#", False),
    (ANN, S, "out/1", False),
    (ANN, C, "jobs", True),
    (ANN, C, "mail/in", True),
    (ANN, C, "jobs/other", False),
    (ANN, C, "in/1", False),
    (ANN, M, "jobs", False),
    (Principal("bob"), P, "out/1", False),
    (Principal("bob"), S, "in/1", False),
    (NOBODY, P, "out/1", False),
    (NOBODY, S, "in/1", False),
]


@pytest.mark.parametrize(("who", "action", "resource", "may"), DECISIONS)
def test_rules_decide_and_silence_is_a_refusal(
    who: Principal, action: Action, resource: str, may: bool
) -> None:
    access = Access(who, [Admins(), UserRules(RULES, anonymous=False)])
    if may:
        access.check(action, resource)
        assert access._allowed == {(action, resource)}
        return
    with pytest.raises(NotAuthorized) as refused:
        access.check(action, resource)
    assert (who.name or "anonymous") in refused.value.detail


@pytest.mark.parametrize(("action", "may"), [(P, True), (S, True), (C, True), (M, None)])
def test_allowed_anonymous_clients_do_everything_but_manage(action: Action, may: bool | None) -> None:
    assert UserRules({}, anonymous=True).authorize(NOBODY, action, "x") is may


class Always:
    """An authorizer with one answer."""

    def __init__(self, answer: bool | None) -> None:
        self._answer = answer

    def authorize(self, principal: Principal, action: Action, resource: str) -> bool | None:
        return self._answer


@pytest.mark.parametrize(
    ("answers", "may"),
    [
        ([], False),
        ([None], False),
        ([True], True),
        ([None, True], True),
        ([True, None], True),
        ([True, False], False),
        ([False, True], False),
        ([None, False, True, True], False),
    ],
)
def test_one_no_outvotes_any_yes_in_whatever_order(answers: list[bool | None], may: bool) -> None:
    access = Access(ANN, [Always(answer) for answer in answers])
    if may:
        access.check(P, "t")
        return
    with pytest.raises(NotAuthorized):
        access.check(P, "t")


@pytest.mark.parametrize("placeholder", ["%c", "%u", "${username}"])
def test_a_placeholder_in_a_rule_is_plain_text(placeholder: str) -> None:
    """There are no substitutions: a rule taken over from elsewhere allows nothing by accident."""
    rules = UserRules({"ann": ((f"dev/{placeholder}",), ())}, anonymous=False)
    assert rules.authorize(ANN, P, "dev/ann") is None
    assert rules.authorize(ANN, P, f"dev/{placeholder}") is True
