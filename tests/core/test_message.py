"""The message model: what is equal, what a copy keeps, who is the same client."""

from __future__ import annotations

import pytest

from gateway.core.message import (
    HEADER_READERS,
    NO_PROPERTIES,
    PROPERTY_NAMES,
    Headers,
    Message,
    Origin,
    Properties,
    Qos,
)

#: A value for every attribute of `Properties` that is a property.
FULL: dict[str, object] = {
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "correlation": b"\0\xff",
    "reply_to": "answers/here",
    "message_id": "id-1",
    "idempotency_key": "once-1",
    "timestamp_ms": 1,
    "priority": 9,
    "key": "order",
    "tag": "t",
    "keys": ("k1", "k2"),
    "deliver_at_ms": 2,
    "traceparent": "00-a-b-01",
    "text": True,
    "headers": (("h", 1), ("h", "again")),
}


def _full(**fields: object) -> Properties:
    return Properties(**{**FULL, **fields})  # type: ignore[arg-type]


def test_the_table_of_values_names_every_property() -> None:
    assert tuple(FULL) == PROPERTY_NAMES
    others = {"_headers", "by_name", "delay_ms", "native", "native_format", "stored"}
    assert set(Properties.__slots__) - {*PROPERTY_NAMES} == others
    assert {*PROPERTY_NAMES} - set(Properties.__slots__) == {"headers"}


def test_headers_are_read_from_the_native_encoding_when_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[bytes] = []

    def read(native: bytes) -> Headers:
        calls.append(native)
        return (("h", native.decode()),)

    monkeypatch.setitem(HEADER_READERS, "test", read)
    made = Properties(headers=None, native=b"raw", native_format="test")
    assert made.native_headers
    assert calls == []
    assert made.headers == (("h", "raw"),)
    assert made.headers == made.headers
    assert calls == [b"raw"]
    nobodys = Properties(headers=None, native=b"raw", native_format="of a protocol that is switched off")
    assert nobodys.headers == ()
    assert not nobodys.native_headers


def test_properties_with_the_same_values_are_equal_and_hash_alike() -> None:
    assert _full() == _full()
    assert hash(_full()) == hash(_full())
    assert Properties() == NO_PROPERTIES
    assert _full() != "something else"


@pytest.mark.parametrize("name", PROPERTY_NAMES)
def test_properties_that_differ_in_one_value_are_not_equal(name: str) -> None:
    assert _full(**{name: getattr(NO_PROPERTIES, name)}) != _full()
    assert Properties(**{name: FULL[name]}) != NO_PROPERTIES  # type: ignore[arg-type]


def test_a_native_encoding_does_not_make_properties_different() -> None:
    assert _full(native=b"\1", native_format="mqtt5") == _full()


def test_appended_headers_keep_all_but_the_native_encoding() -> None:
    original = _full(native=b"\1", native_format="mqtt5")
    copy = original.with_headers((("new", None),))
    for name in PROPERTY_NAMES:
        if name != "headers":
            assert getattr(copy, name) == FULL[name], name
    assert copy.headers == (("h", 1), ("h", "again"), ("new", None))
    assert (copy.native, copy.native_format) == (None, "")
    assert original.headers == FULL["headers"]
    assert original.native == b"\1"


@pytest.mark.parametrize(("name", "value"), [("h", 1), ("H", None), ("absent", None)])
def test_the_first_header_of_a_name_is_found(name: str, value: object) -> None:
    assert _full().header(name) == value


def test_a_copy_for_another_address_keeps_what_it_is_and_drops_how_it_came() -> None:
    origin = Origin("mqtt", "user", "client")
    sent = Message("a", b"body", 2, True, _full(), origin, 5, 99, b"packet", "mqtt5")
    copy = sent.with_topic("b")
    assert (copy.topic, copy.body, copy.qos, copy.timestamp_ms) == ("b", b"body", 2, 5)
    assert copy.properties is sent.properties
    assert copy.origin is origin
    assert copy.retain is False
    assert copy.expires_at_ms == 0  # a dead letter does not expire on its way
    assert (copy.wire, copy.wire_format) == (None, "")
    assert sent.topic == "a"
    other = Properties(tag="x")
    assert sent.with_topic("b", other, retain=True).properties is other
    assert sent.with_topic("b", other, retain=True).retain is True


SENSOR = Origin("mqtt", "user", "sensor", "10.0.0.1:5")
NAMELESS = Origin("http", "user", "", "10.0.0.1:5")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (SENSOR, SENSOR, True),
        (SENSOR, Origin("mqtt", "user", "sensor", "10.0.0.1:6"), True),
        (SENSOR, Origin("mqtt", "user", "other", "10.0.0.1:5"), False),
        (SENSOR, Origin("http", "user", "sensor", "10.0.0.1:5"), False),
        (NAMELESS, NAMELESS, True),
        (NAMELESS, Origin("http", "user", "", "10.0.0.2:5"), False),
    ],
    ids=["itself", "reconnected", "another client", "another protocol", "nameless itself", "two nameless"],
)
def test_a_client_is_known_by_protocol_and_client_id(one: Origin, other: Origin, same: bool) -> None:
    assert one.same_client(other) is same
    assert other.same_client(one) is same


def test_what_people_read_of_a_message_is_short_and_says_what_is_there() -> None:
    assert (
        repr(Message("t", b"x" * 50, Qos.AT_MOST_ONCE)) == f"Message('t', {b'x' * 40!r}, qos=0, retain=False)"
    )
    assert repr(Properties(tag="x", priority=0)) == "Properties(tag='x')"
    assert repr(SENSOR) == "Origin('mqtt', 'user', 'sensor', '10.0.0.1:5')"
