"""Health, metrics, the overview for operators, and the pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, Response

from ...core.access import ADMIN_PREFIX, Action
from ...version import __version__
from .context import Context
from .metrics import CONTENT_TYPE, Exposition
from .models import Health
from .pages import HEADERS, landing, reference
from .requests import Json, problems, session_of

METRICS_RESOURCE = ADMIN_PREFIX + "metrics"
OVERVIEW_RESOURCE = ADMIN_PREFIX + "overview"


def add_routes(routes: APIRouter, context: Context, app: FastAPI, door: Callable[[], dict[str, int]]) -> None:
    """Add the routes. `door` tells the door's own numbers."""
    _page_routes(routes, app)
    exposition = Exposition(context.gateway, door)

    @routes.get(
        "/health",
        summary="Is it up?",
        response_model=Health,
        responses={503: {"description": "It is stopping", "model": Health}},
    )
    async def health() -> Response:
        """For load balancers; needs no login."""
        status = "stopping" if context.stopping else "ok"
        body = msgspec.json.encode({"status": status, "version": __version__})
        return Json(body, 503 if context.stopping else 200)

    @routes.get(
        "/metrics", summary="Numbers for Prometheus", response_class=Response, responses=_metrics_responses()
    )
    async def metrics(request: Request) -> Response:
        """In Prometheus' text format; for whoever may view the admin area `metrics`."""
        session = await session_of(context, request)
        session.check(Action.VIEW, METRICS_RESOURCE)
        return Response(exposition.text(), media_type=CONTENT_TYPE)

    @routes.get("/v1/admin/overview", summary="Numbers as JSON", responses=problems())
    async def overview(request: Request) -> dict[str, Any]:
        """Counters since start; for whoever may view the admin area `overview`."""
        session = await session_of(context, request)
        session.check(Action.VIEW, OVERVIEW_RESOURCE)
        return _overview(context, door)


def _page_routes(routes: APIRouter, app: FastAPI) -> None:
    @routes.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(landing(__version__), headers=HEADERS)

    @routes.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        # In a thread: making the document takes a tenth of a second, once.
        return Json(msgspec.json.encode(await asyncio.to_thread(app.openapi)))

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(reference(await asyncio.to_thread(app.openapi)), headers=HEADERS)


def _metrics_responses() -> dict[int | str, dict[str, Any]]:
    return {
        200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(),
    }


def _overview(context: Context, door: Callable[[], dict[str, int]]) -> dict[str, Any]:
    broker = context.gateway.broker
    metrics = broker.metrics
    return {
        "version": __version__,
        "messages": {
            "published": metrics.published,
            "copies": metrics.copies,
            "delivered": metrics.delivered,
            "streamed": metrics.streamed,
            "returned": metrics.redelivered,
            "dead_lettered": metrics.dead_lettered,
            "dropped": metrics.dropped_by_cause(),
        },
        "queues": len(broker.catalog.queues),
        "subscriptions": broker.router.bindings,
        "retained": broker.retained.count,
        "topics_cached": len(broker.router.routes),
        "leases": len(broker.leases),
        "connections": context.gateway.connections(),
        "http": door(),
        "doors": sorted(context.gateway.protocols),
    }
