"""Rules in tokens: ours and EMQX's two forms; what cannot be expressed refuses the token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import AuthenticationFailed
from gateway.auth.token_rules import ACTIONS, DECISIONS, RULES_MAX, rules_of
from tests.auth.test_tokens import JSON


def rule(decision: str, actions: list[str], *resources: str, name: str = "token.1") -> dict[str, Any]:
    return {"id": name, "decision": decision, "actions": actions, "resources": list(resources)}


OURS = {"decision": "allow", "actions": ["publish"], "resources": ["topic:a/+/b/#", "queue:orders"]}
EMQX = {"permission": "allow", "action": "publish", "topic": "t/1"}
BOTH = ["publish", "subscribe"]

UNDERSTOOD: list[tuple[Any, list[dict[str, Any]]]] = [
    (None, []),
    ([], []),
    ({}, []),
    ([OURS], [rule("allow", ["publish"], "topic:a/+/b/#", "queue:orders")]),
    ([{**OURS, "id": "mine"}], [rule("allow", ["publish"], "topic:a/+/b/#", "queue:orders", name="mine")]),
    (
        [{"decision": "deny", "actions": list(ACTIONS), "resources": ["topic:#"]}],
        [rule("deny", list(ACTIONS), "topic:#")],
    ),
    ([{**OURS, "actions": ["all"]}], [rule("allow", ["all"], "topic:a/+/b/#", "queue:orders")]),
    (
        [{**OURS, "from": ["10.0.0.0/8"], "doors": ["mqtt"]}],
        [
            {
                **rule("allow", ["publish"], "topic:a/+/b/#", "queue:orders"),
                "from": ["10.0.0.0/8"],
                "doors": ["mqtt"],
            }
        ],
    ),
    (
        [{**OURS, "resources": ["topic:d/${clientid}/x*"]}],
        [rule("allow", ["publish"], "topic:d/${clientid}/x*")],
    ),
    ([EMQX], [rule("allow", ["publish"], "topic:t/1")]),
    ([{**EMQX, "permission": "deny", "action": "all"}], [rule("deny", BOTH, "topic:t/1")]),
    ([{**EMQX, "topic": "eq t/1"}], [rule("allow", ["publish"], "topic:t/1")]),
    (
        [{**EMQX, "topic": "d/${clientid}/${username}"}],
        [rule("allow", ["publish"], "topic:d/${clientid}/${username}")],
    ),
    (
        [OURS, EMQX],
        [
            rule("allow", ["publish"], "topic:a/+/b/#", "queue:orders"),
            rule("allow", ["publish"], "topic:t/1", name="token.2"),
        ],
    ),
    (
        {"pub": ["a", "b/%c"], "sub": ["c/#"], "all": ["d/%u"]},
        [
            rule("allow", ["publish"], "topic:a", "topic:b/${clientid}", name="token.pub"),
            rule("allow", ["subscribe"], "topic:c/#", name="token.sub"),
            rule("allow", BOTH, "topic:d/${username}", name="token.all"),
        ],
    ),
    ({"pub": []}, []),
]


@pytest.mark.parametrize(("claim", "expected"), UNDERSTOOD)
def test_what_is_understood(claim: Any, expected: list[dict[str, Any]]) -> None:
    assert rules_of(claim) == expected


REFUSED: list[Any] = [
    "all",
    7,
    True,
    ["all"],
    [[]],
    [OURS] * (RULES_MAX + 1),
    [{**OURS, "decision": "Allow"}],
    [{**OURS, "decision": None}],
    [{**OURS, "decision": ["allow"]}],
    [{**OURS, "actions": []}],
    [{**OURS, "actions": "publish"}],
    [{**OURS, "actions": ["everything"]}],
    [{**OURS, "actions": [["publish"]]}],
    [{**OURS, "resources": []}],
    [{**OURS, "resources": ["a/b"]}],
    [{**OURS, "resources": ["topic:"]}],
    [{**OURS, "resources": ["topic:a/#/b"]}],
    [{**OURS, "resources": [7]}],
    [{**OURS, "resources": ["topic:a"] * 101}],
    [{**OURS, "resources": ["topic:" + "a" * 2000]}],
    [{**OURS, "subject": "bob"}],
    [{**OURS, "id": 7}],
    [{**OURS, "id": ""}],
    [{k: v for k, v in OURS.items() if k != "decision"}],
    [{**EMQX, "permission": "ignore"}],
    [{**EMQX, "action": "pub"}],
    [{**EMQX, "action": ["publish"]}],
    [{**EMQX, "topic": ["t/1"]}],
    [{**EMQX, "topic": "a/#/b"}],
    [{**EMQX, "topic": "eq t/#"}],
    [{**EMQX, "topic": "t/${unknown}"}],
    [{**EMQX, "topic": "t/${clientid"}],
    [{**EMQX, "topic": "t/x*"}],
    [{**EMQX, "topic": "t*/x"}],
    {"pub": ["%c*"]},
    [{**OURS, "actions": ["all", "publish"]}],
    [{**OURS, "from": "10.0.0.0/8"}],
    [{**OURS, "doors": []}],
    [{**EMQX, "qos": [1]}],
    [{**EMQX, "retain": False}],
    [{**EMQX, "clientid_re": ".*"}],
    {"publish": ["a"]},
    {"pub": "a"},
    {"pub": [7]},
    {"pub": ["a/#/b"]},
]


@pytest.mark.parametrize("claim", REFUSED)
def test_what_refuses_the_token(claim: Any) -> None:
    with pytest.raises(AuthenticationFailed, match="the token's rules"):
        rules_of(claim)


@given(
    JSON
    | st.lists(
        st.dictionaries(st.sampled_from([*OURS, *EMQX]), JSON | st.sampled_from([*ACTIONS, *DECISIONS]))
    )
)
def test_any_claim_is_rules_or_a_refusal(claim: Any) -> None:
    try:
        found = rules_of(claim)
    except AuthenticationFailed:
        return
    for one in found:
        assert one["decision"] in DECISIONS
        assert set(one["actions"]) <= {*ACTIONS, "all"}
        assert all(isinstance(resource, str) and ":" in resource for resource in one["resources"])
