"""The FastAPI application: routes that are not hot, and the OpenAPI document of all."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from ...api import GatewayError
from ...version import __version__
from . import admin, backup, deliveries, events, messages, ordering, queues, topics
from .answers import Event, Receive
from .context import Context
from .limits import JSON_BYTES_MAX
from .models import BatchLine
from .models import Problem as ProblemModel
from .problems import BUG, MEDIA_TYPE, Problem, problem_of
from .resume import Subscriptions

DESCRIPTION = (
    "The HTTP door of the gateway. Messages published here reach subscribers and queues of every other door. "
    "Errors are problem details (RFC 9457) that say what was refused and what to do about it."
)
#: Path -> heading in the document; the first that fits.
TAGS = (
    ("/v1/topics", "topics"),
    ("/v1/subscribe", "subscribe"),
    ("/v1/queues/{queue}/receive", "receive"),
    ("/v1/deliveries", "receive"),
    ("/v1/queues", "queues"),
    ("/v1/messages", "messages"),
    ("/v1/webhooks", "webhooks"),
    ("/v1/transactions", "transactions"),
    ("/oms/v1/", "openmessaging"),
    ("/v1/admin/", "administration"),
    ("", "operations"),
)
_REF = "#/components/schemas/{model}"

#: The ways to log in, as OpenAPI names them; the last possibility is none.
_LOGINS: dict[str, dict[str, str]] = {
    "basic": {"type": "http", "scheme": "basic"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "A JSON Web Token, or an API key"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def build_app(context: Context, subscriptions: Subscriptions, door: Callable[[], dict[str, int]]) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="gateway",
        description=DESCRIPTION,
        version=__version__,
        openapi_url=None,  # admin.py serves it, from a thread
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False},
        exception_handlers={
            GatewayError: _gateway_error,
            RequestValidationError: _validation_error,
            HTTPException: _http_error,
            Exception: _bug,  # answered here, then raised on: asgi.py logs it
        },
    )
    topics.add_routes(app.router, context)
    events.add_routes(app.router, context, subscriptions)
    queues.add_routes(app.router, context)
    ordering.add_routes(app.router, context)
    deliveries.add_routes(app.router, context)
    messages.add_routes(app.router, context)
    admin.add_routes(app.router, context, app, door)
    backup.add_routes(app.router, context)
    _complete_document(app, context)
    return app


def limited(receive: Receive) -> Receive:
    """Return a `receive` that refuses bodies too large for any route of the application."""
    size = 0

    async def receiving() -> Event:
        nonlocal size
        event = await receive()
        size += len(event.get("body", b""))
        if size > JSON_BYTES_MAX:
            raise HTTPException(413)  # FastAPI lets its own kind of error through
        return event

    return receiving


def respond(problem: Problem, extra: dict[str, str] | None = None) -> Response:
    """Return a problem as a response."""
    response = Response(problem.to_json(), problem.status, extra, MEDIA_TYPE)
    for name, value in problem.headers:  # one name may come twice: each way to log in has its own
        response.headers.append(name.decode(), value.decode())
    return response


async def _gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return respond(problem_of(error))


async def _bug(request: Request, error: Exception) -> Response:
    return respond(Problem("internal-error", BUG))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        {"where": ".".join(str(part) for part in fault["loc"]), "fault": fault["msg"]}
        for fault in error.errors()
    ]
    detail = "; ".join(f"{fault['where']}: {fault['fault']}" for fault in faults[:3])
    return respond(Problem("invalid-parameter", detail, {"faults": faults[:100]}))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 405:
        allowed = ", ".join(allowed_methods(request))
        problem = Problem("method-not-allowed", f"{request.method} is not for {path}; {allowed} is")
        return respond(problem, {"allow": allowed})
    if error.status_code == 404:
        return respond(Problem("no-such-route", f"there is no {path}; see /docs for what there is"))
    if error.status_code == 413:
        return respond(Problem("too-large", f"the body of this request has at most {JSON_BYTES_MAX} bytes"))
    return respond(Problem("malformed", str(error.detail)))


def allowed_methods(request: Request) -> list[str]:
    """Return the methods that some route has for the path."""
    found: set[str] = set()
    for route in request.app.routes:
        matched, _ = route.matches(request.scope)
        if matched is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def _complete_document(app: FastAPI, context: Context) -> None:
    """Add to the OpenAPI document what FastAPI does not know: problems, batch lines, logins."""
    make = app.openapi
    lock = Lock()  # it is made in whatever thread asks first
    made: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        with lock:
            if not made:
                made.append(_complete(_with_parts(make(), context)))
            return made[0]

    app.openapi = openapi  # type: ignore[method-assign]


def _with_parts(document: dict[str, Any], context: Context) -> dict[str, Any]:
    """Add the endpoints of parts that protocols and plugins have."""
    for part in context.gateway.http_parts:
        document["paths"].update(part.http_document())
    return document


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = ProblemModel.model_json_schema(ref_template=_REF)
    schemas["BatchLine"] = BatchLine.model_json_schema(ref_template=_REF)
    components["securitySchemes"] = _LOGINS
    document["security"] = [*({name: []} for name in _LOGINS), {}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["tags"] = [next(tag for prefix, tag in TAGS if path.startswith(prefix))]
            _tidy(operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _tidy(operation: dict[str, Any]) -> None:
    """Drop a path parameter that FastAPI has doubled."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for parameter in operation.get("parameters", ()):
        identity = (parameter["in"], parameter["name"])
        if identity not in seen:
            seen.add(identity)
            kept.append(parameter)
    if kept:
        operation["parameters"] = kept
