"""One ReceiveMessage under way: wait for messages, hold them under leases, write them.

Whatever goes wrong, nothing is lost: what was not sent is as it was before, what was sent to a client that
is gone comes again at once, one attempt more.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.api import Delivery, Gateway, NotFound
from gateway.core.message import Outcome
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.payload import put_ms
from gateway.rocketmq.schema import ReceiveMessageResponse, Status

from ..call import Call
from ..translate import from_delivery
from .sources import Source
from .waiting import Waiting

if TYPE_CHECKING:
    from gateway.core.lease import Leases

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


class Poll(Waiting):
    """One request. `handles` are of what it was answered, and may have to be answered again."""

    __slots__ = ("handles",)

    def __init__(self, gateway: Gateway, source: Source) -> None:
        super().__init__(gateway, source)
        self.handles: Sequence[str] = ()

    async def run(self, call: Call, terms: Terms, earlier: Poll | None = None) -> None:
        """Answer a request. `earlier` was the same request, whose answer did not arrive."""
        again = earlier.taken(self._gateway.broker.leases) if earlier is not None else {}
        if again:
            await self._write(call, terms, again)
            return
        await self.collect(call.session, terms.count, terms.wait_seconds)
        if self.held:
            await self._write(call, terms, self._lease(call, terms))
        else:
            await call.write(NOTHING)

    def _lease(self, call: Call, terms: Terms) -> dict[str, Delivery]:
        """Hold what was received; return it by handle: one of chance, and a number of each."""
        chance = secrets.token_urlsafe(HANDLE_BYTES)
        held = {f"{chance}.{index}": delivery for index, delivery in enumerate(self.held)}
        self.held = []
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
