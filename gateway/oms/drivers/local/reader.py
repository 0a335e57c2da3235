"""Streams of the local driver: the core's stream queue of a topic's name, made when it is first asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.api import Binding, Conflict, Item, QueuePolicy, StreamQueue

from ...driver import ClientOptions, StreamReader
from ...errors import OMSDestinationError, OMSError, ResponseStatus
from ...message import Message
from .errors import translating
from .translate import from_core

if TYPE_CHECKING:
    from . import LocalDriver

KEPT_MS: Final = 72 * 3600 * 1000  # RocketMQ's fileReservedTime


class LocalReader(StreamReader):
    """One streaming consumer: reads by offset, and is woken by a live subscription to the topic."""

    def __init__(self, driver: LocalDriver, options: ClientOptions) -> None:
        self._driver = driver
        self._gateway = driver.region.gateway
        self._session = driver.session(options)
        self._session.receive(self._arrived)
        self._streams: dict[str, StreamQueue] = {}
        self._woken = asyncio.Event()

    def _arrived(self, batch: list[Item]) -> None:
        self._woken.set()

    async def _stream(self, queue: str, partition: int) -> StreamQueue:
        if partition:
            raise OMSError(
                f"{queue!r} has no partition {partition}: 0 is the only one", ResponseStatus.BAD_PARAMETER
            )
        self._gateway.begin_turn()
        place = self._driver.place(queue)
        known = self._streams.get(queue)
        catalog = self._gateway.broker.catalog
        if known is not None and catalog.queues.get(known.name) is known:
            return known
        name = place.queue or place.topic
        with translating():
            found = catalog.queues.get(name)
            if found is None and not place.queue:
                found, _ = catalog.declare(name, "stream", QueuePolicy(max_age_ms=KEPT_MS))
                catalog.bind(found, Binding(place.topic, found))
                await self._gateway.durable(self._gateway.broker.engine.position())
            if found is None:
                raise OMSDestinationError(f"there is no queue {queue!r}")
            if not isinstance(found, StreamQueue):
                raise Conflict(f"queue {name!r} is {found.kind}: it cannot be read by position")
            self._session.subscribe(place.topic)
        self._streams[queue] = found
        return found

    async def bounds(self, queue: str, partition: int) -> tuple[int, int]:
        stream = await self._stream(queue, partition)
        return stream.first_offset, stream.next_offset

    async def read(self, queue: str, partition: int, position: int, messages_max: int) -> list[Message]:
        stream = await self._stream(queue, partition)
        now_ms = self._gateway.clock.now_ms
        found = []
        for offset, message, _ in stream.browse(position, messages_max):
            if not 0 < message.expires_at_ms <= now_ms:
                made = from_core(message, queue, 0, None, self._gateway.clock.offset_ms)
                made.extension_header.partition = partition
                made.extension_header.offset = offset
                found.append(made)
        return found

    async def wait(self, queue: str, partition: int, position: int, timeout: float) -> None:
        stream = await self._stream(queue, partition)
        if stream.next_offset > position:
            return
        self._woken.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def position_of(self, queue: str, partition: int, timestamp_ms: int) -> int:
        stream = await self._stream(queue, partition)
        return stream.offset_at(self._gateway.clock.own(timestamp_ms))

    async def close(self) -> None:
        self._gateway.begin_turn()
        self._session.close()
