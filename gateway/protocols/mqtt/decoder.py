"""Bytes in, packets out: the receiving half of the MQTT codec, server's side and client's.

Strategy: `feed` never waits and never raises. One loop reads every packet that is wholly there; PUBLISH and
the bare acknowledgements, which are nearly all traffic, are taken apart inline, everything else by a reader
found in a table. A packet that is not all there yet waits in one buffer and is looked at again only when
the bytes it lacks have come, so that slow arrival costs no more than fast. The first malformed packet ends
the conversation: the packets before it are returned and `error` says what to tell the peer.
"""

from collections.abc import Callable
from typing import Final

from .packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    EMPTY,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    V5,
    V31,
    V311,
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscribeOption,
    Unsuback,
    Unsubscribe,
    Will,
)
from .properties import (
    WILL,
    Reader,
    decode_properties,
    decode_publish_properties,
    decode_topic_name,
)
from .reasons import (
    ALLOWED,
    REASON_OF_CONNACK_V3,
    MalformedPacket,
    Reason,
    malformed,
    protocol_error,
)

__all__ = ["PACKET_BYTES_MAX", "Decoder", "MalformedPacket"]

# MQTT allows 256 MiB. A packet is held in memory until it is whole, so this times the connections is what
# peers can make us hold; other brokers default to 1 or 2 MB.
PACKET_BYTES_MAX: Final = 1_048_576

# Topics longer than this are checked every time: a cache must not hold 64 KiB strings at a peer's wish.
CACHED_TOPIC_BYTES_MAX: Final = 128
# With the longest topics, in both forms, some 28 MB for the whole process; usual topics need half of that.
CACHED_TOPICS_MAX: Final = 65_536

_topics: Final[dict[bytes, str]] = {}
# A bare PUBACK says nothing but its identifier, so one object each will do: at most 65535, 5 MB.
_pubacks: Final[dict[int, Puback]] = {}

_PROTOCOL_NAMES: Final[dict[int, bytes]] = {V31: b"MQIsdp", V311: b"MQTT", V5: b"MQTT"}
_BARE_ACKS: Final[dict[int, type[Ack]]] = {0x40: Puback, 0x50: Pubrec, 0x62: Pubrel, 0x70: Pubcomp}
_ACKS: Final[dict[int, type[Ack]]] = {PUBACK: Puback, PUBREC: Pubrec, PUBREL: Pubrel, PUBCOMP: Pubcomp}
_SENT_BY_SERVER: Final = frozenset((CONNACK, SUBACK, UNSUBACK, PINGRESP))
_SENT_BY_CLIENT: Final = frozenset((CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ))
#: Lower half of the first byte of a PUBLISH -> QoS, retain, DUP.
_PUBLISH_FLAGS: Final = tuple((flags >> 1 & 3, flags & 1 == 1, flags & 8 == 8) for flags in range(16))
_FLAGS: Final[dict[int, int]] = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}


