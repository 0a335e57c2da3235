"""OpenMessaging's HTTP binding, below `/oms/v1` of the HTTP door: its routes are at the end.

The binding's only text leaves open how one acknowledges, batches and ends transactions, and when a producer
is asked about one: docs/protocols/openmessaging.md says what it is here.

call                     a request
producing, transactions  what producers do
pulling, receipts        what consumers do
groups, streaming        what they have: groups, and streams to be read by position
pushing                  what is done for those who have a URL
refusals                 what is answered when something is wrong
document                 what it looks like in the door's OpenAPI document
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from gateway.api import Gateway, GatewayError, HttpAnswer, HttpRequest, NotFound

from . import document, groups, producing, pulling, receipts, streaming
from .call import Call, Ids
from .pushing import URL, push
from .refusals import WrongMethod, refusal
from .transactions import Transactions

PREFIX: Final = "/oms/v1/"

Handler = Callable[[Call], Awaitable[HttpAnswer]]


class Binding:
    """Implements `gateway.api.HttpPart`."""

    http_prefixes: tuple[str, ...] = (PREFIX,)

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._ids = Ids()
        routes = _routes(Transactions(gateway))
        self._routes = [(method, _compiled(path), handler) for method, path, handler in routes]

    def http_document(self) -> Mapping[str, Any]:
        """Return OpenAPI's path items."""
        return document.paths(PREFIX)

    async def answer_http(self, request: HttpRequest) -> HttpAnswer:
        """Answer; what is refused has OpenMessaging's code, too."""
        try:
            handler, parts = self._find(request)
            return await handler(Call(self._gateway, self._ids, request, parts))
        except GatewayError as error:
            return refusal(error)

    def _find(self, request: HttpRequest) -> tuple[Handler, dict[str, str]]:
        allowed: list[str] = []
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path)
            if match is None:
                continue
            if method == request.method:
                return handler, {name: unquote(value) for name, value in match.groupdict().items()}
            allowed.append(method)
        if allowed:
            raise WrongMethod(f"{request.method} is not for {request.path[:200]}; {', '.join(allowed)} is")
        raise NotFound(f"there is no {request.path[:200]!r}; see /docs for what there is")


def _compiled(path: str) -> re.Pattern[str]:
    return re.compile(re.escape(PREFIX) + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


def _routes(transactions: Transactions) -> tuple[tuple[str, str, Handler], ...]:
    polls = pulling.Polls()

    async def pull_or_push(call: Call) -> HttpAnswer:
        """Whoever has a URL gets what comes there."""
        return await (push if URL.lower() in call.headers else polls.pull)(call)

    return (
        ("POST", "messages", producing.produce),
        ("POST", "messages/batch", producing.produce_batch),
        ("GET", "messages", pull_or_push),
        ("DELETE", "polls/{poll}", polls.end),
        ("POST", "receipts/ack", receipts.ack_many),
        ("POST", "receipts/extend", receipts.extend_many),
        ("POST", "receipts/{receipt}/ack", receipts.ack),
        ("POST", "receipts/{receipt}/nack", receipts.nack),
        ("POST", "receipts/{receipt}/extend", receipts.extend),
        ("PUT", "groups", groups.make),
        ("DELETE", "groups", groups.leave),
        ("GET", "stream", streaming.read),
        ("POST", "transactions", transactions.prepare),
        ("GET", "transactions/checks", transactions.check),
        ("POST", "transactions/{transaction}/commit", transactions.commit),
        ("POST", "transactions/{transaction}/rollback", transactions.rollback),
    )
