"""CloudEvents 1.0 in the model, and what every door needs to bind them: pure functions.

An event in binary mode is a message whose body is its data, whose content type is `datacontenttype`,
and which has a header `cloudEvents_<name>` for each other attribute, as text. (So the AMQP binding calls
them, and an SQL selector can.) Each door's binding writes these its own way:

| HTTP        | MQTT 5                 | AMQP, and JSON here: a header                            |
|-------------|------------------------|----------------------------------------------------------|
| `ce-<name>` | user property `<name>` | `cloudEvents_<name>`; `cloudEvents:<name>`, `ce-<name>` are taken |

The extension `partitionkey` is the ordering key, and `traceparent` the trace context: who has the one
gets the other. What is no valid event (an attribute that is missing, given twice, or no name) is a
message with headers like any other. In structured mode the event is the body, and nobody touches it.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any, Final

from .errors import InvalidValue
from .message import HeaderValue, Message, Properties

PREFIX: Final = "cloudEvents_"
OTHER_PREFIXES: Final = (
    "cloudEvents:",
    "ce-",
)  # that the AMQP binding has as well; and RabbitMQ's, by Knative
VERSION: Final = "1.0"
REQUIRED: Final = ("specversion", "id", "source", "type")
STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

TIME_MS_MAX: Final = 253_402_300_799_999  # the end of 9999; a time is AMQP 1.0's number of milliseconds

#: Attribute -> property of a message that says the same.
SHARED: Final = {"partitionkey": "key", "traceparent": "traceparent"}

_NAME: Final = re.compile(r"[a-z0-9]+\Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # no CloudEvents text has these
_NOT_ATTRIBUTES: Final = frozenset(("data", "data_base64", "datacontenttype"))
_JSON_TYPE: Final = re.compile(r"(?:application|text)/json\b|[^;]*\+json\b", re.IGNORECASE)

Headers = tuple[tuple[str, HeaderValue], ...]


def is_name(name: str) -> bool:
    """Tell whether an attribute may be called so."""
    return _NAME.match(name) is not None and name not in _NOT_ATTRIBUTES


def check(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return the attributes of an event. Raise InvalidValue that says what is wrong with them."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if not is_name(name):
            raise InvalidValue(
                f"CloudEvents: {name[:40]!r} is no attribute's name; it has a to z and 0 to 9 only"
            )
        if name in found:
            raise InvalidValue(f"CloudEvents: {name!r} is there twice; give it once")
        if _CONTROL.search(value):
            raise InvalidValue(f"CloudEvents: {name!r} has a control character; leave that out")
        found[name] = value
    for name in REQUIRED:
        if not found.get(name):
            raise InvalidValue(f"CloudEvents: {name!r} is missing or empty; each event has one")
    if found["specversion"] != VERSION:
        raise InvalidValue(
            f"CloudEvents: specversion is {found['specversion'][:40]!r}; {VERSION} is spoken here"
        )
    if "time" in found:
        _check_time(found["time"])
    return found


def _check_time(text: str) -> None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = datetime.min
    if found.tzinfo is None or "T" not in text.upper():
        raise InvalidValue(
            f"CloudEvents: time is {text[:40]!r}; RFC 3339 as 2026-01-31T12:00:00Z is expected"
        )


def attributes_of(properties: Properties) -> dict[str, str] | None:
    """Return the attributes of a message's event in binary mode, but `datacontenttype`; None if it is none.

    What the model has a property for is among them.
    """
    pairs: list[tuple[str, str]] = []
    for header, value in properties.headers:
        if header.startswith(PREFIX):
            name = header[len(PREFIX) :]
            if name == "time" and type(value) is int and 0 <= value <= TIME_MS_MAX:
                value = datetime.fromtimestamp(value / 1000, UTC)
            pairs.append((name, text_of(value)))
    if not pairs:
        return None
    try:
        found = check(pairs)
    except InvalidValue:
        return None
    for name, attribute in SHARED.items():
        value = getattr(properties, attribute)
        if value is not None and name not in found and not _CONTROL.search(value):
            found[name] = value
    return found


def others_of(properties: Properties) -> Headers:
    """Return the headers that are no attributes of an event."""
    return tuple(header for header in properties.headers if not header[0].startswith(PREFIX))


def canonical(headers: Headers) -> Headers:
    """Return headers with the attributes of an event, if they make one, as the model has them."""
    if not any(name.startswith(OTHER_PREFIXES) for name, _ in headers):
        return headers
    renamed = tuple((_renamed(name), value) for name, value in headers)
    return renamed if attributes_of(Properties(headers=renamed)) is not None else headers


def _renamed(name: str) -> str:
    for prefix in OTHER_PREFIXES:
        if name.startswith(prefix):
            return PREFIX + name[len(prefix) :]
    return name


def to_headers(attributes: dict[str, str]) -> Headers:
    """Return an event's attributes as headers of the model."""
    return tuple((PREFIX + name, value) for name, value in attributes.items())


def adopt(properties: Properties) -> None:
    """Set the properties that an event's attributes say, unless they are set."""
    found = attributes_of(properties) or {}
    for name, attribute in SHARED.items():
        if name in found and getattr(properties, attribute) is None:
            setattr(properties, attribute, found[name])


def text_of(value: HeaderValue) -> str:
    """Return an attribute's value in CloudEvents' canonical form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return "" if value is None else str(value)


# -- structured mode ------------------------------------------------------------------------


def is_structured(content_type: str | None) -> bool:
    """Tell whether a content type is that of an event as JSON."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == STRUCTURED


def is_batch(content_type: str | None) -> bool:
    """Tell whether a content type is that of many events as JSON."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == BATCH


def check_structured(body: bytes | str) -> None:
    """Raise InvalidValue unless a body is an event as JSON."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"CloudEvents: the event is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidValue("CloudEvents: an event is a JSON object")
    if "data" in found and "data_base64" in found:
        raise InvalidValue("CloudEvents: data and data_base64 exclude each other; send one of them")
    pairs: list[tuple[str, str]] = []
    for name, value in found.items():
        if name in _NOT_ATTRIBUTES or value is None:
            continue
        if isinstance(value, dict | list | float):
            raise InvalidValue(
                f"CloudEvents: {name[:40]!r}: an attribute is a text, a whole number or a boolean"
            )
        pairs.append((name, text_of(value)))
    for name in REQUIRED:
        if not isinstance(found.get(name, ""), str):
            raise InvalidValue(f"CloudEvents: {name!r} is a text")
    check(pairs)


def to_structured(message: Message) -> bytes | None:
    """Return a message's event as JSON: its body if it is that already; None if it is no event."""
    properties = message.properties
    if is_structured(properties.content_type):
        return message.body
    attributes = attributes_of(properties)
    if attributes is None or properties.content_encoding is not None:
        return None
    found: dict[str, Any] = dict(attributes)
    if properties.content_type is not None:
        found["datacontenttype"] = properties.content_type
    if message.body:
        name, data = _data_of(message.body, properties.content_type)
        found[name] = data
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


def _data_of(body: bytes, content_type: str | None) -> tuple[str, Any]:
    """Return the member of the JSON format that holds an event's data, and its value."""
    try:
        text = body.decode()
        if content_type is None or _JSON_TYPE.match(content_type):
            return "data", json.loads(text, parse_constant=_no_constant)
        if content_type.startswith("text/"):
            return "data", text
    except (ValueError, RecursionError):
        pass  # it is not what it says; or no JSON, where nothing is said
    return "data_base64", base64.b64encode(body).decode()


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")
