"""Leases: deliveries in the hands of somebody without a connection.

A pull consumer (HTTP, CoAP, RocketMQ's POP) gets a token for each delivery and a time to settle it.
When the time is over the delivery goes back to its queue and the token is worthless. What is handed
out together has one timer. A lease may have a holder, with whom it ends at the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .delivery import Delivery
from .errors import NotFound
from .message import Outcome
from .scheduler import Scheduler, Timer

SECONDS_DEFAULT: Final = 30.0
SECONDS_MAX: Final = 12 * 3600.0  # a shift; what is held longer has been forgotten
DELAY_SECONDS_MAX: Final = 7 * 86_400.0  # of what is given back: a timer in memory, not a schedule

Settle = Callable[[Delivery, Outcome, "int | None", str], bool]


class Lease:
    """What was handed out together, until one time: token -> delivery, of those that are still out."""

    __slots__ = ("held", "holder", "timer")

    def __init__(self, held: dict[str, Delivery], holder: object | None) -> None:
        self.held = held
        self.holder = holder
        self.timer: Timer | None = None


class Leases:
    """All leases, by token. Tokens are made by the caller, unguessable."""

    __slots__ = ("_held", "_holders", "_scheduler", "_settle")

    def __init__(self, scheduler: Scheduler, settle: Settle) -> None:
        self._scheduler = scheduler
        self._settle = settle
        self._held: dict[str, Lease] = {}
        self._holders: dict[object, set[Lease]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, token: str, delivery: Delivery, lease_ms: int) -> None:
        """Give a delivery out under a token."""
        self.hold_all({token: delivery}, lease_ms)

    def hold_all(
        self, deliveries: Mapping[str, Delivery], lease_ms: int, holder: object | None = None
    ) -> None:
        """Give out what was asked for together, until the time is over or the holder `leave`s."""
        lease = Lease(dict(deliveries), holder)
        lease.timer = self._scheduler.after(lease_ms, lambda: self._expire(lease))
        for token in deliveries:
            self._held[token] = lease
        if holder is not None:
            self._holders.setdefault(holder, set()).add(lease)

    def find(self, token: str) -> Delivery:
        """Return what a token stands for. Raise NotFound if it was settled or has expired."""
        lease = self._held.get(token)
        if lease is None:
            raise unknown()
        return lease.held[token]

    def extend(self, token: str, lease_ms: int) -> None:
        """Start the lease again from now."""
        self.replace(token, token, lease_ms)

    def replace(self, token: str, other: str, lease_ms: int) -> None:
        """Start the lease again from now, under another token, and with no holder. Raise NotFound."""
        self.hold(other, self.take(token), lease_ms)

    def take(self, token: str) -> Delivery:
        """Return what a token stands for, to be settled by the caller; forget the token. Raise NotFound."""
        lease = self._held.pop(token, None)
        if lease is None:
            raise unknown()
        delivery = lease.held.pop(token)
        if not lease.held:
            self._scheduler.cancel(lease.timer)
            self._forget(lease)
        return delivery

    def settle(self, token: str, outcome: Outcome, delay_ms: int | None = None, reason: str = "") -> None:
        """Settle, as `Settlement.settle` does, and forget the token."""
        if not self._settle(self.take(token), outcome, delay_ms, reason):
            raise gone()

    def leave(self, holder: object) -> None:
        """Somebody who held leases is not there any more: they are over."""
        for lease in list(self._holders.get(holder, ())):
            self._scheduler.cancel(lease.timer)
            self._expire(lease)

    def _expire(self, lease: Lease) -> None:
        self._forget(lease)
        for token, delivery in reversed(lease.held.items()):
            del self._held[token]
            self._settle(delivery, Outcome.REQUEUE, 0, "")

    def _forget(self, lease: Lease) -> None:
        leases = self._holders.get(lease.holder)
        if leases is not None:
            leases.discard(lease)
            if not leases:
                del self._holders[lease.holder]


def unknown() -> NotFound:
    """Return the error for a token that stands for nothing, or for nothing of the caller's."""
    return NotFound("no such delivery: it was settled already, or its lease expired and it was given back")


def gone() -> NotFound:
    """Return the error for a token whose delivery is in nobody's hands any more."""
    return NotFound("no such delivery: its queue was deleted or purged")
