"""A consumer: what it is bound to, long polls, and what becomes of what it got."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Final

from gateway.oms.driver import ClientOptions, MessageSelector, Receiver, SelectorType
from gateway.oms.errors import OMSError, OMSMessageFormatError
from gateway.oms.message import Message, MessageReceipt
from gateway.rocketmq.numbers import Code, FilterType
from gateway.rocketmq.payload import put_ms, to_ms
from gateway.rocketmq.schema import CLASSES

from .acks import Acks, Lease, refused
from .client import Client, Role
from .endpoints import Endpoint
from .polls import Polls, Source
from .reading import EVERYTHING
from .routes import Queue
from .statuses import check
from .topics import Topics
from .translate import from_wire

_log = logging.getLogger(__name__)

BATCH_DEFAULT: Final = 32  # messages that RocketMQ's broker gives at once, unless its proxy says otherwise
POLL_SECONDS_MAX: Final = 20.0  # that it lets anybody wait, unless it says otherwise
#: RocketMQ's proxy wants to be given so long, however short the wait is to be.
POLL_SECONDS_MIN: Final = 5.0
#: The shortest that RocketMQ lets a message be invisible when it is received.
INVISIBLE_SECONDS_MIN: Final = 10.0
#: What nobody has taken by then goes back to the server: another consumer may be waiting for it.
KEPT_SECONDS: Final = 0.5
FOLLOW_SECONDS: Final = 30.0  # from one look at where the queues are to the next
ATTEMPTS_DEFAULT: Final = 17  # if the server does not say

_FILTERS: Final = {SelectorType.SQL: FilterType.SQL, SelectorType.TAG: FilterType.TAG}


class RocketReceiver(Role, Receiver):
    """A consumer's client, and the queues that it is bound to."""

    def __init__(self, client: Client, topics: Topics, options: ClientOptions) -> None:
        self._client = client
        self._topics = topics
        self._options = options
        self._acks = Acks(client)
        self._polls = Polls(self._give_back, KEPT_SECONDS)
        self._filters: dict[str, Any] = {}
        self._binding = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._invisible_min = 0.0  # seconds, if the server has one

    def describe(self, settings: Any) -> None:
        """Say what this is subscribed to."""
        subscription = settings.subscription
        subscription.group.CopyFrom(self._client.group)
        put_ms(subscription.long_polling_timeout, round(POLL_SECONDS_MAX * 1000))
        for queue, expression in self._filters.items():
            subscription.subscriptions.add(topic=self._topics.resource(queue), expression=expression)

    # -- queues

    async def bind(self, queue: str, selector: MessageSelector | None) -> None:
        """See the base."""
        expression = expression_of(selector)
        async with self._binding:
            await self._polls.remove(queue)
            before = self._filters.get(queue)
            self._filters[queue] = expression
            try:
                await self._client.meet(await self._client.routes.of(self._topics.resource(queue)))
                await self._client.say_settings()
                await self._follow(queue)
            except BaseException:
                self._filters.pop(queue)
                if before is not None:
                    self._filters[queue] = before
                    await self._follow(queue)
                raise
        if self._following is None:
            self._following = asyncio.create_task(self._follow_all())

    async def unbind(self, queue: str) -> None:
        """See the base."""
        async with self._binding:
            self._filters.pop(queue, None)
            await self._polls.remove(queue)
            with suppress(OMSError):  # it is told with the next that is bound
                await self._client.say_settings()

    async def _follow(self, queue: str) -> None:
        """Ask where the queue is now."""
        topic = self._topics.resource(queue)
        if self._options.push:
            queues = await self._assigned(topic)
        else:
            queues = (await self._client.routes.of(topic)).to_read()
        expression = self._filters[queue]
        self._polls.keep(queue, {_place(one): self._source(queue, one, expression) for one in queues})

    async def _follow_all(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            for queue in list(self._filters):
                try:
                    async with self._binding:
                        if queue in self._filters:
                            await self._follow(queue)
                except OMSError as error:
                    _log.info("where %s is: %s", queue, error.reason)

    async def _assigned(self, topic: Any) -> list[Queue]:
        """Return the queues that the server has for this one of the group's consumers."""
        access = self._client.site.servers[0]
        request = CLASSES["QueryAssignmentRequest"](
            topic=topic, group=self._client.group, endpoints=access.message()
        )
        reply = await self._client.call(access, "QueryAssignment", request)
        return [Queue.of(one.message_queue) for one in reply.assignments]

    def _source(self, queue: str, at: Queue, expression: Any) -> Source:
        topic = self._topics.resource(queue)
        failed: set[str] = set()

        async def ask(messages_max: int, seconds: float) -> list[Message]:
            request = self._request(at, expression, messages_max, seconds)
            # the answer to an attempt that failed may have been lost: the server has it for the same attempt
            request.attempt_id = failed.pop() if failed else str(uuid.uuid4())
            try:
                return await self._ask(queue, topic, at, request, seconds)
            except OMSError:
                failed.add(request.attempt_id)
                raise

        return Source(ask)

    # -- receiving

    async def receive(self, messages_max: int, timeout: float) -> list[Message]:
        """See the base."""
        return await self._polls.receive(messages_max, timeout)

    def _request(self, at: Queue, expression: Any, messages_max: int, seconds: float) -> Any:
        told = self._client.told.subscription
        made = CLASSES["ReceiveMessageRequest"](
            group=self._client.group,
            message_queue=at.message,
            filter_expression=expression,
            batch_size=min(messages_max, told.receive_batch_size or BATCH_DEFAULT),
        )
        longest = to_ms(told.long_polling_timeout) / 1000 or POLL_SECONDS_MAX
        put_ms(made.long_polling_timeout, round(min(seconds, longest) * 1000))
        if self._options.push:
            made.auto_renew = True  # for as long as a listener takes
        else:
            put_ms(made.invisible_duration, round(max(self._options.invisible, self._invisible_min) * 1000))
        return made

    async def _ask(self, queue: str, topic: Any, at: Queue, request: Any, seconds: float) -> list[Message]:
        """Receive once. Raise OMSError."""
        found: list[Any] = []
        status = None
        limit = max(seconds, POLL_SECONDS_MIN) + self._client.timeout
        async for reply in self._client.stream(at.endpoint, "ReceiveMessage", request, limit):
            kind = reply.WhichOneof("content")
            if kind == "message":
                found.append(reply.message)
            elif kind == "status":
                status = reply.status
        refused_ms = to_ms(request.invisible_duration) if _too_short(status) else INVISIBLE_SECONDS_MIN * 1000
        if refused_ms < INVISIBLE_SECONDS_MIN * 1000:
            self._invisible_min = INVISIBLE_SECONDS_MIN
            put_ms(request.invisible_duration, round(INVISIBLE_SECONDS_MIN * 1000))
            return await self._ask(queue, topic, at, request, seconds)
        if status is not None and status.code != Code.MESSAGE_NOT_FOUND:
            check(status, f"receiving from {queue}")
        leases = [(one, self._lease(topic, at, one)) for one in found]
        if self._options.invisible < self._invisible_min and not self._options.push:
            leases = list(await asyncio.gather(*(self._shortened(*pair) for pair in leases)))
        return await self._read(queue, leases)

    async def _read(self, queue: str, leases: Sequence[tuple[Any, Lease]]) -> list[Message]:
        """Return the messages; what cannot be read goes back, as failed."""
        messages = []
        for one, lease in leases:
            try:
                message = from_wire(one, queue)
            except OMSMessageFormatError as error:
                _log.warning("%s", error.reason)
                await self._whatever(self._change(lease, self._client.pause(lease.attempt)))
                continue
            message.receipt = MessageReceipt(lease, queue)
            messages.append(message)
        return messages

    def _lease(self, topic: Any, at: Queue, one: Any) -> Lease:
        system = one.system_properties
        return Lease(
            topic, at.endpoint, system.message_id, system.receipt_handle, system.delivery_attempt or 1
        )

    async def _shortened(self, one: Any, lease: Lease) -> tuple[Any, Lease]:
        """Keep a message as long as the application wants: the server has a minimum only for receiving."""
        return one, await self._change(lease, self._options.invisible)

    # -- settling

    async def acknowledge(self, receipts: Sequence[MessageReceipt]) -> None:
        """See the base."""
        await self._acks.acknowledge([receipt.handle for receipt in receipts])

    async def nack(self, receipt: MessageReceipt, delay: float | None) -> None:
        """See the base."""
        lease: Lease = receipt.handle
        await self._change(lease, self._client.pause(lease.attempt) if delay is None else delay)

    async def extend(self, receipt: MessageReceipt, seconds: float) -> MessageReceipt:
        """See the base. What a push consumer has is renewed by the server."""
        if self._options.push:
            return receipt
        return MessageReceipt(await self._change(receipt.handle, seconds), receipt.queue)

    async def _change(self, lease: Lease, seconds: float, suspend: bool = False) -> Lease:
        """Have a message come again so much later. Raise OMSError."""
        request = CLASSES["ChangeInvisibleDurationRequest"](
            group=self._client.group,
            topic=lease.topic,
            receipt_handle=lease.handle,
            message_id=lease.message_id,
        )
        put_ms(request.invisible_duration, round(seconds * 1000))
        if suspend:
            request.suspend = True
        reply = await self._client.ask(lease.endpoint, "ChangeInvisibleDuration", request)
        if reply.status.code != Code.OK:
            raise refused(reply.status, f"message {lease.message_id}")
        return lease._replace(handle=reply.receipt_handle or lease.handle)

    async def failed(self, message: Message, delay: float | None) -> float | None:
        """See the base. In a group that is in order the consumer tries again itself, and gives up."""
        assert message.receipt is not None
        lease: Lease = message.receipt.handle
        told = self._client.told
        attempt = message.header.delivery_count
        pause = self._client.pause(attempt) if delay is None else delay
        if not told.subscription.fifo:
            await self._change(lease, pause)
            return None
        attempts_max = told.backoff_policy.max_attempts or ATTEMPTS_DEFAULT
        if attempt < attempts_max:
            return pause
        request = CLASSES["ForwardMessageToDeadLetterQueueRequest"](
            group=self._client.group,
            topic=lease.topic,
            receipt_handle=lease.handle,
            message_id=lease.message_id,
            delivery_attempt=attempt,
            max_delivery_attempts=attempts_max,
        )
        await self._client.call(lease.endpoint, "ForwardMessageToDeadLetterQueue", request)
        return None

    async def _give_back(self, messages: Sequence[Message]) -> None:
        """Return messages that nobody has seen: at once, and not as failed where the server can tell."""
        leases = [message.receipt.handle for message in messages if message.receipt is not None]
        await asyncio.gather(*(self._whatever(self._change(lease, 0, suspend=True)) for lease in leases))

    async def _whatever(self, change: Awaitable[Lease]) -> None:
        try:
            await change
        except OMSError as error:
            _log.info("a message comes again only when its time is over: %s", error.reason)

    async def close(self) -> None:
        """See the base."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
            self._following = None
        await self._acks.close()
        await self._polls.close()
        await self._client.close()


def expression_of(selector: MessageSelector | None) -> Any:
    """Return a selector as servers are told; without one, everything."""
    if selector is None:
        return EVERYTHING
    return CLASSES["FilterExpression"](type=_FILTERS[selector.type], expression=selector.expression)


def _too_short(status: Any) -> bool:
    return status is not None and status.code == Code.ILLEGAL_INVISIBLE_TIME


def _place(queue: Queue) -> tuple[str, int, Endpoint]:
    return queue.message.broker.name, queue.message.id, queue.endpoint
