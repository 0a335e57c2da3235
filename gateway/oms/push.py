"""Push consumers: a listener is called for each message, some at a time, until the consumer stops.

One task fetches as many messages as there are listeners free, so that what waits for a listener waits at the
provider, where another consumer may have it. Messages of one key are handed over one after another.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from .client import Connection, positive
from .consumer import MESSAGES_MAX, POLL_SECONDS, Consumer
from .driver import ClientOptions, Feature, MessageSelector
from .errors import OMSError
from .fields import Seconds, seconds_of
from .interceptor import InterceptorContext, after_receive, before_receive
from .key_value import KeyValue
from .keys import BATCH_SIZE_DEFAULT, CONSUME_CONCURRENCY_DEFAULT, ExtensionKeys
from .message import Message, MessageReceipt

log = logging.getLogger("gateway.oms")

RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)  # between attempts to receive from a provider that fails
STOP_SECONDS = 5.0  # how long listeners may take to end when the consumer stops; then they are cancelled


class ListenerContext:
    """What a listener may do with the message it has, or the messages: settle, and leave notes for
    interceptors.

    With `manual_ack` it may be kept, and used when the work is done, on the event loop.
    """

    __slots__ = ("_consumer", "_open", "attributes")

    def __init__(self, consumer: PushConsumer, messages: Iterable[Message], attributes: KeyValue) -> None:
        self._consumer = consumer
        self._open = {id(message.receipt): message.receipt for message in messages if message.receipt}
        self.attributes = attributes

    def ack(self) -> None:
        """Settle all that is not yet. What fails is logged: such a message comes again."""
        self.success(*self._open.values())

    def success(self, *receipts: MessageReceipt) -> None:
        """Settle these of a batch; nothing for one that is settled."""
        settled = [receipt for receipt in receipts if self._open.pop(id(receipt), None) is not None]
        if settled:
            self._consumer._settle(settled)

    @property
    def unsettled(self) -> tuple[MessageReceipt, ...]:
        """What is not settled yet."""
        return tuple(self._open.values())


#: Plain or `async`. A plain one runs on the event loop: it must not block.
#: Raising has the message come again.
MessageListener = Callable[[Message, ListenerContext], Awaitable[None] | None]
BatchMessageListener = Callable[[list[Message], ListenerContext], Awaitable[None] | None]


class _Binding:
    """How messages of one queue are handed over."""

    __slots__ = ("batch", "listener", "manual_ack")

    def __init__(
        self, listener: Callable[..., Awaitable[None] | None], batch: bool, manual_ack: bool
    ) -> None:
        self.listener = listener
        self.batch = batch
        self.manual_ack = manual_ack


class PushConsumer(Consumer):
    """Calls listeners. Returning settles a message, raising has it come again, with an attempt more.

    At most CONSUME_CONCURRENCY listeners run at a time. Stopping waits for those that run.
    """

    def __init__(self, connection: Connection, options: ClientOptions) -> None:
        super().__init__(connection, options)
        attributes = options.attributes
        self._room = positive(attributes, ExtensionKeys.CONSUME_CONCURRENCY, CONSUME_CONCURRENCY_DEFAULT)
        self._batch_max = positive(attributes, ExtensionKeys.BATCH_SIZE, BATCH_SIZE_DEFAULT)
        self._retry_delay = _retry_delay(attributes)
        if self._retry_delay is not None:
            self._driver.require(Feature.RETRY_LATER)
        self._bindings: dict[str, _Binding] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._behind: dict[tuple[str, str], deque[Message]] = {}  # of busy keys, what is next
        self._held = 0  # messages with a listener, or behind one of their key
        self._acknowledged: list[MessageReceipt] = []
        self._acknowledging: asyncio.Task[None] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._receiving: asyncio.Task[list[Message]] | None = None
        self._free = asyncio.Event()  # there is room for another message
        self._awake = asyncio.Event()  # not suspended
        self._awake.set()
        self._waking: asyncio.TimerHandle | None = None

    async def bind_queue(
        self,
        queues: str | Iterable[str],
        listener: MessageListener | BatchMessageListener,
        *,
        selector: MessageSelector | str | None = None,
        batch: bool = False,
        manual_ack: bool = False,
    ) -> None:
        """Have a listener called for what comes to these queues, and matches a selector (text is SQL92).

        With `batch` it gets lists of at most BATCH_SIZE, each of one queue. With `manual_ack` returning
        settles nothing: only the context's `ack` does, then or later.
        """
        names = _named(queues)
        binding = _Binding(listener, batch, manual_ack)
        before = {queue: self._bindings.get(queue) for queue in names}
        self._bindings.update(dict.fromkeys(names, binding))
        try:
            await self._bind(names, selector)
        except BaseException:
            for queue, known in before.items():
                if known is None:
                    del self._bindings[queue]
                else:
                    self._bindings[queue] = known
            raise
        self._free.set()

    async def unbind_queue(self, queues: str | Iterable[str]) -> None:
        """Call no listener for these any more. What one has now it may settle."""
        names = _named(queues)
        await super().unbind_queue(names)
        for queue in names:
            self._bindings.pop(queue, None)

    def suspend(self, timeout: Seconds = 0) -> None:
        """Call no listener until `resume`, or for so long at most. Those that run go on."""
        self._awake.clear()
        if self._receiving is not None:
            self._receiving.cancel()
        self._wake_no_more()
        seconds = seconds_of(timeout)
        if seconds:
            self._waking = asyncio.get_running_loop().call_later(seconds, self.resume)

    def resume(self) -> None:
        """Go on; nothing if it was not suspended."""
        self._wake_no_more()
        self._awake.set()

    @property
    def is_suspended(self) -> bool:
        """Whether listeners are not called for now."""
        return not self._awake.is_set()

    def _wake_no_more(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None

    # -- life -----------------------------------------------------------------------------------

    async def _open(self) -> None:
        await super()._open()
        # Anew: the loop may be another one since the last start.
        suspended, self._free, self._awake = self.is_suspended, asyncio.Event(), asyncio.Event()
        if not suspended:
            self._awake.set()
        self._fetching = asyncio.ensure_future(self._fetch())

    async def _close(self) -> None:
        self._wake_no_more()
        fetching, self._fetching = self._fetching, None
        assert fetching is not None
        fetching.cancel()
        await asyncio.wait([fetching])
        self._behind.clear()
        running = set(self._running)
        if running:
            _, late = await asyncio.wait(running, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if self._acknowledging is not None:
            await asyncio.wait([self._acknowledging])
        self._held = 0
        await super()._close()

    async def _fetch(self) -> None:
        """Receive while there is room; a provider that fails is asked again."""
        failures = 0
        while True:
            try:
                await self._fetch_some()
                failures = 0
            except OMSError as error:
                log.warning("push consumer %s: %s", self.options.client_id, error.reason)
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1

    async def _fetch_some(self) -> None:
        await self._awake.wait()
        while not self._selectors or self._held >= self._room:
            self._free.clear()
            await self._free.wait()
        if self.is_suspended:
            return
        receiver = self._receiver
        assert receiver is not None
        room = min(self._room - self._held, MESSAGES_MAX)
        self._receiving = asyncio.ensure_future(receiver.receive(room, POLL_SECONDS))
        try:
            messages = await self._receiving
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return  # suspended: others of the group may have what comes now
        finally:
            self._receiving = None
        await self._acknowledge_at_most_once_of(messages)
        self._hand_over(messages)
        if len(messages) == room:
            await asyncio.sleep(0)  # plain listeners and a full queue: others run, too

    async def _acknowledge_at_most_once_of(self, messages: list[Message]) -> None:
        try:
            await self._acknowledge_at_most_once(messages)
        except OMSError as error:
            log.warning("push consumer %s: %s", self.options.client_id, error.reason)

    # -- dispatch -------------------------------------------------------------------------------

    def _hand_over(self, messages: list[Message]) -> None:
        batches: dict[str, list[Message]] = {}
        for message in messages:
            queue = message.header.destination
            binding = self._bindings.get(queue)
            if binding is None:  # unbound while it came
                if message.receipt is not None:
                    self._run(self._give_back([message.receipt]))
                continue
            self._held += 1
            if binding.batch:
                batches.setdefault(queue, []).append(message)
            else:
                self._hand_one_over(message, binding)
        for queue, batch in batches.items():
            binding = self._bindings[queue]
            for start in range(0, len(batch), self._batch_max):
                self._run(self._listen_to_batch(batch[start : start + self._batch_max], binding))

    def _hand_one_over(self, message: Message, binding: _Binding) -> None:
        key = message.extension_header.message_key if message.has_extension else None
        if not key:
            self._run(self._listen(message, binding))
            return
        line = (message.header.destination, key)
        if line in self._behind:
            self._behind[line].append(message)
        else:
            self._behind[line] = deque([message])
            self._run(self._listen_in_order(line, binding))

    def _run(self, work: Awaitable[None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _listen_in_order(self, line: tuple[str, str], binding: _Binding) -> None:
        waiting = self._behind[line]
        try:
            while waiting:
                await self._listen(waiting.popleft(), binding)
        finally:
            if self._behind.get(line) is waiting:
                del self._behind[line]

    async def _listen(self, message: Message, binding: _Binding) -> None:
        try:
            while True:
                again = await self._attempt(message, binding)
                if again is None:
                    return
                await asyncio.sleep(again)
                message.header.delivery_count += 1
        finally:
            self._release(1)

    async def _attempt(self, message: Message, binding: _Binding) -> float | None:
        """Have the listener called; return the seconds after which to do it again, None if it is done."""
        intercepted = InterceptorContext()
        context = ListenerContext(self, [message], intercepted.attributes)
        failed: Exception | None = None
        try:
            await before_receive(self._interceptors, message, intercepted)
            result = binding.listener(message, context)
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            failed = error
            log.warning("the listener failed for %r: it comes again", message, exc_info=True)
        else:
            if not binding.manual_ack:
                context.ack()
        await after_receive(self._interceptors, message, intercepted, failed)
        return await self._failed(message) if failed is not None and context.unsettled else None

    async def _listen_to_batch(self, batch: list[Message], binding: _Binding) -> None:
        intercepted = [(message, InterceptorContext()) for message in batch]
        context = ListenerContext(self, batch, KeyValue())
        failed: Exception | None = None
        try:
            for message, own in intercepted:
                await before_receive(self._interceptors, message, own)
            result = binding.listener(batch, context)
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            failed = error
            log.warning("the listener failed for %d messages: they come again", len(batch), exc_info=True)
        else:
            if not binding.manual_ack:
                context.ack()
        try:
            for message, own in intercepted:
                await after_receive(self._interceptors, message, own, failed)
            if failed is not None:
                await self._give_back(context.unsettled)
        finally:
            self._release(len(batch))

    async def _failed(self, message: Message) -> float | None:
        assert self._receiver is not None
        try:
            return await self._receiver.failed(message, self._retry_delay)
        except OMSError as error:
            log.warning("%r could not be given back, and comes later: %s", message, error.reason)
            return None

    async def _give_back(self, receipts: Iterable[MessageReceipt]) -> None:
        assert self._receiver is not None
        for receipt in receipts:
            try:
                await self._receiver.nack(receipt, self._retry_delay)
            except OMSError as error:
                log.warning("%r could not be given back, and comes later: %s", receipt, error.reason)

    def _release(self, count: int) -> None:
        self._held -= count
        self._free.set()

    # -- acknowledgements: all of a round of the loop together ------------------------------------

    def _settle(self, receipts: list[MessageReceipt]) -> None:
        self._acknowledged += receipts
        if self._acknowledging is None:
            self._acknowledging = asyncio.ensure_future(self._acknowledge())

    async def _acknowledge(self) -> None:
        try:
            while self._acknowledged:
                receipts, self._acknowledged = self._acknowledged, []
                receiver = self._receiver
                if receiver is None:
                    log.warning("%d messages acknowledged after the stop: they come again", len(receipts))
                    return
                try:
                    await receiver.acknowledge(receipts)
                except OMSError as error:
                    log.warning("an acknowledgement came too late: %s", error.reason)
        finally:
            self._acknowledging = None


def _named(queues: str | Iterable[str]) -> list[str]:
    return [queues] if isinstance(queues, str) else list(queues)


def _retry_delay(attributes: KeyValue) -> float | None:
    if ExtensionKeys.RETRY_DELAY not in attributes:
        return None
    return seconds_of(attributes.get_int(ExtensionKeys.RETRY_DELAY) / 1000)
