"""What RocketMQ refuses of a message, and with which code."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest

from gateway.core.errors import TooLarge
from gateway.protocols.openmessaging.errors import Refused
from gateway.protocols.openmessaging.sending.checks import (
    GROUP_BYTES_MAX,
    ID_CHARACTERS_MAX,
    PROPERTIES_BYTES_MAX,
    PROPERTIES_MAX,
    body_of,
    check_message,
)
from gateway.rocketmq.numbers import Code, DigestType, Encoding, MessageType
from gateway.rocketmq.schema import CLASSES

BODY_MAX = 1000


def wire_of(body: bytes = b"x", user: dict[str, str] | None = None, **system: Any) -> Any:
    properties = {"message_id": "01", "message_type": MessageType.NORMAL, **system}
    return CLASSES["Message"](body=body, user_properties=user or {}, system_properties=properties)


GOOD: list[dict[str, Any]] = [
    {},
    {"message_type": MessageType.MESSAGE_TYPE_UNSPECIFIED, "message_group": "g", "priority": 1},
    {"message_type": MessageType.FIFO, "message_group": "g" * GROUP_BYTES_MAX},
    {"message_type": MessageType.FIFO, "message_group": "g", "priority": 1},
    {"message_type": MessageType.DELAY, "delivery_timestamp": {"seconds": 1}},
    {"message_type": MessageType.PRIORITY, "priority": 0},
    {"message_type": MessageType.TRANSACTION, "message_group": "g"},
    {"message_id": "m" * ID_CHARACTERS_MAX},
    {"tag": "a b", "keys": ["k", "é\u00a0"]},
    {"user": {f"n{number}": "v" for number in range(PROPERTIES_MAX)}},
    {"user": {"n": "v" * (PROPERTIES_BYTES_MAX - 1)}},
]


@pytest.mark.parametrize("fields", GOOD, ids=range(len(GOOD)))
def test_what_is_taken(fields: dict[str, Any]) -> None:
    check_message(wire_of(**fields))


CONFLICT = Code.MESSAGE_PROPERTY_CONFLICT_WITH_TYPE
PROPERTY, TOO_MANY = Code.ILLEGAL_MESSAGE_PROPERTY_KEY, Code.MESSAGE_PROPERTIES_TOO_LARGE
BAD: list[tuple[dict[str, Any], Code]] = [
    ({"message_id": ""}, Code.ILLEGAL_MESSAGE_ID),
    ({"message_id": "a\n"}, Code.ILLEGAL_MESSAGE_ID),
    ({"message_id": "m" * (ID_CHARACTERS_MAX + 1)}, Code.ILLEGAL_MESSAGE_ID),
    ({"tag": "a|b"}, Code.ILLEGAL_MESSAGE_TAG),
    ({"tag": " "}, Code.ILLEGAL_MESSAGE_TAG),
    ({"tag": "a\x01"}, Code.ILLEGAL_MESSAGE_TAG),
    ({"keys": ["a", "b\x7f"]}, Code.ILLEGAL_MESSAGE_KEY),
    ({"keys": ["\t"]}, Code.ILLEGAL_MESSAGE_KEY),
    ({"message_type": MessageType.FIFO, "message_group": "g" * 64}, Code.ILLEGAL_MESSAGE_GROUP),
    ({"message_type": MessageType.FIFO, "message_group": "é" * 32}, Code.ILLEGAL_MESSAGE_GROUP),
    ({"message_type": MessageType.FIFO, "message_group": "  "}, Code.ILLEGAL_MESSAGE_GROUP),
    ({"message_type": MessageType.FIFO}, CONFLICT),
    ({"message_type": MessageType.DELAY}, CONFLICT),
    ({"message_type": MessageType.PRIORITY}, CONFLICT),
    ({"message_group": "g"}, CONFLICT),
    ({"priority": 0}, CONFLICT),
    ({"delivery_timestamp": {}}, CONFLICT),
    ({"message_type": MessageType.LITE}, Code.UNSUPPORTED),
    ({"lite_topic": "l"}, Code.UNSUPPORTED),
    ({"message_type": MessageType.PRIORITY, "priority": -1}, Code.BAD_REQUEST),
    ({"trace_context": "t" * 16_384}, Code.MESSAGE_PROPERTIES_TOO_LARGE),
    ({"keys": ["k"] * 5_500}, Code.MESSAGE_PROPERTIES_TOO_LARGE),
    ({"message_type": 99}, Code.UNSUPPORTED),
    ({"user": {"KEYS": "a"}}, PROPERTY),
    ({"user": {"": "a"}}, PROPERTY),
    ({"user": {" ": "a"}}, PROPERTY),
    ({"user": {"a\n": "a"}}, PROPERTY),
    ({"user": {"a": "a\x02b"}}, PROPERTY),
    ({"user": {f"n{number}": "v" for number in range(PROPERTIES_MAX + 1)}}, TOO_MANY),
    ({"user": {"n": "v" * PROPERTIES_BYTES_MAX}}, TOO_MANY),
    ({"user": {"n": "é" * (PROPERTIES_BYTES_MAX // 2)}}, TOO_MANY),
]


@pytest.mark.parametrize(("fields", "code"), BAD, ids=range(len(BAD)))
def test_what_is_refused(fields: dict[str, Any], code: Code) -> None:
    with pytest.raises(Refused) as caught:
        check_message(wire_of(**fields))
    assert caught.value.code == code


def digest(kind: DigestType, checksum: str) -> dict[str, Any]:
    return {"body_digest": {"type": kind, "checksum": checksum}}


PACKED = gzip.compress(b"a" * 900)
BODIES: list[tuple[bytes, dict[str, Any], bytes]] = [
    (b"x" * BODY_MAX, {}, b"x" * BODY_MAX),
    (b"abc", {"body_encoding": Encoding.IDENTITY, **digest(DigestType.CRC32, "352441C2")}, b"abc"),
    (b"abc", digest(DigestType.MD5, "900150983CD24FB0D6963F7D28E17F72"), b"abc"),
    (b"abc", digest(DigestType.DIGEST_TYPE_UNSPECIFIED, "?"), b"abc"),
    (PACKED, {"body_encoding": Encoding.GZIP}, b"a" * 900),
    (
        PACKED,
        {"body_encoding": Encoding.GZIP, **digest(DigestType.CRC32, f"{zlib.crc32(PACKED):x}")},
        b"a" * 900,
    ),
]


@pytest.mark.parametrize(("body", "system", "plain"), BODIES, ids=range(len(BODIES)))
def test_a_body_without_its_compression(body: bytes, system: dict[str, Any], plain: bytes) -> None:
    assert body_of(wire_of(body, **system), BODY_MAX) == plain


BAD_BODIES: list[tuple[bytes, dict[str, Any], Code]] = [
    (b"", {}, Code.MESSAGE_BODY_EMPTY),
    (b"x" * (BODY_MAX + 1), {}, Code.MESSAGE_BODY_TOO_LARGE),
    (b"abc", digest(DigestType.CRC32, "00000000"), Code.MESSAGE_CORRUPTED),
    (b"abc", {"body_encoding": Encoding.GZIP}, Code.MESSAGE_CORRUPTED),
    (PACKED[:-1], {"body_encoding": Encoding.GZIP}, Code.MESSAGE_CORRUPTED),
    (b"abc", {"body_encoding": 7}, Code.UNSUPPORTED),
]


@pytest.mark.parametrize(("body", "system", "code"), BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_body_that_is_refused(body: bytes, system: dict[str, Any], code: Code) -> None:
    with pytest.raises(Refused) as caught:
        body_of(wire_of(body, **system), BODY_MAX)
    assert caught.value.code == code


def test_a_few_bytes_that_stand_for_many_are_not_unpacked() -> None:
    with pytest.raises(TooLarge):
        body_of(wire_of(gzip.compress(b"\0" * 500_000)[:BODY_MAX], body_encoding=Encoding.GZIP), BODY_MAX)
