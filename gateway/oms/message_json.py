"""Messages as JSON by the specification's schema: names in camel case, data in base64.

A property of bytes is `{"binary": "<base64>"}`; text, numbers and booleans are themselves. What is not
said is left out. Reading refuses what the schema does not know: a misspelt field would be lost unseen.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import fields
from typing import Any, Final

from .errors import OMSMessageFormatError
from .key_value import Value
from .message import VERSION, ExtensionHeader, Header, Message

REQUIRED: Final = ("destination", "messageId", "bornTimestamp", "bornHost")


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


#: Field of the JSON text -> attribute.
HEADER_NAMES: Final = {_camel(field.name): field.name for field in fields(Header)}
EXTENSION_NAMES: Final = {_camel(field.name): field.name for field in fields(ExtensionHeader)}
TEXTS: Final = frozenset(
    {"destination", "message_id", "born_host", "compression", "message_key", "correlation_id", "trace_id"}
    | {"transaction_id", "store_host", "tag"}
)


def dump(message: Message) -> str:
    """Return a message's JSON text."""
    written: dict[str, Any] = {"version": VERSION, "header": _written(message.header, HEADER_NAMES)}
    if message.has_extension and (extension := _written(message.extension_header, EXTENSION_NAMES)):
        written["extensionHeader"] = extension
    written["properties"] = {
        name: {"binary": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in message.properties.items()
    }
    if message.data:
        written["data"] = base64.b64encode(message.data).decode()
    return json.dumps(written, ensure_ascii=False)


def _written(part: Header | ExtensionHeader, names: dict[str, str]) -> dict[str, Any]:
    plain: Header | ExtensionHeader = type(part)()
    written = {}
    for name, attribute in names.items():
        value = getattr(part, attribute)
        if name in REQUIRED or value != getattr(plain, attribute):
            written[name] = list(value) if isinstance(value, tuple) else value
    return written


def load(text: str | bytes) -> Message:
    """Return the message of a JSON text. Raise OMSMessageFormatError."""
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OMSMessageFormatError(f"no JSON: {error}") from None
    if not isinstance(read, dict):
        raise OMSMessageFormatError("a message is a JSON object")
    unknown = read.keys() - {"version", "header", "extensionHeader", "properties", "data"}
    if unknown:
        raise OMSMessageFormatError(f"a message has no {', '.join(sorted(unknown))}")
    version = read.get("version")
    if not isinstance(version, str) or version.partition(".")[0] != VERSION.partition(".")[0]:
        raise OMSMessageFormatError(f"version is {version!r}, not {VERSION}")
    header = Header()
    _read(header, HEADER_NAMES, read.get("header"), "header")
    if not header.destination:
        raise OMSMessageFormatError("header.destination is required")
    message = Message(header=header, data=_data(read.get("data", "")))
    if "extensionHeader" in read:
        _read(message.extension_header, EXTENSION_NAMES, read["extensionHeader"], "extensionHeader")
    properties = read.get("properties", {})
    if not isinstance(properties, dict):
        raise OMSMessageFormatError("properties is an object")
    message.properties.update({name: _value(name, value) for name, value in properties.items()})
    return message


def _read(part: Header | ExtensionHeader, names: dict[str, str], given: Any, where: str) -> None:
    if not isinstance(given, dict):
        raise OMSMessageFormatError(f"{where} is an object")
    for name, value in given.items():
        attribute = names.get(name)
        if attribute is None:
            raise OMSMessageFormatError(f"{where} has no {name}")
        if attribute == "search_keys":
            good = isinstance(value, list) and all(isinstance(key, str) for key in value)
            value = tuple(value) if good else value
        else:
            good = type(value) is (str if attribute in TEXTS else int)
        if not good:
            raise OMSMessageFormatError(f"{where}.{name} is {value!r}")
        setattr(part, attribute, value)


def _data(given: Any) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise OMSMessageFormatError("data and binary values are base64") from None


def _value(name: str, given: Any) -> Value:
    if isinstance(given, dict) and given.keys() == {"binary"}:
        return _data(given["binary"])
    if isinstance(given, str | int | float):
        return given
    raise OMSMessageFormatError(f"property {name!r} is neither text, number, boolean nor binary")
