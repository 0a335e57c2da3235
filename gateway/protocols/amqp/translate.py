"""Basic properties to the model's and back: pure functions, one table each way.

What AMQP has a property for goes there. What only the model knows travels as a header under a
documented name that begins with `$`, and what only AMQP knows is a header of the model of a name
that begins with `$amqp-` (docs/protocols/amqp.md). `Properties.native` of a message that came by
AMQP is its address (exchange and routing key, as short strings) and its property list, both as
received: another AMQP client gets these.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from gateway.core import cloudevents
from gateway.core.message import HEADER_READERS, NO_PROPERTIES, Headers, Message, Properties
from gateway.core.topic import QUEUE_PREFIX

from . import names
from .methods import shortstr
from .properties import NO_LIST, PERSISTENT, Basic, decode_list, encode_list
from .tables import Table, decode_table, encode_table

NATIVE: Final = "amqp"
SHORT_MAX: Final = 255
EXPIRATION_MS_MAX: Final = 0xFFFFFFFF  # as RabbitMQ has it: 49 days

#: Model attribute -> header, for what AMQP has no property for.
PARKED: Final = {
    "key": "$key",
    "tag": "$tag",
    "keys": "$keys",
    "deliver_at_ms": "$deliver-at-ms",
    "traceparent": "traceparent",  # the W3C's own name
    "text": "$text",
    "idempotency_key": "$idempotency-key",
}
#: Headers by which AMQP clients say it, too: RabbitMQ's plugin has the first. They stay headers.
IDEMPOTENCY: Final = ("x-deduplication-header", "x-idempotency-key")
#: Where a value goes that its property cannot hold: too long, or too exact.
OVERSIZE: Final = {
    "content_type": "$content-type",
    "content_encoding": "$content-encoding",
    "correlation": "$correlation",
    "reply_to": "$reply-to",
    "message_id": "$message-id",
    "timestamp_ms": "$timestamp-ms",
    "priority": "$priority",
}
#: AMQP property -> header of the model, for what the model has no attribute for.
OWN: Final = {
    "type": "$amqp-type",
    "user_id": "$amqp-user-id",
    "app_id": "$amqp-app-id",
    "cluster_id": "$amqp-cluster-id",
}
ESCAPED: Final = "$header:"  # begins the name of a header that has an attribute's
REPEATED: Final = "$repeated"  # names whose values are an array because the name was there more than once

_PROPERTY_OF: Final = {header: name for name, header in OWN.items()}
_ATTRIBUTE_OF: Final = {header: name for name, header in (*PARKED.items(), *OVERSIZE.items())}
_INTEGERS: Final = frozenset(("deliver_at_ms", "timestamp_ms", "priority"))
#: Why headers have to be read.
_TELLING: Final = (b"$", b"traceparent", b"cloudEvents", b"ce-", *(name.encode() for name in IDEMPOTENCY))


# -- AMQP to model ------------------------------------------------------------------------------


def to_properties(vhost: str, address: bytes, raw: bytes, basic: Basic) -> Properties:
    """Return the model's properties. Raise SyntaxFault if the headers that have to be read cannot be."""
    made = Properties(
        content_type=_text(basic.content_type),
        content_encoding=_text(basic.content_encoding),
        correlation=basic.correlation_id,
        reply_to=None if basic.reply_to is None else reply_to_topic(vhost, _certain(basic.reply_to)),
        message_id=_text(basic.message_id),
        timestamp_ms=None if basic.timestamp is None else min(basic.timestamp * 1000, (1 << 63) - 1),
        priority=basic.priority,
        headers=None,
        native=address + raw,
        native_format=NATIVE,
    )
    table = basic.headers
    if table is not None and any(name in table for name in _TELLING):
        found = decode_table(table)[0]
        given = next((found[name] for name in IDEMPOTENCY if name in found), None)
        if isinstance(given, str | int):
            made.idempotency_key = str(given)
        for name, value in found.items():
            attribute = _ATTRIBUTE_OF.get(name)
            if attribute is None:
                continue
            if attribute == "keys" and isinstance(value, list):
                value = tuple(value)
            if _fits(attribute, value):
                setattr(made, attribute, value)
        cloudevents.adopt(made)
    return made


def _fits(attribute: str, value: Any) -> bool:
    """Tell whether a parked value is one of its attribute's; else it is the application's own header."""
    if attribute in _INTEGERS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    if attribute == "keys":
        return isinstance(value, list | tuple) and all(isinstance(key, str) for key in value)
    return isinstance(value, {"text": bool, "correlation": bytes}.get(attribute, str))


def read_headers(native: bytes) -> Headers:
    """Return the application's headers of a native encoding, and what only AMQP knows as such."""
    basic = decode_list(native, address_end(native))
    own = ((header, getattr(basic, name)) for name, header in OWN.items())
    found: list[tuple[str, Any]] = [(header, _certain(raw)) for header, raw in own if raw is not None]
    if basic.headers is not None:
        table = decode_table(basic.headers)[0]
        repeated = table.pop(REPEATED, None)
        for name, value in table.items():
            if name in _ATTRIBUTE_OF and _fits(_ATTRIBUTE_OF[name], value):
                continue
            shown = name.removeprefix(ESCAPED)
            if isinstance(repeated, list) and name in repeated and isinstance(value, list):
                found += [(shown, item) for item in value]
            else:
                found.append((shown, value))
    return cloudevents.canonical(tuple(found))


def _read_leniently(native: bytes) -> Headers:
    from .errors import SyntaxFault

    try:
        return read_headers(native)
    except SyntaxFault:
        return ()  # nobody but AMQP clients can make anything of it


