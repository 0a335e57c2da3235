"""ReceiveMessage: what a client asks for, and how much of it is granted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from gateway.api import Gateway
from gateway.core import lease
from gateway.rocketmq.names import DEAD_LETTERS
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.payload import to_ms

from ..call import Call, Handler
from ..clients.client import Client
from ..errors import Refused
from ..existence import Existence
from ..names import QUEUE_PREFIX, group_of, named, namespace_of
from .consuming import Consumers, Consuming
from .letters import LetterQueues, Letters
from .poll import Poll, Terms
from .sources import Declared, Share, Source, selector_for

BATCH_MAX: Final = 1024  # messages of one answer: RocketMQ's brokers give 32
ATTEMPT_ID_MAX: Final = 128  # characters; a UUID has 36
DEADLINE_SECONDS: Final = 0.5  # before its deadline a client has its answer, or it would give up first


class Receiving:
    """A `Part`."""

    def __init__(self, gateway: Gateway, consumers: Consumers, existence: Existence, settings: Any) -> None:
        self._gateway = gateway
        self._invisible_ms = round(settings.invisible_seconds * 1000)
        self._renew_ms = round(settings.renew_seconds_max * 1000)
        self._wait_seconds_max = float(settings.long_poll_seconds_max)
        self._letters = LetterQueues(gateway.broker.catalog)
        self._consumers = consumers
        self._existence = existence

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {"ReceiveMessage": self.receive}

    async def receive(self, call: Call, request: Any) -> None:
        """Wait for messages as long as the client does, and send them."""
        client = call.client
        consuming = self._consumers.of(client)
        queue = request.message_queue
        source = self._source(client, consuming, request.group, queue.topic, request.filter_expression)
        terms = self._terms(call, request)
        poll = Poll(self._gateway, source)
        earlier = None
        if request.attempt_id:
            earlier = source.attempt(str(request.attempt_id)[:ATTEMPT_ID_MAX], poll)
            if earlier is not None:
                earlier.stop(call.session)
        consuming.polls.add(poll)
        try:
            await poll.run(call, terms, earlier)
        finally:
            consuming.polls.discard(poll)

    def subscribe(self, client: Client, group: Any, topic: Any, expression: Any) -> None:
        """A consumer has said what it will receive: have it wait from now on. Raise a GatewayError."""
        self._source(client, self._consumers.of(client), group, topic, expression).open(client.session)

    def _source(
        self, client: Client, consuming: Consuming, group: Any, topic: Any, expression: Any
    ) -> Source:
        key = (group.name, namespace_of(client, topic), topic.name)
        kind, text = expression.type, expression.expression
        source = consuming.source(key, kind, text)
        if source is None:
            source = self._found(client, group_of(group), topic, expression)
            consuming.keep(key, kind, text, source)
        return source

    def _found(self, client: Client, group: str, topic: Any, expression: Any) -> Source:
        found = named(client, topic)
        if not found.group:
            self._existence.check_topic(found.topic)
        self._existence.check_group(group)
        if found.group:
            if found.kind == DEAD_LETTERS:
                namespace = namespace_of(client, topic)
                return Letters(group, found.topic, found.group, namespace, self._letters)
            return Source(group, found.topic)
        selector = selector_for(self._gateway.broker.selectors, expression)
        if found.topic.startswith(QUEUE_PREFIX):
            return Declared(group, found.topic, selector)
        return Share(group, found.topic, selector, partial(self._consumers.defended, client))

    def _terms(self, call: Call, request: Any) -> Terms:
        """Return what is granted. Raise Refused."""
        renewed = request.auto_renew
        invisible_ms = self._invisible_ms
        if request.HasField("invisible_duration") and not renewed:
            invisible_ms = checked_invisible_ms(request.invisible_duration, 1)
        return Terms(
            request.message_queue.topic,
            request.message_queue.id,
            max(1, min(request.batch_size, BATCH_MAX)),
            wait_seconds(call, request, self._wait_seconds_max),
            invisible_ms,
            self._renew_ms if renewed else invisible_ms,
            renewed,
        )


def wait_seconds(call: Call, request: Any, seconds_max: float) -> float:
    """Return for how long a request may wait: as it asks, and so that the answer is in time."""
    seconds = seconds_max
    if request.HasField("long_polling_timeout"):
        seconds = min(seconds, to_ms(request.long_polling_timeout) / 1000)
    left = call.seconds_left()
    if left is not None:
        seconds = min(seconds, left - DEADLINE_SECONDS)
    return max(0.0, seconds)


def checked_invisible_ms(duration: Any, least_ms: int) -> int:
    """Return for how long a message is to be invisible. Raise Refused (ILLEGAL_INVISIBLE_TIME)."""
    invisible_ms = to_ms(duration)
    if not least_ms <= invisible_ms <= lease.SECONDS_MAX * 1000:
        raise Refused(
            Code.ILLEGAL_INVISIBLE_TIME,
            f"invisible_duration: {least_ms} ms to {lease.SECONDS_MAX / 3600:g} h are possible, "
            f"not {invisible_ms} ms",
        )
    return invisible_ms
