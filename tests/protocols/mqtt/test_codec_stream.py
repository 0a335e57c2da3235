"""The decoder as a stream: tails, limits, versions, caches, frames to forward."""

import pytest

from gateway.protocols.mqtt import decoder as decoder_module
from gateway.protocols.mqtt import properties as properties_module
from gateway.protocols.mqtt.decoder import PACKET_BYTES_MAX, Decoder
from gateway.protocols.mqtt.encoder import encode_publish
from gateway.protocols.mqtt.packets import (
    EMPTY,
    PUBLISH,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
    Publish,
)
from gateway.protocols.mqtt.properties import encode_properties
from gateway.protocols.mqtt.reasons import Reason
from tests.protocols.mqtt.codec_cases import x

CONNECT_V3 = x("10 0d 0004 'MQTT' 04 02 0000 0001 'c'")
CONNECT_V5 = x("10 0e 0004 'MQTT' 05 02 0000 00 0001 'c'")
PING = b"\xc0\x00"


interpreted = pytest.mark.skipif(
    not decoder_module.__file__.endswith(".py"), reason="a compiled decoder cannot be spied on"
)


class CountingDecoder(Decoder):
    """Count how many bytes are looked at, to tell linear work from quadratic without a clock."""

    looked_at_bytes = 0

    def _parse(self, data: bytes, packets: list[Packet]) -> int:
        self.looked_at_bytes += len(data)
        return super()._parse(data, packets)


def publishes(decoder: Decoder, data: bytes) -> list[Publish]:
    packets = decoder.feed(data)
    assert decoder.error is None
    return [packet for packet in packets if isinstance(packet, Publish)]


def block(**properties: object) -> bytes:
    return encode_properties(PUBLISH, dict(properties))


# The version.


@pytest.mark.parametrize(("data", "version"), [(CONNECT_V3, 4), (CONNECT_V5, 5)])
def test_a_server_takes_the_version_from_connect_and_uses_it_at_once(data: bytes, version: int) -> None:
    decoder = Decoder()
    assert decoder.version == 0
    publish = encode_publish(version, b"a", b"x")
    assert decoder.feed(data + publish) == [Connect(version, "c"), Publish("a", b"x")]
    assert decoder.version == version


def test_the_version_is_known_even_if_the_rest_of_connect_is_malformed() -> None:
    decoder = Decoder()
    assert decoder.feed(x("10 0e 0004 'MQTT' 05 03 0000 00 0001 'c'")) == []
    assert decoder.version == 5
    assert decoder.error is not None


def test_the_version_is_unknown_if_it_is_not_spoken() -> None:
    decoder = Decoder()
    decoder.feed(x("10 0e 0004 'MQTT' 06 02 0000 00 0001 'c'"))
    assert decoder.version == 0
    assert decoder.error is not None
    assert "level 6" in decoder.error.text


def test_a_second_connect_is_left_to_the_connection_and_changes_no_version() -> None:
    decoder = Decoder()
    assert decoder.feed(CONNECT_V5 + CONNECT_V3) == [Connect(5, "c"), Connect(4, "c")]
    assert decoder.version == 5


def test_the_first_byte_is_enough_to_refuse_what_is_not_connect() -> None:
    decoder = Decoder()
    decoder.feed(b"G")
    assert decoder.error is not None
    assert decoder.error.reason == Reason.PROTOCOL_ERROR


def test_a_client_must_know_its_version() -> None:
    with pytest.raises(AssertionError):
        Decoder(server=False)


# Errors.


def test_good_packets_before_a_malformed_one_are_returned_and_nothing_after() -> None:
    decoder = Decoder(4)
    assert decoder.feed(PING * 2 + b"\x00\x00" + PING) == [Pingreq(), Pingreq()]
    assert decoder.error is not None
    assert decoder.buffered_bytes == 0
    first = decoder.error
    assert decoder.feed(PING) == []
    assert decoder.feed(b"\xff") == []
    assert decoder.error is first


def test_an_error_does_not_hold_on_to_what_was_received() -> None:
    decoder = Decoder(4)
    decoder.feed(b"\x00\x00" + b"x" * 1000)
    assert decoder.error is not None
    assert decoder.error.__traceback__ is None


def test_nothing_from_nothing() -> None:
    decoder = Decoder()
    assert decoder.feed(b"") == []
    assert decoder.error is None


# Limits.


