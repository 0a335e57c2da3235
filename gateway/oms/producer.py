"""Producers: send and wait, send and go on, send and forget; batches, and transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, overload

from .client import Client, Connection
from .driver import ClientOptions, Feature, Sender, SendResult, TransactionStatus
from .errors import OMSTransactionError
from .fields import prepare_to_send
from .interceptor import InterceptorContext, ProducerInterceptor, after_send, before_send
from .lifecycle import ServiceState
from .message import ExtensionHeader, Message, MessageFactory
from .transaction import TransactionChecker, checking


class Producer(Client, MessageFactory):
    """Sends messages. With a `checker` it has transactions.

    What is wrong with a message raises OMSMessageFormatError; what the driver lacks of what the message
    asks for (a delay, a priority) OMSUnsupportedError; what fails on the way an OMSError with its code.
    """

    def __init__(
        self, connection: Connection, options: ClientOptions, checker: TransactionChecker | None = None
    ) -> None:
        super().__init__(connection, options)
        self._checker = checker
        self._sender: Sender | None = None
        self._interceptors: tuple[ProducerInterceptor, ...] = ()
        self._demands = demands(self._driver.unsupported)

    async def _open(self) -> None:
        check = checking(self._checker) if self._checker is not None else None
        self._sender = await self._driver.open_sender(self.options, check)

    async def _close(self) -> None:
        sender, self._sender = self._sender, None
        assert sender is not None
        await sender.close()

    def add_interceptor(self, interceptor: ProducerInterceptor) -> None:
        """Have one more look at messages."""
        self._interceptors += (interceptor,)

    def remove_interceptor(self, interceptor: ProducerInterceptor) -> None:
        """Have it look no more; nothing if it did not."""
        self._interceptors = tuple(known for known in self._interceptors if known is not interceptor)

    @overload
    async def send(self, message: Message) -> SendResult: ...

    @overload
    async def send(self, message: Sequence[Message]) -> list[SendResult]: ...

    async def send(self, message: Message | Sequence[Message]) -> SendResult | list[SendResult]:
        """Send a message, or some together, and return when they are stored.

        Of a batch's messages some may have been sent when this raises OMSBatchError: it says which.
        """
        if isinstance(message, Message):
            if self._interceptors:
                return await self._send_intercepted(message)
            return await self._ready(message).send(message)
        return await self._send_batch(message)

    @overload
    def send_async(self, message: Message) -> asyncio.Future[SendResult]: ...

    @overload
    def send_async(self, message: Sequence[Message]) -> asyncio.Future[list[SendResult]]: ...

    def send_async(
        self, message: Message | Sequence[Message]
    ) -> asyncio.Future[SendResult] | asyncio.Future[list[SendResult]]:
        """Send without waiting: a future that is done when they are stored. All failures are the future's."""
        if not isinstance(message, Message):
            return asyncio.ensure_future(self._send_batch(message))
        if self._interceptors:
            return asyncio.ensure_future(self._send_intercepted(message))
        try:
            return self._ready(message).send(message)
        except Exception as error:
            failed: asyncio.Future[SendResult] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    async def send_oneway(self, message: Message | Sequence[Message]) -> None:
        """Send and forget: return when they are handed over, or as soon as the driver has room again.

        Only what is wrong with a message is raised; what becomes of it nobody is told.
        """
        messages = [message] if isinstance(message, Message) else message
        async with self._intercepted(messages):
            sender = self._checked()
            for each in messages:
                self._ready(each)
            await sender.send_oneway(messages)

    async def prepare(self, message: Message) -> TransactionalResult:
        """Store a half message, which nobody sees until its `commit`.

        Raise OMSTransactionError without a checker.
        """
        self._driver.require(Feature.TRANSACTIONS)
        if self._checker is None:
            raise OMSTransactionError(
                "a producer needs a checker for transactions: create_producer(transaction_checker=...)"
            )
        async with self._intercepted([message]):
            sender = self._ready(message)
            prepared = await sender.prepare(message)
        return TransactionalResult(sender, prepared)

    def batch(self) -> BatchMessageSender:
        """Return a sender that collects messages and sends them together."""
        self._checked()
        return BatchMessageSender(self)

    async def recall(self, sent: SendResult) -> None:
        """Take a delayed message back. Raise OMSDestinationError if it is not waiting any more."""
        self._driver.require(Feature.RECALL)
        await self._checked().recall(sent)

    def _checked(self) -> Sender:
        if self._state is not ServiceState.STARTED:
            self._check_started()
        assert self._sender is not None
        return self._sender

    def _ready(self, message: Message) -> Sender:
        """Return the sender for a message that it can send."""
        sender = self._checked()
        prepare_to_send(message)
        for feature, field in self._demands:
            if asks_for(message, field):
                self._driver.require(feature)
        return sender

    async def _send_batch(self, messages: Sequence[Message]) -> list[SendResult]:
        if not messages:
            return []
        async with self._intercepted(messages):
            sender = self._checked()
            for message in messages:
                self._ready(message)
            return await sender.send_batch(messages)

    async def _send_intercepted(self, message: Message) -> SendResult:
        async with self._intercepted([message]):
            result = await self._ready(message).send(message)
            message.header.message_id = result.message_id
        return result

    @asynccontextmanager
    async def _intercepted(self, messages: Sequence[Message]) -> AsyncIterator[None]:
        """Have interceptors look at messages before and after."""
        if not self._interceptors:
            yield
            return
        contexts: list[tuple[Message, InterceptorContext]] = []
        failed: BaseException | None = None
        try:
            for message in messages:
                contexts.append((message, InterceptorContext()))
                await before_send(self._interceptors, *contexts[-1])
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            for message, context in contexts:
                await after_send(self._interceptors, message, context, failed)


