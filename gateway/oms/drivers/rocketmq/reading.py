"""Streams by offset: PullMessage and its relatives. RocketMQ's proxy of 2025 has none, and says so."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gateway.oms.driver import StreamReader
from gateway.oms.errors import OMSDestinationError
from gateway.oms.message import Message
from gateway.rocketmq.numbers import Code, FilterType, QueryOffsetPolicy
from gateway.rocketmq.payload import put_ms
from gateway.rocketmq.schema import CLASSES

from .client import Client, Role
from .routes import Queue
from .statuses import check
from .topics import Topics
from .translate import from_wire

POLL_SECONDS_MAX: Final = 15.0  # shorter than a server lets anybody wait
BATCH_MAX: Final = 128  # messages of one request
EVERYTHING: Final = CLASSES["FilterExpression"](type=FilterType.TAG, expression="*")


class Pulled(NamedTuple):
    """What was read, and the position behind it."""

    messages: list[Message]
    after: int


class RocketReader(Role, StreamReader):
    """A client that reads queues by their offsets."""

    def __init__(self, client: Client, topics: Topics) -> None:
        self._client = client
        self._topics = topics

    def describe(self, settings: Any) -> None:
        """Say who this is; it subscribes to nothing."""
        settings.subscription.group.CopyFrom(self._client.group)

    async def bounds(self, queue: str, partition: int) -> tuple[int, int]:
        """See the base."""
        at = await self._queue(queue, partition)
        first = await self._offset(at, QueryOffsetPolicy.BEGINNING)
        return first, await self._offset(at, QueryOffsetPolicy.END)

    async def position_of(self, queue: str, partition: int, timestamp_ms: int) -> int:
        """See the base."""
        at = await self._queue(queue, partition)
        return await self._offset(at, QueryOffsetPolicy.TIMESTAMP, timestamp_ms)

    async def _offset(self, at: Queue, policy: QueryOffsetPolicy, timestamp_ms: int | None = None) -> int:
        request = CLASSES["QueryOffsetRequest"](message_queue=at.message, query_offset_policy=policy)
        if timestamp_ms is not None:
            put_ms(request.timestamp, timestamp_ms)
        offset: int = (await self._client.call(at.endpoint, "QueryOffset", request)).offset
        return offset

    async def read(self, queue: str, partition: int, position: int, messages_max: int) -> list[Message]:
        """See the base."""
        pulled = await self.pull(queue, partition, position, messages_max, 0.0)
        return pulled.messages

    async def wait(self, queue: str, partition: int, position: int, timeout: float) -> None:
        """See the base."""
        await self.pull(queue, partition, position, 1, timeout)

    async def pull(
        self,
        queue: str,
        partition: int,
        position: int,
        messages_max: int,
        seconds: float,
        expression: Any = EVERYTHING,
    ) -> Pulled:
        """Return what there is from a position on, or comes within so many seconds, and where to go on."""
        at = await self._queue(queue, partition)
        request = CLASSES["PullMessageRequest"](
            group=self._client.group,
            message_queue=at.message,
            offset=position,
            batch_size=min(messages_max, BATCH_MAX),
            filter_expression=expression,
        )
        put_ms(request.long_polling_timeout, round(min(seconds, POLL_SECONDS_MAX) * 1000))
        messages: list[Message] = []
        after, status = position, None
        limit = seconds + self._client.timeout
        async for reply in self._client.stream(at.endpoint, "PullMessage", request, limit):
            kind = reply.WhichOneof("content")
            if kind == "message":
                messages.append(from_wire(reply.message, queue))
            elif kind == "status":
                status = reply.status
            elif kind == "next_offset":
                after = reply.next_offset
        if status is not None and status.code == Code.ILLEGAL_OFFSET and after > position:
            # what was there is gone: retention, or a restart without a log
            return await self.pull(queue, partition, after, messages_max, seconds, expression)
        if status is not None and status.code != Code.MESSAGE_NOT_FOUND:
            check(status, f"reading {queue}")
        return Pulled(messages, after)

    async def partitions(self, queue: str) -> list[int]:
        """Return the partitions of a queue."""
        route = await self._client.routes.of(self._topics.resource(queue))
        return [one.message.id for one in route.readable]

    async def _queue(self, queue: str, partition: int) -> Queue:
        route = await self._client.routes.of(self._topics.resource(queue))
        for one in route.readable:
            if one.message.id == partition:
                return one
        raise OMSDestinationError(f"{queue!r} has no partition {partition}")

    async def close(self) -> None:
        """See the base."""
        await self._client.close()
