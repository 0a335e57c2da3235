"""A message as CoAP can carry it, and back: pure functions.

Options have room for the content type and its coding, as far as a number stands for them. All else that a
message says about itself is lost to a client that asks for nothing: `losses` names it. One that asks with
`?meta=1` gets, or sends, an *envelope* instead of the body: a map, in JSON or CBOR, in which everything
has its place under the name that it has in the HTTP door's batches. Nothing is lost in it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import msgspec

from gateway.core import cloudevents
from gateway.core.errors import InvalidValue
from gateway.core.message import Message, Properties
from gateway.core.values import from_json, to_json

from ..codec import Option
from ..numbers import CONTENT_FORMAT, uint_bytes
from . import cbor
from .formats import CBOR, JSON, NONE, OCTET_STREAM, TEXT, content_of, number_of

TTL_SECONDS_MAX: Final = 0xFFFFFFFF  # as of the other doors: what MQTT 5 can say

#: What no option has room for: these, and application headers.
_UNSAID: Final = (
    "correlation",
    "reply_to",
    "message_id",
    "idempotency_key",
    "timestamp_ms",
    "priority",
    "key",
    "tag",
    "keys",
    "deliver_at_ms",
    "traceparent",
)


class Envelope(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A message with all it says about itself. `body_base64` has a body that is not UTF-8."""

    body: str | None = None
    body_base64: str | None = None
    topic: str | None = None  # where it was published; not read back, the request's path says it
    published: int | None = None  # when, Unix ms; not read back
    qos: int = 1
    retain: bool = False
    ttl: float | None = None  # seconds that it still has
    content_type: str | None = None
    content_encoding: str | None = None
    text: bool = False
    key: str | None = None
    tag: str | None = None
    keys: list[str] | None = None
    message_id: str | None = None
    idempotency_key: str | None = None
    reply_to: str | None = None
    correlation: str | None = None
    correlation_base64: str | None = None
    priority: int | None = None
    timestamp: int | None = None  # the publisher's own time, Unix ms
    deliver_at: int | None = None
    traceparent: str | None = None
    headers: list[tuple[str, Any]] | dict[str, Any] | None = None


class Content:
    """What a publish's payload is: a body, and what is said of it. `ttl_ms` 0 is for ever."""

    __slots__ = ("body", "properties", "qos", "retain", "ttl_ms")

    def __init__(
        self, body: bytes, properties: Properties, qos: int = 1, retain: bool = False, ttl_ms: int = 0
    ) -> None:
        self.body = body
        self.properties = properties
        self.qos = qos
        self.retain = retain
        self.ttl_ms = ttl_ms


# -- options ----------------------------------------------------------------------------------


def properties_of(content_format: int) -> Properties:
    """Return what a Content-Format (NONE: no option) says of a body."""
    content_type, content_encoding = content_of(content_format)
    return Properties(content_type, content_encoding)


def from_message(message: Message) -> tuple[tuple[Option, ...], tuple[str, ...]]:
    """Return the options of a response whose payload is the body, and what of the message is lost."""
    properties = message.properties
    number = number_of(properties.content_type, properties.content_encoding)
    return (format_options(number), losses(properties, number))


def format_options(number: int) -> tuple[Option, ...]:
    """Return the Content-Format option, none for NONE."""
    return () if number == NONE else ((CONTENT_FORMAT, uint_bytes(number)),)


def losses(properties: Properties, number: int) -> tuple[str, ...]:
    """Return the names of the properties that a response with this Content-Format does not carry."""
    found: list[str] = []
    if number == NONE:
        found += [
            name for name in ("content_type", "content_encoding") if getattr(properties, name) is not None
        ]
    if properties.text and number != TEXT:
        found.append("text")
    found += [name for name in _UNSAID if getattr(properties, name) not in (None, ())]
    if properties.headers:
        found.append("headers")
    return tuple(found)


def acceptable(properties: Properties, accept: int) -> bool:
    """Tell whether a body may be sent to a client that accepts one format (RFC 7252, 5.10.4; else 4.06).

    Of which nobody said what it is, that is bytes, and text if the publisher vouched for it.
    """
    if accept == NONE:
        return True
    if properties.content_type is None and properties.content_encoding is None:
        return accept == OCTET_STREAM or (accept == TEXT and properties.text)
    return number_of(properties.content_type, properties.content_encoding) == accept


# -- envelopes --------------------------------------------------------------------------------


