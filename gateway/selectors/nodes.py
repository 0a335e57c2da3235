"""What a condition is made of, between the grammar and the code: one class, and its limits.

Names that a selector uses and the message's own fields that they stand for are a table here.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.core.selector import InvalidSelector

DEPTH_MAX: Final = 32  # nobody reads deeper, and the code that is generated nests as deep
TERMS_MAX: Final = 256  # comparisons; each is evaluated for every message

#: Names of the message's own fields -> how they are read. `m` is the message, `p` its properties.
FIELDS: Final = {
    "topic": "m.topic",
    "size": "len(m.body)",
    "qos": "int(m.qos)",
    "retain": "m.retain",
    "timestamp": "(p.timestamp_ms or m.timestamp_ms)",
    "protocol": "m.origin.protocol",
    "client_id": "(m.origin.client_id or None)",
    "principal": "(m.origin.principal or None)",
    "priority": "p.priority",
    "key": "p.key",
    "tag": "p.tag",
    "TAGS": "p.tag",  # RocketMQ's name for it
    "message_id": "p.message_id",
    "correlation": "utf8(p.correlation)",
    "reply_to": "p.reply_to",
    "content_type": "p.content_type",
    "content_encoding": "p.content_encoding",
}

#: Kinds of nodes that are true, false or unknown; all others are values. A name can be either.
CONDITIONS: Final = frozenset(("and", "or", "not", "compare", "in", "text", "null"))
TERMS: Final = frozenset(("compare", "in", "text", "null"))


class Node:
    """A condition or a value. `at` is its column, from 1; what is in `value` depends on the kind."""

    __slots__ = ("at", "depth", "kind", "parts", "terms", "value")

    def __init__(self, kind: str, at: int, parts: tuple[Node, ...] = (), value: Any = None) -> None:
        """Raise InvalidSelector over a limit."""
        self.kind = kind
        self.at = at
        self.parts = parts
        self.value = value
        self.depth: int = 1 + max((part.depth for part in parts), default=0)
        self.terms: int = (kind in TERMS) + sum(part.terms for part in parts)
        if self.depth > DEPTH_MAX:
            raise InvalidSelector(f"this is nested more than {DEPTH_MAX} deep; write it flatter", at)
        if self.terms > TERMS_MAX:
            raise InvalidSelector(f"over {TERMS_MAX} comparisons; IN (...) counts as one", at)

    def __repr__(self) -> str:
        return f"Node({self.kind!r}, {self.at}, {self.parts!r}, {self.value!r})"

    @property
    def is_boolean(self) -> bool:
        """Whether it can stand where a condition is wanted."""
        if self.kind == "literal":
            return self.value is None or isinstance(self.value, bool)
        return self.kind in CONDITIONS or self.kind in ("header", "field")

    @property
    def is_value(self) -> bool:
        """Whether it can be compared or calculated with."""
        return self.kind not in CONDITIONS
