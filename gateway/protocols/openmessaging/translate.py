"""Messages, RocketMQ's and the model's: pure functions, one table each way.

What RocketMQ has a field for goes there. What only the model knows travels as a user property under a name
that begins with `$`, the one that it has in MQTT 5, too (docs/protocols/openmessaging.md). User properties
are a map of texts: a header that is no text brings a second one, `$type:<name>`, so that it comes back with
its type; one that is there more than once is a JSON list of type `repeated`. A name that RocketMQ, or this
table, has a use for begins with `$header:`. A map has no order: headers come back sorted by name.

The attributes of a CloudEvent are `CE_<name>`, as CloudEvents' own binding for RocketMQ has it.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterable, Mapping
from hashlib import md5
from typing import Any, Final

from gateway.core import cloudevents, deadletter
from gateway.core.delivery import Delivery
from gateway.core.errors import InvalidValue
from gateway.core.message import Headers, HeaderValue, Message, Properties, host_of
from gateway.core.schedules import INVALID_DELAY, parse_delay
from gateway.core.values import from_json, from_text, to_bytes, to_json, to_text
from gateway.rocketmq.names import escape
from gateway.rocketmq.numbers import DigestType, Encoding, MessageType
from gateway.rocketmq.payload import SECONDS_MAX, put_ms, to_delivery_ms, to_ms
from gateway.rocketmq.properties import ESCAPED, RESERVED, TTL, TYPE

#: Model attribute -> user property, for what RocketMQ has no field for.
PARKED: Final = {
    "content_type": "$content-type",
    "content_encoding": "$content-encoding",
    "correlation": "$correlation",
    "reply_to": "$reply-to",
    "idempotency_key": "$idempotency-key",
    "text": "$text",
}
#: Where a number goes that its field cannot hold.
OVERSIZE: Final = {
    "timestamp_ms": "$timestamp-ms",
    "deliver_at_ms": "$deliver-at-ms",
    "priority": "$priority",
}
DELAY: Final = "$delay"  # seconds, to publish so much later; gone when that is done
TOPIC: Final = "$topic"  # where a message was published, if that is not what its consumer has asked for
REPEATED: Final = "repeated"
EVENT: Final = "CE_"
EVENT_TYPE: Final = "contenttype"  # what CloudEvents' binding calls the content type of an event's data

NO_DATA: Final = b"\0"  # and by what it stands for no data
TTL_SECONDS_MAX: Final = 4_294_967_295  # what MQTT's message expiry can say
PRIORITY_MAX: Final = (1 << 31) - 1
INTEGER_DIGITS_MAX: Final = 18  # that surely have room in 64 bits

_ATTRIBUTE_OF: Final = {name: attribute for attribute, name in (*PARKED.items(), *OVERSIZE.items())}
_TAKEN: Final = frozenset((*_ATTRIBUTE_OF, TTL, DELAY, TOPIC, EVENT + EVENT_TYPE)) | RESERVED
_HOST: Final = socket.gethostname()  # where messages are stored, for people


# -- RocketMQ to model ----------------------------------------------------------------------------


def to_properties(wire: Any) -> tuple[Properties, int]:
    """Return the properties of a message, and its time to live in ms, 0 for none. Raise InvalidValue."""
    system = wire.system_properties
    has, keys = system.HasField, system.keys
    made = Properties(
        message_id=system.message_id or None,
        tag=system.tag or None,
        keys=tuple(keys) if keys else (),
        key=system.message_group or None,
        traceparent=system.trace_context or None,
    )
    if has("born_timestamp"):
        born = system.born_timestamp
        if 0 <= born.seconds <= SECONDS_MAX:
            made.timestamp_ms = max(0, to_ms(born))
    if has("delivery_timestamp"):
        made.deliver_at_ms = max(0, to_delivery_ms(system.delivery_timestamp))
    if has("priority"):
        made.priority = system.priority
    user = wire.user_properties
    return made, _take(made, user) if user else 0


def _take(made: Properties, user: Mapping[str, str]) -> int:
    """Take over user properties; return the time to live that they name."""
    names = sorted(user)
    ttl_ms = 0
    found: list[tuple[str, HeaderValue]] = []
    event: list[tuple[str, HeaderValue]] = []
    for name in names:
        value = user[name]
        if name[:1] != "$":
            pairs = event if name.startswith(EVENT) else found
            pairs.append((name, _value(value, user.get(TYPE + name))))
        elif name == TTL:
            ttl_ms = _ttl(value)
        elif name == DELAY:
            made.delay_ms = _delay(value)
        elif name in _ATTRIBUTE_OF:
            _set(made, name, value, user.get(TYPE + name))
        elif name != TOPIC and not name.startswith(TYPE):
            found.append((name.removeprefix(ESCAPED), _value(value, user.get(TYPE + name))))
    if event:
        found += _take_event(made, event)
    made.headers = _spread(found) if any(type(value) is _Repeated for _, value in found) else tuple(found)
    cloudevents.adopt(made)
    return ttl_ms


class _Repeated(list[Any]):
    """The values of a header that is there more than once."""


def _value(text: str, kind: str | None) -> Any:
    if kind is None:
        return text
    if kind != REPEATED:
        return from_text(text, kind)
    try:
        values = from_json(json.loads(text))
    except (ValueError, InvalidValue, RecursionError):
        return text
    return _Repeated(values) if isinstance(values, list) else text


def _spread(found: list[tuple[str, HeaderValue]]) -> Headers:
    headers: list[tuple[str, HeaderValue]] = []
    for name, value in found:
        headers += [(name, one) for one in (value if type(value) is _Repeated else (value,))]
    return tuple(headers)


def _take_event(made: Properties, event: list[tuple[str, HeaderValue]]) -> Iterable[tuple[str, HeaderValue]]:
    """Return the attributes of a CloudEvent as the model has them; what makes none stays as it is."""
    attributes = {name[len(EVENT) :]: cloudevents.text_of(value) for name, value in event}
    content_type = attributes.pop(EVENT_TYPE, made.content_type)
    content_type = attributes.pop("datacontenttype", content_type)
    try:
        if attributes or not cloudevents.is_structured(content_type):
            cloudevents.check(list(attributes.items()))
    except InvalidValue:
        return event
    made.content_type = content_type
    return cloudevents.to_headers(attributes)


def data_of(made: Properties, body: bytes) -> bytes:
    """Return a body, or nothing for that of a CloudEvent without data: RocketMQ has no empty bodies."""
    if body == NO_DATA and made.content_type is None and cloudevents.attributes_of(made) is not None:
        return b""
    return body


def _set(made: Properties, name: str, text: str, kind: str | None) -> None:
    """Set an attribute of the model from its user property. Raise InvalidValue."""
    attribute = _ATTRIBUTE_OF[name]
    if attribute == "correlation":
        made.correlation = to_bytes(text) if kind == "bytes" else text.encode()
    elif attribute == "text":
        made.text = text == "true"
    elif attribute in OVERSIZE:
        if not (text.isascii() and text.isdigit() and len(text) <= INTEGER_DIGITS_MAX):
            raise InvalidValue(f"{name} is {text[:40]!r}; a whole number is expected")
        setattr(made, attribute, int(text))
    else:
        setattr(made, attribute, text)


def _ttl(text: str) -> int:
    plain = text.isascii() and len(text) <= 24 and text.replace(".", "", 1).isdigit()
    if not plain or not 0 < float(text) <= TTL_SECONDS_MAX:
        raise InvalidValue(f"{TTL} is {text[:40]!r}; seconds above 0 are expected, at most {TTL_SECONDS_MAX}")
    return max(1, round(float(text) * 1000))


def _delay(text: str) -> int:
    try:
        return parse_delay(text, DELAY)
    except InvalidValue:
        return INVALID_DELAY  # the publish is refused: see Session.publish


# -- model to RocketMQ ----------------------------------------------------------------------------


def from_delivery(
    wire: Any, delivery: Delivery, topic: Any, asked: str, handle: str, invisible_ms: int, now_ms: int
) -> None:
    """Fill in a message (`schema.Message`) for a consumer that gets it now.

    `topic` is the resource that the consumer has asked for, by which it will acknowledge, and `asked` the
    topic of ours that it stands for. `now_ms` is the gateway's own time.
    """
    system = from_message(wire, delivery.message, topic, asked, delivery.position, delivery.offset, now_ms)
    system.receipt_handle = handle
    system.delivery_attempt = delivery.attempt
    put_ms(system.invisible_duration, invisible_ms)


def from_message(
    wire: Any, message: Message, topic: Any, asked: str, position: int, offset: int, now_ms: int
) -> Any:
    """Fill in a message (`schema.Message`), and return its system properties; see `from_delivery`.

    `position` is its place in the log, which a message without an id is known by.
    """
    try:
        return _fill(wire, message, message.properties, topic, asked, position, offset, now_ms)
    except UnicodeEncodeError:
        wire.Clear()
        return _fill(wire, message, _cleaned(message.properties), topic, asked, position, offset, now_ms)


def _fill(
    wire: Any,
    message: Message,
    made: Properties,
    topic: Any,
    asked: str,
    position: int,
    offset: int,
    now_ms: int,
) -> Any:
    wire.topic.CopyFrom(topic)
    body = message.body
    wire.body = body
    system = wire.system_properties
    system.message_id = made.message_id or id_at(position, offset)
    system.body_encoding = Encoding.IDENTITY
    # MD5: a CRC32 is written in different ways, and clients discard what they find corrupt
    system.body_digest.type = DigestType.MD5
    system.body_digest.checksum = md5(body, usedforsecurity=False).hexdigest().upper()
    system.message_type = _type(made)
    system.queue_offset = offset
    system.born_host = host_of(message.origin.peer) or message.origin.protocol
    system.store_host = _HOST
    put_ms(system.store_timestamp, message.timestamp_ms)
    lost = _put_fields(system, made)
    if made.timestamp_ms is None:
        put_ms(system.born_timestamp, message.timestamp_ms)
    user = wire.user_properties
    for name in lost:
        user[OVERSIZE[name]] = str(getattr(made, name))
    if message.expires_at_ms:
        user[TTL] = f"{max(1, message.expires_at_ms - now_ms) / 1000:g}"
    if message.topic != asked:
        user[TOPIC] = message.topic
    _put_parked(user, made)
    if made.headers:
        _put_headers(user, made)
        if made.header(deadletter.CAUSE) is not None:
            _put_letter(system, made)
    return system


def _type(made: Properties) -> MessageType:
    if made.key is not None:
        return MessageType.FIFO
    if made.deliver_at_ms is not None:
        return MessageType.DELAY
    return MessageType.NORMAL if made.priority is None else MessageType.PRIORITY


def id_at(position: int, offset: int) -> str:
    """Return the id of a message that has none of its own: where it is in the log, or in its queue."""
    return str(position) if position else f"0-{offset}"


def _put_fields(system: Any, made: Properties) -> list[str]:
    """Fill in what RocketMQ has fields for; return the attributes that have no room there."""
    lost = []
    if made.tag is not None:
        system.tag = made.tag
    if made.keys:
        system.keys.extend(made.keys)
    if made.key is not None:
        system.message_group = made.key
    if made.traceparent is not None:
        system.trace_context = made.traceparent
    if made.priority is not None:
        if 0 <= made.priority <= PRIORITY_MAX:
            system.priority = made.priority
        else:
            lost.append("priority")
    if made.timestamp_ms is not None:
        if made.timestamp_ms // 1000 <= SECONDS_MAX:
            put_ms(system.born_timestamp, made.timestamp_ms)
        else:
            lost.append("timestamp_ms")
    if made.deliver_at_ms is not None:
        if made.deliver_at_ms // 1000 <= SECONDS_MAX:
            put_ms(system.delivery_timestamp, made.deliver_at_ms)
        else:
            lost.append("deliver_at_ms")
    return lost


def _put_parked(user: Any, made: Properties) -> None:
    if made.content_type is not None:
        user["$content-type"] = made.content_type
        if cloudevents.is_structured(made.content_type):
            user[EVENT + EVENT_TYPE] = made.content_type
    if made.content_encoding is not None:
        user["$content-encoding"] = made.content_encoding
    if made.correlation is not None:
        try:
            user["$correlation"] = made.correlation.decode()
        except UnicodeDecodeError:
            user["$correlation"] = base64.b64encode(made.correlation).decode()
            user[TYPE + "$correlation"] = "bytes"
    if made.reply_to is not None:
        user["$reply-to"] = made.reply_to
    if made.idempotency_key is not None:
        user["$idempotency-key"] = made.idempotency_key
    if made.text:
        user["$text"] = "true"


def _put_headers(user: Any, made: Properties) -> None:
    event = cloudevents.attributes_of(made)
    headers = made.headers
    if event is not None:
        headers = cloudevents.others_of(made)
        for attribute, text in event.items():
            user[EVENT + attribute] = text
        if made.content_type is not None:
            user[EVENT + EVENT_TYPE] = made.content_type
    repeated: dict[str, list[Any]] = {}
    for name, value in headers:
        if name in _TAKEN or name.startswith((TYPE, ESCAPED)) or (event and name.startswith(EVENT)):
            name = ESCAPED + name
        if name in user:
            before = repeated.setdefault(name, [from_text(user[name], user.get(TYPE + name))])
            before.append(value)
            continue
        user[name], kind = to_text(value)
        if kind:
            user[TYPE + name] = kind
    for name, values in repeated.items():
        user[name] = json.dumps(to_json(values))
        user[TYPE + name] = REPEATED


def _put_letter(system: Any, made: Properties) -> None:
    """Say of a dead letter what it was: RocketMQ's way, besides the headers."""
    topic = made.header(deadletter.TOPIC)
    if isinstance(topic, str):
        system.dead_letter_queue.topic = escape(topic)
        system.dead_letter_queue.message_id = system.message_id


def _cleaned(made: Properties) -> Properties:
    """Return properties whose texts are UTF-8: what a door has let in that is none is `?` here."""
    copy = made.copy()
    for name in ("content_type", "content_encoding", "reply_to", "message_id", "idempotency_key"):
        setattr(copy, name, _utf8(getattr(made, name)))
    for name in ("key", "tag", "traceparent"):
        setattr(copy, name, _utf8(getattr(made, name)))
    copy.keys = tuple(key.encode("utf-8", "replace").decode() for key in made.keys)
    copy.headers = tuple(
        (_utf8(name) or "", _utf8(value) if isinstance(value, str) else value) for name, value in made.headers
    )
    return copy


def _utf8(text: Any) -> Any:
    return None if text is None else text.encode("utf-8", "replace").decode()
