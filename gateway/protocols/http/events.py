"""`GET /v1/subscribe`: server-sent events, from live subscriptions or from a stream queue."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from ...api import Session
from .context import Context
from .limits import FILTERS_MAX
from .problems import Refused
from .requests import Forward, SelectorLanguage, SelectorText, problems
from .resume import Subscriptions
from .sse import EventStream, Source, open_live, open_stream

_OK = {
    "description": "Events `message`, whose data is a JSON object, and `gap`, where events are missing",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def add_routes(routes: APIRouter, context: Context, subscriptions: Subscriptions) -> None:
    """Add the route."""

    @routes.get(
        "/v1/subscribe",
        summary="Subscribe to topics, or read a stream",
        response_class=Response,
        responses={200: _OK, **problems(404, 409, 503)},
    )
    async def subscribe(
        request: Request,
        filter: Annotated[list[str], Query(description="Topic filter with + and #; may repeat")] = [],  # noqa: B006
        retained: Annotated[bool, Query(description="Begin with the retained values")] = True,
        stream: Annotated[str, Query(description="Read this stream queue instead of subscribing")] = "",
        group: Annotated[str, Query(description="With stream: share its position with others, keep it")] = "",
        offset: Annotated[
            str | None, Query(description="With stream: a number, earliest, latest, or a time (RFC 3339)")
        ] = None,
        selector: SelectorText = None,
        selector_language: SelectorLanguage = None,
        last_event_id: Annotated[str, Header(description="The last event seen: go on after it")] = "",
    ) -> Response:
        """Stay connected; heartbeats are comments, every 15 s.

        A client that reconnects within 60 s with its `Last-Event-ID` gets what it missed; a
        stream's reader resumes exactly, whenever it comes back.
        """
        if context.stopping:
            raise Refused("stopping", "the gateway is stopping; connect again in a moment")
        _check(filter, stream, group, offset)
        session = await context.sessions.own(request.scope)
        wanted = (selector, selector_language)
        source = _open(
            context, subscriptions, session, filter, retained, stream, group, offset, last_event_id, wanted
        )
        return Forward(lambda scope, receive, send: EventStream(context, source).run(receive, send))


def _check(filters: list[str], stream: str, group: str, offset: str | None) -> None:
    if stream and filters:
        raise Refused(
            "invalid-parameter", "filter and stream exclude each other; bind the stream to filters instead"
        )
    if not stream and not filters:
        raise Refused("invalid-parameter", "name a filter to subscribe to, or a stream to read")
    if not stream and (group or offset is not None):
        raise Refused("invalid-parameter", "group and offset belong to a stream; name one")
    if len(filters) > FILTERS_MAX:
        raise Refused("invalid-parameter", f"a subscription has at most {FILTERS_MAX} filters")


def _open(
    context: Context,
    subscriptions: Subscriptions,
    session: Session,
    filters: list[str],
    retained: bool,
    stream: str,
    group: str,
    offset: str | None,
    last: str,
    wanted: tuple[str | None, str | None],
) -> Source:
    try:
        selector = context.selector(*wanted)
        if stream:
            return open_stream(context, session, stream, group, offset, last, selector)
        return open_live(subscriptions, session, tuple(dict.fromkeys(filters)), retained, last, selector)
    except BaseException:
        session.close()
        raise
