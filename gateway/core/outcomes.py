"""What became of transactions that ended not long ago: a lost answer can be asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .half import HALF_QUEUE_ID, Half
from .message import Outcome

if TYPE_CHECKING:
    from .broker import Broker

REMEMBERED_MS: Final = 24 * 3600 * 1000  # a producer's day off
REMEMBERED_MAX: Final = 100_000  # about 700 bytes each; the oldest go first


class Outcomes:
    """By principal and id, the oldest end first. `remembered_ms` is for how long."""

    __slots__ = ("_broker", "_known", "_waiting", "remembered_ms")

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._known: dict[tuple[str, str], Half] = {}
        self._waiting = False  # a timer is set
        self.remembered_ms = REMEMBERED_MS

    def __iter__(self) -> Iterator[Half]:
        self._forget()
        return iter(self._known.values())

    def get(self, key: tuple[str, str]) -> Half | None:
        """Return one that is remembered."""
        if self._known:
            self._forget()
        return self._known.get(key)

    def add(self, half: Half) -> None:
        """Remember one."""
        self._known[half.key] = half
        self._forget()
        if not self._waiting:
            self._wait(self.remembered_ms)

    def restore(self, half: Half) -> None:
        """Take over one of the last run; then call `restored`."""
        before = self._known.pop(half.key, None)  # a failing disk may have had it twice
        if before is not None:
            self._settle(before)
        self._known[half.key] = half

    def restored(self) -> None:
        """All of the last run's are known."""
        if self._known:
            self._due()

    def _forget(self) -> None:
        """Let those go whose time is over, or that are too many."""
        broker, known = self._broker, self._known
        due_ms = broker.clock.now_ms - self.remembered_ms
        while known:
            half = known[next(iter(known))]
            if half.ended_ms > due_ms and len(known) <= REMEMBERED_MAX:
                return
            del known[half.key]
            self._settle(half)

    def _settle(self, half: Half) -> None:
        broker = self._broker
        broker.engine.settle(HALF_QUEUE_ID, (half.end_position,), Outcome.ACK, broker.clock.now_ms)
        broker.ready.wake()

    def _wait(self, delay_ms: int) -> None:
        self._waiting = True
        self._broker.scheduler.after(delay_ms, self._due)

    def _due(self) -> None:
        self._waiting = False
        self._forget()
        for half in self._known.values():
            self._wait(half.ended_ms + self.remembered_ms - self._broker.clock.now_ms)
            break
