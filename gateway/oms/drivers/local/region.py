"""Regions: gateways in this process, shared by all access points of one URL on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.api import Gateway, GatewayError, NotFound
from gateway.embedded import Embedded

from .errors import translated
from .registry import Registry

if TYPE_CHECKING:
    from .sender import LocalSender

#: What makes a region: the event loop, the host, its name, and where its log is ("": in memory).
Key = tuple[asyncio.AbstractEventLoop, str, str, str]

_regions: dict[Key, Region] = {}


class Region:
    """One gateway, running while somebody uses it. What is in memory goes with its last user."""

    def __init__(self, key: Key, embedded: Embedded | None = None) -> None:
        self._key = key
        self._owned = embedded is None
        self._embedded = embedded or Embedded(Path(key[3]) if key[3] else None)
        self._users = 0
        self._changing = asyncio.Lock()
        self._running = False
        self.senders: list[LocalSender] = []  # those with a checker
        self._asking: set[asyncio.Task[None]] = set()

    async def enter(self) -> None:
        """Use it; it is started if it is not running."""
        self._users += 1
        try:
            async with self._changing:
                if not self._running:
                    await self._start()
        except BaseException:
            await self.leave()
            raise

    async def _start(self) -> None:
        if self._owned:
            try:
                await self._embedded.start()
            except GatewayError as error:
                raise translated(error) from error
        self.gateway: Gateway = self._embedded.gateway
        self.embedded = self._embedded
        self.gateway.begin_turn()
        self.registry = Registry(self.gateway.broker)
        self.gateway.broker.halves.check_back.checkers.append(self._check)
        self._running = True

    async def leave(self) -> None:
        """Use it no more."""
        self._users -= 1
        async with self._changing:
            if self._users:
                return
            if self._running:
                self._running = False
                await self._stop()
            if not self._users:  # nobody came while it stopped
                _regions.pop(self._key, None)

    async def _stop(self) -> None:
        for task in self._asking:
            task.cancel()
        if self._owned:
            await self._embedded.stop()
        else:
            self.gateway.broker.halves.check_back.checkers.remove(self._check)

    def _check(self, half: Any) -> None:
        """A transaction has been open for long: ask a producer of the name that it was begun by."""
        origin = half.origin
        sender = next((s for s in self.senders if s.client_id == origin.client_id), None)
        if sender is None or origin.protocol != "oms":
            return
        try:
            messages = self.gateway.broker.halves.messages(half)
        except NotFound:
            return  # part of it cannot be read any more: it can only be rolled back
        if messages:
            task = asyncio.ensure_future(sender.ask(half.id, messages[0]))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)


def region_of(host: str, name: str, data: str) -> Region:
    """Return the region of a URL, on the running event loop."""
    key = (asyncio.get_running_loop(), host, name, data)
    region = _regions.get(key)
    if region is None:
        region = _regions[key] = Region(key)
    return region


@asynccontextmanager
async def offered(embedded: Embedded, name: str) -> AsyncIterator[str]:
    """Have a gateway that is running anyway, with doors maybe, be the region `name`; yield its URL."""
    key = (asyncio.get_running_loop(), "memory", name, "")
    assert key not in _regions, f"there is a region {name!r}"
    region = _regions[key] = Region(key, embedded)
    await region.enter()
    try:
        yield f"oms:local://memory/{name}"
    finally:
        await region.leave()
