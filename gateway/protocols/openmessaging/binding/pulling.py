"""Pulling: messages of a queue for one request, which may wait for them.

A consumer exists only while its request waits. With `x-oms-ack: true` what it is given stays unsettled under
a lease, whose receipt nobody can guess; without, a message is done with when it is sent.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

import msgspec

from gateway.api import Conflict, Consumer, Delivery, HttpAnswer, NotFound
from gateway.core import lease
from gateway.core.message import Outcome
from gateway.core.policy import WORK
from gateway.core.shares import is_share, join, shared_filter
from gateway.http_oms import VERSION, VERSION_FIELD, to_json

from .call import Call, nothing
from .refusals import UnknownHandle

MAX: Final = 1000  # messages in one answer
BYTES_MAX: Final = 16 << 20  # of their bodies: as large as one may be
WAIT_MS_MAX: Final = 60_000  # proxies cut idle requests off at about a minute
TURN_SECONDS: Final = 0.05  # what one that does not wait gives a queue that has messages to deliver some
LEASE_MS: Final = int(lease.SECONDS_DEFAULT * 1000)
LEASE_MS_MAX: Final = int(lease.SECONDS_MAX * 1000)
TOKEN_BYTES: Final = 18  # 144 bits: nobody guesses one of them before the lease is over
POLL: Final = "x-oms-pollId"
NAME_CHARACTERS_MAX: Final = 128  # of what a client calls its poll
NDJSON: Final = "application/x-ndjson"


class Polls:
    """Polls under way that can be ended by a request: who breaks off may miss what was just on its way."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Poll] = {}  # by principal, and the name that it gave its poll

    async def pull(self, call: Call) -> HttpAnswer:
        """Answer with a message, or, asked for some (`x-oms-max`), with lines of JSON; 204: none."""
        poll, name = Poll(call), call.text(POLL)[:NAME_CHARACTERS_MAX]
        key = (call.session.principal.name, name)
        if name:
            self._known[key] = poll
        try:
            if not await poll.collect():
                return nothing()
            return poll.answer()
        finally:
            if self._known.get(key) is poll:
                del self._known[key]
            poll.give_back()

    async def end(self, call: Call) -> HttpAnswer:
        """Have a poll answered now, with what there is."""
        poll = self._known.get((call.session.principal.name, call.parts["poll"]))
        if poll is None:
            raise UnknownHandle("no such poll: it was answered already, or did not begin yet")
        poll.wake()
        return nothing()


class Poll:
    """One such request."""

    def __init__(self, call: Call) -> None:
        """Raise a GatewayError for what makes no sense."""
        self._call = call
        self._queue, self._group = call.source()
        self._many = "x-oms-max" in call.headers
        self._count = call.number("x-oms-max", 1, 1, MAX)
        self._wait_ms = call.number("x-oms-waitMills", 0, 0, WAIT_MS_MAX)
        self._ack = call.flag("x-oms-ack")
        self._lease_ms = call.number("x-oms-leaseMills", LEASE_MS, 1, LEASE_MS_MAX)
        self._selector = call.selector()
        self._held: list[Delivery] = []
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cut_off = False

    async def collect(self) -> bool:
        """Wait for messages; return whether there are any. Raise a GatewayError."""
        call, session = self._call, self._call.session
        self._check_kept()
        consumer = self._consume()
        consumer.gone = self._gone
        try:
            wait = self._wait_ms / 1000
            if consumer.group is not None and consumer.group.wants():
                wait = max(wait, TURN_SECONDS)
            left = await self._wait(wait)
        finally:
            call.gateway.begin_turn()
            consumer.gone = None
            session.cancel(consumer, give_back=False)
        if self._cut_off:
            session.check_consume(self._queue, self._group)
            raise NotFound(f"queue {self._queue!r} was deleted")
        return bool(self._held) and not left

    def _consume(self) -> Consumer:
        """Begin to compete. Raise a GatewayError."""
        session, window = self._call.session, self._fitting()
        if not is_share(self._queue):
            return session.consume(self._queue, self._deliver, window, self._group, 0, self._selector)
        queue = join(session, self._queue, True, self._selector, WORK)
        return session.consume_shared(queue, self._deliver, window, "", shared_filter(self._queue))

    def _check_kept(self) -> None:
        """Raise Conflict for a queue that would be gone after the first of its messages."""
        queue = self._call.gateway.broker.catalog.queues.get(self._queue)
        if queue is not None and queue.auto_delete:
            raise Conflict(
                f"queue {self._queue!r} is deleted with its last consumer, and a pull is one while it waits"
            )

    def _fitting(self) -> int:
        """Return how many messages, if they are of the queue's usual size, fit in one answer."""
        queue = self._call.gateway.broker.catalog.queues.get(self._queue)
        usual = queue.bytes_waiting // max(1, queue.length()) if queue is not None else 0
        return max(1, min(self._count, BYTES_MAX // max(1, usual)))

    async def _wait(self, seconds: float) -> bool:
        """Wait until there is something, or no point in waiting; return whether the client has left."""
        if not seconds:
            return False
        over = asyncio.ensure_future(self._call.request.over())
        try:
            await asyncio.wait((self._woken, over), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # a client that has just left is noticed here
            return over.done() and over.result()
        finally:
            over.cancel()

    def _deliver(self, batch: list[Delivery]) -> None:
        self._held += batch
        self.wake()

    def _gone(self) -> None:
        self._cut_off = True
        self.wake()

    def wake(self) -> None:
        """Wait no longer."""
        if not self._woken.done():
            self._woken.set_result(None)

    def answer(self) -> HttpAnswer:
        """Hand over what there is, as far as it fits in one answer; its first message always does."""
        size, count = 0, 0
        for delivery in self._held:
            size += len(delivery.message.body)
            if count and size > BYTES_MAX:
                break
            count += 1
        given, self._held = self._held[:count], self._held[count:]
        if not self._many:
            [delivery] = given
            return self._call.shown(self._call.show(delivery), self._hand_over(delivery))
        lines = [self._line(delivery) for delivery in given]
        return HttpAnswer(200, b"".join(lines), NDJSON, [(VERSION_FIELD, VERSION)])

    def _line(self, delivery: Delivery) -> bytes:
        found: dict[str, Any] = to_json(self._call.show(delivery))
        receipt = self._hand_over(delivery)
        if receipt:
            found["receipt"] = receipt
        return msgspec.json.encode(found) + b"\n"

    def _hand_over(self, delivery: Delivery) -> str:
        """Lease a delivery, and return its receipt; or be done with it: then "" is returned."""
        if not self._ack:
            self._call.session.settle(delivery, Outcome.ACK)
            return ""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._call.gateway.broker.leases.hold(token, delivery, self._lease_ms)
        return token

    def give_back(self) -> None:
        """What nobody has seen is as it was."""
        if not self._held:
            return
        self._call.gateway.begin_turn()
        for delivery in reversed(self._held):
            self._call.session.settle(delivery, Outcome.RETRY, 0)
        self._held = []
