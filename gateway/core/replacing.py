"""What is settled because something else was stored: a dead letter, or the next value of a key.

The one goes only once the other is on disk, so that a crash, a full disk or a disk that fails
may leave both, never neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .clock import Clock
from .engine import StorageEngine


class Replacement(NamedTuple):
    """The message at `position` of a queue goes when that at `by` is on disk; `ended` is told whether."""

    by: int
    queue_id: int
    position: int
    outcome: int
    ended: Callable[[bool], None]


class Replacements:
    """Those under way, in the order of `by`."""

    __slots__ = ("_clock", "_engine", "_waiting")

    def __init__(self, engine: StorageEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._waiting: deque[Replacement] = deque()

    def add(self, queue_id: int, position: int, outcome: int, by: int, ended: Callable[[bool], None]) -> None:
        """Note one; `by` 0 is nothing that could be waited for."""
        if by > 0:
            self._waiting.append(Replacement(by, queue_id, position, outcome, ended))
            return
        self._engine.settle(queue_id, (position,), outcome, self._clock.now_ms)
        ended(True)

    def settle(self) -> bool:
        """Settle those whose time has come; tell whether there were any."""
        waiting, engine = self._waiting, self._engine
        done = False
        while waiting:
            stored = engine.stored(waiting[0].by)
            if stored is None:
                break
            found = waiting.popleft()
            done = True
            if stored:
                engine.settle(found.queue_id, (found.position,), found.outcome, self._clock.now_ms)
            found.ended(stored)
        return done

    def rolled_back(self, first: int) -> None:
        """What was to be stored from a position on was not."""
        waiting = self._waiting
        undone = [found for found in waiting if found.by >= first]
        if undone:
            self._waiting = deque(found for found in waiting if found.by < first)
            for found in undone:
                found.ended(found.position >= first)  # or it is not there, either


def nothing_more(settled: bool) -> None:
    """What was to be replaced is still there, or is not: nothing has to be done about it."""
