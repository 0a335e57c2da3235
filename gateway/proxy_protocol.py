"""PROXY protocol version 2: who the client really is, told by the proxy in front of us.

Sans-I/O: bytes in, (peer, length of the header) out. Section numbers are those of HAProxy's
`proxy-protocol.txt`.
"""

from __future__ import annotations

import socket
import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FIXED_BYTES = 16

_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_FAMILY_MAX, _TRANSPORT_MAX = 3, 2  # AF_UNIX, DGRAM: what is greater "must be rejected as invalid"


class NeedMore(Exception):
    """The header is not complete yet."""


class MalformedHeader(Exception):
    """These bytes are no PROXY header of version 2."""


def parse_header(data: bytes) -> tuple[str, int]:
    """Return (peer as "host:port", "" if the proxy speaks for itself; bytes used) (section 2.2)."""
    if not data.startswith(SIGNATURE[: len(data)]):
        raise MalformedHeader("no PROXY protocol v2 header where the configuration demands one")
    if len(data) < FIXED_BYTES:
        raise NeedMore
    command, family, length = struct.unpack_from(">BBH", data, 12)
    end = FIXED_BYTES + length
    if len(data) < end:
        raise NeedMore
    if command == _LOCAL:
        return "", end
    if command != _PROXY:
        raise MalformedHeader(f"PROXY protocol: version and command 0x{command:02x}")
    if family >> 4 > _FAMILY_MAX or family & 0x0F > _TRANSPORT_MAX:
        raise MalformedHeader(f"PROXY protocol: address family and transport 0x{family:02x}")
    if length < {_TCP4: 12, _TCP6: 36}.get(family, 0):
        raise MalformedHeader(f"PROXY protocol: {length} bytes are too few for the addresses")
    if family == _TCP4:
        host = socket.inet_ntop(socket.AF_INET, data[16:20])
        return f"{host}:{struct.unpack_from('>H', data, 24)[0]}", end
    if family == _TCP6:
        host = socket.inet_ntop(socket.AF_INET6, data[16:32])
        return f"[{host}]:{struct.unpack_from('>H', data, 48)[0]}", end
    return "", end  # unspecified or other families: keep the proxy's own address
