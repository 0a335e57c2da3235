"""Messages as OpenMessaging's HTTP binding has them: what goes out comes back, what does not fit is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import InvalidValue
from gateway.core.clock import Clock
from gateway.core.message import Message, Origin, Properties, Qos
from gateway.http_oms import (
    Shown,
    Told,
    UnsupportedVersion,
    check_version,
    from_json,
    read_head,
    to_json,
    to_message,
    topic_of,
    write_head,
)
from tests.protocols.http.http_support import header_values

NOW_MS = 1_700_000_000_000
ORIGIN = Origin("http", "ann", "", "192.0.2.7:4711")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=10).map(lambda name: f"n{name}")


@st.composite
def messages(draw: st.DrawFn, values: st.SearchStrategy[Any] = header_values) -> Message:
    """Messages with everything that the binding can say; of qos 2 with the key that their id is."""
    qos = draw(st.sampled_from(Qos))
    message_id = draw(texts.filter(bool))
    made = Properties(
        content_type=draw(st.none() | texts | st.just("text/plain; charset=utf-8")),
        content_encoding=draw(st.none() | texts),
        correlation=draw(st.none() | st.binary(max_size=20)),
        reply_to=draw(st.none() | texts),
        message_id=message_id,
        timestamp_ms=draw(st.integers(0, NOW_MS)),
        priority=draw(st.none() | st.integers(0, 9)),
        key=draw(st.none() | texts),
        tag=draw(st.none() | texts),
        keys=draw(st.lists(texts.filter(str.strip), max_size=3).map(tuple)),
        traceparent=draw(st.none() | texts),
        idempotency_key=message_id if qos == Qos.EXACTLY_ONCE else draw(st.none() | texts),
        text=draw(st.booleans()),
        headers=tuple(draw(st.dictionaries(names, values, max_size=4)).items()),
    )
    expires_at_ms = draw(st.just(0) | st.integers(NOW_MS, NOW_MS + 10_000))
    topic = draw(texts.filter(lambda text: text and "://" not in text))
    body = draw(texts).encode() if made.text else draw(st.binary(max_size=20))
    return Message(topic, body, qos, False, made, ORIGIN, NOW_MS, expires_at_ms)


def same(found: Message, message: Message) -> None:
    assert found.properties == message.properties
    assert (found.topic, found.body, found.qos) == (message.topic, message.body, message.qos)
    assert found.expires_at_ms == message.expires_at_ms


def clock() -> Clock:
    return Clock(NOW_MS, 1)


@given(messages())
def test_headers_both_ways(message: Message) -> None:
    kind, headers = write_head(Shown(message, "unused", 3, 7))
    assert all(f"{name}{value}".isascii() and value.isprintable() for name, value in headers)
    lower = [(name.lower(), value) for name, value in headers]  # as HTTP may
    told = read_head([*lower, ("content-type", kind)] if kind else lower)
    assert (told.fields["deliveryCount"], told.fields["offset"]) == (3, 7)
    same(to_message(told, message.body, ORIGIN, clock()), message)


@given(messages())
def test_json_both_ways(message: Message) -> None:
    text = json.dumps(to_json(Shown(message, "unused", 1)))
    told, body = from_json(json.loads(text))
    found = to_message(told, body, ORIGIN, clock())
    found.properties.headers = tuple(sorted(found.properties.headers, key=str))
    message.properties.headers = tuple(sorted(message.properties.headers, key=str))
    same(found, message)


def sent(**fields: Any) -> Message:
    """Return what a producer's fields make."""
    return to_message(Told({"destination": "t", **fields}, []), b"", ORIGIN, clock())


def test_who_publishes_something_else_is_shown_in_openmessagings_words() -> None:
    made = Properties(priority=200, deliver_at_ms=NOW_MS + 500, timestamp_ms=NOW_MS)
    kind, headers = write_head(Shown(Message("a/b", b"", 0, properties=made, timestamp_ms=NOW_MS), "msg_1"))
    found = dict(headers)
    assert kind == ""
    assert found["x-oms-version"] == "1.0.0"
    assert found["x-oms-h-messageId"] == "msg_1"
    assert found["x-oms-h-bornHost"] == "localhost"
    assert (found["x-oms-h-qos"], found["x-oms-h-priority"]) == ("1", "10")
    assert found["x-oms-h-delayTime"] == "500"
    shown = dict(write_head(Shown(Message("t", b"", origin=ORIGIN), "i"))[1])
    assert shown["x-oms-h-bornHost"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("fields", "qos"),
    [
        ({}, Qos.AT_LEAST_ONCE),
        ({"qos": 0}, Qos.AT_LEAST_ONCE),
        ({"qos": 1}, Qos.AT_MOST_ONCE),
        ({"qos": 2, "messageId": "m"}, Qos.EXACTLY_ONCE),
        ({"durability": 0}, Qos.AT_LEAST_ONCE),
        ({"durability": 1}, Qos.AT_MOST_ONCE),
        ({"durability": 1, "qos": 0}, Qos.AT_LEAST_ONCE),
    ],
)
def test_guarantees_have_openmessagings_numbers(fields: dict[str, Any], qos: Qos) -> None:
    message = sent(**fields)
    assert message.qos == qos
    assert message.properties.idempotency_key == ("m" if qos == Qos.EXACTLY_ONCE else None)


