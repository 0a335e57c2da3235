"""One MQTT client: what its packets mean.

    bytes -> Decoder -> packets -> handlers here -> Inbound / Subscriptions -> Session -> broker
    broker -> Outbound -> packets -> bytes

The handshake (CONNECT, AUTH, CONNACK) is in `handshake`; until it is over packets wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.api import Gateway, Transport
from gateway.core.delivery import Delivery
from gateway.core.errors import GatewayError
from gateway.core.message import Outcome
from gateway.core.session import Session

from .authentication import Renewal
from .clients import RECEIVED_KEY, RELEASED_KEY
from .decoder import Decoder
from .encoder import PINGRESP, encode_ack, encode_disconnect, encode_suback, encode_unsuback
from .handshake import Handshake, reason_to_end
from .inbound import Inbound
from .outbound import Outbound
from .packets import (
    AUTH,
    CONNECT,
    DISCONNECT,
    EMPTY,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    V5,
    Ack,
    Auth,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Subscribe,
    Unsubscribe,
)
from .reasons import MalformedPacket, Reason
from .subscribing import Subscriptions
from .terms import Terms

if TYPE_CHECKING:
    from . import Mqtt


class MqttConnection:
    """Implements `gateway.api.Connection`."""

    __slots__ = (
        "_clock",
        "_congested",
        "_decoder",
        "_gateway",
        "_handshake",
        "_inbound",
        "_kept",
        "_leaving",
        "_mqtt",
        "_outbound",
        "_pauses",
        "_renewal",
        "_subscriptions",
        "_terms",
        "_transport",
        "_version",
        "keep_alive_ms",
        "keep_alive_slot",
        "received_ms",
        "session",
    )

    def __init__(self, mqtt: Mqtt, transport: Transport, gateway: Gateway) -> None:
        self._mqtt = mqtt
        self._transport = transport
        self._gateway = gateway
        self._clock = gateway.clock
        self._decoder = Decoder(packet_bytes_max=mqtt.packet_bytes_max)
        self._handshake: Handshake | None = Handshake(mqtt, transport, gateway, self)
        self._version = 0
        self.session: Session | None = None
        self._inbound: Inbound
        self._outbound: Outbound | None = None  # until the client subscribes: it may never do
        self._subscriptions: Subscriptions
        self._terms: Terms
        self._renewal: Renewal | None = None  # until the client authenticates again
        self._leaving = False
        self._kept = False  # there is a durable session, in the metadata store too
        self._congested = False
        self._pauses = 0  # the disk, or a quota, has it wait
        self.keep_alive_ms = 0
        self.keep_alive_slot = 0
        self.received_ms = 0

    # -- gateway.api.Connection -----------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        self.received_ms = self._clock.monotonic_ms
        decoder = self._decoder
        packets = decoder.feed(data)
        try:
            if self.session is not None:
                self._take(packets)
            else:
                self._before_session(packets)
        except MalformedPacket as error:
            self.refuse(error.reason, str(error))
        if decoder.error is not None:
            self.refuse(decoder.error.reason, str(decoder.error))

    def congested(self, congested: bool) -> None:
        self._congested = congested
        if self.session is not None:
            self.session.congest(congested)

    def closed(self, error: Exception | None) -> None:
        self._leaving = True
        self._mqtt.keep_alive.forget(self)
        if self._handshake is not None:
            self._handshake.abandon()
            self._handshake = None
        session = self.session
        if session is None:
            return
        self._inbound.close()
        self.session = None
        if self._renewal is not None:
            self._renewal.abandon()
            self._renewal = None
        session.close(keep=self._terms.expiry > 0)
        self._mqtt.clients.leave(self, session, self._terms, self._shared_record(), self._kept)
        # Its parts know it and it knows its parts: cut here, all of it is freed now. Left to the
        # garbage collector, which comes by rarely, closed connections would fill memory.
        if self._outbound is not None:
            self._outbound = None
            self._subscriptions.end()
            del self._subscriptions
        del self._inbound

    def drain(self) -> None:
        self.refuse(Reason.SERVER_SHUTTING_DOWN, "the gateway is stopping")

    # -- the session begins -----------------------------------------------------------------------

    def established(self, session: Session, terms: Terms) -> None:
        """The handshake has succeeded; CONNACK is sent after this."""
        self._version = terms.version
        self._terms = terms
        mqtt = self._mqtt
        inbound = Inbound(terms.version, terms.client_id, session, self._gateway, mqtt.clients, self)
        inbound.receive_max = mqtt.receive_max
        inbound.alias_max = mqtt.alias_max
        inbound.retain_available = mqtt.retain_available
        inbound.durable = terms.expiry > 0
        inbound.say_why = terms.say_why
        inbound.cut_denied = mqtt.cut_denied
        self._inbound = inbound
        self.session = session
        session.owner = self
        session.in_debt = terms.version != V5  # that has a code for who is too fast; others are not read

    def _receiving(self) -> Outbound:
        """Return the outgoing half, made when the client first subscribes or resumes."""
        if self._outbound is not None:
            return self._outbound
        session, terms = self.session, self._terms
        assert session is not None
        self._subscriptions = Subscriptions(session, terms.expiry > 0, self)
        self._outbound = Outbound(
            terms.version,
            session,
            self,
            self._clock,
            terms.receive_max,
            terms.packet_bytes_max,
            terms.alias_max,
            self._subscriptions,
        )
        receiver = session.receive(self._outbound.deliver_live, self._mqtt.inbox_messages_max)
        receiver.congested = self._congested
        return self._outbound

    def resume(self, terms: Terms) -> bool:
        """Find or make the durable state; return whether a session was present."""
        session = self.session
        assert session is not None
        clients = self._mqtt.clients
        if not terms.resume and not terms.expiry:
            return False
        if not terms.expiry and not clients.record(terms.client_id):
            return False
        self._kept = True
        if not clients.allowed(terms.client_id, session):
            clients.forget(terms.client_id)
        outbound = self._receiving()
        present = session.own_queue(terms.client_id, True, self._mqtt.session_policy)
        self._inbound.received = clients.identifiers(RECEIVED_KEY, terms.client_id)
        outbound.released = clients.identifiers(RELEASED_KEY, terms.client_id)
        self._consume_own()
        return present

    def rejoin(self, terms: Terms) -> None:
        """Take part again in the shared subscriptions of a session that was present."""
        self._subscriptions.rejoin(self._mqtt.clients.record(terms.client_id).get("shared", {}))
        self.save()

    def save(self) -> None:
        """Write a durable session's record as of now."""
        if self._terms.expiry and self.session is not None:
            self._mqtt.clients.save(self.session, self._terms, 0, self._shared_record())

    def _shared_record(self) -> dict[str, list[object]]:
        return self._subscriptions.shared_record() if self._outbound is not None else {}

    def ready(self) -> None:
        """CONNACK is sent: handle what came early."""
        assert self._handshake is not None
        early, self._handshake = self._handshake.early, None
        self._transport.established()
        if self.keep_alive_ms:
            self._mqtt.keep_alive.watch(self)
        self._transport.resume_reading()
        if early:
            try:
                self._take(early)
            except MalformedPacket as error:
                self.refuse(error.reason, str(error))

    def _before_session(self, packets: list[Packet]) -> None:
        if self._leaving:
            return
        assert self._handshake is not None
        for packet in packets:
            if self._version == 0 and isinstance(packet, Connect):
                self._version = packet.version
                self._transport.pause_reading()
                self._handshake.connect(packet)
            else:
                self._handshake.take(packet)

    # -- packets ----------------------------------------------------------------------------------

    def _take(self, packets: list[Packet]) -> None:
        inbound = self._inbound
        inflight = self._outbound.inflight if self._outbound is not None else {}
        acknowledged: list[Delivery] = []
        packet: Any  # `type` tells what it is; a cast for each would be a call for each
        for packet in packets:
            kind = packet.type
            if kind == PUBLISH:
                inbound.publish(packet)
            elif kind == PUBACK and not packet.reason:
                delivery = inflight.pop(packet.packet_id, None)
                if delivery is not None:
                    acknowledged.append(delivery)
                continue
            else:
                handler = _HANDLERS.get(kind)
                if handler is None:
                    raise MalformedPacket(Reason.PROTOCOL_ERROR, "this packet does not belong here")
                handler(self, packet)
            if self._leaving:
                break
        if acknowledged and self._outbound is not None:
            self._outbound.settle_batch(acknowledged)
        if not self._leaving:
            inbound.end_of_read()
            if self.session is not None and self.session.meters and self.session.in_debt:
                self.session.pace(self.pause)

    def _on_puback(self, packet: Ack) -> None:
        self._receiving().answered(packet)

    def _on_pubrec(self, packet: Ack) -> None:
        outbound = self._receiving()
        packet_id = packet.packet_id
        if packet.reason >= 0x80:
            outbound.answered(packet)
            return
        if packet_id in outbound.inflight:
            outbound.release(packet_id)
            if self._terms.expiry:
                self._mqtt.clients.note(RELEASED_KEY, self._terms.client_id, packet_id)
            self._transport.write(encode_ack(self._version, PUBREL, packet_id))
            return
        missing = Reason.PACKET_IDENTIFIER_NOT_FOUND if self._version == V5 else 0
        self._transport.write(encode_ack(self._version, PUBREL, packet_id, missing))

    def _on_pubrel(self, packet: Ack) -> None:
        self._inbound.release(packet)

    def _on_pubcomp(self, packet: Ack) -> None:
        outbound = self._receiving()
        if outbound.complete(packet.packet_id):
            if self._terms.expiry:
                self._mqtt.clients.unnote(RELEASED_KEY, self._terms.client_id, packet.packet_id)
        outbound.acknowledged(packet.packet_id, Outcome.ACK)

    def _on_subscribe(self, packet: Subscribe) -> None:
        session = self.session
        assert session is not None
        self._receiving()
        reasons, why, retained = self._subscriptions.take(packet)
        self.save()
        for messages, binding in retained:
            session.send_retained(messages, binding)
        answer = encode_suback(self._version, packet.packet_id, reasons, self._reason_string(why))
        self._inbound.answer(answer, self._durable_position())

    def _on_unsubscribe(self, packet: Unsubscribe) -> None:
        self._receiving()
        reasons = [self._subscriptions.unsubscribe(name) for name in packet.filters]
        self.save()
        answer = encode_unsuback(self._version, packet.packet_id, reasons)
        self._inbound.answer(answer, self._durable_position())

    def _on_pingreq(self, packet: Packet) -> None:
        self._transport.write(PINGRESP)

    def _on_disconnect(self, packet: Disconnect) -> None:
        expiry = packet.properties.get("session_expiry_interval")
        if isinstance(expiry, int):
            if expiry and not self._terms.expiry:  # [MQTT-3.14.2-2]
                raise MalformedPacket(
                    Reason.PROTOCOL_ERROR, "a session that ends with its connection cannot be kept"
                )
            self._terms.expiry = min(expiry, self._mqtt.expiry_max)
        if packet.reason != Reason.DISCONNECT_WITH_WILL_MESSAGE:
            self._terms.will = None  # [MQTT-3.14.4-3]
        self._leaving = True
        self._inbound.end_of_read()
        self._transport.close()

    def _on_auth(self, packet: Auth) -> None:
        session, method = self.session, self._terms.method
        assert session is not None
        if method is None:  # [MQTT-4.12.1-1]
            raise MalformedPacket(Reason.PROTOCOL_ERROR, "CONNECT named no authentication method")
        if self._renewal is None:
            self._renewal = Renewal(self._gateway, self._transport, self, session, method)
        self._renewal.auth(packet)

    def _on_connect(self, packet: Packet) -> None:
        raise MalformedPacket(Reason.PROTOCOL_ERROR, "a second CONNECT")  # [MQTT-3.1.0-2]

    # -- the other direction ------------------------------------------------------------------------

    def need_queue(self) -> None:
        """The first QoS 1 or 2 subscription of a session that ends with its connection has come."""
        session = self.session
        assert session is not None
        session.own_queue(self._terms.client_id, self._terms.expiry > 0, self._mqtt.session_policy)
        self._consume_own()

    def _consume_own(self) -> None:
        session = self.session
        assert session is not None
        consumer = session.consume_own(self._receiving().deliver_own, self._terms.receive_max)
        consumer.congested = self._congested
        self.set_windows()

    def deliver_shared(self, batch: list[Delivery]) -> None:
        """Send what a shared queue has handed out."""
        self._receiving().deliver_shared(batch)

    def set_windows(self) -> None:
        """Share the client's receive maximum between everything it consumes."""
        session = self.session
        assert session is not None
        share = max(1, self._terms.receive_max // max(1, len(session.consumers)))
        for consumer in session.consumers:
            consumer.window = share
            consumer.congested = self._congested
            session.broker.queues.resume(consumer) if not self._congested else None

    def _durable_position(self) -> int:
        return self._gateway.broker.engine.position() if self._terms.expiry else 0

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""
        self._transport.write(data)

    def pause(self, pause: bool) -> None:
        """Stop reading from the client, or go on if nobody else wants it stopped."""
        self._pauses += 1 if pause else -1
        if pause:
            self._transport.pause_reading()
        elif not self._pauses:
            self._transport.resume_reading()

    # -- the end ------------------------------------------------------------------------------------

    def silent(self) -> None:
        """Nothing was heard for one and a half keep alives [MQTT-3.1.2-22]."""
        if self.session is not None and self.session.held_back:  # it is us who do not listen
            self.received_ms = self._clock.monotonic_ms
            self._mqtt.keep_alive.watch(self)
        else:
            self.refuse(Reason.KEEP_ALIVE_TIMEOUT, "nothing was heard within the keep alive")

    def taken_over(self) -> None:
        """The same client has come again; its session goes on there [MQTT-3.1.4-3]."""
        self.refuse(Reason.SESSION_TAKEN_OVER, "another connection uses this client identifier")
        self.closed(None)

    def end(self, error: GatewayError) -> None:
        self.refuse(reason_to_end(error), error.detail)

    def refuse(self, reason: int, why: str) -> None:
        """Say why, in the protocol's words where it has some, and close."""
        if self._leaving:
            return
        self._leaving = True
        if self.session is None:
            if self._handshake is not None:
                self._handshake.refuse(reason, why)
        elif self._version == V5:
            self._transport.write(encode_disconnect(V5, reason, self._reason_string(why)))
        self._transport.close()

    def _reason_string(self, why: str) -> Properties:
        if not why or self._version != V5:
            return EMPTY
        return {"reason_string": why} if self.session is None or self._inbound.say_why else EMPTY


_HANDLERS: dict[int, Callable[[MqttConnection, Any], None]] = {
    CONNECT: MqttConnection._on_connect,
    PUBACK: MqttConnection._on_puback,
    PUBREC: MqttConnection._on_pubrec,
    PUBREL: MqttConnection._on_pubrel,
    PUBCOMP: MqttConnection._on_pubcomp,
    SUBSCRIBE: MqttConnection._on_subscribe,
    UNSUBSCRIBE: MqttConnection._on_unsubscribe,
    PINGREQ: MqttConnection._on_pingreq,
    DISCONNECT: MqttConnection._on_disconnect,
    AUTH: MqttConnection._on_auth,
}
