"""Every packet and every property of the case table, in both directions."""

import pytest

from gateway.protocols.mqtt import encoder
from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.packets import (
    EMPTY,
    Connack,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    Subscribe,
    SubscribeOption,
)
from gateway.protocols.mqtt.properties import encode_properties
from gateway.protocols.mqtt.reasons import ALLOWED, CONNACK_V3, REASON_OF_CONNACK_V3, MalformedPacket, Reason
from tests.protocols.mqtt.codec_bad_cases import BAD
from tests.protocols.mqtt.codec_cases import BOTH, CLIENT, SERVER, Bad, Good, decoder_for, encode, x
from tests.protocols.mqtt.codec_good_cases import GOOD

SIDED = [
    case._replace(receiver=side)
    for case in GOOD
    for side in ((SERVER, CLIENT) if case.receiver == BOTH else (case.receiver,))
]
SHORT = [case for case in SIDED if len(case.data) < 1000]
CANONICAL = [case for case in GOOD if case.canonical]


def name_of(case: Good | Bad) -> str:
    return f"{case.name} v{case.version} {case.receiver}"


def after(case: Good) -> tuple[bytes, Packet]:
    return (b"\xc0\x00", Pingreq()) if case.receiver == SERVER else (b"\xd0\x00", Pingresp())


@pytest.mark.parametrize("case", SIDED, ids=name_of)
def test_decodes_whole(case: Good) -> None:
    decoder = decoder_for(case)
    assert decoder.feed(case.data) == [case.packet]
    assert decoder.error is None
    assert decoder.buffered_bytes == 0
    assert decoder.version == case.version


@pytest.mark.parametrize("case", SHORT, ids=name_of)
def test_decodes_byte_by_byte(case: Good) -> None:
    decoder = decoder_for(case)
    for index in range(len(case.data) - 1):
        assert decoder.feed(case.data[index : index + 1]) == []
        assert decoder.buffered_bytes == index + 1
    assert decoder.feed(case.data[-1:]) == [case.packet]
    assert decoder.buffered_bytes == 0


@pytest.mark.parametrize("case", SIDED, ids=name_of)
def test_decodes_with_trailing_data(case: Good) -> None:
    decoder = decoder_for(case)
    data, packet = after(case)
    assert decoder.feed(case.data + data * 2 + data[:1]) == [case.packet, packet, packet]
    assert decoder.buffered_bytes == 1
    assert decoder.feed(data[1:]) == [packet]


@pytest.mark.parametrize("case", CANONICAL, ids=name_of)
def test_encodes(case: Good) -> None:
    assert encode(case.version, case.packet) == case.data


@pytest.mark.parametrize("case", GOOD, ids=name_of)
def test_every_packet_has_a_type_and_a_repr(case: Good) -> None:
    assert case.packet.type == case.data[0] >> 4
    assert repr(case.packet).startswith(type(case.packet).__name__ + "(")


@pytest.mark.parametrize("case", BAD, ids=name_of)
def test_refuses_whole(case: Bad) -> None:
    decoder = decoder_for(case)
    assert decoder.feed(case.data) == []
    assert decoder.error is not None
    assert decoder.error.reason == case.reason, decoder.error.text
    assert decoder.error.text


@pytest.mark.parametrize("case", BAD, ids=name_of)
def test_refuses_byte_by_byte_and_says_the_same(case: Bad) -> None:
    whole, cut = decoder_for(case), decoder_for(case)
    whole.feed(case.data)
    for index in range(len(case.data)):
        assert cut.feed(case.data[index : index + 1]) == []
    assert repr(cut.error) == repr(whole.error)


def test_the_table_has_every_packet_type_of_every_version() -> None:
    kinds = {(case.version, case.packet.type) for case in GOOD}
    assert {kind for version, kind in kinds if version == 4} == set(range(1, 15))
    assert {kind for version, kind in kinds if version == 5} == set(range(1, 16)) - {13}


def test_every_reason_code_of_every_packet_is_accepted() -> None:
    starts = {
        2: "20 00",
        4: "40 0009",
        5: "50 0009",
        6: "62 0009",
        7: "70 0009",
        9: "90 0009 00",
        11: "b0 0009 00",
    }
    starts |= {14: "e0", 15: "f0"}
    properties_after = {2, 15}
    for kind, allowed in ALLOWED.items():
        start = x(starts[kind])
        for code in range(256):
            body = start[1:] + bytes((code,)) + (b"\x00" if kind in properties_after else b"")
            decoder = Decoder(5, server=False)
            packets = decoder.feed(start[:1] + bytes((len(body),)) + body)
            assert (len(packets) == 1) == (code in allowed), (kind, code, decoder.error)


