"""QueryRoute and QueryAssignment: a topic has one queue, on one broker, which is this gateway.

What a client is told is the same each time, byte for byte: clients compare it. One queue, number 0, does
for groups in order as for others: which message is whose next is decided here, for each message group. The
address is the one that the client has dialled, as it says itself, unless the configuration names another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.api import Gateway, queue_resource
from gateway.core.access import Action, check_open
from gateway.core.deadletter import home
from gateway.core.topic import QUEUE_PREFIX
from gateway.rocketmq.names import DEAD_LETTERS, share_of
from gateway.rocketmq.numbers import Code, MessageType, Permission
from gateway.rocketmq.schema import CLASSES, MessageQueue, Status

from ..call import Call, Handler
from ..existence import Existence
from ..names import Named, group_of, named, queue_name
from .addresses import Addresses

BROKER: Final = "gateway"
ACCEPTED: Final = tuple(
    int(kind)
    for kind in (
        MessageType.NORMAL,
        MessageType.FIFO,
        MessageType.DELAY,
        MessageType.TRANSACTION,
        MessageType.PRIORITY,
    )
)

OK: Final = Status(code=Code.OK)


class Routing:
    """A `Part`."""

    def __init__(self, gateway: Gateway, existence: Existence, addresses: Addresses) -> None:
        self._broker = gateway.broker
        self._existence = existence
        self._addresses = addresses

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {"QueryRoute": self.query_route, "QueryAssignment": self.query_assignment}

    async def query_route(self, call: Call, request: Any) -> Any:
        """Return the queues of a topic. Raise NotAuthorized if the client may do nothing with it."""
        found = named(call.client, request.topic)
        if found.group:
            self._existence.check_group(found.group)
        else:
            self._check_use(call, found.topic)
            self._existence.check_topic(found.topic)
        queue = self._queue(call, request, found)
        return CLASSES["QueryRouteResponse"](status=OK, message_queues=[queue])

    async def query_assignment(self, call: Call, request: Any) -> Any:
        """Return the queues that a push consumer is to ask: the one that there is."""
        group = group_of(request.group)
        found = named(call.client, request.topic)
        if found.group:
            self._check_letters(call, found)
        else:
            call.session.check_consume(queue_name(group, found.topic))
            self._existence.check_topic(found.topic)
        self._existence.check_group(group)
        assignment = CLASSES["Assignment"](message_queue=self._queue(call, request, found))
        return CLASSES["QueryAssignmentResponse"](status=OK, assignments=[assignment])

    def _check_use(self, call: Call, topic: str) -> None:
        session = call.session
        if topic.startswith(QUEUE_PREFIX):
            if session.may(Action.PUBLISH, topic) or session.may(Action.CONSUME, topic):
                return
        else:
            if topic.startswith("$") and topic.partition("/")[0] not in self._broker.addresses:
                check_open(topic)
            if session.may(Action.PUBLISH, topic) or session.may(Action.SUBSCRIBE, topic):
                return
        session.check(Action.PUBLISH, topic)

    def _check_letters(self, call: Call, found: Named) -> None:
        """Raise NotAuthorized if a group has dead letters and the client may read none of them."""
        if found.kind != DEAD_LETTERS:
            return
        prefix = home(share_of(found.group, ""))
        resources = [queue_resource(name) for name in self._broker.catalog.queues if name.startswith(prefix)]
        if resources and not any(call.session.may(Action.CONSUME, resource) for resource in resources):
            call.session.check(Action.CONSUME, resources[0])

    def _queue(self, call: Call, request: Any, found: Named) -> Any:
        queue = MessageQueue(
            id=0,
            permission=Permission.READ if found.group else Permission.READ_WRITE,
            accept_message_types=ACCEPTED,
        )
        queue.topic.CopyFrom(request.topic)
        queue.broker.name = BROKER
        queue.broker.endpoints.CopyFrom(self._addresses.tell(request.endpoints, call.secure))
        return queue
