"""Frames, methods and property lists against the library's (pamqp): whole, byte by byte, and broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, frame, header

from gateway.protocols.amqp import frames, methods
from gateway.protocols.amqp.errors import AmqpFault
from gateway.protocols.amqp.frames import METHOD, PUBLISH, Decoder, Event
from gateway.protocols.amqp.methods import decode_method, encode_method
from gateway.protocols.amqp.properties import Basic, decode_list, encode_list
from gateway.protocols.amqp.tables import decode_table
from tests.protocols.amqp.codec_cases import (
    ARGUMENTS,
    BAD,
    BODY_MAX,
    CHANNEL,
    FRAME_MAX,
    GOOD,
    HEADER,
    HEARTBEAT_CASE,
    KINDS,
    LIBRARY,
    NO_PROPERTIES,
    PROPERTIES,
    PUBLISH_FRAME,
    Case,
    content,
    library_properties,
    payload_of,
    raw,
)

METHODS = [pytest.param(method, id=name) for name, method in LIBRARY]
good = pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)


def opened_decoder(body_max: int) -> Decoder:
    """Return a decoder as it is once channels may be opened."""
    decoder = Decoder(body_max)
    decoder.channels_max = 2047
    return decoder


def test_the_table_has_every_class() -> None:
    assert {kind.frame_id >> 16 or kind.index >> 16 for kind in KINDS} == {10, 20, 40, 50, 60, 85, 90}
    assert {ours for _, _, ours, _ in PROPERTIES} == set(Basic.__slots__)


@good
def test_decodes_whole(case: Case) -> None:
    decoder = opened_decoder(BODY_MAX)
    assert decoder.feed(case.data) == case.events
    assert decoder.feed(case.data + case.data) == case.events * 2
    assert decoder.error is None


@good
def test_decodes_byte_by_byte(case: Case) -> None:
    decoder = opened_decoder(BODY_MAX)
    found = [event for byte in case.data for event in decoder.feed(bytes((byte,)))]
    assert found == case.events
    assert decoder.error is None


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_the_librarys(method: Any) -> None:
    payload = payload_of(method)
    decoded = decode_method(payload)
    assert type(decoded) is type(method)
    for name in method.__slots__:
        expected = getattr(method, name)
        is_long = method.amqp_type(name) == "longstr"
        assert getattr(decoded, name) == (expected.encode() if is_long else expected), name
    assert encode_method(method) == payload
    assert encode_method(decoded) == payload


def test_names_may_be_what_the_library_refuses() -> None:
    name = "naïve*☃" + "x" * 200
    method: Any = commands.Queue.Declare(durable=True, arguments={"x": 1})
    method.queue = name
    with pytest.raises(ValueError, match="queue"):
        method.marshal()
    decoded = decode_method(encode_method(method))
    assert (decoded.queue, decoded.durable, decoded.arguments) == (name, True, {"x": 1})


def test_a_reply_text_is_cut_between_characters() -> None:
    assert methods.shortstr("é" * 128) == b"\xfe" + "é".encode() * 127
    assert methods.shortstr("a" * 256) == b"\xff" + b"a" * 255


@pytest.mark.parametrize(("name", "value", "ours", "made"), PROPERTIES)
def test_properties_are_the_librarys(name: str, value: Any, ours: str, made: Any) -> None:
    data = library_properties({name: value}).marshal()
    basic = decode_list(data)
    assert {field: getattr(basic, field) for field in Basic.__slots__} == {
        **dict.fromkeys(Basic.__slots__),
        ours: made,
    }
    assert encode_list(basic) == data


def test_all_properties_at_once() -> None:
    data = library_properties({name: value for name, value, _, _ in PROPERTIES}).marshal()
    basic = decode_list(b"\xff" + data, 1)
    assert [getattr(basic, ours) for _, _, ours, _ in PROPERTIES] == [made for *_, made in PROPERTIES]
    assert encode_list(basic) == data


@pytest.mark.parametrize("size", [0, 1, FRAME_MAX - 9, FRAME_MAX - 8, FRAME_MAX - 7, 3 * FRAME_MAX])
def test_contents_are_the_librarys(size: int) -> None:
    sent, room = bytes(range(256)) * (size // 256) + bytes(size % 256), FRAME_MAX - 8
    chunks = [sent[at : at + room] for at in range(0, size, room)]
    method = commands.Basic.Deliver("tag", 3, True, "x", "k")
    written = frames.encode_content(CHANNEL, payload_of(method), NO_PROPERTIES, sent, FRAME_MAX)
    assert written == frame.marshal(method, CHANNEL) + content({}, *chunks)


def test_what_is_written_by_hand_is_the_librarys() -> None:
    tag, address = 1 << 40, b"\x01x\x03k.l"
    prefix = frames.deliver_prefix(methods.shortstr("ctag"))
    deliver = commands.Basic.Deliver("ctag", tag, True, "x", "k.l")
    get_ok = commands.Basic.GetOk(tag, False, "x", "k.l", 70_000)
    assert frames.encode_deliver(prefix, tag, True, address) == payload_of(deliver)
    assert frames.encode_get_ok(tag, False, address, 70_000) == payload_of(get_ok)
    for multiple in (False, True):
        ack, nack = commands.Basic.Ack(tag, multiple), commands.Basic.Nack(tag, multiple, False)
        assert frames.encode_confirm(CHANNEL, tag, multiple, True) == frame.marshal(ack, CHANNEL)
        assert frames.encode_confirm(CHANNEL, tag, multiple, False) == frame.marshal(nack, CHANNEL)
    assert frames.encode_frame(CHANNEL, payload_of(deliver)) == frame.marshal(deliver, CHANNEL)
    assert HEARTBEAT_CASE.data == frames.HEARTBEAT_FRAME
    assert header.ProtocolHeader().marshal() == frames.PROTOCOL_HEADER


bad = pytest.mark.parametrize(
    ("data", "code"), [pytest.param(data, code, id=name) for name, data, code in BAD]
)


def understand(event: Event) -> Any:
    """Look into what a decoder leaves alone. Raise AmqpFault."""
    if event[0] == METHOD:
        method = decode_method(event[2])
        return event, [repr(getattr(method, name)) for name in method.__slots__]
    if event[0] == PUBLISH:
        basic = decode_list(event[3])
        return event, None if basic.headers is None else repr(decode_table(basic.headers))
    return event


def hear(chunks: Sequence[bytes]) -> tuple[list[Any], AmqpFault | None]:
    """Return all that a peer's bytes mean, until they mean nothing."""
    decoder, found = opened_decoder(BODY_MAX), list[Any]()
    try:
        for chunk in chunks:
            for event in decoder.feed(chunk):
                found.append(understand(event))
    except AmqpFault as fault:
        return found, fault
    if decoder.error is not None:
        assert decoder.feed(HEARTBEAT_CASE.data) == [], "after an error it takes no more"
    return found, decoder.error


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@bad
def test_refuses_whole(data: bytes, code: int) -> None:
    _, fault = hear([HEARTBEAT_CASE.data + data])
    assert fault is not None
    assert (fault.code, fault.channel_only) == (code, False)
    assert fault.detail


