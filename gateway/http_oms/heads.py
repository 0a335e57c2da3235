"""A message as HTTP headers, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from ..core.errors import InvalidValue
from ..http_fields import read_name, read_text, read_value, write_name, write_text, write_value
from .terms import FIELDS, INTEGER_DIGITS_MAX, PARKED, VERSION, VERSION_FIELD, Field, Shown, Told
from .told import told_by

FIELD_PREFIX: Final = "x-oms-h-"
PROPERTY_PREFIX: Final = "x-oms-p-"
_BY_LOWER: Final = {name.lower(): name for name in FIELDS}
_FORM: Final = "application/x-www-form-urlencoded"  # what `curl -d` says of any body: taken as nothing said
_MEDIA_TYPE: Final = re.compile(r"[!#$&^_.+\-0-9A-Za-z]+/[!#$&^_.+\-0-9A-Za-z]+(?:\s*;[ -~]*)?")


def write_head(shown: Shown) -> tuple[str, list[tuple[str, str]]]:
    """Return the content type, "" if there is none, and the headers of a message whose body is HTTP's."""
    told = told_by(shown)
    kind = ""
    headers = [(VERSION_FIELD, VERSION)]
    for name, value in told.fields.items():
        headers.append((FIELD_PREFIX + name, _field_text(value)))
    for name, held in told.properties:
        if name == PARKED["content_type"] and isinstance(held, str) and _MEDIA_TYPE.fullmatch(held):
            kind = held
        else:
            headers.append((PROPERTY_PREFIX + write_name(name), write_value(held)))
    return kind, headers


def _field_text(value: Field) -> str:
    return (
        ",".join(quote(text, safe="") for text in value)
        if isinstance(value, tuple)
        else write_text(str(value))
    )


def read_head(headers: Iterable[tuple[str, str]]) -> Told:
    """Return what HTTP headers, in lower case, say of a message. Raise InvalidValue."""
    told = Told({}, [])
    for name, value in headers:
        try:
            if name.startswith(FIELD_PREFIX):
                _read_field(told, name[len(FIELD_PREFIX) :], value)
            elif name.startswith(PROPERTY_PREFIX):
                told.properties.append((read_name(name[len(PROPERTY_PREFIX) :]), read_value(value)))
            elif name == "content-type" and value != _FORM:
                told.properties.insert(0, (PARKED["content_type"], value))
        except (ValueError, RecursionError) as error:
            raise InvalidValue(f"header {name[:80]}: {error}") from error
    return told


def _read_field(told: Told, lower: str, value: str) -> None:
    name = _BY_LOWER.get(lower)
    if name is None:
        raise InvalidValue(f"{FIELD_PREFIX}{lower[:40]}: no such field; known: {', '.join(FIELDS)}")
    if name in told.fields:
        raise InvalidValue(f"{FIELD_PREFIX}{name} is there twice; send it once")
    if FIELDS[name] is tuple:
        told.fields[name] = tuple(read_text(one.strip()) for one in value.split(",") if one.strip())
        return
    text = read_text(value)
    if FIELDS[name] is str:
        told.fields[name] = text
    elif text.removeprefix("-").isdecimal() and text.isascii() and len(text) <= INTEGER_DIGITS_MAX:
        told.fields[name] = int(text)
    else:
        raise InvalidValue(f"{FIELD_PREFIX}{name} is {text[:40]!r}; a whole number is expected")
