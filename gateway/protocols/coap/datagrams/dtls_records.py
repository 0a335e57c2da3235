"""DTLS records as one sees them without a key (RFC 6347, 4.1): heads, and the beginning of a ClientHello.

What cannot be a record is dropped before OpenSSL sees it, and what OpenSSL writes is cut where it may be:
its memory BIOs are byte streams, but datagrams are not.
"""

from __future__ import annotations

from typing import Final, NamedTuple

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

HEAD_BYTES: Final = 13  # type, version, epoch, sequence number, length
RECORD_BYTES_MAX: Final = (1 << 14) + 2048  # RFC 5246, 6.2.3, which RFC 6347, 4.1 keeps
#: RFC 7252, 4.6: where nothing is known of the path, packets of 1280 bytes; less the heads of IPv6 and UDP.
DATAGRAM_BYTES_MAX: Final = 1280 - 40 - 8

_CLIENT_HELLO: Final = 1
_HANDSHAKE_HEAD_BYTES: Final = 12  # type, length, message_seq, fragment's offset and length
_RANDOM_AT: Final = HEAD_BYTES + _HANDSHAKE_HEAD_BYTES + 2
_RANDOM_BYTES: Final = 32


class Record(NamedTuple):
    """One record's head. `end` is where in the datagram the record ends."""

    kind: int
    epoch: int
    end: int


def read_records(data: bytes) -> list[Record]:
    """Return the records of a datagram, up to the first that is none: what follows cannot be found.

    DTLS 1.0's and 1.2's alone: records of DTLS 1.3 and those with a connection ID (RFC 9146) have other
    heads, and are for others.
    """
    found: list[Record] = []
    at = 0
    while len(data) - at >= HEAD_BYTES:
        kind = data[at]
        length = data[at + 11] << 8 | data[at + 12]
        end = at + HEAD_BYTES + length
        known = CHANGE_CIPHER_SPEC <= kind <= APPLICATION_DATA and data[at + 1] == 0xFE
        if not known or not 0 < length <= RECORD_BYTES_MAX or end > len(data):
            break
        found.append(Record(kind, data[at + 3] << 8 | data[at + 4], end))
        at = end
    return found


def hello_random(data: bytes, first: Record) -> bytes:
    """Return the client's random if the first record begins an unencrypted ClientHello, else b"".

    It tells one handshake of a client from the next (RFC 6347, 4.2.8).
    """
    if first.kind != HANDSHAKE or first.epoch or first.end < _RANDOM_AT + _RANDOM_BYTES:
        return b""
    offset = data[HEAD_BYTES + 6 : HEAD_BYTES + 9]
    if data[HEAD_BYTES] != _CLIENT_HELLO or offset != b"\0\0\0":
        return b""
    return data[_RANDOM_AT : _RANDOM_AT + _RANDOM_BYTES]


def datagrams(data: bytes, bytes_max: int = DATAGRAM_BYTES_MAX) -> list[bytes]:
    """Cut what OpenSSL has written into datagrams: whole records, as many in each as fit."""
    if len(data) <= bytes_max:
        return [data] if data else []
    found: list[bytes] = []
    start = at = 0
    while at < len(data):
        end = at + HEAD_BYTES + (data[at + 11] << 8 | data[at + 12])
        if end - start > bytes_max and at > start:
            found.append(data[start:at])
            start = at
        at = end
    found.append(data[start:])
    return found
