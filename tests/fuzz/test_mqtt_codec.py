"""The MQTT codec against generated packets, noise, and any way of cutting either."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.packets import EMPTY, Packet, Publish
from tests.protocols.mqtt.codec_bad_cases import BAD
from tests.protocols.mqtt.codec_cases import encode
from tests.protocols.mqtt.codec_good_cases import GOOD
from tests.protocols.mqtt.codec_strategies import connects, packets

versions = st.sampled_from([3, 4, 5])
quick = settings(max_examples=150)

# Noise made of real packets gets further into the decoder than noise made of bytes.
_fragments = st.sampled_from([case.data for table in (GOOD, BAD) for case in table if len(case.data) < 100])
noise = st.binary(max_size=200) | st.lists(_fragments | st.binary(max_size=4), max_size=6).map(b"".join)
decoders = st.tuples(st.sampled_from([0, 3, 4, 5]), st.booleans(), st.sampled_from([6, 40, 1_000_000]))


def new_decoder(chosen: tuple[int, bool, int]) -> Decoder:
    version, server, packet_bytes_max = chosen
    return Decoder(version, packet_bytes_max, server or version == 0)


def feed_all(decoder: Decoder, chunks: Sequence[bytes]) -> list[Packet]:
    return [packet for chunk in chunks for packet in decoder.feed(chunk)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@quick
@given(versions.flatmap(connects))
def test_connect_survives_the_wire(packet: Packet) -> None:
    version = getattr(packet, "version", 0)
    decoder = Decoder()
    assert decoder.feed(encode(version, packet)) == [packet]
    assert decoder.version == version


@quick
@given(st.data(), versions, st.booleans())
def test_every_packet_survives_the_wire(data: st.DataObject, version: int, server: bool) -> None:
    packet = data.draw(packets(version, server))
    decoder = Decoder(version, server=server)
    assert decoder.feed(encode(version, packet)) == [packet], decoder.error


@quick
@given(st.data(), versions, st.booleans(), st.lists(st.integers(0, 5000), max_size=12))
def test_a_conversation_survives_any_cutting(
    data: st.DataObject, version: int, server: bool, places: list[int]
) -> None:
    sent = data.draw(st.lists(packets(version, server), max_size=8))
    wire = b"".join(encode(version, packet) for packet in sent)
    decoder = Decoder(version, server=server)
    assert feed_all(decoder, cut(wire, places)) == sent
    assert decoder.error is None
    assert decoder.buffered_bytes == 0


@quick
@given(st.data(), versions, st.booleans())
def test_a_frame_is_the_packet_and_decodes_to_it_again(
    data: st.DataObject, version: int, server: bool
) -> None:
    packet = data.draw(packets(version, server))
    wire = encode(version, packet)
    [first] = Decoder(version, server=server).feed(wire)
    if isinstance(first, Publish) and first.frame is not None:
        assert first.frame == wire
        assert (first.qos, first.retain, first.dup, first.packet_id) == (0, False, False, 0)
        [again] = Decoder(version, server=not server).feed(first.frame)
        assert again == first


@settings(quick, max_examples=400)
@given(decoders, noise)
def test_noise_is_never_more_than_an_error(chosen: tuple[int, bool, int], data: bytes) -> None:
    decoder = new_decoder(chosen)
    decoder.feed(data)
    assert decoder.buffered_bytes <= len(data)
    if decoder.error is not None:
        assert decoder.error.reason >= 0x80
        assert decoder.feed(data) == []
    assert EMPTY == {}


@settings(quick, max_examples=400)
@given(decoders, noise, st.lists(st.integers(0, 1000), max_size=12))
def test_noise_means_the_same_however_it_is_cut(
    chosen: tuple[int, bool, int], data: bytes, places: list[int]
) -> None:
    whole, pieces = new_decoder(chosen), new_decoder(chosen)
    assert feed_all(pieces, cut(data, places)) == whole.feed(data)
    assert repr(pieces.error) == repr(whole.error)
    assert (pieces.version, pieces.buffered_bytes) == (whole.version, whole.buffered_bytes)


@quick
@given(st.data(), versions, st.booleans())
def test_what_a_damaged_packet_decodes_to_can_be_encoded_again(
    data: st.DataObject, version: int, server: bool
) -> None:
    wire = bytearray(encode(version, data.draw(packets(version, server))))
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    for packet in Decoder(version, server=server).feed(bytes(wire)):
        again = encode(version, packet)
        assert Decoder(version, server=server).feed(again) == [packet]
