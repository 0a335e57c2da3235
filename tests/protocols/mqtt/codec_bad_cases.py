"""Packets that are wrong, each with the reason code that the standard names for it."""

from collections.abc import Iterator

from gateway.protocols.mqtt.packets import (
    CONNACK,
    CONNECT,
    PUBLISH,
    SUBSCRIBE,
)
from gateway.protocols.mqtt.properties import WILL
from gateway.protocols.mqtt.reasons import Reason
from tests.protocols.mqtt.codec_cases import (
    CLIENT,
    EVERYWHERE,
    PROPERTY_CASES,
    SERVER,
    Bad,
    packet_with,
    property_receiver,
    sized,
    x,
)


def _property_bads() -> Iterator[Bad]:
    for case in PROPERTY_CASES:
        for kind in EVERYWHERE:
            receiver = property_receiver(kind, "")
            data, _ = packet_with(kind, case.data, {})
            if kind not in case.packets:
                yield Bad(f"{case.name} in {kind}", 5, data, Reason.MALFORMED_PACKET, receiver)
                continue
            if kind not in case.repeats_in:
                data, _ = packet_with(kind, case.data * 2, {})
                yield Bad(f"{case.name} twice in {kind}", 5, data, Reason.PROTOCOL_ERROR, receiver)
            data, _ = packet_with(kind, case.data[:-1], {})
            yield Bad(f"{case.name} cut in {kind}", 5, data, Reason.MALFORMED_PACKET, receiver)


def _value(name: str, kind: int, block: str, reason: Reason = Reason.PROTOCOL_ERROR) -> Bad:
    data, _ = packet_with(kind, x(block), {})
    return Bad(name, 5, data, reason, property_receiver(kind, ""))


_MALFORMED, _PROTOCOL_ERROR = Reason.MALFORMED_PACKET, Reason.PROTOCOL_ERROR