@pytest.mark.parametrize("header", ["30 81 80 40", "30 ff ff ff 7f"])
def test_an_oversized_packet_is_refused_as_soon_as_its_length_is_known(header: str) -> None:
    decoder = Decoder(4)
    data = x(header)
    for index in range(len(data) - 1):
        assert decoder.feed(data[index : index + 1]) == []
        assert decoder.error is None
    decoder.feed(data[-1:])
    assert decoder.error is not None
    assert decoder.error.reason == Reason.PACKET_TOO_LARGE
    assert decoder.buffered_bytes == 0


@pytest.mark.parametrize("size", [100, 200, 20_000])
def test_the_limit_is_on_the_whole_packet(size: int) -> None:
    data = encode_publish(4, b"a", b"x" * size)
    assert len(Decoder(4, packet_bytes_max=len(data)).feed(data)) == 1
    decoder = Decoder(4, packet_bytes_max=len(data) - 1)
    assert decoder.feed(data) == []
    assert decoder.error is not None
    assert decoder.error.reason == Reason.PACKET_TOO_LARGE


def test_the_default_limit_admits_a_packet_of_a_mebibyte() -> None:
    payload = b"x" * (PACKET_BYTES_MAX - 7)
    data = encode_publish(4, b"a", payload)
    assert len(data) == PACKET_BYTES_MAX
    assert Decoder(4).feed(data) == [Publish("a", payload)]


@interpreted
def test_a_long_packet_arriving_in_small_pieces_is_looked_at_a_fixed_number_of_times() -> None:
    data = encode_publish(4, b"a", b"x" * 100_000) + PING
    decoder = CountingDecoder(4)
    packets: list[Packet] = []
    for index in range(0, len(data), 7):
        packets += decoder.feed(data[index : index + 7])
    assert packets == [Publish("a", b"x" * 100_000), Pingreq()]
    assert decoder.looked_at_bytes < len(data) + 100


@interpreted
def test_many_packets_cut_at_random_places_are_looked_at_about_once() -> None:
    data = b"".join(encode_publish(4, b"a", b"x" * size) for size in range(1000))
    decoder = CountingDecoder(4)
    packets: list[Packet] = []
    for index in range(0, len(data), 1009):
        packets += decoder.feed(data[index : index + 1009])
    assert packets == [Publish("a", b"x" * size) for size in range(1000)]
    assert decoder.looked_at_bytes < 2 * len(data)


def test_buffered_bytes_counts_the_partial_packet_alone() -> None:
    decoder = Decoder(4)
    decoder.feed(PING + x("30 05 0001"))
    assert decoder.buffered_bytes == 4
    decoder.feed(x("'a'"))
    assert decoder.buffered_bytes == 5
    assert decoder.feed(x("'xy' c0")) == [Publish("a", b"xy")]
    assert decoder.buffered_bytes == 1


# Frames to forward.


def test_frame_is_exactly_the_packet_as_received() -> None:
    first, second = encode_publish(4, b"a", b"x"), encode_publish(4, b"b", b"y" * 300)
    packets = publishes(Decoder(4), first + second)
    assert [packet.frame for packet in packets] == [first, second]


def test_frame_is_exact_when_the_packet_came_in_pieces() -> None:
    data = encode_publish(5, b"a/b", b"xyz", properties_bytes=block(content_type="t"))
    decoder = Decoder(5)
    assert decoder.feed(data[:5]) == []
    assert [packet.frame for packet in publishes(decoder, data[5:])] == [data]


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"content_type": "t"},
        {"user_property": [("k", "v")]},
        {"correlation_data": b"c" * 300},
        {"payload_format_indicator": 1, "response_topic": "r"},
    ],
)
def test_frame_is_kept_with_properties_that_travel_unaltered(properties: Properties) -> None:
    data = encode_publish(5, b"a", b"x", properties_bytes=block(**properties))
    for _ in range(2):  # the second time the block comes from the cache
        [packet] = publishes(Decoder(5), data)
        assert packet.frame == data
        assert packet.properties == properties


@pytest.mark.parametrize(
    "properties",
    [
        {"topic_alias": 1},
        {"message_expiry_interval": 1},
        {"content_type": "t" * 200, "message_expiry_interval": 1},
        {"content_type": "t" * 200, "topic_alias": 7},
    ],
)
def test_frame_is_absent_with_properties_of_one_connection_or_moment(properties: Properties) -> None:
    data = encode_publish(5, b"a", b"x", properties_bytes=block(**properties))
    for _ in range(2):
        [packet] = publishes(Decoder(5), data)
        assert packet.frame is None
        assert packet.properties == properties


