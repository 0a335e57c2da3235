"""Requests that wait for an answer: `POST /v1/topics/{topic}/request`, `POST /v1/queues/{queue}/request`.

The message carries an address of its own to answer to, which nobody can guess, and expires with the
request. Whoever gets it, at whatever door, publishes the answer to that address; the first is it. A client
that leaves, and a time that is up, take the address away; what comes later is dropped and counted.
"""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import unquote

from ...api import NO_SUBSCRIBERS, Session
from ...core.message import Message
from ...http_fields import write_head
from .answers import Receive, Scope, Send
from .context import Context, decode_segment, not_stored
from .headers import read_head
from .limits import REQUEST_SECONDS_DEFAULT, REQUEST_SECONDS_MAX
from .problems import Refused
from .publish import QUEUES_PATH, TOPICS_PATH, ClientGone, Publishing, queue_topic, read_body

REQUEST_SUFFIX = b"/request"
TOKEN_BYTES = 16  # nobody guesses 128 bits
_TIMEOUT = b"timeout="

#: A published page must not act as one of ours.
_SAFE = [(b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"sandbox")]


async def request(
    context: Context, publishing: Publishing, scope: Scope, receive: Receive, send: Send
) -> None:
    """Publish the body to what the path names, and answer with what comes back. Raise GatewayError."""
    raw: bytes = scope["raw_path"]
    if raw.startswith(TOPICS_PATH):
        topic = decode_segment(raw[len(TOPICS_PATH) : -len(REQUEST_SUFFIX)].decode("ascii"))
    else:
        name = decode_segment(raw[len(QUEUES_PATH) : -len(REQUEST_SUFFIX)].decode("ascii"), "queue name")
        topic = queue_topic(context, name)
    await request_to(topic, context, publishing, scope, receive, send)


async def request_to(
    topic: str, context: Context, publishing: Publishing, scope: Scope, receive: Receive, send: Send
) -> None:
    """Publish the body to a topic, and answer with what comes back. Raise GatewayError."""
    query, seconds = split_timeout(scope["query_string"])
    options = publishing.options(query)
    if options.retain:
        raise Refused("invalid-parameter", "retain: a request is for now; publish what is to be kept")
    if options.delay_ms or options.deliver_at_ms is not None:
        raise Refused("invalid-parameter", "delay, deliver_at: a request is for now; publish what is to wait")
    head = read_head(scope["headers"])
    if head.properties.idempotency_key is not None:
        raise Refused("malformed", "a request has no Idempotency-Key: its first answer is gone")
    body = await read_body(receive, head.length, context.limits.body_bytes_max)
    lent = await context.sessions.of(scope)
    session = lent.take()
    try:
        message = publishing.message(topic, body, options, head, session)[0]
        if not message.expires_at_ms:
            message.expires_at_ms = context.gateway.clock.now_ms + int(seconds * 1000)
        answer = await _Waiting(context, session).ask(message, seconds, receive)
    finally:
        lent.give_back()
    headers = [*_SAFE, *write_head(answer), (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def split_timeout(query: bytes) -> tuple[bytes, float]:
    """Return (the query string without `timeout`, seconds). Raise Refused."""
    pairs = query.split(b"&")
    given = [pair[len(_TIMEOUT) :] for pair in pairs if pair.startswith(_TIMEOUT)]
    if not given:
        return query, REQUEST_SECONDS_DEFAULT
    text = unquote(given[-1].decode("latin-1"))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= REQUEST_SECONDS_MAX:
        wanted = f"seconds above 0, at most {REQUEST_SECONDS_MAX:.0f}, are expected"
        raise Refused("invalid-parameter", f"timeout is {text[:40]!r}; {wanted}")
    return b"&".join(pair for pair in pairs if not pair.startswith(_TIMEOUT)), seconds


class _Waiting:
    """One request under way; the door ends it when it closes."""

    def __init__(self, context: Context, session: Session) -> None:
        self._context = context
        self._session = session
        self._answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def ask(self, message: Message, seconds: float, receive: Receive) -> Message:
        """Publish a message and return its answer. Raise GatewayError, or ClientGone."""
        context, replies = self._context, self._context.gateway.broker.replies
        if context.stopping:
            raise Refused("stopping", "the gateway is stopping; ask again in a moment")
        properties = message.properties
        address = replies.open(secrets.token_hex(TOKEN_BYTES), self._take)
        properties.reply_to = address
        if properties.correlation is None:  # there are clients that answer nothing without one
            properties.correlation = (properties.message_id or "").encode()
        context.lasting.add(self)
        gone = asyncio.ensure_future(_gone(receive))
        try:
            async with asyncio.timeout(seconds):
                await self._publish(message)
                await asyncio.wait((self._answer, gone), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise Refused("no-answer", f"nobody has answered within {seconds:g} s") from None
        finally:
            gone.cancel()
            replies.close(address)
            context.lasting.discard(self)
        if not self._answer.done():
            raise ClientGone
        return self._answer.result()

    async def _publish(self, message: Message) -> None:
        self._context.gateway.begin_turn()
        position = self._session.publish(message)
        if position == NO_SUBSCRIBERS:
            raise Refused("no-answer", f"nobody gets what is published to {message.topic!r}")
        if not await self._context.stored(position):
            raise not_stored()

    def _take(self, answer: Message) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)

    def stop(self) -> None:
        """The gateway stops."""
        if not self._answer.done():
            self._answer.set_exception(Refused("stopping", "the gateway is stopping; ask again in a moment"))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