@bad
def test_refuses_byte_by_byte_and_says_the_same(data: bytes, code: int) -> None:
    whole, cut = hear([data])[1], hear(bytewise(data))[1]
    assert whole is not None
    assert cut is not None
    assert (cut.code, cut.text) == (code, whole.text)


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_are_cut_are_refused(method: Any) -> None:
    payload = payload_of(method)
    for end in range(len(payload)):
        with pytest.raises(AmqpFault) as caught:
            decode_method(payload[:end])
        assert caught.value.code == 502, payload[:end]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("extra", [b"\0", b"\1", b"\0\0\0\0\0"])
def test_methods_with_more_than_their_fields_are_refused(method: Any, extra: bytes) -> None:
    with pytest.raises(AmqpFault) as caught:
        decode_method(payload_of(method) + extra)
    assert caught.value.code == 502


def test_property_lists_that_are_cut_are_refused() -> None:
    data = library_properties({name: value for name, value, _, _ in PROPERTIES}).marshal()
    for end in range(len(data)):
        with pytest.raises(AmqpFault) as caught:
            decode_list(data[:end])
        assert caught.value.code == 502


def test_what_came_before_an_error_counts() -> None:
    decoder = opened_decoder(BODY_MAX)
    assert decoder.feed(HEARTBEAT_CASE.data + raw(4, b"") + HEARTBEAT_CASE.data) == HEARTBEAT_CASE.events
    assert decoder.error is not None


def test_larger_frames_once_it_is_agreed() -> None:
    decoder, data = opened_decoder(BODY_MAX), PUBLISH_FRAME + content({}, b"x" * 10_000)
    decoder.frame_max = 10_008
    assert [event[4] for event in decoder.feed(data)] == [b"x" * 10_000]
    decoder.frame_max = 10_007
    assert decoder.feed(data) == []
    assert decoder.error is not None
    assert decoder.error.code == 501


def test_the_largest_body() -> None:
    data = PUBLISH_FRAME + content({}, b"ab", b"c")
    assert opened_decoder(3).feed(data) == [(PUBLISH, CHANNEL, ARGUMENTS, NO_PROPERTIES, b"abc")]
    decoder = opened_decoder(2)
    assert decoder.feed(data) == []
    assert decoder.error is not None
    assert decoder.error.code == 501


IN_FLIGHT = [
    b"",
    PUBLISH_FRAME,
    PUBLISH_FRAME + raw(2, HEADER),
    PUBLISH_FRAME + raw(2, HEADER) + raw(3, b"a"),
]


