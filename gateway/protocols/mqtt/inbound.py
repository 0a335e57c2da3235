"""From PUBLISH packets to messages, and the acknowledgements they are owed.

Acknowledgements leave in the order of the packets [MQTT-4.6.0-2]: one that waits for the
disk holds back those after it. All that one read of the socket owes is one batch, released
by one callback.
"""

from __future__ import annotations

from collections import deque

from gateway.api import NO_SUBSCRIBERS, Gateway
from gateway.core.errors import (
    GatewayError,
    InvalidTopic,
    InvalidValue,
    NotAuthorized,
    NotStored,
    QueueFull,
    QuotaExceeded,
)
from gateway.core.message import NO_PROPERTIES, Message
from gateway.core.session import Session

from .clients import RECEIVED_KEY, Clients
from .decoder import Decoder
from .encoder import encode_ack
from .link import Link
from .outbound import WIRE_FORMAT
from .packets import PUBACK, PUBCOMP, PUBREC, V5, Ack, Publish
from .reasons import MalformedPacket, Reason
from .translate import to_properties

#: GatewayError -> reason of PUBACK and PUBREC; the first class that fits.
REASONS: tuple[tuple[type[GatewayError], Reason], ...] = (
    (NotAuthorized, Reason.NOT_AUTHORIZED),
    (InvalidTopic, Reason.TOPIC_NAME_INVALID),
    (QueueFull, Reason.QUOTA_EXCEEDED),
    (NotStored, Reason.QUOTA_EXCEEDED),
    (QuotaExceeded, Reason.QUOTA_EXCEEDED),
)

#: 3.1.1 has no negative acknowledgement. A refusal that trying again will not change is
#: acknowledged [MQTT-3.3.5-2]; after any other the connection is closed, so that the client sends again.
FINAL_REFUSALS = (NotAuthorized, InvalidTopic, InvalidValue, QuotaExceeded)

#: Acknowledgements (4 bytes each) that may wait for the disk: then the client outruns it, and is not read.
OWED_BYTES_MAX = 256 * 1024

WHY_CHARS_MAX = 500  # of a reason string: a topic may be 64 KB, and the client's packets small

#: What marks the acknowledgement of a duplicate.
DUPLICATE: dict[str, object] = {"user_property": [("duplicate", "true")]}

#: One per packet identifier in use, at most 65535: about 5 MB if all are.
_pubacks: dict[int, bytes] = {}


def _puback(packet_id: int) -> bytes:
    encoded = _pubacks[packet_id] = encode_ack(V5, PUBACK, packet_id)
    return encoded


