"""A message as JSON, both ways: pure functions.

A body that is UTF-8 is `body`, any other is `body_base64`; the same holds for `correlation`.
Application headers are an object, or a list of [name, value] where a name repeats; their
values are as in `core.values`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from ...core import cloudevents
from ...core.clock import Clock
from ...core.message import Message, Origin, Properties
from ...core.replay import parse_time
from ...core.schedules import delay_of
from ...core.values import from_json, to_json
from .limits import ENCODED_BYTES_MAX, ENCODED_MAX, IDEMPOTENCY_KEY_MAX, TTL_SECONDS_MAX
from .problems import Refused

Headers = tuple[tuple[str, Any], ...]


class JsonMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message as clients write it: a batch line, or a WebSocket's publish."""

    body: str | None = None
    body_base64: str | None = None
    topic: str | None = None
    qos: int = 1
    retain: bool = False
    ttl: float | None = None
    key: str | None = None
    tag: str | None = None
    headers: dict[str, Any] | list[tuple[str, Any]] | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    message_id: str | None = None
    idempotency_key: str | None = None
    reply_to: str | None = None
    correlation: str | None = None
    correlation_base64: str | None = None
    priority: int | None = None
    timestamp: int | None = None
    keys: list[str] | None = None
    traceparent: str | None = None
    delay: float | None = None
    deliver_at: int | str | None = None


# -- JSON to message ----------------------------------------------------------------------


def to_message(line: JsonMessage, topic: str, message_id: str, origin: Origin, clock: Clock) -> Message:
    """Return the message. Raise Refused naming the field that does not fit."""
    if line.topic is not None:
        topic = line.topic
    if line.body is not None:
        body = line.body.encode()
        text = True
        if line.body_base64 is not None:
            raise Refused("invalid-parameter", "body and body_base64 exclude each other; send one of them")
    else:
        body, text = from_base64(line.body_base64 or "", "body_base64"), False
    if line.qos != 1 and line.qos not in (0, 2):
        raise Refused("invalid-parameter", f"qos is {line.qos}; 0, 1 or 2 is expected")
    properties = Properties(message_id=message_id, key=line.key, tag=line.tag, text=text)
    if line.idempotency_key is not None:
        properties.idempotency_key = check_idempotency_key(line.idempotency_key)
    if line.headers or _has_rare(line):
        _set_rare(properties, line)
        if cloudevents.is_structured(properties.content_type) and properties.content_encoding is None:
            cloudevents.check_structured(body)
    if line.delay is not None or line.deliver_at is not None:
        _set_time(properties, line)
    expires_at_ms = 0 if line.ttl is None else clock.now_ms + check_ttl(line.ttl)
    return Message(topic, body, line.qos, line.retain, properties, origin, clock.wall_ms, expires_at_ms)


def _has_rare(line: JsonMessage) -> bool:
    return (
        line.content_type is not None
        or line.content_encoding is not None
        or line.reply_to is not None
        or line.correlation is not None
        or line.correlation_base64 is not None
        or line.priority is not None
        or line.timestamp is not None
        or line.keys is not None
        or line.traceparent is not None
    )


def _set_rare(properties: Properties, line: JsonMessage) -> None:
    properties.content_type = line.content_type
    properties.content_encoding = line.content_encoding
    properties.reply_to = line.reply_to
    properties.traceparent = line.traceparent
    if line.correlation is not None:
        properties.correlation = line.correlation.encode()
    elif line.correlation_base64 is not None:
        properties.correlation = from_base64(line.correlation_base64, "correlation_base64")
    if line.priority is not None:
        properties.priority = check_priority(line.priority)
    if line.timestamp is not None:
        properties.timestamp_ms = check_timestamp(line.timestamp)
    if line.keys is not None:
        properties.keys = tuple(line.keys)
    if line.headers:
        pairs = line.headers.items() if isinstance(line.headers, dict) else line.headers
        properties.headers = cloudevents.canonical(tuple((name, from_json(value)) for name, value in pairs))
        cloudevents.adopt(properties)


def _set_time(properties: Properties, line: JsonMessage) -> None:
    if line.delay is not None and line.deliver_at is not None:
        raise Refused("invalid-parameter", "delay and deliver_at exclude each other; send one of them")
    if line.delay is not None:
        properties.delay_ms = delay_of(line.delay, "delay")
    else:
        properties.deliver_at_ms = read_deliver_at(str(line.deliver_at))


