"""`/v1/topics`: publish, last value, listing. Publishing is answered by publish.py and batch.py."""

from __future__ import annotations

import asyncio
import zlib
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...api import NotFound, Session
from ...core import cloudevents
from ...core.access import Action
from ...core.message import Message
from ...core.schedules import DISTANCE_MS_MAX
from ...core.topic import QUEUE_PREFIX, SESSION_PREFIX
from ...http_fields import http_date, write_head
from .batch import publish_batch_to
from .context import Context, not_stored, value_of
from .limits import (
    LISTING_CHECKS_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    REQUEST_SECONDS_DEFAULT,
    REQUEST_SECONDS_MAX,
)
from .models import BatchPublished, Published, TopicList
from .publish import Publishing
from .request import request_to
from .requests import Forward, Json, problems, session_of, topic_name

TOPIC_PARAMETER = {
    "name": "topic",
    "in": "path",
    "required": True,
    "description": "The rest of the path, percent-decoded: any number of levels. `$queue/<name>` is a queue.",
    "schema": {"type": "string", "minLength": 1},
}
_TRANSACTION = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "Letters, digits, `-` and `_`: the producer's choice.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"},
}
_PROPERTY_HEADERS = {
    "Content-Encoding": "As it is",
    "X-Message-Id": "Percent-encoded UTF-8",
    "X-Reply-To": "Percent-encoded UTF-8: a topic",
    "X-Correlation-Data": "Printable ASCII, or base64:<base64>",
    "X-Priority": "0 to 255",
    "X-Timestamp": "The publisher's own time, Unix milliseconds",
    "X-Key": "Ordering key, percent-encoded UTF-8",
    "X-Tag": "Percent-encoded UTF-8",
    "X-Keys": "Search keys, comma-separated, each percent-encoded",
    "X-Text": "true: the body is UTF-8",
    "traceparent": "W3C trace context",
    "Idempotency-Key": "Published once per key within ten minutes",
}
#: Headers that a random value does not fit: their format, for readers and for test generators.
_PATTERNS = {
    "X-Priority": r"^(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])$",
    "X-Timestamp": r"^[0-9]{1,18}$",
    "X-Correlation-Data": r"^[!-9;-~]{1,200}$",
    "X-Text": r"^false$|^true$",
    "Idempotency-Key": r"^[!#-~]{1,255}$",
}


def header_parameters() -> list[dict[str, Any]]:
    """Return the OpenAPI parameters of a publish's headers."""
    found = []
    for name, description in _PROPERTY_HEADERS.items():
        schema = {"type": "string", "pattern": _PATTERNS.get(name, r"^[!-$&-~]{0,200}$")}
        found.append(
            {"name": name, "in": "header", "required": False, "description": description, "schema": schema}
        )
    return found


