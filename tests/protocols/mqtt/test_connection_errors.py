"""What is wrong is answered with the standard's reason and a closed connection: never with a traceback."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.mqtt.encoder import encode_connect
from gateway.protocols.mqtt.packets import CONNECT, V5, V311, Connack, Connect, Disconnect, Packet
from gateway.testing import FakeClient
from tests.protocols.mqtt.codec_bad_cases import BAD
from tests.protocols.mqtt.codec_cases import CLIENT, Bad, encode
from tests.protocols.mqtt.codec_strategies import packets
from tests.protocols.mqtt.transcripts import house

#: What only a server is sent, with a version that the connection can have.
FROM_CLIENTS = [case for case in BAD if case.receiver != CLIENT and case.version in (V311, V5)]
AFTER_CONNECT = [case for case in FROM_CLIENTS if case.data[0] >> 4 != CONNECT]
CONNECTS = [case for case in FROM_CLIENTS if case.data[0] >> 4 == CONNECT]


@pytest.mark.parametrize("case", AFTER_CONNECT, ids=lambda case: case.name)
def test_a_bad_packet_ends_the_connection_with_its_reason(case: Bad) -> None:
    with house("limits.packet_bytes_max=1000") as h:
        client, other = h.connect("c", case.version), h.connect("other")
        other.subscribe("t")
        answer = client.send(case.data)
        assert client.closed
        if case.version == V5:
            assert client.only(Disconnect, answer).reason == case.reason  # [MQTT-4.13.1-1]
        else:
            assert answer == []
        other.publish("t", b"others go on")
        assert other.bodies() == [b"others go on"] or not other.closed


@pytest.mark.parametrize("case", CONNECTS, ids=lambda case: case.name)
def test_a_bad_connect_is_refused(case: Bad) -> None:
    with house() as h:
        client = h.client(case.version)
        answer = client.send(case.data)
        assert client.closed
        assert all(isinstance(packet, Connack) for packet in answer)
        if answer and case.version == V5:
            assert client.only(Connack, answer).reason == case.reason  # [MQTT-3.1.4-2]


def test_there_are_cases() -> None:
    assert len(AFTER_CONNECT) > 100
    assert len(CONNECTS) > 50


def _conversation(version: int) -> st.SearchStrategy[list[Packet]]:
    return st.lists(packets(version, True), min_size=1, max_size=12)


@settings(max_examples=150)
@given(data=st.data(), version=st.sampled_from([V311, V5]))
def test_any_conversation_is_survived(data: st.DataObject, version: int) -> None:
    """Well-formed packets in an order that makes no sense, then some bytes damaged."""
    said = b"".join(encode(version, packet) for packet in data.draw(_conversation(version)))
    stream = bytearray(encode_connect(Connect(version, "c", True)) + said)
    for place in data.draw(st.lists(st.integers(0, len(stream) - 1), max_size=3)):
        stream[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(stream)))
    with house() as h:
        watcher = h.connect("watcher")
        watcher.subscribe("watch")
        client = FakeClient(
            h.gateway, h.protocol
        )  # it may have changed its version: nothing here reads answers
        client.send(bytes(stream[:cut]))
        client.send(bytes(stream[cut:]))
        client.hang_up()
        h.wait(1)
        h.connect("another").publish("watch", b"still here")
        assert b"still here" in watcher.bodies()
        metrics = h.gateway.broker.metrics
        done = metrics.delivered + metrics.streamed + sum(metrics.dropped)
        assert metrics.copies == done + h.gateway.broker.waiting(), "the books balance"
