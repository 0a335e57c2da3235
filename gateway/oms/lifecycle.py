"""Starting and stopping, the same for access points and their clients: and again, as often as one likes."""

from __future__ import annotations

import asyncio
from enum import Enum
from types import TracebackType
from typing import Self

from .errors import OMSError, ResponseStatus


class ServiceState(Enum):
    """Where a service is in its life."""

    INITIALIZED = "initialized"
    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"


class ServiceLifecycle:
    """Base class: `_start` and `_stop` are called one at a time, and each only in its turn."""

    def __init__(self) -> None:
        self._state = ServiceState.INITIALIZED
        self._changing = asyncio.Lock()

    @property
    def state(self) -> ServiceState:
        """Where it is now."""
        return self._state

    async def start(self) -> None:
        """Begin, or begin again; nothing if it has. What `_start` raises leaves it stopped."""
        async with self._changing:
            if self._state is ServiceState.STARTED:
                return
            self._state = ServiceState.STARTING
            try:
                await self._start()
            except BaseException:
                self._state = ServiceState.STOPPED
                raise
            self._state = ServiceState.STARTED

    async def stop(self) -> None:
        """End; nothing if it has not begun. It may be started again."""
        async with self._changing:
            if self._state is not ServiceState.STARTED:
                return
            self._state = ServiceState.STOPPING
            try:
                await self._stop()
            finally:
                self._state = ServiceState.STOPPED

    async def _start(self) -> None:
        raise NotImplementedError

    async def _stop(self) -> None:
        raise NotImplementedError

    def _check_started(self) -> None:
        if self._state is not ServiceState.STARTED:
            raise OMSError(
                f"this {type(self).__name__} is {self._state.value}: start it first",
                ResponseStatus.SERVICE_UNAVAILABLE,
            )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
