"""The AMQP door: 0-9-1 with RabbitMQ's extensions.

frames, methods, tables, properties   how it looks: sans-I/O
names, translate                      topics and properties to the model's and back
rules, exchanges, vhost, arguments    what exists, and how it routes
handshake, connection, channel        a client's conversation
publisher, consumers, letters         what goes in, out, and nowhere
store                                 how it survives a restart
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from gateway.api import Connection, Gateway, Protocol, Transport
from gateway.core.queue import Queue
from gateway.hookspecs import hookimpl

from . import names
from .connection import AmqpConnection
from .exchanges import Exchange
from .store import Store
from .vhost import Declared, Vhost


class Vhosts:
    """All virtual hosts by name."""

    def __init__(self, gateway: Gateway) -> None:
        self._broker = gateway.broker
        self._store = Store(gateway.broker.engine)
        self.all: dict[str, Vhost] = {}
        gateway.broker.catalog.deleted.append(self._gone)

    def get(self, name: str) -> Vhost | None:
        """Return one, or None."""
        return self.all.get(name)

    def restore(self) -> None:
        """Make what was there before the restart."""
        self._make(names.DEFAULT_VHOST)
        for name, _ in self._store.vhosts():
            self._make(name)
        for name, exchange, fields in self._store.exchanges():
            vhost = self.all.get(name)
            if vhost is not None and exchange not in vhost.exchanges:
                vhost.restore_exchange(
                    exchange,
                    fields["kind"],
                    True,
                    fields["auto_delete"],
                    fields["internal"],
                    fields["arguments"],
                )
        self._restore_queues()
        self._restore_bindings()

    def _make(self, name: str) -> None:
        if name not in self.all:
            self.all[name] = Vhost(name, self._broker, self._store)

    def _restore_queues(self) -> None:
        for core_name, fields in self._store.queues():
            queue = self._broker.catalog.queues.get(core_name)
            name, queue_name = names.core_to_queue(core_name)
            vhost = self.all.get(name)
            if queue is None or vhost is None:
                self._store.drop_queue(core_name)
            else:
                vhost.restore_queue(queue_name, queue, fields["arguments"])

    def _restore_bindings(self) -> None:
        for name, source_name, kind, destination, key, arguments, stored in self._store.bindings():
            vhost = self.all.get(name)
            source = vhost.exchanges.get(source_name) if vhost is not None else None
            to: Declared | Exchange | None = None
            if vhost is not None and kind == "queue":
                to = vhost.find(names.core_to_queue(destination)[1])
            elif vhost is not None:
                to = vhost.exchanges.get(destination)
            if vhost is None or source is None or to is None:
                self._store.drop(stored)
            else:
                vhost.bind(source, to, key, arguments, keep=False)

    def _gone(self, queue: Queue) -> None:
        vhost = self.all.get(names.core_to_queue(queue.name)[0])
        if vhost is not None:
            vhost.gone(queue)


class Amqp:
    """Implements `gateway.api.ConnectionProtocol`; holds what all connections share."""

    name = "amqp"
    address = "127.0.0.1:5672"
    websocket_path = ""
    websocket_subprotocol = ""

    vhosts: Vhosts

    def __init__(self, config: Any) -> None:
        settings = config.amqp
        self.frame_max: Final[int] = settings.frame_bytes_max
        self.channels_max: Final[int] = settings.channels_max
        self.heartbeat_seconds: Final[int] = settings.heartbeat_seconds
        self.body_max: Final[int] = config.limits.body_bytes_max
        self.connections: set[AmqpConnection] = set()

    def start(self, gateway: Gateway) -> None:
        """Take over exchanges and bindings that recovery found."""
        self.vhosts = Vhosts(gateway)
        self.vhosts.restore()

    def connect(self, transport: Transport, gateway: Gateway) -> Connection:
        """A client has arrived."""
        return AmqpConnection(self, transport, gateway)


@hookimpl
def gateway_protocols(config: Any) -> Iterable[Protocol]:
    """Offer the AMQP door."""
    return [Amqp(config)]
