"""How what waits is shown as JSON, and what people say of times and bodies is read."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

from gateway.api import InvalidValue
from gateway.core.clock import Clock
from gateway.core.message import Headers
from gateway.core.replay import parse_time
from gateway.core.schedules import Scheduled, delay_of
from gateway.core.values import from_json, to_json

BODY_FIELDS = ("body", "body_base64")
TIME_FIELDS = ("delay", "deliver_at")
_PROPERTIES = ("content_type", "content_encoding", "reply_to", "message_id", "priority", "key", "tag")


def show(found: Scheduled, clock: Clock) -> dict[str, Any]:
    """Return what is shown of a schedule in a list."""
    message = found.message
    due_ms = clock.shown(found.due_ms)
    shown: dict[str, Any] = {
        "id": str(found.position),
        "deliver_at": due_ms,
        "deliver_at_time": time_of(due_ms),
        "topic": message.topic,
        "bytes": len(message.body),
        "qos": int(message.qos),
        "retain": message.retain,
        "published_at": message.timestamp_ms,
        "user": message.origin.principal,
        "client": message.origin.client_id,
        "protocol": message.origin.protocol,
    }
    if message.expires_at_ms:
        shown["expires_at"] = clock.shown(message.expires_at_ms)
    return shown


def show_all(found: Scheduled, clock: Clock) -> dict[str, Any]:
    """Return all of a schedule."""
    shown, properties = show(found, clock), found.message.properties
    said = {name: getattr(properties, name) for name in _PROPERTIES}
    shown["properties"] = {name: value for name, value in said.items() if value is not None}
    shown["headers"] = [[name, to_json(value)] for name, value in properties.headers]
    return {**shown, **show_body(found.message.body)}


def show_body(body: bytes) -> dict[str, str]:
    """Return the body as text, or in base64 if it is none."""
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def time_of(wall_ms: int) -> str:
    """Return Unix milliseconds as people read them."""
    found = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_body(fields: dict[str, Any]) -> bytes | None:
    """Return the body that a request has, None if it has none. Raise InvalidValue."""
    given = [name for name in BODY_FIELDS if fields.get(name) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise InvalidValue("body and body_base64 exclude each other; send one of them")
    text = fields[given[0]]
    if not isinstance(text, str):
        raise InvalidValue(f"{given[0]}: a string is expected")
    if given[0] == "body":
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"body_base64: {error}; standard base64 is expected") from error


def read_headers(fields: dict[str, Any]) -> Headers | None:
    """Return the headers that a request has, None if it has none. Raise InvalidValue."""
    given = fields.get("headers")
    if given is None:
        return None
    pairs = list(given.items()) if isinstance(given, dict) else given
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise InvalidValue("headers: an object, or a list of [name, value], is expected")
    return tuple((name, from_json(value)) for name, value in pairs)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)


def read_due(fields: dict[str, Any], clock: Clock) -> int | None:
    """Return when a request wants it (the gateway's own time), or None. Raise InvalidValue."""
    delay, at = fields.get("delay"), fields.get("deliver_at")
    if delay is not None and at is not None:
        raise InvalidValue("delay and deliver_at exclude each other; send one of them")
    if delay is not None:
        if not isinstance(delay, int | float) or isinstance(delay, bool):
            raise InvalidValue("delay: seconds are expected")
        return clock.now_ms + delay_of(delay, "delay")
    return None if at is None else clock.own(read_time(at, "deliver_at"))


def read_time(value: Any, what: str) -> int:
    """Return Unix milliseconds of these, or of a time. Raise InvalidValue."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62:
        return value
    found = parse_time(value) if isinstance(value, str) else None
    if found is None:
        expected = "Unix milliseconds, or a time such as 2026-11-21T05:00:00Z, are expected"
        raise InvalidValue(f"{what} is {str(value)[:40]!r}; {expected}")
    return max(0, found)
