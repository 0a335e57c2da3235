"""Long polls: requests that wait at the server for messages, and those that came when nobody waited here.

A poll that is under way when its caller has gone stays: what it brings is for the next caller, for as
long as that is not too long. So nothing is lost by a caller's timeout, and no message is taken twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator, Mapping
from typing import Any, Final

from gateway.oms.errors import OMSError
from gateway.oms.message import Message

#: What the answer may come later than was asked for: the way there and back, and a busy server.
GRACE_SECONDS: Final = 1.0

#: Before asking again a server that says "nothing" sooner than it was asked to.
PAUSE_SECONDS: Final = 0.1

#: Ask a source for at most so many messages within so many seconds.
Ask = Callable[[int, float], Awaitable[list[Message]]]
Place = Hashable
GiveBack = Callable[[list[Message]], Coroutine[Any, Any, None]]


class Source:
    """One place to ask: a topic at one server."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.polls: set[asyncio.Task[None]] = set()


class Polls:
    """The polls of a consumer."""

    def __init__(self, give_back: GiveBack, kept_seconds: float | None) -> None:
        """`kept_seconds`: after which `give_back` gets what nobody has come for; None: never."""
        self._give_back = give_back
        self._kept_seconds = kept_seconds
        self._sources: dict[str, dict[Place, Source]] = {}  # by queue
        self._kept: deque[Message] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._callers = 0
        self._failed: OMSError | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._returns: set[asyncio.Task[None]] = set()

    def keep(self, queue: str, sources: Mapping[Place, Source]) -> None:
        """Ask for a queue at these places from now on; at those where it asks already it goes on."""
        known = self._sources.get(queue, {})
        self._sources[queue] = {place: known.get(place, source) for place, source in sources.items()}
        self._wake_all()

    async def remove(self, queue: str) -> None:
        """Ask no more for a queue; what came and nobody has taken goes back."""
        await _end(poll for source in self._sources.pop(queue, {}).values() for poll in source.polls)
        back = [message for message in self._kept if message.header.destination == queue]
        self._kept = deque(message for message in self._kept if message.header.destination != queue)
        await self._give_back(back)

    def _all(self) -> Iterator[Source]:
        for sources in self._sources.values():
            yield from sources.values()

    async def receive(self, messages_max: int, seconds: float) -> list[Message]:
        """Return some messages as soon as there are any, or [] when time is up. Raise OMSError."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        first = True
        self._callers += 1
        try:
            while True:
                if self._kept:
                    return self._take(messages_max)
                if self._failed is not None:
                    error, self._failed = self._failed, None
                    raise error
                left = end - loop.time()
                if left > 0 or first:
                    self._ask_all(messages_max, max(left, 0.0))
                elif not any(source.polls for source in self._all()):
                    return []
                first = False
                if not await self._wait(end + GRACE_SECONDS - loop.time()):
                    return self._take(messages_max)
        finally:
            self._callers -= 1

    def _ask_all(self, messages_max: int, seconds: float) -> None:
        for source in self._all():
            if len(source.polls) < self._callers:
                poll = asyncio.create_task(self._poll(source, messages_max, seconds))
                source.polls.add(poll)

    async def _poll(self, source: Source, messages_max: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            messages = await source.ask(messages_max, seconds)
            self.put(messages)
            if not messages and loop.time() - began < seconds / 2:
                await asyncio.sleep(PAUSE_SECONDS)
        except OMSError as error:
            if self._callers:
                self._failed = error
        finally:
            task = asyncio.current_task()
            assert task is not None
            source.polls.discard(task)
            self._wake_all()

    async def _wait(self, seconds: float) -> bool:
        """Wait until something has happened; False if nothing has."""
        if seconds <= 0:
            return False
        happened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(happened)
        try:
            await asyncio.wait_for(happened, seconds)
        except TimeoutError:
            return False
        finally:
            self._waiters = deque(waiter for waiter in self._waiters if waiter is not happened)
        return True

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- what came

    def put(self, messages: Iterable[Message]) -> None:
        """Have messages taken by whoever is next."""
        self._kept.extend(messages)
        self._wake_all()
        if self._kept and self._expiry is None and self._kept_seconds is not None:
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(self._kept_seconds, self._return_all)

    def _take(self, messages_max: int) -> list[Message]:
        taken = [self._kept.popleft() for _ in range(min(messages_max, len(self._kept)))]
        if not self._kept and self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        return taken

    def _return_all(self) -> None:
        """Nobody has come for what is kept."""
        self._expiry = None
        back, self._kept = list(self._kept), deque()
        task = asyncio.create_task(self._give_back(back))
        self._returns.add(task)
        task.add_done_callback(self._returns.discard)

    async def close(self) -> None:
        """End all polls, and give back what came."""
        await _end([poll for source in self._all() for poll in source.polls])
        self._sources = {}
        if self._expiry is not None:
            self._expiry.cancel()
        back, self._kept = list(self._kept), deque()
        await asyncio.gather(self._give_back(back), *self._returns)


async def _end(polls: Iterable[asyncio.Task[None]]) -> None:
    ended = list(polls)
    for poll in ended:
        poll.cancel()
    await asyncio.gather(*ended, return_exceptions=True)