class Decoder:
    """Turn one connection's bytes into packets.

    In server mode `version` is 0 until a CONNECT names it; a client sets it to the version it asked for.
    """

    __slots__ = ("_needed", "_tail", "error", "packet_bytes_max", "server", "version")

    def __init__(
        self, version: int = 0, packet_bytes_max: int = PACKET_BYTES_MAX, server: bool = True
    ) -> None:
        assert server or version in _PROTOCOL_NAMES, "a client knows its version"
        self.version = version
        self.packet_bytes_max = packet_bytes_max
        self.server = server
        self.error: MalformedPacket | None = None
        self._tail = bytearray()
        self._needed = 0

    @property
    def buffered_bytes(self) -> int:
        return len(self._tail)

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that `data` completes; once one is malformed set `error` and return no more."""
        packets: list[Packet] = []
        if self.error is not None:
            return packets
        if self._tail:
            self._tail += data
            if len(self._tail) < self._needed:
                return packets
            data = bytes(self._tail)
            self._tail = bytearray()
        try:
            pos = self._parse(data, packets)
            if pos < len(data):
                self._tail += data[pos:]
        except MalformedPacket as error:
            self.error = error.with_traceback(None)  # the frames in it hold on to the bytes
        return packets

    def _parse(self, data: bytes, packets: list[Packet]) -> int:
        """Append the whole packets; return where the next begins and note how long it must become."""
        size = len(data)
        version = self.version
        packet_bytes_max = self.packet_bytes_max
        if version == 0 and size and data[0] >> 4 != CONNECT:  # [MQTT-3.1.0-1]
            raise protocol_error("the first packet is not CONNECT")
        pos = 0
        while pos + 1 < size:
            first = data[pos]
            length = data[pos + 1]
            start = pos + 2
            if length > 127:  # two bytes are the usual case; longer, padded and cut lengths go the slow way
                if start < size and 0 < data[start] < 128:
                    length += (data[start] << 7) - 128
                    start += 1
                else:
                    length, start = _read_length(data, pos + 1)
            end = start + length
            if end - pos > packet_bytes_max:  # [MQTT-3.2.2-15]
                raise MalformedPacket(Reason.PACKET_TOO_LARGE, f"a packet of {end - pos} bytes is too large")
            if end > size:
                self._needed = end - pos
                return pos
            if first >> 4 == PUBLISH:
                if length < 3:
                    raise malformed("PUBLISH is too short")
                body = start + 2 + (data[start] << 8) + data[start + 1]
                raw = data[start + 2 : body]
                packet_id = 0
                if first & 6:
                    body += 2
                    if body > end or first & 6 == 6:  # [MQTT-3.3.1-4]
                        raise malformed("PUBLISH has QoS 3 or ends early")
                    packet_id = data[body - 2] << 8 | data[body - 1]
                    if packet_id == 0:  # [MQTT-2.2.1-3] [MQTT-2.2.1-4]
                        raise protocol_error("PUBLISH has packet identifier 0")
                elif body > end or first & 8:  # [MQTT-3.3.1-2]
                    raise malformed("PUBLISH has DUP with QoS 0 or ends early")
                topic = _topics.get(raw)
                if topic is None:
                    topic = _read_topic(raw, version)
                properties = EMPTY
                frame = data[pos:end] if first == 0x30 else None
                if version == V5:
                    properties, body, verbatim = self._publish_properties(topic, data, body, end)
                    if not verbatim:
                        frame = None
                payload = data[body:end]
                qos, retain, dup = _PUBLISH_FLAGS[first & 15]
                packets.append(Publish(topic, payload, qos, retain, dup, packet_id, properties, frame))
            elif length == 2 and first == 0x40:
                packet_id = data[start] << 8 | data[start + 1]
                packets.append(_pubacks.get(packet_id) or _remember_puback(packet_id))
            elif length == 2 and first in _BARE_ACKS:
                packets.append(_BARE_ACKS[first](_packet_id(data[start] << 8 | data[start + 1])))
            else:
                packets.append(self._read(first, Reader(data, start, end)))
                version = self.version
            pos = end
        self._needed = 2
        return pos

    def _publish_properties(
        self, topic: str, data: bytes, pos: int, end: int
    ) -> tuple[Properties, int, bool]:
        """Return a PUBLISH's properties, where its payload begins and whether its bytes can be forwarded."""
        if pos < end and data[pos] == 0 and topic:
            return EMPTY, pos + 1, True
        properties, pos, verbatim = decode_publish_properties(data, pos, end)
        if not topic and "topic_alias" not in properties:
            raise protocol_error("PUBLISH has neither a topic nor a topic alias")
        if self.server and "subscription_identifier" in properties:  # [MQTT-3.3.4-6]
            raise protocol_error("a client sent a subscription identifier in PUBLISH")
        return properties, pos, verbatim

    def _read(self, first: int, reader: Reader) -> Packet:
        """Read any packet the slow way."""
        kind = first >> 4
        if kind == 0 or (kind == AUTH and self.version != V5):
            raise malformed(f"packet type {kind} is reserved")
        if kind in (_SENT_BY_SERVER if self.server else _SENT_BY_CLIENT):
            raise protocol_error(f"packet type {kind} came from the wrong side")
        # 3.1 has no reserved flags: a client of that age may set DUP when it repeats a SUBSCRIBE or PUBREL.
        if first & 15 != _FLAGS.get(kind, 0) and self.version != V31:  # [MQTT-2.1.3-1]
            raise malformed(f"reserved flags are set in packet type {kind}")
        packet = self._read_connect(reader) if kind == CONNECT else _READERS[kind](reader, kind, self.version)
        reader.finish()
        if kind == DISCONNECT and not self.server:
            self._check_server_disconnect(packet)
        return packet

    def _read_connect(self, reader: Reader) -> Connect:
        name, level = reader.binary(), reader.byte()
        if _PROTOCOL_NAMES.get(level) != name:  # [MQTT-3.1.2-1] [MQTT-3.1.2-2]
            text = f"protocol {name[:16]!r} level {level} is not spoken here"
            raise MalformedPacket(Reason.UNSUPPORTED_PROTOCOL_VERSION, text)
        if self.version == 0:  # now, so that what is wrong further on can be answered in this version
            self.version = level
        flags = reader.byte()
        _check_connect_flags(level, flags)
        keep_alive = reader.u16()
        properties = _read_properties(reader, CONNECT, level)
        if "authentication_data" in properties and "authentication_method" not in properties:
            raise protocol_error("authentication data without an authentication method")
        client_id = reader.string()  # [MQTT-3.1.3-3] [MQTT-3.1.3-4]
        will = _read_will(reader, level, flags) if flags & 0x04 else None
        username = reader.string() if flags & 0x80 else None  # [MQTT-3.1.2-16] [MQTT-3.1.2-17]
        password = reader.binary() if flags & 0x40 else None  # [MQTT-3.1.2-18] [MQTT-3.1.2-19]
        return Connect(level, client_id, flags & 2 == 2, keep_alive, username, password, will, properties)

    def _check_server_disconnect(self, packet: Packet) -> None:
        if self.version != V5:
            raise protocol_error("only a client may send DISCONNECT before MQTT 5")
        if isinstance(packet, Disconnect) and "session_expiry_interval" in packet.properties:
            # [MQTT-3.14.2-2]
            raise protocol_error("a server sent a session expiry interval in DISCONNECT")


