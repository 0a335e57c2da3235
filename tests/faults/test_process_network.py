"""Clients that mean harm, or are broken: limits hold, others are not disturbed, memory stays flat."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator

import pytest

from gateway.protocols.mqtt.encoder import encode_connect, encode_publish
from gateway.protocols.mqtt.packets import V5, Connect, Disconnect
from tests.mqtt_client import MqttClient
from tests.process import GatewayProcess, wait_for

Make = Callable[..., GatewayProcess]
CLIENTS = 150
ROUNDS = 4
GROWTH_BYTES_MAX = 12 << 20  # of allocators; what is held for each client would be ten times that

_CONNECT = encode_connect(Connect(V5, "half", True))
_PUBLISH = encode_publish(V5, b"t", b"x" * 60_000)

#: What a client sends; the rest never comes, or is nonsense.
STREAMS: dict[str, Callable[[random.Random], bytes]] = {
    "noise": lambda chance: chance.randbytes(chance.randrange(1, 60_000)),
    "a cut CONNECT": lambda chance: _CONNECT[: chance.randrange(1, len(_CONNECT))],
    "a CONNECT, then noise": lambda chance: _CONNECT + chance.randbytes(60_000),
    "a CONNECT, then half a PUBLISH": lambda chance: _CONNECT + _PUBLISH[: chance.randrange(2, 60_000)],
    "HTTP at the MQTT door": lambda chance: b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 1000,
}


def _send_all(port: int, data: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 10)
    sock.settimeout(10)
    try:
        sock.sendall(data)
    except ConnectionError:
        pass  # cut off in the middle: that is the point
    return sock


def _round(gateway: GatewayProcess, port: int, make: Callable[[random.Random], bytes]) -> int:
    """Bring clients, see that a good one gets through, let the others go; return the memory in use."""
    chance = random.Random(11)
    socks = [_send_all(port, make(chance)) for _ in range(CLIENTS)]
    good = MqttClient(gateway.mqtt_port, "good", V5)
    good.subscribe("fine")
    assert good.publish_stored("fine", b"still here") == 0
    assert good.receive().payload == b"still here"
    good.close()
    for sock in socks:
        sock.close()
    return gateway.rss_bytes()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path_factory.mktemp("victim")).start()
    yield gateway
    bugs = gateway.bugs()
    gateway.stop()
    assert bugs == []


@pytest.mark.parametrize("name", STREAMS)
def test_mqtt_memory_stays_flat(victim: GatewayProcess, name: str) -> None:
    before = _round(victim, victim.mqtt_port, STREAMS[name])
    after = [_round(victim, victim.mqtt_port, STREAMS[name]) for _ in range(ROUNDS)][-1]
    assert after - before < GROWTH_BYTES_MAX


@pytest.mark.parametrize("name", ["noise", "a cut CONNECT"])
def test_http_memory_stays_flat(victim: GatewayProcess, name: str) -> None:
    before = _round(victim, victim.http_port, STREAMS[name])
    after = [_round(victim, victim.http_port, STREAMS[name]) for _ in range(ROUNDS)][-1]
    assert after - before < GROWTH_BYTES_MAX


def test_a_packet_over_the_limit_is_refused_by_its_length(make_gateway: Make) -> None:
    gateway = make_gateway("limits.packet_bytes_max=1000").start()
    client = MqttClient(gateway.mqtt_port, "big", V5)
    assert client.connack.properties["maximum_packet_size"] == 1000
    client.send(_PUBLISH[:10])  # the length is enough
    packet = client.expect(Disconnect)
    assert packet.reason == 0x95
    assert client.closed_by_peer()


def test_slow_loris_is_cut_off_and_others_come_in(make_gateway: Make) -> None:
    gateway = make_gateway("limits.handshake_seconds_max=1", "limits.connections_max=50").start()
    slow = [_send_all(gateway.mqtt_port, b"\x10") for _ in range(50)]

    def admitted() -> bool:
        try:
            MqttClient(gateway.mqtt_port, "late").close()
        except (AssertionError, ConnectionError):
            return False
        return True

    wait_for(admitted, 20, "room made by the handshake's time limit")
    for sock in slow:
        assert sock.recv(1) == b""
        sock.close()


def test_a_half_open_client_is_noticed_by_its_keep_alive(make_gateway: Make) -> None:
    gateway = make_gateway().start()
    watcher = MqttClient(gateway.mqtt_port, "watcher", V5)
    watcher.subscribe("gone")
    silent = MqttClient(gateway.mqtt_port, "silent", V5, keep_alive=1)
    packet = silent.expect(Disconnect, 10)
    assert packet.reason == 0x8D  # keep alive timeout
    assert silent.closed_by_peer()
