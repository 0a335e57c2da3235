"""What the case tables of the MQTT codec are made of: their rows, hex with text in it, any packet's encoder.

Bytes are written by hand from the standard, so that decoder and encoder cannot agree on a mistake.
"""

from typing import NamedTuple

from gateway.protocols.mqtt import encoder
from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
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
from gateway.protocols.mqtt.properties import WILL, encode_properties
from gateway.protocols.mqtt.reasons import Reason

SERVER, CLIENT, BOTH = "server", "client", "both"


class Good(NamedTuple):
    """`receiver` is the side that may receive it; `canonical` says that we would encode it like this."""

    name: str
    version: int
    data: bytes
    packet: Packet
    receiver: str = SERVER
    canonical: bool = True


class Bad(NamedTuple):
    name: str
    version: int
    data: bytes
    reason: Reason
    receiver: str = SERVER


def decoder_for(case: Good | Bad) -> Decoder:
    """Return a decoder that is where the case begins: before CONNECT if it is one, else after."""
    if case.receiver == CLIENT:
        return Decoder(case.version, server=False)
    return Decoder(0 if case.data[:1] == b"\x10" else case.version)


def encode(version: int, packet: Packet) -> bytes:
    """Encode any packet, as its own function would."""
    match packet:
        case Connect():
            return encoder.encode_connect(packet)
        case Connack():
            return encoder.encode_connack(version, packet.session_present, packet.reason, packet.properties)
        case Publish():
            topic = packet.topic.encode()
            block = encode_properties(PUBLISH, packet.properties)
            return encoder.encode_publish(
                version, topic, packet.payload, packet.qos, packet.retain, packet.dup, packet.packet_id, block
            )
        case Ack():
            return encoder.encode_ack(
                version, packet.type, packet.packet_id, packet.reason, packet.properties
            )
        case Subscribe():
            return encoder.encode_subscribe(
                version, packet.packet_id, packet.subscriptions, packet.properties
            )
        case Suback():
            return encoder.encode_suback(version, packet.packet_id, packet.reasons, packet.properties)
        case Unsubscribe():
            return encoder.encode_unsubscribe(version, packet.packet_id, packet.filters, packet.properties)
        case Unsuback():
            return encoder.encode_unsuback(version, packet.packet_id, packet.reasons, packet.properties)
        case Pingreq():
            return encoder.PINGREQ
        case Pingresp():
            return encoder.PINGRESP
        case Disconnect():
            return encoder.encode_disconnect(version, packet.reason, packet.properties)
        case Auth():
            return encoder.encode_auth(packet.reason, packet.properties)
    raise AssertionError(f"no encoder for {packet!r}")


def x(text: str) -> bytes:
    """Read hex with quoted text in it: `x("00 03 'a/b'")`."""
    out = b""
    for index, part in enumerate(text.split("'")):
        out += part.encode() if index % 2 else bytes.fromhex(part)
    return out


def sized(first: int, body: bytes) -> bytes:
    """Put the fixed header before a body that is short enough for a length of one byte."""
    assert len(body) < 128
    return bytes((first, len(body))) + body


class PropertyCase(NamedTuple):
    name: str
    data: bytes
    value: object
    packets: tuple[int, ...]
    repeats_in: tuple[int, ...] = ()


_ACKS = (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK)
EVERYWHERE = (CONNECT, CONNACK, PUBLISH, WILL, *_ACKS, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH)

