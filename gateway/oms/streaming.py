"""Streaming consumers: read a queue from any position, forwards and backwards,
taking nothing from anybody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from .client import Client, Connection
from .driver import ClientOptions, Feature, StreamReader
from .errors import OMSError, ResponseStatus
from .fields import Seconds, seconds_of
from .message import Message, QueueMetaData

READ_AHEAD: Final = 64  # messages fetched in one go
WAIT_SECONDS: Final = 15.0  # of one wait without an end

#: A queue's name (its partition 0), or one of its partitions.
Stream = str | QueueMetaData


class StreamingConsumer(Client):
    """Opens iterators over streams.

    A position is a message's offset; some may be missing (expired, compacted).
    """

    def __init__(self, connection: Connection, options: ClientOptions) -> None:
        super().__init__(connection, options)
        self._driver.require(Feature.STREAMS)
        self._reader: StreamReader | None = None

    async def _open(self) -> None:
        self._reader = await self._driver.open_reader(self.options)

    async def _close(self) -> None:
        reader, self._reader = self._reader, None
        assert reader is not None
        await reader.close()

    async def seek_to_beginning(self, stream: Stream) -> StreamingIterator:
        """Return an iterator before the oldest message that there is."""
        queue, partition = _partition(stream)
        first, _ = await self._checked().bounds(queue, partition)
        return StreamingIterator(self, queue, partition, first)

    async def seek_to_end(self, stream: Stream) -> StreamingIterator:
        """Return an iterator behind the newest: `next` waits for what comes."""
        queue, partition = _partition(stream)
        _, end = await self._checked().bounds(queue, partition)
        return StreamingIterator(self, queue, partition, end)

    async def seek(self, stream: Stream, position: int | datetime) -> StreamingIterator:
        """Return an iterator before a position, or before the first message stored at a time or later.

        Before what there is: at the beginning. Raise OMSError with BAD_PARAMETER for one behind the end.
        """
        queue, partition = _partition(stream)
        reader = self._checked()
        if isinstance(position, datetime):
            position = await reader.position_of(queue, partition, round(position.timestamp() * 1000))
        first, end = await reader.bounds(queue, partition)
        if not 0 <= position <= end:
            raise OMSError(
                f"{position} is no position in {queue!r}: {first} to {end} are", ResponseStatus.BAD_PARAMETER
            )
        return StreamingIterator(self, queue, partition, max(position, first))

    def _checked(self) -> StreamReader:
        self._check_started()
        assert self._reader is not None
        return self._reader


def _partition(stream: Stream) -> tuple[str, int]:
    return (stream, 0) if isinstance(stream, str) else (stream.queue_name, stream.partition_id)


class StreamingIterator:
    """A place between two messages of a stream.

    As an async iterator it goes on for ever, waiting for what comes.
    """

    def __init__(self, consumer: StreamingConsumer, queue: str, partition: int, position: int) -> None:
        self._consumer = consumer
        self._queue = queue
        self._partition = partition
        self._position = position
        self._ahead: deque[Message] = deque()

    @property
    def next_position(self) -> int:
        """Where it is: `next` returns the message there, or the first behind it."""
        return self._position

    @property
    def previous_position(self) -> int:
        """The position before; -1 at the very beginning."""
        return self._position - 1

    async def has_next(self) -> bool:
        """Tell whether there is a message for `next` now."""
        if not self._ahead:
            self._ahead.extend(await self._read(self._position, READ_AHEAD))
        return bool(self._ahead)

    async def next(self, timeout: Seconds | None = 0) -> Message | None:
        """Return the next message and step behind it; None at the end, after waiting so long (None:
        no end).
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + seconds_of(timeout)
        while not await self.has_next():
            left = WAIT_SECONDS if deadline is None else deadline - loop.time()
            if left <= 0:
                return None
            reader = self._consumer._checked()
            await reader.wait(self._queue, self._partition, self._position, left)
        message = self._ahead.popleft()
        self._position = _offset(message) + 1
        return message

    async def has_previous(self) -> bool:
        """Tell whether there is a message for `previous`."""
        return await self._before() is not None

    async def previous(self) -> Message | None:
        """Return the message before and step before it; None at the beginning."""
        message = await self._before()
        if message is not None:
            self._ahead.clear()
            self._position = _offset(message)
        return message

    async def _before(self) -> Message | None:
        """Return the last message before the position: look back further until there is one."""
        first, _ = await self._consumer._checked().bounds(self._queue, self._partition)
        back = 1
        while (end := self._position) > first:
            start = max(first, end - back)
            found: Message | None = None
            while start < end and (messages := await self._read(start, READ_AHEAD)):
                earlier = [message for message in messages if _offset(message) < end]
                if earlier:
                    found = earlier[-1]
                if len(earlier) < len(messages):
                    break
                start = _offset(messages[-1]) + 1
            if found is not None or end - back <= first:
                return found
            back *= 4
        return None

    async def _read(self, position: int, messages_max: int) -> list[Message]:
        reader = self._consumer._checked()
        return await reader.read(self._queue, self._partition, position, messages_max)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            message = await self.next(None)
            assert message is not None, "without a timeout there is a message"
            yield message


def _offset(message: Message) -> int:
    offset = message.extension_header.offset
    assert offset is not None, "a driver sets the offset of what is read from a stream"
    return offset
