"""Buckets of the calendar: messages that are due in the same span of time, in one durable queue.

How wide a span is follows from how far it was away when a message was scheduled: seconds for what
is due soon, most of a day for what is due next year. So a year has some hundred buckets, whatever
waits in them, and no message is ever written anew because its time comes nearer.
"""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

from .classic import ClassicQueue
from .due import NEVER_MS, Run
from .topic import DELAYED_PREFIX

#: (width of a bucket, for what is at most so far away), ms. A width is what a restart has to read
#: before the first of it can go out, and a thirtieth of its reach: so there are some 30 to 150 each.
SPANS: Final = (
    (1 << 12, 120_000),  # 4 s: two minutes
    (1 << 16, 7_200_000),  # 65 s: two hours
    (1 << 21, 345_600_000),  # 35 minutes: four days
    (1 << 26, NEVER_MS),  # 18.6 hours
)
WIDTHS: Final = tuple(width for width, _ in SPANS)
LEAD_MS_MAX: Final = 300_000  # a bucket is read so long before it begins: ten million messages take a minute

AWAY, LOADING, HERE = range(3)
FULL, EMPTY, SURE = range(3)  # what is known of its being empty: SURE is on disk


class Key(NamedTuple):
    """Which one: the span from `slot * width_ms` on. Width 0 is a queue of an earlier version's."""

    width_ms: int
    slot: int


def key_of(due_ms: int, now_ms: int) -> Key:
    """Return the bucket for what is scheduled now."""
    distance_ms = due_ms - now_ms
    for width_ms, reach_ms in SPANS:
        if distance_ms <= reach_ms:
            return Key(width_ms, due_ms // width_ms)
    raise AssertionError("the last span reaches everything")


def keys_for(due_ms: int) -> list[Key]:
    """Return every bucket that a message due at a time may be in."""
    return [*(Key(width_ms, due_ms // width_ms) for width_ms in WIDTHS), Key(0, 0)]


def queue_name(key: Key) -> str:
    """Return the name of its queue."""
    return f"{DELAYED_PREFIX}{key.width_ms}/{key.slot}"


def key_of_queue(name: str) -> Key | None:
    """Undo it; None for a queue that is no bucket."""
    if not name.startswith(DELAYED_PREFIX):
        return None
    width, _, slot = name[len(DELAYED_PREFIX) :].partition("/")
    if width.isdigit() and slot.isdigit():
        return Key(int(width), int(slot))
    return Key(0, 0)  # `$delayed/amqp`, in which an earlier version kept its messages


class Bucket:
    """One of them, and how far it has been read into memory."""

    __slots__ = (
        "begin_ms",
        "emptied",
        "end_ms",
        "gone",
        "held",
        "horizon_ms",
        "key",
        "queue",
        "room",
        "runs",
        "scanned",
        "single",
        "state",
    )

    def __init__(self, key: Key, queue: ClassicQueue, room: int) -> None:
        self.key = key
        self.queue = queue
        self.begin_ms = key.slot * key.width_ms
        self.end_ms = self.begin_ms + key.width_ms
        self.single = Run(self, array("Q"), array("Q"))  # marks what came by itself
        self.emptied = FULL
        self.leave(room)

    def leave(self, room: int) -> None:
        """Have nothing of it in memory, which has room for so many messages."""
        self.state = AWAY
        self.scanned = 0  # read up to this position
        self.runs: list[Run] = []  # while it is read
        self.held = 0  # messages in memory
        self.horizon_ms = NEVER_MS  # what is due from here on is not in memory, as it is too much
        self.room = room
        self.gone: set[int] = set()  # positions that are in memory, and cancelled

    @property
    def load_at_ms(self) -> int:
        """When to read it."""
        return self.begin_ms - min(self.key.width_ms // 2 + 1000, LEAD_MS_MAX)

    def seen(self, due_ms: int, position: int) -> bool:
        """Tell whether one of its messages is in memory."""
        if self.state == AWAY or due_ms >= self.horizon_ms:
            return False
        return self.state == HERE or position <= self.scanned

    def halve(self, room: int) -> None:
        """Keep the earlier half of what has been read; the rest is read again later."""
        sample = sorted(due for run in self.runs for due in run.dues[::64])
        self.horizon_ms = max(sample[len(sample) // 2], sample[0] + 1)
        for run in self.runs:
            self.held -= run.cut(self.horizon_ms)
        self.room = max(room, 2 * self.held)  # all of it at one time cannot be halved
