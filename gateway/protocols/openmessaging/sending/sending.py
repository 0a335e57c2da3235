"""SendMessage: one message or many, each with a result of its own.

All messages of a request are published in one turn, and one sync of the disk answers for them: nothing is OK
that is not stored. What a client sends again because an answer was lost has the same message id, and is
published once (see `core.dedup`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.api import Gateway, GatewayError, NotAuthorized, NotStored
from gateway.core.engine import stored_at
from gateway.core.message import Message, Properties, wants_later
from gateway.core.once import Published
from gateway.core.schedules import DISTANCE_MS_MAX
from gateway.core.stream import StreamQueue
from gateway.core.topic import QUEUE_PREFIX
from gateway.rocketmq.numbers import Code, MessageType
from gateway.rocketmq.schema import CLASSES, Status

from ..call import Call, Handler
from ..clients.client import Client
from ..clients.logins import Logins
from ..errors import Refused, code_of
from ..existence import Existence
from ..names import topic_of
from ..refusals import Refusals
from ..translate import data_of, to_properties
from .checks import body_of, check_message
from .gate import Gate
from .recall import Recall
from .transactions import Transactions

REQUEST_BYTES_MAX: Final = 16 << 20  # of its bodies, unpacked: a turn has them all in memory
MESSAGES_MAX: Final = 1024  # of one request, which is one turn: some 30 ms, others have theirs
OWN_QUEUES: Final = QUEUE_PREFIX + "$"
TOO_MUCH: Final = f"the messages of a request have more than {REQUEST_BYTES_MAX} bytes; send some in another"
TOPICS_MAX: Final = 10_000  # names that are remembered

OK: Final = Status(code=Code.OK)
TRANSACTION: Final = int(MessageType.TRANSACTION)  # numbers: enumerations are slower to compare and to hash
STORED: Final = int(Code.OK)
_SendMessageResponse: Final = CLASSES["SendMessageResponse"]


class Sending:
    """A `Part`."""

    def __init__(
        self, gateway: Gateway, settings: Any, logins: Logins, existence: Existence, refusals: Refusals
    ) -> None:
        self._gateway = gateway
        self._existence = existence
        self._broker = gateway.broker
        self._clock = gateway.clock
        self._body_bytes_max: int = settings.body_bytes_max
        self._refusals = refusals
        self._gate = Gate(gateway)
        self._recall = Recall(gateway)
        self._transactions = Transactions(gateway, logins)
        self._topics: dict[tuple[str, str, str], str] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {"SendMessage": self.send, **self._recall.handlers(), **self._transactions.handlers()}

    async def send(self, call: Call, request: Any) -> Any:
        """Publish messages, and answer when they are stored."""
        messages = request.messages
        if len(messages) != 1:
            return await self._send_many(call, messages)
        await self._gate.enter()
        response = _SendMessageResponse(status=OK)
        client, wire = call.client, messages[0]
        position = self._publish(client, wire, self._message(client, wire), response.entries.add(status=OK))
        if position > 0:
            await self._gate.durable(position)
        return response

    async def _send_many(self, call: Call, messages: Any) -> Any:
        """Publish many; what is wrong with one is said of that one."""
        if not 0 < len(messages) <= MESSAGES_MAX:
            raise Refused(
                Code.BAD_REQUEST, f"{len(messages)} messages; 1 to {MESSAGES_MAX} of one request are expected"
            )
        await self._gate.enter(len(messages))
        response = _SendMessageResponse()
        client, entries, last, left = call.client, response.entries, 0, REQUEST_BYTES_MAX
        codes: set[int] = set()
        for wire in messages:
            entry = entries.add(status=OK)
            try:
                if left <= 0:
                    raise Refused(Code.PAYLOAD_TOO_LARGE, TOO_MUCH)
                message = self._message(client, wire)
                left -= len(message.body)
                last = max(last, self._publish(client, wire, message, entry))
                codes.add(STORED)
            except GatewayError as error:
                codes.add(self._refuse(call, wire, entry, error))
        if last:
            try:
                await self._gate.durable(last)
            except NotStored as error:
                codes = {self._refuse(call, messages[0], entries[0], error)}
                for entry in entries:
                    entry.status.CopyFrom(entries[0].status)
        response.status.code = codes.pop() if len(codes) == 1 else Code.MULTIPLE_RESULTS
        if response.status.code not in (Code.OK, Code.MULTIPLE_RESULTS):
            response.status.message = entries[0].status.message
        return response

    def _refuse(self, call: Call, wire: Any, entry: Any, error: GatewayError) -> Code:
        """Say in a message's entry why it was not published; return the code."""
        code = code_of(error)
        self._refusals.note("SendMessage", call.context, code, error.detail)
        entry.status.code, entry.status.message = code, error.detail
        entry.message_id = wire.system_properties.message_id
        return code

    def _message(self, client: Client, wire: Any) -> Message:
        """Return the message that is to be published. Raise GatewayError if it may not be."""
        topic = self._topic(client, wire.topic)
        check_message(wire)
        body = body_of(wire, self._body_bytes_max)
        made, ttl_ms = to_properties(wire)
        body = data_of(made, body)
        clock = self._clock
        if wants_later(made):
            self._check_time(made)
        expires_at_ms = clock.now_ms + ttl_ms if ttl_ms else 0
        return Message(topic, body, 1, False, made, client.session.origin, clock.wall_ms, expires_at_ms)

    def _publish(self, client: Client, wire: Any, message: Message, entry: Any) -> int:
        """Publish a message and fill in its result; return the position to wait for. Raise GatewayError."""
        made = message.properties
        if wire.system_properties.message_type == TRANSACTION:
            entry.transaction_id, position = self._transactions.prepare(client, wire, message)
            entry.message_id = made.message_id
            return position
        found = client.session.publish_once(message)
        position = found.position
        entry.message_id = found.message_id or made.message_id
        if position > 0:
            entry.offset = position
            if wants_later(made) and self._broker.schedules.waits(position):
                entry.recall_handle = self._recall.handle(position)
            else:
                stream = self._broker.catalog.queues.get(message.topic)
                if isinstance(stream, StreamQueue):
                    entry.offset = self._offset(stream, found)
        return position

    def _offset(self, stream: StreamQueue, found: Published) -> int:
        """Return where a message is in the stream of its topic's name; -1 if it is not any more."""
        if not found.duplicate:
            return stream.next_offset - 1
        kept = stored_at(self._broker.engine, stream.queue_id, found.position)
        return kept.offset if kept is not None else -1

    def _topic(self, client: Client, resource: Any) -> str:
        """Return the topic of ours that a resource names. Raise Refused or NotAuthorized."""
        key = (client.namespace, resource.resource_namespace, resource.name)
        topic = self._topics.get(key)
        if topic is None:
            topic = topic_of(client, resource)
            if len(self._topics) >= TOPICS_MAX:
                self._topics.clear()
            self._topics[key] = topic
        if topic.startswith(OWN_QUEUES):
            raise NotAuthorized(f"{topic!r} is the gateway's own; send to a topic instead")
        self._existence.check_topic(topic)  # `$queue/` of nothing would only be dropped
        return topic

    def _check_time(self, made: Properties) -> None:
        at_ms = self._clock.own(made.deliver_at_ms or 0)
        if made.delay_ms < 0 or at_ms - self._clock.now_ms > DISTANCE_MS_MAX:
            raise Refused(
                Code.ILLEGAL_DELIVERY_TIME, "the delivery time is none, or more than ten years ahead"
            )
