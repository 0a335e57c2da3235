"""Finds the rate that can be sustained: up by a factor while all goes well, down to what was managed
otherwise.

The factor doubles with every good period and halves with every bad one, between 1 % and 100 %.
"""

from __future__ import annotations

from .limiter import SECOND_NS

START_RATE = 10_000.0
RATE_MIN = 1.0  # the least that a load is set to
CONTROL_SECONDS = 3.0  # how often the rate is looked at
#: More messages than this behind, and the rate is too high: enough for what is under way at a good rate.
BACKLOG_MAX = 1_000
RAMPING_MIN, RAMPING_MAX = 0.01, 1.0


class RateController:
    """Says the next rate from what was published and received altogether."""

    def __init__(self) -> None:
        self.ramping = RAMPING_MAX
        self._published = 0
        self._received = 0

    def next_rate(self, rate: float, period_ns: int, published_total: int, received_total: int) -> float:
        """Return the rate for the next period, in messages per second."""
        expected = int(rate * period_ns / SECOND_NS)
        published = published_total - self._published
        received = received_total - self._received
        self._published, self._received = published_total, received_total
        for done, behind in (
            (received, published_total - received_total),
            (published, expected - published),
        ):
            if behind > BACKLOG_MAX:
                self.ramping = max(RAMPING_MIN, self.ramping / 2)
                return min(done, max(0, expected - behind)) * SECOND_NS / period_ns
        self.ramping = min(RAMPING_MAX, self.ramping * 2)
        return rate * (1 + self.ramping)
