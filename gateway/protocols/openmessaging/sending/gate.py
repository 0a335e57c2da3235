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


class Gate:
    """One for all that is sent."""

    __slots__ = ("_gateway", "_syncing", "_waiting")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._syncing = 0  # calls that wait for the disk
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
            self._open()

    def _open(self) -> None:
        """Let in who waits, if nobody waits for the disk."""
        waiting, left = self._waiting, MESSAGES_MAX
        if self._syncing or not waiting:
            return
        while waiting and left > 0:
            future, messages = waiting.popleft()
            if not future.done():  # its client may have hung up
                future.set_result(None)
                left -= messages
        # By then they are at the disk; or none of them was stored, and nobody else would open again.
        asyncio.get_running_loop().call_soon(self._open)
