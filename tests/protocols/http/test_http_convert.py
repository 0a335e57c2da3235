"""A message as JSON: nothing is lost on the way there and back."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.clock import Clock
from gateway.core.errors import InvalidValue
from gateway.core.message import NOWHERE, Message, Properties
from gateway.core.values import DEPTH_MAX, from_json, to_json
from gateway.protocols.http.convert import (
    Encoder,
    JsonMessage,
    headers_to_json,
    to_mapping,
    to_message,
)
from gateway.protocols.http.limits import ENCODED_BYTES_MAX, ENCODED_MAX
from gateway.protocols.http.problems import Refused
from tests.protocols.http.http_support import header_values, text


@given(header_values)
def test_header_values_survive(value: Any) -> None:
    encoded = msgspec.json.encode(to_json(value))
    assert from_json(msgspec.json.decode(encoded)) == value


def test_nan_survives() -> None:
    assert math.isnan(from_json(to_json(math.nan)))


@given(st.lists(st.tuples(text, header_values), max_size=5))
def test_headers_keep_order_and_duplicates(headers: list[tuple[str, Any]]) -> None:
    encoded = msgspec.json.encode({"headers": headers_to_json(tuple(headers)), "body": ""})
    line = msgspec.json.decode(encoded, type=JsonMessage)
    message = to_message(line, "t", "id", NOWHERE, Clock())
    assert list(message.properties.headers) == headers


def test_every_field_of_a_line_arrives() -> None:
    line = msgspec.json.decode(
        b'{"topic":"a/b","body_base64":"AP8=","qos":2,"retain":true,"ttl":1.5,"key":"k","tag":"t",'
        b'"keys":["x","y"],"headers":{"h":1},"content_type":"text/plain","content_encoding":"gzip",'
        b'"reply_to":"r","correlation":"c","priority":7,"timestamp":99,"traceparent":"00-1-2-3"}',
        type=JsonMessage,
    )
    message = to_message(line, "other", "the-id", NOWHERE, Clock(1000))
    assert (message.topic, message.body, message.qos, message.retain) == ("a/b", b"\0\xff", 2, True)
    assert (message.timestamp_ms, message.expires_at_ms) == (1000, 2500)
    assert message.properties == Properties(
        content_type="text/plain",
        content_encoding="gzip",
        correlation=b"c",
        reply_to="r",
        message_id="the-id",
        timestamp_ms=99,
        priority=7,
        key="k",
        tag="t",
        keys=("x", "y"),
        traceparent="00-1-2-3",
        headers=(("h", 1),),
    )


def test_what_is_read_has_every_property() -> None:
    properties = Properties(
        content_type="text/plain",
        correlation=b"\xff",
        message_id="i",
        priority=1,
        keys=("k",),
        headers=(("h", b"x"),),
    )
    message = Message("t", b"\xff\0", 1, False, properties, timestamp_ms=5, expires_at_ms=9)
    assert to_mapping(message, True) == {
        "topic": "t",
        "body_base64": "/wA=",
        "qos": 1,
        "retain": True,
        "timestamp": 5,
        "expires_at": 9,
        "properties": {
            "content_type": "text/plain",
            "message_id": "i",
            "priority": 1,
            "correlation_base64": "/w==",
            "keys": ["k"],
        },
        "headers": {"h": {"$base64": "eA=="}},
    }


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b'{"body":"a","body_base64":"YQ=="}', "body_base64"),
        (b'{"body_base64":"%"}', "body_base64"),
        (b'{"qos":3}', "qos"),
        (b'{"ttl":0}', "ttl"),
        (b'{"ttl":-1}', "ttl"),
        (b'{"ttl":1e300}', "ttl"),
        (b'{"priority":256}', "priority"),
        (b'{"timestamp":-1}', "timestamp"),
        (b'{"correlation_base64":"x"}', "correlation_base64"),
        (b'{"headers":{"h":9223372036854775808}}', "headers"),
        (b'{"headers":{"h":' + b"[" * 40 + b"]" * 40 + b"}}", "headers"),
        (b'{"delay":-1}', "delay"),
        (b'{"delay":1e300}', "delay"),
        (b'{"delay":1,"deliver_at":1}', "exclude"),
        (b'{"deliver_at":-1}', "deliver_at"),
        (b'{"deliver_at":"soon"}', "deliver_at"),
        (b'{"deliver_at":"2026-01-01T00:00:00"}', "deliver_at"),
        (b'{"deliver_at":9223372036854775808}', "deliver_at"),
    ],
)
def test_what_does_not_fit_is_named(line: bytes, named: str) -> None:
    decoded = msgspec.json.decode(line, type=JsonMessage)
    with pytest.raises((Refused, InvalidValue), match=named):
        to_message(decoded, "t", "id", NOWHERE, Clock())


def test_nesting_has_a_limit() -> None:
    value: Any = 1
    for _ in range(DEPTH_MAX):
        value = [value]
    assert from_json(value) == value
    with pytest.raises(InvalidValue):
        from_json([value])


def test_a_fan_out_encodes_once() -> None:
    encoder = Encoder()
    message = Message("t", b"body")
    assert encoder.encode(message, False) is encoder.encode(message, False)
    assert encoder.encode(message, True) is not encoder.encode(message, False)
    for _ in range(ENCODED_MAX + 1):
        encoder.encode(Message("t", b"other"), False)
    assert msgspec.json.decode(encoder.encode(message, False))["body"] == "body"


def test_what_is_remembered_is_bounded() -> None:
    encoder = Encoder()
    for _ in range(20):
        encoder.encode(Message("t", b"x" * (ENCODED_BYTES_MAX // 8)), False)
        held = sum(len(data) for _, data in encoder._known.values())
        assert held <= ENCODED_BYTES_MAX
    huge = Message("t", b"x" * (ENCODED_BYTES_MAX + 1))
    encoder.encode(huge, False)
    assert (id(huge), False) not in encoder._known
