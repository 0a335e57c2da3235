"""Values of application headers as JSON and back, with their types.

JSON has no bytes, no times, no decimal fractions and no NaN: they are the objects
{"$base64": ...}, {"$timestamp": "2026-01-31T12:00:00+00:00"}, {"$decimal": "1.50"} and
{"$float": "nan"}. A map of one key that begins with "$" is wrapped as {"$map": ...}, so that
nothing is ambiguous. Where there are only texts, as in MQTT's user properties, a value is a text and the
name of its kind.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from .errors import InvalidValue

INT_MIN: Final = -(1 << 63)  # what the log and the doors can hold
INT_MAX: Final = (1 << 63) - 1
DEPTH_MAX: Final = 32  # nobody reads deeper; encoders recurse


def to_json(value: Any) -> Any:
    """Return a header's value as JSON can say it."""
    if isinstance(value, bytes | bytearray):
        return {"$base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, datetime):
        return {"$timestamp": value.isoformat()}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        inner = {key: to_json(item) for key, item in value.items()}
        ambiguous = len(inner) == 1 and next(iter(inner)).startswith("$")
        return {"$map": inner} if ambiguous else inner
    return value


def from_json(value: Any, depth: int = 0) -> Any:
    """Undo `to_json`. Raise InvalidValue."""
    if isinstance(value, bool):
        return value  # first: compiled, what is known to be an int is a number from here on
    if isinstance(value, int):
        if not INT_MIN <= value <= INT_MAX:
            raise InvalidValue("headers: a whole number has 64 bits; send a float or a text")
        return value
    if not isinstance(value, list | dict):
        return value
    if depth >= DEPTH_MAX:
        raise InvalidValue(f"headers: values may be nested {DEPTH_MAX} deep")
    if isinstance(value, list):
        return [from_json(item, depth + 1) for item in value]
    if len(value) == 1:
        (name, inner) = next(iter(value.items()))
        if name == "$map" and isinstance(inner, dict):
            value = inner
        elif name in _TYPED and isinstance(inner, str):
            return _TYPED[name](inner)
    return {key: from_json(item, depth + 1) for key, item in value.items()}


def to_bytes(text: str) -> bytes:
    """Return what base64 stands for. Raise InvalidValue."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"headers: {error}; standard base64 is expected") from error


def to_time(text: str) -> datetime:
    """Return what an ISO 8601 time with its zone stands for. Raise InvalidValue."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValue(f"headers: {error}; an ISO 8601 time is expected") from error
    if found.tzinfo is None:
        raise InvalidValue(f"headers: {text!r}: a time needs its zone, as in 2026-01-31T12:00:00+00:00")
    return found


def to_decimal(text: str) -> Decimal:
    """Return what a decimal fraction stands for. Raise InvalidValue."""
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise InvalidValue(f"headers: {text[:40]!r} is no decimal number") from error


def _to_float(text: str) -> Any:
    if text in ("nan", "inf", "-inf"):
        return float(text)
    return {"$float": text}  # somebody's own map


_TYPED: Final[dict[str, Callable[[str], Any]]] = {
    "$base64": to_bytes,
    "$timestamp": to_time,
    "$decimal": to_decimal,
    "$float": _to_float,
}


def to_text(value: Any) -> tuple[str, str]:
    """Return a header's value as a text, and what it was, "" for a text: see `from_text`."""
    match value:
        case str():
            return value, ""
        case bool():
            return ("true" if value else "false"), "bool"
        case int():
            return str(value), "int"
        case float():
            return repr(value), "float"
        case bytes():
            return base64.b64encode(value).decode(), "bytes"
        case datetime():
            return value.isoformat(), "timestamp"
        case Decimal():
            return str(value), "decimal"
        case None:
            return "", "null"
    return json.dumps(to_json(value)), "json"


_OF_TEXT: Final[dict[str, Callable[[str], Any]]] = {
    "int": lambda text: from_json(int(text)),
    "float": float,
    "bool": lambda text: text == "true",
    "bytes": to_bytes,
    "timestamp": to_time,
    "decimal": to_decimal,
    "null": lambda text: None,
    "json": lambda text: from_json(json.loads(text)),
}


def from_text(text: str, kind: str | None) -> Any:
    """Undo `to_text`; what does not fit stays a text: it is somebody else's."""
    read = None if kind is None else _OF_TEXT.get(kind)
    if read is None:
        return text
    try:
        return read(text)
    except (ValueError, InvalidValue, RecursionError):
        return text
