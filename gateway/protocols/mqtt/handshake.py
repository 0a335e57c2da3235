"""CONNECT to CONNACK: who is this, under which terms, with which session.

Authentication is the only thing in this protocol that waits; it runs as a task, and the
connection's packets wait for it. Enhanced authentication is in `authentication`.
"""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING, cast

from gateway.api import Gateway, Transport
from gateway.core.access import Action, Credentials, check_open
from gateway.core.errors import (
    AuthenticationFailed,
    GatewayError,
    NotAuthorized,
    QuotaExceeded,
    Throttled,
)
from gateway.core.session import Session

from .authentication import Dialogue
from .encoder import encode_connack
from .packets import AUTH, V5, V31, Auth, Connect, Packet, Properties, Will
from .reasons import MalformedPacket, Reason
from .terms import Terms

if TYPE_CHECKING:
    from . import Mqtt
    from .connection import MqttConnection


REPLY_TOKEN_BYTES = 16  # nobody guesses 128 bits

#: What a client may send before CONNACK.
EARLY_PACKETS_MAX = 1000

#: GatewayError -> CONNACK's reason; the first class that fits.
REASONS: tuple[tuple[type[GatewayError], Reason], ...] = (
    (Throttled, Reason.CONNECTION_RATE_EXCEEDED),
    (AuthenticationFailed, Reason.BAD_USER_NAME_OR_PASSWORD),
    (NotAuthorized, Reason.NOT_AUTHORIZED),
    (QuotaExceeded, Reason.QUOTA_EXCEEDED),
)


def reason_of(error: GatewayError) -> int:
    """Return the reason for refusing a CONNECT."""
    return next((reason for kind, reason in REASONS if isinstance(error, kind)), Reason.UNSPECIFIED_ERROR)


def reason_to_end(error: GatewayError) -> int:
    """Return the reason for ending a session: a login that has ended is no wrong password."""
    return Reason.NOT_AUTHORIZED if isinstance(error, AuthenticationFailed) else reason_of(error)


