"""Counters as plain integers: 42 ns each, read by whoever exports them.

The books must balance. Every published message makes `copies`: one for each receiver and
queue it was routed to, or a single one that is dropped where there is none. At any time

    copies == delivered + streamed + sum(dropped) + waiting

where `waiting` is what queues and inboxes hold, unsettled deliveries included.
"""

from __future__ import annotations

from enum import IntEnum


class DropCause(IntEnum):
    """Why a copy of a message was not delivered: the closed list."""

    NO_SUBSCRIBER = 0
    EXPIRED = 1
    QUEUE_FULL = 2
    NOT_AUTHORIZED = 3
    SUBSCRIBER_OFFLINE = 4
    SLOW_SUBSCRIBER = 5
    REJECTED = 6
    DELIVERY_LIMIT = 7
    NOT_STORED = 8
    INTERCEPTED = 9
    INVALID = 10
    QUEUE_DELETED = 11
    PURGED = 12
    SESSION_ENDED = 13
    PACKET_TOO_LARGE = 14
    DUPLICATE = 15
    DELIVERY_FAILED = 16  # a mistake of ours, or of a plugin
    UNREADABLE = 17  # its part of the log is damaged
    QUOTA_EXCEEDED = 18  # its publisher's
    TRANSACTION_UNRESOLVED = 19  # of its dead letter: nobody said commit
    CANCELLED = 20  # it was scheduled, and somebody thought better of it


class Metrics:
    """One per broker. All counts since start."""

    __slots__ = ("copies", "dead_lettered", "delivered", "dropped", "published", "redelivered", "streamed")

    def __init__(self) -> None:
        self.published = 0
        self.copies = 0
        self.delivered = 0
        self.streamed = 0
        self.redelivered = 0
        self.dead_lettered = 0
        self.dropped = [0] * len(DropCause)

    def refuse(self, cause: DropCause, count: int = 1) -> None:
        """Count publishes of which there is no copy but the one that is dropped."""
        self.published += count
        self.copies += count
        self.drop(cause, count)

    def drop(self, cause: DropCause, count: int = 1) -> None:
        """Count copies that will not be delivered."""
        self.dropped[cause] += count

    def dropped_by_cause(self) -> dict[str, int]:
        """Return every cause by name, zeros included."""
        return {cause.name.lower(): self.dropped[cause] for cause in DropCause}
