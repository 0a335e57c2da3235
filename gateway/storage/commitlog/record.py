"""Records: how messages, journal entries and keys look in the log (docs/storage-format.md).

    mark(4) length(4) crc32(4) | kind(1) ...          all integers little-endian

`length` and the checksum cover everything from `kind` on. The mark lets recovery find the
next record after a damaged one; it is random, one for each log, so that nobody can publish a
body that recovery would take for records. Encoding a message is the hot path: one struct, one
join, one checksum, with everything that repeats (topics, origins, queue ids) cached.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from struct import Struct
from sys import byteorder
from types import NoneType
from typing import Any, Final, NamedTuple

import msgspec

from gateway.core.message import NO_PROPERTIES, PROPERTY_NAMES, Message, Origin, Properties

MARK_BYTES: Final = 4
HEADER: Final = Struct("<4sII")  # mark, length, crc32
HEADER_BYTES: Final[int] = HEADER.size

MESSAGE: Final = 1
SETTLE: Final = 2
DELIVERED: Final = 3
CURSOR: Final = 4
DROP_QUEUE: Final = 5
PUT: Final = 6
DELETE: Final = 7
TRIM: Final = 8
RETURNED: Final = 9
MOVED: Final = 10
SYNCED: Final = 11
GROUP: Final = 12
KINDS: Final = frozenset(range(MESSAGE, GROUP + 1))

#: kind, flags (qos in bits 0-1, retain bit 2), queues, times in ms: stored, published, expires;
#: lengths of topic, origin, properties
_MESSAGE: Final = Struct("<BBIqqqHHI")
_STORED_AT: Final = Struct("<q")
_STORED_AT_OFFSET: Final = 6
_SETTLE: Final = Struct("<BIBqI")  # kind, queue, outcome, time (ms), count; then positions u64
#: kind, queue, time (ms), length of consumer, length of group, count; then these, positions u64, tags u32
_DELIVERED: Final = Struct("<BIqHHI")
_CURSOR: Final = Struct("<BIQq")  # kind, queue, offset, time (ms); then the group's name
_TRIM: Final = Struct("<BIQqI")  # kind, queue, before, offset, count; then the positions kept, u64
_MOVED: Final = Struct("<BQ")  # kind, position; then the message record's payload
_SYNCED: Final = Struct("<BQ")  # kind, position
_GROUP: Final = Struct("<BI")  # kind, length of the records that follow
_DROP: Final = Struct("<BI")  # kind, queue
_PUT: Final = Struct("<BI")  # kind, key length; then key, value

CACHED_MAX: Final = 65_536  # topics and origins whose encoding is remembered; some 10 MB

_topics: dict[str, bytes] = {}
_origins: dict[Origin, bytes] = {}
_queue_ids: dict[Sequence[int], bytes] = {}
_origins_read: dict[bytes, Origin] = {}


def encode_message(message: Message, queue_ids: Sequence[int], now_ms: int) -> bytes:
    """Return the payload of a message record."""
    topic = _topics.get(message.topic)
    if topic is None:
        topic = _remember(_topics, message.topic, message.topic.encode())
    origin = _origins.get(message.origin)
    if origin is None:
        origin = _remember(_origins, message.origin, _encode_origin(message.origin))
    if type(queue_ids) is not tuple:
        queue_ids = tuple(queue_ids)
    ids = _queue_ids.get(queue_ids)
    if ids is None:
        ids = _remember(_queue_ids, queue_ids, column("I", queue_ids))
    made = message.properties
    properties = b"" if made is NO_PROPERTIES else encode_properties(made)
    flags = message.qos | 4 if message.retain else message.qos
    head = _MESSAGE.pack(
        MESSAGE,
        flags,
        len(ids) >> 2,
        now_ms,
        message.timestamp_ms,
        message.expires_at_ms,
        len(topic),
        len(origin),
        len(properties),
    )
    return b"".join((head, ids, topic, origin, properties, message.body))


def column(kind: str, values: Iterable[int]) -> bytes:
    """Return integers one after the other, little-endian, as `array` type `kind`."""
    packed = array(kind, values)
    if byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def read_column(kind: str, raw: bytes) -> array[int]:
    """Return what `column` packed."""
    unpacked: array[int] = array(kind)
    unpacked.frombytes(raw)
    if byteorder == "big":
        unpacked.byteswap()
    return unpacked


def _remember(cache: dict[Any, bytes], key: Any, encoded: bytes) -> bytes:
    if len(cache) >= CACHED_MAX:
        cache.clear()
    cache[key] = encoded
    return encoded


def _encode_origin(origin: Origin) -> bytes:
    parts = (origin.protocol, origin.principal, origin.client_id, origin.peer)
    # A name is at most some hundred bytes; what is longer is cut rather than refused.
    return b"\0".join(part.encode("utf-8", "replace")[:16_000] for part in parts)


def _decode_origin(data: bytes) -> Origin:
    known = _origins_read.get(data)
    if known is None:
        if len(_origins_read) >= CACHED_MAX:
            _origins_read.clear()
        parts = [part.decode("utf-8", "replace") for part in data.split(b"\0")]
        known = _origins_read[data] = Origin(*parts[:4])
    return known


def decode_message(payload: bytes) -> Message:
    """Return the message of a payload whose checksum is right."""
    _, flags, count, _, timestamp_ms, expires_at_ms, topic, origin, properties = _MESSAGE.unpack_from(payload)
    start = _MESSAGE.size + 4 * count
    topic_end = start + topic
    origin_end = topic_end + origin
    properties_end = origin_end + properties
    raw = payload[origin_end:properties_end]
    return Message(
        payload[start:topic_end].decode(),
        payload[properties_end:],
        flags & 3,
        flags & 4 != 0,
        decode_properties(raw) if raw else NO_PROPERTIES,
        _decode_origin(payload[topic_end:origin_end]),
        timestamp_ms,
        expires_at_ms,
    )


def raw_properties(payload: bytes) -> bytes:
    """Return a message's properties as they are encoded; b"" if it has none."""
    _, _, count, _, _, _, topic, origin, properties = _MESSAGE.unpack_from(payload)
    start = _MESSAGE.size + 4 * count + topic + origin
    return payload[start : start + properties]


