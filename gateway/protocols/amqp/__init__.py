"""The AMQP door: 0-9-1 with RabbitMQ's extensions.

frames, methods, tables, properties   how it looks: sans-I/O
names, translate                      topics and properties to the model's and back
rules, exchanges, arguments, streams  how it routes, what queues are to be
vhost, vhosts, policies, definitions  what exists
handshake, connection, channel        a client's conversation
blocking                              what all clients are told
publisher, consumers, letters         what goes in, out, and nowhere
transactions, delays                  what goes together, what waits
store                                 how it survives a restart
management/                           RabbitMQ's management API, on the HTTP door
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.api import Connection, Gateway, HttpAnswer, HttpRequest, Protocol, Transport
from gateway.hookspecs import hookimpl

from .blocking import Blocking
from .connection import AmqpConnection
from .delays import Delays
from .management import Management
from .translate import NATIVE
from .vhosts import Vhosts


class Amqp:
    """Implements `gateway.api.ConnectionProtocol`; holds what all connections share."""

    name = "amqp"
    address = "127.0.0.1:5672"
    websocket_path = ""
    websocket_subprotocol = ""

    http_prefixes = ("/api/",)

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
        broker = gateway.broker
        broker.schedules.release[NATIVE] = Delays(self.vhosts, broker.router).release
        self.blocking = Blocking(self, gateway)
        self._management = Management(self, gateway)

    def http_document(self) -> Mapping[str, Any]:
        """RabbitMQ's own documentation describes it."""
        return {}

    async def answer_http(self, request: HttpRequest) -> HttpAnswer:
        """Serve RabbitMQ's management API."""
        return self._management.answer(request)

    def connect(self, transport: Transport, gateway: Gateway) -> Connection:
        """A client has arrived."""
        return AmqpConnection(self, transport, gateway)


@hookimpl
def gateway_protocols(config: Any) -> Iterable[Protocol]:
    """Offer the AMQP door."""
    return [Amqp(config)]
