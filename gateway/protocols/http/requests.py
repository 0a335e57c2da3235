"""What every FastAPI route here needs: its caller's session, and names out of its path."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from ...api import Session
from ...core.topic import check_topic
from .answers import Receive, Scope, Send
from .context import Context, decode_segment
from .sessions import Lent

SelectorText = Annotated[
    str | None,
    Query(description="Only messages of which this is true, in SQL92: `price > 10 AND region = 'eu'`"),
]
SelectorLanguage = Annotated[str | None, Query(description="Of the selector: sql (default) or tags")]

_REASONS = {
    400: "Malformed, or an invalid topic",
    401: "Nobody vouches for this login",
    403: "Not allowed",
    404: "It does not exist",
    409: "It exists, but otherwise",
    413: "Too large",
    422: "A parameter or field does not fit",
    429: "The queue is full, or a quota is used up",
    500: "A bug",
    501: "Not available yet",
    503: "The gateway is stopping",
    504: "Nobody has answered in time",
    507: "The log could not be written",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries of a route's refusals; some can always happen."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found = sorted({*statuses, 400, 401, 403, 422, 500})
    return {status: {"description": _REASONS[status], "content": content} for status in found}


async def lent_session(context: Context, request: Request) -> Lent:
    """Return the caller's session. Raise AuthenticationFailed."""
    return await context.sessions.of(request.scope)


async def session_of(context: Context, request: Request) -> Session:
    """Return the caller's session, to be used before the next await. Raise AuthenticationFailed."""
    return (await lent_session(context, request)).session


def queue_name(request: Request) -> str:
    """Return the queue named in the path; a slash within it is `%2F` there."""
    return decode_segment(request.path_params["queue"], "queue name")


def topic_name(request: Request) -> str:
    """Return the topic in the rest of the path. Raise InvalidTopic."""
    topic = decode_segment(request.path_params["topic"])
    check_topic(topic)
    return topic


class Json(Response):
    """JSON that is encoded already."""

    media_type = "application/json"


class Forward(Response):
    """A route that plain ASGI code answers."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._call(scope, receive, send)
