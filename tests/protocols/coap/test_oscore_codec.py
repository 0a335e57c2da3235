"""OSCORE's messages against the examples of RFC 8613 (appendix C), and options that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.coap.codec import Malformed, decode, encode_options, read_options
from gateway.protocols.coap.numbers import CONTENT_FORMAT, MAX_AGE, OBSERVE, OSCORE, URI_HOST, URI_PATH
from gateway.protocols.coap.oscore.oscore_codec import (
    Keys,
    number_bytes,
    read_header,
    read_inside,
    request_options,
    response_header,
    response_options,
    write_inside,
)

SECRET = bytes(range(1, 17))
SALT = bytes.fromhex("9e7ca92223786340")
ID_CONTEXT = bytes.fromhex("37cbf3210017a2d3")
SERVER = b"\x01"

#: Requests of C.4 to C.6: salt, the client's sender id, ID context, message as sent, what is inside.
REQUESTS = {
    "C.4": (SALT, b"", None, "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e"),
    "C.5": (
        b"",
        b"\x00",
        None,
        "440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0",
    ),
    "C.6": (
        SALT,
        b"",
        ID_CONTEXT,
        "44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_of_the_rfc(name: str) -> None:
    salt, kid, id_context, message = REQUESTS[name]
    packet = decode(bytes.fromhex(message))
    outer = read_options(packet.block)
    assert outer.oscore is not None
    header = read_header(outer.oscore)
    assert (header.kid, header.kid_context, header.partial_iv) == (kid, id_context, b"\x14")
    plaintext = Keys(SECRET, kid, id_context, salt, SERVER).open(header.partial_iv, packet.payload)
    assert plaintext == bytes.fromhex("01b3747631")
    code, block, payload = read_inside(plaintext)
    options = request_options(read_options(block), outer)
    assert options is not None
    meant = read_options(encode_options(options))
    assert (code, payload, meant.path, meant.host) == (1, b"", ("tv1",), "localhost")


@pytest.mark.parametrize(
    ("own", "option", "sealed"),
    [
        (b"", "", "dbaad1e9a7e7b2a813d3c31524378303cdafae119106"),
        (b"\x00", "0100", "4d4c13669384b67354b2b6175ff4b8658c666a6cf88e"),
    ],
    ids=["C.7", "C.8"],
)
def test_responses_of_the_rfc(own: bytes, option: str, sealed: str) -> None:
    keys = Keys(SECRET, b"", None, SALT, SERVER)
    plaintext = write_inside(0x45, [], b"Hello World!")
    assert plaintext.hex() == "45ff48656c6c6f20576f726c6421"
    assert keys.seal(plaintext, b"\x14", own).hex() == sealed
    assert response_header(own).hex() == option


def test_every_changed_bit_is_found() -> None:
    salt, kid, id_context, message = REQUESTS["C.4"]
    keys = Keys(SECRET, kid, id_context, salt, SERVER)
    sealed = decode(bytes.fromhex(message)).payload
    assert keys.open(b"\x14", sealed) is not None
    for at in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[at // 8] ^= 1 << at % 8
        assert keys.open(b"\x14", bytes(changed)) is None
    for end in range(len(sealed)):
        assert keys.open(b"\x14", sealed[:end]) is None
    assert keys.open(b"\x15", sealed) is None
    assert keys.open(b"\x00\x14", sealed) is None  # the same number, said differently


HEADERS = {
    "0914": (b"\x14", None, b""),
    "091400": (b"\x14", None, b"\x00"),
    "19140837cbf3210017a2d3": (b"\x14", ID_CONTEXT, b""),
    "1900006b": (b"\x00", b"", b"k"),
    "1dffffffffff03616263" + "78" * 9: (b"\xff" * 5, b"abc", b"x" * 9),
}


@pytest.mark.parametrize("value", HEADERS)
def test_headers(value: str) -> None:
    header = read_header(bytes.fromhex(value))
    assert (header.partial_iv, header.kid_context, header.kid) == HEADERS[value]


@pytest.mark.parametrize(
    "value",
    [
        "",  # of responses
        "00",
        "08",  # no partial IV
        "0814",
        "0e010203040506",  # reserved lengths of it
        "0f01020304050607",
        "0114",  # no kid
        "2914",  # reserved flags
        "4914",
        "8914",
        "1914",  # no length of the kid context
    ],
)
def test_no_headers(value: str) -> None:
    with pytest.raises(Malformed):
        read_header(bytes.fromhex(value))


def test_a_header_cut_anywhere() -> None:
    whole = bytes.fromhex("1d0102030405" + "03616263")
    for end in range(len(whole)):
        with pytest.raises(Malformed):
            read_header(whole[:end])
    assert read_header(whole).kid == b""


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_malformed(value: bytes) -> None:
    try:
        header = read_header(value)
    except Malformed:
        return
    context = b"" if header.kid_context is None else bytes((len(header.kid_context),)) + header.kid_context
    assert value == value[:1] + header.partial_iv + context + header.kid


@given(st.integers(0, 2**40 - 1))
def test_numbers(number: int) -> None:
    found = number_bytes(number)
    assert int.from_bytes(found, "big") == number
    assert found == b"\x00" or found[0]


@pytest.mark.parametrize(
    ("inside", "outside", "meant"),
    [
        ([(URI_PATH, b"a")], [], [(URI_PATH, b"a")]),
        ([(URI_PATH, b"a")], [(URI_HOST, b"h")], [(URI_HOST, b"h"), (URI_PATH, b"a")]),
        ([(URI_HOST, b"i")], [(URI_HOST, b"h")], [(URI_HOST, b"i")]),
        ([(OBSERVE, b"")], [(OBSERVE, b"")], [(OBSERVE, b"")]),
        ([(OBSERVE, b"")], [], []),  # somebody on the way has taken it off
        ([], [(OBSERVE, b"")], []),  # or put it on
        ([(URI_PATH, b"a")], [(URI_PATH, b"b"), (CONTENT_FORMAT, b"\x32")], [(URI_PATH, b"a")]),
    ],
)
def test_what_counts_of_a_request(
    inside: list[tuple[int, bytes]], outside: list[tuple[int, bytes]], meant: list[tuple[int, bytes]]
) -> None:
    outer = read_options(encode_options([(OSCORE, b"\x09\x14"), *outside]))
    inner = read_options(encode_options(inside))
    found = request_options(inner, outer)
    assert encode_options(inner.all if found is None else found) == encode_options(meant)


def test_observe_is_on_both_sides_of_a_notification() -> None:
    inside, outside = response_options(((OBSERVE, b"\x05"), (MAX_AGE, b"\x3c")), b"\x01\x07")
    assert inside == [(OBSERVE, b""), (MAX_AGE, b"\x3c")]
    assert outside == [(OSCORE, b"\x01\x07"), (OBSERVE, b"\x05")]


@pytest.mark.parametrize("plaintext", [b"\x01\xff", b"\x01\xf0", b"\x01\xb3ab", b"\x01\xd0"])
def test_nothing_that_makes_sense_inside(plaintext: bytes) -> None:
    with pytest.raises(Malformed):
        read_inside(plaintext)