def test_reason_codes_have_the_standards_numbers() -> None:
    known = {reason.value for reason in Reason}
    assert known == {0, 1, 2, 4, 0x10, 0x11, 0x18, 0x19, *range(0x80, 0xA3)}
    assert set().union(*ALLOWED.values()) == known
    aliases = {"SUCCESS", "NORMAL_DISCONNECTION", "GRANTED_QOS_0"}
    assert {name for name, reason in Reason.__members__.items() if reason == 0} == aliases


def test_connack_reasons_of_3_1_1_are_the_ones_connack_may_carry() -> None:
    assert set(CONNACK_V3) - {Reason.SERVER_SHUTTING_DOWN} <= ALLOWED[Connack.type]
    assert set(CONNACK_V3.values()) == set(range(6))
    assert [CONNACK_V3[reason] for reason in REASON_OF_CONNACK_V3] == list(range(6))


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in CONNACK_V3])
def test_connack_of_3_1_1_is_empty_when_no_code_fits(reason: Reason) -> None:
    assert encoder.encode_connack(4, False, reason) == b""


def test_connack_never_says_session_present_with_a_refusal() -> None:  # [MQTT-3.2.2-6]
    assert encoder.encode_connack(5, True, Reason.NOT_AUTHORIZED) == x("20 03 00 87 00")
    assert encoder.encode_connack(4, True, Reason.NOT_AUTHORIZED) == x("20 02 00 05")


def test_connack_of_3_1_has_no_session_present() -> None:
    assert encoder.encode_connack(3, True, 0) == x("20 02 00 00")


def test_before_5_encoders_leave_out_properties_and_reasons() -> None:
    text = {"reason_string": "r"}
    assert encoder.encode_connack(4, False, 0, text) == x("20 02 00 00")
    assert encoder.encode_ack(4, Puback.type, 9, Reason.QUOTA_EXCEEDED, text) == x("40 02 0009")
    assert encoder.encode_suback(4, 9, [1, Reason.NOT_AUTHORIZED, 2], text) == x("90 05 0009 01 80 02")
    assert encoder.encode_unsuback(4, 9, [0, 0x11], text) == x("b0 02 0009")
    assert encoder.encode_disconnect(4, Reason.SERVER_BUSY, text) == x("e0 00")
    assert encoder.encode_publish(4, b"a", b"", properties_bytes=x("02 01 01")) == x("30 03 0001 'a'")
    assert encoder.encode_unsubscribe(4, 9, ["a"], {"user_property": [("k", "v")]}) == x(
        "a2 05 0009 0001 'a'"
    )
    subscription = SubscribeOption("a", 1, True, True, 2)
    assert encoder.encode_subscribe(4, 9, [subscription], {"subscription_identifier": [1]}) == x(
        "82 06 0009 0001 'a' 01"
    )


@pytest.mark.parametrize("size", [0, 1, *range(112, 132), 20_000])
@pytest.mark.parametrize("version", [4, 5])
def test_a_first_delivery_is_a_publish_like_any_other(version: int, size: int) -> None:
    usual = encoder.encode_first_delivery(version, b"topic", b"p" * size, 513)
    assert usual == encoder.encode_publish(version, b"topic", b"p" * size, 1, False, False, 513)


def test_publish_lengths_at_every_boundary() -> None:
    for size in (0, 1, 124, 125, 126, 16_379, 16_380, 16_381, 16_382, 2_097_147, 2_097_148, 2_097_149):
        data = encoder.encode_publish(4, b"a", b"p" * size)
        assert Decoder(4, packet_bytes_max=4_000_000).feed(data) == [Publish("a", b"p" * size)]


def test_a_property_that_a_packet_may_not_carry_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="topic_alias"):
        encode_properties(Puback.type, {"topic_alias": 1})


def test_equality_is_by_type_and_field_and_ignores_how_a_packet_arrived() -> None:
    assert Puback(1) == Puback(1)
    assert Puback(1) != Puback(2)
    assert Puback(1) != Pubrec(1)
    assert Puback(1) != "Puback(1)"
    assert Publish("a", b"x", frame=b"30") == Publish("a", b"x")
    assert Subscribe(1, [SubscribeOption("a")]) != Subscribe(1, [SubscribeOption("a", no_local=True)])


def test_a_packet_prints_its_fields_but_not_how_it_arrived() -> None:
    text = repr(Publish("a/b", b"x", frame=b"30"))
    assert text.startswith("Publish(")
    assert "topic='a/b'" in text
    assert "payload=b'x'" in text
    assert "frame" not in text


def test_nothing_ever_wrote_to_the_shared_empty_properties() -> None:
    for case in SIDED:
        decoder_for(case).feed(case.data)
    assert EMPTY == {}


def test_a_malformed_packet_prints_its_reason() -> None:
    error = MalformedPacket(Reason.PROTOCOL_ERROR, "two of it")
    assert repr(error) == "MalformedPacket(PROTOCOL_ERROR, 'two of it')"
    assert str(error) == "two of it"
