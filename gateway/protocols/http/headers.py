"""A message's properties as HTTP headers, both ways: pure functions.

| header | property |
|---|---|
| Content-Type, Content-Encoding | as they are |
| X-Content-Type, X-Content-Encoding | the same, percent-encoded, where HTTP could not carry the value |
| X-Message-Id, X-Reply-To, X-Key, X-Tag | percent-encoded UTF-8 |
| X-Keys | search keys, comma-separated, each percent-encoded |
| X-Correlation-Data | printable ASCII as it is, anything else as `base64:...` |
| X-Priority, X-Timestamp | decimal; the timestamp in Unix milliseconds |
| X-Text: true | the publisher vouches that the body is UTF-8 |
| traceparent | as it is |
| X-Property-<name> | an application header; text as it is, any other type as `json:...` |

Header names have no case and few characters, so <name> is lower case with everything else
percent-encoded. `json:` is followed by ASCII JSON in the encoding of core/values.py.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, unquote

from ...core.message import Message, Properties
from ...core.values import from_json, to_json
from .answers import Header
from .convert import check_priority, check_timestamp, from_base64
from .problems import Refused

PROPERTY_PREFIX = b"x-property-"
FORM = "application/x-www-form-urlencoded"  # what `curl -d` says of any body: taken as nothing said
_BASE64 = "base64:"
_JSON = "json:"
_VALUE_SAFE = "!#$&'()*+-./:;<=>?@[]^_`{|}~ "  # printable ASCII without "%", and what quote() has itself
#: What a header's name may have (RFC 9110, token), upper case and "%" excepted: those are encoded.
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789!#$&'*+-.^_`|~")
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")  # printable ASCII, no space at an end
_MEDIA_TYPE = re.compile(r"[!#$&^_.+\-0-9A-Za-z]+/[!#$&^_.+\-0-9A-Za-z]+(?:\s*;[ -~]*)?\Z")
_CODING = re.compile(r"[!#$&^_.+\-0-9A-Za-z]+(?:\s*,\s*[!#$&^_.+\-0-9A-Za-z]+)*\Z")


class Head:
    """What a publish says in its headers."""

    __slots__ = ("idempotency_key", "length", "properties")

    def __init__(self) -> None:
        self.properties = Properties()
        self.idempotency_key: str | None = None
        self.length = -1


# -- headers to properties ------------------------------------------------------------------


def read_head(headers: list[Header]) -> Head:
    """Read the headers of a publish. Raise Refused naming the header that does not fit."""
    head = Head()
    found: list[tuple[str, Any]] | None = None
    for name, value in headers:
        read = READERS.get(name)
        if read is not None:
            read(head, value.decode("latin-1"))
        elif name.startswith(PROPERTY_PREFIX):
            if found is None:
                found = []
            found.append(_read_property(name, value))
    if found is not None:
        head.properties.headers = tuple(found)
    return head


def _read_property(name: bytes, value: bytes) -> tuple[str, Any]:
    try:
        key = unquote(name[len(PROPERTY_PREFIX) :].decode("ascii"), errors="strict")
        text = value.decode()
        if text.startswith(_JSON):
            return (key, from_json(json.loads(text[len(_JSON) :])))
        return (key, text)
    except (ValueError, RecursionError) as error:
        raise Refused("malformed", f"header {name.decode('latin-1')}: {error}") from error


def _text(name: str, value: str) -> str:
    """Decode percent-encoded UTF-8; plain UTF-8 is taken too, clients send it."""
    try:
        return unquote(value.encode("latin-1").decode(), errors="strict")
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
        from_base64(value[len(_BASE64) :], "X-Correlation-Data")
        if value.startswith(_BASE64)
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
    head.idempotency_key = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


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


# -- properties to headers ------------------------------------------------------------------


def write_head(message: Message) -> list[Header]:
    """Return the headers that carry a message's properties; its body is the response's."""
    properties = message.properties
    found: list[tuple[str, str]] = []
    _write_content(found, properties)
    for name, text in (
        ("x-message-id", properties.message_id),
        ("x-reply-to", properties.reply_to),
        ("x-key", properties.key),
        ("x-tag", properties.tag),
    ):
        if text is not None:
            found.append((name, quote(text, safe=_VALUE_SAFE if _PLAIN.match(text) else "")))
    if properties.keys:
        found.append(("x-keys", ",".join(quote(key, safe="") for key in properties.keys)))
    if properties.correlation is not None:
        found.append(("x-correlation-data", write_correlation(properties.correlation)))
    if properties.priority is not None:
        found.append(("x-priority", str(properties.priority)))
    if properties.timestamp_ms is not None:
        found.append(("x-timestamp", str(properties.timestamp_ms)))
    if properties.text:
        found.append(("x-text", "true"))
    if properties.traceparent is not None and _PLAIN.match(properties.traceparent):
        found.append(("traceparent", properties.traceparent))
    if message.expires_at_ms:
        found.append(("x-expires-at", str(message.expires_at_ms)))
    found.append(("x-qos", str(int(message.qos))))
    for name, value in properties.headers:
        found.append((PROPERTY_PREFIX.decode() + write_name(name), write_value(value)))
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in found]


def _write_content(found: list[tuple[str, str]], properties: Properties) -> None:
    kind = properties.content_type
    if kind is not None:
        fits = _MEDIA_TYPE.match(kind) and _PLAIN.match(kind)
        found.append(("content-type", kind) if fits else ("x-content-type", quote(kind, safe="")))
    coding = properties.content_encoding
    if coding is not None:
        fits = _CODING.match(coding) and _PLAIN.match(coding)
        found.append(("content-encoding", coding) if fits else ("x-content-encoding", quote(coding, safe="")))


def write_correlation(data: bytes) -> str:
    """Return printable ASCII as it is, anything else as base64."""
    text = data.decode("latin-1")
    if _PLAIN.match(text) and not text.startswith(_BASE64):
        return text
    return _BASE64 + base64.b64encode(data).decode()


def write_name(name: str) -> str:
    """Return an application header's name as the end of an HTTP header's."""
    return "".join(char if char in _NAME_CHARS else _percent(char) for char in name)


def _percent(char: str) -> str:
    return "".join(f"%{byte:02x}" for byte in char.encode())


def write_value(value: Any) -> str:
    """Return an application header's value; its type survives."""
    if isinstance(value, str) and _PLAIN.match(value) and not value.startswith(_JSON):
        return value
    return _JSON + json.dumps(to_json(value), separators=(",", ":"))


def http_date(unix_ms: int) -> str:
    """Return a time as HTTP writes it."""
    return formatdate(unix_ms / 1000, usegmt=True)
