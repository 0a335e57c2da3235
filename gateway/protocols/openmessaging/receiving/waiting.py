"""Waiting for messages: a consumer that exists as long as a request waits.

What it was given and does not answer with goes back, as if nobody had seen it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.api import Consumer, Delivery, Gateway, Session
from gateway.core.message import Outcome

from .sources import BYTES_MAX, Source

TURN_SECONDS: Final = 0.05  # what a request that does not wait gives a queue to hand out what it has


class Waiting:
    """A request that waits for what a source has. `held` is what came, to be answered with."""

    __slots__ = ("_consumers", "_gateway", "_loop", "_stopped", "_woken", "held", "source")

    def __init__(self, gateway: Gateway, source: Source) -> None:
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._consumers: list[Consumer] = []
        self._stopped = False
        self._woken: asyncio.Future[None] | None = None
        self.held: list[Delivery] = []
        self.source = source

    async def collect(self, session: Session, count: int, wait_seconds: float) -> None:
        """Wait until there is something, or the time is over: then `held` has at most `count`."""
        notices = self.source.notices
        until = self._loop.time() + wait_seconds
        if notices is not None:
            notices.add(self.wake)
        try:
            while not self._stopped:
                await self._compete(session, count, until)
                if self.held or self._loop.time() >= until:
                    break
        except BaseException:
            self.give_back()
            raise
        finally:
            if notices is not None:
                notices.discard(self.wake)
        self._cut(count)

    async def _compete(self, session: Session, count: int, until: float) -> None:
        """Be a consumer until there is something, the time is over, or somebody wakes us."""
        self._woken = self._loop.create_future()
        self._consumers = self.source.consume(session, self._deliver, count)
        for consumer in self._consumers:
            consumer.gone = self.wake
            if consumer.group is not None and consumer.group.wants():
                until = max(until, self._loop.time() + TURN_SECONDS)
        timer = self._loop.call_at(until, self.wake)
        try:
            await self._woken
        finally:
            timer.cancel()
            self._gateway.begin_turn()
            self._detach(session)

    def _detach(self, session: Session) -> None:
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            session.cancel(consumer, give_back=False)

    def _deliver(self, batch: list[Delivery]) -> None:
        self.held += batch
        self.wake()

    def wake(self) -> None:
        """Something has happened that a request which waits should know."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def stop(self, session: Session) -> None:
        """Nobody waits for the answer any more, or the client is to go."""
        self._stopped = True
        self._detach(session)
        self.give_back()
        self.wake()

    def _cut(self, count: int) -> None:
        """Give back what would make the answer too large, its first message excepted."""
        size = 0
        for index, delivery in enumerate(self.held):
            size += len(delivery.message.body)
            if index and (size > BYTES_MAX or index >= count):
                kept, self.held = self.held[:index], self.held[index:]
                self.give_back()
                self.held = kept
                return

    def give_back(self) -> None:
        """Nobody has seen these: they are as they were."""
        held, self.held = self.held, []
        if held:
            self._gateway.begin_turn()
            for delivery in reversed(held):
                self._gateway.broker.settlement.settle(delivery, Outcome.RETRY, 0)
