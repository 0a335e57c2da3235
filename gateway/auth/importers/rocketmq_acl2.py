"""RocketMQ's access control of 5.3 (RIP-68), as JSON: `{"users": [...], "acls": [...]}`.

The rows are what the broker's admin API answers: a user has `username`, `password`, `userType`,
`userStatus`; an acl has a `subject` (`User:alice`) and `policies`, each with a `policyType` and
`entries` of `resource`, `actions`, `sourceIps`, `decision`.

There the most specific entry decides: CUSTOM before DEFAULT, a name before the longest prefix before
everything, and of equals the one that denies. Here one denial outvotes all. So a denial that takes
nothing from an allowance is dropped, for silence denies as well; one that also meets an allowance
that RocketMQ would prefer is kept and named.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ...api import InvalidValue
from .imported import Imported, Rules, check_name, make_user, mapping, rows, text_of
from .imported import user_subject as subject_of

ENTRIES_MAX: Final = 1000  # of one user: each denial is compared with each allowance

_NAME: Final = re.compile(r"[%|a-zA-Z0-9_-]{1,255}")
_KINDS: Final = ("topic", "group")
_MANAGING: Final = frozenset({"create", "update", "delete"})
_SEEING: Final = frozenset({"get", "list"})
_ACTIONS: Final = frozenset({"pub", "sub", *_MANAGING, *_SEEING})


class _Entry(NamedTuple):
    """An entry. `name` is what a resource's name is, or begins with if it is a prefix."""

    place: str
    kind: str
    name: str
    prefix: bool
    actions: frozenset[str]
    sources: list[str]
    allow: bool
    custom: bool

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """How much RocketMQ prefers it."""
        return self.custom, not self.prefix, len(self.name)

    def meets(self, other: _Entry) -> bool:
        """Tell whether both may be about the same."""
        if self.kind != other.kind or not self.actions & other.actions:
            return False
        if self.prefix and other.prefix:
            return self.name.startswith(other.name) or other.name.startswith(self.name)
        short, long = (self, other) if self.prefix else (other, self)
        return long.name.startswith(short.name) if short.prefix else long.name == short.name


def read(document: Mapping[str, Any]) -> Imported:
    """Take over users and rights. Raise InvalidValue with the row that is malformed."""
    remarks: list[str] = []
    users: dict[str, dict[str, Any]] = {}
    for place, row in rows(document, "users"):
        user = _user(mapping(row, place), place)
        if user["name"] in users:
            raise InvalidValue(f"{place}: user {user['name']!r} is there twice")
        users[user["name"]] = user
    rules = Rules()
    seen: set[str] = set()
    for place, row in rows(document, "acls"):
        name, entries = _acl(mapping(row, place), place, remarks)
        if name in seen:
            raise InvalidValue(f"{place}: subject {name!r} is there twice")
        seen.add(name)
        if (subject := subject_of(name)) is None:
            remarks.append(f"{place}: {name!r} would be every user of that prefix; no rules")
            continue
        _grant(f"rocketmq.{name}", subject, entries, rules, remarks)
    return Imported(list(users.values()), rules.all, remarks)