def test_times() -> None:
    assert sent(delayTime=300).properties.delay_ms == 300
    later = sent(delayTime=300, bornTimestamp=NOW_MS - 100).properties
    assert (later.deliver_at_ms, later.delay_ms) == (NOW_MS + 200, 0)
    assert sent(expireTime=NOW_MS + 5).expires_at_ms == NOW_MS + 5
    assert sent(expireTime=NOW_MS - 5, bornTimestamp=NOW_MS).expires_at_ms == 0, "earlier than it was born"
    assert sent(expireTime=NOW_MS - 5, bornTimestamp=NOW_MS - 9).expires_at_ms == NOW_MS - 5
    jumped = clock()
    jumped.set(NOW_MS + 3_600_000, 2)
    told = Told({"destination": "t", "expireTime": NOW_MS + 3_600_010}, [])
    assert to_message(told, b"", ORIGIN, jumped).expires_at_ms == NOW_MS + 11


@pytest.mark.parametrize(("priority", "found"), [(0, None), (1, 0), (10, 9), (11, None), (-3, None)])
def test_priorities_out_of_range_are_ignored(priority: int, found: int | None) -> None:
    assert sent(priority=priority).properties.priority == found


@pytest.mark.parametrize(
    ("name", "topic"), [("a/b", "a/b"), ("ns://q", "ns/q"), ("://q", "://q"), ("$queue/q", "$queue/q")]
)
def test_destinations(name: str, topic: str) -> None:
    assert topic_of(name) == topic


def test_versions() -> None:
    for version in ("1", "1.0", "1.0.0", "1.0.0-alpha"):
        check_version(version)
    with pytest.raises(UnsupportedVersion, match=r"'2\.0'"):
        check_version("2.0")
    with pytest.raises(InvalidValue, match="x-oms-version is missing"):
        check_version(None)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("x-oms-h-colour", "red", "no such field"),
        ("x-oms-h-delaytime", "soon", "a whole number is expected"),
        ("x-oms-h-delaytime", "1" * 19, "a whole number is expected"),
        ("x-oms-h-delaytime", "１", "a whole number is expected"),
        ("x-oms-h-messageid", "%ff", "x-oms-h-messageid: "),
        ("x-oms-h-messageid", "\xff", "x-oms-h-messageid: "),
        ("x-oms-p-%ff", "x", "x-oms-p-%ff: "),
        ("x-oms-p-a", "json:{", "x-oms-p-a: "),
        ("x-oms-p-a", "json:" + "[" * 100_000, "x-oms-p-a: "),
        ("x-oms-p-a", "json:" + str(1 << 64), "64 bits"),
    ],
)
def test_headers_that_do_not_fit_are_named(name: str, value: str, why: str) -> None:
    if not value.isascii() and value != "\xff":
        value = value.encode().decode("latin-1")
    with pytest.raises(InvalidValue, match=why):
        read_head([(name, value)])


def test_a_field_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InvalidValue, match="twice"):
        read_head([("x-oms-h-tag", "a"), ("x-oms-h-tag", "b")])


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([], "JSON object"),
        ({"body": ""}, "'body': unknown"),
        ({"version": "2.0"}, "spoken here"),
        ({"version": 1}, "version: a text"),
        ({"header": []}, "header: an object"),
        ({"header": {"colour": "red"}}, "no such field"),
        ({"header": {"messageId": 1}}, "messageId: a text"),
        ({"header": {"qos": True}}, "qos: a whole number"),
        ({"header": {"qos": 1 << 70}}, "qos: a whole number"),
        ({"extensionHeader": {"searchKeys": "a"}}, "searchKeys: a list"),
        ({"properties": "a"}, "properties: an object"),
        ({"properties": {"a": {"binary": "="}}}, "base64"),
        ({"data": "="}, "base64"),
        ({"data": "\xff"}, "base64"),
        ({"data": 5}, "data: a text"),
    ],
)
def test_json_that_does_not_fit_is_refused(found: Any, why: str) -> None:
    with pytest.raises(InvalidValue, match=why):
        from_json(found)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"destination": ""}, "destination is missing"),
        ({"qos": 3}, "exactly once"),
        ({"qos": 2}, "needs a messageId"),
        ({"qos": 2, "messageId": "x" * 256}, "at most 255"),
        ({"durability": 2}, "durability"),
        ({"bornTimestamp": -1}, "bornTimestamp"),
        ({"expireTime": -1}, "expireTime"),
        ({"delayTime": -1}, "delayTime"),
        ({"partition": -1}, "partition"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidValue, match=why):
        sent(**fields)


def test_what_the_model_has_no_property_for_stays_with_its_message() -> None:
    message = sent(durability=1, partition=3)
    assert (message.properties.header("oms-durability"), message.properties.header("oms-partition")) == (1, 3)
    found = dict(write_head(Shown(message, "i"))[1])
    assert (found["x-oms-h-durability"], found["x-oms-h-partition"]) == ("1", "3")
    stranger = sent(bornHost="somewhere else")
    assert dict(write_head(Shown(stranger, "i"))[1])["x-oms-h-bornHost"] == "192.0.2.7"
    strange = Message("t", b"", properties=Properties(headers=(("oms-partition", "x"),)))
    assert to_json(Shown(strange, "i"))["properties"] == {"oms-partition": "x"}


def test_a_transactions_id_stays_with_its_message() -> None:
    message = sent(transactionId="t-1")
    assert dict(write_head(Shown(message, "i"))[1])["x-oms-h-transactionId"] == "t-1"
    assert to_json(Shown(message, "i"))["properties"] == {}


def test_what_is_no_text_is_not_said_to_be() -> None:
    with pytest.raises(InvalidValue, match="not UTF-8"):
        to_message(Told({"destination": "t"}, [("$text", "true")]), b"\xff", ORIGIN, clock())


def test_what_curl_says_of_any_body_is_nothing() -> None:
    told = read_head([("content-type", "application/x-www-form-urlencoded")])
    assert told == Told({}, [])
