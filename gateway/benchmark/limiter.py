"""When each message is due: a schedule that does not wait for anybody.

A message that is sent late because one before it took long is late by this schedule, and that is measured
(publish delay). A limiter that went by when the last one was sent would forget it: coordinated omission.
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000


class Limiter:
    """Evenly spaced times, from the first question on."""

    def __init__(self, per_second: float) -> None:
        assert per_second > 0, "a rate is positive"
        self._interval_ns = SECOND_NS / per_second
        self._start_ns: int | None = None
        self._count = 0

    def acquire(self, now_ns: int) -> int:
        """Return when the next message is due; it may be in the past."""
        if self._start_ns is None:
            self._start_ns = now_ns
        due = self._start_ns + round(self._count * self._interval_ns)
        self._count += 1
        return due
