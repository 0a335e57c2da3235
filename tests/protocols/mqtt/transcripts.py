"""Clients that talk packets to an in-process gateway: no sockets, time by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from gateway.config import load
from gateway.core.errors import GatewayError
from gateway.protocols.mqtt import Mqtt
from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.encoder import (
    encode_ack,
    encode_connect,
    encode_disconnect,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
)
from gateway.protocols.mqtt.packets import (
    PUBLISH,
    V5,
    V311,
    Connack,
    Connect,
    Packet,
    Publish,
    Suback,
    SubscribeOption,
    Unsuback,
)
from gateway.protocols.mqtt.properties import encode_properties
from gateway.testing import FakeClient, TestGateway

P = TypeVar("P", bound=Packet)
VERSIONS = (V311, V5)


class House:
    """A gateway with an MQTT door."""

    def __init__(self, *sets: str) -> None:
        self.gateway = TestGateway()
        self.protocol = Mqtt(load(None, sets, True, None))
        self.protocol.start(self.gateway)

    def client(self, version: int = V5) -> Client:
        """Return a client that has not said anything yet."""
        return Client(self, version)

    def connect(self, client_id: str = "c", version: int = V5, clean: bool = True, **more: Any) -> Client:
        """Return a client that was let in; `more` is for `Connect`."""
        client = self.client(version)
        client.connect(client_id, clean, **more)
        assert client.connack.reason == 0
        return client

    def wait(self, seconds: float) -> None:
        """Let time pass, a little at a time, as timers see it."""
        for _ in range(int(seconds * 2)):
            clock = self.gateway.clock
            clock.set(clock.now_ms + 500, clock.monotonic_ms + 500)
            self.gateway.scheduler.run_due()
            self.gateway.settle()

    def restart(self) -> None:
        """As after a stop of the gateway: the broker goes on, all clients are away, nobody remembers them."""
        self.protocol = Mqtt(load(None, (), True, None))
        self.protocol.start(self.gateway)


@contextmanager
def house(*sets: str) -> Iterator[House]:
    """Run a gateway; fail if one of its tasks failed by anything but a refusal."""
    made = House(*sets)
    try:
        yield made
        made.gateway.settle()
        assert [error for error in made.gateway.errors if not isinstance(error, GatewayError)] == []
    finally:
        made.gateway.close()


class Client:
    """One connection. `take` returns what has come and was not taken yet."""

    def __init__(self, house: House, version: int) -> None:
        self.version = version
        self._fake = FakeClient(house.gateway, house.protocol)
        self._decoder = Decoder(version, server=False)
        self._inbox: list[Packet] = []
        self._next_id = 0
        self.connack: Connack

    @property
    def closed(self) -> bool:
        """Whether the gateway has closed the connection."""
        return self._fake.transport.closed

    def send(self, data: bytes) -> list[Packet]:
        """Send bytes; return all packets that are there."""
        self._inbox += self._decoder.feed(self._fake.send(data))
        assert self._decoder.error is None, "the gateway sent what is no packet"
        return self.take()

    def take(self) -> list[Packet]:
        """Return and forget what has come."""
        self._inbox += self._decoder.feed(self._fake.received())
        assert self._decoder.error is None, "the gateway sent what is no packet"
        found, self._inbox = self._inbox, []
        return found

    def only(self, kind: type[P], packets: list[Packet]) -> P:
        """Return the only packet, which must be of a kind."""
        assert [type(packet) for packet in packets] == [kind], packets
        packet = packets[0]
        assert isinstance(packet, kind)
        return packet

    def connect(self, client_id: str, clean: bool = True, **more: Any) -> Connack:
        """Send CONNECT; return CONNACK. What comes behind it stays to be taken."""
        packets = self.send(encode_connect(Connect(self.version, client_id, clean, **more)))
        self.connack = self.only(Connack, packets[:1])
        self._inbox = packets[1:]
        return self.connack

    def id(self) -> int:
        """Return the next packet identifier."""
        self._next_id += 1
        return self._next_id

    def subscribe(self, *filters: str | SubscribeOption, qos: int = 1, ids: int = 0) -> list[int]:
        """Subscribe; return the reasons. What comes behind SUBACK stays to be taken."""
        options = [SubscribeOption(one, qos) if isinstance(one, str) else one for one in filters]
        properties = {"subscription_identifier": [ids]} if ids else {}
        return self.suback(options, properties).reasons

    def suback(self, options: Sequence[SubscribeOption], properties: Mapping[str, Any]) -> Suback:
        """Subscribe; return the answer. What comes behind it stays to be taken."""
        packets = self.send(encode_subscribe(self.version, self.id(), options, properties))
        suback = self.only(Suback, packets[:1])
        self._inbox = packets[1:]
        return suback

    def unsubscribe(self, *filters: str) -> list[int]:
        """Unsubscribe; return the reasons."""
        answer = self.send(encode_unsubscribe(self.version, self.id(), filters))
        return self.only(Unsuback, answer).reasons

    def publish(
        self, topic: str, body: bytes = b"", qos: int = 1, packet_id: int = 0, **more: Any
    ) -> list[Packet]:
        """Send PUBLISH; return what came of it here. `more`: retain, dup, and MQTT 5 properties."""
        retain, dup = more.pop("retain", False), more.pop("dup", False)
        packet_id = (packet_id or self.id()) if qos else 0
        block = encode_properties(PUBLISH, more)
        return self.send(
            encode_publish(self.version, topic.encode(), body, qos, retain, dup, packet_id, block)
        )

    def ack(self, kind: int, packet_id: int, reason: int = 0) -> list[Packet]:
        """Send PUBACK, PUBREC, PUBREL or PUBCOMP."""
        return self.send(encode_ack(self.version, kind, packet_id, reason))

    def messages(self) -> list[Publish]:
        """Return the PUBLISH packets that have come; there must be nothing else."""
        packets = self.take()
        found = [packet for packet in packets if isinstance(packet, Publish)]
        assert len(found) == len(packets), packets
        return found

    def bodies(self) -> list[bytes]:
        """Return the bodies of what has come."""
        return [message.payload for message in self.messages()]

    def leave(self, reason: int = 0, **properties: Any) -> None:
        """Send DISCONNECT and hang up."""
        self.send(encode_disconnect(self.version, reason, properties))
        self.hang_up()

    def hang_up(self) -> None:
        """Break the connection."""
        self._fake.hang_up()
