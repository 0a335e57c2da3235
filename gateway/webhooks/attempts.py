"""What has come of the latest requests, and how many there were: for people, and for /metrics."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

KEPT: Final = 100  # of one webhook, about 500 bytes each: enough to see what is wrong
REASON_SHOWN_MAX: Final = 300  # characters; all of it is in the dead letter


class Attempt(NamedTuple):
    """One request."""

    time_ms: int
    message_id: str
    topic: str
    attempt: int
    status: int  # 0: there was no answer
    latency_ms: int
    reason: str  # "" if it was delivered


class Attempts:
    """Of one webhook, since start."""

    __slots__ = ("_latest", "delivered", "failed", "last_error", "postponed")

    def __init__(self) -> None:
        self._latest: deque[Attempt] = deque(maxlen=KEPT)
        self.delivered = 0
        self.failed = 0  # attempts of messages that count
        self.postponed = 0  # asked by the endpoint to come later
        self.last_error: Attempt | None = None

    def add(self, attempt: Attempt) -> None:
        """Note one."""
        if attempt.reason:
            attempt = attempt._replace(reason=attempt.reason[:REASON_SHOWN_MAX])
            self.last_error = attempt
        self._latest.append(attempt)

    def latest(self) -> list[dict[str, Any]]:
        """Return what is kept, the latest first."""
        return [attempt._asdict() for attempt in reversed(self._latest)]
