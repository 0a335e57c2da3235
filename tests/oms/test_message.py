"""Messages, their JSON, and what is checked before one is sent."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from gateway.oms import (
    ExtensionHeader,
    Header,
    Message,
    MessageFactory,
    OMSError,
    OMSMessageFormatError,
    QoS,
    ResponseStatus,
)
from gateway.oms.fields import (
    DATA_BYTES_MAX,
    deliver_at,
    expires_at,
    prepare_to_send,
    priority_from,
    priority_of,
)

FULL = Message(
    data=b"\x00\xff",
    header=Header("q", "id", 1, "h", QoS.EXACTLY_ONCE, "gzip", 7, 1, 3),
    extension_header=ExtensionHeader(
        "k", "c", 5, 9, "t", "tx", 2, 11, 4, "sh", tag="red", search_keys=("a", "b")
    ),
    properties={"text": "ä", "n": 1, "f": 0.5, "b": True, "raw": b"\x01"},
)


def test_json_both_ways() -> None:
    assert Message.from_json(FULL.to_json()) == FULL
    written = json.loads(FULL.to_json())
    assert written["version"] == "1.0.0"
    assert written["header"]["bornTimestamp"] == 1
    assert written["extensionHeader"]["messageKey"] == "k"
    assert written["properties"]["raw"] == {"binary": "AQ=="}


def test_json_leaves_out_what_is_not_said() -> None:
    written = json.loads(Message("q", b"").to_json())
    assert written == {
        "version": "1.0.0",
        "header": {"destination": "q", "messageId": "", "bornTimestamp": 0, "bornHost": ""},
        "properties": {},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2.0.0"},
        {"version": None},
        {"more": 1},
        {"header": {}},
        {"header": {"destination": 1}},
        {"header": {"destination": "q", "destinatoin": "r"}},
        {"header": {"destination": "q", "bornTimestamp": True}},
        {"extensionHeader": []},
        {"extensionHeader": {"searchKeys": ["a", 1]}},
        {"properties": {"x": None}},
        {"properties": {"x": {"binary": "?"}}},
        {"data": "not base64"},
        {"data": 1},
    ],
)
def test_json_that_is_no_message(change: dict[str, Any]) -> None:
    text = json.dumps({"version": "1.0.0", "header": {"destination": "q"}} | change)
    with pytest.raises(OMSMessageFormatError):
        Message.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(OMSMessageFormatError):
        Message.from_json(text)


def test_the_factory_sets_fields_by_name() -> None:
    message = MessageFactory().create_message(
        "q", "ä", priority=7, message_key="k", delay_time=timedelta(seconds=2), properties={"a": 1}
    )
    assert message.data == "ä".encode()
    assert message.text == "ä"
    assert message.header.priority == 7
    assert message.extension_header.message_key == "k"
    assert message.extension_header.delay_time == 2000
    assert dict(message.properties) == {"a": 1}
    with pytest.raises(OMSMessageFormatError, match="messagekey"):
        MessageFactory().create_message("q", b"", messagekey="k")


def test_optional_parts_cost_nothing_until_asked_for() -> None:
    message = Message("q", b"")
    assert not message.has_extension
    assert not message.has_properties
    assert message.extension_header == ExtensionHeader()
    assert message.has_extension


def test_sending_sets_when_and_where_it_was_born() -> None:
    message = Message("q", bytearray(b"x"))  # type: ignore[arg-type]
    prepare_to_send(message)
    assert message.header.born_timestamp > 1_700_000_000_000
    assert message.header.born_host
    assert type(message.data) is bytes


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Message("", b""), ResponseStatus.BAD_PARAMETER),
        (Message("q", "text"), ResponseStatus.BAD_REQUEST),  # type: ignore[arg-type]
        (Message("q", bytes(DATA_BYTES_MAX + 1)), ResponseStatus.BODY_TOO_LARGE),
        (Message(header=Header("q", qos=3)), ResponseStatus.BAD_PARAMETER),
        (Message("q", extension_header=ExtensionHeader(delay_time=-1)), ResponseStatus.BAD_PARAMETER),
        (Message("q", extension_header=ExtensionHeader(expire_time="1")), ResponseStatus.BAD_PARAMETER),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_sent(message: Message, code: ResponseStatus) -> None:
    with pytest.raises(OMSMessageFormatError) as refused:
        prepare_to_send(message)
    assert refused.value.code == code


def test_priorities_and_times_by_the_specification() -> None:
    def of(**fields: Any) -> Message:
        message = MessageFactory().create_message("q", b"", **fields)
        message.header.born_timestamp = 1000
        return message

    assert [priority_of(of(priority=p)) for p in (0, 1, 10, 11, None)] == [None, 0, 9, None, None]
    assert [priority_from(p) for p in (0, 9, 10, 255, None)] == [1, 10, 10, 10, None]
    assert deliver_at(of(delay_time=5)) == 1005
    assert deliver_at(of(delay_time=0)) is None
    assert deliver_at(of()) is None
    assert expires_at(of(expire_time=1005)) == 1005
    assert expires_at(of(expire_time=999)) == 0  # earlier than born: ignored
    assert expires_at(of()) == 0


def test_an_error_names_its_code_and_where_it_is_explained() -> None:
    error = OMSError("no", ResponseStatus.STORAGE_BUSY)
    assert error.code == 1502
    assert str(error) == "no\nFor more information: http://openmessaging.cloud/internal/code#1502"
