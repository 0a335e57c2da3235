"""Rules that a token brings: what its bearer may do, checked and brought into one form.

The form is our rules' without a subject, who is the bearer:
`{"id": ..., "decision": "allow"|"deny", "actions": [...], "resources": ["topic:...", "queue:..."]}`.
EMQX's two forms are understood too. What cannot be expressed (a rule for one QoS only, a filter
taken literally) refuses the token: left out, the rule would allow more than its author meant.

Placeholders stay what they are, `${username}` and `${clientid}`: the authorizer fills them in, and
sees to it that a client cannot name itself into another's topics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..api import AuthenticationFailed, InvalidTopic
from ..core.topic import check_filter

RULES_MAX = 100  # each is looked at for every resource that a session uses for the first time
RESOURCES_MAX = 100  # of one rule
RESOURCE_BYTES_MAX = 1024  # EMQX's and our topics are shorter; a token has 16 KiB in all

ACTIONS = ("publish", "subscribe", "consume", "manage", "view")
ALL = ["all"]  # instead of a list of them
DECISIONS = ("allow", "deny")
_NARROWING = ("from", "doors")  # where a rule holds: address ranges, doors
_KEYS = {"id", "decision", "actions", "resources", *_NARROWING}
_RESOURCE = re.compile(r"[a-z]+:.+", re.DOTALL)

#: EMQX's names (and those of its first form) -> our actions.
_EMQX_ACTIONS = {
    "publish": ["publish"],
    "subscribe": ["subscribe"],
    "all": ["publish", "subscribe"],
    "pub": ["publish"],
    "sub": ["subscribe"],
}
_EMQX_LISTS = ("pub", "sub", "all")
_EMQX_KEYS = {"permission", "action", "topic"}
_SHORT = {"%u": "${username}", "%c": "${clientid}"}
_PLACEHOLDER = re.compile(r"\$\{[^}]*\}?")

Rule = dict[str, Any]


def rules_of(claim: object) -> list[Rule]:
    """Return the rules of a claim. Raise AuthenticationFailed if it makes no sense."""
    if claim is None:
        return []
    if isinstance(claim, dict):
        return list(_lists(claim))
    if not isinstance(claim, list):
        raise _fault("are neither a list nor EMQX's pub, sub and all")
    if len(claim) > RULES_MAX:
        raise _fault(f"are more than {RULES_MAX}")
    return [_rule(rule, number) for number, rule in enumerate(claim, 1)]


def _rule(rule: object, number: int) -> Rule:
    if not isinstance(rule, dict):
        raise _fault(f": number {number} is no object")
    if "permission" in rule:
        return _emqx(rule, number)
    unknown = rule.keys() - _KEYS
    if unknown:
        raise _fault(f": number {number} has unknown parts ({', '.join(sorted(unknown))[:100]})")
    if rule.get("decision") not in DECISIONS:
        raise _fault(f": number {number} has no decision; {' or '.join(DECISIONS)} is expected")
    actions = _strings(rule.get("actions"), number, "actions")
    if actions != ALL and not set(actions) <= set(ACTIONS):
        raise _fault(f": number {number} has unknown actions; there are {', '.join(ACTIONS)}")
    resources = _strings(rule.get("resources"), number, "resources")
    for resource in resources:
        _check_resource(resource, number)
    name = rule.get("id", f"token.{number}")
    if not isinstance(name, str) or not 0 < len(name) <= RESOURCE_BYTES_MAX:
        raise _fault(f": number {number} has an id that is no text")
    narrowing = {key: _strings(rule[key], number, key) for key in _NARROWING if key in rule}
    return {
        "id": name,
        "decision": rule["decision"],
        "actions": actions,
        "resources": resources,
        **narrowing,
    }


def _strings(value: object, number: int, what: str) -> list[str]:
    if not isinstance(value, list) or not 0 < len(value) <= RESOURCES_MAX:
        raise _fault(f": number {number} needs 1 to {RESOURCES_MAX} {what}")
    if not all(isinstance(one, str) and len(one) <= RESOURCE_BYTES_MAX for one in value):
        raise _fault(f": number {number} has {what} that are no texts")
    return value


def _check_resource(resource: str, number: int) -> None:
    if not _RESOURCE.fullmatch(resource):
        raise _fault(f": number {number} has a resource without its kind, as in topic:a/# and queue:orders")
    kind, _, rest = resource.partition(":")
    if kind == "topic":
        try:
            check_filter(rest)
        except InvalidTopic as error:
            raise _fault(f": number {number}: {error.detail}") from error


# -- EMQX ------------------------------------------------------------------------------------------


def _lists(claim: dict[str, Any]) -> Iterator[Rule]:
    """Yield the rules of the first form: lists of topics that may be used."""
    if not claim.keys() <= set(_EMQX_LISTS):
        raise _fault("have parts beside pub, sub and all")
    for kind in _EMQX_LISTS:
        if kind in claim and claim[kind] != []:
            topics = _strings(claim[kind], 1, f"topics in {kind}")
            yield _emqx_rule(f"token.{kind}", "allow", kind, topics)


def _emqx(rule: dict[str, Any], number: int) -> Rule:
    """Return a rule of the second form."""
    conditions = rule.keys() - _EMQX_KEYS
    if conditions:
        named = ", ".join(sorted(conditions))[:100]
        raise _fault(f": number {number} has conditions that are not understood here ({named})")
    permission, action, topic = rule["permission"], rule.get("action"), rule.get("topic")
    if permission not in DECISIONS:
        raise _fault(f": number {number} has no permission; {' or '.join(DECISIONS)} is expected")
    if action not in ("publish", "subscribe", "all"):
        raise _fault(f": number {number} has no action; publish, subscribe or all is expected")
    return _emqx_rule(f"token.{number}", permission, action, _strings([topic], number, "topics"))


def _emqx_rule(name: str, decision: str, action: str, topics: list[str]) -> Rule:
    resources = [f"topic:{_emqx_topic(topic)}" for topic in topics]
    for resource in resources:
        _check_resource(resource, 1)
    return {"id": name, "decision": decision, "actions": _EMQX_ACTIONS[action], "resources": resources}


def _emqx_topic(topic: str) -> str:
    """Return a topic with our placeholders; `eq ` means no wildcard where there is one."""
    if topic.startswith("eq "):
        topic = topic[3:]
        if "+" in topic or "#" in topic:
            raise _fault(": a filter cannot be taken literally here (eq)")
    if any(level.endswith("*") for level in topic.split("/")):
        raise _fault(": '*' at the end of a level is any rest of it here, and a character for EMQX")
    for short, long in _SHORT.items():
        topic = topic.replace(short, long)
    unknown = set(_PLACEHOLDER.findall(topic)) - set(_SHORT.values())
    if unknown:
        raise _fault(f": {min(unknown)[:40]} is unknown; there are {' and '.join(_SHORT.values())}")
    return topic


def _fault(text: str) -> AuthenticationFailed:
    return AuthenticationFailed(f"the token's rules{'' if text[0] == ':' else ' '}{text}")
