"""What RocketMQ demands of a message that a client sends, each rule with its code.

Limits are those of RocketMQ's proxy, whose clients know them; what it refuses because of how its broker
stores things (control characters, say) is refused here, too, so that a program that works here works there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.core.errors import InvalidValue
from gateway.rocketmq.numbers import Code, Encoding, MessageType
from gateway.rocketmq.payload import decompress, is_intact
from gateway.rocketmq.properties import RESERVED

from ..errors import Refused

PROPERTIES_MAX: Final = 128  # of a user
PROPERTIES_BYTES_MAX: Final = 16_384  # of all of them, names and values
GROUP_BYTES_MAX: Final = 63  # of a message group: "less than 64"
ID_CHARACTERS_MAX: Final = 255  # of a message id; official clients' have 34
SYSTEM_BYTES_MAX: Final = 16_384  # of tag, keys, trace context: with the others what RocketMQ has room for
UTF8_BYTES_MAX: Final = 4  # of one character

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: Type -> the property that makes a message one of it, and the field that holds that.
NEEDED: Final = {
    MessageType.FIFO: ("a message group", "message_group"),
    MessageType.DELAY: ("a delivery timestamp", "delivery_timestamp"),
    MessageType.PRIORITY: ("a priority", "priority"),
}
IDENTITY: Final = int(Encoding.IDENTITY)
LITE, NORMAL = int(MessageType.LITE), int(MessageType.NORMAL)  # numbers: compared for each message
TYPES: Final = frozenset((MessageType.NORMAL, MessageType.TRANSACTION, *NEEDED))


def body_of(wire: Any, bytes_max: int) -> bytes:
    """Return the body of a message, without its compression. Raise Refused or TooLarge."""
    body: bytes = wire.body
    if not body:
        raise Refused(Code.MESSAGE_BODY_EMPTY, "the body is empty; RocketMQ's messages have one")
    if len(body) > bytes_max:
        raise Refused(Code.MESSAGE_BODY_TOO_LARGE, f"the body has {len(body)} bytes; {bytes_max} are allowed")
    system = wire.system_properties
    if system.HasField("body_digest") and system.body_digest.type:
        digest = system.body_digest
        if not is_intact(digest.type, digest.checksum, body):
            raise Refused(
                Code.MESSAGE_CORRUPTED, f"the body's digest is not {digest.checksum[:40]!r}; send it again"
            )
    encoding = system.body_encoding
    if encoding <= IDENTITY:  # or not said
        return body
    if encoding != Encoding.GZIP:
        raise Refused(Code.UNSUPPORTED, f"body_encoding {encoding} is not known; IDENTITY or GZIP is")
    try:
        return decompress(body, bytes_max)
    except InvalidValue as error:
        raise Refused(Code.MESSAGE_CORRUPTED, error.detail) from error


def check_message(wire: Any) -> None:
    """Raise Refused unless RocketMQ would take a message; its topic and its body are looked at elsewhere."""
    system = wire.system_properties
    message_id = system.message_id
    if not message_id or len(message_id) > ID_CHARACTERS_MAX or not message_id.isprintable():
        raise Refused(
            Code.ILLEGAL_MESSAGE_ID, f"message_id: 1 to {ID_CHARACTERS_MAX} printable characters are expected"
        )
    if system.ByteSize() > SYSTEM_BYTES_MAX:
        raise Refused(
            Code.MESSAGE_PROPERTIES_TOO_LARGE,
            f"the system properties have more than {SYSTEM_BYTES_MAX} bytes",
        )
    _check_type(system)
    if system.priority < 0:
        raise Refused(Code.BAD_REQUEST, f"the priority is {system.priority}; 0 or more is expected")
    if system.tag:
        _check_text(system.tag, "the tag", Code.ILLEGAL_MESSAGE_TAG)
        if "|" in system.tag:
            raise Refused(Code.ILLEGAL_MESSAGE_TAG, "the tag has a '|', by which filters tell tags apart")
    for key in system.keys:
        _check_text(key, "a key", Code.ILLEGAL_MESSAGE_KEY)
    if system.message_group:
        _check_text(system.message_group, "the message group", Code.ILLEGAL_MESSAGE_GROUP)
        if len(system.message_group.encode()) > GROUP_BYTES_MAX:
            raise Refused(
                Code.ILLEGAL_MESSAGE_GROUP, f"the message group has more than {GROUP_BYTES_MAX} bytes"
            )
    if wire.user_properties:
        _check_properties(wire.user_properties)


def _check_type(system: Any) -> None:
    kind, has = system.message_type, system.HasField
    if kind == LITE or system.lite_topic:
        raise Refused(Code.UNSUPPORTED, "lite topics are not supported; use a topic for each")
    if kind == NORMAL:
        if has("message_group") or has("delivery_timestamp") or has("priority"):
            raise Refused(
                Code.MESSAGE_PROPERTY_CONFLICT_WITH_TYPE,
                "a message of type NORMAL has no message_group, delivery_timestamp or priority: "
                "these make it one of another type",
            )
        return
    needed = NEEDED.get(kind)
    if needed is not None and not has(needed[1]):
        raise Refused(
            Code.MESSAGE_PROPERTY_CONFLICT_WITH_TYPE,
            f"a message of type {MessageType(kind).name} has {needed[0]}; {needed[1]} is missing",
        )
    if kind and kind not in TYPES:  # 0: not said, it is what its properties make it
        raise Refused(Code.UNSUPPORTED, f"message_type {kind} is not known here")


def _check_text(text: str, what: str, code: Code) -> None:
    if text.isspace():
        raise Refused(code, f"{what} is blank")
    if not text.isprintable() and _CONTROL.search(text):
        raise Refused(code, f"{what} {text[:40]!r} has a control character")


def _check_properties(user: Mapping[str, str]) -> None:
    if len(user) > PROPERTIES_MAX:
        raise Refused(
            Code.MESSAGE_PROPERTIES_TOO_LARGE,
            f"the message has {len(user)} properties; {PROPERTIES_MAX} are allowed",
        )
    characters = 0
    for name, value in user.items():
        characters += len(name) + len(value)
        if name in RESERVED:
            raise Refused(
                Code.ILLEGAL_MESSAGE_PROPERTY_KEY, f"{name!r} is a property of RocketMQ's own; take another"
            )
        if not name or name.isspace():
            raise Refused(Code.ILLEGAL_MESSAGE_PROPERTY_KEY, "a property has no name")
        for text in (name, value):
            if not text.isprintable() and _CONTROL.search(text):
                raise Refused(
                    Code.ILLEGAL_MESSAGE_PROPERTY_KEY, f"property {name[:40]!r} has a control character"
                )
    if characters * UTF8_BYTES_MAX > PROPERTIES_BYTES_MAX:
        size = sum(len(name.encode()) + len(value.encode()) for name, value in user.items())
        if size > PROPERTIES_BYTES_MAX:
            raise Refused(
                Code.MESSAGE_PROPERTIES_TOO_LARGE,
                f"the properties have {size} bytes; {PROPERTIES_BYTES_MAX} are allowed",
            )
