"""Packets that are right: every type, and every property in every packet that may carry it."""

from collections.abc import Iterator

from gateway.protocols.mqtt.packets import (
    CONNECT,
    Auth,
    Connack,
    Connect,
    Disconnect,
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
from gateway.protocols.mqtt.reasons import Reason
from tests.protocols.mqtt.codec_cases import (
    BOTH,
    CLIENT,
    PROPERTY_CASES,
    SERVER,
    Good,
    packet_with,
    property_receiver,
    sized,
    x,
)


def _property_goods() -> Iterator[Good]:
    for case in PROPERTY_CASES:
        for kind in case.packets:
            properties: Properties = {case.name: case.value}
            block = case.data
            if kind == CONNECT and case.name == "authentication_data":
                properties = {"authentication_method": "m", **properties}
                block = x("15 0001 'm'") + block
            data, packet = packet_with(kind, block, properties)
            receiver = property_receiver(kind, case.name)
            yield Good(f"{case.name} in {kind}", 5, data, packet, receiver)


S = SubscribeOption

GOOD = [
    # CONNECT
    Good(
        "connect 3.1",
        3,
        x("10 10 0006 'MQIsdp' 03 02 003c 0002 'c1'"),
        Connect(3, "c1", clean_start=True, keep_alive=60),
    ),
    Good(
        "connect 3.1.1, nothing set",
        4,
        x("10 0c 0004 'MQTT' 04 00 0000 0000"),
        Connect(4, "", clean_start=False),
    ),
    Good(
        "connect 3.1.1, everything set",
        4,
        x("10 20 0004 'MQTT' 04 f6 000a 0002 'c1' 0003 'w/t' 0003 00ff00 0001 'u' 0003 'pw' 00"),
        Connect(4, "c1", True, 10, "u", b"pw\x00", Will("w/t", b"\x00\xff\x00", 2, True)),
    ),
    Good(
        "connect 3.1.1, will QoS 1, empty will, empty user name",
        4,
        x("10 13 0004 'MQTT' 04 8c ffff 0000 0001 'w' 0000 0000"),
        Connect(4, "", False, 65535, "", None, Will("w", b"", 1)),
    ),
    Good(
        "connect 5, password without user name",
        5,
        x("10 13 0004 'MQTT' 05 42 003c 00 0002 'c1' 0002 'pw'"),
        Connect(5, "c1", True, 60, None, b"pw"),
    ),
    Good(
        "connect 5, everything set",
        5,
        x(
            "10 35 0004 'MQTT' 05 ce 003c"
            "13 11 0000000a 21 0014 26 0001 'k' 0001 'v' 15 0001 'm'"
            "0002 'c1'"
            "05 18 00000005 0001 'w' 0001 'x'"
            "0001 'u' 0002 'pw'"
        ),
        Connect(
            5,
            "c1",
            True,
            60,
            "u",
            b"pw",
            Will("w", b"x", 1, False, {"will_delay_interval": 5}),
            {
                "session_expiry_interval": 10,
                "receive_maximum": 20,
                "user_property": [("k", "v")],
                "authentication_method": "m",
            },
        ),
    ),
    # CONNACK
    Good("connack 3.1.1", 4, x("20 02 00 00"), Connack(False, 0), CLIENT),
    Good("connack 3.1.1 session present", 4, x("20 02 01 00"), Connack(True, 0), CLIENT),
    *(
        Good(
            f"connack 3.1.1 return code {code}", 4, bytes((0x20, 2, 0, code)), Connack(False, reason), CLIENT
        )
        for code, reason in enumerate(
            (
                Reason.SUCCESS,
                Reason.UNSUPPORTED_PROTOCOL_VERSION,
                Reason.CLIENT_IDENTIFIER_NOT_VALID,
                Reason.SERVER_UNAVAILABLE,
                Reason.BAD_USER_NAME_OR_PASSWORD,
                Reason.NOT_AUTHORIZED,
            )
        )
    ),
    Good("connack 3.1, unused byte set", 3, x("20 02 ff 00"), Connack(False, 0), CLIENT, canonical=False),
    Good("connack 5", 5, x("20 03 01 00 00"), Connack(True, 0), CLIENT),
    Good("connack 5 refused", 5, x("20 03 00 86 00"), Connack(False, 0x86), CLIENT),
    # PUBLISH
    Good("publish QoS 0", 4, x("30 07 0003 'a/b' 'hi'"), Publish("a/b", b"hi"), BOTH),
    Good("publish QoS 0 retained", 4, x("31 07 0003 'a/b' 'hi'"), Publish("a/b", b"hi", 0, True), BOTH),
    Good("publish QoS 0, no payload", 4, x("30 03 0001 'a'"), Publish("a", b""), BOTH),
    Good("publish 3.1", 3, x("30 03 0001 'a'"), Publish("a", b""), BOTH),
    Good("publish QoS 1", 4, x("32 08 0003 'a/b' 0001 'x'"), Publish("a/b", b"x", 1, packet_id=1), BOTH),
    Good(
        "publish QoS 1 again",
        4,
        x("3a 08 0003 'a/b' ffff 'x'"),
        Publish("a/b", b"x", 1, dup=True, packet_id=65535),
        BOTH,
    ),
    Good(
        "publish QoS 2, all flags",
        4,
        x("3d 08 0003 'a/b' 0100 'x'"),
        Publish("a/b", b"x", 2, True, True, 256),
        BOTH,
    ),
    Good(
        "publish, length of two bytes",
        4,
        x("30 83 01 0001 'a'") + b"p" * 128,
        Publish("a", b"p" * 128),
        BOTH,
    ),
    Good(
        "publish, length of three bytes",
        4,
        x("30 83 80 01 0001 'a'") + b"p" * 16_384,
        Publish("a", b"p" * 16_384),
        BOTH,
    ),
    Good(
        "publish, longest topic",
        4,
        x("30 81 80 04 ffff") + b"t" * 65_535,
        Publish("t" * 65_535, b""),
        BOTH,
    ),
    Good("publish, topic not ASCII", 4, x("30 0a 0008 'a' e282ac f09f9880"), Publish("a€😀", b""), BOTH),
    Good("publish, topic begins with U+FEFF", 4, x("30 05 0003 efbbbf"), Publish("\ufeff", b""), BOTH),
    Good("publish 5", 5, x("30 08 0003 'a/b' 00 'hi'"), Publish("a/b", b"hi"), BOTH),
    Good(
        "publish 5 QoS 2 with properties",
        5,
        x("34 18 0003 'a/b' 0007 0e 01 01 02 00000e10 26 0001 'k' 0001 'v' 'hi'"),
        Publish(
            "a/b",
            b"hi",
            2,
            packet_id=7,
            properties={
                "payload_format_indicator": 1,
                "message_expiry_interval": 3600,
                "user_property": [("k", "v")],
            },
        ),
        BOTH,
    ),
    Good(
        "publish 5, topic by alias",
        5,
        x("30 07 0000 03 23 0001 'x'"),
        Publish("", b"x", properties={"topic_alias": 1}),
        BOTH,
    ),
    Good(
        "publish 5, user property twice, in order",
        5,
        x("30 15 0001 'a' 11 26 0001 'z' 0002 'v1' 26 0001 'a' 0003 'v22'"),
        Publish("a", b"", properties={"user_property": [("z", "v1"), ("a", "v22")]}),
        BOTH,
    ),
    Good(
        "publish 5 from a server, three subscription identifiers",
        5,
        x("30 0e 0001 'a' 0a 0b 01 0b 80 01 0b ff ff ff 7f"),
        Publish("a", b"", properties={"subscription_identifier": [1, 128, 268_435_455]}),
        CLIENT,
    ),
    # PUBACK, PUBREC, PUBREL, PUBCOMP
    *(
        Good(f"{cls.__name__.lower()} 3.1.1", 4, bytes((first, 2, 0, 9)), cls(9), BOTH)
        for first, cls in ((0x40, Puback), (0x50, Pubrec), (0x62, Pubrel), (0x70, Pubcomp))
    ),
    *(
        Good(f"{cls.__name__.lower()} 5, shortest", 5, bytes((first, 2, 1, 0)), cls(256), BOTH)
        for first, cls in ((0x40, Puback), (0x50, Pubrec), (0x62, Pubrel), (0x70, Pubcomp))
    ),
    *(
        Good(f"{cls.__name__.lower()} 5, reason alone", 5, bytes((first, 3, 0, 9, code)), cls(9, code), BOTH)
        for first, cls, code in (
            (0x40, Puback, 0x10),
            (0x50, Pubrec, 0x87),
            (0x62, Pubrel, 0x92),
            (0x70, Pubcomp, 0x92),
        )
    ),
    Good("puback 5, reason 0 spelt out", 5, x("40 03 0009 00"), Puback(9), BOTH, canonical=False),
    Good("puback 5, all spelt out", 5, x("40 04 0009 00 00"), Puback(9), BOTH, canonical=False),
    Good(
        "pubrec 5, reason 0 and a property",
        5,
        x("50 08 0009 00 04 1f 0001 'r'"),
        Pubrec(9, 0, {"reason_string": "r"}),
        BOTH,
    ),
    Good("pubrel 3.1 with DUP", 3, x("6a 02 0009"), Pubrel(9), SERVER, canonical=False),
    # SUBSCRIBE
    Good("subscribe", 4, x("82 08 0001 0003 'a/b' 01"), Subscribe(1, [S("a/b", 1)])),
    Good(
        "subscribe 3.1 with DUP", 3, x("8a 06 0001 0001 'a' 01"), Subscribe(1, [S("a", 1)]), canonical=False
    ),
    Good(
        "subscribe, every shape of filter",
        4,
        sized(
            0x82,
            x(
                "0002 0001 '#' 00 0001 '+' 01 0001 '/' 02 0003 '+/+' 00 0003 '/+/' 00 0003 'a/#' 00"
                "0002 '//' 00 0003 '+/#' 00 0006 '$SYS/#' 00 0006 '$share' 00 000a '$share/g/#' 00"
                "000b '$share/g//+' 00 000a '$shared/+/' 00"
            ),
        ),
        Subscribe(
            2,
            [
                S("#"),
                S("+", 1),
                S("/", 2),
                S("+/+"),
                S("/+/"),
                S("a/#"),
                S("//"),
                S("+/#"),
                S("$SYS/#"),
                S("$share"),
                S("$share/g/#"),
                S("$share/g//+"),
                S("$shared/+/"),
            ],
        ),
    ),
    Good(
        "subscribe 5, every option",
        5,
        x("82 16 0003 03 0b 80 01 0001 'a' 2e 0001 'b' 10 0001 'c' 09 0001 'd' 00"),
        Subscribe(
            3,
            [S("a", 2, True, True, 2), S("b", 0, False, False, 1), S("c", 1, False, True), S("d")],
            {"subscription_identifier": [128]},
        ),
    ),
    # SUBACK
    Good("suback", 4, x("90 06 0001 00 01 02 80"), Suback(1, [0, 1, 2, 0x80]), CLIENT),
    Good("suback 5", 5, x("90 07 0001 00 00 02 87 8f"), Suback(1, [0, 2, 0x87, 0x8F]), CLIENT),
    # UNSUBSCRIBE
    Good("unsubscribe", 4, x("a2 0a 0001 0001 'a' 0003 '+/#'"), Unsubscribe(1, ["a", "+/#"])),
    Good("unsubscribe 5", 5, x("a2 0f 0001 00 000a '$share/g/a'"), Unsubscribe(1, ["$share/g/a"])),
    # UNSUBACK
    Good("unsuback", 4, x("b0 02 0001"), Unsuback(1, []), CLIENT),
    Good("unsuback 5", 5, x("b0 05 0001 00 00 11"), Unsuback(1, [0, 0x11]), CLIENT),
    # PINGREQ, PINGRESP
    Good("pingreq", 4, x("c0 00"), Pingreq()),
    Good("pingreq 5", 5, x("c0 00"), Pingreq()),
    Good("pingresp", 4, x("d0 00"), Pingresp(), CLIENT),
    # DISCONNECT
    Good("disconnect", 4, x("e0 00"), Disconnect()),
    Good("disconnect 5", 5, x("e0 00"), Disconnect(), BOTH),
    Good("disconnect 5, reason alone", 5, x("e0 01 04"), Disconnect(4), BOTH),
    Good("disconnect 5, all spelt out", 5, x("e0 02 00 00"), Disconnect(), BOTH, canonical=False),
    Good(
        "disconnect 5 from a client",
        5,
        x("e0 07 00 05 11 ffffffff"),
        Disconnect(0, {"session_expiry_interval": 0xFFFF_FFFF}),
    ),
    # AUTH
    Good("auth, shortest", 5, x("f0 00"), Auth(), BOTH),
    Good("auth, all spelt out", 5, x("f0 02 00 00"), Auth(), BOTH, canonical=False),
    Good(
        "auth",
        5,
        x("f0 0b 18 09 15 0001 'm' 16 0002 00ff"),
        Auth(0x18, {"authentication_method": "m", "authentication_data": b"\x00\xff"}),
        BOTH,
    ),
    *_property_goods(),
]
