"""What a plugin, or a protocol, adds to the HTTP door: endpoints of its own, and numbers for /metrics.

Plugins import these from `gateway.api`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, runtime_checkable
from typing import Protocol as Interface

from .core.session import Session


class HttpRequest(NamedTuple):
    """A request to a protocol's part of the HTTP door; who asks has logged in."""

    method: str
    path: str  # as it was sent, percent-encoded, without the query
    query: str
    body: bytes
    session: Session


class HttpAnswer(NamedTuple):
    """What it gets."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"


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
