"""The time, as the shell last told it, without the jumps that a machine's clock makes.

The core never reads a clock: the shell sets it once per turn, tests set it at will. `now_ms` is
the gateway's own time: what is stored, expires or is counted is by it, and it goes on evenly
whatever an operator or a time server does to the wall clock. `wall_ms` is Unix time, for time
stamps that others see. They are the same until the wall clock jumps; from then on they are
`offset_ms` apart. `monotonic_ms` drives timers.

The last time known is kept with the metadata: a gateway that starts with a clock in the past
goes on from there, so that nothing that had expired comes back.
"""

from __future__ import annotations

from .engine import StorageEngine

JUMP_MS = 2000  # a time server that corrects a running clock does so in smaller steps
KEY = "meta/clock"
KEEP_INTERVAL_MS = 10_000  # how much of the time may be forgotten by a crash


class Clock:
    """Readings in milliseconds; plain attributes because the hot path reads them."""

    __slots__ = ("_kept", "_kept_at_ms", "monotonic_ms", "now_ms", "offset_ms", "wall_ms")

    def __init__(self, wall_ms: int = 0, monotonic_ms: int = 0) -> None:
        self.now_ms = wall_ms
        self.wall_ms = wall_ms
        self.monotonic_ms = monotonic_ms
        self.offset_ms = 0  # the wall clock is ahead by this
        self._kept = (0, 0)  # offset, and how much had been published
        self._kept_at_ms = 0

    def set(self, wall_ms: int, monotonic_ms: int) -> None:
        """Take both readings at the start of a turn."""
        now_ms = wall_ms - self.offset_ms
        if self.now_ms:
            drift_ms = now_ms - (self.now_ms + monotonic_ms - self.monotonic_ms)
            if not -JUMP_MS <= drift_ms <= JUMP_MS:
                self.offset_ms += drift_ms
                now_ms -= drift_ms
        self.now_ms = max(self.now_ms, now_ms)
        self.wall_ms = wall_ms
        self.monotonic_ms = monotonic_ms

    def own(self, wall_ms: int) -> int:
        """Return a time that somebody read from the wall clock in the gateway's own."""
        return wall_ms - self.offset_ms

    def shown(self, own_ms: int) -> int:
        """Return a time of the gateway's own as the wall clock has it now; 0 stays 0."""
        return own_ms + self.offset_ms if own_ms else 0

    # -- over a restart -----------------------------------------------------------------------

    def resume(self, engine: StorageEngine) -> str:
        """Go on from the last run's time; return a remark if the wall clock does not agree.

        Of the times it may be, as the wall clock may have been set again meanwhile, the earliest is
        taken that is not before the last one known: rather a message too many than one too few.
        """
        kept = engine.get(KEY)
        if kept is None:
            return ""
        last_ms, offset_ms = (int(number) for number in kept.split())
        now_ms = max(last_ms, min(self.wall_ms, self.wall_ms - offset_ms))
        self.offset_ms, self.now_ms = self.wall_ms - now_ms, now_ms
        if not self.offset_ms:
            return ""
        ahead = "ahead of" if self.offset_ms > 0 else "behind"
        return (
            f"the wall clock is {abs(self.offset_ms) / 1000:.0f} s {ahead} the time of this data, "
            "which goes on from where it was"
        )

    def keep(self, engine: StorageEngine, published: int) -> None:
        """Note the time for the next run, if anything was published, or the wall clock has jumped."""
        state = (self.offset_ms, published)
        due = self.monotonic_ms - self._kept_at_ms >= KEEP_INTERVAL_MS
        if state == self._kept or not (due or state[0] != self._kept[0]):
            return
        self._kept, self._kept_at_ms = state, self.monotonic_ms
        engine.put(KEY, b"%d %d" % (self.now_ms, self.offset_ms))