class TransactionalResult:
    """A half message: commit or roll back. As a context manager it commits, or rolls back what raised."""

    def __init__(self, sender: Sender, prepared: SendResult) -> None:
        self._sender = sender
        self._prepared = prepared
        self._ended: TransactionStatus | None = None

    @property
    def message_id(self) -> str:
        """The message's id."""
        return self._prepared.message_id

    @property
    def transaction_id(self) -> str:
        """The transaction's: the half message has it, and what is consumed."""
        return self._prepared.transaction_id or ""

    async def commit(self) -> None:
        """Publish it. Raise OMSTransactionError if it was rolled back."""
        await self._end(TransactionStatus.COMMIT)

    async def rollback(self) -> None:
        """Drop it. Raise OMSTransactionError if it was committed."""
        await self._end(TransactionStatus.ROLLBACK)

    async def _end(self, status: TransactionStatus) -> None:
        if self._ended not in (None, status):
            raise OMSTransactionError(f"transaction {self.transaction_id} has ended by {self._ended.value}")
        await self._sender.end(self._prepared, status)
        self._ended = status

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ended is None:
            await (self.commit() if error is None else self.rollback())


class BatchMessageSender:
    """Collects messages until `commit` sends them together.

    As a context manager it commits, unless it raised.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._messages: list[Message] = []
        self._closed = False

    def send(self, message: Message) -> Self:
        """Add a message; return this, to be chained. Raise OMSTransactionError if it is closed."""
        if self._closed:
            raise OMSTransactionError("this batch is closed")
        self._messages.append(message)
        return self

    async def commit(self) -> list[SendResult]:
        """Send what was collected; the next `send` begins another batch."""
        messages, self._messages = self._messages, []
        return await self._producer.send(messages)

    def rollback(self) -> None:
        """Forget what was collected."""
        self._messages = []

    def close(self) -> None:
        """Forget what was collected, and take no more."""
        self.rollback()
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.commit()
        self.close()


#: Feature -> field of a message that asks for it.
_ASKS = {
    Feature.DELAY: "delay_time",
    Feature.EXPIRY: "expire_time",
    Feature.ORDER: "message_key",
    Feature.PRIORITY: "priority",
}


def demands(unsupported: Iterable[Feature]) -> tuple[tuple[Feature, str], ...]:
    """Return what messages must not ask for, by field: nothing, for a driver that has it all."""
    return tuple((feature, _ASKS[feature]) for feature in unsupported if feature in _ASKS)


_EXTENSION = frozenset(ExtensionHeader.__slots__)


def asks_for(message: Message, field: str) -> bool:
    """Tell whether a message says something there."""
    if field in _EXTENSION:
        return message.has_extension and getattr(message.extension_header, field) is not None
    return getattr(message.header, field) is not None
