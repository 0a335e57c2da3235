"""CONNECT, CONNACK and how connections end (MQTT 5 sections 3.1, 3.2, 3.14)."""

from __future__ import annotations

import pytest

from gateway.protocols.mqtt.encoder import PINGRESP, encode_connect
from gateway.protocols.mqtt.packets import V5, V31, V311, Connack, Connect, Disconnect, Pingresp, Will
from gateway.protocols.mqtt.reasons import Reason
from tests.protocols.mqtt.transcripts import VERSIONS, house


def test_connack_says_what_is_agreed_on() -> None:
    with house() as h:
        client = h.connect("c", properties={"session_expiry_interval": 60})
        assert client.connack.properties == {
            "receive_maximum": 1000,
            "maximum_packet_size": 16 << 20,
            "topic_alias_maximum": 100,
        }
        assert not client.connack.session_present


@pytest.mark.parametrize(
    ("setting", "asked", "property_name", "said"),
    [
        ("mqtt.session_expiry_seconds_max=10", 60, "session_expiry_interval", 10),
        ("mqtt.keep_alive_seconds_max=30", 0, "server_keep_alive", 30),
        ("mqtt.retain_available=false", 0, "retain_available", 0),
        ("mqtt.receive_maximum=7", 0, "receive_maximum", 7),
        ("mqtt.topic_alias_maximum=3", 0, "topic_alias_maximum", 3),
        ("limits.packet_bytes_max=5000", 0, "maximum_packet_size", 5000),
    ],
)
def test_connack_says_what_differs(setting: str, asked: int, property_name: str, said: int) -> None:
    with house(setting) as h:
        client = h.connect("c", properties={"session_expiry_interval": asked} if asked else {})
        assert client.connack.properties[property_name] == said


def test_a_client_without_a_name_gets_one() -> None:
    with house() as h:
        one, other = h.connect(""), h.connect("")
        names = [client.connack.properties["assigned_client_identifier"] for client in (one, other)]
        assert all(names)
        assert names[0] != names[1]  # [MQTT-3.1.3-6]


@pytest.mark.parametrize(
    ("version", "clean", "code"),
    [(V311, True, 0), (V311, False, Reason.CLIENT_IDENTIFIER_NOT_VALID), (V31, True, 0x85)],
)
def test_a_name_is_needed_where_the_standard_says(version: int, clean: bool, code: int) -> None:
    with house() as h:
        client = h.client(version)
        assert client.connect("", clean).reason == code  # 3.1.1 [MQTT-3.1.3-8]
        assert client.closed is bool(code)


def test_response_information_is_given_on_request() -> None:
    with house() as h:
        client = h.connect("c", properties={"request_response_information": 1})
        base = client.connack.properties["response_information"]
        assert client.subscribe(f"{base}/#") == [1]
        assert "response_information" not in h.connect("d").connack.properties


@pytest.mark.parametrize("version", VERSIONS)
def test_a_second_connect_ends_the_connection(version: int) -> None:
    with house() as h:
        client = h.connect("c", version)
        packets = client.send(encode_connect(Connect(version, "c", True)))  # [MQTT-3.1.0-2]
        assert client.closed
        if version == V5:
            assert client.only(Disconnect, packets).reason == Reason.PROTOCOL_ERROR
        else:
            assert packets == []


@pytest.mark.parametrize("first", [b"\xc0\x00", b"\x30\x03\x00\x01a", b"\xe0\x00", b"GET / HTTP/1.1\r\n\r\n"])
def test_nothing_comes_before_connect(first: bytes) -> None:
    with house() as h:
        client = h.client(V311)
        assert client.send(first) == []  # [MQTT-3.1.0-1]
        assert client.closed


def test_an_unknown_version_is_refused_in_words_every_client_knows() -> None:
    with house() as h:
        client = h.client(V311)
        (answer,) = client.send(b"\x10\x0c\x00\x04MQTT\x07\x02\x00\x00\x00\x00")
        assert isinstance(answer, Connack)
        assert answer.reason == Reason.UNSUPPORTED_PROTOCOL_VERSION
        assert client.closed


@pytest.mark.parametrize("version", VERSIONS)
def test_packets_right_behind_connect_wait_for_connack(version: int) -> None:
    with house() as h:
        client = h.client(version)
        packets = client.send(encode_connect(Connect(version, "c", True)) + b"\xc0\x00")
        assert [type(packet) for packet in packets] == [Connack, Pingresp]


@pytest.mark.parametrize("version", VERSIONS)
def test_ping(version: int) -> None:
    with house() as h:
        client = h.connect("c", version)
        assert PINGRESP
        client.only(Pingresp, client.send(b"\xc0\x00"))


@pytest.mark.parametrize("version", VERSIONS)
def test_silence_ends_the_connection_after_one_and_a_half_keep_alives(version: int) -> None:
    with house() as h:
        client = h.connect("c", version, keep_alive=10)
        h.wait(14)
        client.send(b"\xc0\x00")
        h.wait(14)
        assert not client.closed
        h.wait(3)
        assert client.closed  # [MQTT-3.1.2-22]
        if version == V5:
            (packet,) = [p for p in client.take() if isinstance(p, Disconnect)]
            assert packet.reason == Reason.KEEP_ALIVE_TIMEOUT


def test_keep_alive_zero_means_never() -> None:
    with house() as h:
        client = h.connect("c", keep_alive=0)
        h.wait(500)
        assert not client.closed


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_name_takes_over(version: int) -> None:
    with house() as h:
        first = h.connect("twin", version)
        first.subscribe("t")
        second = h.connect("twin", version)
        assert first.closed  # [MQTT-3.1.4-3]
        if version == V5:
            assert first.only(Disconnect, first.take()).reason == Reason.SESSION_TAKEN_OVER
        assert second.publish("t", b"x") != []
        assert second.bodies() == [], "a clean start has no subscriptions"


@pytest.mark.parametrize(
    ("will", "reason"),
    [
        (Will("$sys/mine", b""), Reason.NOT_AUTHORIZED),
        (Will("kept", b"", retain=True), Reason.RETAIN_NOT_SUPPORTED),
    ],
)
def test_a_will_that_could_not_be_sent_is_refused_at_once(will: Will, reason: int) -> None:
    with house("mqtt.retain_available=false") as h:
        client = h.client()
        assert client.connect("c", will=will).reason == reason
        assert client.closed


def test_a_refusal_says_why_unless_asked_not_to() -> None:
    with house() as h:
        will = Will("$sys/mine", b"")
        assert "$sys/mine" in str(h.client().connect("c", will=will).properties["reason_string"])
        quiet = {"request_problem_information": 0}
        assert h.client().connect("c", will=will, properties=quiet).properties == {}  # [MQTT-3.1.2-29]


@pytest.mark.parametrize("size", [3, 600])
def test_a_name_that_is_too_long_is_refused(size: int) -> None:
    with house() as h:
        refused = h.client().connect("x" * size).reason
        assert refused == (Reason.CLIENT_IDENTIFIER_NOT_VALID if size > 512 else 0)


def test_nothing_is_taken_after_disconnect() -> None:
    with house() as h:
        reader, client = h.connect("reader"), h.connect("c")
        reader.subscribe("t")
        client.send(b"\xe0\x00" + b"\x30\x05\x00\x01t\x00x")
        assert client.closed
        assert reader.bodies() == []
