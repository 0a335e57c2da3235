"""What a queue promises about its messages: limits, expiry, attempts, dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

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

OWN_DEAD_LETTERS: Final = "$dead"  # as an address: the queue's own, `$dead/<queue>`

#: RocketMQ's pauses between attempts; a message that fails all its attempts is given up after 5 hours.
BACKOFF_MS: Final = tuple(
    1000 * seconds
    for seconds in (10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200)
)
ATTEMPTS: Final = len(BACKOFF_MS) + 1  # what RocketMQ makes of them: each pause once
BACKOFF_STEPS_MAX: Final = 64  # nobody needs more; the last one repeats
BACKOFF_STEP_MS_MAX: Final = 400 * 86_400_000  # as far as anything can be put off

DAY_MS: Final = 86_400_000
# What a queue of dead letters keeps, unless the configuration says otherwise.
LETTERS_MAX: Final = 100_000  # nobody looks at more, and what fails goes on failing
LETTERS_BYTES_MAX: Final = 1 << 30  # a disk that is full of letters stops the gateway
LETTERS_DAYS: Final = 30.0  # who has not looked in a month will not

_INTEGERS = (
    "ttl_ms",
    "max_length",
    "max_bytes",
    "delivery_limit",
    "max_age_ms",
    "retry_delay_ms",
    "expires_ms",
    "max_priority",
    "lease_ms",
    "group_expires_ms",
)
_FLAGS = ("compact", "single_active", "ordered")


PRIORITY_MAX: Final = 255  # each level costs every queue that has it 600 bytes

POLICIES: Final = (*_INTEGERS, "overflow", "dead_letter", "durability", *_FLAGS, "backoff_ms")


class QueuePolicy:
    """Limits of one queue; 0 means unlimited.

    `ttl_ms` counts from enqueueing; `max_length` and `max_bytes` count what waits, not what
    is in consumers' hands. `delivery_limit` is the number of attempts before a message is
    given up on. `dead_letter` is the topic (or `$queue/<name>`) given-up messages go to; `$dead` is
    the queue's own dead letters, for what is rejected or fails too often; "" is nowhere.
    `max_age_ms` is a stream's retention. `retry_delay_ms` is the pause after RETRY. `backoff_ms` are
    the pauses after the first, second ... failed attempt; the last one repeats, and none is at once.
    `durability` says when a publisher is told that a message is stored. A stream with `compact`
    keeps of each ordering key (or topic, where there is none) only the last message; an empty one
    takes the key away, a day later. With `single_active` one consumer gets everything until it
    leaves, then the next. A queue that had no consumer, and that nobody used, for `expires_ms` is
    deleted, a second later at most. A classic queue with `max_priority` hands out what has more
    priority first, up to that one. With `ordered`, messages of one ordering key are handed out one
    at a time, in order (see `order.py`). A delivery that a connected consumer has not settled within
    `lease_ms` is taken back. A stream's group that had no consumer for `group_expires_ms` is removed.
    """

    __slots__ = (
        "backoff_ms",
        "compact",
        "dead_letter",
        "delivery_limit",
        "durability",
        "expires_ms",
        "group_expires_ms",
        "lease_ms",
        "max_age_ms",
        "max_bytes",
        "max_length",
        "max_priority",
        "ordered",
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
        dead_letter: str = OWN_DEAD_LETTERS,
        max_age_ms: int = 0,
        retry_delay_ms: int = 1000,
        durability: str = SYNC,
        compact: bool = False,
        single_active: bool = False,
        expires_ms: int = 0,
        max_priority: int = 0,
        backoff_ms: Sequence[int] = (),
        ordered: bool = True,
        lease_ms: int = 0,
        group_expires_ms: int = 0,
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
        self.backoff_ms = tuple(backoff_ms)
        self.ordered = ordered
        self.lease_ms = lease_ms
        self.group_expires_ms = group_expires_ms

    def pause_ms(self, attempts: int) -> int:
        """Return the pause after so many failed attempts (at least one)."""
        backoff = self.backoff_ms
        return backoff[min(attempts, len(backoff)) - 1] if backoff else 0

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
            elif name in _FLAGS:
                if not isinstance(value, bool):
                    raise Conflict(f"policy.{name}: true or false is expected, not {value!r}")
            elif name == "dead_letter":
                if not isinstance(value, str):
                    raise Conflict(f"policy.dead_letter: a topic is expected, not {value!r}")
            elif name == "backoff_ms":
                check_backoff(value)
            else:
                raise Conflict(f"policy.{name}: no such policy; known: {', '.join(POLICIES)}")
        return cls(**values)  # type: ignore[arg-type]  # checked above, key by key

    def changes(self, since: QueuePolicy | None = None) -> dict[str, Any]:
        """Return the values that are not those of another, by name; None: the default, for storing."""
        base = since or DEFAULT
        return {name: value for name, value in self.to_mapping().items() if value != getattr(base, name)}

    def to_mapping(self) -> dict[str, Any]:
        """Return all values by name, for showing."""
        return {name: getattr(self, name) for name in POLICIES}

    def difference(self, other: QueuePolicy) -> str:
        """Name the first value in which `other` differs, or return an empty string."""
        for name in POLICIES:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} is {mine!r}, not {theirs!r}"
        return ""


def check_backoff(value: object) -> None:
    """Raise Conflict unless these can be the pauses between attempts."""
    if not isinstance(value, list | tuple) or len(value) > BACKOFF_STEPS_MAX:
        expected = f"a list of at most {BACKOFF_STEPS_MAX} whole numbers"
        raise Conflict(f"policy.backoff_ms: {expected} is expected, not {value!r}")
    for step in value:
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= BACKOFF_STEP_MS_MAX:
            raise Conflict(f"policy.backoff_ms: 0 to {BACKOFF_STEP_MS_MAX} ms is expected, not {step!r}")


DEFAULT: Final = QueuePolicy()  # most queues share it: sessions have one each
#: What a queue that is declared without a word about it gets. Sessions' own queues and those of AMQP do
#: not: a client that comes back often must not lose by it, and applications expect what they know.
WORK: Final = QueuePolicy(delivery_limit=ATTEMPTS, backoff_ms=BACKOFF_MS)
