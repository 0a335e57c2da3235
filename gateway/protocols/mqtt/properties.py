"""The data representations of section 1.5 and the properties of section 2.2.2, from one table.

Strategy: a property is a row (identifier, name, kind, packets, where it may repeat); a kind is a pair of
functions, one per direction, and the reading one refuses the values that the standard forbids. Decoding
PUBLISH properties goes through a bounded cache of recent blocks, because a fleet repeats itself: the
dictionaries that come out are shared and read-only.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

from .packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    EMPTY,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Properties,
)
from .reasons import malformed, protocol_error

__all__ = [
    "EMPTY",
    "WILL",
    "Properties",
    "Reader",
    "decode_properties",
    "decode_publish_properties",
    "decode_text",
    "decode_topic_name",
    "encode_properties",
    "write_binary",
    "write_string",
    "write_varint",
]

# Where the table says "Will Properties": a place for properties that is no packet.
WILL: Final = 0

# A block whose length fits one byte. Longer ones carry things that differ every time, which a cache can
# only make slower.
CACHED_BLOCK_BYTES_MAX: Final = 127
# 4096 distinct blocks of at most 127 bytes and their dictionaries are about 4 MB, for the whole process.
CACHED_BLOCKS_MAX: Final = 4096

# A variable byte integer has at most four bytes of seven bits.
VARINT_MAX: Final = 268_435_455


class Reader:
    """Read the standard's data types from `data[pos:end]`; whatever is not there is a malformed packet."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int, end: int) -> None:
        self.data = data
        self.pos = pos
        self.end = end

    def take(self, count: int) -> bytes:
        pos = self.pos
        stop = pos + count
        if stop > self.end:
            raise malformed("the packet ends in the middle of a field")
        self.pos = stop
        return self.data[pos:stop]

    def byte(self) -> int:
        pos = self.pos
        if pos >= self.end:
            raise malformed("the packet ends in the middle of a field")
        self.pos = pos + 1
        return self.data[pos]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 128:
                if byte == 0 and shift:  # [MQTT-1.5.5-1]
                    raise malformed("a variable byte integer is padded")
                return value
        raise malformed("a variable byte integer is over four bytes")

    def binary(self) -> bytes:
        start = self.pos + 2
        if start > self.end:
            raise malformed("the packet ends in the middle of a field")
        stop = start + (self.data[start - 2] << 8 | self.data[start - 1])
        if stop > self.end:
            raise malformed("the packet ends in the middle of a field")
        self.pos = stop
        return self.data[start:stop]

    def string(self) -> str:
        return decode_text(self.binary())

    def topic_name(self) -> str:
        return decode_topic_name(self.binary())

    def topic_filter(self) -> str:  # [MQTT-3.8.3-1] [MQTT-3.10.3-1]
        text = rest = self.string()
        if text.startswith("$share/"):
            name, _, rest = text[7:].partition("/")
            if not name or "+" in name or "#" in name:  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
                raise malformed("a shared subscription has no valid share name")
        if not rest:  # [MQTT-4.7.3-1] [MQTT-4.8.2-2]
            raise malformed("a topic filter is empty")
        if "+" in rest or "#" in rest:
            levels = rest.split("/")
            if "#" in levels[:-1]:  # [MQTT-4.7.1-1]
                raise malformed("a topic filter goes on after #")
            if any(len(level) > 1 and ("+" in level or "#" in level) for level in levels):  # [MQTT-4.7.1-2]
                raise malformed("a wildcard shares its level of a topic filter")
        return text

    def finish(self) -> None:
        if self.pos != self.end:
            raise malformed("the packet goes on after its last field")


def decode_text(raw: bytes) -> str:
    if 0 in raw:  # [MQTT-1.5.4-2]
        raise malformed("a string contains U+0000")
    try:
        return raw.decode()  # [MQTT-1.5.4-1]: refuses surrogates and over-long forms
    except UnicodeDecodeError:
        raise malformed("a string is not UTF-8") from None


def decode_topic_name(raw: bytes) -> str:
    if b"+" in raw or b"#" in raw:  # [MQTT-3.3.2-2] [MQTT-3.3.2-14] [MQTT-4.7.0-1]
        raise malformed("a topic name contains a wildcard")
    return decode_text(raw)


def _read_pair(reader: Reader) -> object:
    return reader.string(), reader.string()


