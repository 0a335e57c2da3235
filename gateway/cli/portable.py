"""A log's contents as lines of JSON, and back: the format of `gateway log export`.

    {"gateway_export": 1, "id": ..., "log": ..., "until": position}      first
    {"queue": name, "kind", "policy", "auto_delete", "bindings": [...]}  each queue
    {"key": name, "value": ...}                                          sessions and the like
    {"position", "topic", "body", ..., "queues": {name: {...}}}          messages, oldest first
    {"group": name, "of": stream}                                        has got what is above, goes on here
    {"end": true}                                                        last; without it something is missing

Bytes that are no UTF-8 are `..._base64`; header values as in the HTTP door's batches. What came by
AMQP has its address and property list as `native`, base64, in place of headers.
"""

from __future__ import annotations

import base64
from typing import Any

from ..core.message import PROPERTY_NAMES, Message, Origin, Properties
from ..core.values import from_json, to_json
from ..protocols.amqp import translate as _reads_headers  # noqa: F401  # where they are still as received
from ..protocols.http.convert import put_bytes
from ..storage.commitlog.contents import Kept

VERSION = 1
ORIGIN_FIELDS = ("protocol", "principal", "client_id", "peer")


def message_line(kept: Kept, names: dict[int, str]) -> dict[str, Any]:
    """Return a message's line; `names` are the queues'."""
    message = kept.message
    line: dict[str, Any] = {"position": kept.position, "stored_at": kept.stored_at_ms, "topic": message.topic}
    put_bytes(line, "body", message.body)
    line["qos"] = int(message.qos)
    if message.retain:
        line["retain"] = True
    line["timestamp"] = message.timestamp_ms
    if message.expires_at_ms:
        line["expires_at"] = message.expires_at_ms
    line["origin"] = {name: getattr(message.origin, name) for name in ORIGIN_FIELDS}
    properties = _properties(message.properties)
    if properties:
        line["properties"] = properties
    line["queues"] = {
        names[place.queue_id]: {"offset": place.offset, "attempts": place.attempts}
        for place in kept.places
        if place.queue_id in names
    }
    return line


def _properties(properties: Properties) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in PROPERTY_NAMES:
        value = getattr(properties, name)
        if (
            value is None
            or value is False
            or value == ()
            or (name == "headers" and properties.native_headers)
        ):
            continue
        if name == "correlation":
            put_bytes(found, name, value)
        elif name == "headers":
            found[name] = [[key, to_json(item)] for key, item in value]
        else:
            found[name] = value
    if properties.native_headers and properties.native is not None:
        found["native"] = base64.b64encode(properties.native).decode()
        found["native_format"] = properties.native_format
    return found


def message_of(line: dict[str, Any]) -> Message:
    """Return the message of a line. Raise KeyError, ValueError or TypeError for a line of another make."""
    properties = dict(line.get("properties", {}))
    if "correlation" in properties or "correlation_base64" in properties:
        properties["correlation"] = bytes_of(properties, "correlation")
        properties.pop("correlation_base64", None)
    if "keys" in properties:
        properties["keys"] = tuple(properties["keys"])
    if "native" in properties:
        properties["native"] = base64.b64decode(properties["native"], validate=True)
        properties["headers"] = None
    elif "headers" in properties:
        properties["headers"] = tuple((name, from_json(value)) for name, value in properties["headers"])
    return Message(
        line["topic"],
        bytes_of(line, "body"),
        line["qos"],
        line.get("retain", False),
        Properties(**properties),
        Origin(**line["origin"]),
        line["timestamp"],
        line.get("expires_at", 0),
    )


def bytes_of(line: dict[str, Any], name: str) -> bytes:
    """Return what `put_bytes` put there."""
    if name in line:
        return bytes(line[name].encode())
    return base64.b64decode(line[f"{name}_base64"], validate=True)
