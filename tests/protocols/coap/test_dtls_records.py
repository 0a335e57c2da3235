"""Records as one sees them without a key: what is one, where it ends, what must go into one datagram."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.coap.datagrams.dtls_records import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    Record,
    datagrams,
    hello_random,
    read_records,
)

RANDOM = bytes(range(32))


def record(kind: int, body: bytes, epoch: int = 0, version: bytes = b"\xfe\xfd") -> bytes:
    head = bytes((kind,)) + version + epoch.to_bytes(2, "big") + bytes(6)
    return head + len(body).to_bytes(2, "big") + body


def hello(kind: int = 1, offset: int = 0, body: bytes = b"\xfe\xfd" + RANDOM + b"\0\0") -> bytes:
    head = bytes((kind,)) + len(body).to_bytes(3, "big") + b"\0\0" + offset.to_bytes(3, "big")
    return record(HANDSHAKE, head + len(body).to_bytes(3, "big") + body)


ONE = record(APPLICATION_DATA, b"secret", 1)
READ = {
    "one": (ONE, [Record(23, 1, 19)]),
    "DTLS 1.0's head, as of a first ClientHello": (record(22, b"x", 0, b"\xfe\xff"), [Record(22, 0, 14)]),
    "two": (ONE + record(ALERT, b"ab", 2), [Record(23, 1, 19), Record(21, 2, 34)]),
    "rubbish behind": (ONE + b"rubbish", [Record(23, 1, 19)]),
    "rubbish behind that looks like a head": (ONE + ONE[:13], [Record(23, 1, 19)]),
    "nothing": (b"", []),
    "a head alone": (ONE[:13], []),
    "half": (ONE[:-1], []),
    "an empty one": (record(APPLICATION_DATA, b"", 1), []),
    "TLS": (record(HANDSHAKE, b"x", 0, b"\x03\x03"), []),
    "with a connection ID": (record(25, b"x", 1), []),
    "of DTLS 1.3": (b"\x2f" + ONE[1:], []),
    "CoAP in the clear": (bytes.fromhex("440100010102030440"), []),
    "too long": (record(APPLICATION_DATA, bytes((1 << 14) + 2049), 1), []),
}


@pytest.mark.parametrize("name", READ)
def test_records_of_a_datagram(name: str) -> None:
    data, expected = READ[name]
    assert read_records(data) == expected


HELLOS = {
    "a ClientHello": (hello(), RANDOM),
    "its first fragment": (hello(body=b"\xfe\xfd" + RANDOM), RANDOM),
    "a later fragment": (hello(offset=40), b""),
    "another message": (hello(kind=16), b""),
    "a ClientHello that is too short": (hello(body=b"\xfe\xfd" + RANDOM[:-1]), b""),
    "an encrypted one": (record(HANDSHAKE, hello()[13:], 1), b""),
    "no handshake": (record(ALERT, hello()[13:]), b""),
}


@pytest.mark.parametrize("name", HELLOS)
def test_the_random_of_a_hello(name: str) -> None:
    data, expected = HELLOS[name]
    assert hello_random(data, read_records(data)[0]) == expected


@given(st.lists(st.integers(1, 300), max_size=20), st.integers(100, 400))
def test_datagrams_are_whole_records(sizes: list[int], bytes_max: int) -> None:
    written = b"".join(record(HANDSHAKE, bytes(size)) for size in sizes)
    cut = datagrams(written, bytes_max)
    assert b"".join(cut) == written
    for one in cut:
        found = read_records(one)
        assert found[-1].end == len(one)
        assert len(one) <= bytes_max or len(found) == 1
    for one, following in itertools.pairwise(cut):
        assert len(one) + read_records(following)[0].end > bytes_max, "it would have fitted"


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_not(data: bytes) -> None:
    for one in read_records(data):
        assert one.end <= len(data)
        hello_random(data, one)