def publish_parameters() -> list[dict[str, Any]]:
    """Return the OpenAPI parameters of a publish's query string."""
    schemas: dict[str, dict[str, Any]] = {
        "qos": {"type": "integer", "enum": [0, 1, 2], "default": 1},
        "retain": {"type": "boolean", "default": False},
        "ttl": {"type": "number", "exclusiveMinimum": 0, "maximum": 4294967295},
        "key": {"type": "string"},
        "tag": {"type": "string"},
        "delay": {"type": "number", "minimum": 0, "maximum": DISTANCE_MS_MAX // 1000},
        "deliver_at": {"type": "string", "format": "date-time"},
    }
    return [
        {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in schemas.items()
    ]


TIMEOUT = {
    "name": "timeout",
    "in": "query",
    "required": False,
    "description": "Seconds to wait for the answer",
    "schema": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": REQUEST_SECONDS_MAX,
        "default": REQUEST_SECONDS_DEFAULT,
    },
}
ANSWERED: dict[int | str, Any] = {
    200: {"description": "The answer's body as it is; its properties are headers", "content": {"*/*": {}}},
    **problems(404, 413, 429, 501, 504, 507),
}
BODY = {
    "required": False,
    "description": "The message's body, as it is",
    "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
}


def add_routes(routes: APIRouter, context: Context) -> None:
    """Add the routes."""
    _batch_route(routes, context)
    _publish_routes(routes, context)
    _value_routes(routes, context)


def _batch_route(routes: APIRouter, context: Context) -> None:
    @routes.post(
        "/v1/topics/{topic:path}/batch",
        summary="Publish many messages",
        response_model=BatchPublished,
        responses=problems(413, 429, 501, 507),
        openapi_extra={
            "parameters": [TOPIC_PARAMETER],
            "requestBody": {
                "required": False,
                "description": "NDJSON: one JSON object a line, each like the schema",
                "content": {"application/x-ndjson": {"schema": {"$ref": "#/components/schemas/BatchLine"}}},
            },
        },
    )
    async def batch(request: Request) -> Response:
        """Publish each line's message; answered when all are stored.

        Lines that could not be published are listed, and hold up no others. (To publish to a
        topic whose last level is `batch`, write its last slash as `%2F`.)
        """
        topic = topic_name(request)
        return Forward(lambda scope, receive, send: publish_batch_to(topic, context, scope, receive, send))


def _publish_routes(routes: APIRouter, context: Context) -> None:
    publishing = Publishing(context)

    @routes.post(
        "/v1/topics/{topic:path}/request",
        summary="Ask, and wait for the answer",
        response_class=Response,
        responses=ANSWERED,
        openapi_extra={
            "parameters": [TOPIC_PARAMETER, TIMEOUT, *publish_parameters(), *header_parameters()],
            "requestBody": BODY,
        },
    )
    async def ask(request: Request) -> Response:
        """Publish the raw body with an address to answer to; return the first answer's body and properties.

        It expires with the request. (To publish to a topic whose last level is `request`, write its last
        slash as `%2F`.)
        """
        topic = topic_name(request)
        return Forward(
            lambda scope, receive, send: request_to(topic, context, publishing, scope, receive, send)
        )

    @routes.post(
        "/v1/topics/{topic:path}",
        summary="Publish a message",
        response_model=Published,
        responses=problems(413, 429, 501, 507),
        openapi_extra={
            "parameters": [TOPIC_PARAMETER, *publish_parameters(), *header_parameters()],
            "requestBody": BODY,
        },
    )
    async def publish(request: Request) -> Response:
        """Publish the raw body; answered when it is stored. Properties are headers.

        `X-Property-<name>` headers are application headers.
        """
        return Forward(publishing.to_topic)

    @routes.post(
        "/v1/transactions/{id}/topics/{topic:path}",
        summary="Add a message to a transaction",
        response_model=Published,
        responses=problems(404, 409, 413, 429, 507),
        openapi_extra={
            "parameters": [_TRANSACTION, TOPIC_PARAMETER, *publish_parameters(), *header_parameters()],
            "requestBody": BODY,
        },
    )
    async def add(request: Request) -> Response:
        """Publish the raw body in a transaction, which begins with its first message; nobody gets it before
        the commit. Answered when it is stored; `subscribers` says nothing.
        """
        return Forward(publishing.to_transaction)


def _value_routes(routes: APIRouter, context: Context) -> None:
    @routes.get(
        "/v1/topics/{topic:path}",
        summary="Read a topic's value",
        response_class=Response,
        responses={
            200: {"description": "The body as it is", "content": {"*/*": {}}},
            304: {"description": "It is what If-None-Match names"},
            **problems(404),
        },
        openapi_extra={"parameters": [TOPIC_PARAMETER]},
    )
    async def value(request: Request) -> Response:
        """Return the retained message, else the last one published since the gateway started."""
        return await _value(context, request)

    @routes.delete(
        "/v1/topics/{topic:path}",
        summary="Clear a retained value",
        status_code=204,
        responses=problems(404, 507),
        openapi_extra={"parameters": [TOPIC_PARAMETER]},
    )
    async def clear(request: Request) -> Response:
        """Publish an empty retained message, as an MQTT client would."""
        return await _clear(context, request)

    @routes.get("/v1/topics", summary="List topics", response_model=TopicList, responses=problems())
    async def listing(
        request: Request,
        prefix: str = "",
        after: str = "",
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """List topics that have a value, in order, as far as the caller may subscribe to them."""
        return await _list(context, request, prefix, after, limit)


# -- values -----------------------------------------------------------------------------------


async def _value(context: Context, request: Request) -> Response:
    topic = topic_name(request)
    found = value_of(context, await session_of(context, request), topic)
    if found is None:
        raise NotFound(
            f"topic {topic!r} has no value: nothing was published to it since start, nothing is retained"
        )
    message, retained = found
    tag = entity_tag(message)
    headers = [
        (b"etag", tag.encode()),
        (b"last-modified", http_date(message.timestamp_ms).encode()),
        (b"x-retained", b"true" if retained else b"false"),
        (b"cache-control", b"no-cache"),
        (b"vary", b"Accept"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"sandbox"),  # a published page must not act as one of ours
    ]
    if matches(request.headers.get("if-none-match", ""), tag):
        return _raw(304, b"", headers)
    if cloudevents.STRUCTURED in request.headers.get("accept", "").lower():
        event = cloudevents.to_structured(message)
        if event is not None:
            kind = (b"content-type", f"{cloudevents.STRUCTURED}; charset=utf-8".encode())
            return _raw(200, event, [*headers, kind])
    return _raw(200, message.body, headers + write_head(message))


def _raw(status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> Response:
    response = Response(body, status)
    length = [(b"content-length", b"%d" % len(body))] if status != 304 else []
    response.raw_headers = headers + length
    return response


def entity_tag(message: Message) -> str:
    """Return the strong ETag of a message: it changes with each publish."""
    who = zlib.crc32((message.properties.message_id or "").encode("utf-8", "surrogatepass"))
    return f'"{message.timestamp_ms:x}-{who:x}-{zlib.crc32(message.body):x}"'


def matches(condition: str, tag: str) -> bool:
    """Tell whether If-None-Match names the tag (RFC 9110, 13.1.2: weak comparison)."""
    names = [name.strip().removeprefix("W/") for name in condition.split(",")]
    return tag in names or condition.strip() == "*"


async def _clear(context: Context, request: Request) -> Response:
    topic = topic_name(request)
    session = await session_of(context, request)
    session.check(Action.PUBLISH, topic)
    broker = context.gateway.broker
    if broker.retained.get(topic) is None:
        raise NotFound(f"topic {topic!r} has no retained value; there is nothing to clear")
    position = session.publish(
        Message(topic, b"", 1, True, origin=session.origin, timestamp_ms=broker.clock.wall_ms)
    )
    if not await context.stored(position):
        raise not_stored()
    return Response(status_code=204)


# -- listing ----------------------------------------------------------------------------------


async def _list(context: Context, request: Request, prefix: str, after: str, limit: int) -> Response:
    session = await session_of(context, request)
    broker = context.gateway.broker
    now_ms = broker.clock.now_ms
    retained = {m.topic for m in broker.retained.all() if not m.expires_at_ms or m.expires_at_ms > now_ms}
    seen = [topic for topic in broker.router.routes if broker.router.last(topic) is not None]
    topics = await asyncio.to_thread(_sorted_page, retained, seen, prefix, after)
    context.gateway.begin_turn()
    found, next_after = _permitted(session, topics, limit)
    shown = [{"topic": topic, "retained": topic in retained} for topic in found]
    return Json(msgspec.json.encode({"topics": shown, "next": next_after}))


def _sorted_page(retained: set[str], seen: list[str], prefix: str, after: str) -> list[str]:
    """Return topics in order; in a thread, because there may be very many."""
    internal = (QUEUE_PREFIX, SESSION_PREFIX)
    wanted = {
        t for t in (*retained, *seen) if t > after and t.startswith(prefix) and not t.startswith(internal)
    }
    return sorted(wanted)


def _permitted(session: Session, topics: list[str], limit: int) -> tuple[list[str], str | None]:
    """Return the first topics that the caller may subscribe to, and where the next page begins."""
    found: list[str] = []
    for count, topic in enumerate(topics):
        if len(found) >= limit or count >= LISTING_CHECKS_MAX:
            return (found, topics[count - 1])
        if session.may(Action.SUBSCRIBE, topic):
            found.append(topic)
    return (found, None)
