"""A message's properties as HTTP headers: pure functions, for whoever sends messages by HTTP.

Reading them is the HTTP door's (protocols/http/headers.py), but for what names and values are made of.

| header | property |
|---|---|
| Content-Type, Content-Encoding | as they are |
| X-Content-Type, X-Content-Encoding | the same, percent-encoded, where HTTP could not carry the value |
| X-Message-Id, X-Reply-To, X-Key, X-Tag | percent-encoded UTF-8 |
| Idempotency-Key | the same; it may be quoted |
| X-Keys | search keys, comma-separated, each percent-encoded |
| X-Correlation-Data | printable ASCII as it is, anything else as `base64:...` |
| X-Priority, X-Timestamp | decimal; the timestamp in Unix milliseconds |
| X-Text: true | the publisher vouches that the body is UTF-8 |
| traceparent | as it is |
| ce-<name> | an attribute of a CloudEvent (core/cloudevents.py), percent-encoded UTF-8 |
| X-Property-<name> | an application header; text as it is, any other type as `json:...` |

Header names have no case and few characters, so <name> is lower case with everything else
percent-encoded. `json:` is followed by ASCII JSON in the encoding of core/values.py.
"""

from __future__ import annotations

import base64
import json
import re
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import quote, unquote

from .core import cloudevents
from .core.message import HeaderValue, Message, Properties
from .core.values import from_json, to_json

Field = tuple[bytes, bytes]

PROPERTY_PREFIX: Final = b"x-property-"
EVENT_PREFIX: Final = b"ce-"  # of a CloudEvent's attributes
BASE64: Final = "base64:"
JSON: Final = "json:"
_VALUE_SAFE: Final = "!#$&'()*+-./:;<=>?@[]^_`{|}~ "  # printable ASCII but "%" and what quote() keeps
_EVENT_SAFE: Final = "".join(
    chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%'
)  # CloudEvents, 3.1.3.2
#: What a header's name may have (RFC 9110, token), upper case and "%" excepted: those are encoded.
_NAME_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789!#$&'*+-.^_`|~")
_PLAIN: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")  # printable ASCII, no space at an end
_MEDIA_TYPE: Final = re.compile(r"[!#$&^_.+\-0-9A-Za-z]+/[!#$&^_.+\-0-9A-Za-z]+(?:\s*;[ -~]*)?\Z")
_CODING: Final = re.compile(r"[!#$&^_.+\-0-9A-Za-z]+(?:\s*,\s*[!#$&^_.+\-0-9A-Za-z]+)*\Z")


def write_head(message: Message) -> list[Field]:
    """Return the headers that carry a message's properties; its body is the response's."""
    properties = message.properties
    found: list[tuple[str, str]] = []
    _write_content(found, properties)
    for name, text in (
        ("x-message-id", properties.message_id),
        ("idempotency-key", properties.idempotency_key),
        ("x-reply-to", properties.reply_to),
        ("x-key", properties.key),
        ("x-tag", properties.tag),
    ):
        if text is not None:
            found.append((name, write_text(text)))
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
    headers = properties.headers
    event = cloudevents.attributes_of(properties)
    if event is not None:
        headers = cloudevents.others_of(properties)
        found += [
            (EVENT_PREFIX.decode() + name, quote(value, safe=_EVENT_SAFE)) for name, value in event.items()
        ]
    for name, value in headers:
        found.append((PROPERTY_PREFIX.decode() + write_name(name), write_value(value)))
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in found]


def write_text(text: str) -> str:
    """Return text percent-encoded as far as it has to be."""
    return quote(text, safe=_VALUE_SAFE if _PLAIN.match(text) else "")


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
    if _PLAIN.match(text) and not text.startswith(BASE64):
        return text
    return BASE64 + base64.b64encode(data).decode()


def write_name(name: str) -> str:
    """Return an application header's name as the end of an HTTP header's."""
    return "".join(char if char in _NAME_CHARS else _percent(char) for char in name)


def _percent(char: str) -> str:
    return "".join(f"%{byte:02x}" for byte in char.encode())


def write_value(value: Any) -> str:
    """Return an application header's value; its type survives."""
    if isinstance(value, str) and _PLAIN.match(value) and not value.startswith(JSON):
        return value
    return JSON + json.dumps(to_json(value), separators=(",", ":"))


def read_name(name: str) -> str:
    """Undo `write_name`. Raise ValueError."""
    return unquote(name, errors="strict")


def read_text(text: str) -> str:
    """Undo `write_text` of a value as latin-1 has it; plain UTF-8 is taken, too. Raise ValueError."""
    return unquote(text.encode("latin-1").decode(), errors="strict")


def read_value(text: str) -> HeaderValue:
    """Undo `write_value` of a value as latin-1 has it. Raise ValueError, RecursionError or InvalidValue."""
    text = text.encode("latin-1").decode()
    if not text.startswith(JSON):
        return text
    found: HeaderValue = from_json(json.loads(text[len(JSON) :]))
    return found


def http_date(unix_ms: int) -> str:
    """Return a time as HTTP writes it."""
    return formatdate(unix_ms / 1000, usegmt=True)
