"""Publishes that are more than a body and a number: envelopes, SenML packs, configured topics."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.api import Session
from gateway.core.clock import Clock
from gateway.core.errors import InvalidValue
from gateway.core.message import Message, Properties

from ..answers import Refused
from ..content.formats import CBOR, JSON, NONE, content_of, number_of
from ..content.splitting import Rule, split
from ..content.translate import from_envelope
from ..exchange import Request
from ..numbers import NOT_ACCEPTABLE, UNSUPPORTED_CONTENT_FORMAT
from ..pubsub.topic_config import TopicConfig
from .targets import Target


def check_format(config: TopicConfig | None, content_format: int) -> None:
    """Raise Refused (4.15) if a topic is configured for another format than that of a publish."""
    if config is None or config.content_format in (NONE, content_format):
        return
    wanted = config.content_format
    said = "none" if content_format == NONE else str(content_format)
    raise Refused(
        UNSUPPORTED_CONTENT_FORMAT,
        f"topic {config.topic!r} is of Content-Format {wanted} ({content_of(wanted)[0]}), not {said}",
    )


def envelope_format(accept: int) -> int:
    """Return the Content-Format of an envelope that a client wants. Raise Refused (4.06)."""
    if accept in (NONE, JSON):
        return JSON
    if accept == CBOR:
        return CBOR
    raise Refused(NOT_ACCEPTABLE, f"envelopes are of Content-Format {JSON} (JSON) or {CBOR} (CBOR)")


def read_message(
    session: Session, request: Request, target: Target, clock: Clock, config: TopicConfig | None
) -> Message:
    """Return the message in an envelope; what the query says goes before. Raise InvalidValue or Refused."""
    content = from_envelope(request.payload, request.options.content_format)
    properties = content.properties
    check_format(config, number_of(properties.content_type, properties.content_encoding))
    for name in ("key", "tag", "message_id", "idempotency_key", "deliver_at_ms"):
        said = getattr(target, name)
        if said is not None:
            setattr(properties, name, said)
    if target.delay_ms:
        properties.delay_ms, properties.deliver_at_ms = target.delay_ms, None
    ttl_ms = target.ttl_ms or content.ttl_ms
    return Message(
        target.topic,
        content.body,
        content.qos if target.qos < 0 else target.qos,
        content.retain or target.retain or config is not None,
        properties,
        session.origin,
        clock.wall_ms,
        clock.now_ms + ttl_ms if ttl_ms else 0,
    )


def publish_pack(
    session: Session,
    rule: Rule,
    request: Request,
    target: Target,
    clock: Clock,
    configured: Mapping[str, TopicConfig],
) -> int:
    """Publish the records of a SenML pack, all or none; return the position to wait for, 0 if none.

    Raise InvalidValue naming the record, Refused (a topic of another format), or what publishing raises.
    """
    if target.message_id is not None or target.idempotency_key is not None:
        raise InvalidValue("message_id and idempotency_key are of one message; a pack becomes several")
    parts = split(rule, target.topic, request.payload, request.options.content_format, clock.wall_ms)
    qos = target.qos if target.qos >= 0 else int(request.confirmable)
    expires_at_ms = clock.now_ms + target.ttl_ms if target.ttl_ms else 0
    messages = []
    for part in parts:
        config = configured.get(part.topic)
        check_format(config, number_of(part.properties.content_type))
        _say(part.properties, target)
        messages.append(
            Message(
                part.topic,
                part.body,
                qos,
                target.retain or config is not None,
                part.properties,
                session.origin,
                clock.wall_ms,
                expires_at_ms,
            )
        )
    positions = session.transact([(message, None) for message in messages], [])
    return session.broker.engine.position() if any(position > 0 for position in positions) else 0


def _say(properties: Properties, target: Target) -> None:
    properties.key = target.key
    properties.tag = target.tag
    properties.deliver_at_ms = target.deliver_at_ms
    properties.delay_ms = target.delay_ms
