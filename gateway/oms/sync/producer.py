"""Blocking producers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self, overload

from ..driver import SendResult
from ..interceptor import ProducerInterceptor
from ..message import Message, MessageFactory
from ..producer import BatchMessageSender as AsyncBatchMessageSender
from ..producer import Producer as AsyncProducer
from ..producer import TransactionalResult as AsyncTransactionalResult
from .service import BlockingClient
from .thread import THREAD


class Producer(BlockingClient, MessageFactory):
    """Sends messages: see `gateway.oms.Producer`."""

    _inner: AsyncProducer

    @overload
    def send(self, message: Message) -> SendResult: ...

    @overload
    def send(self, message: Sequence[Message]) -> list[SendResult]: ...

    def send(self, message: Message | Sequence[Message]) -> SendResult | list[SendResult]:
        """Send, and return when it is stored."""
        if isinstance(message, Message):
            return THREAD.call(self._inner.send(message))
        return THREAD.call(self._inner.send(message))

    def send_async(self, message: Message) -> Future[SendResult]:
        """Send without waiting; the future is for any thread."""
        return THREAD.submit(self._inner.send(message))

    def send_oneway(self, message: Message | Sequence[Message]) -> None:
        """Send and forget."""
        THREAD.call(self._inner.send_oneway(message))

    def prepare(self, message: Message) -> TransactionalResult:
        """Store a half message."""
        return TransactionalResult(THREAD.call(self._inner.prepare(message)))

    def batch(self) -> BatchMessageSender:
        """Return a sender that collects messages and sends them together."""
        return BatchMessageSender(self._inner.batch())

    def recall(self, sent: SendResult) -> None:
        """Take a delayed message back."""
        THREAD.call(self._inner.recall(sent))

    def add_interceptor(self, interceptor: ProducerInterceptor) -> None:
        """Have one more look at messages."""
        self._inner.add_interceptor(interceptor)

    def remove_interceptor(self, interceptor: ProducerInterceptor) -> None:
        """Have it look no more."""
        self._inner.remove_interceptor(interceptor)


class TransactionalResult:
    """A half message: commit or roll back. As a context manager it commits, or rolls back what raised."""

    def __init__(self, inner: AsyncTransactionalResult) -> None:
        self._inner = inner
        self.message_id = inner.message_id
        self.transaction_id = inner.transaction_id

    def commit(self) -> None:
        """Publish it."""
        THREAD.call(self._inner.commit())

    def rollback(self) -> None:
        """Drop it."""
        THREAD.call(self._inner.rollback())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        THREAD.call(self._inner.__aexit__(kind, error, traceback))


class BatchMessageSender:
    """Collects messages until `commit`. As a context manager it commits, unless it raised."""

    def __init__(self, inner: AsyncBatchMessageSender) -> None:
        self._inner = inner

    def send(self, message: Message) -> Self:
        """Add a message."""
        self._inner.send(message)
        return self

    def commit(self) -> list[SendResult]:
        """Send what was collected."""
        return THREAD.call(self._inner.commit())

    def rollback(self) -> None:
        """Forget what was collected."""
        self._inner.rollback()

    def close(self) -> None:
        """Forget what was collected, and take no more."""
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        THREAD.call(self._inner.__aexit__(kind, error, traceback))
