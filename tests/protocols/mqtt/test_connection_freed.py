"""A closed connection is freed at once, with all it holds: not when the garbage collector comes by.

The gateway has the collector look rarely, because the hot path makes no cycles. A connection that
stayed behind would keep what it had read of a packet, up to the largest packet.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gateway.config import load
from gateway.protocols.mqtt import Mqtt
from gateway.protocols.mqtt.connection import MqttConnection
from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.encoder import encode_connect, encode_publish, encode_subscribe
from gateway.protocols.mqtt.handshake import Handshake
from gateway.protocols.mqtt.inbound import Inbound
from gateway.protocols.mqtt.outbound import Outbound
from gateway.protocols.mqtt.packets import V5, Connect, Properties, SubscribeOption, Will
from gateway.testing import FakeClient, TestGateway

_KEEP: Properties = {"session_expiry_interval": 100}
_WILL = Will("will", b"w", 1, False, {"will_delay_interval": 10})
_CONNECT = encode_connect(Connect(V5, "c", True))
_SUBSCRIBE = encode_subscribe(
    V5, 1, [SubscribeOption("t", 1), SubscribeOption("u", 0), SubscribeOption("$share/g/t", 1)]
)
_PUBLISH = encode_publish(V5, b"t", b"x", 1, False, False, 1)

STREAMS = {
    "nothing": b"",
    "noise": b"\xff" * 100,
    "half a CONNECT": _CONNECT[:8],
    "a CONNECT": _CONNECT,
    "a CONNECT, then noise": _CONNECT + b"\xff" * 100,
    "a CONNECT, then half a packet": _CONNECT + _PUBLISH[:4],
    "a subscriber": _CONNECT + _SUBSCRIBE + _PUBLISH,
    "a session that is kept": encode_connect(Connect(V5, "c", True, properties=_KEEP)) + _SUBSCRIBE,
    "a will that waits": encode_connect(Connect(V5, "c", True, will=_WILL, properties=_KEEP)),
    "one that leaves": _CONNECT + b"\xe0\x00",
}


@pytest.fixture
def gateway() -> Iterator[TestGateway]:
    gateway = TestGateway()
    gc.collect()
    gc.disable()
    try:
        yield gateway
    finally:
        gc.enable()
        gateway.close()


def _alive() -> list[str]:
    kinds = (MqttConnection, Handshake, Inbound, Outbound, Decoder)
    return [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds)]


@pytest.mark.parametrize("name", STREAMS)
def test_it_is_freed_when_its_socket_closes(gateway: TestGateway, name: str) -> None:
    protocol = Mqtt(load(None, (), True, None))
    protocol.start(gateway)
    client = FakeClient(gateway, protocol)
    client.send(STREAMS[name])
    assert _alive()
    client.hang_up()
    del client
    gateway.settle()
    assert _alive() == []
