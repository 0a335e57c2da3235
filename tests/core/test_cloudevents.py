"""CloudEvents in the model: what is one, what it is as JSON, and what is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core import cloudevents
from gateway.core.errors import InvalidValue
from gateway.core.message import HeaderValue, Message, Properties

REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def event(*headers: tuple[str, HeaderValue], **fields: Any) -> Properties:
    return Properties(headers=cloudevents.to_headers(REQUIRED) + headers, **fields)


@pytest.mark.parametrize(
    "name", ["", "Type", "my-ext", "my_ext", "é", "a b", "data", "data_base64", "datacontenttype"]
)
def test_what_is_no_name(name: str) -> None:
    assert not cloudevents.is_name(name)
    with pytest.raises(InvalidValue, match="name"):
        cloudevents.check([*REQUIRED.items(), (name, "x")])


@pytest.mark.parametrize("missing", REQUIRED)
@pytest.mark.parametrize("given", [None, ""])
def test_what_has_to_be_there(missing: str, given: str | None) -> None:
    pairs = [(name, value) for name, value in REQUIRED.items() if name != missing]
    with pytest.raises(InvalidValue, match=f"'{missing}' is missing"):
        cloudevents.check([*pairs, *([(missing, given)] if given is not None else [])])


@pytest.mark.parametrize(
    ("pair", "fault"),
    [
        (("id", "2"), "twice"),
        (("subject", "a\nb"), "control"),
        (("subject", "\x7f"), "control"),
        (("subject", "\ud800"), "control"),
        (("time", "now"), "RFC 3339"),
        (("time", "2026-01-01T00:00:00"), "RFC 3339"),
        (("time", "2026-01-01"), "RFC 3339"),
    ],
)
def test_what_is_wrong_is_said(pair: tuple[str, str], fault: str) -> None:
    with pytest.raises(InvalidValue, match=fault):
        cloudevents.check([*REQUIRED.items(), pair])
    assert cloudevents.attributes_of(event((cloudevents.PREFIX + pair[0], pair[1]))) is None


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00Z", "2026-01-01t00:00:00.5+02:00"])
def test_a_time_is_one(time: str) -> None:
    assert cloudevents.check([*REQUIRED.items(), ("time", time)])["time"] == time


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (True, "true"),
        (False, "false"),
        (-5, "-5"),
        (b"\x00\xff", "AP8="),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
    ],
)
def test_values_of_other_types_have_a_canonical_form(value: HeaderValue, text: str) -> None:
    found = cloudevents.attributes_of(event(("cloudEvents_ext", value), ("other", 1)))
    assert found == {**REQUIRED, "ext": text}


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "1970-01-01T00:00:00Z"), (1_767_323_045_678, "2026-01-02T03:04:05.678000Z")]
)
def test_a_time_may_be_a_number(ms: int, text: str) -> None:
    assert (cloudevents.attributes_of(event(("cloudEvents_time", ms))) or {})["time"] == text


@pytest.mark.parametrize("ms", [-1, 1 << 62, True])
def test_a_time_is_not_any_number(ms: int) -> None:
    assert cloudevents.attributes_of(event(("cloudEvents_time", ms))) is None


@pytest.mark.parametrize("prefix", cloudevents.OTHER_PREFIXES)
def test_other_prefixes_are_known_if_all_of_it_is_an_event(prefix: str) -> None:
    headers = tuple((prefix + name, value) for name, value in REQUIRED.items())
    assert cloudevents.canonical((*headers, ("x", 1))) == (*cloudevents.to_headers(REQUIRED), ("x", 1))
    assert cloudevents.canonical(headers[1:]) == headers[1:]
    both = (*headers, ("cloudEvents_id", "2"))
    assert cloudevents.canonical(both) == both


def test_what_the_model_has_a_property_for() -> None:
    made = event(("cloudEvents_partitionkey", "k"), ("cloudEvents_traceparent", "00-a-b-01"))
    cloudevents.adopt(made)
    assert (made.key, made.traceparent) == ("k", "00-a-b-01")
    own = event(("cloudEvents_partitionkey", "k"), key="mine", traceparent="trace")
    cloudevents.adopt(own)
    assert (own.key, cloudevents.attributes_of(own)) == (
        "mine",
        {**REQUIRED, "partitionkey": "k", "traceparent": "trace"},
    )
    plain = Properties(headers=(("cloudEvents_partitionkey", "k"),))
    cloudevents.adopt(plain)
    assert plain.key is None, "it is no event"


@pytest.mark.parametrize(
    ("body", "content_type", "member", "data"),
    [
        (b'{"a": [1, null]}', "application/json", "data", {"a": [1, None]}),
        (b'{"a": 1}', "application/vnd.thing+json; charset=utf-8", "data", {"a": 1}),
        (b"[1]", None, "data", [1]),
        (b"no json", None, "data_base64", "bm8ganNvbg=="),
        (b"{", "application/json", "data_base64", "ew=="),
        (b"NaN", "application/json", "data_base64", "TmFO"),
        ("grüße".encode(), "text/plain", "data", "grüße"),
        (b"\xff", "text/plain", "data_base64", "/w=="),
        (b"\x00", "image/png", "data_base64", "AA=="),
        (b"[" * 9000, "application/json", "data_base64", None),
    ],
)
def test_an_event_as_json(body: bytes, content_type: str | None, member: str, data: Any) -> None:
    made = cloudevents.to_structured(Message("t", body, properties=event(content_type=content_type)))
    assert made is not None
    found = json.loads(made)
    cloudevents.check_structured(made)
    assert {name: found[name] for name in REQUIRED} == REQUIRED
    assert found.get("datacontenttype") == content_type
    assert data is None or found[member] == data
    assert member in found


def test_an_event_without_data() -> None:
    assert json.loads(cloudevents.to_structured(Message("t", b"", properties=event())) or b"") == REQUIRED


@pytest.mark.parametrize(
    "made", [Properties(), Properties(headers=(("a", 1),)), event(content_encoding="gzip")]
)
def test_what_is_no_event_has_no_json(made: Properties) -> None:
    assert cloudevents.to_structured(Message("t", b"x", properties=made)) is None


@pytest.mark.parametrize(
    "kind", ["application/cloudevents+json", "Application/CloudEvents+JSON ; charset=utf-8"]
)
def test_a_structured_event_is_its_body(kind: str) -> None:
    body = b' {"specversion" : "1.0"}'
    assert cloudevents.to_structured(Message("t", body, properties=Properties(content_type=kind))) == body
    assert cloudevents.is_structured(kind)
    assert not cloudevents.is_batch(kind)
    assert not cloudevents.is_structured("application/cloudevents-batch+json")
    assert cloudevents.is_batch("application/cloudevents-batch+json; charset=utf-8")