class Handshake:
    """One client's handshake; dropped when it is over."""

    __slots__ = (
        "_abandoned",
        "_connection",
        "_dialogue",
        "_gateway",
        "_mqtt",
        "_packet",
        "_transport",
        "early",
    )

    def __init__(
        self, mqtt: Mqtt, transport: Transport, gateway: Gateway, connection: MqttConnection
    ) -> None:
        self._mqtt = mqtt
        self._transport = transport
        self._gateway = gateway
        self._connection = connection
        self._packet: Connect | None = None
        self._dialogue: Dialogue | None = None
        self._abandoned = False
        self.early: list[Packet] = []  # what is to be handled once there is a session

    def connect(self, packet: Connect) -> None:
        """Take the CONNECT."""
        self._packet = packet
        self._gateway.task(self._run(packet))

    @property
    def exchanging(self) -> bool:
        """Tell whether the client is to answer with AUTH."""
        return self._dialogue is not None and self._dialogue.waiting

    def take(self, packet: Packet) -> None:
        """Take the next step of an exchange; anything else waits for CONNACK [MQTT-3.1.4-5]."""
        if packet.type == AUTH and self.exchanging:
            assert self._dialogue is not None
            self._dialogue.take(cast(Auth, packet))
            return
        self.early.append(packet)
        if len(self.early) > EARLY_PACKETS_MAX:
            raise MalformedPacket(Reason.RECEIVE_MAXIMUM_EXCEEDED, "too many packets before CONNACK")

    def abandon(self) -> None:
        """The socket is gone."""
        self._abandoned = True
        if self._dialogue is not None:
            self._dialogue.abandon()

    async def _run(self, packet: Connect) -> None:
        try:
            client_id, assigned = self._client_id(packet)
            credentials = self._credentials(packet, client_id)
            final = b""
            if credentials.method is not None:
                self._dialogue = Dialogue(self._gateway, self._transport, credentials.method)
                principal, final = await self._dialogue.run(credentials)
                session = self._gateway.open_session(principal, credentials)
            else:
                # From here on it is us who may be slow: hashes of other clients come first.
                self._transport.established()
                session = await self._gateway.connect(credentials)
            self._gateway.begin_turn()
            if self._abandoned:
                session.close()
                return
            self._check(packet.will, session, client_id)
        except MalformedPacket as error:
            self._connection.refuse(error.reason, str(error))
        except GatewayError as error:
            self._connection.refuse(reason_of(error), error.detail)
        else:
            self._accept(packet, client_id, assigned, session, final)

    def _check(self, will: Will | None, session: Session, client_id: str) -> None:
        """Close the session, and raise, if this client may not connect like this."""
        try:
            self._check_will(will, session)
            self._mqtt.clients.check_owner(client_id, session.principal)
        except (MalformedPacket, GatewayError):
            session.close()
            raise

    def _client_id(self, packet: Connect) -> tuple[str, bool]:
        """Return (client identifier, whether we chose it)."""
        if packet.client_id:
            if "\0" in packet.client_id or len(packet.client_id) > self._mqtt.client_id_max:
                raise MalformedPacket(Reason.CLIENT_IDENTIFIER_NOT_VALID, "the client identifier is too long")
            return packet.client_id, False
        if packet.version != V5 and not packet.clean_start:  # [MQTT-3.1.3-8] of 3.1.1
            raise MalformedPacket(
                Reason.CLIENT_IDENTIFIER_NOT_VALID, "a kept session needs a client identifier"
            )
        if packet.version == V31:
            raise MalformedPacket(Reason.CLIENT_IDENTIFIER_NOT_VALID, "MQTT 3.1 needs a client identifier")
        return f"auto-{uuid.uuid4().hex}", True

    def _credentials(self, packet: Connect, client_id: str) -> Credentials:
        properties = packet.properties
        return Credentials(
            "mqtt",
            self._transport.peer,
            client_id,
            packet.username,
            packet.password,
            cast("str | None", properties.get("authentication_method")),
            cast("bytes | None", properties.get("authentication_data")),
            certificate=self._transport.certificate,
        )

    def _check_will(self, will: Will | None, session: Session) -> None:
        """Refuse at once what could not be published later."""
        if will is None:
            return
        if will.retain and not self._mqtt.retain_available:  # [MQTT-3.2.2-13]
            raise MalformedPacket(Reason.RETAIN_NOT_SUPPORTED, "retained messages are switched off")
        check_open(will.topic)
        session.check(Action.PUBLISH, will.topic)

    def _accept(
        self, packet: Connect, client_id: str, assigned: bool, session: Session, final: bytes
    ) -> None:
        mqtt, connection = self._mqtt, self._connection
        terms = Terms(packet, client_id, mqtt.expiry_max, mqtt.receive_max_v3)
        mqtt.clients.begin(client_id, connection, clean=packet.clean_start)
        connection.established(session, terms)
        present = connection.resume(terms)
        keep_alive = packet.keep_alive
        if mqtt.keep_alive_max and not 0 < keep_alive <= mqtt.keep_alive_max:
            keep_alive = mqtt.keep_alive_max
        connection.keep_alive_ms = keep_alive * 1500
        properties: Properties = {}
        if packet.version == V5:
            properties = self._connack(packet, terms, client_id, assigned, keep_alive, final)
            if packet.properties.get("request_response_information") == 1:
                session.reply_to = session.broker.replies.open(secrets.token_hex(REPLY_TOKEN_BYTES))
                properties["response_information"] = session.reply_to
        self._transport.write(encode_connack(packet.version, present, Reason.SUCCESS, properties))
        if present:
            connection.rejoin(terms)
        else:
            connection.save()
        connection.ready()

    def _connack(
        self, packet: Connect, terms: Terms, client_id: str, assigned: bool, keep_alive: int, final: bytes
    ) -> Properties:
        """Return the CONNACK properties: only what differs from the standard's defaults."""
        mqtt = self._mqtt
        properties: Properties = {
            "receive_maximum": mqtt.receive_max,
            "maximum_packet_size": mqtt.packet_bytes_max,
            "topic_alias_maximum": mqtt.alias_max,
        }
        if terms.expiry != packet.properties.get("session_expiry_interval", 0):
            properties["session_expiry_interval"] = terms.expiry
        if not mqtt.retain_available:
            properties["retain_available"] = 0
        if assigned:
            properties["assigned_client_identifier"] = client_id  # [MQTT-3.2.2-16]
        if keep_alive != packet.keep_alive:
            properties["server_keep_alive"] = keep_alive
        method = packet.properties.get("authentication_method")
        if method is not None:
            properties["authentication_method"] = method  # [MQTT-4.12.0-5]
            if final:
                properties["authentication_data"] = final
        return properties

    def refuse(self, reason: int, why: str) -> None:
        """Answer the CONNECT with a refusal; the connection closes after it."""
        if self._dialogue is not None:
            self._dialogue.abandon()
        version = self._packet.version if self._packet is not None else 0
        if reason == Reason.UNSUPPORTED_PROTOCOL_VERSION:
            # The version is unknown: 3.1.1's answer is the one every client understands.
            self._transport.write(b"\x20\x02\x00\x01")
        elif version == V5:
            say_why = self._packet is not None and self._packet.properties.get(
                "request_problem_information", 1
            )
            properties: Properties = {"reason_string": why} if say_why else {}
            self._transport.write(encode_connack(V5, False, reason, properties))
        elif version:
            self._transport.write(encode_connack(version, False, reason))