def _read_length(data: bytes, pos: int) -> tuple[int, int]:
    """Return the remaining length at `pos` and where the packet's body begins.

    When the length itself is cut off the answer is one byte more than there is.
    """
    value = 0
    for index in range(4):
        if pos == len(data):
            return 1, pos
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << 7 * index
        if byte < 128:
            if byte == 0:  # [MQTT-1.5.5-1]
                raise malformed("the remaining length is padded")
            return value, pos
    raise malformed("the remaining length is over four bytes")


def _read_topic(raw: bytes, version: int) -> str:
    """Check the topic name of a PUBLISH and remember it."""
    if not raw and version != V5:  # [MQTT-4.7.3-1]; in MQTT 5 a topic alias may stand in
        raise malformed("a topic name is empty")
    topic = decode_topic_name(raw)  # [MQTT-3.3.2-1]
    if 0 < len(raw) <= CACHED_TOPIC_BYTES_MAX:
        if len(_topics) >= CACHED_TOPICS_MAX:
            _topics.clear()
        _topics[raw] = topic
    return topic


def _remember_puback(value: int) -> Puback:
    packet = _pubacks[value] = Puback(_packet_id(value))
    return packet


def _packet_id(value: int) -> int:
    if value == 0:  # [MQTT-2.2.1-3]
        raise protocol_error("a packet identifier is 0")
    return value


def _check_connect_flags(level: int, flags: int) -> None:
    if flags & 0x01:  # [MQTT-3.1.2-3]
        raise malformed("the reserved connect flag is set")
    if not flags & 0x04 and flags & 0x38:  # [MQTT-3.1.2-11] [MQTT-3.1.2-13]
        raise malformed("will QoS or will retain is set without a will")
    if flags & 0x18 == 0x18:  # [MQTT-3.1.2-12]
        raise malformed("will QoS is 3")
    if level != V5 and flags & 0xC0 == 0x40:  # 3.1.1 [MQTT-3.1.2-22]
        raise malformed("a password without a user name")


def _read_will(reader: Reader, level: int, flags: int) -> Will:  # [MQTT-3.1.2-9]
    properties = _read_properties(reader, WILL, level)
    topic = reader.topic_name()  # [MQTT-3.1.3-11]
    if not topic:  # [MQTT-4.7.3-1]
        raise malformed("the will topic is empty")
    return Will(topic, reader.binary(), flags >> 3 & 3, flags & 0x20 == 0x20, properties)


def _read_properties(reader: Reader, kind: int, version: int) -> Properties:
    if version != V5:
        return EMPTY
    properties, reader.pos = decode_properties(kind, reader.data, reader.pos, reader.end)
    return properties


def _read_optional_properties(reader: Reader, kind: int) -> Properties:
    """Read the properties of a packet that may end before them."""
    return _read_properties(reader, kind, V5) if reader.pos < reader.end else EMPTY


def _read_reason(reader: Reader, kind: int) -> int:
    reason = reader.byte()
    if reason not in ALLOWED[kind]:
        raise protocol_error(f"0x{reason:02x} is no reason code of packet type {kind}")
    return reason


def _read_option(reader: Reader, version: int) -> SubscribeOption:
    text = reader.topic_filter()
    options = reader.byte()
    if options & (0xC0 if version == V5 else 0xFC):  # [MQTT-3.8.3-5]
        raise malformed("reserved subscription options are set")
    qos, retain_handling = options & 3, options >> 4 & 3
    if qos == 3 or retain_handling == 3:
        raise protocol_error("a subscription asks for QoS 3 or retain handling 3")
    if options & 4 and text.startswith("$share/"):  # [MQTT-3.8.3-4]
        raise protocol_error("no local on a shared subscription")
    return SubscribeOption(text, qos, options & 4 == 4, options & 8 == 8, retain_handling)


