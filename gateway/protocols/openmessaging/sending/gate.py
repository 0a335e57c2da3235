"""A gate before the disk: who sends while others wait for a sync is let in when that is over.

A message that is written during a sync waits for the next one. So it loses nothing by coming to the log a
little later, together with all that came meanwhile: in one turn, one write and one sync. gRPC hands over its
calls one by one, and a turn for each costs more than a message does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from gateway.api import Gateway

MESSAGES_MAX: Final = 256  # that are let in together: some 8 ms, others have their turns
CROWD: Final = 3  # calls that came during one sync, one by one: there are more to come
ENOUGH: Final = 64  # messages, for a turn of their own
GATHER_SECONDS: Final = 0.001  # that a crowd waits for them: each waits longer for the others than for this


class Gate:
    """One for all that is sent."""

    __slots__ = ("_gateway", "_gathering", "_syncing", "_waiting")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._syncing = 0  # calls that wait for the disk
        self._gathering = False
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()  # and of how many messages

    async def enter(self, messages: int = 1) -> None:
        """Wait until no call is waiting for the disk. The turn has begun when this returns."""
        if not self._syncing and not self._waiting:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, messages))
        await future
        self._gateway.begin_turn()

    async def durable(self, position: int) -> None:
        """Wait until everything up to a position is on disk. Raise NotStored if it never will be."""
        self._syncing += 1
        try:
            await self._gateway.durable(position)
        finally:
            self._syncing -= 1
            if not self._syncing:
                self._gather()

    def _gather(self) -> None:
        """A sync is over: let in who waits, a crowd when it has gathered."""
        waiting = self._waiting
        if len(waiting) < CROWD or sum(messages for _, messages in waiting) >= ENOUGH:
            self._open()
        elif not self._gathering:
            self._gathering = True
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        self._open()

    def _open(self) -> None:
        """Let in who waits, if nobody waits for the disk."""
        waiting, left = self._waiting, MESSAGES_MAX
        if self._syncing or not waiting or self._gathering:
            return
        while waiting and left > 0:
            future, messages = waiting.popleft()
            if not future.done():  # its client may have hung up
                future.set_result(None)
                left -= messages
        # By then they are at the disk; or none of them was stored, and nobody else would open again.
        asyncio.get_running_loop().call_soon(self._open)
