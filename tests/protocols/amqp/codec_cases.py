"""What the tests of the AMQP codec are made of: frames that are right, and all that can be wrong.

What is right is written by the library (pamqp), so that reading and writing cannot agree on a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from struct import pack
from typing import Any, NamedTuple, cast

from pamqp import body, commands, frame, header, heartbeat

from gateway.protocols.amqp.frames import ACK, FRAME_MIN, HEARTBEAT, METHOD, PUBLISH, Event
from gateway.protocols.amqp.tables import DEPTH_MAX, encode_table

BODY_MAX = 100_000
FRAME_MAX = FRAME_MIN
CHANNEL = 7
KINDS: list[Any] = list(cast("dict[int, Any]", commands.INDEX_MAPPING).values())

# -- what is right ---------------------------------------------------------------------

# Of types that the library writes as we do, names in its order.
TABLE: dict[str, Any] = {
    "a": "naïve ☃",
    "b": True,
    "c": None,
    "d": {"deep": {"er": [False, [], {}, "x"]}},
    "e": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "f": Decimal("-12.34"),
}
SAMPLES = {
    "octet": 9,
    "short": 513,
    "long": 70_000,
    "longlong": 1 << 40,
    "shortstr": "orders.eu-1",
    "longstr": "PLAIN \0é",
    "table": TABLE,
}
#: What the library writes one value of only.
FIXED = {
    "ticket": 0,
    "capabilities": "",
    "known_hosts": "",
    "cluster_id": "",
    "out_of_band": "0",
    "channel_id": "0",
    "insist": False,
}
#: Property, as the library names it and as we do -> a value for it and what we make of that.
PROPERTIES: list[tuple[str, Any, str, Any]] = [
    ("content_type", "text/plain", "content_type", b"text/plain"),
    ("content_encoding", "gzip", "content_encoding", b"gzip"),
    ("headers", TABLE, "headers", encode_table(TABLE)),
    ("delivery_mode", 2, "delivery_mode", 2),
    ("priority", 255, "priority", 255),
    ("correlation_id", "☃", "correlation_id", "☃".encode()),
    ("reply_to", "amq.gen-1", "reply_to", b"amq.gen-1"),
    ("expiration", "60000", "expiration", b"60000"),
    ("message_id", "m" * 255, "message_id", b"m" * 255),
    ("timestamp", datetime(2026, 1, 31, 12, tzinfo=UTC), "timestamp", 1_769_860_800),
    ("message_type", "t", "type", b"t"),
    ("user_id", "guest", "user_id", b"guest"),
    ("app_id", "app", "app_id", b"app"),
    ("cluster_id", "c", "cluster_id", b"c"),
]


class Case(NamedTuple):
    """Bytes, and what a decoder says to them."""

    name: str
    data: bytes
    events: list[Event]


def library_method(kind: Any, which: int) -> Any:
    """Return a method, every third bit of it set."""
    method = kind.__new__(kind)  # its own __init__ warns of what is deprecated
    bits = (number % 3 == which for number in range(8))
    for name in kind.__slots__:
        domain = kind.amqp_type(name)
        value = next(bits) if domain == "bit" else SAMPLES[domain]
        setattr(method, name, FIXED.get(name, value))
    return method


LIBRARY = [(f"{kind.name} {which}", library_method(kind, which)) for kind in KINDS for which in range(3)]


def raw(kind: int, payload: bytes, channel: int = CHANNEL, end: bytes = b"\xce") -> bytes:
    return pack(">BHI", kind, channel, len(payload)) + payload + end


def payload_of(method: Any) -> bytes:
    return frame.marshal(method, CHANNEL)[7:-1]


def library_properties(values: dict[str, Any]) -> Any:
    made = commands.Basic.Properties()
    for name, value in values.items():
        setattr(made, name, value)  # unlike its own __init__, takes a cluster-id
    return made


def content(properties: dict[str, Any], *chunks: bytes) -> bytes:
    """Return header and body frames, as the library writes them."""
    size = sum(len(chunk) for chunk in chunks)
    head = header.ContentHeader(0, size, library_properties(properties))
    bodies = (frame.marshal(body.ContentBody(chunk), CHANNEL) for chunk in chunks)
    return b"".join((frame.marshal(head, CHANNEL), *bodies))


PUBLISH_FRAME = frame.marshal(commands.Basic.Publish(0, "x", "k.l", mandatory=True), CHANNEL)
ARGUMENTS = b"\x01x\x03k.l\x01"
NO_PROPERTIES = b"\0\0"
HEARTBEAT_CASE = Case("heartbeat", heartbeat.Heartbeat().marshal(), [(HEARTBEAT, 0)])


def _method_cases() -> Iterator[Case]:
    for name, method in LIBRARY:
        data = frame.marshal(method, CHANNEL)
        event: Event = (METHOD, CHANNEL, data[7:-1])
        if isinstance(method, commands.Basic.Ack):
            event = (ACK, CHANNEL, method.delivery_tag, int(method.multiple))
        if not isinstance(method, commands.Basic.Publish):
            yield Case(name, data, [event])


def _content_cases() -> Iterator[Case]:
    for name, value, _, _ in PROPERTIES:
        properties = library_properties({name: value}).marshal()
        event = (PUBLISH, CHANNEL, ARGUMENTS, properties, b"body")
        yield Case(f"publish with {name}", PUBLISH_FRAME + content({name: value}, b"body"), [event])
    largest = b"x" * (FRAME_MAX - 8)
    for chunks in ([], [b"a"], [b"ab", b"c"], [b"", b"a", b"", b"b"], [largest], [largest, largest, b"y"]):
        event = (PUBLISH, CHANNEL, ARGUMENTS, NO_PROPERTIES, b"".join(chunks))
        name = f"publish of {[len(chunk) for chunk in chunks]}"
        yield Case(name, PUBLISH_FRAME + content({}, *chunks), [event])


def _woven() -> Case:
    """Two channels' contents, frame by frame in turn, and what may come in between."""
    parts = [PUBLISH_FRAME, content({}, b"a")]
    other = [part.replace(b"\x00\x07", b"\x00\x08", 1) for part in (PUBLISH_FRAME, content({}))]
    data = b"".join((parts[0], other[0], HEARTBEAT_CASE.data, parts[1][:22], other[1], parts[1][22:]))
    event = (PUBLISH, CHANNEL, ARGUMENTS, NO_PROPERTIES, b"a")
    return Case("woven", data, [(HEARTBEAT, 0), (PUBLISH, 8, ARGUMENTS, NO_PROPERTIES, b""), event])


