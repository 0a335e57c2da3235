"""Messages as the binding has them in JSON, and back: pure functions.

A property of a type that OpenMessaging has no values for (a list, a time ...) is text here, and beside it
`$type:<name>` says of what kind: as the other drivers have it.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Callable
from typing import Any, Final

from gateway.oms.compression import plain
from gateway.oms.errors import OMSMessageFormatError, ResponseStatus
from gateway.oms.fields import priority_of
from gateway.oms.key_value import KeyValue, Value
from gateway.oms.message import ExtensionHeader, Header, Message, MessageReceipt, QoS
from gateway.oms.message_json import EXTENSION_NAMES, HEADER_NAMES
from gateway.oms.version import SPEC_VERSION

BINARY: Final = "binary"
TYPE: Final = "$type:"
ENCODING: Final = "$content-encoding"  # property: the content encoding of what is not compressed by this API
GZIP: Final = "gzip"

_UNSET_HEADER, _UNSET_EXTENSION = Header(), ExtensionHeader()
#: Only the provider says these, or they are looked at here.
_OURS: Final = frozenset(("destination", "message_id", "delivery_count", "priority", "compression", "qos"))

#: Kind of a property's value -> (key of the JSON object that it is, as text).
_KINDS: Final = {"timestamp": "$timestamp", "decimal": "$decimal"}
_KIND_OF: Final = {key: kind for kind, key in _KINDS.items()}
_PLAIN: Final[dict[str, Callable[[str], Any]]] = {
    "int": int,
    "float": lambda text: _number(float(text)),
    "bool": lambda text: text == "true",
    "bytes": lambda text: {BINARY: text},
    "null": lambda text: None,
    "json": json.loads,
}


# -- out --------------------------------------------------------------------------------------------


def to_line(message: Message, topic: str, message_id: str = "") -> bytes:
    """Return a message that was checked. Raise OMSMessageFormatError."""
    header: dict[str, Any] = {"destination": topic, "qos": int(message.header.qos)}
    if message_id:
        header["messageId"] = message_id
    if priority_of(message) is not None:  # what is out of range is ignored
        header["priority"] = message.header.priority
    data, given = message.data, message.properties
    if message.header.compression:
        header["compression"] = message.header.compression
        data = _compressed(data, message.header.compression)
    elif ENCODING in given:
        header["compression"] = str(given[ENCODING])
    for name, attribute in HEADER_NAMES.items():
        value = getattr(message.header, attribute)
        if attribute not in _OURS and value != getattr(_UNSET_HEADER, attribute):
            header[name] = value
    found: dict[str, Any] = {"version": SPEC_VERSION, "header": header}
    if message.has_extension:
        found["extensionHeader"] = _extension(message.extension_header)
    if message.has_properties:
        found["properties"] = {
            name: _value(name, value, given.get(TYPE + name))
            for name, value in given.items()
            if name != ENCODING and not name.startswith(TYPE)
        }
    found["data"] = base64.b64encode(data).decode()
    return json.dumps(found, separators=(",", ":")).encode()


def _extension(extension: ExtensionHeader) -> dict[str, Any]:
    found = {}
    for name, attribute in EXTENSION_NAMES.items():
        value = getattr(extension, attribute)
        if value != getattr(_UNSET_EXTENSION, attribute):
            found[name] = value
    return found


def _value(name: str, value: Value, kind: Value | None) -> Any:
    if isinstance(value, bytes):
        return {BINARY: base64.b64encode(value).decode()}
    if kind is None:
        return _number(value) if isinstance(value, float) else value
    text = str(value)
    if not isinstance(kind, str):
        return value
    if kind in _KINDS:
        return {_KINDS[kind]: text}
    read = _PLAIN.get(kind)
    try:
        return value if read is None else read(text)
    except (ValueError, RecursionError) as error:
        raise OMSMessageFormatError(f"property {name!r} is no {kind}: {error}") from error


def _number(value: float) -> Any:
    return value if math.isfinite(value) else {"$float": str(value)}


def _compressed(data: bytes, name: str) -> bytes:
    if name != GZIP:
        raise OMSMessageFormatError(f"compression {name!r}: gzip is known", ResponseStatus.BAD_PARAMETER)
    return gzip.compress(data, mtime=0)


# -- in ---------------------------------------------------------------------------------------------


def from_line(line: bytes, destination: str) -> Message:
    """Return a message that came, under the name that its queue has here. Raise OMSMessageFormatError."""
    try:
        found = json.loads(line)
        header = Header(qos=QoS.AT_LEAST_ONCE)
        _read(header, HEADER_NAMES, found["header"])
        message = Message(header=header, data=_binary(found.get("data", "")))
        _read(message.extension_header, EXTENSION_NAMES, found.get("extensionHeader", {}))
        message.extension_header.search_keys = tuple(message.extension_header.search_keys)
        _properties(message.properties, found.get("properties", {}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OMSMessageFormatError(f"what the server sent is no message: {error!r}") from error
    header.destination = destination
    if header.compression == GZIP:
        message.data = plain(message.data)
    elif header.compression:
        message.properties[ENCODING], header.compression = header.compression, ""
    receipt = found.get("receipt")
    if receipt:
        message.receipt = MessageReceipt(receipt, destination)
    return message


def _binary(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def receipt_of(line: bytes, queue: str) -> MessageReceipt:
    """Return what settles a message that cannot be read. Raise OMSMessageFormatError if nothing does."""
    try:
        return MessageReceipt(json.loads(line)["receipt"], queue)
    except (ValueError, KeyError, TypeError) as error:
        raise OMSMessageFormatError(f"what the server sent is no message: {error!r}") from error


def _read(part: Header | ExtensionHeader, names: dict[str, str], given: dict[str, Any]) -> None:
    for name, value in given.items():
        attribute = names.get(name)
        if attribute is not None:  # a later server may say more
            setattr(part, attribute, value)


def _properties(properties: KeyValue, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if isinstance(value, str | int | float):
            properties[name] = value
        elif isinstance(value, dict) and value.keys() == {BINARY}:
            properties[name] = _binary(value[BINARY])
        elif isinstance(value, dict) and value.keys() == {"$float"}:
            properties[name] = float(value["$float"])
        else:
            properties[name], properties[TYPE + name] = _text(value)


def _text(value: Any) -> tuple[str, str]:
    """Return the text of a value, and its kind."""
    if value is None:
        return "", "null"
    if isinstance(value, dict) and len(value) == 1:
        key, inner = next(iter(value.items()))
        if key in _KIND_OF:
            return str(inner), _KIND_OF[key]
    return json.dumps(value), "json"
