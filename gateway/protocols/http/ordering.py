"""`/v1/queues/{queue}/keys`: which ordering keys are busy or fail; park one, let it go on, skip its head.

And `/v1/queues/{queue}/groups`: a stream's group that is not needed any more is removed with its position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...api import Conflict, NotFound
from ...core.access import Action, group_resource, queue_resource
from ...core.delivery import Group
from ...core.stream import StreamQueue
from .context import Context, decode_segment
from .limits import PAGE_DEFAULT, PAGE_MAX
from .models import KeyList, Skipped
from .requests import Json, problems, queue_name, session_of

GroupName = Annotated[str, Query(description="Of a stream")]

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


def add_routes(routes: APIRouter, context: Context) -> None:
    """Add the routes."""
    _show_routes(routes, context)
    _act_routes(routes, context)
    _group_routes(routes, context)


def _show_routes(routes: APIRouter, context: Context) -> None:
    @routes.get(
        "/v1/queues/{queue}/keys",
        summary="List ordering keys",
        response_model=KeyList,
        responses=problems(404, 409),
    )
    async def keys(
        request: Request,
        queue: str,
        group: GroupName = "",
        failing: Annotated[bool, Query(description="Only those that fail, back off, or are parked")] = False,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """Those that are busy or parked, the one with the most attempts first."""
        session = await session_of(context, request)
        name = queue_name(request)
        session.check_see(name)
        found = _group(context, name, group)
        states = context.gateway.broker.queues.keys.listing(found, limit, failing)
        shown = [{**state._asdict(), "since_ms": state.since_ms or None} for state in states]
        return Json(_encode({"keys": shown}))


def _act_routes(routes: APIRouter, context: Context) -> None:
    @routes.post(
        "/v1/queues/{queue}/keys/{key}/park",
        summary="Hold an ordering key back",
        status_code=204,
        responses=problems(404, 409, 507),
    )
    async def park(request: Request, queue: str, key: str, group: GroupName = "") -> Response:
        """Its messages wait until the key is let go on, those to come as well; other keys flow."""
        await _act(context, request, "park", context.gateway.broker.queues.keys.park, key, group)
        await context.metadata_stored()
        return Response(status_code=204)

    @routes.post(
        "/v1/queues/{queue}/keys/{key}/unpark",
        summary="Let a parked key go on",
        status_code=204,
        responses=problems(404, 409, 507),
    )
    async def unpark(request: Request, queue: str, key: str, group: GroupName = "") -> Response:
        """What has waited comes first."""
        await _act(context, request, "unpark", context.gateway.broker.queues.keys.unpark, key, group)
        await context.metadata_stored()
        return Response(status_code=204)

    @routes.post(
        "/v1/queues/{queue}/keys/{key}/skip",
        summary="Give up the message a key is stuck at",
        response_model=Skipped,
        responses=problems(404, 409),
    )
    async def skip(request: Request, queue: str, key: str, group: GroupName = "") -> Response:
        """As if its consumer had rejected it: to the dead letters, if the queue has some."""
        message = await _act(context, request, "skip", context.gateway.broker.queues.keys.skip, key, group)
        return Json(_encode({"topic": message.topic, "message_id": message.properties.message_id}))


def _group_routes(routes: APIRouter, context: Context) -> None:
    @routes.delete(
        "/v1/queues/{queue}/groups/{group}",
        summary="Remove a stream's group",
        status_code=204,
        responses=problems(404, 409, 507),
    )
    async def remove(request: Request, queue: str, group: str) -> Response:
        """Forget its position. One that has consumers stays: that is a conflict."""
        session = await session_of(context, request)
        name, group = queue_name(request), decode_segment(group, "group name")
        session.check(Action.MANAGE, queue_resource(name))
        broker = context.gateway.broker
        found = broker.catalog.get(name)
        if not isinstance(found, StreamQueue):
            raise Conflict(f"queue {name!r} is {found.kind}; only a stream has groups")
        if group.startswith("$"):
            raise NotFound(f"queue {name!r} has no group {group!r} that could be removed")
        broker.queues.remove_group(found, group)
        session.changed("queue.group-remove", group_resource(name, group))
        await context.metadata_stored()
        return Response(status_code=204)


def _group(context: Context, queue: str, group: str) -> Group:
    broker = context.gateway.broker
    return broker.queues.keys.group(broker.catalog.get(queue), group)


async def _act(
    context: Context, request: Request, what: str, act: Callable[[Group, str], T], key: str, group: str
) -> T:
    """Do something with a key of a queue that the caller may manage, and note that."""
    session = await session_of(context, request)
    name = queue_name(request)
    session.check(Action.MANAGE, queue_resource(name))
    found, key = _group(context, name, group), decode_segment(key, "key")
    done = act(found, key)
    session.changed(f"queue.{what}", queue_resource(name), f"key {key!r}")
    return done
