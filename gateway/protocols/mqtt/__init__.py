"""The MQTT door: 3.1, 3.1.1 and 5.0 over TCP, Unix sockets and WebSocket (`/mqtt`).

packets, properties, reasons   what can be said
decoder, encoder               how it looks: sans-I/O
handshake, authentication      who it is, under which terms
connection                     what it means
inbound, outbound, subscribing what a session is made of
clients, keepalive             all clients together
translate                      properties to the model's and back
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.api import Connection, Gateway, Protocol, Transport
from gateway.core.policy import QueuePolicy
from gateway.hookspecs import hookimpl

from .clients import Clients
from .connection import MqttConnection
from .keepalive import KeepAlive

CLIENT_ID_MAX = 512  # characters; the standard demands 23, certificates and UUIDs need more


class Mqtt:
    """Implements `gateway.api.ConnectionProtocol`; holds what all connections share."""

    name = "mqtt"
    address = "127.0.0.1:1883"
    websocket_path = "/mqtt"
    websocket_subprotocol = "mqtt"  # [MQTT-6.0.0-3]

    clients: Clients
    keep_alive: KeepAlive

    def __init__(self, config: Any) -> None:
        settings = config.mqtt
        self.client_id_max = CLIENT_ID_MAX
        self.packet_bytes_max: int = config.limits.packet_bytes_max
        self.receive_max: int = settings.receive_maximum
        self.receive_max_v3: int = settings.receive_maximum
        self.alias_max: int = settings.topic_alias_maximum
        self.retain_available: bool = settings.retain_available
        self.keep_alive_max: int = settings.keep_alive_seconds_max
        self.expiry_max: int = settings.session_expiry_seconds_max
        self.inbox_messages_max: int = config.limits.receiver_messages_max
        self.cut_denied: bool = config.auth.on_denied == "disconnect"
        self.session_policy = QueuePolicy(max_length=settings.queue_length_max)

    def start(self, gateway: Gateway) -> None:
        """Take over the sessions that recovery found."""
        self.keep_alive = KeepAlive(gateway.scheduler, gateway.clock.monotonic_ms)
        self.clients = Clients(gateway)
        self.clients.restore()

    def connect(self, transport: Transport, gateway: Gateway) -> Connection:
        """A client has arrived."""
        return MqttConnection(self, transport, gateway)


@hookimpl
def gateway_protocols(config: Any) -> Iterable[Protocol]:
    """Offer the MQTT door."""
    return [Mqtt(config)]
