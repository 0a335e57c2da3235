"""PROXY protocol v2: the headers of its specification, cut anywhere, damaged, with what follows them."""

from __future__ import annotations

import socket
import struct

import pytest

from gateway.proxy_protocol import FIXED_BYTES, SIGNATURE, MalformedHeader, NeedMore, parse_header

LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX_STREAM, UNIX_DATAGRAM = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32

PORTS = struct.pack(">HH", 51_234, 1883)
V4 = socket.inet_pton(socket.AF_INET, "192.0.2.7") + socket.inet_pton(socket.AF_INET, "198.51.100.1") + PORTS
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + PORTS
)
UNIX = b"/run/client.sock".ljust(108, b"\0") + b"/run/proxy.sock".ljust(108, b"\0")
TLV = struct.pack(">BH", 0x04, 5) + b"\0" * 5  # PP2_TYPE_NOOP


def header(command: int, family: int, block: bytes) -> bytes:
    """Return a header as section 2.2 lays it out."""
    return SIGNATURE + struct.pack(">BBH", command, family, len(block)) + block


#: name -> (header, the peer it tells; "" keeps the proxy's own address)
GOOD = {
    "tcp over v4": (header(PROXY, TCP4, V4), "192.0.2.7:51234"),
    "tcp over v4 with a TLV": (header(PROXY, TCP4, V4 + TLV), "192.0.2.7:51234"),
    "tcp over v6": (header(PROXY, TCP6, V6), "[2001:db8::7]:51234"),
    "tcp over v6 with TLVs": (header(PROXY, TCP6, V6 + TLV * 3), "[2001:db8::7]:51234"),
    "unix stream": (header(PROXY, UNIX_STREAM, UNIX), ""),
    "unix datagram": (header(PROXY, UNIX_DATAGRAM, UNIX), ""),
    "udp over v4": (header(PROXY, UDP4, V4), ""),
    "udp over v6": (header(PROXY, UDP6, V6), ""),
    "unspecified": (header(PROXY, UNSPEC, b""), ""),
    "unspecified with bytes to skip": (header(PROXY, UNSPEC, V4), ""),
    "local": (header(LOCAL, UNSPEC, b""), ""),
    "local, its addresses are ignored": (header(LOCAL, TCP4, V4), ""),
    "local, its family is ignored": (header(LOCAL, 0xFF, V4), ""),
}

BAD = {
    "version 1 in text": b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 1883\r\n",
    "a client without a proxy": b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    "the signature's last byte": SIGNATURE[:-1] + b"\r" + header(PROXY, TCP4, V4)[12:],
    "version 1 in binary": header(0x11, TCP4, V4),
    "version 3": header(0x31, TCP4, V4),
    "an unknown command": header(0x22, TCP4, V4),
    "an unknown family": header(PROXY, 0x41, V4),
    "an unknown transport": header(PROXY, 0x13, V4),
    "v4 addresses too short": header(PROXY, TCP4, V4[:-1]),
    "v4 addresses missing": header(PROXY, TCP4, b""),
    "v6 addresses too short": header(PROXY, TCP6, V6[:-1]),
    "v4 addresses where v6 is promised": header(PROXY, TCP6, V4),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_header_tells_the_peer_and_its_own_length(name: str) -> None:
    data, peer = GOOD[name]
    assert parse_header(data) == (peer, len(data))


@pytest.mark.parametrize("name", GOOD)
def test_bytes_after_the_header_are_not_used(name: str) -> None:
    data, peer = GOOD[name]
    for rest in (b"\0", data, b"\x10\x0c\x00\x04MQTT"):
        assert parse_header(data + rest) == (peer, len(data))


@pytest.mark.parametrize("name", GOOD)
def test_a_header_cut_anywhere_asks_for_more(name: str) -> None:
    data, _ = GOOD[name]
    for cut in range(len(data)):
        with pytest.raises(NeedMore):
            parse_header(data[:cut])


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_header_is_refused(name: str) -> None:
    with pytest.raises(MalformedHeader) as refused:
        parse_header(BAD[name])
    assert "PROXY" in str(refused.value)


@pytest.mark.parametrize("place", range(len(SIGNATURE)))
def test_a_wrong_byte_of_the_signature_is_noticed_as_soon_as_it_is_there(place: int) -> None:
    wrong = SIGNATURE[:place] + bytes((SIGNATURE[place] ^ 0x80,))
    with pytest.raises(MalformedHeader):
        parse_header(wrong)


def test_a_damaged_header_never_takes_more_than_it_says() -> None:
    """Every single byte changed to every value: parsed, refused or waited for; nothing else happens."""
    data = header(PROXY, TCP4, V4)
    seen = set()
    for place in range(FIXED_BYTES):
        for value in range(256):
            damaged = data[:place] + bytes((value,)) + data[place + 1 :]
            try:
                _, length = parse_header(damaged)
            except (NeedMore, MalformedHeader) as error:
                seen.add(type(error))
            else:
                seen.add(tuple)
                assert FIXED_BYTES <= length <= len(damaged)
    assert seen == {NeedMore, MalformedHeader, tuple}
