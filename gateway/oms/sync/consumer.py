"""Blocking consumers; a push consumer's listeners run in worker threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..consumer import Consumer as AsyncConsumer
from ..consumer import PullConsumer as AsyncPullConsumer
from ..driver import MessageSelector
from ..fields import Seconds
from ..interceptor import ConsumerInterceptor
from ..message import Message, MessageReceipt
from ..push import ListenerContext as AsyncListenerContext
from ..push import PushConsumer as AsyncPushConsumer
from .service import BlockingClient, call_or_run
from .thread import THREAD


class _Consumer(BlockingClient):
    _inner: AsyncConsumer

    @property
    def bound_queues(self) -> list[str]:
        """The queues this takes from."""
        return self._inner.bound_queues

    def unbind_queue(self, queues: str | Iterable[str]) -> None:
        """Take from these no more."""
        call_or_run(self._inner.unbind_queue(queues))

    def ack(self, receipt: MessageReceipt) -> None:
        """Settle a delivery for good."""
        THREAD.call(self._inner.ack(receipt))

    def nack(self, receipt: MessageReceipt, delay: Seconds | None = None) -> None:
        """Give a delivery back as failed."""
        THREAD.call(self._inner.nack(receipt, delay))

    def extend(self, receipt: MessageReceipt, delay: Seconds) -> MessageReceipt:
        """Keep a delivery for so long from now; return what settles it from now on."""
        return THREAD.call(self._inner.extend(receipt, delay))

    def add_interceptor(self, interceptor: ConsumerInterceptor) -> None:
        """Have one more look at messages."""
        self._inner.add_interceptor(interceptor)

    def remove_interceptor(self, interceptor: ConsumerInterceptor) -> None:
        """Have it look no more."""
        self._inner.remove_interceptor(interceptor)


class PullConsumer(_Consumer):
    """Takes messages when asked to: see `gateway.oms.PullConsumer`. Iterating waits for each."""

    _inner: AsyncPullConsumer

    def bind_queue(self, queues: str | Iterable[str], selector: MessageSelector | str | None = None) -> None:
        """Take from these, too."""
        call_or_run(self._inner.bind_queue(queues, selector))

    def receive(self, timeout: Seconds | None = None, **place: Any) -> Message | None:
        """Return the next message; None after a timeout. `place`: queue, partition, position."""
        return THREAD.call(self._inner.receive(timeout, **place))

    def batch_receive(self, messages_max: int, timeout: Seconds | None = None, **place: Any) -> list[Message]:
        """Return at most so many messages as soon as there are any; [] after a timeout."""
        return THREAD.call(self._inner.batch_receive(messages_max, timeout, **place))

    def __iter__(self) -> Iterator[Message]:
        while True:
            message = self.receive()
            assert message is not None, "without a timeout there is a message"
            yield message


class ListenerContext:
    """What a listener may do with what it has, from any thread."""

    def __init__(self, inner: AsyncListenerContext) -> None:
        self._inner = inner
        self.attributes = inner.attributes

    def ack(self) -> None:
        """Settle all that is not yet."""
        THREAD.loop.call_soon_threadsafe(self._inner.ack)

    def success(self, *receipts: MessageReceipt) -> None:
        """Settle these of a batch."""
        THREAD.loop.call_soon_threadsafe(self._inner.success, *receipts)


class PushConsumer(_Consumer):
    """Calls listeners in worker threads: see `gateway.oms.PushConsumer`."""

    _inner: AsyncPushConsumer

    def bind_queue(
        self,
        queues: str | Iterable[str],
        listener: Callable[[Message, ListenerContext], None]
        | Callable[[list[Message], ListenerContext], None],
        *,
        selector: MessageSelector | str | None = None,
        batch: bool = False,
        manual_ack: bool = False,
    ) -> None:
        """Have a listener called for what comes to these queues."""
        called: Any = listener

        async def listen(what: Any, context: AsyncListenerContext) -> None:
            await THREAD.in_worker(called, what, ListenerContext(context))

        call_or_run(
            self._inner.bind_queue(queues, listen, selector=selector, batch=batch, manual_ack=manual_ack)
        )

    def suspend(self, timeout: Seconds = 0) -> None:
        """Call no listener until `resume`, or for so long at most."""
        call_or_run(_done(self._inner.suspend, timeout))

    def resume(self) -> None:
        """Go on."""
        call_or_run(_done(self._inner.resume))

    @property
    def is_suspended(self) -> bool:
        """Whether listeners are not called for now."""
        return self._inner.is_suspended


async def _done(call: Callable[..., None], *arguments: Any) -> None:
    call(*arguments)
