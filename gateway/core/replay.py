"""Where reading a stream begins, as people and programs say it: the same words at every door."""

from __future__ import annotations

import math
from datetime import datetime

from .clock import Clock
from .errors import InvalidValue
from .stream import StreamQueue

EXPECTED = "a number, earliest, latest, or a time such as 2026-11-21T05:00:00Z is expected"


def start_offset(queue: StreamQueue, clock: Clock, text: str, what: str) -> int:
    """Return the offset that `text` names. Raise InvalidValue, naming `what`, if it names none.

    An offset, `earliest`, `latest`, or a time (RFC 3339): the first message stored then or later.
    """
    if text == "earliest":
        return queue.first_offset
    if text == "latest":
        return queue.next_offset
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    time_ms = parse_time(text)
    if time_ms is None:
        raise InvalidValue(f"{what} is {text[:40]!r}; {EXPECTED}")
    return queue.offset_at(clock.own(time_ms))


def parse_time(text: str) -> int | None:
    """Return Unix milliseconds of an RFC 3339 time, None if it is none, or without a time zone.

    Rounded down, as the times of messages are: rather a message too many than one too few.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return math.floor(time.timestamp() * 1000) if time.tzinfo is not None else None
