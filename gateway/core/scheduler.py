"""Timers without threads: the loop asks "when next?" and calls `run_due`.

A heap of (due, sequence, timer). Cancelling marks the timer and leaves it in the heap; the
heap is swept when more than half of it is dead, so a million cancelled timers cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from .clock import Clock

SWEEP_MIN = 64  # below this a sweep costs more than it frees


class Timer:
    """Something to call later; `cancel` is idempotent."""

    __slots__ = ("call", "due_ms", "live")

    def __init__(self, due_ms: int, call: Callable[[], None]) -> None:
        self.due_ms = due_ms
        self.call = call
        self.live = True


class Scheduler:
    """All timers of the core, on the monotonic clock."""

    __slots__ = ("_clock", "_dead", "_heap", "_sequence")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._dead = 0

    @property
    def now_ms(self) -> int:
        """The monotonic time of this turn."""
        return self._clock.monotonic_ms

    def after(self, delay_ms: int, call: Callable[[], None]) -> Timer:
        """Call once, `delay_ms` from now."""
        timer = Timer(self._clock.monotonic_ms + max(0, delay_ms), call)
        self._sequence += 1
        heappush(self._heap, (timer.due_ms, self._sequence, timer))
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Forget a timer; None and fired timers are fine."""
        if timer is None or not timer.live:
            return
        timer.live = False
        self._dead += 1
        if self._dead > SWEEP_MIN and self._dead * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].live]
            heapify(self._heap)
            self._dead = 0

    def next_due_ms(self) -> int | None:
        """Return the monotonic time of the earliest timer, or None."""
        heap = self._heap
        while heap and not heap[0][2].live:
            heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else None

    def run_due(self) -> int:
        """Call every timer that is due; return how many. Timers set meanwhile wait for the next call."""
        now = self._clock.monotonic_ms
        due: list[Timer] = []
        while (when := self.next_due_ms()) is not None and when <= now:
            due.append(heappop(self._heap)[2])
        count = 0
        for timer in due:
            if timer.live:
                timer.live = False
                timer.call()
                count += 1
        return count
