"""What waits to be sent, and goes together: one request costs what many messages do.

A lane is for messages that may share a request by RocketMQ's rules: of one topic, one type, one message
group. What is put while requests are under way goes with the next; nothing waits for company.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from gateway.oms.driver import SendResult
from gateway.oms.errors import OMSError, ResponseStatus

BATCH_MAX: Final = 128  # messages in a request: beyond, a message's own cost is what counts
#: Bodies of a request together; RocketMQ's broker takes 4 MiB with all that is around them.
BATCH_BYTES_MAX: Final = 1 << 20
REQUESTS_MAX: Final = 8  # of a lane under way: more would only make smaller batches

Sent = Sequence[SendResult | OMSError]
#: Sends messages in one request and returns a result for each; never raises.
Send = Callable[[Sequence[Any]], Awaitable[Sent]]


class Lane:
    """The messages of one kind. `in_order`: one request at a time."""

    def __init__(self, send: Send, in_order: bool, batches: bool = True) -> None:
        self._send = send
        self._requests_max = 1 if in_order else REQUESTS_MAX
        self._batch_max = BATCH_MAX if batches else 1
        self._waiting: deque[tuple[Any, asyncio.Future[SendResult]]] = deque()
        self._requests: set[asyncio.Task[None]] = set()
        self._under_way = 0  # of these, those without an answer
        self._scheduled = False
        self._room = asyncio.Event()
        self._room.set()

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and nothing is under way."""
        return not self._waiting and not self._requests

    def put(self, made: Any) -> asyncio.Future[SendResult]:
        """Have a message sent; return at once."""
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[SendResult] = loop.create_future()
        self._waiting.append((made, sent))
        if len(self._waiting) >= BATCH_MAX * self._requests_max:
            self._room.clear()
        self._schedule()
        return sent

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled and self._under_way < self._requests_max:
            self._scheduled = True
            # what else is put in this round of events comes along
            asyncio.get_running_loop().call_soon(self._go)

    async def room(self) -> None:
        """Wait until what waits is no more than a few requests."""
        await self._room.wait()

    def _go(self) -> None:
        self._scheduled = False
        while self._waiting and self._under_way < self._requests_max:
            self._under_way += 1
            request = asyncio.create_task(self._request(self._batch()))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)
        if len(self._waiting) < BATCH_MAX * self._requests_max:
            self._room.set()

    def _batch(self) -> list[tuple[Any, asyncio.Future[SendResult]]]:
        batch = [self._waiting.popleft()]
        size = len(batch[0][0].body)
        while self._waiting and len(batch) < self._batch_max:
            size += len(self._waiting[0][0].body)
            if size > BATCH_BYTES_MAX:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _request(self, batch: list[tuple[Any, asyncio.Future[SendResult]]]) -> None:
        try:
            results = await self._send([made for made, _ in batch])
        except BaseException:
            gone = OMSError("the producer was closed", ResponseStatus.SERVICE_UNAVAILABLE)
            results = [gone] * len(batch)
            raise
        finally:
            self._under_way -= 1
            for (_, sent), result in zip(batch, results, strict=True):
                if sent.done():  # nobody waits any more
                    continue
                if isinstance(result, OMSError):
                    sent.set_exception(result)
                else:
                    sent.set_result(result)
            self._schedule()

    async def finish(self) -> None:
        """Wait until all that was put has its answer."""
        while not self.idle:
            if self._requests:
                await asyncio.wait(self._requests)
            else:
                await asyncio.sleep(0)  # they begin at the end of this round of events

    async def close(self) -> None:
        """Give up what is under way and what waits."""
        waiting, self._waiting = self._waiting, deque()
        requests = list(self._requests)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        gone = OMSError("the producer was closed", ResponseStatus.SERVICE_UNAVAILABLE)
        for _, sent in waiting:
            if not sent.done():
                sent.set_exception(gone)
