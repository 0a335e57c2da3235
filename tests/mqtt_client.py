"""A blocking MQTT client over our own codec, for tests that need to see every packet."""

from __future__ import annotations

import socket
import time
from typing import Any, TypeVar

from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.encoder import encode_ack, encode_connect, encode_publish, encode_subscribe
from gateway.protocols.mqtt.packets import (
    PUBACK,
    V5,
    V311,
    Connack,
    Connect,
    Packet,
    Puback,
    Publish,
    Suback,
    SubscribeOption,
)

P = TypeVar("P", bound=Packet)


#: Every socket opened in a test; the fixture `close_sockets` closes what the test left open.
OPENED: list[socket.socket] = []


class MqttClient:
    """One connection. Packets that nobody asked for yet wait in `inbox`."""

    def __init__(
        self, port: int, client_id: str, version: int = V311, clean: bool = True, **connect: Any
    ) -> None:
        self.version = version
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        OPENED.append(self.sock)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.decoder = Decoder(version, server=False)
        self.inbox: list[Packet] = []
        self.send(encode_connect(Connect(version, client_id, clean, **connect)))
        self.connack = self.expect(Connack)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def pump(self, seconds: float) -> bool:
        """Read once, waiting at most so long; False at the end of the stream."""
        self.sock.settimeout(max(0.001, seconds))
        try:
            data = self.sock.recv(1 << 18)
        except TimeoutError:
            return True
        self.inbox += self.decoder.feed(data)
        assert self.decoder.error is None, self.decoder.error
        return bool(data)

    def expect(self, kind: type[P], seconds: float = 10) -> P:
        """Return the next packet of a kind, leaving others in the inbox."""
        deadline = time.monotonic() + seconds
        while True:
            for index, packet in enumerate(self.inbox):
                if isinstance(packet, kind):
                    return self.inbox.pop(index)  # type: ignore[return-value]
            left = deadline - time.monotonic()
            assert left > 0, f"no {kind.__name__} within {seconds} s"
            assert self.pump(left) or self.inbox, f"closed while waiting for {kind.__name__}"

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """Subscribe; return the reasons."""
        self.send(encode_subscribe(self.version, 1, [SubscribeOption(name, qos) for name in filters]))
        return self.expect(Suback).reasons

    def publish(
        self, topic: str, body: bytes, qos: int = 1, packet_id: int = 1, retain: bool = False
    ) -> None:
        self.send(
            encode_publish(self.version, topic.encode(), body, qos, retain, False, packet_id if qos else 0)
        )

    def publish_stored(self, topic: str, body: bytes, packet_id: int = 1) -> int:
        """Publish at QoS 1; return the reason of the PUBACK."""
        self.publish(topic, body, 1, packet_id)
        return self.expect(Puback).reason

    def receive(self, seconds: float = 10) -> Publish:
        """Return the next message, acknowledged."""
        packet = self.expect(Publish, seconds)
        if packet.qos == 1:
            self.send(encode_ack(self.version, PUBACK, packet.packet_id))
        return packet

    def closed_by_peer(self, seconds: float = 10) -> bool:
        """Wait for the end of the stream."""
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                if not self.pump(deadline - time.monotonic()):
                    return True
        except ConnectionError:
            return True
        return False

    def close(self) -> None:
        self.sock.close()


__all__ = ["V5", "V311", "MqttClient"]
