"""Which stream has the offsets of a topic: the one of its name, made when it is first asked for."""

from __future__ import annotations

import secrets
from typing import Any, Final

from gateway.api import Consumer, NotAuthorized, NotFound, Selector, Session, group_resource
from gateway.core.access import Action
from gateway.core.policy import QueuePolicy
from gateway.core.router import Binding
from gateway.core.stream import StreamQueue
from gateway.rocketmq.numbers import Code

from ..clients.client import Client
from ..errors import Refused
from ..existence import Existence
from ..names import QUEUE_PREFIX, named
from ..receiving.sources import Deliver, Source, fitting

OWN_PREFIX: Final = "$rocketmq-"  # groups of one request; the broker does not write down their cursor
HOUR_MS: Final = 3_600_000


class Streams:
    """The streams of topics. `retention_hours` is what a new one keeps, 0 for all."""

    def __init__(self, retention_hours: float, existence: Existence) -> None:
        self._policy = QueuePolicy(max_age_ms=round(retention_hours * HOUR_MS))
        self._existence = existence

    def find(self, client: Client, topic: Any, group: str = "") -> StreamQueue:
        """Return a topic's stream, for somebody who may consume it. Raise a GatewayError."""
        found = named(client, topic)
        if found.group:
            raise Refused(Code.ILLEGAL_TOPIC, f"{found.topic!r} has no offsets; receive from it")
        self._existence.check_topic(found.topic)
        session = client.session
        name = found.topic.removeprefix(QUEUE_PREFIX)
        if name.startswith("$"):
            raise NotAuthorized(f"{name!r}: the gateway's own queues and topics have no offsets")
        session.check_consume(name, group)
        queue = session.broker.catalog.queues.get(name)
        if queue is None:
            return self._made(session, found.topic)
        if not isinstance(queue, StreamQueue):
            raise Refused(Code.ILLEGAL_TOPIC, f"queue {name!r} is {queue.kind}; only a stream has offsets")
        return queue

    def _made(self, session: Session, topic: str) -> StreamQueue:
        session.check(Action.SUBSCRIBE, topic)
        session.check_queues()
        catalog = session.broker.catalog
        queue, _ = catalog.declare(topic, "stream", self._policy, creator=session.origin)
        catalog.bind(queue, Binding(topic, queue))
        assert isinstance(queue, StreamQueue)
        return queue


class Reader(Source):
    """Reads a stream from an offset on, as nobody's group: what it reads is settled for nobody."""

    __slots__ = ("_group", "_session", "name", "stream")

    def __init__(
        self,
        session: Session,
        group: str,
        topic: str,
        stream: StreamQueue,
        offset: int,
        selector: Selector | None,
    ) -> None:
        super().__init__(group, topic, selector)
        self._session = session
        self.stream = stream
        self.name = OWN_PREFIX + secrets.token_hex(8)
        self._group = stream.group(self.name, offset)

    def consume(self, session: Session, deliver: Deliver, count: int) -> list[Consumer]:
        stream = self.stream
        if session.broker.catalog.queues.get(stream.name) is not stream:
            raise NotFound(f"queue {stream.name!r} was deleted")
        resource = group_resource(stream.name, self.group)
        window = fitting(stream, count)
        return [session.consume_shared(stream, deliver, window, self.name, resource, self.selector)]

    def next_offset(self) -> int:
        """Return how far it has looked, but for what was given back."""
        group = self._group
        return min((delivery.offset for delivery in group.redeliver), default=group.cursor)

    def leave(self) -> None:
        """It is not read any more."""
        self._session.broker.catalog.remove_group(self.stream, self._group)
