"""OpenMessaging's words: what a message says of itself in them, and the guarantees and marks they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ..core.errors import InvalidValue
from ..core.message import HeaderValue, Message, Qos

VERSION: Final = "1.0.0"  # of the specification
VERSION_FIELD: Final = "x-oms-version"

Field = str | int | tuple[str, ...]

#: The fields of the header, and of the extension header, by what they hold. `tag` and `searchKeys` are ours.
HEADER: Final[dict[str, type]] = {
    "messageId": str,
    "destination": str,
    "bornTimestamp": int,
    "bornHost": str,
    "qos": int,
    "compression": str,
    "priority": int,
    "durability": int,
    "deliveryCount": int,
}
EXTENSION: Final[dict[str, type]] = {
    "messageKey": str,
    "correlationId": str,
    "delayTime": int,
    "expireTime": int,
    "traceId": str,
    "transactionId": str,
    "partition": int,
    "offset": int,
    "storeTimestamp": int,
    "storeHost": str,
    "tag": str,
    "searchKeys": tuple,
}
FIELDS: Final = {**HEADER, **EXTENSION}

#: OpenMessaging counts its guarantees from the middle: 0 is at least once, 1 at most once.
QOS_OF: Final = {0: Qos.AT_LEAST_ONCE, 1: Qos.AT_MOST_ONCE, 2: Qos.EXACTLY_ONCE}
OMS_QOS: Final = {qos: number for number, qos in QOS_OF.items()}
NON_PERSISTENT: Final = 1  # of `durability`, which older versions have in the place of `qos`

PRIORITY_MIN, PRIORITY_MAX = 1, 10  # AMQP's 0 to 9; what is out of range is ignored, says the specification
KEY_CHARACTERS_MAX: Final = 255  # of an idempotency key; a UUID has 36
INTEGER_DIGITS_MAX: Final = 18  # what 64 bits hold

#: Model attribute -> property, for what OpenMessaging has no field for.
PARKED: Final = {
    "content_type": "$content-type",
    "reply_to": "$reply-to",
    "idempotency_key": "$idempotency-key",
}
CORRELATION: Final = "$correlation"  # correlation data that is no text
TEXT: Final = "$text"  # "true": its publisher vouches that the body is UTF-8

#: Field -> header of a message that has it, the ones that `gateway.oms` writes; not if it says what is usual.
OWN: Final[dict[str, str]] = {
    "transactionId": "oms-transaction-id",
    "durability": "oms-durability",
    "partition": "oms-partition",
}
BORN_HOST: Final = "oms-born-host"  # what a producer that came by RocketMQ calls its own: read, not written


class Told(NamedTuple):
    """What a message says of itself in OpenMessaging's words."""

    fields: dict[str, Field]
    properties: list[tuple[str, HeaderValue]]


class Shown(NamedTuple):
    """A message on its way out, with what its delivery knows of it."""

    message: Message
    message_id: str  # if the publisher gave it none
    attempt: int = 0
    offset: int | None = None
    own_to_wall: Callable[[int], int] = int  # a time of the gateway's own, as others have it


def check_version(version: str | None) -> None:
    """Raise InvalidValue unless this version of the specification is spoken here: 1, 1.0, 1.0.0-alpha."""
    if version is None:
        raise InvalidValue(f"{VERSION_FIELD} is missing: send the specification's version, {VERSION}")
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise UnsupportedVersion(f"{VERSION_FIELD} is {version[:40]!r}; {VERSION} is spoken here")


class UnsupportedVersion(InvalidValue):
    """Another version of the specification than ours."""
