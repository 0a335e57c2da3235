"""What users may do, from the topic filters in their configuration."""

from __future__ import annotations

from collections.abc import Mapping

from ..api import Action, Principal
from ..core.topic import QUEUE_PREFIX, matches


def covers(allowed: str, wanted: str) -> bool:
    """Tell whether every topic that `wanted` can match is matched by `allowed`."""
    if wanted.startswith("$") and allowed[:1] in ("+", "#"):
        return False  # [MQTT-4.7.2-1]: a wildcard does not reach the gateway's own topics
    pattern, levels = allowed.split("/"), wanted.split("/")
    for index, level in enumerate(pattern):
        if level == "#":
            return True
        if index >= len(levels) or levels[index] == "#":
            return False
        if level != "+" and level != levels[index]:
            return False
    return len(pattern) == len(levels)


class Admins:
    """Administrators may do everything."""

    def authorize(self, principal: Principal, action: Action, resource: str) -> bool | None:
        return True if principal.admin else None


class UserRules:
    """Users may publish and subscribe where their filters say; a queue `q` is `$queue/q`."""

    def __init__(self, rules: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]], anonymous: bool) -> None:
        self._rules = dict(rules)
        self._anonymous = anonymous

    def authorize(self, principal: Principal, action: Action, resource: str) -> bool | None:
        if principal.anonymous:
            return True if self._anonymous and action is not Action.MANAGE else None
        publish, subscribe = self._rules.get(principal.name, ((), ()))
        if action is Action.PUBLISH:
            return True if any(matches(allowed, resource) for allowed in publish) else None
        if action is Action.SUBSCRIBE:
            return True if any(covers(allowed, resource) for allowed in subscribe) else None
        if action is Action.CONSUME:
            return True if any(matches(allowed, QUEUE_PREFIX + resource) for allowed in subscribe) else None
        return None
