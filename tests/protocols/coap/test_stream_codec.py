"""CoAP's frames over TCP and WebSocket: one table both ways, cut everywhere; what is refused, and when.

Bytes are written by hand from RFC 8323, 3.2 and 4.2.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.coap.codec import Option, Packet, encode_options
from gateway.protocols.coap.numbers import ABORT, CONTENT, CSM, EMPTY, GET, OBSERVE, PING, PUT, URI_PATH
from gateway.protocols.coap.streams.stream_codec import (
    BASE_BYTES_MAX,
    Decoder,
    FrameDecoder,
    MessageDecoder,
    encode_frame,
    encode_message,
)

SIZE_MAX = 1 << 20
TCP_CSM = bytes.fromhex("00e1")
WS_CSM = bytes.fromhex("00e1")


class Case(NamedTuple):
    name: str
    code: int
    token: bytes
    options: tuple[Option, ...]
    payload: bytes
    frame: bytes  # over TCP
    message: bytes  # over WebSocket


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


CASES = [
    Case("empty", EMPTY, b"", (), b"", hexed("0000"), hexed("0000")),
    Case("csm without options", CSM, b"", (), b"", hexed("00e1"), hexed("00e1")),
    Case("ping of RFC 8323, 5.4", PING, b"\x42", (), b"", hexed("01e242"), hexed("01e242")),
    Case(
        "csm", CSM, b"", ((2, b"\x04\x80"), (4, b"")), b"", hexed("40e1 220480 20"), hexed("00e1 220480 20")
    ),
    Case(
        "abort with a reason",
        ABORT,
        b"",
        ((2, b"\x03"),),
        b"no",
        hexed("50e5 2103 ff6e6f"),
        hexed("00e5 2103 ff6e6f"),
    ),
    Case(
        "get",
        GET,
        b"\x01\x02",
        ((URI_PATH, b"ps"), (URI_PATH, b"t")),
        b"",
        hexed("52 01 0102 b27073 0174"),
        hexed("02 01 0102 b27073 0174"),
    ),
    Case("len 12", CONTENT, b"", (), b"x" * 11, hexed("c045 ff") + b"x" * 11, hexed("0045 ff") + b"x" * 11),
    Case("len 13", CONTENT, b"", (), b"x" * 12, hexed("d00045 ff") + b"x" * 12, hexed("0045 ff") + b"x" * 12),
    Case("len 268", PUT, b"", (), b"x" * 267, hexed("d0ff03 ff") + b"x" * 267, hexed("0003 ff") + b"x" * 267),
    Case(
        "len 269",
        PUT,
        b"12345678",
        (),
        b"x" * 268,
        hexed("e8000003 3132333435363738 ff") + b"x" * 268,
        hexed("0803 3132333435363738 ff") + b"x" * 268,
    ),
    Case(
        "len 65804",
        PUT,
        b"",
        (),
        b"x" * 65803,
        hexed("e0ffff03 ff") + b"x" * 65803,
        hexed("0003 ff") + b"x" * 65803,
    ),
    Case(
        "len 65805",
        PUT,
        b"\x00",
        ((OBSERVE, b""),),
        b"x" * 65803,
        hexed("f1 00000000 03 00 60 ff") + b"x" * 65803,
        hexed("01 03 00 60 ff") + b"x" * 65803,
    ),
]
SHORT = [case for case in CASES if len(case.frame) < 300]


def drain(decoder: Decoder) -> list[Packet]:
    """Return all that is there."""
    found: list[Packet] = []
    while (packet := decoder.next()) is not None:
        found.append(packet)
    return found


def feed(decoder: Decoder, *chunks: bytes) -> list[Packet]:
    found: list[Packet] = []
    for chunk in chunks:
        decoder.feed(chunk)
        found += drain(decoder)
    return found


def facts(packet: Packet) -> tuple[int, bytes, bytes, bytes]:
    return (packet.code, packet.token, packet.block, packet.payload)


def expected(case: Case) -> tuple[int, bytes, bytes, bytes]:
    return (case.code, case.token, encode_options(case.options), case.payload)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_ways(case: Case) -> None:
    assert encode_frame(case.code, case.token, case.options, case.payload) == case.frame
    assert encode_message(case.code, case.token, case.options, case.payload) == case.message
    frames, messages = FrameDecoder(SIZE_MAX), MessageDecoder(SIZE_MAX)
    found = feed(frames, TCP_CSM + case.frame)
    assert frames.error is None
    assert [facts(packet) for packet in found[1:]] == [expected(case)]
    found = feed(messages, WS_CSM, case.message)
    assert messages.error is None
    assert [facts(packet) for packet in found[1:]] == [expected(case)]


def test_a_stream_cut_anywhere() -> None:
    stream = TCP_CSM + b"".join(case.frame for case in SHORT)
    whole = [expected(case) for case in SHORT]
    for cut in range(len(stream) + 1):
        found = feed(FrameDecoder(SIZE_MAX), stream[:cut], stream[cut:])
        assert [facts(packet) for packet in found[1:]] == whole, cut
    found = feed(FrameDecoder(SIZE_MAX), *(bytes((byte,)) for byte in stream))
    assert [facts(packet) for packet in found[1:]] == whole


def test_a_long_message_byte_by_byte() -> None:
    case = CASES[-1]
    stream = TCP_CSM + case.frame + CASES[0].frame
    found = feed(FrameDecoder(SIZE_MAX), *(bytes((byte,)) for byte in stream))
    assert [facts(packet) for packet in found[1:]] == [expected(case), expected(CASES[0])]


def test_messages_that_wait_are_not_lost() -> None:
    """Whoever has no room takes one and comes back later; more may have arrived by then."""
    stream = TCP_CSM + b"".join(case.frame for case in SHORT)
    decoder = FrameDecoder(SIZE_MAX)
    found: list[Packet] = []
    for at in range(0, len(stream), 7):
        decoder.feed(stream[at : at + 7])
        packet = decoder.next()
        found += [packet] if packet is not None else []
    found += drain(decoder)
    assert [facts(packet) for packet in found[1:]] == [expected(case) for case in SHORT]


OPTION = st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=300))
MESSAGE = st.tuples(
    st.sampled_from([GET, PUT, CONTENT, PING, EMPTY]),
    st.binary(max_size=8),
    st.lists(OPTION, max_size=4),
    st.binary(max_size=400),
).filter(lambda message: message[0] not in (PING, EMPTY) or len(message[3]) + 300 * len(message[2]) < 1000)


@given(st.lists(MESSAGE, min_size=1, max_size=6), st.data())
def test_any_messages_cut_anywhere(
    messages: list[tuple[int, bytes, list[Option], bytes]], data: st.DataObject
) -> None:
    stream = TCP_CSM + b"".join(encode_frame(*message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = [(code, token, encode_options(options), payload) for code, token, options, payload in messages]
    assert [facts(packet) for packet in feed(FrameDecoder(SIZE_MAX), *pieces)[1:]] == whole
    found = feed(MessageDecoder(SIZE_MAX), WS_CSM, *(encode_message(*message) for message in messages))
    assert [facts(packet) for packet in found[1:]] == whole


@given(st.binary(max_size=200), st.booleans())
def test_noise_is_messages_or_an_error(noise: bytes, csm: bool) -> None:
    start = TCP_CSM if csm else b""
    whole, single = FrameDecoder(SIZE_MAX), FrameDecoder(SIZE_MAX)
    found = feed(whole, start + noise)
    again = feed(single, *(bytes((byte,)) for byte in start + noise))
    assert [facts(packet) for packet in found] == [facts(packet) for packet in again]
    assert str(whole.error) == str(single.error)
    messages = MessageDecoder(SIZE_MAX)
    assert len(feed(messages, WS_CSM, noise)) == (1 if messages.error else 2)


BAD_FRAMES = [
    ("token of 9", hexed("0901") + b"x" * 9, "a token of 9 bytes"),
    ("token of 15", hexed("0f"), "a token of 15 bytes"),  # known by the first byte
    ("reserved delta", hexed("1001 f0"), "options that do not end"),
    ("reserved length", hexed("2001 1f00"), "options that do not end"),
    ("option over the end", hexed("2001 b270"), "options that do not end"),
    ("marker alone", hexed("1001 ff"), "marker without payload"),
    ("marker after an option", hexed("2001 b0ff"), "marker without payload"),
    ("too long", hexed("f0 0010000003"), "at most are taken"),
    ("as long as can be", hexed("f8 ffffffff01"), "a message of 4295033114 bytes"),
    ("signal too long", hexed("e0 0400e2"), "1152 at most"),
]


@pytest.mark.parametrize(
    ("frame", "text"), [row[1:] for row in BAD_FRAMES], ids=[row[0] for row in BAD_FRAMES]
)
def test_bad_frames(frame: bytes, text: str) -> None:
    for pieces in ([TCP_CSM + frame], [bytes((byte,)) for byte in TCP_CSM + frame]):
        decoder = FrameDecoder(SIZE_MAX)
        assert [packet.code for packet in feed(decoder, *pieces)] == [CSM]
        assert text in str(decoder.error)
        assert feed(decoder, CASES[0].frame) == [], "nothing is found after a mistake"


BAD_MESSAGES = [
    ("nothing", b"", "0 bytes are no message"),
    ("one byte", b"\x00", "1 bytes are no message"),
    ("with a length", hexed("2001 b170"), "Len is 2"),
    ("token of 9", hexed("0901") + b"x" * 9, "a token of 9 bytes"),
    ("token over the end", hexed("040101"), "a token of 4 bytes"),
    ("marker alone", hexed("0001 ff"), "marker without payload"),
    ("options over the end", hexed("0001 b270"), "options that do not end"),
    ("too long", hexed("0003 ff") + b"x" * SIZE_MAX, "at most are taken"),
]


@pytest.mark.parametrize(
    ("message", "text"), [row[1:] for row in BAD_MESSAGES], ids=[row[0] for row in BAD_MESSAGES]
)
def test_bad_messages(message: bytes, text: str) -> None:
    decoder = MessageDecoder(SIZE_MAX)
    assert [packet.code for packet in feed(decoder, WS_CSM, message)] == [CSM]
    assert text in str(decoder.error)
    assert feed(decoder, CASES[0].message) == []


@pytest.mark.parametrize("code", [GET, PING, CONTENT])
def test_the_first_message_is_a_csm(code: int) -> None:
    frames, messages = FrameDecoder(SIZE_MAX), MessageDecoder(SIZE_MAX)
    assert feed(frames, encode_frame(code, b"", (), b"")) == []
    assert feed(messages, encode_message(code, b"", (), b"")) == []
    assert "must be a CSM" in str(frames.error)
    assert "must be a CSM" in str(messages.error)


def test_empty_messages_may_come_before_it() -> None:
    found = feed(FrameDecoder(SIZE_MAX), CASES[0].frame + TCP_CSM)
    assert [packet.code for packet in found] == [EMPTY, CSM]


def test_what_is_too_long_is_refused_by_its_head() -> None:
    """The largest that may come, and one byte more: of that nothing is kept."""
    size_max = 2000
    fits = encode_frame(PUT, b"", (), b"x" * (size_max - 5))
    assert len(fits) == size_max
    assert len(feed(FrameDecoder(size_max), TCP_CSM + fits)) == 2
    decoder = FrameDecoder(size_max)
    feed(decoder, TCP_CSM + encode_frame(PUT, b"", (), b"x" * (size_max - 4))[:4])
    assert "2001 bytes" in str(decoder.error)
    before = FrameDecoder(size_max)
    feed(before, encode_frame(CSM, b"", (), b"x" * BASE_BYTES_MAX)[:4])
    assert "1152 at most" in str(before.error)