def _read_subscribe(reader: Reader, kind: int, version: int) -> Packet:
    packet_id = _packet_id(reader.u16())
    properties = _read_properties(reader, kind, version)
    subscriptions: list[SubscribeOption] = []
    while reader.pos < reader.end:
        subscriptions.append(_read_option(reader, version))
    if not subscriptions:  # [MQTT-3.8.3-2]
        raise protocol_error("SUBSCRIBE has no topic filter")
    return Subscribe(packet_id, subscriptions, properties)


def _read_unsubscribe(reader: Reader, kind: int, version: int) -> Packet:
    packet_id = _packet_id(reader.u16())
    properties = _read_properties(reader, kind, version)
    filters: list[str] = []
    while reader.pos < reader.end:
        filters.append(reader.topic_filter())
    if not filters:  # [MQTT-3.10.3-2]
        raise protocol_error("UNSUBSCRIBE has no topic filter")
    return Unsubscribe(packet_id, filters, properties)


def _read_ack(reader: Reader, kind: int, version: int) -> Packet:
    packet_id = _packet_id(reader.u16())
    if version != V5 or reader.pos == reader.end:
        return _ACKS[kind](packet_id)
    reason = _read_reason(reader, kind)
    return _ACKS[kind](packet_id, reason, _read_optional_properties(reader, kind))


def _read_suback(reader: Reader, kind: int, version: int) -> Packet:
    packet_id = _packet_id(reader.u16())
    properties = _read_properties(reader, kind, version)
    reasons: list[int] = []
    while reader.pos < reader.end:
        reason = _read_reason(reader, kind)
        if version != V5 and reason > 0x80:  # 3.1.1 [MQTT-3.9.3-2]
            raise protocol_error(f"0x{reason:02x} is no return code of SUBACK before MQTT 5")
        reasons.append(reason)
    return Suback(packet_id, reasons, properties)


def _read_unsuback(reader: Reader, kind: int, version: int) -> Packet:
    packet_id = _packet_id(reader.u16())
    properties = _read_properties(reader, kind, version)
    reasons: list[int] = []
    while version == V5 and reader.pos < reader.end:
        reasons.append(_read_reason(reader, kind))
    return Unsuback(packet_id, reasons, properties)


def _read_connack(reader: Reader, kind: int, version: int) -> Packet:
    flags = reader.byte()
    if version == V31:  # which has no flags: the byte means nothing
        flags = 0
    if flags > 1:  # [MQTT-3.2.2-1]
        raise malformed("reserved CONNACK flags are set")
    if version == V5:
        reason = _read_reason(reader, kind)
    else:
        code = reader.byte()
        if code >= len(REASON_OF_CONNACK_V3):
            raise malformed(f"CONNACK return code {code} is reserved")
        reason = REASON_OF_CONNACK_V3[code]
    if flags and reason != 0:  # [MQTT-3.2.2-6]
        raise protocol_error("CONNACK refuses and says that a session is present")
    return Connack(flags == 1, reason, _read_properties(reader, kind, version))


def _read_disconnect(reader: Reader, kind: int, version: int) -> Packet:
    if version != V5 or reader.pos == reader.end:
        return Disconnect()
    reason = _read_reason(reader, kind)
    return Disconnect(reason, _read_optional_properties(reader, kind))


def _read_auth(reader: Reader, kind: int, version: int) -> Packet:
    if reader.pos == reader.end:
        return Auth()
    reason = _read_reason(reader, kind)
    return Auth(reason, _read_properties(reader, kind, version))


def _read_ping(reader: Reader, kind: int, version: int) -> Packet:
    return Pingreq() if kind == PINGREQ else Pingresp()


_READERS: Final[dict[int, Callable[[Reader, int, int], Packet]]] = {
    CONNACK: _read_connack,
    PUBACK: _read_ack,
    PUBREC: _read_ack,
    PUBREL: _read_ack,
    PUBCOMP: _read_ack,
    SUBSCRIBE: _read_subscribe,
    SUBACK: _read_suback,
    UNSUBSCRIBE: _read_unsubscribe,
    UNSUBACK: _read_unsuback,
    PINGREQ: _read_ping,
    PINGRESP: _read_ping,
    DISCONNECT: _read_disconnect,
    AUTH: _read_auth,
}