BAD = [
    *_property_bads(),
    _value("receive maximum 0 [3.1.2.11.3]", CONNECT, "21 0000"),
    _value("maximum packet size 0 [3.1.2.11.4]", CONNECT, "27 00000000"),
    _value("request problem information 2", CONNECT, "17 02"),
    _value("request response information 255", CONNECT, "19 ff"),
    _value("authentication data without a method", CONNECT, "16 0001 00"),
    _value("payload format indicator 2", PUBLISH, "01 02"),
    _value("payload format indicator 2 of a will", WILL, "01 02"),
    _value("topic alias 0 [MQTT-3.3.2-8]", PUBLISH, "23 0000"),
    _value("response topic with a wildcard [MQTT-3.3.2-14]", PUBLISH, "08 0003 'a/#'", _MALFORMED),
    _value("subscription identifier from a client [MQTT-3.3.4-6]", PUBLISH, "0b 01"),
    _value("subscription identifier 0", SUBSCRIBE, "0b 00"),
    _value("subscription identifier padded [MQTT-1.5.5-1]", SUBSCRIBE, "0b 81 00", _MALFORMED),
    _value("subscription identifier of five bytes", SUBSCRIBE, "0b 80 80 80 80 01", _MALFORMED),
    _value("maximum QoS 2", CONNACK, "24 02"),
    _value("retain available 2", CONNACK, "25 02"),
    _value("wildcard subscription available 2", CONNACK, "28 02"),
    _value("subscription identifier available 2", CONNACK, "29 02"),
    _value("shared subscription available 2", CONNACK, "2a 02"),
    _value("receive maximum 0 from a server", CONNACK, "21 0000"),
    _value("unknown property", PUBLISH, "7f 00", _MALFORMED),
    _value("property identifier 0", CONNECT, "00 00", _MALFORMED),
    _value("property identifier of two bytes", CONNECT, "81 01 00", _MALFORMED),
    _value("user property without a value", CONNECT, "26 0001 'k'", _MALFORMED),
    _value("user property with U+0000 [MQTT-1.5.4-2]", CONNECT, "26 0001 'k' 0001 00", _MALFORMED),
    _value("string not UTF-8 [MQTT-1.5.4-1]", PUBLISH, "03 0001 ff", _MALFORMED),
    _value("string with a surrogate [MQTT-1.5.4-1]", PUBLISH, "03 0003 eda080", _MALFORMED),
    _value("string with an over-long form [MQTT-1.5.4-1]", PUBLISH, "03 0002 c080", _MALFORMED),
    # Framing.
    Bad("length of five bytes", 4, x("30 ff ff ff ff 01"), _MALFORMED),
    Bad("length padded to two bytes [MQTT-1.5.5-1]", 5, x("c0 80 00"), _MALFORMED),
    Bad("length padded to four bytes", 4, x("30 83 80 80 00 0001 'a'"), _MALFORMED),
    Bad("length over the limit", 4, x("30 80 80 80 01"), Reason.PACKET_TOO_LARGE),
    Bad("a TLS handshake in the clear", 0, x("16 03 01 02 00"), _MALFORMED),
    Bad("packet type 0", 4, x("00 00"), _MALFORMED),
    Bad("AUTH in 3.1.1", 4, x("f0 00"), _MALFORMED),
    *(
        Bad(f"flags of packet type {first >> 4} [MQTT-2.1.3-1]", 5, sized(first, body), _MALFORMED, receiver)
        for first, body, receiver in (
            (0x11, x("0004 'MQTT' 05 02 0000 00 0000"), SERVER),
            (0x21, x("00 00 00"), CLIENT),
            (0x42, x("0001"), SERVER),
            (0x51, x("0001"), SERVER),
            (0x60, x("0001"), SERVER),
            (0x63, x("0001"), SERVER),
            (0x6A, x("0001"), SERVER),
            (0x78, x("0001"), SERVER),
            (0x80, x("0001 00 0001 'a' 00"), SERVER),
            (0x8A, x("0001 00 0001 'a' 00"), SERVER),
            (0x92, x("0001 00 00"), CLIENT),
            (0xA0, x("0001 00 0001 'a'"), SERVER),
            (0xB2, x("0001 00 00"), CLIENT),
            (0xC1, b"", SERVER),
            (0xD8, b"", CLIENT),
            (0xE1, b"", SERVER),
            (0xF4, b"", SERVER),
        )
    ),
    *(
        Bad(f"packet type {first >> 4} from a client", 5, sized(first, body), _PROTOCOL_ERROR)
        for first, body in (
            (0x20, x("00 00 00")),
            (0x90, x("0001 00 00")),
            (0xB0, x("0001 00 00")),
            (0xD0, b""),
        )
    ),
    *(
        Bad(f"packet type {first >> 4} from a server", 5, sized(first, body), _PROTOCOL_ERROR, CLIENT)
        for first, body in (
            (0x10, x("0004 'MQTT' 05 02 0000 00 0000")),
            (0x82, x("0001 00 0001 'a' 00")),
            (0xA2, x("0001 00 0001 'a'")),
            (0xC0, b""),
        )
    ),
    Bad("DISCONNECT from a 3.1.1 server", 4, x("e0 00"), _PROTOCOL_ERROR, CLIENT),
    Bad(
        "session expiry from a server [MQTT-3.14.2-2]",
        5,
        x("e0 07 00 05 11 00000001"),
        _PROTOCOL_ERROR,
        CLIENT,
    ),
    # CONNECT.
    *(
        Bad(f"{name} before CONNECT [MQTT-3.1.0-1]", 0, data, _PROTOCOL_ERROR)
        for name, data in (
            ("PINGREQ", x("c0 00")),
            ("PUBLISH", x("30 03 0001 'a'")),
            ("DISCONNECT", x("e0 00")),
            ("packet type 0", x("00 00")),
            ("HTTP", b"GET / HTTP/1.1\r\n"),
        )
    ),
    *(
        Bad(name, 0, sized(0x10, x(body)), Reason.UNSUPPORTED_PROTOCOL_VERSION)
        for name, body in (
            ("protocol level 2", "0006 'MQIsdp' 02 02 0000 0001 'c'"),
            ("protocol level 6 [MQTT-3.1.2-2]", "0004 'MQTT' 06 02 0000 00 0001 'c'"),
            ("protocol level of a bridge", "0004 'MQTT' 84 02 0000 0001 'c'"),
            ("protocol level 3 by the new name", "0004 'MQTT' 03 02 0000 0001 'c'"),
            ("protocol level 4 by the old name", "0006 'MQIsdp' 04 02 0000 0001 'c'"),
            ("protocol name in lower case [MQTT-3.1.2-1]", "0004 'mqtt' 04 02 0000 0001 'c'"),
            ("protocol name empty", "0000 04 02 0000 0001 'c'"),
        )
    ),
    *(
        Bad(name, 0, sized(0x10, x(body)), _MALFORMED)
        for name, body in (
            ("CONNECT empty", ""),
            ("CONNECT without a level", "0004 'MQTT'"),
            ("CONNECT without flags", "0004 'MQTT' 04"),
            ("CONNECT with half a keep alive", "0004 'MQTT' 04 02 00"),
            ("CONNECT without client id [MQTT-3.1.3-3]", "0004 'MQTT' 04 02 0000"),
            ("CONNECT 5 without properties", "0004 'MQTT' 05 02 0000"),
            ("CONNECT 5, properties too long", "0004 'MQTT' 05 02 0000 03 0000"),
            ("CONNECT goes on", "0004 'MQTT' 04 02 0000 0001 'c' 00"),
            (
                "CONNECT goes on with a password [MQTT-3.1.2-18]",
                "0004 'MQTT' 04 82 0000 0000 0001 'u' 0001 'p'",
            ),
            ("reserved connect flag [MQTT-3.1.2-3]", "0004 'MQTT' 04 03 0000 0001 'c'"),
            ("will QoS without will [MQTT-3.1.2-11]", "0004 'MQTT' 04 0a 0000 0001 'c'"),
            ("will retain without will [MQTT-3.1.2-13]", "0004 'MQTT' 04 22 0000 0001 'c'"),
            ("will QoS 3 [MQTT-3.1.2-12]", "0004 'MQTT' 04 1e 0000 0001 'c' 0001 'w' 0000"),
            ("will absent [MQTT-3.1.2-9]", "0004 'MQTT' 04 06 0000 0001 'c'"),
            ("will without message", "0004 'MQTT' 04 06 0000 0001 'c' 0001 'w'"),
            ("will topic empty [MQTT-4.7.3-1]", "0004 'MQTT' 04 06 0000 0001 'c' 0000 0000"),
            ("will topic with a wildcard", "0004 'MQTT' 04 06 0000 0001 'c' 0003 'a/+' 0000"),
            ("will topic not UTF-8 [MQTT-3.1.3-11]", "0004 'MQTT' 04 06 0000 0001 'c' 0001 80 0000"),
            ("client id with U+0000 [MQTT-3.1.3-4]", "0004 'MQTT' 04 02 0000 0001 00"),
            ("user name absent [MQTT-3.1.2-17]", "0004 'MQTT' 04 82 0000 0001 'c'"),
            ("user name not UTF-8 [MQTT-3.1.3-12]", "0004 'MQTT' 04 82 0000 0001 'c' 0001 c3"),
            ("password absent [MQTT-3.1.2-19]", "0004 'MQTT' 04 c2 0000 0001 'c' 0001 'u'"),
            ("password without user name [3.1.1 MQTT-3.1.2-22]", "0004 'MQTT' 04 42 0000 0001 'c' 0001 'p'"),
            ("password without user name, 3.1", "0006 'MQIsdp' 03 42 0000 0001 'c' 0001 'p'"),
        )
    ),
    # CONNACK.
    Bad("CONNACK flags [MQTT-3.2.2-1]", 5, x("20 03 02 00 00"), _MALFORMED, CLIENT),
    Bad("CONNACK flags, 3.1.1", 4, x("20 02 80 00"), _MALFORMED, CLIENT),
    Bad("CONNACK refuses a present session [MQTT-3.2.2-6]", 5, x("20 03 01 87 00"), _PROTOCOL_ERROR, CLIENT),
    Bad("CONNACK refuses a present session, 3.1.1", 4, x("20 02 01 05"), _PROTOCOL_ERROR, CLIENT),
    Bad("CONNACK return code 6", 4, x("20 02 00 06"), _MALFORMED, CLIENT),
    Bad("CONNACK too long, 3.1.1", 4, x("20 03 00 00 00"), _MALFORMED, CLIENT),
    Bad("CONNACK 5 without properties", 5, x("20 02 00 00"), _MALFORMED, CLIENT),
    Bad("CONNACK reason of another packet [MQTT-3.2.2-8]", 5, x("20 03 00 92 00"), _PROTOCOL_ERROR, CLIENT),
    # PUBLISH.
    Bad("PUBLISH empty", 4, x("30 00"), _MALFORMED),
    Bad("PUBLISH of one byte", 4, x("30 01 00"), _MALFORMED),
    Bad("PUBLISH empty, before another packet", 4, x("30 00 c0 00"), _MALFORMED),
    Bad("PUBLISH QoS 3 [MQTT-3.3.1-4]", 4, x("36 06 0001 'a' 0001 'x'"), _MALFORMED),
    Bad("PUBLISH DUP with QoS 0 [MQTT-3.3.1-2]", 4, x("38 04 0001 'a' 'x'"), _MALFORMED),
    Bad("PUBLISH packet identifier 0 [MQTT-2.2.1-3]", 4, x("32 06 0001 'a' 0000 'x'"), _PROTOCOL_ERROR),
    Bad("PUBLISH ends in its topic", 4, x("30 04 0003 'ab'"), _MALFORMED),
    Bad("PUBLISH's topic reaches into the next packet", 4, x("30 03 0002 'a' c0 00"), _MALFORMED),
    Bad("PUBLISH ends before its packet identifier", 4, x("32 03 0001 'a'"), _MALFORMED),
    Bad("PUBLISH ends in its packet identifier", 4, x("34 04 0001 'a' 00"), _MALFORMED),
    Bad("PUBLISH topic empty [MQTT-4.7.3-1]", 4, x("30 03 0000 'x'"), _MALFORMED),
    Bad("PUBLISH topic with # [MQTT-3.3.2-2]", 4, x("30 05 0003 'a/#'"), _MALFORMED),
    Bad("PUBLISH topic with + [MQTT-3.3.2-2]", 5, x("30 06 0003 '+/a' 00"), _MALFORMED),
    Bad("PUBLISH topic with U+0000 [MQTT-4.7.3-2]", 4, x("30 03 0001 00"), _MALFORMED),
    Bad("PUBLISH topic not UTF-8 [MQTT-3.3.2-1]", 4, x("30 04 0002 c328"), _MALFORMED),
    Bad("PUBLISH topic with a surrogate", 4, x("30 05 0003 edbfbf"), _MALFORMED),
    Bad("PUBLISH 5 without properties", 5, x("30 03 0001 'a'"), _MALFORMED),
    Bad("PUBLISH 5 QoS 1 without properties", 5, x("32 05 0001 'a' 0001"), _MALFORMED),
    Bad("PUBLISH 5, properties too long", 5, x("30 05 0001 'a' 02 01"), _MALFORMED),
    Bad("PUBLISH 5, length of properties cut", 5, x("30 04 0001 'a' 80"), _MALFORMED),
    Bad("PUBLISH 5 with neither topic nor alias", 5, x("30 03 0000 00"), _PROTOCOL_ERROR),
    Bad("PUBLISH 5 with properties but no topic or alias", 5, x("30 05 0000 02 0100"), _PROTOCOL_ERROR),
    # Acknowledgements.
    *(
        Bad(name, 5, x(data), reason)
        for name, data, reason in (
            ("PUBACK empty", "40 00", _MALFORMED),
            ("PUBACK of one byte", "40 01 00", _MALFORMED),
            ("PUBACK packet identifier 0", "40 02 0000", _PROTOCOL_ERROR),
            ("PUBREC packet identifier 0, with a reason", "50 03 0000 00", _PROTOCOL_ERROR),
            ("PUBACK reason of SUBACK [MQTT-3.4.2-1]", "40 03 0001 02", _PROTOCOL_ERROR),
            ("PUBREC reason unknown [MQTT-3.5.2-1]", "50 03 0001 ff", _PROTOCOL_ERROR),
            ("PUBREL reason of PUBREC [MQTT-3.6.2-1]", "62 03 0001 10", _PROTOCOL_ERROR),
            ("PUBCOMP reason of PUBREC [MQTT-3.7.2-1]", "70 03 0001 91", _PROTOCOL_ERROR),
            ("PUBACK goes on", "40 05 0001 00 00 00", _MALFORMED),
            ("PUBACK properties too long", "40 04 0001 00 01", _MALFORMED),
        )
    ),
    Bad("PUBACK with a reason in 3.1.1", 4, x("40 03 0001 00"), _MALFORMED),
    # SUBSCRIBE and UNSUBSCRIBE.
    *(
        Bad(name, version, sized(0x82, x(body)), reason)
        for name, version, body, reason in (
            ("SUBSCRIBE without filter [MQTT-3.8.3-2]", 4, "0001", _PROTOCOL_ERROR),
            ("SUBSCRIBE 5 without filter", 5, "0001 00", _PROTOCOL_ERROR),
            ("SUBSCRIBE 5 without properties", 5, "0001", _MALFORMED),
            ("SUBSCRIBE packet identifier 0", 4, "0000 0001 'a' 00", _PROTOCOL_ERROR),
            ("SUBSCRIBE ends before its options", 4, "0001 0001 'a'", _MALFORMED),
            ("SUBSCRIBE QoS 3", 4, "0001 0001 'a' 03", _PROTOCOL_ERROR),
            ("SUBSCRIBE 5 QoS 3", 5, "0001 00 0001 'a' 03", _PROTOCOL_ERROR),
            ("SUBSCRIBE options of MQTT 5 in 3.1.1", 4, "0001 0001 'a' 04", _MALFORMED),
            ("SUBSCRIBE 5 reserved options [MQTT-3.8.3-5]", 5, "0001 00 0001 'a' 40", _MALFORMED),
            ("SUBSCRIBE 5 retain handling 3", 5, "0001 00 0001 'a' 30", _PROTOCOL_ERROR),
            ("no local, shared [MQTT-3.8.3-4]", 5, "0001 00 000a '$share/g/a' 04", _PROTOCOL_ERROR),
            ("second filter cut", 4, "0001 0001 'a' 00 0002 'b'", _MALFORMED),
            ("filter empty [MQTT-4.7.3-1]", 4, "0001 0000 00", _MALFORMED),
            ("filter not UTF-8 [MQTT-3.8.3-1]", 4, "0001 0001 fe 00", _MALFORMED),
            ("filter with U+0000 [MQTT-4.7.3-2]", 4, "0001 0001 00 00", _MALFORMED),
            ("# not last [MQTT-4.7.1-1]", 4, "0001 0003 '#/a' 00", _MALFORMED),
            ("# within a level [MQTT-4.7.1-1]", 4, "0001 0002 'a#' 00", _MALFORMED),
            ("# after # [MQTT-4.7.1-1]", 4, "0001 0003 '#/#' 00", _MALFORMED),
            ("+ within a level [MQTT-4.7.1-2]", 4, "0001 0005 'a/+b/' 00", _MALFORMED),
            ("+# [MQTT-4.7.1-2]", 4, "0001 0002 '+#' 00", _MALFORMED),
            ("share name alone [MQTT-4.8.2-2]", 5, "0001 00 0008 '$share/g' 00", _MALFORMED),
            ("share name empty [MQTT-4.8.2-1]", 5, "0001 00 0009 '$share//a' 00", _MALFORMED),
            ("nothing after $share/", 5, "0001 00 0007 '$share/' 00", _MALFORMED),
            ("shared filter empty [MQTT-4.8.2-2]", 5, "0001 00 0009 '$share/g/' 00", _MALFORMED),
            ("share name + [MQTT-4.8.2-2]", 5, "0001 00 000a '$share/+/a' 00", _MALFORMED),
            ("share name with # [MQTT-4.8.2-2]", 4, "0001 000b '$share/g#/a' 00", _MALFORMED),
            ("shared filter invalid", 4, "0001 000c '$share/g/a#b' 00", _MALFORMED),
        )
    ),
    Bad("UNSUBSCRIBE without filter [MQTT-3.10.3-2]", 4, x("a2 02 0001"), _PROTOCOL_ERROR),
    Bad("UNSUBSCRIBE packet identifier 0", 4, x("a2 05 0000 0001 'a'"), _PROTOCOL_ERROR),
    Bad("UNSUBSCRIBE filter invalid", 5, x("a2 07 0001 00 0002 'a+'"), _MALFORMED),
    Bad("UNSUBSCRIBE filter not UTF-8 [MQTT-3.10.3-1]", 4, x("a2 05 0001 0001 ff"), _MALFORMED),
    # SUBACK and UNSUBACK.
    Bad("SUBACK reason unknown [MQTT-3.9.3-2]", 4, x("90 03 0001 03"), _PROTOCOL_ERROR, CLIENT),
    Bad("SUBACK reason of MQTT 5 in 3.1.1", 4, x("90 03 0001 87"), _PROTOCOL_ERROR, CLIENT),
    Bad("SUBACK packet identifier 0", 4, x("90 03 0000 00"), _PROTOCOL_ERROR, CLIENT),
    Bad("UNSUBACK reason unknown [MQTT-3.11.3-2]", 5, x("b0 04 0001 00 01"), _PROTOCOL_ERROR, CLIENT),
    Bad("UNSUBACK with reasons in 3.1.1", 4, x("b0 03 0001 00"), _MALFORMED, CLIENT),
    # The rest.
    Bad("PINGREQ with a body", 4, x("c0 01 00"), _MALFORMED),
    Bad("PINGRESP with a body", 4, x("d0 01 00"), _MALFORMED, CLIENT),
    Bad("DISCONNECT with a body in 3.1.1", 4, x("e0 01 00"), _MALFORMED),
    Bad("DISCONNECT reason unknown [MQTT-3.14.2-1]", 5, x("e0 01 01"), _PROTOCOL_ERROR),
    Bad("DISCONNECT goes on", 5, x("e0 03 00 00 00"), _MALFORMED),
    Bad("AUTH reason unknown [MQTT-3.15.2-1]", 5, x("f0 02 80 00"), _PROTOCOL_ERROR),
    Bad("AUTH with a reason alone", 5, x("f0 01 18"), _MALFORMED),
]
