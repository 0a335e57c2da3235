"""One rule, as it is written and as it is kept.

    {"id": "sensors", "decision": "allow", "subject": "group:sensors", "actions": ["publish"],
     "resources": ["topic:devices/${clientid}/#"], "from": ["10.0.0.0/8"], "doors": ["mqtt"]}

The model is RocketMQ's ACL 2.0 (RIP-68): subject, resource, action, source address, decision.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ...api import Action, InvalidValue
from .pattern import Pattern, parse

RULES_MAX: Final = 100_000  # each takes about 2 KB
LIST_MAX: Final = 1000  # resources, ranges or doors of one rule
NAME_MAX: Final = 1024
_ID: Final = re.compile(r"[A-Za-z0-9._:@%/+-]{1,4096}")

ALLOW, DENY = "allow", "deny"
ALL: Final = "all"
ACTIONS: Final = {action.value: action for action in Action}
NAMED: Final = ("user", "group", "client", "certificate")  # subjects with a name
GENERAL: Final = ("anonymous", "authenticated", "everyone")
KINDS: Final = {"topic": "", "queue": "$queue/", "group": "$group/", "admin": "$admin/"}
_FIELDS: Final = ("id", "decision", "subject", "actions", "resources", "from", "doors", "description")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rule(msgspec.Struct, frozen=True):
    """A rule, checked. `patterns` are its resources as the gateway names them."""

    id: str
    decision: str
    subject: str
    actions: frozenset[Action]
    resources: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    sources: tuple[Network, ...] = ()
    doors: tuple[str, ...] = ()
    description: str = ""

    @property
    def kind(self) -> str:
        """What the subject is: `user`, `everyone` ..."""
        return self.subject.partition(":")[0]

    @property
    def name(self) -> str:
        """The subject's name; empty for those that have none."""
        return self.subject.partition(":")[2]

    @property
    def allows(self) -> bool:
        """Whether the decision is to allow."""
        return self.decision == ALLOW

    def to_mapping(self) -> dict[str, Any]:
        """Return the rule as `rule_from` takes it."""
        found: dict[str, Any] = {
            "id": self.id,
            "decision": self.decision,
            "subject": self.subject,
            "actions": sorted(action.value for action in self.actions),
            "resources": list(self.resources),
        }
        if self.sources:
            found["from"] = [str(network) for network in self.sources]
        if self.doors:
            found["doors"] = list(self.doors)
        if self.description:
            found["description"] = self.description
        return found


def rule_from(fields: Mapping[str, Any], subject: str = "") -> Rule:
    """Return the rule that a mapping says; `subject` if it need not say whose. Raise InvalidValue."""
    if not isinstance(fields, Mapping):
        raise InvalidValue("a rule is a table with id, decision, subject, actions and resources")
    name = fields.get("id")
    label = f"rule {name!r}" if isinstance(name, str) else "a rule"
    try:
        return _rule(fields, subject)
    except InvalidValue as error:
        raise InvalidValue(f"{label}: {error.detail}") from error


def _rule(fields: Mapping[str, Any], subject: str) -> Rule:
    for field in fields:
        if field not in _FIELDS:
            raise InvalidValue(f"unknown key {str(field)[:80]!r}; known: {', '.join(_FIELDS)}")
    rule_id, decision = _text(fields, "id"), _text(fields, "decision", ALLOW)
    if not _ID.fullmatch(rule_id):
        raise InvalidValue("id: letters, digits and ._:@%/+- are expected")
    if decision not in (ALLOW, DENY):
        raise InvalidValue(f"decision: allow or deny is expected, not {decision[:80]!r}")
    resources = _texts(fields, "resources")
    if not resources:
        raise InvalidValue("resources: at least one is needed, as topic:a/# or queue:orders")
    return Rule(
        rule_id,
        decision,
        subject_of(_text(fields, "subject", subject or None)),
        _actions(_texts(fields, "actions")),
        resources,
        tuple(pattern for resource in resources for pattern in patterns_of(resource)),
        tuple(_network(text) for text in _texts(fields, "from")),
        _texts(fields, "doors"),
        _text(fields, "description", ""),
    )


def _text(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = fields.get(name, default)
    if value is None:
        raise InvalidValue(f"{name}: missing")
    if not isinstance(value, str) or len(value) > NAME_MAX or not _encodable(value):
        raise InvalidValue(f"{name}: a string of at most {NAME_MAX} characters is expected")
    return value


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in text)


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name, ())
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes) or len(value) > LIST_MAX:
        raise InvalidValue(f"{name}: a list of at most {LIST_MAX} strings is expected")
    if not all(isinstance(item, str) and item and _encodable(item) for item in value):
        raise InvalidValue(f"{name}: a list of strings is expected")
    return tuple(value)


def subject_of(text: str) -> str:
    """Return a subject if it is one: `user:NAME`, `everyone` ... Raise InvalidValue."""
    kind, colon, name = text.partition(":")
    if kind in GENERAL and not colon:
        return text
    if kind in NAMED and name:
        return text
    if kind in NAMED:
        raise InvalidValue(f"subject: {kind}: needs a name, as in {kind}:alice, or {kind}:* for all")
    known = [*(f"{named}:NAME" for named in NAMED), *GENERAL]
    raise InvalidValue(f"subject: {text[:80]!r}: one of {', '.join(known)} is expected")


def _actions(names: tuple[str, ...]) -> frozenset[Action]:
    if names == (ALL,):
        return frozenset(Action)
    for name in names:
        if name not in ACTIONS:
            raise InvalidValue(f"actions: {name[:80]!r}: one of {', '.join(ACTIONS)} or all is expected")
    if not names:
        raise InvalidValue(f"actions: at least one of {', '.join(ACTIONS)} or all is needed")
    return frozenset(ACTIONS[name] for name in names)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidValue(f"from: {text[:80]!r} is no address and no range such as 10.0.0.0/8") from error


def patterns_of(resource: str) -> tuple[Pattern, ...]:
    """Return the patterns of `topic:...`, `queue:...`, `group:...` or `admin:...`. Raise InvalidValue."""
    kind, colon, name = resource.partition(":")
    if not colon or kind not in KINDS:
        kinds = ", ".join(f"{kind}:" for kind in KINDS)
        raise InvalidValue(f"resources: {resource[:80]!r} does not begin with one of {kinds}")
    if kind == "topic":
        for other, prefix in KINDS.items():
            if prefix and name.startswith(prefix):
                raise InvalidValue(f"resources: {resource[:80]!r}: write {other}:{name[len(prefix) :][:80]}")
        return (parse(name),)
    made = parse(KINDS[kind] + name)
    if kind != "queue":
        return (made,)
    return (made, parse(KINDS["group"] + _groups_of(name, made.rest)))


def _groups_of(queues: str, rest: bool) -> str:
    """Return the pattern of all groups of some streams: whoever may use a stream may in each of its groups.

    A group is one level, the last one. Group `eu` of a stream `orders` must not be taken for what is
    below a queue `orders/eu`.
    """
    if not rest:
        return queues + "/+"
    above = "+" if queues == "#" else queues.removesuffix("/#")
    return above + "/+/#"
