"""Guessing passwords is slow: failed logins are counted by address and by user.

Each has a bucket of failures that refills with time. While it is empty a login is refused
unseen, whether right or wrong: an attacker learns nothing from trying. Whoever logged in
lately from an address is exempt there, so that a guesser who knows a user's name, or shares
an address with a fleet, does not lock the fleet out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

FAILURES_MAX: Final = 10  # in a row, of one user or from one address: more is no typing mistake
REFILL_MS: Final = 6_000  # one more try every 6 seconds: 14,400 guesses a day, at the most
TRACKED_MAX: Final = 20_000  # addresses, users and exemptions that are remembered: some 4 MB each
EXEMPT_MS: Final = 24 * 3600 * 1000
V6_PREFIX_GROUPS: Final = 4  # of an IPv6 address: whoever has a /64 has all its addresses


class Throttle:
    """One for all doors."""

    __slots__ = ("_failures", "_known", "refused")

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()  # key -> (tries left, when)
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()  # (host, user) -> exempt until
        self.refused = 0

    def wait_ms(self, host: str, user: str, now_ms: int) -> int:
        """Return how long this client has to wait before its login is looked at; 0: not at all."""
        until = self._known.get((host, user))
        if until is not None and until > now_ms:
            return 0
        waits = [self._wait(key, now_ms) for key in _keys(host, user)]
        wait = max(waits, default=0)
        if wait:
            self.refused += 1
        return wait

    def failed(self, host: str, user: str, now_ms: int) -> None:
        """A login was wrong."""
        self._known.pop((host, user), None)
        for key in _keys(host, user):
            self._failures[key] = (self._left(key, now_ms) - 1.0, now_ms)
            self._failures.move_to_end(key)
        while len(self._failures) > TRACKED_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, host: str, user: str, now_ms: int) -> None:
        """A login was right."""
        if not user:
            return
        self._known[(host, user)] = now_ms + EXEMPT_MS
        self._known.move_to_end((host, user))
        if len(self._known) > TRACKED_MAX:
            self._known.popitem(last=False)

    def _left(self, key: str, now_ms: int) -> float:
        left, when_ms = self._failures.get(key, (float(FAILURES_MAX), now_ms))
        return min(float(FAILURES_MAX), left + (now_ms - when_ms) / REFILL_MS)

    def _wait(self, key: str, now_ms: int) -> int:
        left = self._left(key, now_ms)
        return 0 if left >= 1.0 else int((1.0 - left) * REFILL_MS) + 1


def _keys(host: str, user: str) -> list[str]:
    keys = ["address " + network_of(host)] if host else []
    return [*keys, "user " + user] if user else keys


def network_of(host: str) -> str:
    """Return what is counted as one address: an IPv4 address, an IPv6 /64."""
    if ":" not in host:
        return host
    import ipaddress

    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return ":".join(address.exploded.split(":")[:V6_PREFIX_GROUPS])
