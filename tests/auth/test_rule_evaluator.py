"""Decisions against a model that tries every rule: see `rule_model`."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from gateway.auth.acl.rule import rule_from
from gateway.auth.acl.ruleset import RuleSet
from gateway.auth.acl.subject import Subject
from gateway.core.access import Action, Principal, Ruling
from gateway.core.message import Origin
from tests.auth.rule_model import (
    TOPICS,
    Who,
    filters,
    levels_of,
    matched_by,
    model,
    names,
    patterns,
    people,
    reaches,
    rules,
)

Written = list[dict[str, Any]]
EVERY_KIND = ("topic", "queue", "group", "admin")
BY_NAME = st.sampled_from((Action.PUBLISH, Action.CONSUME, Action.VIEW))


def rule_set(written: Written) -> RuleSet:
    return RuleSet(rule_from(rule) for rule in written)


def said(ruling: Ruling | None) -> tuple[str, str] | None:
    return ruling and ("allow" if ruling.allowed else "deny", ruling.rule)


@settings(max_examples=300)
@given(rules(EVERY_KIND), people(), BY_NAME, names())
def test_a_decision_is_what_trying_every_rule_says(
    written: Written, who: Who, action: Action, name: str
) -> None:
    expected = model(written, who, action.value, name)
    event(str(expected and expected[0]))
    assert said(rule_set(written).decide(Subject(*who), action, name)) == expected


@settings(max_examples=250)
@given(rules(), people(), BY_NAME, st.sampled_from(TOPICS))
def test_a_decision_about_a_topic_is_what_trying_every_rule_says(
    written: Written, who: Who, action: Action, topic: str
) -> None:
    expected = model(written, who, action.value, topic)
    event(str(expected and expected[0]))
    assert said(rule_set(written).decide(Subject(*who), action, topic)) == expected


# -- filters: all they match must be allowed, nothing of it denied ---------------------------------


def for_filters(written: Written) -> Written:
    """Let every rule have a say in both."""
    return [{**rule, "actions": ["publish", "subscribe", "manage"]} for rule in written]


@settings(max_examples=300)
@given(rules(), people(), st.sampled_from((Action.SUBSCRIBE, Action.MANAGE)), filters())
def test_a_filter_is_allowed_only_if_all_it_matches_is_and_denied_if_any_of_it_is(
    written: Written, who: Who, action: Action, topic_filter: str
) -> None:
    written = for_filters(written)
    ruling = rule_set(written).decide(Subject(*who), action, topic_filter)
    decided = {model(written, who, "publish", topic) for topic in matched_by(topic_filter)}
    denied = any(found and found[0] == "deny" for found in decided)
    event("nothing" if ruling is None else "allowed" if ruling.allowed else "denied")
    if ruling is not None and ruling.allowed:
        assert all(found and found[0] == "allow" for found in decided)
    if denied:
        assert ruling is not None
        assert not ruling.allowed
    if ruling is not None and not ruling.allowed and not denied:
        # Only what a placeholder stands for may lie outside the model's topics.
        (rule,) = [rule for rule in written if rule["id"] == ruling.rule]
        assert "${" in str(rule["resources"])


@settings(max_examples=300)
@given(patterns(plain=True), filters())
def test_a_rule_allows_every_filter_that_matches_no_more_than_it(pattern: str, topic_filter: str) -> None:
    levels = levels_of(pattern, {}, True)
    assert levels is not None
    matched = list(matched_by(topic_filter))
    # `+/#` is `#` in other words: nobody writes it, and it is not seen through.
    assume("+" not in levels or "#" not in topic_filter)
    covered = all(reaches(levels, topic.split("/")) for topic in matched)
    rule = rule_from({"id": "r", "subject": "everyone", "actions": "all", "resources": f"topic:{pattern}"})
    subject = Subject(Principal("u"), Origin("mqtt"))
    ruling = RuleSet([rule]).decide(subject, Action.SUBSCRIBE, topic_filter)
    event(str(covered))
    assert (ruling is not None) == covered


# -- what must not matter --------------------------------------------------------------------------


@settings(max_examples=250)
@given(rules(EVERY_KIND, 8), people(), st.sampled_from(Action), st.one_of(names(), filters()), st.randoms())
def test_explaining_rule_by_rule_and_any_order_give_the_same_decision(
    written: Written, who: Who, action: Action, name: str, order: random.Random
) -> None:
    """`steps` goes through all rules, `decide` through an index of them."""
    found, subject = rule_set(written), Subject(*who)
    ruling = found.decide(subject, action, name)
    applied = [step.rule for step in found.steps(subject, action, name) if step.applies]
    first = next((rule for rule in applied if not rule.allows), applied[0] if applied else None)
    assert said(ruling) == (first and (first.decision, first.id))
    order.shuffle(written)
    again = rule_set(written).decide(subject, action, name)
    assert (again and again.allowed) == (ruling and ruling.allowed)


@given(rules(EVERY_KIND), people(), st.sampled_from(Action), names())
def test_an_administrator_may_do_everything(written: Written, who: Who, action: Action, name: str) -> None:
    admin = Principal(who[0].name or "root", admin=True, groups=who[0].groups)
    assert rule_set(written).decide(Subject(admin, who[1]), action, name) == Ruling(True, "builtin.superuser")


# -- examples that people will ask about -----------------------------------------------------------

P, S, C = Action.PUBLISH, Action.SUBSCRIBE, Action.CONSUME

#: (resource of a rule that allows all to everyone, action, what is asked, whether it is allowed)
EXAMPLES = [
    ("topic:#", P, "a", True),
    ("topic:#", P, "$queue/jobs", False),
    ("topic:#", S, "$sys/#", False),
    ("topic:+/a", P, "$x/a", False),
    ("topic:*", P, "$x", False),
    ("topic:$sys/#", S, "$sys/#", True),
    ("topic:$sys/*", S, "$sys/+", True),
    ("topic:$sys/*", S, "$sys/#", False),  # that is `$sys`, too
    ("topic:orders*", P, "orders", True),
    ("topic:orders*", P, "orders-eu/1/2", True),
    ("topic:orders*", P, "order", False),
    ("topic:orders*/new", P, "orders-eu/new", True),
    ("topic:orders*/new", P, "orders-eu/old", False),
    ("topic:a/#", P, "a", True),
    ("topic:a/+", S, "a/#", False),
    ("topic:a/#", S, "a/+/#", True),
    ("topic:a", S, "#", False),
    ("queue:*", C, "$queue/jobs", True),
    ("queue:*", C, "$queue/$session/other", False),
    ("queue:#", C, "$queue/$vhost/x/jobs", False),
    ("queue:+", C, "$queue/$audit", False),
    ("queue:*", C, "$group/$sys/audit/g", False),
    ("queue:$vhost/x/*", C, "$queue/$vhost/x/jobs", True),
    ("queue:jobs", C, "$group/jobs/any", True),
    ("queue:jobs", C, "$group/jobs/mail/any", False),
    ("queue:orders/eu/#", C, "$group/orders/eu/any", True),
    ("queue:orders/eu/#", C, "$group/orders/eu/1/any", True),
    ("queue:orders/eu/#", C, "$group/orders/eu", False),  # group `eu` of another stream, `orders`
    ("queue:orders/e*", C, "$group/orders/eu", False),
    ("queue:orders/e*", C, "$group/orders/eu/g", True),
    ("queue:#", C, "$group/a/g", True),
    ("queue:a*", C, "$group/ab/c/g", True),
    ("group:jobs/*", C, "$group/jobs/any", True),
    ("group:jobs/*", C, "$queue/jobs", False),
    ("queue:${username}", C, "$queue/u", True),
    ("admin:*", Action.MANAGE, "$admin/users", True),
    ("admin:rules", Action.MANAGE, "$admin/users", False),
]


@pytest.mark.parametrize(("resource", "action", "asked", "allowed"), EXAMPLES)
def test_examples(resource: str, action: Action, asked: str, allowed: bool) -> None:
    subject = Subject(Principal("u"), Origin("mqtt"))
    for decision in ("allow", "deny"):
        rule = {"id": "r", "decision": decision, "subject": "everyone", "actions": "all"}
        ruling = RuleSet([rule_from({**rule, "resources": [resource]})]).decide(subject, action, asked)
        if decision == "allow" or action is not S:
            assert ruling == (Ruling(decision == "allow", "r") if allowed else None)


#: (what of a client id, pattern, topic, may publish where this is allowed, where it is denied)
CLIENTS = [
    ("dev7", "devices/${clientid}/#", "devices/dev7/temp", True, False),
    ("dev7", "devices/${clientid}/#", "devices/dev8/temp", False, True),
    ("+", "devices/${clientid}/#", "devices/dev7/temp", False, True),
    ("#", "devices/${clientid}", "devices/dev7/temp", False, True),
    ("a/b", "devices/${clientid}/#", "devices/a/b/temp", False, False),
    ("../x", "devices/${clientid}/#", "devices/../x", False, False),
    ("", "devices/${clientid}/#", "devices//temp", False, True),
    ("$sys", "${clientid}/x", "$sys/x", True, False),
    ("${username}", "d/${clientid}", "d/u", False, True),
]


@pytest.mark.parametrize(("client_id", "pattern", "topic", "where_allowed", "where_denied"), CLIENTS)
def test_a_client_that_may_choose_its_name_reaches_no_others_place(
    client_id: str, pattern: str, topic: str, where_allowed: bool, where_denied: bool
) -> None:
    subject = Subject(Principal("u"), Origin("mqtt", "u", client_id))
    rule = {"id": "r", "subject": "everyone", "actions": "publish", "resources": [f"topic:{pattern}"]}
    everything = rule_from({**rule, "id": "all", "resources": ["topic:#", "topic:$sys/#"]})
    allowed = RuleSet([rule_from(rule)]).decide(subject, P, topic)
    assert (allowed is not None) == where_allowed
    denied = RuleSet([everything, rule_from({**rule, "decision": "deny"})]).decide(subject, P, topic)
    assert (denied is not None and denied.allowed) == where_denied


@pytest.mark.parametrize("name", ["#", "+"])
def test_a_queue_that_is_called_like_a_wildcard_is_a_queue_like_any_other(name: str) -> None:
    subject = Subject(Principal("u"), Origin("mqtt", "u", name))
    for pattern, allowed in (("queue:${clientid}", True), ("queue:*", True), ("queue:a", False)):
        rule = rule_from({"id": "r", "subject": "everyone", "actions": "consume", "resources": pattern})
        found = RuleSet([rule])
        assert bool(found.decide(subject, C, f"$queue/{name}")) is allowed
        assert [step.applies for step in found.steps(subject, C, f"$queue/{name}")] == [allowed]
