"""Deliveries that a connected consumer holds for too long are taken back: `QueuePolicy.lease_ms`.

A consumer that hangs keeps its connection alive, and what it holds would wait for ever. What was taken
back goes to another consumer, with one attempt more; it goes on counting in the window of the one that
hangs, so that this does not swallow the whole queue. A late acknowledgement settles nothing, but
frees the window. What was received by pulling has a lease of its own (`lease.py`).

One timer a group: `Group.unsettled` is in the order of handing out, so the first is due first.
"""

from __future__ import annotations

from collections.abc import Callable

from .clock import Clock
from .delivery import LATE, Delivery, Group
from .scheduler import Scheduler

STEP_MS = 20  # how late a delivery may be taken back: those that are due close together are so at once


class Overdue:
    """`take_back` gives a delivery that nobody holds any more back to its queue."""

    __slots__ = ("_clock", "_scheduler", "_take_back")

    def __init__(self, scheduler: Scheduler, clock: Clock, take_back: Callable[[Delivery], None]) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._take_back = take_back

    def watch(self, group: Group) -> None:
        """A group with a lease has handed something out."""
        if not group.watched and group.unsettled:
            self._arm(group, group.queue.policy.lease_ms)

    def _arm(self, group: Group, delay_ms: int) -> None:
        group.watched = True
        self._scheduler.after(max(delay_ms, STEP_MS), lambda: self._look(group))

    def _look(self, group: Group) -> None:
        group.watched = False
        lease_ms = group.queue.policy.lease_ms
        if not lease_ms:
            return
        now_ms = self._clock.now_ms
        late: list[Delivery] = []
        for delivery in group.unsettled.values():
            consumer = delivery.consumer
            if consumer is None or not consumer.attached:
                continue  # under a lease of its own
            if not delivery.held_ms:
                delivery.held_ms = now_ms  # handed out before there was a policy
            left_ms = delivery.held_ms + lease_ms - now_ms
            if left_ms > 0:
                self._arm(group, left_ms)
                break
            late.append(delivery)
        for delivery in reversed(late):
            del group.unsettled[delivery.offset]
            delivery.held_ms = LATE
            self._take_back(delivery)

    def extend(self, delivery: Delivery) -> bool:
        """Begin a delivery's lease again; False if it is in nobody's hands any more."""
        unsettled = delivery.group.unsettled
        if unsettled.get(delivery.offset) is not delivery:
            return False
        del unsettled[delivery.offset]
        unsettled[delivery.offset] = delivery  # the last to be due
        delivery.held_ms = self._clock.now_ms
        return True
