"""Fair use: what one user or client may take of what all share.

A `Limiter` says which limits hold for whom; the use under one of them is a `Meter`, shared by
all sessions it holds for. Rates are token buckets that hold one second: a burst of that size
passes, and over time no more than the rate does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .errors import QuotaExceeded
from .message import Origin, host_of

if TYPE_CHECKING:
    from .access import Principal

USER, CLIENT = "user", "client"  # whose use is counted together


class Limits(NamedTuple):
    """What may be used; 0 is no limit. Rates are per second."""

    id: str
    scope: str = USER
    connections: int = 0
    publish_rate: float = 0.0  # messages
    publish_bytes: float = 0.0  # of bodies
    queues: int = 0
    retained: int = 0
    subscriptions: int = 0  # filters subscribed to and queues consumed

    @property
    def metered(self) -> bool:
        """Whether every publish has to be counted."""
        return bool(self.publish_rate or self.publish_bytes or self.retained)


def client_of(origin: Origin) -> str:
    """Return what tells a client from others: its identifier, or where it comes from if it has none."""
    return origin.client_id or host_of(origin.peer)


class Limiter(Protocol):
    """Knows the limits that hold for somebody. Asked once per session."""

    def limits(self, principal: Principal, origin: Origin) -> Sequence[Limits]:
        """Return all that hold; each is counted by itself."""


class Meter:
    """The use of one user or client under one set of limits."""

    __slots__ = (
        "_bytes",
        "_filled_ms",
        "_messages",
        "connections",
        "key",
        "limits",
        "recount_ms",
        "recounted",
        "retained",
        "subscriptions",
    )

    def __init__(self, limits: Limits, key: str, now_ms: int) -> None:
        self.limits = limits
        self.key = key  # the user's name, or the client id
        self.connections = 0
        self.subscriptions = 0
        self.retained: set[str] | None = None  # topics, once they were counted
        self.recount_ms = 0  # when they may be counted again, if there are not fewer of all
        self.recounted = 0  # how many of all there were
        self._messages = max(1.0, limits.publish_rate)
        self._bytes = max(1.0, limits.publish_bytes)
        self._filled_ms = now_ms

    def owns(self, origin: Origin) -> bool:
        """Tell whether something with this origin counts here."""
        return (origin.principal if self.limits.scope == USER else client_of(origin)) == self.key

    def wait_ms(self, now_ms: int) -> int:
        """Return how long it takes until something may be published again; 0: now."""
        limits = self.limits
        passed = (now_ms - self._filled_ms) / 1000
        self._filled_ms = now_ms
        wait = 0.0
        if limits.publish_rate:
            self._messages = min(max(1.0, limits.publish_rate), self._messages + passed * limits.publish_rate)
            wait = (1.0 - self._messages) / limits.publish_rate
        if limits.publish_bytes:
            self._bytes = min(max(1.0, limits.publish_bytes), self._bytes + passed * limits.publish_bytes)
            wait = max(wait, (1.0 - self._bytes) / limits.publish_bytes)
        return max(0, int(wait * 1000 + 0.999))

    def spend(self, size: int) -> None:
        """Count a message; what is not there becomes a debt."""
        self._messages -= 1.0
        self._bytes -= size


class Quotas:
    """All meters that sessions use now."""

    __slots__ = ("_limiters", "_meters", "exceeded")

    def __init__(self, limiters: Sequence[Limiter] = ()) -> None:
        self._limiters = tuple(limiters)
        self._meters: dict[tuple[str, str], Meter] = {}
        self.exceeded: dict[tuple[str, str], int] = {}  # (id, what) -> how often, since start

    def open(self, principal: Principal, origin: Origin, now_ms: int) -> tuple[Meter, ...]:
        """Count a new session; return its meters. Raise QuotaExceeded."""
        if not self._limiters:
            return ()
        meters = self._find(principal, origin, now_ms)
        for meter in meters:
            self.check(meter, "connections", meter.connections, meter.limits.connections)
        for meter in meters:
            self._meters[(meter.limits.id, meter.key)] = meter
            meter.connections += 1
        return meters

    def renew(
        self, meters: tuple[Meter, ...], principal: Principal, origin: Origin, use: int, now_ms: int
    ) -> tuple[Meter, ...]:
        """Return the meters of a session whose limits, or whose client, may have changed."""
        found = self._find(principal, origin, now_ms)
        for meter in found:
            self._meters[(meter.limits.id, meter.key)] = meter
            meter.connections += 1
            meter.subscriptions += use
        self.close(meters, use)
        return found

    def _find(self, principal: Principal, origin: Origin, now_ms: int) -> tuple[Meter, ...]:
        meters = []
        for limiter in self._limiters:
            for limits in limiter.limits(principal, origin):
                key = principal.name if limits.scope == USER else client_of(origin)
                meter = self._meters.get((limits.id, key))
                if meter is None:
                    meter = Meter(limits, key, now_ms)
                meter.limits = limits  # they may have been changed: what is in use stays in use
                meters.append(meter)
        return tuple(meters)

    def close(self, meters: tuple[Meter, ...], subscriptions: int) -> None:
        """A session has ended."""
        for meter in meters:
            meter.connections -= 1
            meter.subscriptions -= subscriptions
            known = self._meters.get((meter.limits.id, meter.key))
            # What was published in the last second still counts for whoever comes back at once.
            if known is meter and not meter.connections and not meter.limits.metered:
                del self._meters[(meter.limits.id, meter.key)]

    def forget_idle(self, now_ms: int) -> None:
        """Drop meters that nobody uses and that owe nothing."""
        idle = [k for k, m in self._meters.items() if not m.connections and not m.wait_ms(now_ms)]
        for key in idle:
            del self._meters[key]

    def check(self, meter: Meter, what: str, used: int, limit: int) -> None:
        """Raise QuotaExceeded if one more of `what` is too many."""
        if limit and used >= limit:
            raise self.exceed(meter, what, f"has {used} {what}, as many as it may")

    def exceed(self, meter: Meter, what: str, text: str, retry_ms: int = 0) -> QuotaExceeded:
        """Count it; return the error."""
        limits = meter.limits
        self.exceeded[(limits.id, what)] = self.exceeded.get((limits.id, what), 0) + 1
        who = meter.key or "anonymous"
        return QuotaExceeded(f"{limits.scope} {who!r} {text} (quota {limits.id!r})", retry_ms)
