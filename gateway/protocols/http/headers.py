"""A message's properties out of HTTP headers: pure functions.

The headers are those that `gateway.http_fields` writes, and it has the table of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from ...core import cloudevents
from ...core.message import Properties
from ...http_fields import BASE64, EVENT_PREFIX, PROPERTY_PREFIX, read_name, read_text, read_value
from .answers import Header
from .convert import check_idempotency_key, check_priority, check_timestamp, from_base64
from .problems import Refused

FORM = "application/x-www-form-urlencoded"  # what `curl -d` says of any body: taken as nothing said


class Head:
    """What a publish says in its headers."""

    __slots__ = ("length", "properties")

    def __init__(self) -> None:
        self.properties = Properties()
        self.length = -1


def read_head(headers: list[Header]) -> Head:
    """Read the headers of a publish. Raise Refused naming the header that does not fit."""
    head = Head()
    found: list[tuple[str, Any]] | None = None
    event: list[tuple[str, str]] = []
    for name, value in headers:
        read = READERS.get(name)
        if read is not None:
            read(head, value.decode("latin-1"))
        elif name.startswith(PROPERTY_PREFIX):
            if found is None:
                found = []
            found.append(_read_property(name, value))
        elif name.startswith(EVENT_PREFIX):
            event.append((name[len(EVENT_PREFIX) :].decode("latin-1"), _event_text(name, value)))
    if found is not None:
        head.properties.headers = tuple(found)
    if event:
        head.properties.headers += cloudevents.to_headers(cloudevents.check(event))
        cloudevents.adopt(head.properties)
    return head


def _event_text(name: bytes, value: bytes) -> str:
    """Return the value of a CloudEvent's attribute (HTTP binding, 3.1.3.2)."""
    try:
        text = value.decode("ascii")
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise Refused("malformed", f"header {name.decode()}: percent-encoded UTF-8 is expected") from error


def _read_property(name: bytes, value: bytes) -> tuple[str, Any]:
    try:
        key = read_name(name[len(PROPERTY_PREFIX) :].decode("ascii"))
        return (key, read_value(value.decode("latin-1")))
    except (ValueError, RecursionError) as error:
        raise Refused("malformed", f"header {name.decode('latin-1')}: {error}") from error


def _text(name: str, value: str) -> str:
    """Decode percent-encoded UTF-8; plain UTF-8 is taken too, clients send it."""
    try:
        return read_text(value)
    except UnicodeDecodeError as error:
        raise Refused("malformed", f"header {name}: percent-encoded UTF-8 is expected") from error


def _number(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 20:
        raise Refused("malformed", f"header {name}: a decimal number is expected, not {value[:40]!r}")
    return int(value)


def _content_type(head: Head, value: str) -> None:
    if value != FORM and head.properties.content_type is None:  # X-Content-Type, if there, says it better
        head.properties.content_type = value


def _content_encoding(head: Head, value: str) -> None:
    if head.properties.content_encoding is None:
        head.properties.content_encoding = value


def _x_content_type(head: Head, value: str) -> None:
    head.properties.content_type = _text("X-Content-Type", value)


def _x_content_encoding(head: Head, value: str) -> None:
    head.properties.content_encoding = _text("X-Content-Encoding", value)


def _message_id(head: Head, value: str) -> None:
    head.properties.message_id = _text("X-Message-Id", value)


def _reply_to(head: Head, value: str) -> None:
    head.properties.reply_to = _text("X-Reply-To", value)


def _key(head: Head, value: str) -> None:
    head.properties.key = _text("X-Key", value)


def _tag(head: Head, value: str) -> None:
    head.properties.tag = _text("X-Tag", value)


def _keys(head: Head, value: str) -> None:
    head.properties.keys = tuple(_text("X-Keys", key.strip()) for key in value.split(",") if key.strip())


def _correlation(head: Head, value: str) -> None:
    head.properties.correlation = (
        from_base64(value[len(BASE64) :], "X-Correlation-Data")
        if value.startswith(BASE64)
        else value.encode("latin-1")
    )


def _priority(head: Head, value: str) -> None:
    head.properties.priority = check_priority(_number("X-Priority", value))


def _timestamp(head: Head, value: str) -> None:
    head.properties.timestamp_ms = check_timestamp(_number("X-Timestamp", value))


def _x_text(head: Head, value: str) -> None:
    head.properties.text = value.lower() == "true"


def _traceparent(head: Head, value: str) -> None:
    head.properties.traceparent = value


def _idempotency_key(head: Head, value: str) -> None:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    head.properties.idempotency_key = check_idempotency_key(_text("Idempotency-Key", value))


def _content_length(head: Head, value: str) -> None:
    head.length = _number("Content-Length", value)


READERS: dict[bytes, Callable[[Head, str], None]] = {
    b"content-length": _content_length,
    b"content-type": _content_type,
    b"content-encoding": _content_encoding,
    b"x-content-type": _x_content_type,
    b"x-content-encoding": _x_content_encoding,
    b"x-message-id": _message_id,
    b"x-reply-to": _reply_to,
    b"x-key": _key,
    b"x-tag": _tag,
    b"x-keys": _keys,
    b"x-correlation-data": _correlation,
    b"x-priority": _priority,
    b"x-timestamp": _timestamp,
    b"x-text": _x_text,
    b"traceparent": _traceparent,
    b"idempotency-key": _idempotency_key,
}
