"""A consumer that gets everything from when it begins: it reads streams, and keeps its place by itself.

As in RocketMQ's broadcasting the server knows nothing of it. What fails, or is not acknowledged in time,
comes again from here; what the process has not acknowledged when it ends is lost to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gateway.oms.driver import ClientOptions, MessageSelector, Receiver
from gateway.oms.errors import OMSError, ResponseStatus
from gateway.oms.message import Message, MessageReceipt

from .client import Client, Role
from .polls import Place, Polls, Source
from .reading import RocketReader
from .receiving import expression_of
from .topics import Topics


class _Held(NamedTuple):
    """What was handed out, and the timer by which it comes again."""

    message: Message
    timer: asyncio.TimerHandle | None


class BroadcastReceiver(Role, Receiver):
    """A client that reads each queue from its end on."""

    def __init__(self, client: Client, topics: Topics, options: ClientOptions) -> None:
        self._client = client
        self._options = options
        self._reader = RocketReader(client, topics)
        self._polls = Polls(_forget, None)
        self._held: dict[MessageReceipt, _Held] = {}
        self._later: set[asyncio.TimerHandle] = set()

    def describe(self, settings: Any) -> None:
        """See the base."""
        self._reader.describe(settings)

    async def bind(self, queue: str, selector: MessageSelector | None) -> None:
        """See the base."""
        expression = expression_of(selector)
        sources: dict[Place, Source] = {}
        for partition in await self._reader.partitions(queue):
            _, end = await self._reader.bounds(queue, partition)
            sources[partition] = self._source(queue, partition, end, expression)
        await self._polls.remove(queue)
        self._polls.keep(queue, sources)

    def _source(self, queue: str, partition: int, position: int, expression: Any) -> Source:
        one_at_a_time = asyncio.Lock()

        async def ask(messages_max: int, seconds: float) -> list[Message]:
            nonlocal position
            async with one_at_a_time:
                pulled = await self._reader.pull(
                    queue, partition, position, messages_max, seconds, expression
                )
                position = pulled.after
            return pulled.messages

        return Source(ask)

    async def unbind(self, queue: str) -> None:
        """See the base."""
        await self._polls.remove(queue)

    async def receive(self, messages_max: int, timeout: float) -> list[Message]:
        """See the base."""
        messages = await self._polls.receive(messages_max, timeout)
        for message in messages:
            message.receipt = receipt = MessageReceipt(None, message.header.destination)
            self._hold(receipt, message, self._options.invisible)
        return messages

    def _hold(self, receipt: MessageReceipt, message: Message, seconds: float) -> None:
        timer = None
        if not self._options.push:
            timer = asyncio.get_running_loop().call_later(seconds, self._expired, receipt)
        self._held[receipt] = _Held(message, timer)

    def _expired(self, receipt: MessageReceipt) -> None:
        self._again(self._held.pop(receipt).message)

    def _again(self, message: Message) -> None:
        again = Message(
            header=replace(message.header, delivery_count=message.header.delivery_count + 1),
            data=message.data,
            extension_header=message.extension_header,
            properties=message.properties,
        )
        self._polls.put([again])

    def _take(self, receipt: MessageReceipt) -> Message:
        held = self._held.pop(receipt, None)
        if held is None:
            raise OMSError("the receipt was settled, or its time is over", ResponseStatus.BAD_PARAMETER)
        if held.timer is not None:
            held.timer.cancel()
        return held.message

    async def acknowledge(self, receipts: Sequence[MessageReceipt]) -> None:
        """See the base."""
        failed: OMSError | None = None
        for receipt in receipts:
            try:
                self._take(receipt)
            except OMSError as error:
                failed = error
        if failed is not None:
            raise failed

    async def nack(self, receipt: MessageReceipt, delay: float | None) -> None:
        """See the base."""
        message = self._take(receipt)
        pause = self._client.pause(message.header.delivery_count) if delay is None else delay
        loop = asyncio.get_running_loop()

        def again() -> None:
            self._later.discard(timer)
            self._again(message)

        timer = loop.call_later(pause, again)
        self._later.add(timer)

    async def extend(self, receipt: MessageReceipt, seconds: float) -> MessageReceipt:
        """See the base."""
        self._hold(receipt, self._take(receipt), seconds)
        return receipt

    async def close(self) -> None:
        """See the base."""
        for timer in (*self._later, *(held.timer for held in self._held.values() if held.timer is not None)):
            timer.cancel()
        self._later.clear()
        self._held.clear()
        await self._polls.close()
        await self._client.close()


async def _forget(messages: list[Message]) -> None:
    """What is left when a consumer ends is nobody's."""
