"""Packets in, bytes out: the sending half of the MQTT codec, server's side and client's.

Every function returns one whole packet. What a version cannot say is left out: before MQTT 5 there are no
properties, and reasons shrink to what 3.1.1 knows. Callers pass legal values; nothing here looks for the
mistakes that a decoder would report. PUBLISH takes its topic and its property block already encoded,
because a broker sends both many times over.
"""

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from .packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    EMPTY,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    V5,
    V31,
    Connect,
    SubscribeOption,
)
from .properties import (
    WILL,
    encode_properties,
    write_binary,
    write_string,
    write_varint,
)
from .reasons import CONNACK_V3

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"

_pack_id = Struct("!H").pack
_pack_short = Struct("!BBH").pack  # first byte, length under 128, topic length or packet identifier
_pack_long = Struct("!BBBH").pack  # the same with a length of two bytes


def _packet(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((first,)) + write_varint(len(body)) + body


def encode_connect(packet: Connect) -> bytes:
    version, will = packet.version, packet.will
    flags = packet.clean_start << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    if will is not None:
        flags |= 0x04 | will.qos << 3 | will.retain << 5
    parts = [
        write_string("MQIsdp" if version == V31 else "MQTT"),
        bytes((version, flags)),
        packet.keep_alive.to_bytes(2, "big"),
        _block(version, CONNECT, packet.properties),
        write_string(packet.client_id),
    ]
    if will is not None:
        parts.append(_block(version, WILL, will.properties))
        parts.append(write_string(will.topic) + write_binary(will.payload))
    if packet.username is not None:
        parts.append(write_string(packet.username))
    if packet.password is not None:
        parts.append(write_binary(packet.password))
    return _packet(CONNECT << 4, *parts)


def encode_connack(
    version: int, session_present: bool, reason: int, properties: Mapping[str, object] = EMPTY
) -> bytes:
    """Return a CONNACK; empty for a refusal that 3.1.1 has no code for, because then nothing may be sent."""
    present = session_present and reason == 0 and version != V31  # [MQTT-3.2.2-6]
    if version == V5:
        return _packet(CONNACK << 4, bytes((present, reason)), encode_properties(CONNACK, properties))
    code = CONNACK_V3.get(reason)
    return b"" if code is None else bytes((CONNACK << 4, 2, present, code))  # 3.1.1 [MQTT-3.2.2-6]


def encode_publish(
    version: int,
    topic_bytes: bytes,
    payload: bytes,
    qos: int = 0,
    retain: bool = False,
    dup: bool = False,
    packet_id: int = 0,
    properties_bytes: bytes = b"\x00",
) -> bytes:
    """Return a PUBLISH; `properties_bytes`, a block with its length in front, is left out before MQTT 5."""
    topic_length = len(topic_bytes)
    length = 2 + topic_length + len(payload)
    first = 0x30
    packet_id_bytes = b""
    if qos:
        first |= qos << 1
        packet_id_bytes = _pack_id(packet_id)
        length += 2
    if version == V5:
        length += len(properties_bytes)
    else:
        properties_bytes = b""
    if retain:
        first |= 1
    if dup:
        first |= 8
    if length < 128:
        head = _pack_short(first, length, topic_length)
    elif length < 16_384:
        head = _pack_long(first, length & 0x7F | 0x80, length >> 7, topic_length)
    else:
        head = bytes((first,)) + write_varint(length) + _pack_id(topic_length)
    return b"".join((head, topic_bytes, packet_id_bytes, properties_bytes, payload))


def encode_first_delivery(version: int, topic_bytes: bytes, payload: bytes, packet_id: int) -> bytes:
    """Return a PUBLISH with QoS 1 and nothing else to say: what most deliveries are."""
    topic_length = len(topic_bytes)
    length = topic_length + len(payload) + 4
    if length < 127:
        if version == V5:
            head = _pack_short(0x32, length + 1, topic_length)
            return b"".join((head, topic_bytes, _pack_id(packet_id), b"\x00", payload))
        return b"".join((_pack_short(0x32, length, topic_length), topic_bytes, _pack_id(packet_id), payload))
    return encode_publish(version, topic_bytes, payload, 1, False, False, packet_id)


def encode_ack(
    version: int, type: int, packet_id: int, reason: int = 0, properties: Mapping[str, object] = EMPTY
) -> bytes:
    """Return a PUBACK, PUBREC, PUBREL or PUBCOMP, in its shortest form."""
    first = 0x62 if type == PUBREL else type << 4
    if version != V5 or (reason == 0 and not properties):
        return _pack_short(first, 2, packet_id)
    if not properties:
        return _pack_short(first, 3, packet_id) + bytes((reason,))
    return _packet(first, packet_id.to_bytes(2, "big"), bytes((reason,)), encode_properties(type, properties))


def encode_subscribe(
    version: int,
    packet_id: int,
    subscriptions: Sequence[SubscribeOption],
    properties: Mapping[str, object] = EMPTY,
) -> bytes:
    parts = [packet_id.to_bytes(2, "big"), _block(version, SUBSCRIBE, properties)]
    for item in subscriptions:
        options = item.qos
        if version == V5:
            options |= item.no_local << 2 | item.retain_as_published << 3 | item.retain_handling << 4
        parts.append(write_string(item.filter) + bytes((options,)))
    return _packet(0x82, *parts)


def encode_suback(
    version: int, packet_id: int, reasons: Sequence[int], properties: Mapping[str, object] = EMPTY
) -> bytes:
    if version != V5:
        reasons = [min(reason, 0x80) for reason in reasons]  # 3.1.1 [MQTT-3.9.3-2]
    block = _block(version, SUBACK, properties)
    return _packet(SUBACK << 4, packet_id.to_bytes(2, "big"), block, bytes(reasons))


def encode_unsubscribe(
    version: int, packet_id: int, filters: Sequence[str], properties: Mapping[str, object] = EMPTY
) -> bytes:
    block = _block(version, UNSUBSCRIBE, properties)
    return _packet(0xA2, packet_id.to_bytes(2, "big"), block, *(write_string(text) for text in filters))


def encode_unsuback(
    version: int, packet_id: int, reasons: Sequence[int], properties: Mapping[str, object] = EMPTY
) -> bytes:
    if version != V5:
        return _pack_short(UNSUBACK << 4, 2, packet_id)
    block = _block(version, UNSUBACK, properties)
    return _packet(UNSUBACK << 4, packet_id.to_bytes(2, "big"), block, bytes(reasons))


def encode_disconnect(version: int, reason: int = 0, properties: Mapping[str, object] = EMPTY) -> bytes:
    """Return a DISCONNECT, in its shortest form; before MQTT 5 only a client may send it."""
    first = DISCONNECT << 4
    if version != V5 or (reason == 0 and not properties):
        return bytes((first, 0))
    if not properties:
        return bytes((first, 1, reason))
    return _packet(first, bytes((reason,)), encode_properties(DISCONNECT, properties))


def encode_auth(reason: int = 0, properties: Mapping[str, object] = EMPTY) -> bytes:
    """Return an AUTH, in its shortest form; there is none before MQTT 5."""
    if reason == 0 and not properties:
        return bytes((AUTH << 4, 0))
    return _packet(AUTH << 4, bytes((reason,)), encode_properties(AUTH, properties))


def _block(version: int, packet_type: int, properties: Mapping[str, object]) -> bytes:
    return encode_properties(packet_type, properties) if version == V5 else b""
