"""From deliveries to PUBLISH packets: identifiers, quotas, aliases, size limits.

Two streams come in: live messages, which may be lost, and deliveries from queues, which
are settled by PUBACK or PUBCOMP. An identifier is in use from PUBLISH to its last
acknowledgement [MQTT-2.2.1-4]; the client's receive maximum bounds how many are.
"""

from __future__ import annotations

from gateway.core.clock import Clock
from gateway.core.delivery import Delivery
from gateway.core.message import NO_PROPERTIES, Message, Outcome
from gateway.core.metrics import DropCause
from gateway.core.receiver import Item
from gateway.core.router import Binding
from gateway.core.session import Session

from .encoder import encode_ack, encode_first_delivery, encode_publish
from .link import Link
from .packets import PUBREL, V5, Ack
from .subscribing import Subscriptions
from .translate import publish_block

PACKET_ID_MAX = 65_535  # [MQTT-2.2.1-3]: 1 to 65535
REFUSED_MIN = 0x80  # reason codes from here on say that something failed [MQTT 5, 2.4]
TOPICS_ENCODED_MAX = 10_000  # topic text -> bytes, shared by all connections

#: wire formats: a QoS 0 PUBLISH as any subscriber of that version may get it
WIRE_FORMAT = {3: "mqtt4", 4: "mqtt4", 5: "mqtt5"}

_NONE: frozenset[int] = frozenset()
_topic_bytes: dict[str, bytes] = {}


def topic_bytes(topic: str) -> bytes:
    """Return a topic's UTF-8, mostly from a cache."""
    encoded = _topic_bytes.get(topic)
    if encoded is None:
        if len(_topic_bytes) >= TOPICS_ENCODED_MAX:
            _topic_bytes.clear()
        encoded = _topic_bytes[topic] = topic.encode()
    return encoded


