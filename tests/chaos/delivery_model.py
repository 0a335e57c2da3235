"""What becomes of messages, said plainly: a queue, its dead letters, a stream, schedules, transactions.

No clock but a number, no log, no consumers: a message is in exactly one of these places, or done
with. `Model.steps` are the states it has gone through since the last that is sure to be on disk: a
crash may leave any of them, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Final

DELIVERY_LIMIT: Final = 3
DUE_MAX: Final = 6  # at a time whose every part is a state


class State:
    """Where every message is. Names are bodies."""

    def __init__(self) -> None:
        self.waiting: dict[str, int] = {}  # in the queue, in consumers' hands or not -> attempts
        self.dead: dict[str, str] = {}  # -> cause
        self.stream: list[str] = []
        self.scheduled: dict[str, int] = {}  # -> when it is due, ms
        self.half: dict[str, list[str]] = {}  # open transaction -> its messages

    def copy(self) -> State:
        """Return one that does not change any more."""
        made = State()
        made.waiting, made.dead = dict(self.waiting), dict(self.dead)
        made.stream, made.scheduled = list(self.stream), dict(self.scheduled)
        made.half = {name: list(messages) for name, messages in self.half.items()}
        return made

    def places(self) -> tuple[object, ...]:
        """Return what can be compared.

        Attempts are journalled apart, and may be behind; what is overdue after a crash comes in any order.
        """
        half = {name: messages for name, messages in self.half.items() if messages}
        return (sorted(self.waiting), self.dead, sorted(self.stream), self.scheduled, half)


class Model:
    """The same operations as the gateway has."""

    def __init__(self) -> None:
        self.now = State()
        self.steps: list[State] = [self.now.copy()]

    def step(self) -> None:
        """Something has happened that a crash can come after."""
        self.steps.append(self.now.copy())

    def sure(self) -> None:
        """What is now is on disk."""
        self.steps = [self.now.copy()]

    def fell_back(self, places: tuple[object, ...]) -> bool:
        """After a crash: go on from the latest step that looks like this; False if none does."""
        for state in reversed(self.steps):
            if state.places() == places:
                self.now = state.copy()
                self.sure()
                return True
        return False

    # -- what clients do --------------------------------------------------------------------------

    def publish(self, name: str) -> None:
        self.now.waiting[name] = 0
        self.now.stream.append(name)
        self.step()

    def schedule(self, name: str, due_ms: int) -> None:
        self.now.scheduled[name] = due_ms
        self.step()

    def cancel(self, name: str) -> None:
        del self.now.scheduled[name]
        self.step()

    def prepare(self, transaction: str, name: str) -> None:
        self.now.half.setdefault(transaction, []).append(name)
        self.step()

    def commit(self, transaction: str) -> None:
        """All of it at once, or nothing."""
        for name in self.now.half.pop(transaction):
            self.now.waiting[name] = 0
            self.now.stream.append(name)
        self.step()

    def roll_back(self, transaction: str) -> None:
        del self.now.half[transaction]
        self.step()

    def acknowledge(self, name: str) -> None:
        del self.now.waiting[name]
        self.step()

    def fail(self, name: str) -> None:
        """The attempt counts, and one too many is a dead letter."""
        if self.now.waiting[name] >= DELIVERY_LIMIT:
            self.bury(name, "delivery_limit")

    def later(self, name: str) -> None:
        """The attempt does not count."""
        self.now.waiting[name] -= 1

    def bury(self, name: str, cause: str) -> None:
        """At once: it is in the one place or in the other."""
        del self.now.waiting[name]
        self.now.dead[name] = cause
        self.step()

    def replay(self, name: str) -> None:
        del self.now.dead[name]
        self.now.waiting[name] = 0
        self.step()

    def time_is(self, now_ms: int) -> None:
        """What is due is published: at a crash, any of it may be."""
        before = self.now.copy()
        due = [name for name, at in sorted(before.scheduled.items(), key=lambda one: one[1]) if at <= now_ms]
        for count in range(1, len(due) + 1):
            for some in combinations(due[-DUE_MAX:], count):
                self.now = before.copy()
                self._fire(some)
        self.now = before
        self._fire(due)

    def _fire(self, names: Iterable[str]) -> None:
        for name in names:
            del self.now.scheduled[name]
            self.now.waiting[name] = 0
            self.now.stream.append(name)
        self.step()