def _ack_with_reserved_bits() -> Case:
    data = frame.marshal(commands.Basic.Ack(3, False), CHANNEL)
    return Case("ack with reserved bits", data[:-2] + b"\xfe\xce", [(ACK, CHANNEL, 3, 0)])


GOOD = [*_method_cases(), *_content_cases(), _woven(), _ack_with_reserved_bits(), HEARTBEAT_CASE]


# -- what is wrong ----------------------------------------------------------------------------------


def table_of(value: bytes, name: bytes = b"\x01k") -> bytes:
    """Return a table of one field, or of what else is given."""
    return pack(">I", len(name + value)) + name + value


def nested(depth: int, kind: bytes = b"F") -> bytes:
    """Return a table with tables, or arrays, below it."""
    inner = b""
    for _ in range(depth - 1):
        inner = (b"\x01k" if kind == b"F" else b"") + kind + pack(">I", len(inner)) + inner
    return table_of(kind + pack(">I", len(inner)) + inner)


LARGE = pack(">I", 0xFFFF_FFFF)
BAD_TABLES: list[tuple[str, bytes]] = [
    ("no length", b""),
    ("half a length", b"\0\0\0"),
    ("longer than what holds it", pack(">I", 4) + b"\x01kV"),
    ("much longer than what holds it", LARGE + b"\x01kV"),
    ("ends in a name", pack(">I", 2) + b"\x05k"),
    ("ends before a type", pack(">I", 2) + b"\x01k"),
    ("shorter than its field", pack(">I", 3) + b"\x01kt\x01"),
    ("shorter than its number", pack(">I", 7) + b"\x01kl" + b"\1" * 8),
    ("shorter than its text", pack(">I", 8) + b"\x01kS\0\0\0\x04text"),
    ("a text longer than the table", table_of(b"S\0\0\0\x05text")),
    ("a huge text", table_of(b"S" + LARGE)),
    ("bytes longer than the table", table_of(b"x\0\0\0\x01")),
    ("a text ends in its length", table_of(b"S\0\0")),
    ("an array longer than the table", table_of(b"A\0\0\0\x02V")),
    ("an array shorter than its field", table_of(b"A\0\0\0\x01t\x01")),
    ("an inner table longer than the outer", table_of(b"F\0\0\0\x04\x01kV")),
    ("an inner table shorter than its field", table_of(b"F\0\0\0\x03\x01kt\x01")),
    ("an unknown type", table_of(b"Z\0\0\0\0")),
    ("an unknown type in an array", table_of(b"A\0\0\0\x01U")),
    ("a time that no calendar has", table_of(b"T" + b"\xff" * 8)),
    ("nested too deep", nested(DEPTH_MAX + 1)),
    ("arrays nested too deep", nested(DEPTH_MAX + 1, b"A")),
    ("nested far too deep", nested(500)),
]
BAD_LISTS: list[tuple[str, bytes]] = [
    ("no flags", b"\x80"),
    ("flags go on", b"\x00\x01\x00\x00"),
    ("a flag of no property", b"\x00\x02"),
    ("more than its properties", b"\x00\x00\x00"),
    ("ends in a length", b"\x80\x00"),
    ("ends in a text", b"\x80\x00\x05text"),
    ("ends in a priority", b"\x08\x00"),
    ("ends in a timestamp", b"\x00\x40" + b"\0" * 7),
    ("ends in headers", b"\x20\x00\0\0\0\x01"),
    ("ends in the length of headers", b"\x20\x00\0\0"),
]
DECLARE = bytes.fromhex("0032000a 0000 0171 00")
HEADER = pack(">HHQ", 60, 0, 3) + NO_PROPERTIES

