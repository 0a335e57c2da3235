"""`/v1/messages`: find a message again, and what became of it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...api import Conflict, InvalidValue, NotFound, Session
from ...core.access import ADMIN_PREFIX, Action
from ...core.clock import Clock
from ...core.engine import Event, Trace
from ...core.journey import Journey, Stay, journey, outcome_name
from ...core.message import Origin
from ...core.replay import parse_time
from ...core.topic import SYS_PREFIX
from .context import Context, decode_segment
from .limits import JOURNEYS_DEFAULT, JOURNEYS_MAX, PAGE_DEFAULT, PAGE_MAX
from .models import COUNT_MAX, Journeys, MessageList
from .requests import Json, problems, session_of

RESOURCE = ADMIN_PREFIX + "messages"  # who may view this may look: it shows who got what, and from where

_encode = msgspec.json.Encoder().encode


def add_routes(routes: APIRouter, context: Context) -> None:
    """Add the routes."""

    @routes.get(
        "/v1/messages/{id}/journey",
        summary="What became of a message",
        response_model=Journeys,
        responses=problems(404),
    )
    async def journeys(
        request: Request,
        id: str,
        limit: Annotated[int, Query(ge=1, le=JOURNEYS_MAX)] = JOURNEYS_DEFAULT,
    ) -> Response:
        """By message id, search key, ordering key, or `@` and a position in the log; newest first.

        Accepted when and from whom, routed to which queues by which subscriptions, every attempt
        to deliver it with consumer, time and outcome, and where that leaves it. Settled messages
        are known for as long as the log keeps them (`storage.trace_seconds`).
        """
        wanted = decode_segment(request.path_params["id"], "id")
        await _authorized(context, request)
        broker = context.gateway.broker
        found = [journey(broker.engine, broker.catalog, at) for at in _positions(context, wanted, limit)]
        if not found:
            raise NotFound(f"no message with id or key {wanted!r}: never stored, or let go by the log since")
        return Json(_encode({"journeys": [_journey(each, context.gateway.clock) for each in found]}))

    @routes.get(
        "/v1/messages", summary="Find messages", response_model=MessageList, responses=problems(404, 409)
    )
    async def listing(
        request: Request,
        key: Annotated[str, Query(description="A message id, search key or ordering key")] = "",
        queue: Annotated[str, Query(description="What waits in it, or it keeps; else all, settled too")] = "",
        offset: Annotated[int, Query(ge=0, le=COUNT_MAX, description="With queue: from there on")] = 0,
        from_: Annotated[
            str, Query(alias="from", description="Stored at this time (RFC 3339) or later")
        ] = "",
        to: Annotated[str, Query(description="Stored before this time")] = "",
        after: Annotated[int, Query(ge=0, le=COUNT_MAX, description="`next` of the page before")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """With a key newest first, else oldest first. Changes nothing."""
        clock = context.gateway.clock
        from_ms, to_ms = _time(clock, from_, "from", 0), _time(clock, to, "to", COUNT_MAX)
        await _authorized(context, request)
        if key:
            traces, following = _with_key(context, key, from_ms, to_ms, limit), 0
        elif queue:
            traces, following = _in_queue(context, queue, max(offset, after), limit)
        else:
            traces, following = _stored_between(context, from_ms, to_ms, after, limit)
        shown = [_about(trace, clock) for trace in traces]
        return Json(_encode({"messages": shown, "next": following or None}))


def _stored_between(
    context: Context, from_ms: int, to_ms: int, after: int, limit: int
) -> tuple[list[Trace], int]:
    """Return what was stored in a span of time, and where the next page begins, 0 if there is none.

    The gateway's own messages are left out: they have streams of their own (`queue=$sys/audit`).
    """
    engine = context.gateway.broker.engine
    found: list[Trace] = []
    while True:
        positions, after = engine.stored_between(from_ms, to_ms, after, limit - len(found))
        traces = [engine.history(position) for position in positions]
        found += [trace for trace in traces if not trace.message.topic.startswith(SYS_PREFIX)]
        if len(found) == limit or not after:
            return found, after


def _in_queue(context: Context, name: str, offset: int, limit: int) -> tuple[list[Trace], int]:
    """Return what a queue has from an offset on, and the offset of the next page, 0 if there is none."""
    broker = context.gateway.broker
    queue = broker.catalog.get(name)
    if not queue.durable:
        raise Conflict(f"queue {name!r} is not durable: its messages are in no log")
    entries = broker.engine.at(queue.queue_id, offset, limit)
    following = entries[-1].offset + 1 if len(entries) == limit else 0
    return [broker.engine.history(entry.position) for entry in entries], following


async def _authorized(context: Context, request: Request) -> Session:
    """Return the caller's session, and have the log prepared for a search."""
    session = await session_of(context, request)
    session.check(Action.VIEW, RESOURCE)
    prepare = context.gateway.broker.engine.prepare_search()
    if prepare is not None:
        await asyncio.to_thread(prepare)
        session = await session_of(context, request)
    return session