def test_frame_is_absent_with_a_subscription_identifier() -> None:
    data = encode_publish(5, b"a", b"x", properties_bytes=block(subscription_identifier=[1]))
    [packet] = publishes(Decoder(5, server=False), data)
    assert packet.frame is None


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("qos", "retain", "dup"), [(0, True, False), (1, False, False), (1, False, True), (2, True, False)]
)
def test_frame_is_absent_with_any_flag(version: int, qos: int, retain: bool, dup: bool) -> None:
    [packet] = publishes(Decoder(version), encode_publish(version, b"a", b"x", qos, retain, dup, 1))
    assert packet.frame is None


# Caches.


def test_a_repeated_topic_is_the_same_object_on_every_connection() -> None:
    data = encode_publish(4, b"fleet/1/state", b"x")
    [one], [two] = publishes(Decoder(4), data), publishes(Decoder(4), data)
    [three] = publishes(Decoder(5), encode_publish(5, b"fleet/1/state", b"x"))
    assert one.topic is two.topic
    assert one.topic is three.topic


def test_the_topic_cache_is_bounded() -> None:
    count = decoder_module.CACHED_TOPICS_MAX + 5_000
    data = b"".join(encode_publish(4, b"bounded/%d" % index, b"") for index in range(count))
    packets = publishes(Decoder(4), data)
    assert [packet.topic for packet in packets] == [f"bounded/{index}" for index in range(count)]
    assert 5_000 <= len(decoder_module._topics) <= decoder_module.CACHED_TOPICS_MAX


def test_long_topics_stay_out_of_the_cache() -> None:
    topic = "long/" + "x" * decoder_module.CACHED_TOPIC_BYTES_MAX
    for _ in range(2):
        [packet] = publishes(Decoder(4), encode_publish(4, topic.encode(), b""))
        assert packet.topic == topic
    assert topic.encode() not in decoder_module._topics


def test_a_bad_topic_is_refused_every_time_it_comes() -> None:
    for _ in range(2):
        decoder = Decoder(4)
        decoder.feed(x("30 05 0003 'a/#'"))
        assert decoder.error is not None


def test_an_empty_topic_never_becomes_known() -> None:
    assert len(publishes(Decoder(5), x("30 07 0000 03 23 0001 'x'"))) == 1
    for version in (4, 5):
        decoder = Decoder(version)
        decoder.feed(x("30 03 0000 00"))
        assert decoder.error is not None, version


def test_repeated_properties_are_the_same_object() -> None:
    data = encode_publish(5, b"a", b"x", properties_bytes=block(content_type="shared"))
    [one], [two] = publishes(Decoder(5), data), publishes(Decoder(5), data)
    assert one.properties is two.properties


def test_no_properties_are_the_one_empty_dictionary() -> None:
    [packet] = publishes(Decoder(5), encode_publish(5, b"a", b"x"))
    assert packet.properties is EMPTY
    [packet] = publishes(Decoder(4), encode_publish(4, b"a", b"x"))
    assert packet.properties is EMPTY
    [disconnect] = Decoder(5).feed(x("e0 02 00 00"))
    assert isinstance(disconnect, Disconnect)
    assert disconnect.properties is EMPTY


def test_the_property_cache_is_bounded() -> None:
    decoder = Decoder(5)
    for index in range(properties_module.CACHED_BLOCKS_MAX + 100):
        data = encode_publish(5, b"a", b"", properties_bytes=block(correlation_data=b"%d" % index))
        [packet] = publishes(decoder, data)
        assert packet.properties == {"correlation_data": b"%d" % index}
        assert 0 < len(properties_module._blocks) <= properties_module.CACHED_BLOCKS_MAX


def test_long_property_blocks_stay_out_of_the_cache() -> None:
    properties_module._blocks.clear()
    data = encode_publish(5, b"a", b"", properties_bytes=block(correlation_data=b"c" * 200))
    assert len(publishes(Decoder(5), data)) == 1
    assert properties_module._blocks == {}


def test_a_subscription_identifier_in_the_cache_is_still_refused_from_a_client() -> None:
    data = encode_publish(5, b"a", b"x", properties_bytes=block(subscription_identifier=[77]))
    assert len(publishes(Decoder(5, server=False), data)) == 1
    server = Decoder(5)
    assert server.feed(data) == []
    assert server.error is not None
    assert server.error.reason == Reason.PROTOCOL_ERROR
