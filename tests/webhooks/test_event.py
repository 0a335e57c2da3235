"""Messages as CloudEvents."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from gateway.core.cloudevents import STRUCTURED, check_structured
from gateway.core.message import Message, Properties
from gateway.webhooks.event import TYPE, as_event

AT_MS = 1_700_000_000_123


def event(message: Message) -> dict[str, Any]:
    """Return the event that a message becomes, checked."""
    found = as_event(message, "msg_1")
    check_structured(found.body)
    assert found.properties.content_type == STRUCTURED
    assert found.topic == message.topic
    decoded: dict[str, Any] = json.loads(found.body)
    return decoded


def test_a_message_becomes_an_event() -> None:
    properties = Properties("application/json", message_id="m1", key="k", headers=(("colour", "red"),))
    message = Message("a/b c", b'{"x": 1}', properties=properties, timestamp_ms=AT_MS)
    assert event(message) == {
        "specversion": "1.0",
        "id": "m1",
        "source": "/topics/a/b%20c",
        "type": TYPE,
        "subject": "a/b c",
        "time": "2023-11-14T22:13:20.123000Z",
        "partitionkey": "k",
        "datacontenttype": "application/json",
        "data": {"x": 1},
    }
    assert as_event(message, "msg_1").properties.headers == (("colour", "red"),)


def test_what_says_nothing_of_itself() -> None:
    found = event(Message("t", b"\x00\xff"))
    assert (found["id"], found["data_base64"]) == ("msg_1", "AP8=")
    assert "time" not in found
    assert "data" not in event(Message("t", b""))


def test_an_event_stays_what_it_is() -> None:
    said = {"specversion": "1.0", "id": "7", "source": "/s", "type": "t.x", "subject": "u"}
    headers = tuple((f"cloudEvents_{name}", value) for name, value in said.items())
    message = Message("a", b"text", properties=Properties("text/plain", headers=(*headers, ("more", 5))))
    assert event(message) == {**said, "datacontenttype": "text/plain", "data": "text"}
    assert as_event(message, "msg_1").properties.headers == (("more", 5),)
    body = json.dumps({**said, "data": [1]}).encode()
    whole = Message("a", body, properties=Properties("application/cloudevents+json; charset=utf-8"))
    assert as_event(whole, "msg_1").body == body


@pytest.mark.parametrize(
    "headers", [(), tuple((f"cloudEvents_{n}", "1.0") for n in ("specversion", "id", "source", "type"))]
)
def test_what_is_compressed_says_so(headers: tuple[tuple[str, Any], ...]) -> None:
    properties = Properties("application/json", content_encoding="gzip", headers=headers)
    found = event(Message("a", gzip.compress(b"{}"), properties=properties))
    assert found["contentencoding"] == "gzip"
    assert found["datacontenttype"] == "application/json"
    assert "data" not in found
    assert as_event(Message("a", b"", properties=properties), "m").properties.content_encoding is None


def test_what_no_attribute_may_have_is_left_out() -> None:
    properties = Properties(message_id="a\nb", key="\x00", traceparent="x\x7f")
    found = event(Message("t\x1fopic", b"", properties=properties, timestamp_ms=1 << 60))
    assert (found["id"], found["subject"]) == ("ab", "topic")
    assert not {"partitionkey", "traceparent", "time"} & set(found)
