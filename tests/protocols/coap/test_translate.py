"""Messages as options, with what they lose; and as envelopes, which lose nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidValue
from gateway.core.message import PROPERTY_NAMES, Message, Properties
from gateway.protocols.coap.content import cbor
from gateway.protocols.coap.content.formats import CBOR, JSON, NONE, NUMBER_MAX
from gateway.protocols.coap.content.translate import (
    acceptable,
    from_envelope,
    from_message,
    properties_of,
    to_envelope,
)
from gateway.protocols.coap.numbers import CONTENT_FORMAT, uint

NOW = 1_700_000_000_000

FULL = Properties(
    content_type="application/json",
    content_encoding="gzip",
    correlation=b"\xff\x00",
    reply_to="answers/ü",
    message_id="m-1",
    timestamp_ms=NOW - 5,
    priority=7,
    key="k",
    tag="t",
    keys=("a", "b"),
    deliver_at_ms=NOW + 9,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    text=True,
    headers=(("a", 1), ("a", True), ("b", [b"\x00", None, {"x": 1.5}]), ("c", Decimal("1.50"))),
    idempotency_key="once",
)


@given(st.just(NONE) | st.integers(0, NUMBER_MAX), st.binary(max_size=20))
def test_coap_to_coap_is_identical(number: int, body: bytes) -> None:
    options, lost = from_message(Message("t", body, properties=properties_of(number)))
    assert [(n, uint(v)) for n, v in options] == ([] if number == NONE else [(CONTENT_FORMAT, number)])
    assert lost == ()


def test_what_is_lost_has_a_name() -> None:
    options, lost = from_message(Message("t", b"{}", properties=FULL))
    assert options == ()  # gzip has no number, and 50 alone would be a lie
    assert set(lost) == set(PROPERTY_NAMES)
    options, lost = from_message(Message("t", b"{}", properties=Properties("application/json")))
    assert options == ((CONTENT_FORMAT, b"\x32"),)
    assert lost == ()


@pytest.mark.parametrize(
    ("properties", "accept", "fits"),
    [
        (Properties(), NONE, True),
        (Properties(), 42, True),
        (Properties(), 0, False),
        (Properties(text=True), 0, True),
        (Properties(), 50, False),
        (Properties("application/json"), 50, True),
        (Properties("application/json; charset=utf-8"), 50, True),
        (Properties("application/json"), 60, False),
        (Properties("application/json"), 42, False),
        (Properties("application/json", "gzip"), 50, False),
        (Properties("application/json", "deflate"), 11050, True),
        (Properties("application/vnd.example"), NONE, True),
        (Properties("application/vnd.example"), 42, False),
        (Properties("application/x.coap;cf=65000"), 65000, True),
    ],
)
def test_accept(properties: Properties, accept: int, fits: bool) -> None:
    assert acceptable(properties, accept) is fits


@pytest.mark.parametrize("number", [JSON, CBOR])
@pytest.mark.parametrize("body", [b"", b"text", b"\xff\x00", "ü".encode()])
def test_an_envelope_loses_nothing(number: int, body: bytes) -> None:
    message = Message("a/b", body, 2, True, FULL, timestamp_ms=NOW, expires_at_ms=NOW + 60_000)
    found = from_envelope(to_envelope(message, number, NOW), number)
    assert (found.body, found.qos, found.retain, found.ttl_ms) == (body, 2, True, 60_000)
    assert found.properties == FULL


_texts = st.none() | st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=5)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(blacklist_categories=["Cs"]), max_size=5)
    | st.binary(max_size=5)
    | st.datetimes(timezones=st.just(UTC))
    | st.decimals(allow_nan=False, allow_infinity=False)
)
_names = st.text(st.characters(blacklist_categories=["Cs"]), max_size=5)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3)
)
_properties = st.builds(
    Properties,
    content_type=_texts,
    content_encoding=_texts,
    correlation=st.none() | st.binary(max_size=5),
    reply_to=_texts,
    message_id=_texts,
    timestamp_ms=st.none() | st.integers(0, (1 << 63) - 1),
    priority=st.none() | st.integers(0, 255),
    key=_texts,
    tag=_texts,
    keys=st.lists(_names, max_size=3).map(tuple),
    traceparent=_texts,
    text=st.just(True),
    headers=st.lists(st.tuples(_names, _values), max_size=3).map(tuple),
    idempotency_key=_texts,
)


@given(_properties, st.sampled_from([JSON, CBOR]))
def test_whatever_it_is(properties: Properties, number: int) -> None:
    found = from_envelope(to_envelope(Message("t", b"x", properties=properties), number, NOW), number)
    assert found.properties == properties


def test_an_expiring_message_is_not_made_to_live_for_ever() -> None:
    message = Message("t", b"", expires_at_ms=NOW - 10)
    assert from_envelope(to_envelope(message, JSON, NOW), JSON).ttl_ms == 1


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"body": "a", "body_base64": "YQ=="}, "exclude each other"),
        ({"body_base64": "!"}, "body_base64"),
        ({"correlation_base64": "a"}, "correlation_base64"),
        ({"qos": 3}, "qos"),
        ({"qos": -1}, "qos"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": -1.5}, "ttl"),
        ({"ttl": 1e12}, "ttl"),
        ({"priority": 256}, "priority"),
        ({"timestamp": -1}, "timestamp"),
        ({"deliver_at": 1 << 63}, "deliver_at"),
        ({"idempotency_key": ""}, "idempotency"),
        ({"colour": "red"}, "colour"),
        ({"body": 7}, "body"),
        ({"retain": 1}, "retain"),
        ({"headers": {"a": 1 << 63}}, "64 bits"),
        ({"headers": [["a"]]}, "headers"),
    ],
)
def test_envelopes_that_are_none(fields: dict[str, Any], why: str) -> None:
    for payload, number in ((msgspec.json.encode(fields), JSON), (cbor2.dumps(fields), CBOR)):
        with pytest.raises(InvalidValue, match=why):
            from_envelope(payload, number)


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b"", JSON),
        (b"[]", JSON),
        (b"{}", 42),
        (b"", CBOR),
        (b"\xa0\x00", CBOR),
        (b"\xa1\x67headers\xa1\x61a\xa1\x01\x02", CBOR),
        (b"\xa1\x67headers\xa1\x61a\xd8\x1c\x81\xd8\x1d\x00", CBOR),
        (b"\xa1\x67headers\xa1\x61a\xd8\x23\x61a", CBOR),
        (b"\xa1\x67headers\xa1\x61a\xf7", CBOR),
    ],
)
def test_payloads_that_are_none(payload: bytes, number: int) -> None:
    with pytest.raises(InvalidValue):
        from_envelope(payload, number)


@given(st.binary(max_size=60))
def test_any_bytes_are_cbor_or_refused(payload: bytes) -> None:
    try:
        found = cbor.decode(payload)
    except InvalidValue:
        return
    cbor.encode(found)


def test_cbor_has_times_and_fractions() -> None:
    value = {"t": datetime(2026, 1, 2, tzinfo=UTC), 1: [Decimal("1.5"), None, -1, b"x"]}
    assert cbor.decode(cbor.encode(value)) == value
