"""`/v1/queues`: declare, look at, publish to, browse, purge, delete."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...api import Conflict, NotAuthorized, NotFound, Session
from ...core.access import Action, group_resource, queue_resource
from ...core.delivery import Group
from ...core.policy import OWN_DEAD_LETTERS, WORK, QueuePolicy
from ...core.queue import Queue
from ...core.replay import start_offset
from ...core.router import Binding
from ...core.selector import Selector, check_same
from ...core.shares import is_share, selector_of, shared_filter
from ...core.stream import StreamQueue
from ...core.topic import DEAD_PREFIX, DELAYED_PREFIX, SYS_PREFIX, check_filter
from .context import Context, decode_segment
from .convert import to_mapping
from .deliveries import fitting
from .limits import LISTING_CHECKS_MAX, PAGE_DEFAULT, PAGE_MAX, RECEIVE_BYTES_MAX
from .models import (
    COUNT_MAX,
    Browsed,
    GroupShown,
    Published,
    Purged,
    QueueList,
    QueueShown,
    QueueWanted,
    SeekWanted,
)
from .problems import Refused
from .publish import Publishing, queue_topic
from .request import request_to
from .requests import Forward, Json, problems, queue_name, session_of
from .sse import EPHEMERAL_PREFIX
from .topics import ANSWERED, BODY, TIMEOUT, header_parameters, publish_parameters

_encode = msgspec.json.Encoder().encode


def add_routes(routes: APIRouter, context: Context) -> None:
    """Add the routes."""
    _declare_routes(routes, context)
    _show_routes(routes, context)
    _message_routes(routes, context)
    _manage_routes(routes, context)


def _declare_routes(routes: APIRouter, context: Context) -> None:
    @routes.put(
        "/v1/queues/{queue}",
        summary="Create a queue, or see that it is there",
        response_model=QueueShown,
        responses={201: {"description": "Created", "model": QueueShown}, **problems(409, 507)},
    )
    async def declare(
        request: Request,
        queue: str,
        wanted: QueueWanted | None = None,
        update: Annotated[bool, Query(description="Change the policy of a queue that exists")] = False,
    ) -> Response:
        """Idempotent: a queue that exists and is the same is left alone; bindings are added.

        A difference is a conflict that names it; `update=true` changes the policy instead.
        """
        session = await session_of(context, request)
        found, created = _declare(
            context, session, queue_name(request), wanted or QueueWanted.model_validate({}), update
        )
        await context.metadata_stored()
        return Json(_encode(describe(context, found)), 201 if created else 200)

    @routes.delete(
        "/v1/queues/{queue}", summary="Delete a queue", status_code=204, responses=problems(404, 507)
    )
    async def delete(request: Request, queue: str) -> Response:
        """Delete a queue with what it holds."""
        session = await session_of(context, request)
        found = _managed(context, session, queue_name(request))
        count = found.length()
        context.gateway.broker.queues.delete(found)
        session.changed("queue.delete", queue_resource(found.name), f"{count} messages")
        await context.metadata_stored()
        return Response(status_code=204)

    @routes.delete(
        "/v1/queues/{queue}/bindings",
        summary="Remove a binding",
        status_code=204,
        responses=problems(404, 507),
    )
    async def unbind(request: Request, queue: str, filter: Annotated[str, Query()]) -> Response:
        """Stop routing what the filter matches to the queue."""
        session = await session_of(context, request)
        found = _managed(context, session, queue_name(request))
        if not context.gateway.broker.catalog.unbind(found, filter):
            raise NotFound(f"queue {found.name!r} is not bound to {filter!r}; GET it to see its bindings")
        session.changed("queue.unbind", queue_resource(found.name), f"from {filter!r}")
        await context.metadata_stored()
        return Response(status_code=204)


def _show_routes(routes: APIRouter, context: Context) -> None:
    @routes.get(
        "/v1/queues/{queue}", summary="Look at a queue", response_model=QueueShown, responses=problems(404)
    )
    async def show(request: Request, queue: str) -> Response:
        """Depth, bindings, policy, and how each group is doing."""
        session = await session_of(context, request)
        return Json(_encode(describe(context, _visible(context, session, queue_name(request)))))

    @routes.get("/v1/queues", summary="List queues", response_model=QueueList, responses=problems())
    async def listing(
        request: Request,
        prefix: str = "",
        after: str = "",
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """List queues in order of name, as far as the caller may consume or manage them."""
        session = await session_of(context, request)
        return Json(await _list(context, session, prefix, after, limit))


def _message_routes(routes: APIRouter, context: Context) -> None:
    publishing = Publishing(context)

    @routes.post(
        "/v1/queues/{queue}/messages",
        summary="Publish straight to a queue",
        response_model=Published,
        responses=problems(404, 413, 429, 501, 507),
        openapi_extra={"parameters": [*publish_parameters(), *header_parameters()], "requestBody": BODY},
    )
    async def publish(request: Request, queue: str) -> Response:
        """Publish the raw body to `$queue/<name>`; parameters and headers are those of a topic's."""
        name = queue_name(request)
        return Forward(lambda scope, receive, send: publishing.to_named_queue(name, scope, receive, send))

    @routes.post(
        "/v1/queues/{queue}/request",
        summary="Ask by a queue, and wait for the answer",
        response_class=Response,
        responses=ANSWERED,
        openapi_extra={
            "parameters": [TIMEOUT, *publish_parameters(), *header_parameters()],
            "requestBody": BODY,
        },
    )
    async def ask(request: Request, queue: str) -> Response:
        """As `/v1/topics/{topic}/request`, straight to `$queue/<name>`."""
        name = queue_name(request)
        return Forward(
            lambda scope, receive, send: request_to(
                queue_topic(context, name), context, publishing, scope, receive, send
            )
        )

    @routes.get(
        "/v1/queues/{queue}/browse",
        summary="Look into a queue",
        response_model=Browsed,
        responses=problems(404),
    )
    async def browse(
        request: Request,
        queue: str,
        start: Annotated[int, Query(ge=0, le=COUNT_MAX, description="First offset")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """Show what waits, oldest first. Changes nothing."""
        session = await session_of(context, request)
        name = queue_name(request)
        session.check_consume(name)
        return Json(_browse(context.gateway.broker.catalog.get(name), start, limit))


def _manage_routes(routes: APIRouter, context: Context) -> None:
    @routes.post(
        "/v1/queues/{queue}/purge", summary="Empty a queue", response_model=Purged, responses=problems(404)
    )
    async def purge(request: Request, queue: str) -> Response:
        """Drop what waits; what consumers hold stays theirs."""
        session = await session_of(context, request)
        found = _managed(context, session, queue_name(request))
        count = context.gateway.broker.queues.purge(found)
        session.changed("queue.purge", queue_resource(found.name), f"{count} messages")
        return Json(_encode({"purged": count}))

    @routes.post(
        "/v1/queues/{queue}/groups/{group}/seek",
        summary="Move a stream group",
        response_model=GroupShown,
        responses=problems(404, 409),
    )
    async def seek(request: Request, queue: str, group: str, wanted: SeekWanted) -> Response:
        """Go on at an offset; what the group holds unsettled stays with its consumers."""
        session = await session_of(context, request)
        name, group = queue_name(request), decode_segment(group, "group name")
        session.check_consume(name, group)
        found = context.gateway.broker.catalog.get(name)
        if not isinstance(found, StreamQueue):
            raise Conflict(f"queue {name!r} is {found.kind}; only a stream has groups with positions")
        if group.startswith("$"):
            raise Refused("invalid-parameter", "group: names that begin with $ are the gateway's own")
        offset = start_offset(found, context.gateway.clock, str(wanted.offset), "offset")
        moved = context.gateway.broker.queues.seek(found, group, offset)
        session.changed("queue.seek", group_resource(name, group), f"to offset {offset}")
        return Json(_encode(_describe_group(found, moved)))


# -- declaring --------------------------------------------------------------------------------


def _declare(
    context: Context, session: Session, name: str, wanted: QueueWanted, update: bool
) -> tuple[Queue, bool]:
    if name.startswith("$") and not is_share(name):
        raise NotAuthorized(f"queue {name!r}: names that begin with $ are the gateway's own; choose another")
    session.check(Action.MANAGE, queue_resource(name))
    catalog = context.gateway.broker.catalog
    bindings = _bindings(context, name, wanted)
    for topic_filter in bindings:
        check_filter(topic_filter)
        if topic_filter.startswith("$"):
            raise NotAuthorized(f"binding {topic_filter!r}: what begins with $ cannot be bound")
        session.check(Action.SUBSCRIBE, topic_filter)  # to bind is to read
    queue = catalog.queues.get(name)
    policy = None if wanted.policy is None else QueuePolicy.from_mapping(wanted.policy.model_dump())
    if policy is not None and not _own_dead_letters(policy.dead_letter):
        session.check(Action.PUBLISH, policy.dead_letter)  # the queue does so in its maker's name
    created = queue is None
    if queue is None:
        session.check_queues()
        durable, kind = wanted.durable is not False, wanted.kind or "classic"
        queue, _ = catalog.declare(
            name, kind, policy or WORK, durable, bool(wanted.auto_delete), session.origin
        )
        session.changed("queue.declare", queue_resource(name), kind)
    else:
        _check_same(queue, wanted, None if update else policy)
        if not update:
            _check_bindings(context, name, bindings)
        if policy is not None and queue.policy.difference(policy):
            changes = policy.changes(queue.policy)
            catalog.set_policy(queue, policy)
            session.changed("queue.policy", queue_resource(name), json.dumps(changes))
    for topic_filter, selector in bindings.items():
        bound = catalog.bindings.get(name, {}).get(topic_filter)
        if bound is None or bound.selector != selector:
            catalog.bind(queue, Binding(topic_filter, queue=queue, selector=selector))
            session.changed("queue.bind", queue_resource(name), f"to {topic_filter!r}")
    return (queue, created)


def _bindings(context: Context, name: str, wanted: QueueWanted) -> dict[str, Selector | None]:
    """Return what a queue is to be bound to: a shared subscription to its filter, and to nothing else."""
    found: dict[str, Selector | None] = {}
    for entry in wanted.bindings:
        if isinstance(entry, str):
            found[entry] = None
        else:
            found[entry.filter] = context.selector(entry.selector, entry.selector_language)
    if not is_share(name):
        return found
    own = shared_filter(name)
    if wanted.kind not in (None, "classic") or any(other != own for other in found):
        raise Conflict(f"{name!r} is a shared subscription: classic, and bound to {own!r} alone")
    return found or {own: selector_of(context.gateway.broker.catalog, name)}


def _check_bindings(context: Context, name: str, wanted: dict[str, Selector | None]) -> None:
    known = context.gateway.broker.catalog.bindings.get(name, {})
    for topic_filter, selector in wanted.items():
        if topic_filter in known:
            whose = f"the binding of queue {name!r} to {topic_filter!r}"
            check_same(known[topic_filter].selector, selector, whose, "use ?update=true to change it")


def _own_dead_letters(address: str) -> bool:
    """Tell whether dead letters go where only the gateway publishes, or nowhere."""
    return not address or address == OWN_DEAD_LETTERS or address.startswith(DEAD_PREFIX)


def _check_same(queue: Queue, wanted: QueueWanted, policy: QueuePolicy | None) -> None:
    name = queue.name
    for what, mine, theirs in (
        ("kind", queue.kind, wanted.kind),
        ("durable", queue.durable, wanted.durable),
        ("auto_delete", queue.auto_delete, wanted.auto_delete),
    ):
        if theirs is not None and mine != theirs:
            raise Conflict(
                f"queue {name!r} exists and its {what} is {mine!r}, not {theirs!r}; delete it to change that"
            )
    difference = queue.policy.difference(policy) if policy is not None else ""
    if difference:
        raise Conflict(
            f"queue {name!r} exists with another policy: {difference}; use ?update=true to change it"
        )


def _managed(context: Context, session: Session, name: str) -> Queue:
    session.check(Action.MANAGE, queue_resource(name))
    return context.gateway.broker.catalog.get(name)


# -- looking ----------------------------------------------------------------------------------


def _visible(context: Context, session: Session, name: str) -> Queue:
    session.check_see(name)
    return context.gateway.broker.catalog.get(name)


async def _list(context: Context, session: Session, prefix: str, after: str, limit: int) -> bytes:
    queues = context.gateway.broker.catalog.queues
    # In a thread, because every client with a session has a queue: there may be very many.
    names = await asyncio.to_thread(_sorted_page, list(queues), prefix, after)
    context.gateway.begin_turn()
    shown: list[dict[str, Any]] = []
    next_after = None
    for index, name in enumerate(names):
        if len(shown) >= limit or index >= LISTING_CHECKS_MAX:
            next_after = names[index - 1]
            break
        hidden = name.startswith((SYS_PREFIX, DELAYED_PREFIX)) and not prefix.startswith("$")  # ours
        if name in queues and not hidden and session.may_see(name):
            shown.append(describe(context, queues[name]))
    return _encode({"queues": shown, "next": next_after})


def _sorted_page(names: list[str], prefix: str, after: str) -> list[str]:
    return sorted(name for name in names if name > after and name.startswith(prefix))


def describe(context: Context, queue: Queue) -> dict[str, Any]:
    """Return what is shown of a queue."""
    groups = [group for group in queue.groups() if not group.name.startswith(EPHEMERAL_PREFIX)]
    return {
        "name": queue.name,
        "kind": queue.kind,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "depth": queue.length(),
        "bytes": queue.bytes_waiting,
        "unsettled": sum(len(group.unsettled) for group in queue.groups()),
        "consumers": sum(len(group.consumers) for group in queue.groups()),
        "first_offset": queue.first_offset if isinstance(queue, StreamQueue) else None,
        "next_offset": queue.next_offset,
        "bindings": [
            _describe_binding(binding)
            for _, binding in sorted(context.gateway.broker.catalog.bindings.get(queue.name, {}).items())
        ],
        "policy": queue.policy.to_mapping(),
        "groups": [_describe_group(queue, group) for group in groups],
    }


def _describe_binding(binding: Binding) -> str | dict[str, Any]:
    selector = binding.selector
    if selector is None:
        return binding.filter
    return {"filter": binding.filter, "selector": selector.text, "selector_language": selector.language}


def _describe_group(queue: Queue, group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "consumers": len(group.consumers),
        "unsettled": len(group.unsettled),
        "delayed": len(group.parked),
        "lag": queue.depth(group),
        "cursor": group.cursor if isinstance(queue, StreamQueue) else None,
        "selector": group.selector.text if group.selector is not None else None,
        "selector_language": group.selector.language if group.selector is not None else None,
    }


def _browse(queue: Queue, start: int, limit: int) -> bytes:
    count = fitting(queue, limit)
    found = queue.browse(start, count + 1)  # one more, to know whether there is a next page
    shown: list[dict[str, Any]] = []
    size = 0
    for offset, message, attempts in found:
        size += len(message.body)
        if len(shown) >= count or (shown and size > RECEIVE_BYTES_MAX):
            return _encode({"messages": shown, "next": offset})
        shown.append({"offset": offset, "attempts": attempts, **to_mapping(message, False)})
    return _encode({"messages": shown, "next": None})
