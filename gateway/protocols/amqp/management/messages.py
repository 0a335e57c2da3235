"""Publishing and getting single messages by the management API: for people and their tests."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from gateway.api import NO_SUBSCRIBERS
from gateway.core.delivery import Delivery
from gateway.core.errors import InvalidValue
from gateway.core.message import Message, Outcome
from gateway.core.session import Session
from gateway.core.values import from_json, to_json

from ..declared import Declared
from ..exchanges import Exchange
from ..letters import read_address
from ..methods import shortstr
from ..properties import PERSISTENT, Basic, decode_list, encode_list
from ..tables import decode_table, encode_table
from ..translate import to_properties
from ..vhost import Vhost

NUMBER_MAX: Final = 50_000  # messages of one answer, or bytes of each
_TEXTS: Final = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
_NUMBERS: Final = ("delivery_mode", "priority", "timestamp")
MODES: Final = {
    "ack_requeue_true": Outcome.REQUEUE,
    "reject_requeue_true": Outcome.REQUEUE,
    "ack_requeue_false": Outcome.ACK,
    "reject_requeue_false": Outcome.REJECT,
}


def publish_message(vhost: Vhost, exchange: Exchange, session: Session, fields: dict[str, Any]) -> Any:
    """POST /api/exchanges/<vhost>/<name>/publish. Raise InvalidValue or what publishing raises."""
    key, payload = fields.get("routing_key", ""), fields.get("payload", "")
    if not isinstance(key, str) or not isinstance(payload, str):
        raise InvalidValue("routing_key and payload are texts")
    try:
        encoded = fields.get("payload_encoding", "string") == "base64"
        body = base64.b64decode(payload, validate=True) if encoded else payload.encode()
    except binascii.Error as error:
        raise InvalidValue(f"payload: {error}") from error
    basic = _basic(fields.get("properties") or {})
    raw = encode_list(basic)
    address = shortstr(exchange.name) + shortstr(key)
    clock = vhost.broker.clock
    message = Message(
        exchange.topic_of(key),
        body,
        1 if basic.delivery_mode == PERSISTENT else 0,
        False,
        to_properties(vhost.name, address, raw, basic),
        session.origin,
        clock.wall_ms,
        clock.now_ms + int(basic.expiration) if basic.expiration else 0,
    )
    route = vhost.route(exchange, message.topic, [key], message) if exchange.name else None
    return {"routed": session.publish(message, route) != NO_SUBSCRIBERS}


def _basic(fields: dict[str, Any]) -> Basic:
    basic = Basic()
    for name in _TEXTS:
        if name in fields:
            setattr(basic, name, str(fields[name]).encode()[:255])
    for name in _NUMBERS:
        if name in fields:
            if not isinstance(fields[name], int) or not 0 <= fields[name] < 1 << 63:
                raise InvalidValue(f"properties.{name}: a whole number is expected")
            setattr(basic, name, fields[name])
    if "headers" in fields:
        basic.headers = encode_table(from_json(fields["headers"]))
    if basic.expiration is not None and not basic.expiration.isdigit():
        raise InvalidValue("properties.expiration: milliseconds are expected")
    return basic


def get_messages(vhost: Vhost, declared: Declared, session: Session, fields: dict[str, Any]) -> Any:
    """POST /api/queues/<vhost>/<name>/get. Raise InvalidValue, NotAuthorized or Conflict."""
    count, mode = _number(fields, "count", 1), fields.get("ackmode", "ack_requeue_true")
    if mode not in MODES:
        raise InvalidValue(f"ackmode: one of {', '.join(MODES)} is expected")
    fetcher = session.fetcher()
    taken: list[Delivery] = []
    while len(taken) < count and (delivery := session.fetch(fetcher, declared.queue.name)) is not None:
        taken.append(delivery)
    left = declared.queue.length()
    found = [_shown(vhost, delivery, fields, left) for delivery in taken]
    for delivery in reversed(taken):
        session.settle(delivery, MODES[mode], 0)
    return found


def _number(fields: dict[str, Any], name: str, default: int) -> int:
    """Return a number, which some tools write as text."""
    value = fields.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= NUMBER_MAX:
        raise InvalidValue(f"{name}: 0 to {NUMBER_MAX} is expected")
    return value


def _shown(vhost: Vhost, delivery: Delivery, fields: dict[str, Any], left: int) -> dict[str, Any]:
    message = delivery.message
    address, raw = vhost.content_of(message)
    exchange, key = read_address(address)
    basic = decode_list(raw)
    made: dict[str, Any] = {}
    for name in (*_TEXTS, *_NUMBERS):
        value = getattr(basic, name)
        if value is not None:
            made[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if basic.headers is not None:
        made["headers"] = to_json(decode_table(basic.headers)[0])
    body = message.body
    if "truncate" in fields:
        body = body[: _number(fields, "truncate", 0)]
    text = _as_text(body) if fields.get("encoding", "auto") == "auto" else None
    return {
        "payload_bytes": len(message.body),
        "redelivered": delivery.attempt > 1,
        "exchange": exchange,
        "routing_key": key,
        "message_count": left,
        "properties": made,
        "payload": base64.b64encode(body).decode() if text is None else text,
        "payload_encoding": "base64" if text is None else "string",
    }


def _as_text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
