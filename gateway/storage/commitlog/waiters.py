"""Who waits for what to be stored, in order, and what "stored" takes.

Most messages have to be on disk. For some it is enough that the operating system has them;
whoever waits for such a message waits for the disk all the same while something before it has
to be there, so that answers come in the order of the questions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .sync import Syncer

Callback = Callable[[bool], None]


class Waiters:
    """`must_sync` is the newest position that has to be on disk."""

    __slots__ = ("_disk", "_system", "must_sync")

    def __init__(self) -> None:
        self.must_sync = 0
        self._disk: deque[tuple[int, Callback]] = deque()
        self._system: list[tuple[int, Callback]] = []

    def __bool__(self) -> bool:
        """Tell whether anybody waits for the disk."""
        return bool(self._disk)

    def add(self, position: int, call: Callback, written: int, syncer: Syncer) -> None:
        """Call once a position is stored; at once if it is."""
        synced = syncer.synced
        if position < synced and not self._disk:
            call(not syncer.lost(position))
        elif self.must_sync < synced and not self._disk:
            if position < written and not self._system:
                call(True)
            else:
                self._system.append((position, call))
        else:
            self._disk.append((position, call))
            if position < written:
                syncer.hurry()

    def written(self, written: int) -> None:
        """The operating system has everything up to a position."""
        if self._system:
            told, self._system = self._system, []
            for position, call in told:
                call(position < written)

    def synced(self, syncer: Syncer) -> None:
        """The disk has everything up to `syncer.synced`, or never will."""
        waiting, synced = self._disk, syncer.synced
        while waiting and waiting[0][0] < synced:
            position, call = waiting.popleft()
            call(position >= 0 and not syncer.lost(position))

    def failed(self, written: int) -> None:
        """What comes after a position was not written, and never will be: `synced` tells them so."""
        # A negative position: it is told so in its turn. What was written before the failure will be
        # stored, even if the rest of its turn was to begin a new segment.
        self._disk = deque((p, call) if p < written else (-1, call) for p, call in self._disk)
        self._disk.extend((-1, call) for p, call in self._system if p >= written)
        self._system = [(p, call) for p, call in self._system if p < written]
