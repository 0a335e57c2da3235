"""QueryRoute and QueryAssignment: a topic has one queue, on one broker, which is this gateway.

What a client is told is the same each time, byte for byte: clients compare it. The address is the one that
the client has dialled, as it says itself, unless the configuration names another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.api import Gateway, NotAuthorized
from gateway.core.access import Action
from gateway.rocketmq.numbers import Code, MessageType, Permission
from gateway.rocketmq.schema import CLASSES, MessageQueue, Status

from ..call import Call, Handler
from ..clients.groups import Groups
from ..names import group_of, named

BROKER: Final = "gateway"
ACCEPTED: Final = (
    MessageType.NORMAL,
    MessageType.FIFO,
    MessageType.DELAY,
    MessageType.TRANSACTION,
    MessageType.PRIORITY,
)

OK: Final = Status(code=Code.OK)


class Routing:
    """A `Part`."""

    def __init__(self, gateway: Gateway, groups: Groups, settings: Any) -> None:
        self._gateway = gateway
        self._groups = groups
        self._settings = settings

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {"QueryRoute": self.query_route, "QueryAssignment": self.query_assignment}

    async def query_route(self, call: Call, request: Any) -> Any:
        """Return the queues of a topic. Raise NotAuthorized if the client may do nothing with it."""
        found = named(call.client, request.topic)
        if not found.group:
            session = call.session
            if not any(session.may(action, found.topic) for action in (Action.PUBLISH, Action.SUBSCRIBE)):
                raise NotAuthorized(f"you may neither publish to {found.topic!r} nor subscribe to it")
        queue = self._queue(request.topic, request.endpoints)
        return CLASSES["QueryRouteResponse"](status=OK, message_queues=[queue])

    async def query_assignment(self, call: Call, request: Any) -> Any:
        """Return the queues that a push consumer is to ask: the one that there is."""
        group_of(request.group)
        named(call.client, request.topic)
        queue = self._queue(request.topic, request.endpoints)
        assignment = CLASSES["Assignment"](message_queue=queue)
        return CLASSES["QueryAssignmentResponse"](status=OK, assignments=[assignment])

    def _queue(self, topic: Any, endpoints: Any) -> Any:
        queue = MessageQueue(
            id=0, permission=Permission.READ_WRITE, accept_message_types=[int(kind) for kind in ACCEPTED]
        )
        queue.topic.CopyFrom(topic)
        queue.broker.name = BROKER
        queue.broker.endpoints.CopyFrom(endpoints)
        return queue