@pytest.mark.parametrize("before", IN_FLIGHT, ids=len)
def test_contents_on_a_channel_that_we_closed_are_passed_over(before: bytes) -> None:
    decoder = opened_decoder(BODY_MAX)
    whole = PUBLISH_FRAME + raw(2, HEADER) + raw(3, b"a") + raw(3, b"bc")
    closed, opened = commands.Channel.CloseOk(), commands.Channel.Open()
    decoder.feed(before)
    decoder.ignore(CHANNEL)
    assert decoder.feed(whole[len(before) :] + whole) == []
    assert decoder.feed(frame.marshal(closed, CHANNEL)) == [(METHOD, CHANNEL, payload_of(closed))]
    decoder.heed(CHANNEL)
    assert decoder.feed(frame.marshal(opened, CHANNEL)) == [(METHOD, CHANNEL, payload_of(opened))]
    assert decoder.feed(whole) == [(PUBLISH, CHANNEL, ARGUMENTS, NO_PROPERTIES, b"abc")]
    assert decoder.error is None


def test_contents_on_other_channels_go_on() -> None:
    decoder = opened_decoder(BODY_MAX)
    decoder.feed(PUBLISH_FRAME + raw(2, HEADER))
    decoder.ignore(CHANNEL + 1)
    decoder.heed(CHANNEL + 2)
    assert decoder.feed(raw(3, b"abc")) == [(PUBLISH, CHANNEL, ARGUMENTS, NO_PROPERTIES, b"abc")]


def test_a_channel_that_is_opened_again_has_no_content() -> None:
    decoder, opened = opened_decoder(BODY_MAX), commands.Channel.Open()
    decoder.feed(PUBLISH_FRAME)
    decoder.heed(CHANNEL)
    assert decoder.feed(frame.marshal(opened, CHANNEL)) == [(METHOD, CHANNEL, payload_of(opened))]
    assert decoder.error is None


def test_empty_body_frames_are_not_kept() -> None:
    decoder = opened_decoder(BODY_MAX)
    decoder.feed(PUBLISH_FRAME + raw(2, HEADER) + raw(3, b"") * 1000)
    assert len(decoder._partial[CHANNEL].chunks) <= 1
    assert decoder.feed(raw(3, b"abc")) == [(PUBLISH, CHANNEL, ARGUMENTS, NO_PROPERTIES, b"abc")]


# -- noise ------------------------------------------------------------------------------------------

# Noise made of real frames gets further than noise made of bytes.
VALID = [case.data for case in GOOD if len(case.data) < 500]
fragments = st.sampled_from([*VALID, *(data for _, data, _ in BAD if len(data) < 500)])
noise = st.binary(max_size=100) | st.lists(fragments | st.binary(max_size=4), max_size=6).map(b"".join)
payloads = st.tuples(st.sampled_from([pack(">I", kind.index) for kind in KINDS]), st.binary(max_size=60)).map(
    b"".join
)
places = st.lists(st.integers(0, 2000), max_size=12)
flips = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=4)


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def damaged(data: bytes, flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, mask in flips:
        changed[place % len(changed)] ^= mask
    return bytes(changed)


def check_same(data: bytes, places: list[int]) -> None:
    whole, cut = hear([data]), hear(cut_at(data, places))
    assert whole[0] == cut[0]
    assert repr(whole[1]) == repr(cut[1])


@settings(max_examples=400)
@given(data=noise, places=places)
def test_noise_is_never_more_than_a_fault(data: bytes, places: list[int]) -> None:
    check_same(data, places)


@settings(max_examples=400)
@given(sent=st.lists(st.sampled_from(VALID), min_size=1, max_size=5), flips=flips, places=places)
def test_damage_is_never_more_than_a_fault(
    sent: list[bytes], flips: list[tuple[int, int]], places: list[int]
) -> None:
    check_same(damaged(b"".join(sent), flips), places)


def code_of(read: Callable[..., Any], *arguments: Any) -> int:
    """Return the code of the refusal, or 0."""
    try:
        read(*arguments)
    except AmqpFault as fault:
        return fault.code
    return 0


@settings(max_examples=400)
@given(payload=payloads)
def test_a_method_of_noise_is_never_more_than_a_fault(payload: bytes) -> None:
    code = code_of(decode_method, payload)
    assert code in (0, 502)
    if not code:
        method = decode_method(payload)
        assert code_of(decode_method, encode_method(method)) == 0


@settings(max_examples=400)
@given(data=st.binary(max_size=60), start=st.integers(0, 8))
def test_a_list_or_table_of_noise_is_never_more_than_a_fault(data: bytes, start: int) -> None:
    assert code_of(decode_list, data, start) in (0, 502)
    assert code_of(decode_table, data, start) in (0, 502)


lists = st.builds(
    lambda flags, rest: flags.to_bytes(2, "big") + rest, st.integers(0, 0xFFFF), st.binary(max_size=40)
)


@given(data=lists)
def test_a_list_that_can_be_read_is_written_as_it_was(data: bytes) -> None:
    if not code_of(decode_list, data):
        assert encode_list(decode_list(data)) == data
