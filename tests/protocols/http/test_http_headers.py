"""Properties as HTTP headers: what is written can be read, and nothing can be smuggled."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidValue
from gateway.core.message import Message, Properties
from gateway.http_fields import write_head
from gateway.protocols.http.headers import read_head
from gateway.protocols.http.problems import Refused
from tests.protocols.http.http_support import header_values, text

optional = st.none() | text

TABLE: list[tuple[bytes, bytes, Properties]] = [
    (b"content-type", b"text/plain; charset=utf-8", Properties(content_type="text/plain; charset=utf-8")),
    (b"content-encoding", b"gzip", Properties(content_encoding="gzip")),
    (b"x-message-id", b"m-1", Properties(message_id="m-1")),
    (b"x-reply-to", b"answers/here", Properties(reply_to="answers/here")),
    (b"x-key", b"caf%C3%A9", Properties(key="café")),
    (b"x-tag", b"100%25", Properties(tag="100%")),
    (b"x-keys", b"a,b%2Cc", Properties(keys=("a", "b,c"))),
    (b"x-correlation-data", b"abc", Properties(correlation=b"abc")),
    (b"x-correlation-data", b"base64:/wA=", Properties(correlation=b"\xff\0")),
    (b"x-priority", b"9", Properties(priority=9)),
    (b"x-timestamp", b"1700000000000", Properties(timestamp_ms=1_700_000_000_000)),
    (b"x-text", b"true", Properties(text=True)),
    (b"traceparent", b"00-a-b-01", Properties(traceparent="00-a-b-01")),
    (b"x-property-colour", b"red", Properties(headers=(("colour", "red"),))),
    (b"x-property-%43olour", b"json:[1,true,null]", Properties(headers=(("Colour", [1, True, None]),))),
    (b"x-property-raw", b'json:{"$base64":"/w=="}', Properties(headers=(("raw", b"\xff"),))),
]


@pytest.mark.parametrize(("name", "value", "properties"), TABLE)
def test_table_both_ways(name: bytes, value: bytes, properties: Properties) -> None:
    assert read_head([(name, value)]).properties == properties
    assert (name, value) in write_head(Message("t", b"", properties=properties))


@given(
    st.builds(
        Properties,
        content_type=optional,
        content_encoding=optional,
        correlation=st.none() | st.binary(max_size=30),
        reply_to=optional,
        message_id=optional,
        timestamp_ms=st.none() | st.integers(0, (1 << 63) - 1),
        priority=st.none() | st.integers(0, 255),
        key=optional,
        tag=optional,
        keys=st.lists(text.filter(bool), max_size=3).map(tuple),
        text=st.booleans(),
        headers=st.lists(st.tuples(text, header_values), max_size=4).map(tuple),
    )
)
def test_what_is_written_can_be_read(properties: Properties) -> None:
    written = write_head(Message("t", b"", properties=properties))
    for name, value in written:
        assert name == name.lower()
        assert not any(byte < 0x20 or byte == 0x7F for byte in name + value)
    assert read_head(written).properties == properties


def test_the_type_that_curl_says_by_itself_is_none() -> None:
    assert (
        read_head([(b"content-type", b"application/x-www-form-urlencoded")]).properties.content_type is None
    )


def test_an_idempotency_key_may_be_quoted() -> None:
    assert read_head([(b"idempotency-key", b'"k 1"')]).properties.idempotency_key == "k 1"
    assert read_head([(b"idempotency-key", b"k1")]).properties.idempotency_key == "k1"


@pytest.mark.parametrize(
    "header",
    [
        (b"x-priority", b"high"),
        (b"x-priority", b"256"),
        (b"x-timestamp", b"1e9"),
        (b"x-timestamp", b"9" * 20),
        (b"x-key", b"\xff"),
        (b"x-key", b"%ff"),
        (b"x-correlation-data", b"base64:?"),
        (b"x-property-a", b"json:{"),
        (b"x-property-a", b"json:" + b"[" * 100_000),
        (b"x-property-a", b"json:99999999999999999999"),
        (b"x-property-a", b"\xff"),
        (b"x-property-%ff", b"a"),
        (b"content-length", b"-1"),
    ],
)
def test_what_does_not_fit_is_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises((Refused, InvalidValue)):
        read_head([header])


def test_a_value_cannot_split_the_head() -> None:
    hostile: Any = "x\r\nset-cookie: a=b"
    properties = Properties(
        content_type=hostile, reply_to=hostile, correlation=hostile.encode(), headers=((hostile, hostile),)
    )
    for name, value in write_head(Message("t", b"", properties=properties)):
        assert b"\r" not in name + value
        assert b"\n" not in name + value
