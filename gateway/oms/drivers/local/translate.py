"""Messages of OpenMessaging as the core's, and back: pure functions.

What one has no field for is a property there, under the names that the other doors use (`$reply-to`), and a
header here (`oms-qos`), so that nothing is lost between the two.
"""

from __future__ import annotations

import base64
import gzip
from typing import Any, Final

from gateway.api import (
    Headers,
    HeaderValue,
    Origin,
    Properties,
    Qos,
    header_from_text,
    header_to_text,
    host_of,
)
from gateway.api import Message as CoreMessage

from ...compression import plain
from ...errors import OMSMessageFormatError, ResponseStatus
from ...fields import BORN_HOST, expires_at, priority_from, priority_of
from ...key_value import KeyValue
from ...message import Durability, ExtensionHeader, Header, Message, MessageReceipt, QoS

#: By name: the numbers mean different things.
QOS: Final = {
    QoS.AT_LEAST_ONCE: Qos.AT_LEAST_ONCE,
    QoS.AT_MOST_ONCE: Qos.AT_MOST_ONCE,
    QoS.EXACTLY_ONCE: Qos.EXACTLY_ONCE,
}
QOS_OF: Final = {int(core): int(oms) for oms, core in QOS.items()}
_CORE_QOS: Final = {int(oms): int(core) for oms, core in QOS.items()}

#: Property of an OpenMessaging message -> attribute of the core's, which it has no field for.
PARKED: Final = {
    "$content-type": "content_type",
    "$content-encoding": "content_encoding",
    "$reply-to": "reply_to",
    "$idempotency-key": "idempotency_key",
}
TYPE: Final = "$type:"  # begins the name of a property that says of what kind another's text was
CORRELATION: Final = "$correlation"  # of bytes that are no text
TEXT: Final = "$text"  # "true": its publisher vouches that the data is UTF-8

#: Header of a core message, for what the core has no property for -> field here.
DURABILITY: Final = "oms-durability"
QOS_SAID: Final = "oms-qos"  # of messages that came by RocketMQ, which has none
TRANSACTION: Final = "oms-transaction-id"
BORN_AT: Final = "oms-born-host"  # of what was forwarded: usually the publisher's own address says it
PARTITION: Final = "oms-partition"
GZIP: Final = "gzip"


def to_core(message: Message, topic: str, origin: Origin, message_id: str, offset_ms: int = 0) -> CoreMessage:
    """Return the core's message of one that was checked. Raise OMSMessageFormatError.

    `offset_ms`: how far the wall clock is ahead of the gateway's own time.
    """
    header = message.header
    data = message.data
    properties = Properties(message_id=message_id)
    expires_at_ms = 0
    headers: list[tuple[str, HeaderValue]] = []
    if message.has_properties:
        headers += _headers(message.properties, properties)
    if message.has_extension:
        _add_extension(message.extension_header, properties, headers)
        expires_at_ms = expires_at(message)
        if expires_at_ms:
            expires_at_ms = max(1, expires_at_ms - offset_ms)
    if header.priority is not None:
        properties.priority = priority_of(message)
    if header.durability != Durability.PERSISTENT:
        headers.append((DURABILITY, int(header.durability)))
    if header.compression:
        data = _compressed(data, header.compression)
        properties.content_encoding = header.compression
    if headers:
        properties.headers = tuple(headers)
    return CoreMessage(
        topic,
        data,
        _CORE_QOS[header.qos],
        False,
        properties,
        origin,
        header.born_timestamp,
        expires_at_ms,
    )


def _headers(given: KeyValue, properties: Properties) -> Headers:
    found: list[tuple[str, HeaderValue]] = []
    for name, value in given.items():
        if name[:1] != "$":
            kind = given.get(TYPE + name)
            found.append((name, value if kind is None else header_from_text(str(value), str(kind))))
        elif name in PARKED:
            setattr(properties, PARKED[name], str(value))
        elif name == TEXT:
            properties.text = value == "true"
        elif name == CORRELATION:
            properties.correlation = value if isinstance(value, bytes) else str(value).encode()
        elif not name.startswith(TYPE):
            found.append((name, value))
    return tuple(found)


