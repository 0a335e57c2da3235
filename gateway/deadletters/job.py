"""Sending letters on, at a bounded rate: a job that can be watched and stopped.

Each letter is sent on, or is still there: one group in the log. A job itself survives no restart;
what it had not come to waits as before. Letters that were made after it began are not its own, so
that what dies again at once does not go round.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Final

from gateway.core import deadletter
from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.errors import NotFound, QueueFull
from gateway.core.message import Message
from gateway.core.queue import Queue
from gateway.core.scheduler import Timer
from gateway.core.selector import Predicate

from .letters import READ_TOGETHER, Letter, as_seen, find

TICK_MS: Final = 100  # between two portions: smooth enough for whoever gets them
RATE_DEFAULT: Final = 100  # letters a second: what failed once is fed slowly
RATE_MAX: Final = 10_000
LOOKED_AT_MAX: Final = 1000  # letters a tick looks at to find those that are wanted: some milliseconds
REASONS_MAX: Final = 20  # different ones of those left

ORIGIN: Final = "origin"


class Order:
    """What is to be sent on, and where: a topic, or `origin`, the queue that each died in."""

    __slots__ = ("limit", "positions", "selector", "to", "wanted")

    def __init__(
        self, to: str, selector: str, wanted: Predicate | None, positions: Sequence[int] | None, limit: int
    ) -> None:
        self.to = to
        self.selector = selector
        self.wanted = wanted
        self.positions = None if positions is None else deque(positions)  # None: all of the queue
        self.limit = limit  # 0: any number


class Job:
    """One replay of one queue's letters."""

    def __init__(self, broker: Broker, number: int, queue: ClassicQueue, order: Order, rate: int) -> None:
        self._broker = broker
        self.number = number
        self.queue = queue
        self.order = order
        self.rate = rate
        self.state = "running"
        self.sent = self.looked_at = 0
        self.left: Counter[str] = Counter()  # why letters were not sent on -> how many
        self._after = 0
        self._end = broker.engine.position()
        self._more = True
        self._owed = 0.0  # letters that may go now
        self._timer: Timer | None = None

    def start(self) -> None:
        """Send the first portion with the next turn."""
        self._timer = self._broker.scheduler.after(0, self._tick)

    def stop(self, state: str = "stopped") -> None:
        """End it; what was sent is sent."""
        if self.state == "running":
            self.state = state
            self._broker.scheduler.cancel(self._timer)

    def shown(self) -> dict[str, Any]:
        """Return its progress."""
        return {
            "id": self.number,
            "queue": self.queue.name,
            "to": self.order.to,
            "selector": self.order.selector,
            "rate": self.rate,
            "state": self.state,
            "sent": self.sent,
            "looked_at": self.looked_at,
            "left": dict(self.left),
            "waiting": self.queue.length(),
        }

    def _tick(self) -> None:
        self._owed = min(self._owed + self.rate * TICK_MS / 1000, float(max(1, self.rate)))
        if self._broker.catalog.queues.get(self.queue.name) is not self.queue:
            self.stop("its queue was deleted")
            return
        count = min(int(self._owed), LOOKED_AT_MAX)
        portion = self._scanned(count) if self.order.positions is None else self._given(count)
        for letter in portion:
            if self._over():
                return
            self._send(letter)
        if self._over():
            return
        if not self._more:
            self.stop("done")
            return
        self._timer = self._broker.scheduler.after(TICK_MS, self._tick)

    def _over(self) -> bool:
        if self.order.limit and self.sent >= self.order.limit:
            self.stop("done")
        return self.state != "running"

    def _given(self, count: int) -> list[Letter]:
        """Return the next letters whose positions were given."""
        positions = self.order.positions
        assert positions is not None
        found: list[Letter] = []
        while positions and len(found) < count:
            position = positions.popleft()
            self.looked_at += 1
            try:
                found.append(find(self._broker, self.queue, position))
            except NotFound as error:
                self._leave(error.detail)
        self._more = bool(positions)
        return found

    def _scanned(self, count: int) -> list[Letter]:
        """Return the next letters that are wanted, if there are some among those it can look at now."""
        found: list[Letter] = []
        looked, wanted = 0, self.order.wanted
        while len(found) < count and looked < LOOKED_AT_MAX and self._more:
            entries = self._broker.engine.after(self.queue.queue_id, self._after, READ_TOGETHER)
            self._more = bool(entries)
            for entry in entries:
                if entry.position > self._end:
                    self._more = False
                    break
                if len(found) >= count:
                    break
                self._after = entry.position
                looked += 1
                if entry.message is None:
                    continue
                letter = Letter(entry.position, entry.message, entry.stored_at_ms)
                if wanted is None or wanted(as_seen(letter, self._broker.clock.now_ms)):
                    found.append(letter)
        self.looked_at += looked
        return found

    def _send(self, letter: Letter) -> None:
        try:
            to, message = self.made(letter)
            if self._broker.letters.send_on(self.queue, letter.position, message, to) is not None:
                self.sent += 1
                self._owed -= 1
            else:
                self._leave("in a consumer's hands")
        except NotFound as error:
            self._leave(error.detail)
        except QueueFull as error:
            self._leave(error.detail)
            self.stop("its target is full")

    def made(self, letter: Letter) -> tuple[Queue | None, Message]:
        """Return the queue (None: by its topic) and the message that is sent on. Raise NotFound."""
        message, properties = letter.message, deadletter.revived(letter.message.properties)
        if self.order.to != ORIGIN:
            return None, message.with_topic(self.order.to, properties)
        header = message.properties.header
        name, topic = header(deadletter.QUEUE), header(deadletter.TOPIC)
        queue = self._broker.catalog.queues.get(str(name))
        if queue is None or topic is None:
            raise NotFound(f"its queue {name!r} is gone: say where to send it")
        if queue.kind == "stream":
            raise NotFound(f"{name!r} is a stream: its other groups would get it twice; say where to send it")
        return queue, message.with_topic(str(topic), properties)

    def _leave(self, why: str) -> None:
        if why in self.left or len(self.left) < REASONS_MAX:
            self.left[why] += 1
        else:
            self.left["other reasons"] += 1
