"""A message of the model in OpenMessaging's words, and back: a table each way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..core.clock import Clock
from ..core.errors import InvalidValue
from ..core.message import Headers, HeaderValue, Message, Origin, Properties, Qos, host_of
from .terms import (
    BORN_HOST,
    CORRELATION,
    FIELDS,
    KEY_CHARACTERS_MAX,
    NON_PERSISTENT,
    OMS_QOS,
    OWN,
    PARKED,
    PRIORITY_MAX,
    PRIORITY_MIN,
    QOS_OF,
    TEXT,
    Field,
    Shown,
    Told,
)

_ATTRIBUTE_OF: Final = {name: attribute for attribute, name in PARKED.items()}


# -- out --------------------------------------------------------------------------------------------


def _born_ms(shown: Shown) -> int:
    stated = shown.message.properties.timestamp_ms
    return shown.message.timestamp_ms if stated is None else stated


def _born_host(shown: Shown) -> Field | None:
    said = shown.message.properties.header(BORN_HOST)  # a producer whose door knows no better
    return said if isinstance(said, str) else host_of(shown.message.origin.peer) or "localhost"


def _delay(shown: Shown) -> Field | None:
    due_ms = shown.message.properties.deliver_at_ms
    return max(0, due_ms - _born_ms(shown)) if due_ms is not None else None


def _priority(shown: Shown) -> Field | None:
    priority = shown.message.properties.priority
    return None if priority is None else min(max(priority, 0) + PRIORITY_MIN, PRIORITY_MAX)


def _text(data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return None


def _own(field: str) -> Callable[[Shown], Field | None]:
    """Return what finds a field that is a header of the message."""
    header, kind = OWN[field], FIELDS[field]

    def find(shown: Shown) -> Field | None:
        found = shown.message.properties.header(header)
        return found if type(found) is kind and isinstance(found, str | int) else None

    return find


#: Field -> what a message has for it; None is nothing.
_WRITERS: Final[dict[str, Callable[[Shown], Field | None]]] = {
    "messageId": lambda shown: shown.message.properties.message_id or shown.message_id,
    "destination": lambda shown: shown.message.topic,
    "bornTimestamp": _born_ms,
    "bornHost": _born_host,
    "qos": lambda shown: OMS_QOS[Qos(shown.message.qos)],
    "compression": lambda shown: shown.message.properties.content_encoding,
    "storeTimestamp": lambda shown: shown.message.timestamp_ms,
    "messageKey": lambda shown: shown.message.properties.key,
    "correlationId": lambda shown: _text(shown.message.properties.correlation),
    "delayTime": _delay,
    "expireTime": lambda shown: shown.own_to_wall(shown.message.expires_at_ms) or None,
    "traceId": lambda shown: shown.message.properties.traceparent,
    "transactionId": _own("transactionId"),
    "durability": _own("durability"),
    "partition": _own("partition"),
    "deliveryCount": lambda shown: shown.attempt or None,
    "priority": _priority,
    "offset": lambda shown: shown.offset,
    "tag": lambda shown: shown.message.properties.tag,
    "searchKeys": lambda shown: shown.message.properties.keys or None,
}


def told_by(shown: Shown) -> Told:
    """Return what a message says of itself, in OpenMessaging's words."""
    fields = {name: value for name, write in _WRITERS.items() if (value := write(shown)) is not None}
    made = shown.message.properties
    parked: list[tuple[str, HeaderValue]] = []
    for attribute, name in PARKED.items():
        said: str | None = getattr(made, attribute)
        if said is not None and not (attribute == "idempotency_key" and _said_by_id(shown.message)):
            parked.append((name, said))
    if made.text:
        parked.append((TEXT, "true"))
    if made.correlation is not None and "correlationId" not in fields:
        parked.append((CORRELATION, made.correlation))
    own = {BORN_HOST, *(OWN[field] for field in OWN if field in fields)}
    return Told(fields, parked + [pair for pair in made.headers if pair[0] not in own])


def _said_by_id(message: Message) -> bool:
    """Tell whether a message's idempotency key is what its id says already: see `_set_identity`."""
    made = message.properties
    return message.qos == Qos.EXACTLY_ONCE and made.idempotency_key == made.message_id


# -- in ---------------------------------------------------------------------------------------------


def to_message(told: Told, body: bytes, origin: Origin, clock: Clock) -> Message:
    """Return the message that is told of. Raise InvalidValue naming what does not fit."""
    fields = told.fields
    made = Properties(headers=_headers(told))
    for name, value in told.properties:
        attribute = _ATTRIBUTE_OF.get(name)
        if attribute is not None and isinstance(value, str):
            setattr(made, attribute, value)
        elif name == CORRELATION and isinstance(value, bytes):
            made.correlation = value
        elif name == TEXT and value == "true":
            made.text = _checked_text(body)
    destination = str(fields.get("destination", ""))
    if not destination:
        raise InvalidValue("destination is missing: say where the message goes")
    message = Message(topic_of(destination), body, _qos(fields), False, made, origin, clock.wall_ms)
    for name, stated in fields.items():
        read = _READERS.get(name)
        if read is not None:
            read(message, stated, clock)
    _set_times(message, fields, clock)
    _set_identity(message, fields)
    return message


