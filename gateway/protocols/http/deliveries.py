"""Pulling: `receive` with a lease, and settling by the delivery's id.

A consumer exists only while its request waits. What it was given stays unsettled under a
lease whose id nobody can guess; whoever has it may settle, until the lease is over.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...api import Conflict, Delivery, Selector, Session
from ...core.message import Outcome
from ...core.queue import Queue
from .answers import Receive, Scope, Send, send_json
from .context import Context
from .convert import to_mapping
from .limits import (
    LEASE_SECONDS_DEFAULT,
    LEASE_SECONDS_MAX,
    RECEIVE_BYTES_MAX,
    RECEIVE_MAX,
    RECEIVE_TURN_SECONDS,
    RECEIVE_WAIT_SECONDS_MAX,
)
from .models import Deliveries, Extension, Nack
from .problems import Refused
from .publish import ClientGone
from .requests import (
    Forward,
    SelectorLanguage,
    SelectorText,
    problems,
    queue_name,
    session_of,
)

OUTCOMES = {"retry": Outcome.RETRY, "requeue": Outcome.REQUEUE, "reject": Outcome.REJECT}

_encode = msgspec.json.Encoder().encode


def add_routes(routes: APIRouter, context: Context) -> None:
    """Add the routes."""
    _receive_routes(routes, context)
    _settle_routes(routes, context)


def _receive_routes(routes: APIRouter, context: Context) -> None:

    @routes.post(
        "/v1/queues/{queue}/receive",
        summary="Receive messages under a lease",
        response_model=Deliveries,
        responses=problems(404, 409),
    )
    async def receive(
        request: Request,
        queue: str,
        max: Annotated[int, Query(ge=1, le=RECEIVE_MAX)] = 1,
        wait: Annotated[float, Query(ge=0, le=RECEIVE_WAIT_SECONDS_MAX, description="Seconds")] = 0,
        lease: Annotated[
            float, Query(gt=0, le=LEASE_SECONDS_MAX, description="Seconds")
        ] = LEASE_SECONDS_DEFAULT,
        group: Annotated[str, Query(description="Of a stream")] = "",
        selector: SelectorText = None,
        selector_language: SelectorLanguage = None,
    ) -> Response:
        """Wait until there is at least one message, or the time is over.

        Settle each by its `id`; what is not settled when its lease ends is delivered again.
        """
        if group.startswith("$"):
            raise Refused("invalid-parameter", "group: names that begin with $ are the gateway's own")
        wanted = context.selector(selector, selector_language)
        poll = Poll(context, queue_name(request), group, max, wait, lease, wanted)
        return Forward(poll.answer)


def _settle_routes(routes: APIRouter, context: Context) -> None:
    @routes.post("/v1/deliveries/{id}/ack", summary="Acknowledge", status_code=204, responses=problems(404))
    async def ack(request: Request, id: str) -> Response:
        """The message is done with."""
        await session_of(context, request)
        context.gateway.broker.leases.settle(id, Outcome.ACK)
        return Response(status_code=204)

    @routes.post("/v1/deliveries/{id}/nack", summary="Give back", status_code=204, responses=problems(404))
    async def nack(request: Request, id: str, wanted: Nack | None = None) -> Response:
        """Have the message delivered again, or give up on it."""
        await session_of(context, request)
        how = wanted or Nack.model_validate({})
        delay_ms = None if how.delay is None else int(how.delay * 1000)
        context.gateway.broker.leases.settle(id, OUTCOMES[how.outcome], delay_ms, how.reason)
        return Response(status_code=204)

    @routes.post(
        "/v1/deliveries/{id}/extend", summary="Extend a lease", status_code=204, responses=problems(404)
    )
    async def extend(request: Request, id: str, wanted: Extension | None = None) -> Response:
        """Start the lease again from now."""
        await session_of(context, request)
        seconds = wanted.lease if wanted is not None else LEASE_SECONDS_DEFAULT
        context.gateway.broker.leases.extend(id, int(seconds * 1000))
        return Response(status_code=204)


def fitting(queue: Queue, count: int) -> int:
    """Return how many messages of the queue, if they are of its usual size, fit in one answer."""
    usual = queue.bytes_waiting // max(1, queue.length())
    return max(1, min(count, RECEIVE_BYTES_MAX // max(1, usual)))


class Poll:
    """One receive request under way."""

    def __init__(
        self,
        context: Context,
        queue: str,
        group: str,
        count: int,
        wait: float,
        lease: float,
        selector: Selector | None = None,
    ) -> None:
        self._context = context
        self._queue = queue
        self._group = group
        self._count = count
        self._selector = selector
        self._wait = wait
        self._lease_ms = max(1, int(lease * 1000))
        self._held: list[Delivery] = []
        self._wake = asyncio.Event()
        self._gone = False

    def stop(self) -> None:
        """The gateway stops: answer with what there is."""
        self._wake.set()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for deliveries and send them. Raise NotFound, NotAuthorized or Conflict."""
        context = self._context
        lent = await context.sessions.of(scope)
        session = lent.take()
        context.lasting.add(self)
        watch = asyncio.create_task(self._watch(receive))
        try:
            await self._collect(session)
            self._cut(session)
            await asyncio.sleep(0)  # a client that has just left is noticed here
            if self._gone:
                raise ClientGone
            await send_json(send, self._lease())
        except BaseException:
            self._give_back(session)
            raise
        finally:
            watch.cancel()
            context.lasting.discard(self)
            lent.give_back()

    async def _collect(self, session: Session) -> None:
        broker = self._context.gateway.broker
        queue = broker.catalog.queues.get(self._queue)
        if queue is not None and queue.auto_delete:
            raise Conflict(
                f"queue {self._queue!r} is deleted with its last consumer, and a receive is a consumer only "
                "while it waits; consume it over the WebSocket"
            )
        window = self._count if queue is None else fitting(queue, self._count)
        consumer = session.consume(self._queue, self._deliver, window, self._group, 0, self._selector)
        try:
            wait = self._wait
            if consumer.group is not None and consumer.group.wants():
                wait = max(wait, RECEIVE_TURN_SECONDS)
            if wait and not self._context.stopping:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
        except TimeoutError:
            pass
        finally:
            self._context.gateway.begin_turn()
            session.cancel(consumer, give_back=False)

    def _deliver(self, batch: list[Delivery]) -> None:
        self._held += batch
        self._wake.set()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake.set()

    def _cut(self, session: Session) -> None:
        """Give back what would make the answer too large, its first message excepted."""
        size = 0
        for index, delivery in enumerate(self._held):
            size += len(delivery.message.body)
            if index and size > RECEIVE_BYTES_MAX:
                kept, self._held = self._held[:index], self._held[index:]
                self._give_back(session)
                self._held = kept
                return

    def _lease(self) -> bytes:
        leases = self._context.gateway.broker.leases
        shown: list[dict[str, Any]] = []
        for delivery in self._held:
            token = secrets.token_urlsafe(18)
            leases.hold(token, delivery, self._lease_ms)
            found = {
                "id": token,
                "queue": self._queue,
                "attempt": delivery.attempt,
                "offset": delivery.offset,
            }
            shown.append({**found, **to_mapping(delivery.message, False)})
        self._held = []
        return _encode({"deliveries": shown})

    def _give_back(self, session: Session) -> None:
        """Nobody has seen these: they are as they were."""
        self._context.gateway.begin_turn()
        for delivery in reversed(self._held):
            session.settle(delivery, Outcome.RETRY, 0)
        self._held = []
