"""Leases: deliveries in the hands of somebody without a connection.

A pull consumer (HTTP and CoAP now, POP later) gets a token for each delivery and a time to settle
it. When the time is over the delivery goes back to its queue and the token is worthless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .delivery import Delivery
from .errors import NotFound
from .message import Outcome
from .scheduler import Scheduler, Timer

SECONDS_DEFAULT: Final = 30.0
SECONDS_MAX: Final = 12 * 3600.0  # a shift; what is held longer has been forgotten
DELAY_SECONDS_MAX: Final = 7 * 86_400.0  # of what is given back: a timer in memory, not a schedule

Settle = Callable[[Delivery, Outcome, "int | None", str], bool]


class Leases:
    """Token -> leased delivery. Tokens are made by the caller, unguessable."""

    __slots__ = ("_held", "_scheduler", "_settle")

    def __init__(self, scheduler: Scheduler, settle: Settle) -> None:
        self._scheduler = scheduler
        self._settle = settle
        self._held: dict[str, tuple[Delivery, Timer]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, token: str, delivery: Delivery, lease_ms: int) -> None:
        """Give a delivery out under a token."""
        timer = self._scheduler.after(lease_ms, lambda: self._expire(token))
        self._held[token] = (delivery, timer)

    def find(self, token: str) -> Delivery:
        """Return what a token stands for. Raise NotFound if it was settled or has expired."""
        held = self._held.get(token)
        if held is None:
            raise unknown()
        return held[0]

    def extend(self, token: str, lease_ms: int) -> None:
        """Start the lease again from now."""
        delivery = self.find(token)
        self._scheduler.cancel(self._held[token][1])
        self.hold(token, delivery, lease_ms)

    def settle(self, token: str, outcome: Outcome, delay_ms: int | None = None, reason: str = "") -> None:
        """Settle, as `Settlement.settle` does, and forget the token."""
        delivery = self.find(token)
        self._scheduler.cancel(self._held.pop(token)[1])
        if not self._settle(delivery, outcome, delay_ms, reason):
            raise NotFound("no such delivery: its queue was deleted or purged")

    def _expire(self, token: str) -> None:
        delivery, _ = self._held.pop(token)
        self._settle(delivery, Outcome.REQUEUE, 0, "")


def unknown() -> NotFound:
    """Return the error for a token that stands for nothing, or for nothing of the caller's."""
    return NotFound("no such delivery: it was settled already, or its lease expired and it was given back")
