"""`/ps/<topic>`: PUT and POST publish, GET reads the value or observes, DELETE clears it.

Confirmable means stored: the answer comes when the disk has the message, as far as its queues want
that. What is not confirmable is published at most once, if it does not say `qos` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from gateway.api import NO_SUBSCRIBERS, Gateway, Session
from gateway.core.access import Action
from gateway.core.errors import InvalidTopic, NotFound, NotStored
from gateway.core.last import value_of
from gateway.core.message import NO_PROPERTIES, Message

from ..answers import Refused, answer_to, wrong_method
from ..clients import Client
from ..codec import Options
from ..content.splitting import Rule, rule_for
from ..exchange import Request, Response
from ..numbers import (
    CHANGED,
    CONTENT,
    CREATED,
    DELETE,
    DELETED,
    GET,
    POST,
    PRECONDITION_FAILED,
    PUT,
)
from ..pubsub.pubsub import PubSub
from ..queues.pending import Pending
from ..queues.pulls import Want
from .publishing import check_format, publish_pack, read_message
from .representation import entity_tag, represent
from .targets import Target, target_of

METHODS: Final = "GET, PUT, POST and DELETE"

_CHANGED: Final = Response(CHANGED)
_CREATED: Final = Response(CREATED)


class Observing(Protocol):
    """Whoever takes observations (see observe)."""

    def register(self, client: Client, request: Request, target: Target) -> None: ...

    def deregister(self, client: Client, request: Request) -> None: ...

    def end_session(self, client: Client, target: Target) -> None: ...


class Topics:
    """Implements `resources.Resource`."""

    __slots__ = (
        "_collection",
        "_configurations",
        "_configured",
        "_gateway",
        "_observing",
        "_packs",
        "_pending",
    )

    def __init__(
        self,
        gateway: Gateway,
        observing: Observing,
        packs: Sequence[Rule],
        collection: PubSub,
        pending: Pending,
    ) -> None:
        self._gateway = gateway
        self._observing = observing
        self._packs = packs
        self._pending = pending
        self._collection = collection
        self._configurations = collection.configurations
        self._configured = collection.configurations.by_topic

    def serve(self, client: Client, request: Request) -> None:
        code = request.code
        if len(request.options.path) == 1 and request.options.observe < 0:
            self._collection.serve(client, request)
            return
        target = target_of(request.options)
        if code in (PUT, POST):
            self._publish(client, request, target)
        elif code == GET:
            self._get(client, request, target)
        elif code == DELETE:
            self._clear(client, request, target)
        else:
            request.respond(wrong_method(METHODS))

    # -- publish ------------------------------------------------------------------------------

    def _publish(self, client: Client, request: Request, target: Target) -> None:
        _check_topic(target)
        options = request.options
        if options.if_match or options.if_none_match:
            self._check_conditions(client.session, options, target.topic)
        topic = target.topic
        if self._configured and not target.meta:
            check_format(self._configured.get(topic), options.content_format)
        if self._packs and not target.meta:
            rule = rule_for(self._packs, topic, options.content_format)
            if rule is not None:
                session = client.session
                want = self._pending.want(session, request, target)
                position = publish_pack(session, rule, request, target, self._gateway.clock, self._configured)
                self.when_stored(client, request, position, _CHANGED, want)
                return
        answer = _CHANGED if self._configurations.has_value(topic) else _CREATED
        self.publish(client, request, target, answer)

    def publish(self, client: Client, request: Request, target: Target, answer: Response) -> None:
        """Publish; answer when that is stored, with a command if one was asked for. Raise GatewayError."""
        session = client.session
        want = self._pending.want(session, request, target)
        message = self.message(session, request, target)
        if target.idempotency_key is not None:
            position = session.publish_once(message).position
        else:
            position = session.publish(message)
        self.when_stored(client, request, position, answer, want)

    def message(self, session: Session, request: Request, target: Target) -> Message:
        """Return the message that a request describes."""
        clock = self._gateway.clock
        qos = target.qos
        if target.meta:
            return read_message(session, request, target, clock, self._configured.get(target.topic))
        if qos < 0:
            qos = 1 if request.confirmable else 0
        expires_at_ms = clock.now_ms + target.ttl_ms if target.ttl_ms else 0
        return Message(
            target.topic,
            request.payload,
            qos,
            target.retain or target.topic in self._configured,
            target.properties,
            session.origin,
            clock.wall_ms,
            expires_at_ms,
        )

    def when_stored(
        self, client: Client, request: Request, position: int, answer: Response, want: Want | None = None
    ) -> None:
        """Answer when everything up to `position` is stored, with what is wanted besides."""

        def stored(done: bool) -> None:
            if not done:
                request.respond(answer_to(not_stored()))
            elif want is None:
                request.respond(answer)
            else:
                self._pending.answer(client, request, want, answer)

        if position <= 0:
            assert position in (0, NO_SUBSCRIBERS)
            stored(True)
            return
        self._gateway.when_durable(position, stored)

    def _check_conditions(self, session: Session, options: Options, topic: str) -> None:
        """Raise Refused if If-Match or If-None-Match do not hold (RFC 7252, 5.10.8)."""
        found = value_of(session, topic)
        if options.if_none_match and found is not None:
            raise Refused(PRECONDITION_FAILED, f"topic {topic!r} has a value already")
        if options.if_match:
            tag = entity_tag(found[0]) if found is not None else None
            if tag is None or not (tag in options.if_match or b"" in options.if_match):
                raise Refused(PRECONDITION_FAILED, f"topic {topic!r} has another value than If-Match says")

    # -- values -------------------------------------------------------------------------------

    def _get(self, client: Client, request: Request, target: Target) -> None:
        observe = request.options.observe
        if observe == 0:
            self._observing.register(client, request, target)
            return
        if observe == 1:
            self._observing.deregister(client, request)
            if target.session is not None:
                self._observing.end_session(client, target)
            if not target.topic or target.session is not None:
                request.respond(Response(CONTENT))
                return
        _check_topic(target)
        found = value_of(client.session, target.topic)
        if found is None:
            raise NotFound(f"topic {target.topic!r} has no value: nothing was published, or retained")
        request.respond(represent(request.options, found[0], self._gateway.clock.now_ms))

    def _clear(self, client: Client, request: Request, target: Target) -> None:
        _check_topic(target)
        session = client.session
        topic = target.topic
        session.check(Action.PUBLISH, topic)
        if request.options.if_match:
            self._check_conditions(session, request.options, topic)
        broker = session.broker
        there = broker.retained.get(topic) is not None
        if topic in self._configured:
            there = self._configurations.has_value(topic)
        if not there:  # a DELETE of nothing has done what it should (5.8.4)
            request.respond(Response(DELETED))
            return
        message = Message(topic, b"", 1, True, NO_PROPERTIES, session.origin, broker.clock.wall_ms)
        self.when_stored(client, request, session.publish(message), Response(DELETED))


def not_stored() -> NotStored:
    """Return what a publisher is told whose message is not on disk."""
    return NotStored("the message could not be written to disk; try again later")


def _check_topic(target: Target) -> None:
    if not target.topic:
        raise InvalidTopic("the path names no topic; /ps/a/b is the topic a/b")
    if target.filter is not None:
        raise InvalidTopic("a filter is for observing: GET with Observe 0")
