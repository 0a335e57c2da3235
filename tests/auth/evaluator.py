"""What rules say, the simple way: one deny outvotes any allow, silence is a no."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.core.topic import matches


def allows(rules: Iterable[dict[str, Any]], user: str, client: str, action: str, resource: str) -> bool:
    """Tell whether a user ("" is an anonymous client) may do something with `topic:...` or `queue:...`."""
    decisions = {
        rule["decision"]
        for rule in rules
        if action in rule["actions"]
        and _is_subject(rule["subject"], user)
        and any(_covers(pattern, user, client, resource) for pattern in rule["resources"])
    }
    return decisions == {"allow"}


def _is_subject(subject: str, user: str) -> bool:
    if subject == "everyone" or (subject == "anonymous" and not user):
        return True
    name = subject.removeprefix("user:")
    return bool(user) and subject != name and _is_name(name, user)


def _is_name(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _covers(pattern: str, user: str, client: str, resource: str) -> bool:
    kind, _, name = pattern.partition(":")
    wanted, _, target = resource.partition(":")
    if kind != wanted:
        return False
    for placeholder, value in (("${username}", user), ("${clientid}", client)):
        if placeholder in name:
            if not value or set(value) & set("+#/"):
                return False
            name = name.replace(placeholder, value)
    if name.endswith("*"):
        return target.startswith(name[:-1])
    return matches(name, target) if kind == "topic" else name == target