# Table 2-4 of the standard.
PROPERTY_CASES = [
    PropertyCase("payload_format_indicator", x("01 01"), 1, (PUBLISH, WILL)),
    PropertyCase("message_expiry_interval", x("02 00010203"), 66_051, (PUBLISH, WILL)),
    PropertyCase("content_type", x("03 0003 'a/b'"), "a/b", (PUBLISH, WILL)),
    PropertyCase("response_topic", x("08 0003 'r/t'"), "r/t", (PUBLISH, WILL)),
    PropertyCase("correlation_data", x("09 0002 00ff"), b"\x00\xff", (PUBLISH, WILL)),
    PropertyCase("subscription_identifier", x("0b 80 01"), [128], (PUBLISH, SUBSCRIBE), (PUBLISH,)),
    PropertyCase("session_expiry_interval", x("11 ffffffff"), 0xFFFF_FFFF, (CONNECT, CONNACK, DISCONNECT)),
    PropertyCase("assigned_client_identifier", x("12 0001 'c'"), "c", (CONNACK,)),
    PropertyCase("server_keep_alive", x("13 0100"), 256, (CONNACK,)),
    PropertyCase("authentication_method", x("15 0001 'm'"), "m", (CONNECT, CONNACK, AUTH)),
    PropertyCase("authentication_data", x("16 0001 00"), b"\x00", (CONNECT, CONNACK, AUTH)),
    PropertyCase("request_problem_information", x("17 00"), 0, (CONNECT,)),
    PropertyCase("will_delay_interval", x("18 0000000a"), 10, (WILL,)),
    PropertyCase("request_response_information", x("19 01"), 1, (CONNECT,)),
    PropertyCase("response_information", x("1a 0002 'ri'"), "ri", (CONNACK,)),
    PropertyCase("server_reference", x("1c 0003 's:1'"), "s:1", (CONNACK, DISCONNECT)),
    PropertyCase("reason_string", x("1f 0001 'r'"), "r", (CONNACK, *_ACKS, DISCONNECT, AUTH)),
    PropertyCase("receive_maximum", x("21 0001"), 1, (CONNECT, CONNACK)),
    PropertyCase("topic_alias_maximum", x("22 0000"), 0, (CONNECT, CONNACK)),
    PropertyCase("topic_alias", x("23 ffff"), 65_535, (PUBLISH,)),
    PropertyCase("maximum_qos", x("24 01"), 1, (CONNACK,)),
    PropertyCase("retain_available", x("25 00"), 0, (CONNACK,)),
    PropertyCase("user_property", x("26 0001 'k' 0000"), [("k", "")], EVERYWHERE, EVERYWHERE),
    PropertyCase("maximum_packet_size", x("27 00000001"), 1, (CONNECT, CONNACK)),
    PropertyCase("wildcard_subscription_available", x("28 00"), 0, (CONNACK,)),
    PropertyCase("subscription_identifier_available", x("29 01"), 1, (CONNACK,)),
    PropertyCase("shared_subscription_available", x("2a 00"), 0, (CONNACK,)),
]


def packet_with(kind: int, block: bytes, properties: Properties) -> tuple[bytes, Packet]:
    """Return the smallest MQTT 5 packet of a kind (or CONNECT with a will) around a property block."""
    prefixed = bytes((len(block),)) + block
    match kind:
        case 0:
            body = x("0004 'MQTT' 05 06 0000 00 0000") + prefixed + x("0001 'w' 0000")
            return sized(0x10, body), Connect(5, "", will=Will("w", b"", properties=properties))
        case 1:
            body = x("0004 'MQTT' 05 02 0000") + prefixed + x("0000")
            return sized(0x10, body), Connect(5, "", properties=properties)
        case 2:
            return sized(0x20, b"\0\0" + prefixed), Connack(False, 0, properties)
        case 3:
            return sized(0x30, x("0001 'a'") + prefixed), Publish("a", b"", properties=properties)
        case 8:
            subscriptions = [SubscribeOption("a")]
            return sized(0x82, x("0009") + prefixed + x("0001 'a' 00")), Subscribe(
                9, subscriptions, properties
            )
        case 9:
            return sized(0x90, x("0009") + prefixed + b"\0"), Suback(9, [0], properties)
        case 10:
            return sized(0xA2, x("0009") + prefixed + x("0001 'a'")), Unsubscribe(9, ["a"], properties)
        case 11:
            return sized(0xB0, x("0009") + prefixed + b"\0"), Unsuback(9, [0], properties)
        case 14:
            return sized(0xE0, x("04") + prefixed), Disconnect(4, properties)
        case 15:
            return sized(0xF0, x("18") + prefixed), Auth(0x18, properties)
    first = 0x62 if kind == PUBREL else kind << 4
    ack = {PUBACK: Puback, PUBREC: Pubrec, PUBREL: Pubrel, PUBCOMP: Pubcomp}[kind]
    return sized(first, x("0009 00") + prefixed), ack(9, 0, properties)


def property_receiver(kind: int, name: str) -> str:
    if kind in (CONNACK, SUBACK, UNSUBACK) or (kind == PUBLISH and name == "subscription_identifier"):
        return CLIENT
    return SERVER