class Inbound:
    """What one client has sent and is owed an answer for."""

    __slots__ = (
        "_acks",
        "_aliases",
        "_clients",
        "_format",
        "_gateway",
        "_link",
        "_others",
        "_owed",
        "_owed_bytes",
        "_owed_publishes",
        "_paused",
        "_position",
        "_session",
        "_version",
        "alias_max",
        "client_id",
        "cut_denied",
        "durable",
        "receive_max",
        "received",
        "retain_available",
        "say_why",
    )

    def __init__(
        self,
        version: int,
        client_id: str,
        session: Session,
        gateway: Gateway,
        clients: Clients,
        link: Link,
    ) -> None:
        self._version = version
        self._format = WIRE_FORMAT[version]
        self._session = session
        self._gateway = gateway
        self._clients = clients
        self._link = link
        self._paused = False
        self._owed_bytes = 0
        self._owed_publishes = 0
        self._others = 0  # acknowledgements of this read that answer no PUBLISH
        self._aliases: dict[int, str] | None = None
        self._acks: list[bytes] = []  # of this read
        self._position = 0  # the log position they wait for
        self._owed: deque[tuple[int, bytes, int]] | None = (
            None  # batches that wait: position, packets, publishes
        )
        self.client_id = client_id
        self.cut_denied = False  # a denied publish ends the connection
        self.durable = False  # QoS 2 identifiers are written down
        self.received: set[int] | None = None  # QoS 2 identifiers between PUBLISH and PUBREL
        self.receive_max = 0
        self.alias_max = 0
        self.retain_available = True
        self.say_why = True

    def publish(self, packet: Publish) -> None:
        """Take one PUBLISH."""
        qos = packet.qos
        if packet.properties or not packet.topic:
            message = self._message(packet)
        else:
            message = Message(
                packet.topic,
                packet.payload,
                qos,
                packet.retain,
                NO_PROPERTIES,
                self._session.origin,
                self._gateway.clock.wall_ms,
                0,
                packet.frame,
                self._format if packet.frame is not None else "",
            )
        if qos == 0:
            if not packet.retain or self.retain_available:
                try:
                    self._session.publish(message)
                except GatewayError as error:  # counted; QoS 0 has no answer
                    self._cut(error)
                return
        if packet.retain and not self.retain_available:  # [MQTT-3.2.2-14]
            raise MalformedPacket(Reason.RETAIN_NOT_SUPPORTED, "retained messages are switched off")
        if qos == 1:
            packet_id = packet.packet_id
            try:
                if packet.properties and self._may_repeat(message):
                    position, duplicate, _ = self._session.publish_once(message)
                    if duplicate and self._marked(PUBACK, packet_id, position):
                        return
                else:
                    position = self._session.publish(message)
            except GatewayError as error:
                reason = self._refusal(error)
                if reason >= 0:
                    self._acks.append(self._negative(PUBACK, packet_id, reason, error))
                return
            if position >= 0 or self._version != V5:
                if position > self._position:
                    self._position = position
                self._acks.append(_pubacks.get(packet_id) or _puback(packet_id))
            else:
                self._acks.append(encode_ack(V5, PUBACK, packet_id, Reason.NO_MATCHING_SUBSCRIBERS))
        else:
            self._publish_once(packet.packet_id, message)

    def _refusal(self, error: GatewayError) -> int:
        """Return the reason to acknowledge a refused publish with, or -1 to close without one."""
        if self._cut(error):
            return -1
        if self._version == V5:
            return _reason_of(error)
        if isinstance(error, FINAL_REFUSALS):
            return Reason.SUCCESS
        self._link.refuse(_reason_of(error), error.detail)
        return -1

    def _cut(self, error: GatewayError) -> bool:
        """End the connection over a denied publish, where the configuration wants that."""
        if not self.cut_denied or not isinstance(error, NotAuthorized):
            return False
        self._link.refuse(Reason.NOT_AUTHORIZED, error.detail)
        return True

    def _negative(self, kind: int, packet_id: int, reason: int, error: GatewayError | None) -> bytes:
        """Return an acknowledgement that says why there is no other."""
        if error is None or self._version != V5 or not self.say_why or reason < 0x80:
            return encode_ack(self._version, kind, packet_id, reason)
        return encode_ack(V5, kind, packet_id, reason, {"reason_string": error.detail[:WHY_CHARS_MAX]})

    def _may_repeat(self, message: Message) -> bool:
        """Tell whether a message may be a duplicate of another than its own packet."""
        return message.properties.idempotency_key is not None or bool(self._session.broker.dedup.rules)

    def _marked(self, kind: int, packet_id: int, position: int) -> bool:
        """Acknowledge a duplicate as one, once the first is on disk, if the client can be told so."""
        if self._version != V5 or not self.say_why:
            return False
        self._position = max(self._position, position)
        self._acks.append(encode_ack(V5, kind, packet_id, Reason.SUCCESS, DUPLICATE))
        return True

    def _publish(self, message: Message) -> tuple[int, GatewayError | None, bool]:
        """Publish at QoS 2; return the reason to acknowledge with, -1 for none, the error it is for, and
        whether it is a duplicate."""
        duplicate = False
        try:
            if self._may_repeat(message):
                position, duplicate, _ = self._session.publish_once(message)
            else:
                position = self._session.publish(message)
        except GatewayError as error:
            return self._refusal(error), error, False
        if position > self._position:
            self._position = position
        if position == NO_SUBSCRIBERS and self._version == V5:
            return Reason.NO_MATCHING_SUBSCRIBERS, None, False
        return Reason.SUCCESS, None, duplicate

    def _publish_once(self, packet_id: int, message: Message) -> None:
        """QoS 2: publish at the first PUBLISH with an identifier, not at repetitions [MQTT-4.3.3-10]."""
        if self.received is None:
            self.received = set()
        reason = 0
        error: GatewayError | None = None
        duplicate = False
        if packet_id not in self.received:
            if len(self.received) >= self.receive_max:  # [MQTT-3.3.4-8]
                raise MalformedPacket(
                    Reason.RECEIVE_MAXIMUM_EXCEEDED, "more QoS 2 messages than receive maximum"
                )
            reason, error, duplicate = self._publish(message)
            if reason < 0:
                return
            if reason < 0x80:  # otherwise the identifier is free at once [MQTT-4.3.3-9]
                self.received.add(packet_id)
                if self.durable:
                    self._clients.note(RECEIVED_KEY, self.client_id, packet_id)
                    self._position = self._gateway.broker.engine.position()
        if not duplicate or not self._marked(PUBREC, packet_id, 0):
            self._acks.append(self._negative(PUBREC, packet_id, reason, error))

    def release(self, packet: Ack) -> None:
        """PUBREL: the identifier is free once this is durable [MQTT-4.3.3-11]."""
        reason = Reason.SUCCESS
        if self.received is not None and packet.packet_id in self.received:
            self.received.discard(packet.packet_id)
            if self.durable:
                # Before PUBCOMP is on its way this must be on disk: after a restart a reused
                # identifier would be taken for a repetition, and its message lost.
                self._clients.unnote(RECEIVED_KEY, self.client_id, packet.packet_id)
                self._position = self._gateway.broker.engine.position()
        elif self._version == V5:
            reason = Reason.PACKET_IDENTIFIER_NOT_FOUND
        self._others += 1
        self._acks.append(encode_ack(self._version, PUBCOMP, packet.packet_id, reason))

    def answer(self, packet: bytes, position: int = 0) -> None:
        """Send another packet in its turn, after `position` is durable."""
        self._others += 1
        self._acks.append(packet)
        self._position = max(self._position, position)

    def end_of_read(self) -> None:
        """Everything in this read is handled: send what it is owed, or have it wait for the disk."""
        acks = self._acks
        if not acks:
            self._position = 0
            return
        self._acks = []
        publishes, self._others = len(acks) - self._others, 0
        if publishes + self._owed_publishes > self.receive_max and self._version == V5:  # [MQTT-3.3.4-7]
            raise MalformedPacket(Reason.RECEIVE_MAXIMUM_EXCEEDED, "more unacknowledged than receive maximum")
        position, self._position = self._position, 0
        packets = acks[0] if len(acks) == 1 else b"".join(acks)
        if position <= 0 and not self._owed:
            self._link.write(packets)
            return
        if self._owed is None:
            self._owed = deque()
        if self._owed and position < self._owed[-1][0]:
            position = self._owed[-1][0]  # not before what came before
        self._owed.append((position, packets, publishes))
        self._owed_publishes += publishes
        self._owed_bytes += len(packets)
        if self._owed_bytes > OWED_BYTES_MAX and not self._paused:
            self._paused = True
            self._link.pause(True)
        self._gateway.when_durable(position, self._released)

    def _released(self, stored: bool) -> None:
        """The oldest batch is on disk, or never will be."""
        if not self._owed:
            return  # the connection is closed
        _, packets, publishes = self._owed.popleft()
        self._owed_publishes -= publishes
        self._owed_bytes -= len(packets)
        if self._paused and self._owed_bytes <= OWED_BYTES_MAX // 2:
            self._paused = False
            self._link.pause(False)
        if stored:
            self._link.write(packets)
        else:
            self._refuse(packets)

    def _refuse(self, packets: bytes) -> None:
        if self._version != V5:
            self._link.refuse(Reason.QUOTA_EXCEEDED, "messages could not be stored")
            return
        decoder = Decoder(V5, server=False)
        for packet in decoder.feed(packets):
            if isinstance(packet, Ack) and packet.type in (PUBACK, PUBREC):
                if packet.type == PUBREC and self.received is not None:
                    self.received.discard(packet.packet_id)
                properties = {"reason_string": "not stored: no room on disk"} if self.say_why else {}
                self._link.write(
                    encode_ack(V5, packet.type, packet.packet_id, Reason.QUOTA_EXCEEDED, dict(properties))
                )
            elif isinstance(packet, Ack):
                self._link.write(encode_ack(V5, packet.type, packet.packet_id, packet.reason))
            else:
                self._link.refuse(Reason.QUOTA_EXCEEDED, "a subscription could not be stored")

    def _message(self, packet: Publish) -> Message:
        """Make a message of a PUBLISH with properties or an alias."""
        properties = packet.properties
        topic = packet.topic
        alias = properties.get("topic_alias")
        if isinstance(alias, int):
            topic = self._resolve_alias(alias, topic)
        made = to_properties(properties)
        if made.text and not _is_text(packet.payload):
            raise MalformedPacket(
                Reason.PAYLOAD_FORMAT_INVALID, "the payload is not the UTF-8 it claims to be"
            )
        clock = self._gateway.clock
        expiry = properties.get("message_expiry_interval")
        expires_at_ms = clock.now_ms + expiry * 1000 if isinstance(expiry, int) else 0
        frame = packet.frame
        return Message(
            topic,
            packet.payload,
            packet.qos,
            packet.retain,
            made,
            self._session.origin,
            clock.wall_ms,
            expires_at_ms,
            frame,
            self._format if frame is not None else "",
        )

    def _resolve_alias(self, alias: int, topic: str) -> str:
        if alias > self.alias_max:  # [MQTT-3.3.2-9]
            raise MalformedPacket(Reason.TOPIC_ALIAS_INVALID, f"topic alias {alias} is over {self.alias_max}")
        if self._aliases is None:
            self._aliases = {}
        if topic:
            self._aliases[alias] = topic
            return topic
        known = self._aliases.get(alias)
        if known is None:
            raise MalformedPacket(Reason.PROTOCOL_ERROR, f"topic alias {alias} was never set")
        return known

    def close(self) -> None:
        """The connection is gone: nobody waits for acknowledgements."""
        self._owed = None
        self._acks = []


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _reason_of(error: GatewayError) -> int:
    for kind, reason in REASONS:
        if isinstance(error, kind):
            return reason
    return Reason.IMPLEMENTATION_SPECIFIC_ERROR
