"""The turn: everything that arrived together is delivered, logged and sent together.

The first event of a loop iteration begins a turn; at its end the broker delivers what became
ready, the log gets one write, and each socket gets one write, in this order, so that nothing
is sent about a delivery that is not journalled. Timers and completed disk syncs are turns too.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from .api import Flushable
from .core.broker import Broker
from .core.errors import NotStored

log = structlog.get_logger("gateway")

TURN_BYTES_MAX = 512 * 1024  # two full reads: the loop may offer thirty-two of one socket in a row
NOT_STORED_LOG_INTERVAL_MS = 5000  # a full disk fails every turn; one line in five seconds is enough


def _uptime() -> float:
    """Return the seconds this machine has been up; what it slept through counts, where the system tells."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if not hasattr(time, "CLOCK_BOOTTIME"):  # not Linux
    _uptime = time.monotonic


class Turn:
    """Drives one broker on one event loop."""

    __slots__ = (
        "_begun",
        "_broker",
        "_dirty",
        "_logged_ms",
        "_loop",
        "_taken",
        "_timer",
        "_timer_due_ms",
        "turns",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, broker: Broker) -> None:
        self._loop = loop
        self._broker = broker
        self._begun = False
        self._dirty: list[Flushable] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ms = 0
        self._logged_ms = -NOT_STORED_LOG_INTERVAL_MS
        self._taken = 0  # bytes received in this turn
        self.turns = 0

    def begin(self) -> None:
        """Take the time and have the turn ended after this round of events. Idempotent."""
        if self._begun:
            return
        self._begun = True
        self._broker.clock.set(int(time.time() * 1000), int(_uptime() * 1000))
        self._loop.call_soon(self._end)

    def took(self, size: int) -> None:
        """So many bytes were received and handled: a turn that has taken enough ends now.

        Otherwise one fast client fills memory and delays everybody until its socket is empty.
        """
        self._taken += size
        if self._taken >= TURN_BYTES_MAX:
            self._end()

    def dirty(self, socket: Flushable) -> None:
        """Have a socket flushed at the end of the turn."""
        if not self._begun:
            self.begin()
        self._dirty.append(socket)

    def notify(self) -> None:
        """The engine has completed something: callable from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._completed)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    def _completed(self) -> None:
        self.begin()
        self._broker.engine.completed()

    def _end(self) -> None:
        if not self._begun:
            return  # ended early, by `took`
        self.turns += 1
        self._begun = False
        self._taken = 0
        broker = self._broker
        more = broker.dispatch()
        try:
            broker.engine.flush()
        except NotStored as error:
            self._not_stored(error)
        else:
            broker.flushed()
        dirty = self._dirty
        if dirty:
            self._dirty = []
            for socket in dirty:
                socket.flush()
        if more:
            self.begin()
        self._arm()

    def _not_stored(self, error: NotStored) -> None:
        broker = self._broker
        broker.rollback(broker.engine.failed_from())
        now_ms = broker.clock.monotonic_ms
        if now_ms - self._logged_ms >= NOT_STORED_LOG_INTERVAL_MS:
            self._logged_ms = now_ms
            log.error("messages not stored; publishers are told so", reason=error.detail)

    def _arm(self) -> None:
        due_ms = self._broker.scheduler.next_due_ms()
        if due_ms is None or (self._timer is not None and self._timer_due_ms <= due_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due_ms = due_ms
        delay = max(0.0, due_ms / 1000 - time.monotonic()) + 0.0005
        self._timer = self._loop.call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.begin()
        self._broker.scheduler.run_due()

    def stop(self) -> None:
        """End the turn that is under way now, and set no more timers."""
        self._begun = True
        self._end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