def to_envelope(message: Message, number: int, now_ms: int) -> bytes:
    """Return a message as a map in JSON or CBOR (the Content-Format)."""
    properties = message.properties
    found = Envelope(
        topic=message.topic,
        published=message.timestamp_ms,
        qos=int(message.qos),
        retain=message.retain,
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        text=properties.text,
        key=properties.key,
        tag=properties.tag,
        keys=list(properties.keys) or None,
        message_id=properties.message_id,
        idempotency_key=properties.idempotency_key,
        reply_to=properties.reply_to,
        priority=properties.priority,
        timestamp=properties.timestamp_ms,
        deliver_at=properties.deliver_at_ms,
        traceparent=properties.traceparent,
        headers=[(name, to_json(value)) for name, value in properties.headers] or None,
    )
    found.body, found.body_base64 = _from_bytes(message.body)
    if properties.correlation is not None:
        found.correlation, found.correlation_base64 = _from_bytes(properties.correlation)
    if message.expires_at_ms:
        found.ttl = max(0.001, (message.expires_at_ms - now_ms) / 1000)
    if number == CBOR:
        return cbor.encode(msgspec.to_builtins(found))
    return msgspec.json.encode(found)


def from_envelope(payload: bytes, number: int) -> Content:
    """Return what an envelope says. Raise InvalidValue."""
    envelope = _read(payload, number)
    if envelope.body is not None and envelope.body_base64 is not None:
        raise InvalidValue("envelope: body and body_base64 exclude each other; send one of them")
    if envelope.qos < 0 or envelope.qos > 2:
        raise InvalidValue(f"envelope: qos is {envelope.qos}; 0, 1 or 2 is expected")
    ttl_ms = 0
    if envelope.ttl is not None:
        if not 0 < envelope.ttl <= TTL_SECONDS_MAX:
            raise InvalidValue(f"envelope: ttl is {envelope.ttl}; seconds above 0 are expected")
        ttl_ms = max(1, round(envelope.ttl * 1000))
    body = _to_bytes(envelope.body, envelope.body_base64, "body") or b""
    return Content(body, _properties(envelope), envelope.qos, envelope.retain, ttl_ms)


def _read(payload: bytes, number: int) -> Envelope:
    try:
        if number == CBOR:
            return msgspec.convert(cbor.decode(payload), Envelope)
        if number in (JSON, NONE):
            return msgspec.json.decode(payload, type=Envelope)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidValue(f"envelope: {error}") from None
    raise InvalidValue(
        f"envelope: its Content-Format is {number}; {JSON} (JSON) or {CBOR} (CBOR) is expected"
    )


def _properties(envelope: Envelope) -> Properties:
    if envelope.priority is not None and not 0 <= envelope.priority <= 255:
        raise InvalidValue(f"envelope: priority is {envelope.priority}; 0 to 255 is expected")
    for name in ("timestamp", "deliver_at"):
        value = getattr(envelope, name)
        if value is not None and not 0 <= value < 1 << 63:
            raise InvalidValue(f"envelope: {name} is {value}; Unix milliseconds are expected")
    if envelope.idempotency_key == "":
        raise InvalidValue("envelope: an idempotency key is not empty")
    found = Properties(
        content_type=envelope.content_type,
        content_encoding=envelope.content_encoding,
        correlation=_to_bytes(envelope.correlation, envelope.correlation_base64, "correlation"),
        reply_to=envelope.reply_to,
        message_id=envelope.message_id,
        timestamp_ms=envelope.timestamp,
        priority=envelope.priority,
        key=envelope.key,
        tag=envelope.tag,
        keys=tuple(envelope.keys or ()),
        deliver_at_ms=envelope.deliver_at,
        traceparent=envelope.traceparent,
        text=envelope.text or envelope.body is not None,
        idempotency_key=envelope.idempotency_key,
    )
    if envelope.headers:
        pairs = envelope.headers.items() if isinstance(envelope.headers, dict) else envelope.headers
        read = [(name, from_json(value)) for name, value in pairs]
        for _, value in read:
            _check_keys(value)
        found.headers = cloudevents.canonical(tuple(read))
        cloudevents.adopt(found)
    return found


def _check_keys(value: Any) -> None:
    """Raise InvalidValue for a map with keys that are no texts: CBOR could say that, headers cannot."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_keys(item)
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise InvalidValue("envelope: headers: the keys of a map are texts")


def _from_bytes(data: bytes) -> tuple[str | None, str | None]:
    try:
        return (data.decode(), None)
    except UnicodeDecodeError:
        return (None, base64.b64encode(data).decode())


def _to_bytes(text: str | None, encoded: str | None, name: str) -> bytes | None:
    if encoded is None:
        return None if text is None else text.encode()
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"envelope: {name}_base64: {error}; standard base64 is expected") from None
