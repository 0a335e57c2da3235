"""`connection.blocked`: publishers are told while the log cannot be written [RabbitMQ].

It begins when something could not be stored, and ends when something could: a key is written
every second until that succeeds, because those who are blocked publish nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from gateway.api import Gateway

from .methods import make

if TYPE_CHECKING:
    from . import Amqp
    from .connection import AmqpConnection

PROBE_KEY: Final = "amqp/probe"
PROBE_MS: Final = 1000
REASON: Final = "the log cannot be written"


class Blocking:
    """One for the door."""

    def __init__(self, amqp: Amqp, gateway: Gateway) -> None:
        self._amqp = amqp
        self._gateway = gateway
        self.active = False

    def failed(self) -> None:
        """Something could not be stored."""
        if not self.active:
            self.active = True
            self._tell_all(make(commands.Connection.Blocked, REASON))
            self._gateway.scheduler.after(PROBE_MS, self._probe)

    def opened(self, connection: AmqpConnection) -> None:
        """A client has come in the middle of it."""
        if self.active:
            self._tell(connection, make(commands.Connection.Blocked, REASON))

    def _probe(self) -> None:
        engine = self._gateway.broker.engine
        engine.put(PROBE_KEY, b"")
        engine.when_durable(engine.position(), self._probed)
        self._gateway.broker.ready.wake()

    def _probed(self, stored: bool) -> None:
        if stored:
            self.active = False
            self._tell_all(make(commands.Connection.Unblocked))
        else:
            self._gateway.scheduler.after(PROBE_MS, self._probe)

    def _tell_all(self, method: Any) -> None:
        for connection in self._amqp.connections:
            self._tell(connection, method)

    def _tell(self, connection: AmqpConnection, method: Any) -> None:
        if connection.can("connection.blocked"):
            connection.answer(method)
