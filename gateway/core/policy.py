"""What a queue promises about its messages: limits, expiry, attempts, dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .errors import Conflict

DROP_HEAD = "drop-head"  # the oldest makes room
REJECT = "reject"  # the publisher is refused
REJECT_DEAD_LETTER = "reject-dead-letter"  # the same, and the message goes to the dead letters
OVERFLOWS: Final = (DROP_HEAD, REJECT, REJECT_DEAD_LETTER)

SYNC = "sync"  # a publisher is told "stored" when the disk has it
ASYNC = "async"  # when the operating system has it: a power loss may take the last tenth of a second
NONE = "none"  # at once: what a crash or a full disk takes is gone
#: strictest first: a message for several queues is treated as the strictest wants it
DURABILITIES: Final = (SYNC, ASYNC, NONE)

_INTEGERS = (
    "ttl_ms",
    "max_length",
    "max_bytes",
    "delivery_limit",
    "max_age_ms",
    "retry_delay_ms",
    "expires_ms",
    "max_priority",
)


PRIORITY_MAX: Final = 255  # each level costs every queue that has it 600 bytes

POLICIES: Final = (*_INTEGERS, "overflow", "dead_letter", "durability", "compact", "single_active")


class QueuePolicy:
    """Limits of one queue; 0 means unlimited.

    `ttl_ms` counts from enqueueing; `max_length` and `max_bytes` count what waits, not what
    is in consumers' hands. `delivery_limit` is the number of attempts before a message is
    given up on. `dead_letter` is the topic (or `$queue/<name>`) given-up messages go to.
    `max_age_ms` is a stream's retention. `retry_delay_ms` is the pause after RETRY.
    `durability` says when a publisher is told that a message is stored. A stream with `compact`
    keeps of each ordering key (or topic, where there is none) only the last message; an empty one
    takes the key away, a day later. With `single_active` one consumer gets everything until it
    leaves, then the next. A queue that had no consumer, and that nobody used, for `expires_ms` is
    deleted, a second later at most. A classic queue with `max_priority` hands out what has more
    priority first, up to that one.
    """

    __slots__ = (
        "compact",
        "dead_letter",
        "delivery_limit",
        "durability",
        "expires_ms",
        "max_age_ms",
        "max_bytes",
        "max_length",
        "max_priority",
        "overflow",
        "retry_delay_ms",
        "single_active",
        "ttl_ms",
    )

    def __init__(
        self,
        ttl_ms: int = 0,
        max_length: int = 0,
        max_bytes: int = 0,
        overflow: str = DROP_HEAD,
        delivery_limit: int = 0,
        dead_letter: str = "",
        max_age_ms: int = 0,
        retry_delay_ms: int = 1000,
        durability: str = SYNC,
        compact: bool = False,
        single_active: bool = False,
        expires_ms: int = 0,
        max_priority: int = 0,
    ) -> None:
        self.ttl_ms = ttl_ms
        self.max_length = max_length
        self.max_bytes = max_bytes
        self.overflow = overflow
        self.delivery_limit = delivery_limit
        self.dead_letter = dead_letter
        self.max_age_ms = max_age_ms
        self.retry_delay_ms = retry_delay_ms
        self.durability = durability
        self.compact = compact
        self.single_active = single_active
        self.expires_ms = expires_ms
        self.max_priority = max_priority

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> QueuePolicy:
        """Build from decoded JSON or TOML. Raise Conflict naming a key that is wrong."""
        for name, value in values.items():
            if name in _INTEGERS:
                if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                    raise Conflict(f"policy.{name}: a whole number of at least 0 is expected, not {value!r}")
                if name == "max_priority" and value > PRIORITY_MAX:
                    raise Conflict(f"policy.max_priority: at most {PRIORITY_MAX} is possible, not {value}")
            elif name == "overflow":
                if value not in OVERFLOWS:
                    expected = ", ".join(OVERFLOWS)
                    raise Conflict(f"policy.overflow: one of {expected} is expected, not {value!r}")
            elif name == "durability":
                if value not in DURABILITIES:
                    expected = ", ".join(DURABILITIES)
                    raise Conflict(f"policy.durability: one of {expected} is expected, not {value!r}")
            elif name in ("compact", "single_active"):
                if not isinstance(value, bool):
                    raise Conflict(f"policy.{name}: true or false is expected, not {value!r}")
            elif name == "dead_letter":
                if not isinstance(value, str):
                    raise Conflict(f"policy.dead_letter: a topic is expected, not {value!r}")
            else:
                raise Conflict(f"policy.{name}: no such policy; known: {', '.join(POLICIES)}")
        return cls(**values)  # type: ignore[arg-type]  # checked above, key by key

    def changes(self) -> dict[str, int | str | bool]:
        """Return the values that are not the default, by name: for storing."""
        return {name: value for name, value in self.to_mapping().items() if value != getattr(DEFAULT, name)}

    def to_mapping(self) -> dict[str, int | str | bool]:
        """Return all values by name, for showing."""
        return {name: getattr(self, name) for name in POLICIES}

    def difference(self, other: QueuePolicy) -> str:
        """Name the first value in which `other` differs, or return an empty string."""
        for name in POLICIES:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} is {mine!r}, not {theirs!r}"
        return ""


DEFAULT: Final = QueuePolicy()  # most queues share it
