"""One ReceiveMessage under way: wait for messages, hold them under leases, write them.

A consumer exists only while its poll waits. Whatever goes wrong, nothing is lost: what was not sent is as
it was before, what was sent to a client that is gone comes again at once, one attempt more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.api import Consumer, Delivery, Gateway, NotFound, Session
from gateway.core.message import Outcome
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.payload import put_ms
from gateway.rocketmq.schema import ReceiveMessageResponse, Status

from ..call import Call
from ..translate import from_delivery
from .sources import BYTES_MAX, Source

if TYPE_CHECKING:
    from gateway.core.lease import Leases

TURN_SECONDS: Final = 0.05  # what a poll that does not wait gives a queue to hand out what it has
HANDLE_BYTES: Final = 18  # of chance in a receipt handle: nobody guesses one

FOUND: Final = ReceiveMessageResponse(status=Status(code=Code.OK))
NOTHING: Final = ReceiveMessageResponse(
    status=Status(code=Code.MESSAGE_NOT_FOUND, message="there is no message yet")
)


class Terms:
    """What a request asks for, as far as it is granted."""

    __slots__ = ("count", "invisible_ms", "lease_ms", "queue_id", "renewed", "topic", "wait_seconds")

    def __init__(
        self,
        topic: Any,
        queue_id: int,
        count: int,
        wait_seconds: float,
        invisible_ms: int,
        lease_ms: int,
        renewed: bool,
    ) -> None:
        self.topic = topic  # the resource by which the client knows it
        self.queue_id = queue_id
        self.count = count
        self.wait_seconds = wait_seconds
        self.invisible_ms = invisible_ms  # what the client is told
        self.lease_ms = lease_ms
        self.renewed = renewed  # the lease is over when the client is gone


class Poll:
    """One request. `handles` are of what it was answered, and may have to be answered again."""

    __slots__ = ("_consumers", "_gateway", "_held", "_loop", "_stopped", "_waiting", "handles", "source")

    def __init__(self, gateway: Gateway, source: Source) -> None:
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._consumers: list[Consumer] = []
        self._held: list[Delivery] = []
        self._stopped = False
        self._waiting: asyncio.Future[None] | None = None
        self.source = source
        self.handles: Sequence[str] = ()

    # -- waiting ------------------------------------------------------------------------------------------

    async def run(self, call: Call, terms: Terms, earlier: Poll | None = None) -> None:
        """Answer a request. `earlier` was the same request, whose answer did not arrive."""
        again = earlier.taken(self._gateway.broker.leases) if earlier is not None else {}
        if again:
            await self._write(call, terms, again)
            return
        session = call.session
        try:
            await self._collect(session, terms)
        except BaseException:
            self._give_back()
            raise
        self._cut(terms.count)
        if self._held:
            await self._write(call, terms, self._lease(call, terms))
        else:
            await call.write(NOTHING)

    async def _collect(self, session: Session, terms: Terms) -> None:
        """Wait until there is something, or the time is over."""
        waiting = self.source.waiting
        until = self._loop.time() + terms.wait_seconds
        if waiting is not None:
            waiting.add(self.wake)
        try:
            while True:
                await self._compete(session, terms.count, until)
                if self._held or self._stopped or self._loop.time() >= until:
                    return
        finally:
            if waiting is not None:
                waiting.discard(self.wake)

    async def _compete(self, session: Session, count: int, until: float) -> None:
        """Be a consumer until there is something, the time is over, or somebody wakes the poll."""
        self._waiting = self._loop.create_future()
        self._consumers = self.source.consume(session, self._deliver, count)
        for consumer in self._consumers:
            consumer.gone = self.wake
            if consumer.group is not None and consumer.group.wants():
                until = max(until, self._loop.time() + TURN_SECONDS)
        timer = self._loop.call_at(until, self.wake)
        try:
            await self._waiting
        finally:
            timer.cancel()
            self._gateway.begin_turn()
            self._detach(session)

    def _detach(self, session: Session) -> None:
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            session.cancel(consumer, give_back=False)

    def _deliver(self, batch: list[Delivery]) -> None:
        self._held += batch
        self.wake()

    def wake(self) -> None:
        """Something has happened that a poll which waits should know."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def stop(self, session: Session) -> None:
        """Nobody waits for the answer any more, or the client is to go."""
        self._stopped = True
        self._detach(session)
        self._give_back()
        self.wake()

    def _cut(self, count: int) -> None:
        """Give back what would make the answer too large, its first message excepted."""
        size = 0
        for index, delivery in enumerate(self._held):
            size += len(delivery.message.body)
            if index and (size > BYTES_MAX or index >= count):
                kept, self._held = self._held[:index], self._held[index:]
                self._give_back()
                self._held = kept
                return

    def _give_back(self) -> None:
        """Nobody has seen these: they are as they were."""
        held, self._held = self._held, []
        if held:
            self._gateway.begin_turn()
            for delivery in reversed(held):
                self._gateway.broker.settlement.settle(delivery, Outcome.RETRY, 0)

    # -- answering ----------------------------------------------------------------------------------------

    def _lease(self, call: Call, terms: Terms) -> dict[str, Delivery]:
        """Hold what was received; return it by handle: one of chance, and a number of each."""
        chance = secrets.token_urlsafe(HANDLE_BYTES)
        held = {f"{chance}.{index}": delivery for index, delivery in enumerate(self._held)}
        self._held = []
        holder = call.client if terms.renewed else None
        self._gateway.broker.leases.hold_all(held, terms.lease_ms, holder)
        return held

    async def _write(self, call: Call, terms: Terms, held: dict[str, Delivery]) -> None:
        self.handles = tuple(held)
        clock = self._gateway.clock
        now_ms, asked = clock.now_ms, self.source.topic
        written = 0
        try:
            await call.write(FOUND)
            for handle, delivery in held.items():
                response = ReceiveMessageResponse()
                message = response.message
                from_delivery(message, delivery, terms.topic, asked, handle, terms.invisible_ms, now_ms)
                message.system_properties.queue_id = terms.queue_id
                written += 1
                await call.write(response)
            last = ReceiveMessageResponse()
            put_ms(last.delivery_timestamp, clock.wall_ms)
            await call.write(last)
        except BaseException:
            self._failed(written)
            raise

    def _failed(self, written: int) -> None:
        """The client is gone: what it may have seen counts as an attempt."""
        self._gateway.begin_turn()
        leases = self._gateway.broker.leases
        handles, self.handles = self.handles, ()
        for index in range(len(handles) - 1, -1, -1):
            try:
                leases.settle(handles[index], Outcome.REQUEUE if index < written else Outcome.RETRY, 0)
            except NotFound:
                continue  # settled meanwhile, or its queue is gone

    def taken(self, leases: Leases) -> dict[str, Delivery]:
        """Hand over what this poll has answered and nobody has settled: it is answered by another now."""
        handles, self.handles = self.handles, ()
        found: dict[str, Delivery] = {}
        for handle in handles:
            try:
                found[handle] = leases.find(handle)
            except NotFound:
                continue
        return found
