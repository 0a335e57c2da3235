"""MQTT properties to the model's and back: pure functions, one table each way.

What MQTT 5 has a property for goes there. What only the model knows travels as a user
property under a documented name that begins with `$` (docs/protocols/mqtt.md), and a header
that is no string brings a second one, `$type:<name>`, so that it comes back with its type.
"""

from __future__ import annotations

from typing import Final, cast

from gateway.core import cloudevents
from gateway.core.errors import InvalidValue
from gateway.core.message import NO_PROPERTIES, HeaderValue, Message
from gateway.core.message import Properties as ModelProperties
from gateway.core.schedules import INVALID_DELAY, parse_delay
from gateway.core.values import from_text, to_text

from .packets import PUBLISH, Properties
from .properties import encode_properties, write_varint

NATIVE: Final = "mqtt5"  # Properties.native holds an encoded block, without its length

#: Model attribute -> user property, for what MQTT has no property for.
PARKED: Final = {
    "content_encoding": "$content-encoding",
    "message_id": "$message-id",
    "idempotency_key": "$idempotency-key",
    "timestamp_ms": "$timestamp-ms",
    "priority": "$priority",
    "key": "$key",
    "tag": "$tag",
    "keys": "$keys",
    "deliver_at_ms": "$deliver-at-ms",
    "traceparent": "traceparent",  # the W3C's own name
}
_ATTRIBUTE_OF: Final = {name: attribute for attribute, name in PARKED.items()}
_INTEGERS: Final = frozenset(("timestamp_ms", "priority", "deliver_at_ms"))
_TYPE: Final = "$type:"
ESCAPED: Final = "$header:"  # begins a header of a CloudEvent's message that is called as an attribute may be
ATTEMPT: Final = "$attempt"  # user property of what a queue delivers again: 2 for the second time
DELAY: Final = "$delay"  # seconds, to publish so much later; gone when that is done
STRING_BYTES_MAX: Final = 65_535  # [MQTT-1.5.4]
CACHE_MAX: Final = 4096  # property sets; fleets repeat themselves

_known: dict[int, tuple[Properties, ModelProperties]] = {}


def to_properties(properties: Properties) -> ModelProperties:
    """Return the model's properties for a received PUBLISH (or will).

    The decoder hands out the same dictionary for the same bytes; so do we. The cache holds
    on to the dictionary, which keeps its identity from being reused.
    """
    if not properties:
        return NO_PROPERTIES
    key = id(properties)
    known = _known.get(key)
    if known is not None and known[0] is properties:
        return known[1]
    made = _to_properties(properties)
    if len(_known) >= CACHE_MAX:
        _known.clear()
    _known[key] = (properties, made)
    return made


def _to_properties(properties: Properties) -> ModelProperties:
    made = ModelProperties(
        content_type=cast("str | None", properties.get("content_type")),
        correlation=cast("bytes | None", properties.get("correlation_data")),
        reply_to=cast("str | None", properties.get("response_topic")),
        text=properties.get("payload_format_indicator") == 1,
    )
    pairs = cast("list[tuple[str, str]]", properties.get("user_property", []))
    types = {name[len(_TYPE) :]: value for name, value in pairs if name.startswith(_TYPE)}
    headers: list[tuple[str, HeaderValue]] = []
    for name, value in pairs:
        if name == DELAY:
            made.delay_ms = _delay(value)
            continue
        attribute = _ATTRIBUTE_OF.get(name)
        if attribute is not None and getattr(made, attribute) in (None, ()):
            parsed = _parse_parked(attribute, value)
            if parsed is not None:
                setattr(made, attribute, parsed)
                continue
            if attribute == "deliver_at_ms":
                made.delay_ms = INVALID_DELAY  # better refused than published at once
        if not name.startswith(_TYPE):
            headers.append((name, from_text(value, types.get(name))))
    made.headers = tuple(headers)
    if any(name == "specversion" for name, _ in headers):
        _take_event(made)
    own = {name: value for name, value in properties.items() if name not in _LOCAL}
    made.native = _block(own)
    made.native_format = NATIVE
    return made


def _take_event(made: ModelProperties) -> None:
    """Mark the attributes of a CloudEvent, which have no prefix here, if it is one."""
    headers = made.headers
    try:
        cloudevents.check(
            [(name, cloudevents.text_of(v)) for name, v in headers if cloudevents.is_name(name)]
        )
    except InvalidValue:
        return
    made.headers = tuple(
        (cloudevents.PREFIX + name, cloudevents.text_of(value))
        if cloudevents.is_name(name)
        else (name.removeprefix(ESCAPED), value)
        for name, value in headers
    )
    cloudevents.adopt(made)