def stored_at_ms(payload: bytes) -> int:
    """Return when a message was stored (Unix ms)."""
    found: int = _STORED_AT.unpack_from(payload, _STORED_AT_OFFSET)[0]
    return found


def message_facts(payload: bytes) -> tuple[tuple[int, ...], int, int]:
    """Return (queue ids, size of the body, stored at, ms) without decoding the rest: for recovery."""
    _, _, count, stored_at, _, _, topic, origin, properties = _MESSAGE.unpack_from(payload)
    ids = Struct(f"<{count}I").unpack_from(payload, _MESSAGE.size)
    size = len(payload) - _MESSAGE.size - 4 * count - topic - origin - properties
    return ids, size, stored_at


class _Due(msgspec.Struct, gc=False):
    """The one property that a calendar is read for: the others are skipped, not decoded."""

    deliver_at_ms: int = 0


_decode_due = msgspec.msgpack.Decoder(_Due).decode


def deliver_at_ms(payload: bytes) -> int:
    """Return when a message is to be delivered (ms), 0 if it does not say."""
    raw = raw_properties(payload)
    return _decode_due(raw).deliver_at_ms if raw else 0


_ENCODED_PROPERTIES: Final = (*PROPERTY_NAMES, "native", "native_format")


def encode_properties(properties: Properties) -> bytes:
    """Encode what is set as a msgpack map; the types of header values are kept."""
    if properties.stored is not None:
        return properties.stored
    fields: dict[str, Any] = {}
    for name in _ENCODED_PROPERTIES:
        if name == "headers" and properties.native_headers:
            continue
        value = getattr(properties, name)
        if value is not None and value is not False and value != () and value != "":
            fields[name] = value
    if any(type(value) not in _SIMPLE for _, value in fields.get("headers", ())):
        fields["headers"] = [(key, _header_value(value)) for key, value in fields["headers"]]
    try:
        encoded = msgspec.msgpack.encode(fields)
    except OverflowError:
        encoded = msgspec.msgpack.encode(_narrow(fields))
    properties.stored = encoded
    return encoded


