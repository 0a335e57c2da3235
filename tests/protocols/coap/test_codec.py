"""Messages as bytes (RFC 7252, 3): one table in both directions, whole and cut at every byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.coap.codec import (
    CACHED_MAX,
    Malformed,
    Option,
    OptionsCache,
    decode,
    empty,
    encode,
    encode_options,
    options_end,
    read_options,
    split_options,
)
from gateway.protocols.coap.numbers import (
    ACCEPT,
    ACK,
    BLOCK1,
    CON,
    CONTENT,
    CONTENT_FORMAT,
    ECHO,
    ETAG,
    GET,
    IF_MATCH,
    IF_NONE_MATCH,
    NON,
    OBSERVE,
    PUT,
    RST,
    URI_HOST,
    URI_PATH,
    URI_QUERY,
    code_name,
    uint,
    uint_bytes,
)

_TEMPERATURE: list[Option] = [(11, b"temperature")]
_SEVERAL: list[Option] = [(11, b"a"), (11, b""), (11, b"b")]
_X300 = b"x" * 300

#: name -> (kind, code, message id, token, options, payload, bytes)
CASES: dict[str, tuple[int, int, int, bytes, list[Option], bytes, str]] = {
    # RFC 7252, appendix A
    "figure 16, request": (
        CON,
        GET,
        0x7D34,
        b"",
        [(11, b"temperature")],
        b"",
        "40017d34bb74656d7065726174757265",
    ),
    "figure 16, response": (ACK, CONTENT, 0x7D34, b"", [], b"22.3 C", "60457d34ff32322e332043"),
    "figure 17, request": (
        CON,
        GET,
        0x7D35,
        b" ",
        [(11, b"temperature")],
        b"",
        "41017d3520bb74656d7065726174757265",
    ),
    "figure 17, response": (ACK, CONTENT, 0x7D35, b" ", [], b"22.3 C", "61457d3520ff32322e332043"),
    "no options, no payload": (NON, PUT, 1, b"12345678", [], b"", "580300013132333435363738"),
    "a delta of 13": (CON, GET, 2, b"", [(13, b"")], b"", "40010002d000"),
    "a delta of 268": (CON, GET, 2, b"", [(268, b"")], b"", "40010002d0ff"),
    "a delta of 269": (CON, GET, 2, b"", [(269, b"")], b"", "40010002e00000"),
    "the largest delta": (CON, GET, 2, b"", [(65804, b"")], b"", "40010002e0ffff"),
    "a length of 12": (CON, GET, 2, b"", [(11, b"x" * 12)], b"", "40010002bc" + "78" * 12),
    "a length of 13": (CON, GET, 2, b"", [(11, b"x" * 13)], b"", "40010002bd00" + "78" * 13),
    "a length of 268": (CON, GET, 2, b"", [(11, b"x" * 268)], b"", "40010002bdff" + "78" * 268),
    "a length of 269": (CON, GET, 2, b"", [(11, b"x" * 269)], b"", "40010002be0000" + "78" * 269),
    "both extended": (
        CON,
        GET,
        2,
        b"",
        [(300, b"x" * 300)],
        b"p",
        "40010002ee001f001f" + "78" * 300 + "ff70",
    ),
    "several of one number": (
        CON,
        GET,
        2,
        b"",
        [(11, b"a"), (11, b""), (11, b"b")],
        b"",
        "40010002b161000162",
    ),
    "payload of markers": (CON, PUT, 2, b"", [], b"\xff\xff", "40030002ffffff"),
}


@pytest.mark.parametrize("name", CASES)
def test_both_ways(name: str) -> None:
    kind, code, mid, token, options, payload, text = CASES[name]
    data = bytes.fromhex(text)
    assert encode(kind, code, mid, token, options, payload).hex() == text
    packet = decode(data)
    assert (packet.kind, packet.code, packet.mid, packet.token, packet.payload) == (
        kind,
        code,
        mid,
        token,
        payload,
    )
    assert split_options(packet.block) == options


@pytest.mark.parametrize("name", CASES)
def test_cut_anywhere_it_is_another_message_or_none(name: str) -> None:
    """What is left is malformed, or what it says; never an error of ours."""
    data = bytes.fromhex(CASES[name][-1])
    for end in range(len(data)):
        try:
            packet = decode(data[:end])
        except Malformed:
            continue
        options = split_options(packet.block)
        assert (
            encode(packet.kind, packet.code, packet.mid, packet.token, options, packet.payload) == data[:end]
        )


@pytest.mark.parametrize(
    ("text", "kind"),
    {
        "": -1,
        "400100": -1,
        "00010001": -1,  # version 0
        "80010001": -1,
        "c0010001": -1,
        "4901000131323334353637383940": CON,  # a token of 9
        "5f010001" + "31" * 15: NON,
        "4401000131": CON,  # a token that is cut off
        "40010001ff": CON,  # a marker without payload
        "40010001f0": CON,  # a delta of 15
        "400100010f": CON,  # a length of 15
        "40010001d0": CON,  # an extended delta that is cut off
        "40010001e000": CON,
        "400100010d": CON,
        "400100010e00": CON,
        "40010001b5": CON,  # a value that is cut off
        "4000000100": CON,  # an empty message with something in it
        "410000010a": CON,
    }.items(),
)
def test_what_is_malformed(text: str, kind: int) -> None:
    with pytest.raises(Malformed) as caught:
        decode(bytes.fromhex(text))
    assert caught.value.kind == kind


def test_empty_messages() -> None:
    assert empty(ACK, 0x1234).hex() == "60001234"
    assert empty(RST, 1).hex() == "70000001"
    assert decode(empty(RST, 0xFFFF)).mid == 0xFFFF


_OPTIONS = st.lists(st.tuples(st.integers(0, 65804), st.binary(max_size=400)), max_size=12)


@given(
    st.sampled_from((CON, NON, ACK)),
    st.integers(1, 255),
    st.integers(0, 65535),
    st.binary(max_size=8),
    _OPTIONS,
    st.binary(max_size=50),
)
def test_any_message_comes_back(
    kind: int, code: int, mid: int, token: bytes, options: list[Option], payload: bytes
) -> None:
    packet = decode(encode(kind, code, mid, token, options, payload))
    assert (packet.kind, packet.code, packet.mid, packet.token) == (kind, code, mid, token)
    assert split_options(packet.block) == sorted(options, key=lambda option: option[0])
    assert packet.payload == payload


@given(st.binary(max_size=300))
def test_noise_is_a_message_or_malformed(data: bytes) -> None:
    try:
        packet = decode(data)
    except Malformed:
        return
    try:
        read_options(packet.block)
    except Malformed:
        return


@given(st.binary(max_size=60))
def test_where_options_end_is_where_they_can_be_split(data: bytes) -> None:
    end = options_end(data, 0)
    if end >= 0:
        assert sum(len(value) for _, value in split_options(data[:end])) <= end
        assert end == len(data) or data[end] == 0xFF


# -- what options say -------------------------------------------------------------------------


def test_what_options_say() -> None:
    found = read_options(
        encode_options(
            [
                (URI_HOST, b"example"),
                (URI_PATH, b"ps"),
                (URI_PATH, "ü".encode()),
                (URI_PATH, b""),
                (URI_QUERY, b"qos=1"),
                (CONTENT_FORMAT, b"\x32"),
                (ACCEPT, b""),
                (OBSERVE, b"\x01"),
                (ETAG, b"a"),
                (ETAG, b"b"),
                (IF_MATCH, b""),
                (IF_NONE_MATCH, b""),
                (BLOCK1, b"\x1e"),
                (ECHO, b"e"),
                (65000, b"elective"),
            ]
        )
    )
    assert (found.host, found.path, found.query) == ("example", ("ps", "ü", ""), ("qos=1",))
    assert (found.content_format, found.accept, found.observe, found.block1) == (50, 0, 1, 0x1E)
    assert (found.etags, found.if_match, found.if_none_match) == ((b"a", b"b"), (b"",), True)
    assert (found.echo, found.critical) == (b"e", 0)


@pytest.mark.parametrize(
    ("option", "critical"),
    [
        ((65001, b""), 65001),  # nobody knows it
        ((65000, b""), 0),  # elective
        ((ACCEPT, b"123"), ACCEPT),  # a length that it has not
        ((IF_NONE_MATCH, b"x"), IF_NONE_MATCH),
        ((CONTENT_FORMAT, b"123"), 0),
    ],
)
def test_options_that_are_not_known(option: Option, critical: int) -> None:
    assert read_options(encode_options([option])).critical == critical


def test_a_repetition_of_what_must_not_be_repeated_is_not_known() -> None:
    assert read_options(encode_options([(ACCEPT, b"2"), (ACCEPT, b"3")])).critical == ACCEPT
    assert (
        read_options(encode_options([(CONTENT_FORMAT, b"2"), (CONTENT_FORMAT, b"3")])).content_format == 0x32
    )


@pytest.mark.parametrize("number", [URI_PATH, URI_QUERY, URI_HOST])
def test_text_is_utf8(number: int) -> None:
    with pytest.raises(Malformed):
        read_options(encode_options([(number, b"\xff")]))


def test_what_comes_again_is_found_again_and_memory_is_bounded() -> None:
    cache = OptionsCache()
    block = encode_options([(URI_PATH, b"a")])
    assert cache.read(block) is cache.read(bytes(block))
    for n in range(CACHED_MAX + 10):
        cache.read(encode_options([(URI_PATH, b"%d" % n)]))
    assert len(cache._known) <= CACHED_MAX


@given(st.integers(0, 0xFFFFFFFF))
def test_numbers_come_back(number: int) -> None:
    assert uint(uint_bytes(number)) == number
    assert not uint_bytes(number).startswith(b"\0")


def test_codes_as_people_write_them() -> None:
    assert (code_name(CONTENT), code_name(GET), code_name(0xA5)) == ("2.05", "0.01", "5.05")
