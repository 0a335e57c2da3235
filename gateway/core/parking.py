"""Deliveries that wait for their next attempt, by the time when it comes.

What is given back in one turn with one pause comes back together: one timer, and each in its
place without a search.
"""

from __future__ import annotations

from collections.abc import Callable

from .delivery import UNLOADED, Delivery, by_offset
from .scheduler import Scheduler


class Parking:
    """`come_back` gets what is due, of any queues, the last of each first."""

    __slots__ = ("_batches", "_come_back", "_scheduler")

    def __init__(self, scheduler: Scheduler, come_back: Callable[[list[Delivery]], None]) -> None:
        self._scheduler = scheduler
        self._come_back = come_back
        self._batches: dict[int, list[Delivery]] = {}  # by when they are due, monotonic ms

    def hold(self, delivery: Delivery, delay_ms: int) -> None:
        """Keep a delivery out of its queue; it counts as waiting until its time has come."""
        group = delivery.group
        group.parked[delivery.offset] = delivery
        if delivery.position and len(group.parked) > group.queue.memory_messages_max:
            delivery.message = UNLOADED  # it is in the log
        due_ms = self._scheduler.now_ms + delay_ms
        batch = self._batches.get(due_ms)
        if batch is not None:
            batch.append(delivery)
            return
        self._batches[due_ms] = [delivery]
        self._scheduler.after(delay_ms, lambda: self._over(due_ms))

    def _over(self, due_ms: int) -> None:
        due: list[Delivery] = []
        for delivery in self._batches.pop(due_ms):
            parked = delivery.group.parked
            if parked.get(delivery.offset) is delivery:  # or its queue is gone, or was moved
                del parked[delivery.offset]
                due.append(delivery)
        due.sort(key=by_offset, reverse=True)
        if due:
            self._come_back(due)
