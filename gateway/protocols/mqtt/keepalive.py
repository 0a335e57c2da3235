"""Keep alive without a timer per client: one wheel of seconds for all connections.

A client that sent nothing for one and a half times its keep alive is gone [MQTT-3.1.2-22].
Traffic only stores a time; the wheel looks at a client when its time could be over and, if
it has spoken since, moves it on.
"""

from __future__ import annotations

from typing import Protocol

from gateway.core.scheduler import Scheduler

TICK_MS = 1000  # the unit of keep alive


class Watched(Protocol):
    """A connection with a keep alive."""

    received_ms: int
    keep_alive_ms: int  # already one and a half times the client's
    keep_alive_slot: int  # when it is to be looked at; the wheel's own note

    def silent(self) -> None:
        """The client has not been heard in time."""


class KeepAlive:
    """Seconds (monotonic) -> connections to look at then."""

    __slots__ = ("_scheduler", "_second", "_slots", "_ticking")

    def __init__(self, scheduler: Scheduler, now_ms: int) -> None:
        self._scheduler = scheduler
        self._slots: dict[int, set[Watched]] = {}
        self._second = now_ms // TICK_MS
        self._ticking = False

    def watch(self, connection: Watched) -> None:
        """Look after a connection until `forget`."""
        due = (connection.received_ms + connection.keep_alive_ms) // TICK_MS + 1
        connection.keep_alive_slot = slot = max(due, self._second + 1)
        self._slots.setdefault(slot, set()).add(connection)
        if not self._ticking:
            self._ticking = True
            self._scheduler.after(TICK_MS, self._tick_again)

    def forget(self, connection: Watched) -> None:
        """The connection is closed."""
        slot = self._slots.get(connection.keep_alive_slot)
        if slot is not None:
            slot.discard(connection)

    def tick(self, now_ms: int) -> None:
        """Look at every slot that has come up."""
        second = now_ms // TICK_MS
        for slot in range(self._second + 1, second + 1):
            for connection in self._slots.pop(slot, ()):
                if connection.received_ms + connection.keep_alive_ms <= now_ms:
                    connection.silent()
                else:
                    self.watch(connection)
        self._second = max(self._second, second)

    def _tick_again(self) -> None:
        self.tick(self._scheduler.now_ms)
        if self._slots:
            self._scheduler.after(TICK_MS, self._tick_again)
        else:
            self._ticking = False