def _add_extension(
    extension: ExtensionHeader, properties: Properties, headers: list[tuple[str, HeaderValue]]
) -> None:
    properties.key = extension.message_key
    properties.tag = extension.tag
    properties.keys = tuple(extension.search_keys)
    properties.traceparent = extension.trace_id
    if extension.correlation_id is not None and properties.correlation is None:
        properties.correlation = extension.correlation_id.encode()
    if extension.transaction_id is not None:
        headers.append((TRANSACTION, extension.transaction_id))
    if extension.partition:
        headers.append((PARTITION, extension.partition))
    if extension.delay_time:
        properties.delay_ms = extension.delay_time


def _compressed(data: bytes, name: str) -> bytes:
    if name != GZIP:
        raise OMSMessageFormatError(f"compression {name!r}: gzip is known", ResponseStatus.BAD_PARAMETER)
    return gzip.compress(data, mtime=0)


def from_core(
    message: CoreMessage,
    destination: str,
    attempt: int,
    receipt: MessageReceipt | None,
    offset_ms: int = 0,
) -> Message:
    """Return a core's message as one of OpenMessaging's. Raise OMSMessageFormatError if it cannot be read."""
    expires_at_ms = message.expires_at_ms
    made = message.properties
    header = Header(
        destination,
        made.message_id or "",
        made.timestamp_ms or message.timestamp_ms,
        host_of(message.origin.peer) or BORN_HOST,
        QOS_OF[message.qos],
        "",
        priority_from(made.priority),
        Durability.PERSISTENT,
        attempt,
    )
    extension = ExtensionHeader(
        made.key,
        None,
        None,
        expires_at_ms + offset_ms if expires_at_ms else None,
        made.traceparent,
        store_timestamp=message.timestamp_ms,
        store_host=BORN_HOST,
        tag=made.tag,
        search_keys=made.keys,
    )
    found = Message(header=header, data=message.body, extension_header=extension, receipt=receipt)
    _add_parked(found, made)
    if made.headers:
        _add_headers(found, made.headers)
    return found


def _add_parked(found: Message, made: Properties) -> None:
    for name, attribute in PARKED.items():
        value = getattr(made, attribute)
        if value is not None:
            found.properties[name] = value
    if made.text:
        found.properties[TEXT] = "true"
    if made.content_encoding == GZIP:
        found.data = plain(found.data)
        found.header.compression = GZIP
        del found.properties["$content-encoding"]
    if made.correlation is not None:
        try:
            found.extension_header.correlation_id = made.correlation.decode()
        except UnicodeDecodeError:
            found.properties[CORRELATION] = made.correlation
            found.extension_header.correlation_id = base64.b64encode(made.correlation).decode()


def _add_headers(found: Message, headers: Headers) -> None:
    own: dict[str, Any] = {}
    properties = found.properties
    for name, value in headers:
        if name in _OWN:
            own.setdefault(name, value)
        elif name in properties:
            continue  # the first of a name counts, as everywhere here
        elif isinstance(value, str | bytes | int | float):
            properties[name] = value
        else:
            properties[name], properties[TYPE + name] = header_to_text(value)
    if DURABILITY in own and own[DURABILITY] in (0, 1):
        found.header.durability = int(own[DURABILITY])
    if str(own.get(QOS_SAID)) in _QOS:
        found.header.qos = int(own[QOS_SAID])
    if BORN_AT in own:
        found.header.born_host = str(own[BORN_AT])
    if TRANSACTION in own:
        found.extension_header.transaction_id = str(own[TRANSACTION])
    if isinstance(own.get(PARTITION), int):
        found.extension_header.partition = own[PARTITION]


_OWN: Final = frozenset((DURABILITY, QOS_SAID, TRANSACTION, BORN_AT, PARTITION))
_QOS: Final = frozenset(str(int(qos)) for qos in QoS)
