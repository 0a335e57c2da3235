"""Consumers of the local driver: members of the core's groups, which take exactly what is asked for.

A member is congested, in the core's words, while nobody asks; asking opens its window by as much. What a pull
consumer was given is under a lease, what a push consumer was given is its own until it settles it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from gateway.api import (
    WORK,
    Binding,
    Consumer,
    Delivery,
    NotFound,
    Outcome,
    QueuePolicy,
    Selector,
    StreamQueue,
)

from ...driver import ClientOptions, MessageSelector, Receiver, SelectorType
from ...errors import OMSDestinationError, OMSError, OMSMessageFormatError, ResponseStatus
from ...message import Message, MessageReceipt
from ...names import share_of
from .errors import translating
from .names import Place, check_group
from .translate import from_core

if TYPE_CHECKING:
    from . import LocalDriver

TURN_SECONDS: Final = 0.05  # what one that does not wait gives a queue that has messages to deliver one
LANGUAGES: Final = {SelectorType.SQL: "sql", SelectorType.TAG: "tags"}


class _Source:
    """One bound queue."""

    __slots__ = ("consumer", "name", "place")

    def __init__(self, name: str, place: Place, consumer: Consumer) -> None:
        self.name = name
        self.place = place
        self.consumer = consumer


class _Asked:
    """A `receive` under way."""

    __slots__ = ("count", "future")

    def __init__(self, count: int, future: asyncio.Future[list[tuple[str, Delivery]]]) -> None:
        self.count = count
        self.future = future


class LocalReceiver(Receiver):
    """One consumer, with a session of its own."""

    def __init__(self, driver: LocalDriver, options: ClientOptions) -> None:
        check_group(options.group)
        self._driver = driver
        self._gateway = driver.region.gateway
        self._broker = self._gateway.broker
        self._options = options
        self._session = driver.session(options)
        self._sources: dict[str, _Source] = {}
        self._deleted: list[str] = []  # since the last `receive`
        self._former: list[Consumer] = []  # of queues unbound since, whose deliveries are not all settled
        self._inbox: deque[tuple[str, Delivery]] = deque()  # came although nobody asks any more
        self._asked: deque[_Asked] = deque()
        self._tokens = secrets.token_urlsafe(12)  # begins the names of leases, which others must not guess
        self._count = 0
        self._lease_ms = max(1, round(options.invisible * 1000))

    # -- binding --------------------------------------------------------------------------------

    async def bind(self, queue: str, selector: MessageSelector | None) -> None:
        place = self._driver.place(queue)
        self._gateway.begin_turn()
        known = self._sources.pop(queue, None)
        if known is not None:
            self._let_go(known)
        with translating():
            consumer = self._consume(queue, place, self._selector(place, selector))
            consumer.gone = lambda: self._gone(queue)
            consumer.congested = True
            self._sources[queue] = _Source(queue, place, consumer)
            await self._gateway.durable(self._broker.engine.position())
        self._open_windows()

    def _selector(self, place: Place, wanted: MessageSelector | None) -> Selector | None:
        if wanted is None:
            own = None
        else:
            own = self._broker.selectors.find(wanted.expression, LANGUAGES[wanted.type])
        return own if place.queue else self._driver.region.registry.filtered(place.topic, own)

    def _consume(self, queue: str, place: Place, selector: Selector | None) -> Consumer:
        deliver = self._deliverer(queue)
        if place.queue:
            found = self._broker.catalog.get(place.queue)
            group = self._options.group if isinstance(found, StreamQueue) else ""
            return self._session.consume(place.queue, deliver, 1, group, 0, selector)
        name = share_of(self._options.group, place.topic)
        self._make(name, place.topic, selector)
        if self._options.broadcast:
            shared = self._broker.catalog.get(name)
            return self._session.consume_shared(shared, deliver, 1, "", place.topic)
        return self._session.consume(name, deliver, 1, "", 0, selector)

    def _make(self, name: str, topic: str, selector: Selector | None) -> None:
        """Have a group's queue, with the pauses and attempts of one that is declared."""
        catalog = self._broker.catalog
        found = catalog.queues.get(name)
        if found is None:
            kept = not self._options.broadcast
            policy = WORK if kept else QueuePolicy()
            queue, _ = catalog.declare(name, "classic", policy, kept, not kept, self._session.origin)
            catalog.bind(queue, Binding(topic, queue, selector=selector))
            return
        bound = catalog.bindings.get(name, {}).get(topic)
        if bound is not None and bound.selector != selector and not found.active:
            catalog.bind(found, Binding(topic, found, selector=selector))  # nobody else wants the other

    async def unbind(self, queue: str) -> None:
        source = self._sources.pop(queue, None)
        if source is not None:
            self._gateway.begin_turn()
            self._let_go(source)

    def _let_go(self, source: _Source) -> None:
        """Take from it no more; what was handed out can be settled until its time is over."""
        kept = deque(item for item in self._inbox if item[0] != source.name)
        self._give_back([delivery for name, delivery in self._inbox if name == source.name])
        self._inbox = kept
        consumer = source.consumer
        consumer.gone = None
        group = consumer.group
        self._session.cancel(consumer, give_back=group is not None and group.queue.auto_delete)
        if consumer.unsettled:
            self._former.append(consumer)

    def _gone(self, queue: str) -> None:
        """The queue was deleted: who receives is told, once."""
        self._sources.pop(queue, None)
        waiting = next((asked for asked in self._asked if not asked.future.done()), None)
        if waiting is not None:
            waiting.future.set_exception(_deleted(queue))
        else:
            self._deleted.append(queue)

    # -- receiving ------------------------------------------------------------------------------

    async def receive(self, messages_max: int, timeout: float) -> list[Message]:
        self._gateway.begin_turn()
        if self._deleted:
            raise _deleted(self._deleted.pop())
        if not self._sources:
            raise OMSDestinationError("all queues that were bound were deleted")
        if self._inbox and not self._asked:
            count = min(messages_max, len(self._inbox))
            return self._messages([self._inbox.popleft() for _ in range(count)])
        asked = _Asked(messages_max, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._open_windows()
        if timeout <= 0:
            timeout = TURN_SECONDS if self._wanted() else 0
        try:
            async with asyncio.timeout(timeout):
                return self._messages(await asked.future)
        except TimeoutError:
            return []
        finally:
            self._end(asked)

    def _wanted(self) -> bool:
        """Tell whether a queue has something to deliver."""
        groups = (source.consumer.group for source in self._sources.values())
        return any(group is not None and group.wants() for group in groups)

    def _end(self, asked: _Asked) -> None:
        """It is over: what it did not take goes to whoever asks next, or back."""
        if asked in self._asked:
            self._asked.remove(asked)
        if not self._asked:
            for source in self._sources.values():
                source.consumer.congested = True
        if asked.future.cancelled() or not asked.future.done() or asked.future.exception() is not None:
            return
        left = asked.future.result()
        if left:  # it was cancelled with messages in its hands
            self._gateway.begin_turn()
            self._give_back([delivery for _, delivery in left])

    def _open_windows(self) -> None:
        wanted = sum(asked.count for asked in self._asked)
        if not wanted:
            return
        for source in self._sources.values():
            consumer = source.consumer
            consumer.window = consumer.unsettled + wanted
            self._broker.queues.resume(consumer)

    def _deliverer(self, queue: str) -> Callable[[list[Delivery]], None]:
        def deliver(batch: list[Delivery]) -> None:
            self._inbox.extend((queue, delivery) for delivery in batch)
            self._hand_out()

        return deliver

    def _hand_out(self) -> None:
        inbox, asked = self._inbox, self._asked
        while inbox and asked:
            first = asked.popleft()
            if not first.future.done():
                count = min(first.count, len(inbox))
                first.future.set_result([inbox.popleft() for _ in range(count)])
        if asked:
            return
        for source in self._sources.values():
            source.consumer.congested = True
        if inbox:  # of several queues each had something: not during their delivery
            asyncio.get_running_loop().call_soon(self._return_rest)

    def _return_rest(self) -> None:
        if self._asked or not self._inbox:
            return
        rest = [delivery for _, delivery in self._inbox]
        self._inbox.clear()
        self._gateway.begin_turn()
        self._give_back(rest)

    def _give_back(self, deliveries: list[Delivery]) -> None:
        """Nobody has seen these: they are as they were."""
        for delivery in reversed(deliveries):
            self._session.settle(delivery, Outcome.RETRY, 0)

    def _messages(self, taken: list[tuple[str, Delivery]]) -> list[Message]:
        found: list[Message] = []
        offset_ms = self._gateway.clock.offset_ms
        while taken:
            queue, delivery = taken.pop(0)
            try:
                message = from_core(delivery.message, queue, delivery.attempt, None, offset_ms)
            except OMSMessageFormatError as error:
                self._session.settle(delivery, Outcome.REJECT, None, error.reason)
            else:
                message.receipt = MessageReceipt(self._handle(delivery), queue)
                found.append(message)
        return found

    def _handle(self, delivery: Delivery) -> Delivery | str:
        if self._options.push:
            return delivery
        self._count += 1
        token = f"{self._tokens}{self._count}"
        self._broker.leases.hold(token, delivery, self._lease_ms)
        return token

    # -- settling -------------------------------------------------------------------------------

    async def acknowledge(self, receipts: Sequence[MessageReceipt]) -> None:
        self._gateway.begin_turn()
        late = [receipt for receipt in receipts if not self._settle(receipt, Outcome.ACK, None)]
        if late:
            raise _late(late)

    async def nack(self, receipt: MessageReceipt, delay: float | None) -> None:
        self._gateway.begin_turn()
        if not self._settle(receipt, Outcome.REQUEUE, None if delay is None else round(delay * 1000)):
            raise _late([receipt])

    def _settle(self, receipt: MessageReceipt, outcome: Outcome, delay_ms: int | None) -> bool:
        handle = receipt.handle
        if isinstance(handle, Delivery):
            return self._session.settle(handle, outcome, delay_ms)
        try:
            self._broker.leases.settle(handle, outcome, delay_ms)
        except NotFound:
            return False
        return True

    async def extend(self, receipt: MessageReceipt, seconds: float) -> MessageReceipt:
        self._gateway.begin_turn()
        if isinstance(receipt.handle, str):
            try:
                self._broker.leases.extend(receipt.handle, max(1, round(seconds * 1000)))
            except NotFound:
                raise _late([receipt]) from None
        return receipt

    async def close(self) -> None:
        self._gateway.begin_turn()
        self._give_back([delivery for _, delivery in self._inbox])
        self._inbox.clear()
        for source in self._sources.values():
            source.consumer.gone = None
        self._sources.clear()
        for consumer in self._former:
            for delivery in list(consumer.group.unsettled.values()) if consumer.group is not None else ():
                if delivery.consumer is consumer:
                    self._session.settle(delivery, Outcome.REQUEUE, 0)
        self._former.clear()
        self._session.close()


def _deleted(queue: str) -> OMSDestinationError:
    return OMSDestinationError(f"queue {queue!r} was deleted: bind it again to have it made again")


def _late(receipts: list[MessageReceipt]) -> OMSError:
    which = "a delivery was" if len(receipts) == 1 else f"{len(receipts)} deliveries were"
    return OMSError(f"{which} settled already, or came again since", ResponseStatus.BAD_PARAMETER)