def _positions(context: Context, wanted: str, limit: int) -> list[int]:
    if wanted.startswith("@") and wanted[1:].isascii() and wanted[1:].isdigit() and len(wanted) <= 19:
        return [int(wanted[1:])]
    return context.gateway.broker.engine.find(wanted, limit)


def _with_key(context: Context, key: str, from_ms: int, to_ms: int, limit: int) -> list[Trace]:
    engine = context.gateway.broker.engine
    traces = [engine.history(position) for position in engine.find(key, PAGE_MAX)]
    return [trace for trace in traces if from_ms <= trace.stored_at_ms < to_ms][:limit]


def _time(clock: Clock, text: str, name: str, default_ms: int) -> int:
    """Read a time, RFC 3339 or Unix milliseconds; return it in the gateway's own."""
    if not text:
        return default_ms
    is_number = text.isascii() and text.isdigit() and len(text) <= 18
    time_ms = int(text) if is_number else parse_time(text)
    if time_ms is None:
        expected = "a time such as 2026-11-21T05:00:00Z, or Unix milliseconds, is expected"
        raise InvalidValue(f"{name} is {text[:40]!r}; {expected}")
    return clock.own(time_ms)


def _about(trace: Trace, clock: Clock) -> dict[str, Any]:
    message, properties = trace.message, trace.message.properties
    return {
        "position": trace.position,
        "id": properties.message_id,
        "keys": [*properties.keys, *([properties.key] if properties.key else [])],
        "topic": message.topic,
        "size": len(message.body),
        "qos": int(message.qos),
        "stored_at": clock.shown(trace.stored_at_ms),
        "published_at": message.timestamp_ms,
        "expires_at": clock.shown(message.expires_at_ms) or None,
        "from": _origin(message.origin),
    }


def _origin(origin: Origin) -> dict[str, str]:
    return {
        "protocol": origin.protocol,
        "principal": origin.principal,
        "client_id": origin.client_id,
        "address": origin.peer,
    }


def _journey(found: Journey, clock: Clock) -> dict[str, Any]:
    letters = [
        {"position": each.position, "topic": each.topic, "queue": each.queue, "cause": each.cause}
        for each in found.letters
    ]
    return _about(found.trace, clock) | {
        "queues": [_stay(stay, clock) for stay in found.stays],
        "dead_letters": letters,
    }


def _stay(stay: Stay, clock: Clock) -> dict[str, Any]:
    return {
        "queue": stay.name or f"#{stay.queue_id}",
        "kind": stay.kind,
        "subscriptions": stay.subscriptions,
        "state": stay.state,
        "attempts": stay.attempts,
        "events": [_event(event, clock) for event in stay.events],
    }


def _event(event: Event, clock: Clock) -> dict[str, Any]:
    shown: dict[str, Any] = {"event": event.kind, "at": clock.shown(event.time_ms) or None}
    if event.group:
        shown["group"] = event.group
    if event.consumer is not None:
        shown["consumer"] = _origin(event.consumer)
    if event.outcome:
        shown["outcome"] = outcome_name(event.outcome)
    return shown
