"""Acknowledgements: those of a round of events go together, in one request for each topic and server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from gateway.oms.errors import OMSError, ResponseStatus
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.schema import CLASSES

from .client import Client
from .endpoints import Endpoint
from .statuses import check, of_status

_log = logging.getLogger(__name__)

ENTRIES_MAX: Final = 128  # of a request


class Lease(NamedTuple):
    """What settles a delivery: a receipt's handle."""

    topic: Any
    endpoint: Endpoint
    message_id: str
    handle: str
    attempt: int


class Acks:
    """What is to be acknowledged next."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: dict[tuple[str, str, Endpoint], list[tuple[Lease, asyncio.Future[None]]]] = {}
        self._requests: set[asyncio.Task[None]] = set()

    async def acknowledge(self, leases: Sequence[Lease]) -> None:
        """Return when all are settled. Raise OMSError if one could not be; the others are."""
        done = [self._put(lease) for lease in leases]
        results = await asyncio.gather(*done, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _put(self, lease: Lease) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._go)
        key = (lease.topic.resource_namespace, lease.topic.name, lease.endpoint)
        self._waiting.setdefault(key, []).append((lease, done))
        return done

    def _go(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for entries in waiting.values():
            for start in range(0, len(entries), ENTRIES_MAX):
                request = asyncio.create_task(self._request(entries[start : start + ENTRIES_MAX]))
                self._requests.add(request)
                request.add_done_callback(self._requests.discard)

    async def _request(self, entries: Sequence[tuple[Lease, asyncio.Future[None]]]) -> None:
        try:
            failures = await self._ask([lease for lease, _ in entries])
        except OMSError as error:
            failures = {lease.handle: error for lease, _ in entries}
        for lease, done in entries:
            failure = failures.get(lease.handle)
            if done.done():
                continue  # nobody waits any more
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)

    async def _ask(self, leases: Sequence[Lease]) -> dict[str, OMSError]:
        """Return what was refused, by handle. Raise OMSError if the request was."""
        topic, endpoint = leases[0].topic, leases[0].endpoint
        entries = [{"message_id": lease.message_id, "receipt_handle": lease.handle} for lease in leases]
        request = CLASSES["AckMessageRequest"](group=self._client.group, topic=topic, entries=entries)
        reply = await self._client.ask(endpoint, "AckMessage", request)
        if not reply.entries:
            check(reply.status, "acknowledging")
        return {
            entry.receipt_handle: refused(entry.status, "acknowledging")
            for entry in reply.entries
            if entry.status.code != Code.OK
        }

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._waiting:
            self._go()
        await asyncio.gather(*self._requests, return_exceptions=True)


def refused(status: Any, what: str) -> OMSError:
    """Return the error of a receipt that settles nothing: by OpenMessaging, a bad parameter."""
    error = of_status(status, what)
    return error if status.code != Code.NOT_FOUND else OMSError(error.reason, ResponseStatus.BAD_PARAMETER)
