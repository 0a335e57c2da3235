"""The fifteen packets of MQTT, as plain values.

Fields carry the standard's names. A packet is the same object for 3.1, 3.1.1 and 5: what a version lacks
holds its neutral value (reason 0, no properties), so that the code above the codec asks for the version
only where behaviour differs. Properties of received packets may be shared between packets: treat them as
read-only.
"""

from typing import ClassVar, Final

Properties = dict[str, object]

# What every packet without properties carries; one object, never to be written to.
EMPTY: Final[Properties] = {}

V31: Final = 3
V311: Final = 4
V5: Final = 5

CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15


class _Value:
    """Compare and print by the fields named in `__slots__`; for tests and logs, not for the hot path."""

    __slots__: tuple[str, ...] = ()

    def _fields(self) -> dict[str, object]:
        # A class compiled by mypyc names its fields in `__mypyc_attrs__` instead.
        places = [
            (cls.__dict__, key) for cls in type(self).__mro__ for key in ("__slots__", "__mypyc_attrs__")
        ]
        names = [name for where, key in places for name in where.get(key, ())]
        # `frame` is how a packet arrived, not what it says: two equal packets may differ in it.
        return {name: getattr(self, name) for name in names if name != "frame"}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Value) and self._fields() == other._fields()

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self._fields().items())
        return f"{type(self).__name__}({inside})"


class Packet(_Value):
    """One control packet; `type` is its number in the fixed header."""

    __slots__ = ()
    type: ClassVar[int] = 0


class Will(_Value):
    """The message that the server publishes for a client that is gone."""

    __slots__ = ("payload", "properties", "qos", "retain", "topic")

    def __init__(
        self, topic: str, payload: bytes, qos: int = 0, retain: bool = False, properties: Properties = EMPTY
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties


class Connect(Packet):
    __slots__ = (
        "clean_start",
        "client_id",
        "keep_alive",
        "password",
        "properties",
        "username",
        "version",
        "will",
    )
    type: ClassVar[int] = CONNECT

    def __init__(
        self,
        version: int,
        client_id: str,
        clean_start: bool = True,
        keep_alive: int = 0,
        username: str | None = None,
        password: bytes | None = None,
        will: Will | None = None,
        properties: Properties = EMPTY,
    ) -> None:
        self.version = version
        self.client_id = client_id
        self.clean_start = clean_start
        self.keep_alive = keep_alive
        self.username = username
        self.password = password
        self.will = will
        self.properties = properties


class Connack(Packet):
    __slots__ = ("properties", "reason", "session_present")
    type: ClassVar[int] = CONNACK

    def __init__(self, session_present: bool, reason: int, properties: Properties = EMPTY) -> None:
        self.session_present = session_present
        self.reason = reason
        self.properties = properties


class Publish(Packet):
    """An application message.

    `frame` is the packet as it arrived, when those bytes may be forwarded unaltered as a QoS 0 delivery to a
    subscriber of the same protocol version; otherwise None.
    """

    __slots__ = ("dup", "frame", "packet_id", "payload", "properties", "qos", "retain", "topic")
    type: ClassVar[int] = PUBLISH

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        dup: bool = False,
        packet_id: int = 0,
        properties: Properties = EMPTY,
        frame: bytes | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.dup = dup
        self.packet_id = packet_id
        self.properties = properties
        self.frame = frame


class Ack(Packet):
    """What PUBACK, PUBREC, PUBREL and PUBCOMP have in common: everything."""

    __slots__ = ("packet_id", "properties", "reason")

    def __init__(self, packet_id: int, reason: int = 0, properties: Properties = EMPTY) -> None:
        self.packet_id = packet_id
        self.reason = reason
        self.properties = properties


class Puback(Ack):
    __slots__ = ()
    type: ClassVar[int] = PUBACK


class Pubrec(Ack):
    __slots__ = ()
    type: ClassVar[int] = PUBREC


class Pubrel(Ack):
    __slots__ = ()
    type: ClassVar[int] = PUBREL


class Pubcomp(Ack):
    __slots__ = ()
    type: ClassVar[int] = PUBCOMP


class SubscribeOption(_Value):
    """One topic filter of a SUBSCRIBE, with what the client asks for it."""

    __slots__ = ("filter", "no_local", "qos", "retain_as_published", "retain_handling")

    def __init__(
        self,
        filter: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> None:
        self.filter = filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.retain_handling = retain_handling


class Subscribe(Packet):
    __slots__ = ("packet_id", "properties", "subscriptions")
    type: ClassVar[int] = SUBSCRIBE

    def __init__(
        self, packet_id: int, subscriptions: list[SubscribeOption], properties: Properties = EMPTY
    ) -> None:
        self.packet_id = packet_id
        self.subscriptions = subscriptions
        self.properties = properties


class Suback(Packet):
    __slots__ = ("packet_id", "properties", "reasons")
    type: ClassVar[int] = SUBACK

    def __init__(self, packet_id: int, reasons: list[int], properties: Properties = EMPTY) -> None:
        self.packet_id = packet_id
        self.reasons = reasons
        self.properties = properties


class Unsubscribe(Packet):
    __slots__ = ("filters", "packet_id", "properties")
    type: ClassVar[int] = UNSUBSCRIBE

    def __init__(self, packet_id: int, filters: list[str], properties: Properties = EMPTY) -> None:
        self.packet_id = packet_id
        self.filters = filters
        self.properties = properties


class Unsuback(Packet):
    """The answer to UNSUBSCRIBE; 3.1.1 sends no reasons, so the list is empty there."""

    __slots__ = ("packet_id", "properties", "reasons")
    type: ClassVar[int] = UNSUBACK

    def __init__(self, packet_id: int, reasons: list[int], properties: Properties = EMPTY) -> None:
        self.packet_id = packet_id
        self.reasons = reasons
        self.properties = properties


class Pingreq(Packet):
    __slots__ = ()
    type: ClassVar[int] = PINGREQ


class Pingresp(Packet):
    __slots__ = ()
    type: ClassVar[int] = PINGRESP


class Disconnect(Packet):
    __slots__ = ("properties", "reason")
    type: ClassVar[int] = DISCONNECT

    def __init__(self, reason: int = 0, properties: Properties = EMPTY) -> None:
        self.reason = reason
        self.properties = properties


class Auth(Packet):
    __slots__ = ("properties", "reason")
    type: ClassVar[int] = AUTH

    def __init__(self, reason: int = 0, properties: Properties = EMPTY) -> None:
        self.reason = reason
        self.properties = properties