def read_deliver_at(text: str) -> int:
    """Return Unix milliseconds of these or of an RFC 3339 time; what is long past is 0. Raise Refused."""
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    time_ms = parse_time(text)
    if time_ms is None:
        time_ms = parse_time(text.replace(" ", "+"))  # what becomes of a plus sign in a query string
    if time_ms is None:
        expected = "Unix milliseconds, or a time such as 2026-11-21T05:00:00Z, are expected"
        raise Refused("invalid-parameter", f"deliver_at is {text[:40]!r}; {expected}")
    return max(0, time_ms)


def check_ttl(seconds: float) -> int:
    """Return milliseconds."""
    if not 0 < seconds <= TTL_SECONDS_MAX:
        raise Refused(
            "invalid-parameter", f"ttl is {seconds}; seconds above 0, at most {TTL_SECONDS_MAX}, are expected"
        )
    return max(1, int(seconds * 1000))


def check_idempotency_key(key: str) -> str:
    """Return the key if it is one."""
    if not 0 < len(key) <= IDEMPOTENCY_KEY_MAX:
        raise Refused("malformed", f"an idempotency key has 1 to {IDEMPOTENCY_KEY_MAX} characters")
    return key


def check_priority(priority: int) -> int:
    """Return the priority if it is one."""
    if not 0 <= priority <= 255:
        raise Refused("invalid-parameter", f"priority is {priority}; 0 to 255 is expected")
    return priority


def check_timestamp(timestamp_ms: int) -> int:
    """Return the time if the log can hold it."""
    if not 0 <= timestamp_ms < 1 << 63:
        raise Refused("invalid-parameter", "timestamp: Unix milliseconds are expected")
    return timestamp_ms


def from_base64(text: str, field: str) -> bytes:
    """Decode standard base64. Raise Refused naming the field."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("invalid-parameter", f"{field}: {error}; standard base64 is expected") from error


# -- message to JSON ----------------------------------------------------------------------


def to_mapping(message: Message, retain: bool) -> dict[str, Any]:
    """Return what clients read of a message. `retain`: it comes from the retained store."""
    found: dict[str, Any] = {"topic": message.topic}
    put_bytes(found, "body", message.body)
    found["qos"] = int(message.qos)
    found["retain"] = retain
    found["timestamp"] = message.timestamp_ms
    if message.expires_at_ms:
        found["expires_at"] = message.expires_at_ms
    properties = properties_to_mapping(message.properties)
    if properties:
        found["properties"] = properties
    if message.properties.headers:
        found["headers"] = headers_to_json(message.properties.headers)
    return found


def properties_to_mapping(properties: Properties) -> dict[str, Any]:
    """Return the properties that are there, application headers excepted."""
    found: dict[str, Any] = {}
    for name in (
        "content_type",
        "content_encoding",
        "reply_to",
        "message_id",
        "priority",
        "key",
        "tag",
        "idempotency_key",
    ):
        value = getattr(properties, name)
        if value is not None:
            found[name] = value
    if properties.correlation is not None:
        put_bytes(found, "correlation", properties.correlation)
    if properties.timestamp_ms is not None:
        found["timestamp"] = properties.timestamp_ms
    if properties.keys:
        found["keys"] = list(properties.keys)
    if properties.deliver_at_ms is not None:
        found["deliver_at"] = properties.deliver_at_ms
    if properties.traceparent is not None:
        found["traceparent"] = properties.traceparent
    return found


def put_bytes(found: dict[str, Any], name: str, data: bytes) -> None:
    """Set `name` to text, or `name_base64` if the data is not UTF-8."""
    try:
        found[name] = data.decode()
    except UnicodeDecodeError:
        found[name + "_base64"] = base64.b64encode(data).decode()


def headers_to_json(headers: Headers) -> dict[str, Any] | list[list[Any]]:
    """Return application headers as an object, or as pairs if a name repeats."""
    names = {name for name, _ in headers}
    if len(names) == len(headers):
        return {name: to_json(value) for name, value in headers}
    return [[name, to_json(value)] for name, value in headers]


class Encoder:
    """Messages to JSON text, remembering the latest: a fan-out encodes each once."""

    __slots__ = ("_bytes", "_known")

    def __init__(self) -> None:
        # Entries hold their message, so that an identity is not reused.
        self._known: dict[tuple[int, bool], tuple[Message, bytes]] = {}
        self._bytes = 0

    def encode(self, message: Message, retain: bool) -> bytes:
        """Return the JSON object of a message, on one line."""
        identity = (id(message), retain)
        known = self._known.get(identity)
        if known is not None:
            return known[1]
        data = msgspec.json.encode(to_mapping(message, retain))
        self._bytes += len(data)
        if len(self._known) >= ENCODED_MAX or self._bytes > ENCODED_BYTES_MAX:
            self._known.clear()
            self._bytes = len(data)
        if len(data) <= ENCODED_BYTES_MAX:
            self._known[identity] = (message, data)
        return data
