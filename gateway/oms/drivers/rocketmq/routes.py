"""Where a topic is: its queues, asked for when they are first wanted, and again from time to time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from gateway.oms.errors import OMSDestinationError, OMSError, ResponseStatus
from gateway.rocketmq.numbers import Permission

from .endpoints import Endpoint, from_message

_log = logging.getLogger(__name__)

ROUTES_MAX: Final = 1024  # topics whose routes are known: of more, those asked for first are asked for again
MASTER: Final = 0  # the id of the broker that takes messages; others are its copies
_WRITABLE: Final = frozenset((Permission.WRITE, Permission.READ_WRITE))
_READABLE: Final = frozenset((Permission.READ, Permission.READ_WRITE))


class Queue(NamedTuple):
    """One queue of a topic, and the server that has it."""

    message: Any  # as the server said it; it wants it back like that
    endpoint: Endpoint

    @classmethod
    def of(cls, message: Any) -> Queue:
        """Return a queue that a server has named."""
        return cls(message, from_message(message.broker.endpoints))


class Route:
    """The queues of one topic."""

    def __init__(self, name: str, messages: list[Any]) -> None:
        self.name = name
        masters = [one for one in messages if one.broker.id == MASTER]
        queues = [Queue.of(one) for one in masters]
        self.writable = [one for one in queues if one.message.permission in _WRITABLE]
        self.readable = [one for one in queues if one.message.permission in _READABLE]
        self.endpoints = list(dict.fromkeys(queue.endpoint for queue in queues))

    def to_write(self, number: int) -> Queue:
        """Return a queue to send to, by a number of any size. Raise OMSDestinationError."""
        if not self.writable:
            raise OMSDestinationError(f"{self.name}: nobody may send there", ResponseStatus.FORBIDDEN)
        return self.writable[number % len(self.writable)]

    def to_read(self) -> list[Queue]:
        """Return a queue of each broker: any of them stands for all of its. Raise OMSDestinationError."""
        if not self.readable:
            raise OMSDestinationError(f"{self.name}: nobody may receive from it", ResponseStatus.FORBIDDEN)
        return list({queue.message.broker.name: queue for queue in reversed(self.readable)}.values())


class Routes:
    """Routes by topic. `ask` returns the queues of a topic, or raises OMSError."""

    def __init__(self, ask: Callable[[Any], Awaitable[list[Any]]]) -> None:
        self._ask = ask
        self._known: dict[tuple[str, str], tuple[Any, Route]] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[Route]] = {}

    def known(self) -> list[Route]:
        """Return the routes that there are."""
        return [route for _, route in self._known.values()]

    async def of(self, topic: Any) -> Route:
        """Return where a topic is. Raise OMSError. Who asks at the same time shares the answer."""
        key = (topic.resource_namespace, topic.name)
        known = self._known.get(key)
        if known is not None:
            return known[1]
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._fetch(key, topic))
            # whoever asked may be gone when it fails
            asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(asking)

    async def _fetch(self, key: tuple[str, str], topic: Any) -> Route:
        try:
            route = Route(topic.name, await self._ask(topic))
        finally:
            self._asking.pop(key, None)
        if key not in self._known and len(self._known) >= ROUTES_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = (topic, route)
        return route

    async def refresh(self) -> None:
        """Ask for all of them again; what cannot be had now stays as it was."""
        for key, (topic, _) in list(self._known.items()):
            try:
                await self._fetch(key, topic)
            except OMSError as error:
                _log.info("route of %s: %s", topic.name, error.reason)
