"""Parts of this door that other protocols serve: an API of theirs below a path of its own."""

from __future__ import annotations

from ...api import HttpPart, HttpRequest
from .answers import Receive, Scope, Send
from .context import Context
from .limits import PART_BYTES_MAX
from .problems import Refused


async def serve_part(
    context: Context, part: HttpPart, path: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer a request through the protocol. Raise a GatewayError."""
    pieces: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        pieces.append(event.get("body", b""))
        size += len(pieces[-1])
        if size > PART_BYTES_MAX:
            raise Refused("too-large", f"the body of this request has at most {PART_BYTES_MAX} bytes")
        if not event.get("more_body"):
            break
    lent = await context.sessions.of(scope)
    query = scope["query_string"].decode("latin-1")
    answer = await part.answer_http(HttpRequest(scope["method"], path, query, b"".join(pieces), lent.session))
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