def topic_of(destination: str) -> str:
    """Return the topic that is meant: `ns://queue` is the queue's name within a namespace."""
    namespace, separator, name = destination.partition("://")
    return f"{namespace}/{name}" if separator and namespace else destination


def _checked_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{TEXT}: the body is not UTF-8 ({error})") from error
    return True


def _headers(told: Told) -> Headers:
    kept: list[tuple[str, HeaderValue]] = [
        (name, value)
        for name, value in told.properties
        if not (name in _ATTRIBUTE_OF and isinstance(value, str))
        and not (name == CORRELATION and isinstance(value, bytes))
        and not (name == TEXT and value == "true")
    ]
    for field, header in OWN.items():
        stated = told.fields.get(field)
        if isinstance(stated, str | int) and stated:  # 0 is what is usual
            kept.append((header, stated))
    return tuple(kept)


def _number(fields: Mapping[str, Field], name: str) -> int:
    value = fields.get(name, 0)
    return value if isinstance(value, int) else 0


def _qos(fields: Mapping[str, Field]) -> Qos:
    if "qos" in fields:
        found = QOS_OF.get(_number(fields, "qos"))
        if found is None:
            raise InvalidValue("qos: 0 (at least once), 1 (at most once) or 2 (exactly once) is expected")
        return found
    durability = fields.get("durability", 0)
    if durability not in (0, NON_PERSISTENT):
        raise InvalidValue("durability: 0 (persistent) or 1 (not persistent) is expected")
    return Qos.AT_MOST_ONCE if durability == NON_PERSISTENT else Qos.AT_LEAST_ONCE


def _read_born(message: Message, value: Any, clock: Clock) -> None:
    if value < 0:
        raise InvalidValue("bornTimestamp: Unix milliseconds are expected")
    message.properties.timestamp_ms = value


def _read_priority(message: Message, value: Any, clock: Clock) -> None:
    if PRIORITY_MIN <= value <= PRIORITY_MAX:
        message.properties.priority = value - PRIORITY_MIN


def _read_partition(message: Message, value: Any, clock: Clock) -> None:
    if value < 0:
        raise InvalidValue("partition: a number from 0 on is expected")


def _plain(attribute: str) -> Callable[[Message, Any, Clock], None]:
    def read(message: Message, value: Any, clock: Clock) -> None:
        setattr(message.properties, attribute, value)

    return read


def _read_correlation(message: Message, value: Any, clock: Clock) -> None:
    message.properties.correlation = value.encode()


#: Field -> what becomes of it. What is not here only the gateway knows, and says on the way out.
_READERS: Final[dict[str, Callable[[Message, Any, Clock], None]]] = {
    "messageId": _plain("message_id"),
    "bornTimestamp": _read_born,
    "compression": _plain("content_encoding"),
    "messageKey": _plain("key"),
    "correlationId": _read_correlation,
    "traceId": _plain("traceparent"),
    "priority": _read_priority,
    "partition": _read_partition,
    "tag": _plain("tag"),
    "searchKeys": _plain("keys"),
}


def _set_times(message: Message, fields: Mapping[str, Field], clock: Clock) -> None:
    """Take `expireTime`, an absolute time, and `delayTime`, which counts from `bornTimestamp`."""
    born_ms = message.properties.timestamp_ms
    expires_ms = _number(fields, "expireTime")
    if expires_ms < 0:
        raise InvalidValue("expireTime: Unix milliseconds are expected")
    if expires_ms and expires_ms >= (clock.wall_ms if born_ms is None else born_ms):
        message.expires_at_ms = max(clock.own(expires_ms), 1)
    delay_ms = _number(fields, "delayTime")
    if delay_ms < 0:
        raise InvalidValue("delayTime: milliseconds are expected")
    if delay_ms and born_ms is not None:
        message.properties.deliver_at_ms = born_ms + delay_ms
    else:
        message.properties.delay_ms = delay_ms


def _set_identity(message: Message, fields: Mapping[str, Field]) -> None:
    """What is to be there exactly once is known by its id."""
    made = message.properties
    if message.qos == Qos.EXACTLY_ONCE and made.idempotency_key is None:
        if not made.message_id:
            raise InvalidValue("qos 2 (exactly once) needs a messageId: a repetition is known by that")
        made.idempotency_key = made.message_id
    if made.idempotency_key is not None and len(made.idempotency_key) > KEY_CHARACTERS_MAX:
        raise InvalidValue(f"what a repetition is known by has at most {KEY_CHARACTERS_MAX} characters")
