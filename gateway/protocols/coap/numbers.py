"""The registries of CoAP: types, codes, options. One table each, with what the RFCs say of it.

RFC 7252 (12.1, 12.2), RFC 7641 (Observe), RFC 7959 (Block), RFC 7967 (No-Response), RFC 8132 (FETCH,
PATCH), RFC 8323 (signalling), RFC 8613 (OSCORE), RFC 8768 (Hop-Limit), RFC 9175 (Echo, Request-Tag).
"""

from __future__ import annotations

from typing import Final

# -- types of messages (RFC 7252, 3): what a datagram asks of its receiver
CON: Final = 0
NON: Final = 1
ACK: Final = 2
RST: Final = 3

# -- codes: class.detail, class in the upper three bits
EMPTY: Final = 0
GET: Final = 1
POST: Final = 2
PUT: Final = 3
DELETE: Final = 4
FETCH: Final = 5
PATCH: Final = 6
IPATCH: Final = 7

CREATED: Final = 0x41  # 2.01
DELETED: Final = 0x42
VALID: Final = 0x43
CHANGED: Final = 0x44
CONTENT: Final = 0x45
CONTINUE: Final = 0x5F  # 2.31
BAD_REQUEST: Final = 0x80  # 4.00
UNAUTHORIZED: Final = 0x81
BAD_OPTION: Final = 0x82
FORBIDDEN: Final = 0x83
NOT_FOUND: Final = 0x84
METHOD_NOT_ALLOWED: Final = 0x85
NOT_ACCEPTABLE: Final = 0x86
REQUEST_ENTITY_INCOMPLETE: Final = 0x88
CONFLICT: Final = 0x89
PRECONDITION_FAILED: Final = 0x8C
REQUEST_ENTITY_TOO_LARGE: Final = 0x8D
UNSUPPORTED_CONTENT_FORMAT: Final = 0x8F
UNPROCESSABLE_ENTITY: Final = 0x96
TOO_MANY_REQUESTS: Final = 0x9D
INTERNAL_SERVER_ERROR: Final = 0xA0  # 5.00
NOT_IMPLEMENTED: Final = 0xA1
SERVICE_UNAVAILABLE: Final = 0xA3
GATEWAY_TIMEOUT: Final = 0xA4
PROXYING_NOT_SUPPORTED: Final = 0xA5
HOP_LIMIT_REACHED: Final = 0xA8

# -- signalling (RFC 8323, 5), of TCP and WebSocket alone
CSM: Final = 0xE1  # 7.01
PING: Final = 0xE2
PONG: Final = 0xE3
RELEASE: Final = 0xE4
ABORT: Final = 0xE5

METHODS: Final = frozenset({GET, POST, PUT, DELETE, FETCH, PATCH, IPATCH})

# -- options
IF_MATCH: Final = 1
URI_HOST: Final = 3
ETAG: Final = 4
IF_NONE_MATCH: Final = 5
OBSERVE: Final = 6
URI_PORT: Final = 7
LOCATION_PATH: Final = 8
OSCORE: Final = 9
URI_PATH: Final = 11
CONTENT_FORMAT: Final = 12
MAX_AGE: Final = 14
URI_QUERY: Final = 15
HOP_LIMIT: Final = 16
ACCEPT: Final = 17
LOCATION_QUERY: Final = 20
BLOCK2: Final = 23
BLOCK1: Final = 27
SIZE2: Final = 28
PROXY_URI: Final = 35
PROXY_SCHEME: Final = 39
SIZE1: Final = 60
ECHO: Final = 252
NO_RESPONSE: Final = 258
REQUEST_TAG: Final = 292

#: Option -> (least bytes, most bytes, whether it may be there more than once). What is not here is
#: unknown: ignored if elective, refused with 4.02 if critical (an odd number; RFC 7252, 5.4.1).
#: A known option of another length counts as unknown (5.4.3), and so do repetitions of one that must
#: not be repeated (5.4.5).
OPTIONS: Final[dict[int, tuple[int, int, bool]]] = {
    IF_MATCH: (0, 8, True),
    URI_HOST: (1, 255, False),
    ETAG: (1, 8, True),
    IF_NONE_MATCH: (0, 0, False),
    OBSERVE: (0, 3, False),
    URI_PORT: (0, 2, False),
    OSCORE: (0, 255, False),
    URI_PATH: (0, 255, True),
    CONTENT_FORMAT: (0, 2, False),
    MAX_AGE: (0, 4, False),
    URI_QUERY: (0, 255, True),
    HOP_LIMIT: (1, 1, False),
    ACCEPT: (0, 2, False),
    BLOCK2: (0, 3, False),
    BLOCK1: (0, 3, False),
    SIZE2: (0, 4, False),
    PROXY_URI: (1, 1034, False),
    PROXY_SCHEME: (1, 255, False),
    SIZE1: (0, 4, False),
    ECHO: (1, 40, False),
    NO_RESPONSE: (0, 1, False),
    REQUEST_TAG: (0, 8, True),
}


def code_name(code: int) -> str:
    """Return "4.04" and the like, as people write codes."""
    return f"{code >> 5}.{code & 31:02}"


def uint(value: bytes) -> int:
    """Return an option's value of format `uint` (RFC 7252, 3.2)."""
    return int.from_bytes(value, "big")


def uint_bytes(number: int) -> bytes:
    """Return a number as an option has it: without leading zeros, 0 is empty."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
