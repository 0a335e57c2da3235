"""The property list of a content header [AMQP 0-9-1, 4.2.6.1]: bytes to fields and back.

Strings are short strings, kept as received but for what has to be text. Headers are left where
they are: `Basic.headers` is the table's bytes.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Final

from .errors import SyntaxFault

_FLAGS: Final = Struct(">H")
_LONG: Final = Struct(">I")
_STAMP: Final = Struct(">Q")

CONTENT_TYPE: Final = 1 << 15
CONTENT_ENCODING: Final = 1 << 14
HEADERS: Final = 1 << 13
DELIVERY_MODE: Final = 1 << 12
PRIORITY: Final = 1 << 11
CORRELATION_ID: Final = 1 << 10
REPLY_TO: Final = 1 << 9
EXPIRATION: Final = 1 << 8
MESSAGE_ID: Final = 1 << 7
TIMESTAMP: Final = 1 << 6
TYPE: Final = 1 << 5
USER_ID: Final = 1 << 4
APP_ID: Final = 1 << 3
CLUSTER_ID: Final = 1 << 2
_UNUSED: Final = 3  # the last is "more flags follow", which no property needs

PERSISTENT: Final = 2  # a delivery mode

#: Flag and attribute, in the order of the list; `b` is a short string.
_ORDER: Final = (
    (CONTENT_TYPE, "content_type", "b"),
    (CONTENT_ENCODING, "content_encoding", "b"),
    (HEADERS, "headers", "F"),
    (DELIVERY_MODE, "delivery_mode", "o"),
    (PRIORITY, "priority", "o"),
    (CORRELATION_ID, "correlation_id", "b"),
    (REPLY_TO, "reply_to", "b"),
    (EXPIRATION, "expiration", "b"),
    (MESSAGE_ID, "message_id", "b"),
    (TIMESTAMP, "timestamp", "T"),
    (TYPE, "type", "b"),
    (USER_ID, "user_id", "b"),
    (APP_ID, "app_id", "b"),
    (CLUSTER_ID, "cluster_id", "b"),
)

NO_LIST: Final = b"\x00\x00"


class Basic:
    """The properties of class basic; None where absent. `timestamp` in seconds."""

    __slots__ = (
        "app_id",
        "cluster_id",
        "content_encoding",
        "content_type",
        "correlation_id",
        "delivery_mode",
        "expiration",
        "headers",
        "message_id",
        "priority",
        "reply_to",
        "timestamp",
        "type",
        "user_id",
    )

    def __init__(self) -> None:
        self.content_type: bytes | None = None
        self.content_encoding: bytes | None = None
        self.headers: bytes | None = None  # an encoded table, with its length
        self.delivery_mode: int | None = None
        self.priority: int | None = None
        self.correlation_id: bytes | None = None
        self.reply_to: bytes | None = None
        self.expiration: bytes | None = None
        self.message_id: bytes | None = None
        self.timestamp: int | None = None
        self.type: bytes | None = None
        self.user_id: bytes | None = None
        self.app_id: bytes | None = None
        self.cluster_id: bytes | None = None


def decode_list(data: bytes, at: int = 0) -> Basic:
    """Return what a property list says. Raise SyntaxFault."""
    found = Basic()
    try:
        flags = _FLAGS.unpack_from(data, at)[0]
        at += 2
        if flags & _UNUSED:
            raise SyntaxFault("a property list has flags that no property has")
        for flag, name, kind in _ORDER:
            if not flags & flag:
                continue
            value: bytes | int
            if kind == "b":
                end = at + 1 + data[at]
                value = data[at + 1 : end]
            elif kind == "o":
                end = at + 1
                value = data[at]
            elif kind == "F":
                end = at + 4 + _LONG.unpack_from(data, at)[0]
                value = data[at:end]
            else:
                end = at + 8
                value = _STAMP.unpack_from(data, at)[0]
            if end > len(data):
                raise SyntaxFault(f"a property list ends in {name.replace('_', '-')}")
            setattr(found, name, value)
            at = end
    except (IndexError, error) as fault:
        raise SyntaxFault("a property list ends before its properties") from fault
    if at != len(data):
        raise SyntaxFault(f"a property list has {len(data) - at} bytes more than its properties")
    return found


def encode_list(basic: Basic) -> bytes:
    """Return the property list. Short strings have to have at most 255 bytes."""
    flags = 0
    pieces: list[bytes] = [b""]
    for flag, name, kind in _ORDER:
        value = getattr(basic, name)
        if value is None:
            continue
        flags |= flag
        if kind == "b":
            pieces += (bytes((len(value),)), value)
        elif kind == "o":
            pieces.append(bytes((value,)))
        elif kind == "F":
            pieces.append(value)
        else:
            pieces.append(_STAMP.pack(value))
    pieces[0] = _FLAGS.pack(flags)
    return b"".join(pieces)
