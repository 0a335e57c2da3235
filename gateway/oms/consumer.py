"""Consumers: what push and pull have in common, and pull. Push is in `push`, positions are in `streaming`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable

from .client import Client, Connection, close_all
from .driver import ClientOptions, Feature, MessageSelector, Receiver, SelectorType, StreamReader
from .errors import OMSDestinationError, OMSError, ResponseStatus
from .fields import Seconds, seconds_of
from .interceptor import ConsumerInterceptor, InterceptorContext, after_receive, before_receive
from .message import Message, MessageReceipt, QoS

log = logging.getLogger("gateway.oms")

POLL_SECONDS = 15.0  # of one request without an end: longer than most are idle, shorter than proxies cut off
MESSAGES_MAX = 1024  # of one request

_LANGUAGES = {SelectorType.SQL: Feature.SQL_SELECTORS, SelectorType.TAG: Feature.TAG_SELECTORS}


class Consumer(Client):
    """Base class: queues are bound before the start or after it, and again after the next."""

    def __init__(self, connection: Connection, options: ClientOptions) -> None:
        super().__init__(connection, options)
        if options.broadcast:
            self._driver.require(Feature.BROADCAST)
        self._selectors: dict[str, MessageSelector | None] = {}
        self._receiver: Receiver | None = None
        self._interceptors: tuple[ConsumerInterceptor, ...] = ()

    @property
    def bound_queues(self) -> list[str]:
        """The queues this takes from."""
        return list(self._selectors)

    def add_interceptor(self, interceptor: ConsumerInterceptor) -> None:
        """Have one more look at messages."""
        self._interceptors += (interceptor,)

    def remove_interceptor(self, interceptor: ConsumerInterceptor) -> None:
        """Have it look no more; nothing if it did not."""
        self._interceptors = tuple(known for known in self._interceptors if known is not interceptor)

    async def ack(self, receipt: MessageReceipt) -> None:
        """Settle a delivery for good. Raise OMSError with BAD_PARAMETER if it was, or came again since."""
        await self._checked().acknowledge([receipt])

    async def nack(self, receipt: MessageReceipt, delay: Seconds | None = None) -> None:
        """Give a delivery back as failed: it comes again, after a delay or when the queue says.

        Raise as `ack`.
        """
        if delay is not None:
            self._driver.require(Feature.RETRY_LATER)
        await self._checked().nack(receipt, None if delay is None else seconds_of(delay))

    async def extend(self, receipt: MessageReceipt, delay: Seconds) -> MessageReceipt:
        """Keep a delivery for so long from now; return what settles it from now on. Raise as `ack`."""
        self._driver.require(Feature.EXTEND)
        return await self._checked().extend(receipt, seconds_of(delay))

    async def _bind(self, queues: str | Iterable[str], selector: MessageSelector | str | None) -> list[str]:
        if isinstance(selector, str):
            selector = MessageSelector.by_sql(selector)
        if selector is not None:
            self._driver.require(_LANGUAGES[selector.type])
        names = [queues] if isinstance(queues, str) else list(queues)
        if not names or not all(names):
            raise OMSError("bind at least one queue, by name", ResponseStatus.BAD_PARAMETER)
        for queue in names:
            if self._receiver is not None:
                await self._receiver.bind(queue, selector)
            self._selectors[queue] = selector
        return names

    async def unbind_queue(self, queues: str | Iterable[str]) -> None:
        """Take from these no more. Raise OMSDestinationError for one that is not bound."""
        for queue in [queues] if isinstance(queues, str) else list(queues):
            if queue not in self._selectors:
                raise OMSDestinationError(f"{queue!r} is not bound")
            del self._selectors[queue]
            if self._receiver is not None:
                await self._receiver.unbind(queue)

    async def _open(self) -> None:
        receiver = await self._driver.open_receiver(self.options)
        try:
            for queue, selector in self._selectors.items():
                await receiver.bind(queue, selector)
        except BaseException:
            await receiver.close()
            raise
        self._receiver = receiver

    async def _close(self) -> None:
        receiver, self._receiver = self._receiver, None
        assert receiver is not None
        await receiver.close()

    def _checked(self) -> Receiver:
        self._check_started()
        assert self._receiver is not None
        return self._receiver

    async def _acknowledge_at_most_once(self, messages: list[Message]) -> None:
        """Settle what its producer wants delivered once at most, before anybody has it."""
        receipts = []
        for message in messages:
            if message.header.qos == QoS.AT_MOST_ONCE and message.receipt is not None:
                receipts.append(message.receipt)
                message.receipt = None
        if receipts:
            await self._checked().acknowledge(receipts)


class PullConsumer(Consumer):
    """Takes messages when asked to. As an async iterator it waits for each.

        async for message in consumer:
            ...
            await consumer.ack(message.receipt)

    What is not acknowledged within INVISIBLE_TIME comes again. A message of qos AT_MOST_ONCE is acknowledged
    already, and has no receipt.
    """

    def __init__(self, connection: Connection, options: ClientOptions) -> None:
        super().__init__(connection, options)
        self._reader: StreamReader | None = None
        self._opening = asyncio.Lock()

    async def bind_queue(
        self, queues: str | Iterable[str], selector: MessageSelector | str | None = None
    ) -> None:
        """Take from these, too: what a selector matches (text is SQL92)."""
        await self._bind(queues, selector)

    async def receive(
        self,
        timeout: Seconds | None = None,
        *,
        queue: str | None = None,
        partition: int = 0,
        position: int | None = None,
    ) -> Message | None:
        """Return the next message; None after a timeout; without one wait as long as it takes.

        With a position: the message at it or the first behind it, of that queue's partition. That takes
        nothing from anybody, and has no receipt.
        """
        if queue is not None:
            found = await self._read(queue, partition, position, 1, timeout)
        elif position is not None:
            raise OMSError("a position is one of a queue: say which", ResponseStatus.BAD_PARAMETER)
        else:
            found = await self.batch_receive(1, timeout)
        return found[0] if found else None

    async def batch_receive(
        self,
        messages_max: int,
        timeout: Seconds | None = None,
        *,
        queue: str | None = None,
        partition: int = 0,
        position: int | None = None,
    ) -> list[Message]:
        """Return at most so many messages as soon as there are any; [] after a timeout. Else as `receive`."""
        if not 0 < messages_max <= MESSAGES_MAX:
            raise OMSError(f"messages_max is 1 to {MESSAGES_MAX}", ResponseStatus.BAD_PARAMETER)
        if queue is not None:
            return await self._read(queue, partition, position, messages_max, timeout)
        self._checked()
        if not self._selectors:
            raise OMSDestinationError("no queue is bound")
        if timeout is not None:
            return await self._receive(messages_max, seconds_of(timeout))
        while not (messages := await self._receive(messages_max, POLL_SECONDS)):
            pass
        return messages

    async def _receive(self, messages_max: int, seconds: float) -> list[Message]:
        messages = await self._checked().receive(messages_max, seconds)
        if self._interceptors:
            messages = [message for message in messages if await self._let_through(message)]
        await self._acknowledge_at_most_once(messages)
        return messages

    async def _let_through(self, message: Message) -> bool:
        """Have interceptors look at a message; what one refuses goes back, and the others are handed over."""
        context = InterceptorContext()
        try:
            await before_receive(self._interceptors, message, context)
        except Exception as error:
            log.warning("an interceptor refused %r: it goes back", message, exc_info=True)
            await after_receive(self._interceptors, message, context, error)
            if message.receipt is not None:
                await self._checked().nack(message.receipt, None)
            return False
        await after_receive(self._interceptors, message, context, None)
        return True

    async def _read(
        self, queue: str, partition: int, position: int | None, messages_max: int, timeout: Seconds | None
    ) -> list[Message]:
        self._driver.require(Feature.STREAMS)
        self._check_started()
        if position is None or position < 0:
            raise OMSError("a positioned read needs a position from 0 on", ResponseStatus.BAD_PARAMETER)
        async with self._opening:
            if self._reader is None:
                self._reader = await self._driver.open_reader(self.options)
        reader = self._reader
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + seconds_of(timeout)
        while not (messages := await reader.read(queue, partition, position, messages_max)):
            left = POLL_SECONDS if deadline is None else deadline - loop.time()
            if left <= 0:
                return []
            await reader.wait(queue, partition, position, left)
        return messages

    async def _close(self) -> None:
        reader, self._reader = self._reader, None
        await close_all([*([reader.close] if reader is not None else []), super()._close])

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            message = await self.receive()
            assert message is not None, "without a timeout there is a message"
            yield message