HEADER_READERS[NATIVE] = _read_leniently


def address_end(native: bytes) -> int:
    """Return where the address ends and the property list begins."""
    key_at = 1 + native[0]
    return key_at + 1 + native[key_at]


def reply_to_topic(vhost: str, reply_to: str) -> str:
    """Return a reply-to, which is a key of the default exchange, as a topic."""
    return names.to_topic(vhost, "", reply_to)


def topic_to_reply(vhost: str, topic: str) -> str:
    """Undo `reply_to_topic`."""
    if topic.startswith(QUEUE_PREFIX):
        found, queue = names.core_to_queue(topic[len(QUEUE_PREFIX) :])
        if found == vhost and not queue.startswith(names.TOPIC_REPLY):
            return queue
    return names.TOPIC_REPLY + topic


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "replace")


def _certain(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


# -- model to AMQP --------------------------------------------------------------------------------


def native_of(
    vhost: str, message: Message, now_ms: int, address: Callable[[str], bytes] | None = None
) -> tuple[bytes, bytes]:
    """Return (address, property list) as an AMQP client gets them.

    `address` gives those of topics that came by another door, if not `address_of`.
    """
    made = message.properties
    native = made.native
    if native is not None and made.native_format == NATIVE:
        end = address_end(native)
        return native[:end], native[end:]
    found = address_of(vhost, message.topic) if address is None else address(message.topic)
    if made is NO_PROPERTIES and not message.expires_at_ms:
        return found, _BARE[message.qos > 0]
    return found, from_properties(vhost, message, now_ms)


def from_properties(vhost: str, message: Message, now_ms: int) -> bytes:
    """Return the property list for a message that came by another door."""
    made = message.properties
    basic = Basic()
    table: Table = {}
    basic.content_type = _short(made.content_type, "content_type", table)
    basic.content_encoding = _short(made.content_encoding, "content_encoding", table)
    basic.message_id = _short(made.message_id, "message_id", table)
    if made.reply_to is not None:
        raw = topic_to_reply(vhost, made.reply_to).encode("utf-8", "replace")
        if len(raw) <= SHORT_MAX:
            basic.reply_to = raw
        else:
            table[OVERSIZE["reply_to"]] = made.reply_to
    if made.correlation is not None:
        _put_correlation(basic, made.correlation, table)
    if made.timestamp_ms is not None:
        basic.timestamp = made.timestamp_ms // 1000
        if made.timestamp_ms % 1000:
            table[OVERSIZE["timestamp_ms"]] = made.timestamp_ms
    if made.priority is not None:
        basic.priority = min(made.priority, 255)
        if made.priority > 255:
            table[OVERSIZE["priority"]] = made.priority
    if message.qos:
        basic.delivery_mode = PERSISTENT
    if message.expires_at_ms:
        basic.expiration = b"%d" % max(0, message.expires_at_ms - now_ms)
    for attribute, name in PARKED.items():
        value = getattr(made, attribute)
        if value is not None and value is not False and value != ():
            table[name] = list(value) if attribute == "keys" else value
    event = cloudevents.attributes_of(made)
    headers = made.headers if event is None else cloudevents.to_headers(event) + cloudevents.others_of(made)
    _put_headers(basic, headers, table)
    if table:
        basic.headers = encode_table(table)
    return encode_list(basic)


def _short(value: str | None, attribute: str, table: Table) -> bytes | None:
    if value is None:
        return None
    raw = value.encode("utf-8", "replace")
    if len(raw) <= SHORT_MAX:
        return raw
    table[OVERSIZE[attribute]] = value
    return None


def _put_correlation(basic: Basic, correlation: bytes, table: Table) -> None:
    try:
        correlation.decode()
    except UnicodeDecodeError:
        table[OVERSIZE["correlation"]] = correlation  # clients take the property for text
        return
    if len(correlation) <= SHORT_MAX:
        basic.correlation_id = correlation
    else:
        table[OVERSIZE["correlation"]] = correlation


def _put_headers(basic: Basic, headers: Headers, table: Table) -> None:
    repeated: list[str] = []
    for name, value in headers:
        own = _PROPERTY_OF.get(name)
        raw = value.encode("utf-8", "replace") if own is not None and isinstance(value, str) else None
        if own is not None and raw is not None and len(raw) <= SHORT_MAX and getattr(basic, own) is None:
            setattr(basic, own, raw)
            continue
        if name in _ATTRIBUTE_OF and (name in table or _fits(_ATTRIBUTE_OF[name], value)):
            name = ESCAPED + name  # it would be taken for the attribute
        if name not in table:
            table[name] = value
        elif name in repeated:
            table[name].append(value)
        else:
            repeated.append(name)
            table[name] = [table[name], value]
    if repeated:
        table[REPEATED] = repeated


@lru_cache(names.CACHED_MAX)
def address_of(vhost: str, topic: str) -> bytes:
    """Return (exchange, routing key) of a topic that no AMQP client published to, as short strings."""
    if topic.startswith(QUEUE_PREFIX):
        return b"\x00" + shortstr(names.core_to_queue(topic[len(QUEUE_PREFIX) :])[1])
    key = names.from_topic(vhost, topic)
    return _TOPIC_EXCHANGE + shortstr(names.TOPIC_REPLY + topic if key is None else key)


_TOPIC_EXCHANGE: Final = shortstr(names.TOPIC_EXCHANGE)
_BARE: Final = (NO_LIST, b"\x10\x00\x02")  # nothing, or a delivery mode
