"""The CoAP door: RFC 7252 over UDP, RFC 8323 over TCP and WebSocket (`/.well-known/coap`).

numbers, codec        what can be said, and how it looks: sans-I/O
exchange              what travels between transports and resources
datagrams, streams    UDP and DTLS; TCP, TLS and WebSocket
oscore                what is protected end to end
blockwise, transfers  large payloads, in blocks (RFC 7959)
clients               whose request it is
resources, answers    which part of the door a path leads to, and what becomes of errors
topics                /ps: publish, values, observations
queues                /queues: receive and settle; commands for devices that sleep
pubsub                /pst: topics as the draft on CoAP pub/sub has them
discovery             /.well-known/core
content               what a payload is: Content-Formats, envelopes, SenML
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.api import Address, Connection, Gateway, Protocol, Series, Transport
from gateway.hookspecs import hookimpl

from .blockwise import Blockwise
from .clients import Clients
from .codec import OptionsCache
from .content.splitting import read_rules
from .datagrams.guard import Guard
from .datagrams.messages import MessageLayer
from .datagrams.udp import UdpSocket
from .discovery.discovery import Discovery
from .oscore.oscore import Oscore
from .pubsub.configurations import Configurations
from .pubsub.pubsub import PubSub
from .pubsub.topic_config import COLLECTION
from .queues.pending import Pending
from .queues.pulls import Pulls
from .queues.queues import Queues
from .queues.workers import Workers
from .resources import Resources
from .streams.stream import Streams
from .topics.observe import Observers
from .topics.topics import Topics


class Coap:
    """A `ConnectionProtocol`, `MessageProtocol`, `DatagramProtocol`; holds what all clients share."""

    name = "coap"
    address = "127.0.0.1:5683"
    websocket_path = "/.well-known/coap"  # RFC 8323, 8.2
    websocket_subprotocol = "coap"

    observers: Observers
    resources: Resources
    blockwise: Blockwise
    guard: Guard
    oscore: Oscore
    layer: MessageLayer
    streams: Streams
    pulls: Pulls
    workers: Workers

    def __init__(self, config: Any) -> None:
        self.settings = config.coap
        self._limits = config.limits
        self._packs = read_rules(config.coap.senml, config.coap.senml_values)
        self.peers_max: int = config.limits.connections_max
        self.body_bytes_max: int = config.limits.body_bytes_max
        self._sockets: list[UdpSocket] = []

    def start(self, gateway: Gateway) -> None:
        """Put the parts of the door together."""
        clients = Clients(gateway, self.settings)
        configurations = Configurations(gateway)
        configurations.restore()
        observers = Observers(gateway, clients, configurations)
        self.resources = Resources(gateway, clients)
        self.resources.on_reset.append(observers)
        discovery = Discovery(gateway, configurations)
        pubsub = PubSub(gateway, configurations, discovery)
        self.pulls = Pulls(gateway)
        self.workers = Workers(gateway)
        self.resources.on_reset += [self.pulls, self.workers]
        clients.on_gone += [self.pulls.client_gone, self.workers.client_gone]
        pending = Pending(gateway, self.pulls)
        topics = Topics(gateway, observers, self._packs, pubsub, pending)
        self.resources.table["queues"] = Queues(gateway, topics, self.pulls, self.workers)
        self.resources.table |= {"ps": topics, COLLECTION: pubsub, ".well-known": discovery}
        settings = self.settings
        self.blockwise = Blockwise(
            self.resources, gateway.scheduler, self.body_bytes_max, settings.transfer_seconds
        )
        self.oscore = Oscore(gateway, self.blockwise)
        observers.blockwise = self.workers.blockwise = self.blockwise
        self.observers = observers
        gateway.series.append(self._numbers)
        self.guard = Guard(gateway.clock, settings.trusted_networks, settings.requests_per_second_max)
        self.layer = MessageLayer(gateway, self.oscore, self.guard)
        self.streams = Streams(gateway, self.oscore, OptionsCache(), self._limits, settings.ping_seconds)

    def connect(self, transport: Transport, gateway: Gateway) -> Connection:
        """A client has arrived by TCP or TLS."""
        return self.streams.connect(transport)

    def connect_messages(self, transport: Transport, gateway: Gateway) -> Connection:
        """A client has arrived by WebSocket."""
        return self.streams.connect(transport, whole_messages=True)

    async def listen_datagrams(self, address: Address, gateway: Gateway) -> None:
        """Open a UDP socket. Raise OSError."""
        udp = UdpSocket(gateway, self.layer, self.peers_max)
        if address.tls:
            from .datagrams.dtls_peers import DtlsPeers  # OpenSSL: only for who wants it

            udp.dtls = DtlsPeers(gateway, self.layer, udp, address.tls, self.settings.dtls_idle_seconds)
        udp.open(address)
        self._sockets.append(udp)

    async def stop(self) -> None:
        """Answer who waits for a message, and close the sockets."""
        self.pulls.stop()
        for udp in self._sockets:
            udp.close()
        self._sockets.clear()
        self.blockwise.close()

    def _numbers(self) -> Iterable[Series]:
        """Return what /metrics says of this door."""
        lost = sum(udp.lost for udp in self._sockets)
        return [
            Series("gateway_coap_peers", "Clients by datagrams", [((), self.connections())]),
            Series("gateway_coap_observations", "Observations", [((), len(self.observers))]),
            Series("gateway_coap_waiting", "Requests that wait for a message", [((), len(self.pulls))]),
            Series("gateway_coap_workers", "Observations of queues", [((), len(self.workers))]),
            Series("gateway_coap_malformed", "No messages of CoAP", [((), self.layer.malformed)], (), True),
            Series("gateway_coap_lost", "Datagrams there was no room for", [((), lost)], (), True),
        ]

    def connections(self) -> int:
        """Return how many peers there are."""
        return sum(len(udp) for udp in self._sockets)


@hookimpl
def gateway_protocols(config: Any) -> Iterable[Protocol]:
    """Offer the CoAP door."""
    return [Coap(config)]
