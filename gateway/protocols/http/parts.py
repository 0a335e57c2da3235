"""Parts of this door that other protocols serve: an API of theirs below a path of its own."""

from __future__ import annotations

import asyncio

from ...api import HttpAnswer, HttpPart, HttpRequest
from .answers import Header, Receive, Scope, Send
from .context import Context
from .limits import PART_BYTES_MAX
from .problems import Refused


async def serve_part(
    context: Context, part: HttpPart, path: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer a request through the protocol. Raise a GatewayError."""
    body = await _read(receive)
    if body is None:
        return
    lent = await context.sessions.of(scope)
    session = lent.take()
    try:
        query = scope["query_string"].decode("latin-1")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        over = _Over(context, receive).wait
        request = HttpRequest(scope["method"], path, query, body, session, headers, over)
        answer = await part.answer_http(request)
    finally:
        lent.give_back()
    await send({"type": "http.response.start", "status": answer.status, "headers": _head(answer)})
    await send({"type": "http.response.body", "body": answer.body})


async def _read(receive: Receive) -> bytes | None:
    """Return the body, None if the client has left before it was complete. Raise Refused."""
    pieces: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        pieces.append(event.get("body", b""))
        size += len(pieces[-1])
        if size > PART_BYTES_MAX:
            raise Refused("too-large", f"the body of this request has at most {PART_BYTES_MAX} bytes")
        if not event.get("more_body"):
            return b"".join(pieces)


def _head(answer: HttpAnswer) -> list[Header]:
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in answer.headers]
    if answer.content_type:
        headers.append((b"content-type", answer.content_type.encode()))
    return [*headers, (b"content-length", b"%d" % len(answer.body))]


class _Over:
    """What ends the wait of a part that answers later: its client leaves, or the door closes."""

    def __init__(self, context: Context, receive: Receive) -> None:
        self._context = context
        self._receive = receive
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """The gateway stops."""
        self._stopped.set()

    async def wait(self) -> bool:
        """Return when there is no point in waiting, and whether the client has left."""
        if self._context.stopping:
            return False
        self._context.lasting.add(self)
        left = asyncio.create_task(self._left())
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({left, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return left.done()
        finally:
            self._context.lasting.discard(self)
            left.cancel()
            stopped.cancel()

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