_DECIMAL: Final = 1  # extension type of msgpack
_SIMPLE: Final = frozenset((str, int, bool, bytes, float, datetime, NoneType))


def _header_value(value: Any) -> Any:
    """Return a value as msgpack keeps its type: of itself it would write a decimal as text."""
    if isinstance(value, Decimal):
        return msgspec.msgpack.Ext(_DECIMAL, str(value).encode())
    if isinstance(value, dict):
        return {key: _header_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_header_value(item) for item in value]
    return value


def _extended(code: int, data: memoryview) -> Any:
    if code == _DECIMAL:
        return Decimal(bytes(data).decode())
    raise ValueError(f"an extension of msgpack of type {code} in a message's headers")


_decode = msgspec.msgpack.Decoder(ext_hook=_extended).decode


def _narrow(value: Any) -> Any:
    """Write integers over 64 bits as text: msgpack has no others, and no protocol's types either."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value)
    if isinstance(value, dict):
        return {key: _narrow(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_narrow(item) for item in value]
    return value


def decode_properties(data: bytes) -> Properties:
    """Return what `encode_properties` wrote; fields of a later minor version are left out."""
    fields = _decode(data)
    properties = Properties(headers=() if "headers" in fields or "native" not in fields else None)
    for name, value in fields.items():
        if name == "headers":
            value = tuple((key, item) for key, item in value)
        elif name == "keys":
            value = tuple(value)
        if name in _ENCODED_PROPERTIES:
            setattr(properties, name, value)
    return properties


def encode_settle(kind: int, queue_id: int, outcome: int, now_ms: int, positions: Sequence[int]) -> bytes:
    """A queue is done with these messages (SETTLE), or has them back (RETURNED)."""
    return _SETTLE.pack(kind, queue_id, outcome, now_ms, len(positions)) + column("Q", positions)


def decode_settle(payload: bytes) -> tuple[int, int, int, array[int]]:
    """Return (queue, outcome, time, positions)."""
    _, queue_id, outcome, now_ms, _ = _SETTLE.unpack_from(payload)
    return queue_id, outcome, now_ms, read_column("Q", payload[_SETTLE.size :])


def encode_delivered(
    queue_id: int, consumer: Origin, group: str, now_ms: int, positions: Sequence[int], tags: Sequence[int]
) -> bytes:
    """A queue has handed these messages to a consumer, once more."""
    who = _origins.get(consumer)
    if who is None:
        who = _remember(_origins, consumer, _encode_origin(consumer))
    name = group.encode()
    head = _DELIVERED.pack(DELIVERED, queue_id, now_ms, len(who), len(name), len(positions))
    return b"".join((head, who, name, column("Q", positions), column("I", tags)))


class Delivered(NamedTuple):
    """What a DELIVERED record says."""

    queue_id: int
    consumer: Origin
    group: str  # of a stream
    now_ms: int
    positions: Sequence[int]
    tags: Sequence[int]


def decode_delivered(payload: bytes) -> Delivered:
    """Return what is in it."""
    _, queue_id, now_ms, who, group, count = _DELIVERED.unpack_from(payload)
    group_at = _DELIVERED.size + who
    at = group_at + group
    consumer = _decode_origin(payload[_DELIVERED.size : group_at])
    positions = read_column("Q", payload[at : at + 8 * count])
    tags = read_column("I", payload[at + 8 * count :])
    return Delivered(queue_id, consumer, payload[group_at:at].decode(), now_ms, positions, tags)


NO_CURSOR: Final = (1 << 64) - 1  # instead of an offset: the group is gone


def encode_cursor(queue_id: int, group: str, offset: int, now_ms: int) -> bytes:
    """A group has settled everything below an offset; -1: it is gone."""
    return _CURSOR.pack(CURSOR, queue_id, offset if offset >= 0 else NO_CURSOR, now_ms) + group.encode()


def decode_cursor(payload: bytes) -> tuple[int, str, int, int]:
    """Return (queue, group, offset, time)."""
    _, queue_id, offset, now_ms = _CURSOR.unpack_from(payload)
    return queue_id, payload[_CURSOR.size :].decode(), -1 if offset == NO_CURSOR else offset, now_ms


def encode_trim(queue_id: int, before: int, offset: int, keep: Sequence[int]) -> bytes:
    """A queue has let everything below a position go, but for some; its oldest has this offset (-1: any)."""
    return _TRIM.pack(TRIM, queue_id, before, offset, len(keep)) + column("Q", keep)


def decode_trim(payload: bytes) -> tuple[int, int, int, array[int]]:
    """Return (queue, before, offset, positions kept)."""
    _, queue_id, before, offset, _ = _TRIM.unpack_from(payload)
    return queue_id, before, offset, read_column("Q", payload[_TRIM.size :])


def encode_moved(position: int, message: bytes) -> bytes:
    """The message of an older position, so that its segment can go."""
    return _MOVED.pack(MOVED, position) + message


def decode_moved(payload: bytes) -> tuple[int, bytes]:
    """Return (position, message payload)."""
    position: int = _MOVED.unpack_from(payload)[1]
    return position, payload[_MOVED.size :]


def encode_synced(position: int) -> bytes:
    """Everything before a position has been on disk."""
    return _SYNCED.pack(SYNCED, position)


def decode_synced(payload: bytes) -> int:
    """Return the position."""
    position: int = _SYNCED.unpack_from(payload)[1]
    return position


def encode_group(length: int) -> bytes:
    """The records in the next so many bytes are all there, or none of them counts."""
    return _GROUP.pack(GROUP, length)


def decode_group(payload: bytes) -> int:
    """Return the length."""
    length: int = _GROUP.unpack_from(payload)[1]
    return length


def encode_drop_queue(queue_id: int) -> bytes:
    """A queue is gone for good."""
    return _DROP.pack(DROP_QUEUE, queue_id)


def decode_drop_queue(payload: bytes) -> int:
    """Return the queue."""
    queue_id: int = _DROP.unpack_from(payload)[1]
    return queue_id


def encode_put(key: str, value: bytes) -> bytes:
    """A key has a value."""
    encoded = key.encode()
    return b"".join((_PUT.pack(PUT, len(encoded)), encoded, value))


def decode_put(payload: bytes) -> tuple[str, bytes]:
    """Return (key, value)."""
    end = _PUT.size + _PUT.unpack_from(payload)[1]
    return payload[_PUT.size : end].decode(), payload[end:]


def encode_delete(key: str) -> bytes:
    """A key is gone."""
    return bytes((DELETE,)) + key.encode()


def decode_delete(payload: bytes) -> str:
    """Return the key."""
    return payload[1:].decode()


def without_positions_from(payload: bytes, first: int) -> bytes:
    """Return a journal record without positions from `first` on: those were never written.

    Other records are returned as they are; b"" if nothing is left.
    """
    if payload[0] in (SETTLE, RETURNED):
        queue_id, outcome, now_ms, positions = decode_settle(payload)
        kept = [position for position in positions if position < first]
        return encode_settle(payload[0], queue_id, outcome, now_ms, kept) if kept else b""
    if payload[0] == DELIVERED:
        entry = decode_delivered(payload)
        pairs = [pair for pair in zip(entry.positions, entry.tags, strict=True) if pair[0] < first]
        if not pairs:
            return b""
        before, tags = [p for p, _ in pairs], [t for _, t in pairs]
        return encode_delivered(entry.queue_id, entry.consumer, entry.group, entry.now_ms, before, tags)
    return payload
