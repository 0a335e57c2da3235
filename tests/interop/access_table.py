"""The table of the access matrix: every door, what it answers, and what it cannot express."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.interop import access_core
from tests.interop.access_amqp import ACK, OK, amqp_link
from tests.interop.access_cases import ACTIONS, LOGINS, Link, Login
from tests.interop.access_coap import NO as COAP_NO
from tests.interop.access_coap import OK as COAP_OK
from tests.interop.access_coap import REFUSED as COAP_REFUSED
from tests.interop.access_coap import CoapLink
from tests.interop.access_house import House
from tests.interop.access_http import HttpLink, SocketLink, SseLink
from tests.interop.access_mqtt import V5, V311, mqtt_link
from tests.interop.access_rocketmq import NO as ROCKET_NO
from tests.interop.access_rocketmq import OK as ROCKET_OK
from tests.interop.access_rocketmq import REFUSED as ROCKET_REFUSED
from tests.interop.access_rocketmq import RocketLink

EVENTS = "text/event-stream"
NO = (403, "not-authorized")
DENIED = 0x87  # MQTT 5: not authorized


class Door(NamedTuple):
    """A door: how to log in there, and what it says to what may be done, and may not."""

    connect: Callable[[House, Login], Link] | None  # None: it has no door yet
    yes: dict[str, object]
    no: dict[str, object]
    refused: object  # to a login that is wrong
    words: bool = True  # whether it can say why


def _mqtt(tls: bool, version: int, web: bool = False) -> Door:
    five = version == V5
    yes = {"publish": 0, "subscribe": 1, "consume": 1}
    # 3.1.1 has no negative acknowledgement: what is denied is acknowledged, and dropped.
    no = {"publish": DENIED if five else 0, "subscribe": DENIED if five else 0x80}
    no["consume"] = no["subscribe"]
    # paho calls CONNACK's 4 of 3.1.1 by the name and number it has in MQTT 5.
    return Door(lambda house, login: mqtt_link(house, tls, login, version, web), yes, no, 0x86, five)


def _amqp(tls: bool) -> Door:
    yes = {"publish": ACK, "subscribe": OK, "consume": OK, "manage": OK, "view": OK}
    return Door(lambda house, login: amqp_link(house, tls, login), yes, dict.fromkeys(yes, 403), 403)


def _http(tls: bool) -> Door:
    yes: dict[str, object] = dict.fromkeys(ACTIONS, 200) | {"manage": 201}
    return Door(lambda house, login: HttpLink(house, tls, login), yes, dict.fromkeys(yes, NO), (401, 2))


def _sse(tls: bool) -> Door:
    yes: dict[str, object] = dict.fromkeys(("subscribe", "consume"), (200, EVENTS))
    return Door(lambda house, login: SseLink(house, tls, login), yes, dict.fromkeys(yes, NO), (401, 2))


def _socket(tls: bool) -> Door:
    yes: dict[str, object] = {"publish": "published", "subscribe": "subscribed", "consume": "consuming"}
    return Door(lambda house, login: SocketLink(house, tls, login), yes, dict.fromkeys(yes, NO), (401, 2))


def _coap() -> Door:
    yes: dict[str, object] = dict.fromkeys(("publish", "subscribe", "consume", "view"), COAP_OK)
    return Door(lambda house, login: CoapLink(house, login), yes, dict.fromkeys(yes, COAP_NO), COAP_REFUSED)


def _rocket(tls: bool) -> Door:
    yes: dict[str, object] = dict.fromkeys(("publish", "subscribe", "consume"), ROCKET_OK)
    no: dict[str, object] = dict.fromkeys(yes, ROCKET_NO)
    return Door(lambda house, login: RocketLink(house, tls, login), yes, no, ROCKET_REFUSED)


def _core(refused: str) -> Door:
    yes: dict[str, object] = dict.fromkeys(ACTIONS, access_core.OK)
    return Door(None, yes, dict.fromkeys(yes, "NotAuthorized"), refused)


DOORS: dict[str, Door] = {
    "mqtt-3": _mqtt(False, V311),
    "mqtt-5": _mqtt(False, V5),
    "mqtts-3": _mqtt(True, V311),
    "mqtts-5": _mqtt(True, V5),
    "mqtt-ws": _mqtt(False, V5, True),
    "mqtt-wss": _mqtt(True, V5, True),
    "amqp": _amqp(False),
    "amqps": _amqp(True),
    "http": _http(False),
    "https": _http(True),
    "sse": _sse(False),
    "sse-tls": _sse(True),
    "ws": _socket(False),
    "wss": _socket(True),
    "openmessaging": _rocket(False),
    "openmessagings": _rocket(True),
    "coap": _coap(),
    "coap-keys": _core("no handshake"),
}
ALL_LOGINS = (*LOGINS, *access_core.LOGINS)
OVER_TLS = ("mqtts-3", "mqtts-5", "mqtt-wss", "amqps", "https", "sse-tls", "wss", "openmessagings")
ROCKET = ("openmessaging", "openmessagings")
WEB = ("http", "https", "sse", "sse-tls", "ws", "wss")
LATER = {"coap-keys": ("psk", "oscore")}
TODAY = tuple(door for door in DOORS if door not in LATER)

#: (doors, logins, why they do not go together)
NO_LOGINS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (
        tuple(door for door in TODAY if door not in OVER_TLS),
        ("certificate",),
        "without TLS nobody shows a certificate",
    ),
    (("mqtt-3", "mqtts-3"), ("scram",), "MQTT 3.1.1 has no exchange: no AUTH packet"),
    (WEB, ("scram",), "HTTP has one login a request; RFC 7804 is not offered"),
    (("amqp", "amqps"), ("anonymous",), "every mechanism names a user; ANONYMOUS is not offered"),
    (
        tuple(door for door in TODAY if door not in ROCKET),
        ("signature",),
        "a header of RocketMQ's gRPC clients",
    ),
    (ROCKET, ("password", "scram", "token", "jwks", "key"), "RocketMQ's clients sign, or have a certificate"),
    (
        ("openmessagings",),
        ("signature", "anonymous"),
        "gRPC asks all for certificates, or none: here all, and these are the logins",
    ),
    (TODAY, ("psk", "oscore"), "keys of CoAP's own handshakes"),
    (("coap",), ("scram",), "a request has its login in it; there is no exchange"),
    (
        ("coap-keys",),
        LOGINS,
        "keys of handshakes alone: see test_coap_dtls and test_coap_oscore",
    ),
)

#: (doors, actions, why there is no such thing)
NO_ACTIONS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (
        tuple(door for door in TODAY if door.startswith("mqtt")),
        ("manage", "view", "administer"),
        "MQTT has packets for messages alone",
    ),
    (("amqp", "amqps"), ("administer",), "AMQP has queues and exchanges; the rest is HTTP's /api"),
    (("sse", "sse-tls"), ("publish", "manage", "view", "administer"), "events go one way"),
    (("ws", "wss"), ("manage", "view", "administer"), "no `op` does that"),
    (ROCKET, ("manage", "view", "administer"), "its procedures are about messages"),
    (("coap",), ("manage", "administer"), "devices make no queues; people have HTTP"),
)


def impossible_logins() -> set[tuple[str, str]]:
    """Return (door, login) that do not go together."""
    return {(door, login) for doors, logins, _ in NO_LOGINS for door in doors for login in logins}


def impossible_actions() -> set[tuple[str, str]]:
    """Return (door, action) that do not go together."""
    return {(door, action) for doors, actions, _ in NO_ACTIONS for door in doors for action in actions}


#: What is tried, in order.
PAIRS = [(door, login) for door in DOORS for login in ALL_LOGINS if (door, login) not in impossible_logins()]
