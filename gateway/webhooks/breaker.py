"""The circuit breaker: an endpoint that is down is asked by one request now and then, not by all.

Sans-I/O: it is told results and says how many requests there may be. What opens it are failures that
are the endpoint's (no connection, no answer, 5xx) and come one after the other; one that is a message's
own (4xx) shows that the endpoint is there.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

FAILURES_MAX: Final = 5  # in a row: two or three happen while a server is replaced
OPEN_MS_FIRST: Final = 1000
OPEN_MS_MAX: Final = 60_000  # an endpoint that is back waits a minute at most


class State(Enum):
    """What may be done."""

    CLOSED = "closed"  # all requests
    OPEN = "open"  # none
    PROBING = "probing"  # one


class Breaker:
    """One for each webhook. What is returned are milliseconds without a request from now on; 0: go on."""

    __slots__ = ("_failures", "_open_ms", "state")

    def __init__(self) -> None:
        self.state = State.CLOSED
        self._failures = 0
        self._open_ms = OPEN_MS_FIRST

    def answered(self) -> None:
        """The endpoint is there; what was under way when this opened says nothing of now."""
        if self.state is State.OPEN:
            return
        self.state = State.CLOSED
        self._failures = 0
        self._open_ms = OPEN_MS_FIRST

    def failed(self) -> int:
        """The endpoint is not there, or does not work."""
        if self.state is State.OPEN:
            return 0  # what was under way when it was opened: that is known
        self._failures += 1
        if self.state is State.CLOSED and self._failures < FAILURES_MAX:
            return 0
        found = self._open_ms
        self._open_ms = min(self._open_ms * 2, OPEN_MS_MAX)
        self.state = State.OPEN
        return found

    def hold(self, delay_ms: int) -> int:
        """The endpoint is there and wants to be left alone."""
        self.state = State.OPEN
        return delay_ms

    def probe(self) -> None:
        """The time is over: try one request."""
        self.state = State.PROBING
