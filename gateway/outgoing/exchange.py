"""One connection to an endpoint: HTTP/1.1, a request at a time, as often as the endpoint lets it be used.

Our own because of what a request costs the event loop, which everybody shares: 15 us here, 90 us with
aiohttp, 1.6 ms with httpx (20 ms with a hundred requests in flight). And all that a webhook needs of HTTP
is a status, one header and the beginning of a body; nothing is followed, unpacked, or kept.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple, cast

import httptools

ANSWER_BYTES_MAX: Final = 64 << 10  # head and body; nobody reads more than the beginning
EXCERPT_BYTES: Final = 4096  # what an endpoint says is wrong stands at the beginning; a state is short


class Answer(NamedTuple):
    """What an endpoint said."""

    status: int
    retry_after: str = ""
    excerpt: bytes = b""  # the beginning of the body
    complete: bool = True  # that is all of it


class PushFailed(Exception):
    """There is no answer; the text says why. `stale`: the connection was over before it was used again."""

    def __init__(self, reason: str, stale: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stale = stale


class Exchange(asyncio.Protocol):
    """A connection. `usable` tells whether it can take another request."""

    def __init__(self) -> None:
        self.usable = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._used = False  # by a request before this one
        self._reset()

    def _reset(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._received = 0
        self._status = 0
        self._final = False  # the head of the answer is complete
        self._stays = False
        self._sized = False  # the head says where the body ends
        self._cut = False  # there was more of it than is kept
        self._retry_after = ""
        self._excerpt = b""

    # -- asked by the client --------------------------------------------------------------------

    async def post(self, head: bytes, body: bytes, deadline: float) -> Answer:
        """Send a request and return the answer. Raise PushFailed, or TimeoutError before there is a status.

        `deadline` is by the event loop's clock.
        """
        assert self._transport is not None
        assert self._answer is None, "one at a time"
        if self._transport.is_closing():
            raise PushFailed("the endpoint has closed the connection", stale=True)
        self._reset()
        self.usable = False
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(head + body if len(body) < 65_536 else head)
        if len(body) >= 65_536:
            self._transport.write(body)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._answer
        except TimeoutError:
            if not self._final:
                raise
            return self._made(False)  # the status counts: a body that does not end changes nothing of it
        finally:
            self._answer = None
            self._used = True
            if not self.usable:
                self.close()

    def close(self) -> None:
        """Close at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # -- called by the event loop ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is like one, but none

    def data_received(self, data: bytes) -> None:
        """Parse; what nobody asked for ends the connection."""
        if self._answer is None or self._answer.done():
            self.close()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("the endpoint wants another protocol")
        except httptools.HttpParserError as error:
            self._fail(f"the answer is not HTTP: {error}")
        if self._received > ANSWER_BYTES_MAX:
            self._end(f"the head of the answer has more than {ANSWER_BYTES_MAX} bytes")

    def connection_lost(self, error: Exception | None) -> None:
        """It is over, which may be how the body ends."""
        self.usable = False
        if self._answer is not None and not self._answer.done():
            stale = self._used and not self._received
            if self._final:
                self._answer.set_result(self._made(error is None and not self._sized))
            else:
                reason = f": {error}" if error is not None else " without an answer"
                self._answer.set_exception(PushFailed(f"the connection was closed{reason}", stale))

    # -- called by the parser -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """See that there is one answer to one request."""
        if self._answer is None or self._answer.done():
            self.usable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the one that matters."""
        name = name.lower()
        if name == b"retry-after":
            self._retry_after = value.decode("latin-1").strip()
        elif name in (b"content-length", b"transfer-encoding"):
            self._sized = True

    def on_headers_complete(self) -> None:
        """There is a status; 1xx is not the last (RFC 9110, 15.2)."""
        self._status = self._parser.get_status_code()
        self._final = self._status >= 200
        self._stays = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Keep the beginning."""
        room = EXCERPT_BYTES - len(self._excerpt)
        self._excerpt += data[:room]
        self._cut = self._cut or len(data) > room

    def on_message_complete(self) -> None:
        """The answer is here."""
        if self._final and self._answer is not None and not self._answer.done():
            self.usable = self._stays
            self._answer.set_result(self._made(True))

    def _made(self, ended: bool) -> Answer:
        return Answer(self._status, self._retry_after, self._excerpt, ended and not self._cut)

    def _end(self, reason: str) -> None:
        """Have enough of an answer."""
        if self._final and self._answer is not None and not self._answer.done():
            self._answer.set_result(self._made(False))
            self.usable = False
        else:
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(PushFailed(reason))
        self.usable = False
