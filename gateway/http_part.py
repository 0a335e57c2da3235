"""What a plugin, or a protocol, adds to the HTTP door: endpoints of its own, and numbers for /metrics.

Plugins import these from `gateway.api`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, runtime_checkable
from typing import Protocol as Interface

from .core.session import Session

#: The head's fields, names in lower case, in order.
HttpHeaders = Sequence[tuple[str, str]]


async def never() -> bool:
    """Wait for ever: what `HttpRequest.over` does where nobody can leave."""
    waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    return await waiting


class HttpRequest(NamedTuple):
    """A request to a protocol's part of the HTTP door; who asks has logged in."""

    method: str
    path: str  # as it was sent, percent-encoded, without the query
    query: str
    body: bytes
    session: Session  # open until the answer is there
    headers: HttpHeaders = ()
    #: For an answer that takes its time: returns when there is no point in waiting any longer, and whether
    #: that is because the client has left. If not, the door closes: answer with what there is.
    over: Callable[[], Awaitable[bool]] = never


class HttpAnswer(NamedTuple):
    """What it gets."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"  # "": it has none
    headers: HttpHeaders = ()  # besides; of ASCII


class Series(NamedTuple):
    """A number for /metrics, or one for each of some labels' values. Few: each is a time series."""

    name: str  # as Prometheus has them, without `_total`
    text: str
    values: Sequence[tuple[tuple[str, ...], float]]  # (the labels' values, the number)
    labels: tuple[str, ...] = ()
    counter: bool = False  # it only grows


@runtime_checkable
class HttpPart(Interface):
    """A part of the HTTP door, below paths of its own: an API for a protocol's, or a plugin's, tools.

    A protocol that has one implements this, too; anybody else offers it by `gateway_http_parts`.
    """

    http_prefixes: tuple[str, ...]

    def http_document(self) -> Mapping[str, Any]:
        """Return OpenAPI's path items of this part, by path; they become part of the door's document."""

    async def answer_http(self, request: HttpRequest) -> HttpAnswer:
        """Answer; a `GatewayError` becomes a problem document."""
