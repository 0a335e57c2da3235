"""A real process under kill -9, a full disk and clients that do not read."""

from __future__ import annotations

import random
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from gateway.protocols.mqtt.encoder import encode_ack, encode_publish
from gateway.protocols.mqtt.packets import PUBACK, Ack, Publish
from tests.mqtt_client import V5, MqttClient
from tests.process import GatewayProcess, wait_for

Make = Callable[..., GatewayProcess]
TOPIC = "faults/t"


def publish_until_killed(gateway: GatewayProcess, first: int, stop_after: int) -> tuple[set[bytes], int]:
    """Publish with a window, kill -9 in the middle; return (acknowledged bodies, next number)."""
    client = MqttClient(gateway.mqtt_port, "publisher")
    numbers: dict[int, bytes] = {}
    acknowledged: set[bytes] = set()
    sent = first
    while len(acknowledged) < stop_after:
        while len(numbers) < 200:
            packet_id = sent % 60_000 + 1
            numbers[packet_id] = b"%d" % sent
            client.send(encode_publish(4, TOPIC.encode(), numbers[packet_id], 1, False, False, packet_id))
            sent += 1
        client.pump(5)
        for packet in client.inbox:
            if isinstance(packet, Ack):
                acknowledged.add(numbers.pop(packet.packet_id))
        client.inbox.clear()
    gateway.kill()
    client.close()
    return acknowledged, sent


def drain(gateway: GatewayProcess, wanted: set[bytes]) -> list[bytes]:
    """Receive everything that waits for the persistent session."""
    client = MqttClient(gateway.mqtt_port, "subscriber", clean=False)
    assert client.connack.session_present
    got: list[bytes] = []
    missing = set(wanted)
    while missing:
        assert client.pump(10), "closed"
        answers = []
        assert client.inbox, f"nothing more comes; {len(missing)} acknowledged messages are missing"
        for packet in client.inbox:
            if isinstance(packet, Publish):
                got.append(packet.payload)
                missing.discard(packet.payload)
                answers.append(encode_ack(4, PUBACK, packet.packet_id))
        client.inbox.clear()
        client.send(b"".join(answers))
    client.close()
    return got


def test_no_acknowledged_message_is_lost_by_kill_9(make_gateway: Make) -> None:
    gateway = make_gateway("storage.segment_bytes=65536")
    gateway.start()
    subscriber = MqttClient(gateway.mqtt_port, "subscriber", clean=False)
    subscriber.subscribe(TOPIC)
    subscriber.close()
    chance = random.Random(7)
    number = 0
    for _ in range(5):
        acknowledged, number = publish_until_killed(gateway, number, chance.randrange(50, 3000))
        gateway.start()
        got = drain(gateway, acknowledged)
        order = [int(body) for body in dict.fromkeys(got)]
        assert order == sorted(order), "first deliveries are out of order"


def test_a_full_disk_refuses_in_the_protocols_words_and_service_returns(make_gateway: Make) -> None:
    gateway = make_gateway("storage.segment_bytes=4096").start()
    session = {"properties": {"session_expiry_interval": 3600}}
    subscriber = MqttClient(gateway.mqtt_port, "subscriber", V5, **session)
    subscriber.subscribe(TOPIC)
    publisher = MqttClient(gateway.mqtt_port, "publisher", V5)
    assert publisher.publish_stored(TOPIC, b"before") == 0
    assert subscriber.receive().payload == b"before"
    limits = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (16, limits[1]))
    assert publisher.publish_stored(TOPIC, b"x" * 5000) == 0x97
    answer = httpx.post(f"{gateway.url}/v1/topics/{TOPIC}", content=b"x" * 5000)
    assert answer.status_code == 507
    assert answer.headers["content-type"].startswith("application/problem+json")
    old = MqttClient(gateway.mqtt_port, "old")
    old.publish(TOPIC, b"3.1.1 has no word for it")
    assert old.closed_by_peer()
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, limits)
    assert publisher.publish_stored(TOPIC, b"after") == 0
    wait_for(lambda: subscriber.receive().payload == b"after", what="the message after the disk was full")
    assert any("not stored" in line for line in gateway.errors)


