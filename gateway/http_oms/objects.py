"""A message as JSON by OpenMessaging's schema, and back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from ..core.errors import InvalidValue
from ..core.message import HeaderValue
from ..core.values import from_json as value_from_json
from ..core.values import to_json as value_to_json
from .terms import EXTENSION, FIELDS, HEADER, INTEGER_DIGITS_MAX, VERSION, Field, Shown, Told, check_version
from .told import told_by

BINARY: Final = "binary"  # a property's value of bytes is {"binary": "<base64>"} in JSON


def to_json(shown: Shown) -> dict[str, Any]:
    """Return a message by OpenMessaging's schema. Of properties of one name there is the first."""
    told = told_by(shown)
    return {
        "version": VERSION,
        "header": {name: told.fields[name] for name in HEADER if name in told.fields},
        "extensionHeader": {name: told.fields[name] for name in EXTENSION if name in told.fields},
        "properties": {name: _value_to_json(value) for name, value in reversed(told.properties)},
        "data": base64.b64encode(shown.message.body).decode(),
    }


def _value_to_json(value: HeaderValue) -> Any:
    return {BINARY: base64.b64encode(value).decode()} if isinstance(value, bytes) else value_to_json(value)


#: Members of a message as JSON.
_MEMBERS: Final = ("version", "header", "extensionHeader", "properties", "data")


def from_json(found: Any) -> tuple[Told, bytes]:
    """Undo `to_json`. Raise InvalidValue naming what does not fit."""
    if not isinstance(found, dict):
        raise InvalidValue("a message: a JSON object is expected")
    for name in found:
        if name not in _MEMBERS:
            raise InvalidValue(f"{name[:40]!r}: unknown; a message has {', '.join(_MEMBERS)}")
    told = Told({}, [])
    check_version(_member(found, "version", str, VERSION))
    for part in ("header", "extensionHeader"):
        for name, value in _member(found, part, dict, {}).items():
            told.fields[name] = _json_field(part, name, value)
    for name, value in _member(found, "properties", dict, {}).items():
        told.properties.append((name, _value_from_json(value)))
    return told, _binary(_member(found, "data", str, ""))


def _value_from_json(value: Any) -> HeaderValue:
    if isinstance(value, dict) and value.keys() == {BINARY} and isinstance(value[BINARY], str):
        return _binary(value[BINARY])
    found: HeaderValue = value_from_json(value)
    return found


def _json_field(part: str, name: str, value: Any) -> Field:
    kind = FIELDS.get(name)
    if kind is None:
        raise InvalidValue(f"{part}: {name[:40]!r}: no such field; known: {', '.join(FIELDS)}")
    if kind is tuple and isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    if kind is str and isinstance(value, str):
        return value
    if type(value) is kind is int and abs(value) < 10**INTEGER_DIGITS_MAX:
        return value
    raise InvalidValue(f"{part}: {name}: {_EXPECTED[kind]} is expected")


_EXPECTED: Final[dict[type, str]] = {str: "a text", int: "a whole number", tuple: "a list of texts"}


def _member(found: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = found.get(name, default)
    if not isinstance(value, kind):
        raise InvalidValue(f"{name}: {'an object' if kind is dict else 'a text'} is expected")
    return value


def _binary(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"data and binary values are standard base64: {error}") from error