#: What concerns one connection or one moment and is not passed on with the rest.
_LOCAL: Final = frozenset(
    ("topic_alias", "message_expiry_interval", "subscription_identifier", "will_delay_interval")
)


def _parse_parked(attribute: str, value: str) -> object:
    if attribute in _INTEGERS:
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None
    if attribute == "keys":
        return tuple(value.split(" ")) if value else None
    return value


def _delay(value: str) -> int:
    try:
        return parse_delay(value, DELAY)
    except InvalidValue:
        return INVALID_DELAY  # the publish is refused: see Session.publish


def from_properties(made: ModelProperties) -> tuple[Properties, list[str]]:
    """Return (MQTT properties of a PUBLISH, names of what could not be carried)."""
    properties: Properties = {}
    lost: list[str] = []
    if made.text:
        properties["payload_format_indicator"] = 1
    if made.content_type is not None and _fits(made.content_type, "content_type", lost):
        properties["content_type"] = made.content_type
    if made.reply_to is not None and _fits(made.reply_to, "reply_to", lost):
        if made.reply_to and "+" not in made.reply_to and "#" not in made.reply_to:  # [MQTT-3.3.2-14]
            properties["response_topic"] = made.reply_to
        else:
            lost.append("reply_to")
    if made.correlation is not None:
        if len(made.correlation) <= STRING_BYTES_MAX:
            properties["correlation_data"] = made.correlation
        else:
            lost.append("correlation")
    pairs = _pairs(made)
    pairs = [pair for pair in pairs if _fits(pair[0], pair[0], lost) and _fits(pair[1], pair[0], lost)]
    if pairs:
        properties["user_property"] = pairs
    return properties, lost


def _pairs(made: ModelProperties) -> list[tuple[str, str]]:
    """Return the user properties; in a CloudEvent, other headers must not look like its attributes."""
    event = cloudevents.attributes_of(made)
    if event is None:
        return _parked_pairs(made) + _header_pairs(made.headers)
    parked = [pair for pair in _parked_pairs(made) if pair[0] not in event]
    others = [
        (ESCAPED + name if cloudevents.is_name(name) else name, value)
        for name, value in cloudevents.others_of(made)
    ]
    return parked + list(event.items()) + _header_pairs(tuple(others))


def _parked_pairs(made: ModelProperties) -> list[tuple[str, str]]:
    pairs = []
    for attribute, name in PARKED.items():
        value = getattr(made, attribute)
        if value is None or value == ():
            continue
        pairs.append((name, " ".join(value) if attribute == "keys" else str(value)))
    return pairs


def _header_pairs(headers: tuple[tuple[str, HeaderValue], ...]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in headers:
        text, kind = to_text(value)
        pairs.append((name, text))
        if kind:
            pairs.append((_TYPE + name, kind))
    return pairs


def _fits(text: str, name: str, lost: list[str]) -> bool:
    good = len(text.encode("utf-8", "replace")) <= STRING_BYTES_MAX and "\0" not in text
    if not good:
        lost.append(name)
    return good


def _block(properties: Properties) -> bytes:
    """Encode without the length in front."""
    encoded = encode_properties(PUBLISH, properties)
    start = 0
    while encoded[start] & 0x80:
        start += 1
    return encoded[start + 1 :]


def publish_block(message: Message, ids: tuple[int, ...], alias: int, now_ms: int, attempt: int = 1) -> bytes:
    """Return the property block of a PUBLISH to a MQTT 5 subscriber, length included.

    An `attempt` after the first is told in a user property.
    """
    made = message.properties
    if made is NO_PROPERTIES and not ids and not alias and not message.expires_at_ms and attempt < 2:
        return b"\x00"
    body = made.native
    if made.native_format != NATIVE or body is None:
        body = _block(from_properties(made)[0])
        if made.native is None and made is not NO_PROPERTIES:
            made.native, made.native_format = body, NATIVE  # an encoding, not a change
    local: Properties = {}
    if message.expires_at_ms:
        # [MQTT-3.3.2-6]: what is left of it; a started second still counts.
        local["message_expiry_interval"] = max(1, (message.expires_at_ms - now_ms + 999) // 1000)
    if alias:
        local["topic_alias"] = alias
    if ids:
        local["subscription_identifier"] = list(ids)
    if attempt > 1:
        local["user_property"] = [(ATTEMPT, str(attempt))]
    if local:
        body += _block(local)
    return write_varint(len(body)) + body