def test_a_reader_that_stops_costs_nobody_else(gateway: GatewayProcess) -> None:
    slow = MqttClient(gateway.mqtt_port, "slow")
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.subscribe("flood", qos=0)
    good = MqttClient(gateway.mqtt_port, "good")
    good.subscribe("flood", "fine", qos=0)
    publisher = MqttClient(gateway.mqtt_port, "publisher")
    frame = encode_publish(4, b"flood", b"x" * 1000)

    def flood(rounds: int) -> int:
        for _ in range(rounds):
            publisher.send(frame * 600)
            good.pump(10)
            good.inbox.clear()
        return gateway.rss_bytes()

    flood(150)  # until every buffer that has a limit has reached it
    before = flood(100)
    after = flood(300)

    def gets_through() -> bool:
        publisher.publish("fine", b"end", 0)  # at most once: dropped while what was held is handed over
        return good.pump(0.2) and any(isinstance(p, Publish) and p.topic == "fine" for p in good.inbox)

    wait_for(gets_through, 30, "a message to the client that reads")
    assert after - before < 32 << 20, "180 MB more were published: they must not be in memory"
    assert after < 256 << 20
    dropped = httpx.get(f"{gateway.url}/metrics").text
    assert 'cause="slow_subscriber"' in dropped


def test_garbage_and_half_packets_disturb_nobody(gateway: GatewayProcess) -> None:
    good = MqttClient(gateway.mqtt_port, "good", V5)
    good.subscribe("t")
    chance = random.Random(3)
    for size in (1, 2, 17, 300, 70_000):
        with socket.create_connection(("127.0.0.1", gateway.mqtt_port), 10) as sock:
            sock.sendall(chance.randbytes(size))
    with socket.create_connection(("127.0.0.1", gateway.mqtt_port), 10) as sock:
        sock.sendall(b"\x10\xff\xff\xff\x7f")  # a CONNECT of 256 MB
        sock.settimeout(10)
        assert sock.recv(100) == b""  # closed: the length alone is over the limit
    assert good.publish_stored("t", b"still here") == 0
    assert good.receive().payload == b"still here"


def test_a_slow_handshake_is_cut_off(make_gateway: Make) -> None:
    gateway = make_gateway("limits.handshake_seconds_max=0.5").start()
    with socket.create_connection(("127.0.0.1", gateway.mqtt_port), 10) as sock:
        sock.sendall(b"\x10")
        sock.settimeout(10)
        assert sock.recv(100) == b""


def test_connections_over_the_limit_are_closed(make_gateway: Make) -> None:
    gateway = make_gateway("limits.connections_max=3").start()
    clients = [MqttClient(gateway.mqtt_port, f"c{n}") for n in range(3)]
    with pytest.raises((AssertionError, ConnectionError)):
        MqttClient(gateway.mqtt_port, "one too many")
    refused = httpx.get(f"{gateway.url}/health/live")
    assert refused.status_code == 503, "the limit is of all doors together"
    clients[0].close()
    wait_for(lambda: _connects(gateway), what="room for another")


def _connects(gateway: GatewayProcess) -> bool:
    try:
        MqttClient(gateway.mqtt_port, "again")
    except (AssertionError, ConnectionError):
        return False
    return True


def test_a_damaged_segment_is_reported_and_the_gateway_starts(make_gateway: Make, tmp_path: Path) -> None:
    gateway = make_gateway().start()
    httpx.put(f"{gateway.url}/v1/queues/q", json={})
    for number in range(3):
        httpx.post(f"{gateway.url}/v1/queues/q/messages", content=b"message %d" % number).raise_for_status()
    gateway.kill()
    segment = next((gateway.data / "log").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[data.index(b"message 1")] ^= 0xFF
    segment.write_bytes(bytes(data))
    gateway.start()
    assert any("damaged bytes" in line and segment.name in line for line in gateway.errors)
    found = httpx.get(f"{gateway.url}/v1/queues/q/browse").json()["messages"]
    assert [item["body"] for item in found] == ["message 0", "message 2"]