BAD: list[tuple[str, bytes, int]] = [
    ("over frame_max", pack(">BHI", 1, 0, FRAME_MAX - 7) + b"x", 501),
    ("far over frame_max", pack(">BHI", 3, 1, 0xFFFF_FFFF) + b"x", 501),
    ("HTTP", b"GET / HTTP/1.1\r\n\r\n", 501),
    ("wrong end", raw(1, payload_of(commands.Tx.Select()), end=b"\xcd"), 501),
    ("wrong end of a heartbeat", raw(8, b"", 0, b"\0"), 501),
    ("type 0", raw(0, b"x"), 501),
    ("type 4", raw(4, b""), 501),
    ("heartbeat on a channel", raw(8, b"", 1), 501),
    ("method before the header", PUBLISH_FRAME + raw(1, payload_of(commands.Tx.Select())), 505),
    ("publish before the header", PUBLISH_FRAME * 2, 505),
    ("ack before the body", PUBLISH_FRAME + raw(2, HEADER) + raw(1, payload_of(commands.Basic.Ack(1))), 505),
    ("header without method", raw(2, HEADER), 505),
    ("two headers", PUBLISH_FRAME + raw(2, HEADER) * 2, 505),
    ("header on another channel", PUBLISH_FRAME + raw(2, HEADER, CHANNEL + 1), 505),
    ("header after a content", PUBLISH_FRAME + raw(2, HEADER) + raw(3, b"abc") + raw(2, HEADER), 505),
    ("body without method", raw(3, b"abc"), 505),
    ("body without header", PUBLISH_FRAME + raw(3, b"abc"), 505),
    ("body on another channel", PUBLISH_FRAME + raw(2, HEADER) + raw(3, b"abc", CHANNEL + 1), 505),
    ("body after a content", PUBLISH_FRAME + content({}) + raw(3, b""), 505),
    ("body too long", PUBLISH_FRAME + raw(2, HEADER) + raw(3, b"abcd"), 501),
    ("body too long at last", PUBLISH_FRAME + raw(2, HEADER) + raw(3, b"ab") + raw(3, b"cd"), 501),
    ("body over body_max", PUBLISH_FRAME + raw(2, pack(">HHQ", 60, 0, BODY_MAX + 1) + NO_PROPERTIES), 501),
    ("body of 2**64 - 1", PUBLISH_FRAME + raw(2, pack(">HHQ", 60, 0, 2**64 - 1) + NO_PROPERTIES), 501),
    ("header of another class", PUBLISH_FRAME + raw(2, pack(">HHQ", 90, 0, 3) + NO_PROPERTIES), 501),
    ("header too short", PUBLISH_FRAME + raw(2, HEADER[:13]), 502),
    ("publish too short", raw(1, PUBLISH_FRAME[7:15]), 502),
    ("no method", raw(1, b""), 502),
    ("half a method", raw(1, b"\0\x0a\0"), 502),
    ("unknown method", raw(1, bytes.fromhex("003c 0063")), 540),
    ("unknown class", raw(1, bytes.fromhex("0063 000a ffff")), 540),
    ("name no UTF-8", raw(1, bytes.fromhex("0032 000a 0000 01ff 00 00000000")), 502),
    *(
        (f"ack, {extra!r}", raw(1, payload_of(commands.Basic.Ack(1)) + extra), 502)
        for extra in (b"\0", b"ab")
    ),
    *((f"arguments: {name}", raw(1, DECLARE + data), 502) for name, data in BAD_TABLES),
    *((f"table, {extra!r}", raw(1, DECLARE + table_of(b"V") + extra), 502) for extra in (b"\0", b"\x01kV")),
    *(
        (f"properties: {name}", PUBLISH_FRAME + raw(2, HEADER[:11] + b"\0" + data), 502)
        for name, data in BAD_LISTS
    ),
]
