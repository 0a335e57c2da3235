"""The time, as the shell last told it.

The core never reads a clock: the shell sets `now_ms` once per turn, tests set it at will.
`now_ms` is Unix time for what is written down and compared with other machines (expiry,
timestamps); `monotonic_ms` drives timers, so that a jump of the wall clock fires nothing.
"""

from __future__ import annotations


class Clock:
    """Two readings in milliseconds; plain attributes because the hot path reads them."""

    __slots__ = ("monotonic_ms", "now_ms")

    def __init__(self, now_ms: int = 0, monotonic_ms: int = 0) -> None:
        self.now_ms = now_ms
        self.monotonic_ms = monotonic_ms

    def set(self, now_ms: int, monotonic_ms: int) -> None:
        """Take both readings at the start of a turn."""
        self.now_ms = now_ms
        self.monotonic_ms = monotonic_ms