def _read_flag(reader: Reader) -> object:
    value = reader.byte()
    if value > 1:
        raise protocol_error(f"a property that must be 0 or 1 is {value}")
    return value


def _non_zero(read: Callable[[Reader], int]) -> Callable[[Reader], object]:
    def read_non_zero(reader: Reader) -> object:
        value = read(reader)
        if value == 0:
            raise protocol_error("a property that must not be 0 is 0")
        return value

    return read_non_zero


def write_varint(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    assert value <= VARINT_MAX, value
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_binary(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def write_string(value: str) -> bytes:
    return write_binary(value.encode())


def _write_byte(value: object) -> bytes:
    return cast(int, value).to_bytes(1, "big")


def _write_u16(value: object) -> bytes:
    return cast(int, value).to_bytes(2, "big")


def _write_u32(value: object) -> bytes:
    return cast(int, value).to_bytes(4, "big")


def _write_varint(value: object) -> bytes:
    return write_varint(cast(int, value))


def _write_binary(value: object) -> bytes:
    return write_binary(cast(bytes, value))


def _write_string(value: object) -> bytes:
    return write_string(cast(str, value))


def _write_pair(value: object) -> bytes:
    name, text = cast(tuple[str, str], value)
    return write_string(name) + write_string(text)


class Kind(NamedTuple):
    read: Callable[[Reader], object]
    write: Callable[[object], bytes]


_FLAG: Final = Kind(_read_flag, _write_byte)
_U16: Final = Kind(Reader.u16, _write_u16)
_U16_NON_ZERO: Final = Kind(_non_zero(Reader.u16), _write_u16)
_U32: Final = Kind(Reader.u32, _write_u32)
_U32_NON_ZERO: Final = Kind(_non_zero(Reader.u32), _write_u32)
_VARINT_NON_ZERO: Final = Kind(_non_zero(Reader.varint), _write_varint)
_STRING: Final = Kind(Reader.string, _write_string)
_TOPIC: Final = Kind(Reader.topic_name, _write_string)
_BINARY: Final = Kind(Reader.binary, _write_binary)
_PAIR: Final = Kind(_read_pair, _write_pair)


class Property(NamedTuple):
    """A row of table 2-4; a value that may repeat anywhere is always a list."""

    id: int
    name: str
    kind: Kind
    packets: frozenset[int]
    repeats_in: frozenset[int]


_ACKS: Final = (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK)
_EVERYWHERE: Final = (CONNECT, CONNACK, PUBLISH, WILL, *_ACKS, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH)


def _row(id: int, name: str, kind: Kind, *packets: int, repeats_in: tuple[int, ...] = ()) -> Property:
    return Property(id, name, kind, frozenset(packets), frozenset(repeats_in))


PROPERTIES: Final = (
    _row(0x01, "payload_format_indicator", _FLAG, PUBLISH, WILL),
    _row(0x02, "message_expiry_interval", _U32, PUBLISH, WILL),
    _row(0x03, "content_type", _STRING, PUBLISH, WILL),
    _row(0x08, "response_topic", _TOPIC, PUBLISH, WILL),
    _row(0x09, "correlation_data", _BINARY, PUBLISH, WILL),
    _row(0x0B, "subscription_identifier", _VARINT_NON_ZERO, PUBLISH, SUBSCRIBE, repeats_in=(PUBLISH,)),
    _row(0x11, "session_expiry_interval", _U32, CONNECT, CONNACK, DISCONNECT),
    _row(0x12, "assigned_client_identifier", _STRING, CONNACK),
    _row(0x13, "server_keep_alive", _U16, CONNACK),
    _row(0x15, "authentication_method", _STRING, CONNECT, CONNACK, AUTH),
    _row(0x16, "authentication_data", _BINARY, CONNECT, CONNACK, AUTH),
    _row(0x17, "request_problem_information", _FLAG, CONNECT),
    _row(0x18, "will_delay_interval", _U32, WILL),
    _row(0x19, "request_response_information", _FLAG, CONNECT),
    _row(0x1A, "response_information", _STRING, CONNACK),
    _row(0x1C, "server_reference", _STRING, CONNACK, DISCONNECT),
    _row(0x1F, "reason_string", _STRING, CONNACK, *_ACKS, DISCONNECT, AUTH),
    _row(0x21, "receive_maximum", _U16_NON_ZERO, CONNECT, CONNACK),
    _row(0x22, "topic_alias_maximum", _U16, CONNECT, CONNACK),
    _row(0x23, "topic_alias", _U16_NON_ZERO, PUBLISH),  # [MQTT-3.3.2-8]
    _row(0x24, "maximum_qos", _FLAG, CONNACK),
    _row(0x25, "retain_available", _FLAG, CONNACK),
    _row(0x26, "user_property", _PAIR, *_EVERYWHERE, repeats_in=_EVERYWHERE),
    _row(0x27, "maximum_packet_size", _U32_NON_ZERO, CONNECT, CONNACK),
    _row(0x28, "wildcard_subscription_available", _FLAG, CONNACK),
    _row(0x29, "subscription_identifier_available", _FLAG, CONNACK),
    _row(0x2A, "shared_subscription_available", _FLAG, CONNACK),
)

_BY_ID: Final[dict[int, Property]] = {row.id: row for row in PROPERTIES}
_BY_NAME: Final[dict[str, Property]] = {row.name: row for row in PROPERTIES}

# With any of these a PUBLISH says something about one connection or one moment, so that its bytes cannot be
# forwarded as they are. [MQTT-3.3.2-6] [MQTT-3.3.2-7] [MQTT-3.3.4-3]
_LOCAL_PROPERTIES: Final = frozenset(("topic_alias", "message_expiry_interval", "subscription_identifier"))

_blocks: Final[dict[bytes, tuple[Properties, bool]]] = {}


def encode_properties(packet_type: int, properties: Mapping[str, object]) -> bytes:
    """Return the property block of a packet (`WILL` for a will), with its length in front."""
    if not properties:
        return b"\x00"  # [MQTT-2.2.2-1]
    parts: list[bytes] = []
    for name, value in properties.items():
        row = _BY_NAME[name]
        assert packet_type in row.packets, f"{name} is not a property of packet type {packet_type}"
        prefix = bytes((row.id,))
        if row.repeats_in:
            parts.extend(prefix + row.kind.write(item) for item in cast(list[object], value))
        else:
            parts.append(prefix + row.kind.write(value))
    block = b"".join(parts)
    return write_varint(len(block)) + block


def decode_properties(packet_type: int, data: bytes, pos: int, end: int) -> tuple[Properties, int]:
    """Read the property block at `pos`; return the properties and where the next field begins."""
    reader = Reader(data, pos, end)
    length = reader.varint()
    stop = reader.pos + length
    if stop > end:
        raise malformed("the properties are longer than the packet")
    if length == 0:
        return EMPTY, stop
    reader.end = stop
    return _read_block(packet_type, reader), stop


def _read_block(packet_type: int, reader: Reader) -> Properties:
    properties: Properties = {}
    while reader.pos < reader.end:
        id = reader.byte()  # every identifier of table 2-4 fits one byte; a longer one is unknown anyway
        row = _BY_ID.get(id)
        if row is None:
            raise malformed(f"unknown property 0x{id:02x}")
        name = row.name
        if packet_type not in row.packets:
            raise malformed(f"{name} does not belong in this packet")
        value = row.kind.read(reader)
        if not row.repeats_in:
            if name in properties:
                raise protocol_error(f"{name} occurs twice")
            properties[name] = value
        elif name not in properties:
            properties[name] = [value]
        elif packet_type in row.repeats_in:
            cast(list[object], properties[name]).append(value)
        else:
            raise protocol_error(f"{name} occurs twice")
    return properties


def decode_publish_properties(data: bytes, pos: int, end: int) -> tuple[Properties, int, bool]:
    """Read the property block of a PUBLISH; the flag tells whether its bytes may be forwarded unaltered."""
    length = data[pos] if pos < end else 0
    stop = pos + 1 + length
    if length > CACHED_BLOCK_BYTES_MAX or stop > end:
        properties, stop = decode_properties(PUBLISH, data, pos, end)
        return properties, stop, _LOCAL_PROPERTIES.isdisjoint(properties)
    block = data[pos:stop]
    known = _blocks.get(block)
    if known is None:
        properties, _ = decode_properties(PUBLISH, data, pos, stop)
        known = (properties, _LOCAL_PROPERTIES.isdisjoint(properties))
        if len(_blocks) >= CACHED_BLOCKS_MAX:
            _blocks.clear()
        _blocks[block] = known
    return known[0], stop, known[1]