def _user(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    kind, status = text_of(row, "userType", place, "Normal"), text_of(row, "userStatus", place, "enable")
    if kind.lower() not in ("super", "normal") or status.lower() not in ("enable", "disable"):
        raise InvalidValue(f"{place}: a user is Super or Normal, and enabled or disabled")
    name = check_name(text_of(row, "username", place), f"{place}.username")
    plain = check_name(text_of(row, "password", place), f"{place}.password")
    return make_user(name, kind.lower() == "super", status.lower() == "disable", plain=plain)


def _acl(row: Mapping[str, Any], place: str, remarks: list[str]) -> tuple[str, list[_Entry]]:
    kind, _, name = text_of(row, "subject", place).partition(":")
    if kind.lower() != "user":
        raise InvalidValue(f"{place}.subject: User:<name> is expected")
    entries: list[_Entry] = []
    for where, policy in rows(row, "policies", place):
        policy = mapping(policy, where)
        level = text_of(policy, "policyType", where, "Custom").lower()
        if level not in ("custom", "default"):
            raise InvalidValue(f"{where}.policyType: Custom or Default is expected")
        for at, entry in rows(policy, "entries", where):
            entries += _entries(mapping(entry, at), at, level == "custom", remarks)
    if len(entries) > ENTRIES_MAX:
        raise InvalidValue(f"{place}: more than {ENTRIES_MAX} entries")
    return check_name(name, f"{place}.subject"), entries


def _entries(row: Mapping[str, Any], place: str, custom: bool, remarks: list[str]) -> list[_Entry]:
    """Return an entry, once for each kind of resource that it is about."""
    resource = text_of(row, "resource", place)
    kind, colon, name = resource.partition(":")
    decision = text_of(row, "decision", place).lower()
    if decision not in ("allow", "deny"):
        raise InvalidValue(f"{place}.decision: Allow or Deny is expected")
    kinds = _KINDS if resource == "*" else (kind.lower(),)
    name = "*" if resource == "*" else name
    if resource != "*" and (not colon or kinds[0] not in (*_KINDS, "cluster", "namespace")):
        raise InvalidValue(
            f"{place}.resource: {resource[:100]!r} is none of Topic:, Group:, Cluster:, Namespace:"
        )
    if kinds[0] not in _KINDS:
        remarks.append(f"{place}: {resource[:100]!r}: there are no {kinds[0]}s here")
        return []
    prefix, name = name.endswith("*"), name.removesuffix("*")
    if not (prefix and not name) and not _NAME.fullmatch(name):
        raise InvalidValue(f"{place}.resource: {resource[:100]!r} is no name that RocketMQ takes")
    actions = _actions(row, place, decision == "allow", remarks)
    sources = [_network(address, where) for where, address in rows(row, "sourceIps", place)]
    return [
        _Entry(place, each, name, prefix, actions, sources, decision == "allow", custom) for each in kinds
    ]


def _actions(row: Mapping[str, Any], place: str, allow: bool, remarks: list[str]) -> frozenset[str]:
    found: set[str] = set()
    for where, action in rows(row, "actions", place):
        word = action.lower() if isinstance(action, str) else ""
        if word == "all":
            found |= _ACTIONS
        elif word == "any":
            remarks.append(f"{where}: Any is what a request asks for; as a right it is none")
        elif word in _ACTIONS:
            found.add(word)
        else:
            raise InvalidValue(f"{where}: {repr(action)[:80]} is no action of RocketMQ's")
    for part, right in ((_MANAGING, "manage"), (_SEEING, "view")):
        if allow and found & part and not part <= found:
            remarks.append(f"{place}: {', '.join(sorted(found & part))} alone is less than {right}: left out")
    return frozenset(found)


def _network(address: Any, place: str) -> str:
    try:
        return str(ipaddress.ip_network(address if isinstance(address, str) else "", strict=False))
    except ValueError as error:
        raise InvalidValue(f"{place}: {repr(address)[:80]} is no address or network") from error


# -- rules ------------------------------------------------------------------------------------------------


def _grant(base: str, subject: str, entries: list[_Entry], rules: Rules, remarks: list[str]) -> None:
    allowed = [entry for entry in entries if entry.allow]
    denied = [entry for entry in entries if not entry.allow and _takes(entry, allowed, remarks)]
    number = 0
    for entry in [*allowed, *denied]:
        decision = "allow" if entry.allow else "deny"
        for actions, resources in _topic(entry):
            number += 1
            rules.add(f"{base}.{number}", decision, subject, actions, resources, entry.sources)
        if entry.kind == "group" and entry.allow and entry.actions - {"pub", "sub"}:
            remarks.append(f"{entry.place}: groups are managed with their stream here: that part is left out")
    for sources, resources in _pairs(allowed, denied, remarks).items():
        rules.add(f"{base}.consume", "allow", subject, ["consume"], resources, sources)
    for entry in denied:
        rules.add(f"{base}.consume.not", "deny", subject, ["consume"], _not(entry, allowed), entry.sources)


def _takes(denial: _Entry, allowed: list[_Entry], remarks: list[str]) -> bool:
    """Tell whether a denial takes anything from what is allowed."""
    met = [entry for entry in allowed if entry.meets(denial)]
    taken = [entry for entry in met if entry.rank <= denial.rank]
    if taken and len(taken) < len(met):
        remarks.append(f"{denial.place}: denies here also what RocketMQ allows by a more specific entry")
    return bool(taken)


def _topic(entry: _Entry) -> list[tuple[list[str], list[str]]]:
    """Return (actions, resources) that an entry on topics means."""
    if entry.kind != "topic":
        return []
    words = (("pub", "publish"), ("sub", "subscribe"))
    traffic = [action for word, action in words if word in entry.actions]
    # Allowed is what is allowed entirely, denied what is denied in any part.
    rights = [
        right
        for part, right in ((_MANAGING, "manage"), (_SEEING, "view"))
        if (part <= entry.actions if entry.allow else part & entry.actions)
    ]
    star = "*" if entry.prefix else ""
    # One level for everything: what RocketMQ calls a topic has no more.
    topic = f"topic:{entry.name}{star}" if entry.name else "topic:+"
    return [(traffic, [topic]), (rights, [f"queue:{entry.name}{star}"])]


def _pairs(
    allowed: list[_Entry], denied: list[_Entry], remarks: list[str]
) -> dict[tuple[str, ...], list[str]]:
    """Return the groups of streams that may be consumed as, by the addresses from which.

    It takes both rights, on the topic and on the group.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    topics, groups = (
        [entry for entry in allowed if entry.kind == kind and "sub" in entry.actions] for kind in _KINDS
    )
    some_denied = any(entry.kind == "group" and "sub" in entry.actions for entry in denied)
    for topic in topics:
        for group in groups:
            star = "*" if group.prefix else ""
            if topic.sources and group.sources and topic.sources != group.sources:
                remarks.append(f"{group.place}: for {topic.place}, from other addresses: left out")
            elif not topic.prefix:
                key = tuple(topic.sources or group.sources)
                found.setdefault(key, []).append(f"group:{topic.name}/{group.name}{star}")
            elif group.prefix and not group.name and not some_denied:
                found.setdefault(tuple(topic.sources or group.sources), []).append(f"group:{topic.name}*")
            else:
                remarks.append(
                    f"{group.place}: some groups, for topics that are not named, cannot be said: left out"
                )
    return found


def _not(denial: _Entry, allowed: list[_Entry]) -> list[str]:
    """Return the groups of streams that a denial is about."""
    if "sub" not in denial.actions:
        return []
    star = "*" if denial.prefix else ""
    if denial.kind == "topic":
        return [f"group:{denial.name}{star}" if denial.prefix else f"group:{denial.name}/*"]
    return [
        f"group:{entry.name}/{denial.name}{star}"
        for entry in allowed
        if entry.kind == "topic" and not entry.prefix and "sub" in entry.actions
    ]