class Outbound:
    """What one client is being sent; `subscriptions` says with which options."""

    __slots__ = (
        "_alias_max",
        "_aliases",
        "_clock",
        "_format",
        "_held",
        "_link",
        "_next_id",
        "_packet_bytes_max",
        "_session",
        "_subscriptions",
        "_version",
        "inflight",
        "receive_max",
        "released",
    )

    def __init__(
        self,
        version: int,
        session: Session,
        link: Link,
        clock: Clock,
        receive_max: int,
        packet_bytes_max: int,
        alias_max: int,
        subscriptions: Subscriptions,
    ) -> None:
        self._version = version
        self._format = WIRE_FORMAT[version]
        self._session = session
        self._link = link
        self._clock = clock
        self.receive_max = receive_max
        self._packet_bytes_max = packet_bytes_max  # 0: no limit
        self._alias_max = alias_max
        self._aliases: dict[str, int] | None = None
        self._subscriptions = subscriptions
        self.inflight: dict[int, Delivery] = {}
        self.released: set[int] | frozenset[int] = _NONE  # identifiers whose PUBREC has come [MQTT-4.3.3-8]
        self._held: list[Delivery] = []  # over the receive maximum, while windows shrink
        self._next_id = 0

    # -- live messages ------------------------------------------------------------------------

    def deliver_live(self, batch: list[Item]) -> None:
        """Send messages at QoS 0."""
        wire_format = self._format
        limit = self._packet_bytes_max
        pieces: list[bytes] = []
        for message, binding in batch:
            if (
                message.wire_format is wire_format
                and not binding.ids
                and not binding.retained
                and not self._alias_max
            ):
                frame = message.wire
                assert frame is not None
            else:
                frame = self._encode_live(message, binding)
            if limit and len(frame) > limit:
                self._too_large()  # [MQTT-3.1.2-24]
            elif frame:
                pieces.append(frame)
        if pieces:
            self._link.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _encode_live(self, message: Message, binding: Binding) -> bytes:
        now_ms = self._clock.now_ms
        if message.expires_at_ms and message.expires_at_ms <= now_ms:
            metrics = self._session.broker.metrics
            metrics.delivered -= 1  # the receiver's pump counted it as handed over
            metrics.drop(DropCause.EXPIRED)
            return b""
        retain = binding.retained or (message.retain and binding.retain_as_published)
        frame = self._publish(message, 0, retain, False, 0, binding.ids)
        plain = not retain and not binding.ids and not message.expires_at_ms and not self._alias_max
        if plain and message.wire is None:
            message.wire, message.wire_format = frame, self._format  # for the next subscriber
        return frame

    def _too_large(self) -> None:
        metrics = self._session.broker.metrics
        metrics.delivered -= 1
        metrics.drop(DropCause.PACKET_TOO_LARGE)

    # -- deliveries from queues ---------------------------------------------------------------

    def deliver_own(self, batch: list[Delivery]) -> None:
        """Send from the session's own queue: a redelivery repeats its identifier, with DUP."""
        self._deliver(batch, True)

    def deliver_shared(self, batch: list[Delivery]) -> None:
        """Send from a shared queue: to this client each delivery is a first."""
        self._deliver(batch, False)

    def _deliver(self, batch: list[Delivery], own: bool) -> None:
        pieces: list[bytes] = []
        inflight = self.inflight
        receive_max = self.receive_max
        # The usual case: an ordinary subscription of this session, a first delivery, nothing to add.
        plain = own and not self._alias_max and not self._packet_bytes_max and not self.released
        version = self._version
        for delivery in batch:
            if len(inflight) >= receive_max:  # [MQTT-3.3.4-9]
                self._held.append(delivery)
                continue
            binding, message = delivery.binding, delivery.message
            if (
                plain
                and binding is not None
                and delivery.attempt == 1
                and message.qos == 1
                and not binding.ids
                and not message.retain
                and not binding.retained
                and (version != V5 or message.properties is NO_PROPERTIES)
                and not message.expires_at_ms
            ):
                packet_id = self._next_id + 1 if self._next_id < PACKET_ID_MAX else 1
                if packet_id in inflight:
                    packet_id = self._take_id()
                self._next_id = delivery.tag = packet_id
                inflight[packet_id] = delivery
                topic = _topic_bytes.get(message.topic) or topic_bytes(message.topic)
                pieces.append(encode_first_delivery(version, topic, message.body, packet_id))
                continue
            piece = self._encode_delivery(delivery, own)
            if piece:
                pieces.append(piece)
        if pieces:
            self._link.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _encode_delivery(self, delivery: Delivery, own: bool) -> bytes:
        message = delivery.message
        binding = delivery.binding if own else self._subscriptions.options_for(delivery.queue)
        if binding is None:
            binding = self._subscriptions.options_of(message)
        qos = message.qos
        ids: tuple[int, ...] = ()
        retain = False
        attempt = 1 if own else delivery.attempt  # a session's own is repeated as it was [MQTT-4.4.0-1]
        if binding is not None:
            if binding.qos < qos:
                qos = binding.qos
            ids = binding.ids
            retain = binding.retained or (message.retain and binding.retain_as_published)
        if qos == 0:
            frame = self._publish(message, 0, retain, False, 0, ids, attempt)
            self._settle_unacknowledged(delivery, frame)
            return b"" if self._packet_bytes_max and len(frame) > self._packet_bytes_max else frame
        again = own and delivery.attempt > 1 and delivery.tag != 0 and delivery.tag not in self.inflight
        if again and delivery.tag in self.released:
            self.inflight[delivery.tag] = delivery
            return encode_ack(self._version, PUBREL, delivery.tag)  # [MQTT-4.4.0-1]
        packet_id = delivery.tag if again else self._take_id()
        frame = self._publish(message, qos, retain, again, packet_id, ids, attempt)
        if self._packet_bytes_max and len(frame) > self._packet_bytes_max:
            self._session.broker.settlement.discard(delivery, DropCause.PACKET_TOO_LARGE)
            return b""
        delivery.tag = packet_id
        self.inflight[packet_id] = delivery
        return frame

    def _settle_unacknowledged(self, delivery: Delivery, frame: bytes) -> None:
        if self._packet_bytes_max and len(frame) > self._packet_bytes_max:
            self._session.broker.settlement.discard(delivery, DropCause.PACKET_TOO_LARGE)
        else:
            self._session.settle(delivery, Outcome.ACK)

    def _publish(
        self,
        message: Message,
        qos: int,
        retain: bool,
        dup: bool,
        packet_id: int,
        ids: tuple[int, ...],
        attempt: int = 1,
    ) -> bytes:
        topic = topic_bytes(message.topic)
        if self._version != V5:
            return encode_publish(self._version, topic, message.body, qos, retain, dup, packet_id)
        alias = 0
        if self._alias_max:
            topic, alias = self._alias(message.topic, topic)
        block = publish_block(message, ids, alias, self._clock.now_ms, attempt)
        frame = encode_publish(V5, topic, message.body, qos, retain, dup, packet_id, block)
        if alias and topic and self._packet_bytes_max and len(frame) > self._packet_bytes_max:
            assert self._aliases is not None
            del self._aliases[message.topic]  # this packet is not sent: the client will not learn the alias
        return frame

    def _alias(self, topic: str, encoded: bytes) -> tuple[bytes, int]:
        """Return (topic to send, alias): the first topics get the client's aliases for good."""
        aliases = self._aliases
        if aliases is None:
            aliases = self._aliases = {}
        alias = aliases.get(topic)
        if alias is not None:
            return b"", alias
        if len(aliases) < self._alias_max:
            aliases[topic] = alias = len(aliases) + 1
            return encoded, alias
        return encoded, 0

    def _take_id(self) -> int:
        packet_id = self._next_id
        inflight = self.inflight
        while True:
            packet_id = packet_id + 1 if packet_id < PACKET_ID_MAX else 1
            if packet_id not in inflight and packet_id not in self.released:
                break
        self._next_id = packet_id
        return packet_id

    def release(self, packet_id: int) -> None:
        """PUBREC has come: from now on PUBREL is repeated, not PUBLISH."""
        if not isinstance(self.released, set):
            self.released = set()
        self.released.add(packet_id)

    def complete(self, packet_id: int) -> bool:
        """PUBCOMP has come; False if PUBREC had not."""
        if packet_id not in self.released:
            return False
        assert isinstance(self.released, set)
        self.released.discard(packet_id)
        return True

    # -- acknowledgements ---------------------------------------------------------------------

    def answered(self, packet: Ack) -> bool:
        """PUBACK, or a PUBREC that refuses: a client that does not accept a message [MQTT-4.3.2-5] gets
        it never again; what it says of it is in the dead letter."""
        if packet.reason < REFUSED_MIN:
            return self.acknowledged(packet.packet_id, Outcome.ACK)
        why = str(packet.properties.get("reason_string", "")) or f"reason code 0x{packet.reason:02x}"
        return self.acknowledged(packet.packet_id, Outcome.REJECT, why)

    def acknowledged(self, packet_id: int, outcome: Outcome, why: str = "") -> bool:
        """PUBACK or PUBCOMP: the identifier is free again. False if it was not in use."""
        delivery = self.inflight.pop(packet_id, None)
        if delivery is None:
            return False
        self._session.settle(delivery, outcome, None, why)
        if self._held:
            self._send_held()
        return True

    def settle_batch(self, batch: list[Delivery]) -> None:
        """Settle what a read has acknowledged; the identifiers are free already."""
        self._session.broker.settlement.acknowledge(batch)
        if self._held:
            self._send_held()

    def _send_held(self) -> None:
        while self._held and len(self.inflight) < self.receive_max:
            delivery = self._held.pop(0)
            queue = self._session.queue
            piece = self._encode_delivery(delivery, queue is not None and delivery.queue is queue)
            if piece:
                self._link.write(piece)
