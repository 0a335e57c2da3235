"""The way to a client by its Telemetry stream: commands wait here until gRPC has taken those before."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

COMMANDS_MAX: Final = 1024  # of a client that does not read; each is a settings message, or one to ask about


class Line:
    """One stream's commands."""

    __slots__ = ("_closed", "_commands", "_error", "_waker")

    def __init__(self) -> None:
        self._commands: deque[Any] = deque()
        self._waker: asyncio.Future[None] | None = None
        self._closed = False
        self._error: Exception | None = None

    def put(self, command: Any) -> bool:
        """Have a command sent; False if there is no more room, or the stream ends."""
        if self._closed or len(self._commands) >= COMMANDS_MAX:
            return False
        self._commands.append(command)
        self._wake()
        return True

    def close(self, error: Exception | None = None) -> None:
        """End the stream once everything is sent; with an error, `next` raises it then."""
        if not self._closed:
            self._closed = True
            self._error = error
            self._wake()

    async def next(self) -> Any:
        """Return the next command, None at the end."""
        while not self._commands:
            if self._error is not None:
                raise self._error
            if self._closed:
                return None
            self._waker = asyncio.get_running_loop().create_future()
            await self._waker
        return self._commands.popleft()

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)
