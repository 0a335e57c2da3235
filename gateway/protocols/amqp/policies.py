"""Policies: a pattern of names, and the arguments that queues and exchanges of such names have besides
their own [RabbitMQ, policies].

Of several that match the one with the highest priority counts. Where a queue's own argument and the
policy both limit a number, the lower limit holds; any other argument of its own wins. A change takes
effect at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from .arguments import CHECKS
from .errors import AmqpFault, Reply
from .tables import Table

APPLY_TO: Final = ("all", "queues", "exchanges", "classic_queues", "quorum_queues", "streams")
_TYPES: Final = {"classic_queues": "classic", "quorum_queues": "quorum", "streams": "stream"}

#: Key of a definition -> argument of a queue.
QUEUE_KEYS: Final = {
    "message-ttl": "x-message-ttl",
    "expires": "x-expires",
    "max-length": "x-max-length",
    "max-length-bytes": "x-max-length-bytes",
    "overflow": "x-overflow",
    "dead-letter-exchange": "x-dead-letter-exchange",
    "dead-letter-routing-key": "x-dead-letter-routing-key",
    "delivery-limit": "x-delivery-limit",
    "max-age": "x-max-age",
    "backoff": "x-backoff",
}
EXCHANGE_KEYS: Final = ("alternate-exchange",)
#: Of RabbitMQ's cluster, storage and mirrors: taken, shown, and without effect here.
IGNORED_KEYS: Final = frozenset(
    (
        "ha-mode",
        "ha-params",
        "ha-sync-mode",
        "ha-promote-on-shutdown",
        "ha-promote-on-failure",
        "ha-sync-batch-size",
        "queue-mode",
        "queue-version",
        "queue-master-locator",
        "dead-letter-strategy",
        "federation-upstream",
        "federation-upstream-set",
        "stream-max-segment-size-bytes",
        "target-group-size",
        "consumer-timeout",
        "message-interceptors",
    )
)


class Policy(NamedTuple):
    """One of a virtual host."""

    name: str
    pattern: str
    definition: dict[str, Any]
    priority: int = 0
    apply_to: str = "all"

    def covers(self, name: str, kind: str) -> bool:
        """Tell whether it is for an exchange (`exchange`) or a queue (`classic`, `quorum`, `stream`)."""
        wanted = self.apply_to
        if wanted != "all":
            if kind == "exchange" and wanted != "exchanges":
                return False
            if kind != "exchange" and wanted != "queues" and _TYPES.get(wanted) != kind:
                return False
        return re.search(self.pattern, name) is not None

    def to_mapping(self, vhost: str) -> dict[str, Any]:
        """Return it as the management API shows it."""
        return {
            "vhost": vhost,
            "name": self.name,
            "pattern": self.pattern,
            "apply-to": self.apply_to,
            "definition": self.definition,
            "priority": self.priority,
        }


def read_policy(name: str, fields: dict[str, Any]) -> Policy:
    """Return a policy from decoded JSON. Raise AmqpFault naming what is wrong."""

    def refuse(why: str) -> AmqpFault:
        return AmqpFault(Reply.PRECONDITION_FAILED, f"policy '{name}': {why}")

    pattern, definition = fields.get("pattern"), fields.get("definition")
    priority, apply_to = fields.get("priority", 0), fields.get("apply-to", "all")
    try:
        re.compile(pattern if isinstance(pattern, str) else "(")
    except re.error as error:
        raise refuse(f"pattern {pattern!r}: {error}") from error
    if not isinstance(definition, dict) or not definition:
        raise refuse("definition: an object with at least one key is expected")
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise refuse(f"priority: a whole number is expected, not {priority!r}")
    if apply_to not in APPLY_TO:
        raise refuse(f"apply-to: one of {', '.join(APPLY_TO)} is expected, not {apply_to!r}")
    for key, value in definition.items():
        if key in QUEUE_KEYS:
            if wrong := CHECKS[QUEUE_KEYS[key]](value):
                raise refuse(f"{key}: {wrong}")
        elif key in EXCHANGE_KEYS:
            if not isinstance(value, str):
                raise refuse(f"{key}: a name is expected, not {value!r}")
        elif key not in IGNORED_KEYS:
            raise refuse(f"{key}: no such key")
    return Policy(name, str(pattern), definition, priority, apply_to)


def best(policies: Iterable[Policy], name: str, kind: str) -> Policy | None:
    """Return the policy that counts for a name, or None."""
    found = [policy for policy in policies if policy.covers(name, kind)]
    return max(found, key=lambda policy: (policy.priority, policy.name), default=None)


def effective(arguments: Table, policy: Policy | None) -> Table:
    """Return a queue's arguments with what a policy adds."""
    if policy is None:
        return arguments
    found = dict(arguments)
    for key, value in policy.definition.items():
        name = QUEUE_KEYS.get(key)
        if name is None:
            continue
        own = found.get(name)
        if own is None:
            found[name] = value
        elif isinstance(own, int) and isinstance(value, int):
            found[name] = min(own, value)
    if "x-dead-letter-exchange" not in found:
        found.pop("x-dead-letter-routing-key", None)
    return found
