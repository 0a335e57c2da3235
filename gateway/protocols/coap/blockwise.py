"""Block-wise transfers (RFC 7959), both ways, around the resources: these see whole payloads only.

A request's body that comes in blocks is put together before the resource is asked (Block1); an answer
that does not fit one message is cut, and the rest is kept for its client so that all blocks are of
one representation (Block2). What has no block options and fits passes with a look at two numbers.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Final

from gateway.core.scheduler import Scheduler, Timer

from .codec import Option, Options, encode_options, read_options
from .exchange import Handler, Link, Request, Response
from .numbers import (
    BAD_REQUEST,
    BLOCK1,
    BLOCK2,
    CONTINUE,
    ETAG,
    FETCH,
    GET,
    OBSERVE,
    PUT,
    REQUEST_ENTITY_INCOMPLETE,
    REQUEST_ENTITY_TOO_LARGE,
    SIZE1,
    SIZE2,
    uint_bytes,
)
from .transfers import (
    LINK_ENTRIES_MAX,
    OVERHEAD_BYTES,
    Download,
    Key,
    Store,
    Upload,
    download_key,
    upload_key,
)

#: How long a transfer may rest: EXCHANGE_LIFETIME (RFC 7252, 4.8.2), after which no answer comes any more.
LIFETIME_SECONDS: Final = 247.0
#: Of all unfinished uploads, and of all representations being fetched: each more than a thousand clients
#: with 64 KB, and what a small machine can spare. A body that is allowed fits in any case.
BYTES_MAX: Final = 64 << 20
HASH_BYTES: Final = 6  # of an ETag made here: 8 letters, as long as there may be (see representation)
SZX_MAX: Final = 6  # 1024 bytes
SZX_BERT: Final = 7  # any number of KiB in a message, over reliable transports (RFC 8323, 6)
NUMBER_MAX: Final = (1 << 20) - 1
MORE: Final = 8
BERT_UNIT: Final = 1024
NOT_RELIABLE: Final = "blocks with size exponent 7 are for reliable transports, and who has announced them"

Respond = Callable[[Response], None]


def block(number: int, more: bool, szx: int) -> bytes:
    """Return the value of a Block option (RFC 7959, 2.2)."""
    return uint_bytes(number << 4 | (MORE if more else 0) | szx)


def unit(szx: int) -> int:
    """Return what a block's number counts: its size in bytes; with BERT 1024."""
    return BERT_UNIT if szx == SZX_BERT else 16 << szx


def link_szx(link: Link) -> int:
    """Return the exponent of the largest blocks a link takes."""
    if link.bert:
        return SZX_BERT
    return max(0, min(link.size_max.bit_length() - 5, SZX_MAX))


def fault(code: int, text: str, *options: Option) -> Response:
    """Return an error with its diagnostic payload (RFC 7252, 5.5.2)."""
    return Response(code, text.encode(), options)


class Blockwise:
    """A Handler around another, which gets requests with their whole payload."""

    __slots__ = ("_bytes_max", "_inner", "_lifetime_ms", "_scheduler", "_timer", "downloads", "uploads")

    def __init__(
        self,
        inner: Handler,
        scheduler: Scheduler,
        body_bytes_max: int,
        lifetime_seconds: float = LIFETIME_SECONDS,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        """`body_bytes_max` is of one request; `bytes_max` of all transfers of one direction together."""
        self._inner = inner
        self._scheduler = scheduler
        self._bytes_max = body_bytes_max
        self._lifetime_ms = int(lifetime_seconds * 1000)
        self._timer: Timer | None = None
        total = max(bytes_max, body_bytes_max)
        total += LINK_ENTRIES_MAX * OVERHEAD_BYTES
        of_link = body_bytes_max + LINK_ENTRIES_MAX * OVERHEAD_BYTES
        self.uploads: Store[Upload] = Store(self._lifetime_ms, total, of_link)
        self.downloads: Store[Download] = Store(self._lifetime_ms, total, of_link)

    def handle(self, request: Request) -> None:
        """Take a request, or one block of it."""
        options = request.options
        if options.block1 >= 0:
            self._take_block(request)
        elif len(request.payload) > self._bytes_max:
            request.respond(self._too_large(()))
        elif options.block2 >= 0:
            self._give_block(request)
        elif request.code == PUT and not options.query:
            self._inner.handle(request)  # has no answer to be cut: what a publish asks for is in its query
        else:
            request.respond = partial(self._answer, request, request.respond)
            self._inner.handle(request)

    def reset(self, link: Link, token: bytes) -> None:
        """The client refused a notification."""
        self._inner.reset(link, token)

    def gone(self, link: Link) -> None:
        """A link is closed: nobody will go on with its transfers."""
        self.uploads.forget(link)
        self.downloads.forget(link)
        self._inner.gone(link)

    # -- Block1: a body that comes in blocks ----------------------------------------------------

    def _take_block(self, request: Request) -> None:
        """Take a block of a body; the last one brings the request before the resource (RFC 7959, 2.5)."""
        options, link = request.options, request.link
        number, szx = options.block1 >> 4, options.block1 & 7
        more = bool(options.block1 & MORE)
        wrong = _wrong_block(request, szx, more)
        if wrong:
            request.respond(fault(BAD_REQUEST, wrong))
            return
        # A block that came is taken, whatever its size; a smaller size is for those that follow.
        echo = (BLOCK1, block(number, more, min(szx, link_szx(link))))
        body = self._join(request, number * unit(szx), more, echo)
        if body is None:
            return
        request.payload = body
        request.respond = partial(self._answer_last, request, request.respond, echo)
        self._inner.handle(request)

    def _join(self, request: Request, start: int, more: bool, echo: Option) -> bytes | None:
        """Put a block where it belongs. Return the whole body; None if that is not complete, or refused."""
        options, link, payload = request.options, request.link, request.payload
        key = upload_key(request.code, options)
        now_ms = self._scheduler.now_ms
        upload = self.uploads.find(link, key, now_ms)
        end = start + len(payload)
        if end > self._bytes_max or (start == 0 and options.size1 > self._bytes_max):
            if upload is not None:
                self.uploads.drop(upload)
            request.respond(self._too_large((echo,)))
            return None
        if start == 0:
            if upload is not None:
                self.uploads.drop(upload)
            if not more:
                return payload
            upload = Upload(link, key, options.content_format)
            self.uploads.add(upload, 0, now_ms)
            self._expect_end()
        if upload is None or start > len(upload.body):
            have = 0 if upload is None else len(upload.body)
            text = f"Block1: the block begins at {start}, of what is before it there are {have} bytes"
            request.respond(fault(REQUEST_ENTITY_INCOMPLETE, text, echo))
            return None
        if upload.content_format != options.content_format:
            self.uploads.drop(upload)
            text = "Content-Format: is not that of the blocks before"
            request.respond(fault(REQUEST_ENTITY_INCOMPLETE, text, echo))
            return None
        return self._append(request, upload, start, more, echo)

    def _append(self, request: Request, upload: Upload, start: int, more: bool, echo: Option) -> bytes | None:
        have, payload = len(upload.body), request.payload
        if start == have:
            if not more:
                self.uploads.drop(upload)
                upload.body += payload
                return bytes(upload.body)
            upload.body += payload
            self.uploads.grow(upload, len(payload))
        elif not more or start + len(payload) > have:
            self.uploads.drop(upload)
            text = f"Block1: the block begins at {start}, but {have} bytes are there: blocks of another body?"
            request.respond(fault(REQUEST_ENTITY_INCOMPLETE, text, echo))
            return None
        request.respond(Response(CONTINUE, b"", (echo,)))  # also for what was there before
        return None

    def _too_large(self, echo: tuple[Option, ...]) -> Response:
        text = f"the body is too large; {self._bytes_max} bytes are allowed"
        return fault(REQUEST_ENTITY_TOO_LARGE, text, *echo, (SIZE1, uint_bytes(self._bytes_max)))

    def _answer_last(self, request: Request, respond: Respond, echo: Option, response: Response) -> None:
        """Answer the last block, possibly in blocks, too (RFC 7959, 3.3)."""
        cut = self.cut(request.link, request.code, request.options, response)
        respond(Response(cut.code, cut.payload, (*cut.options, echo)))

    # -- Block2: an answer that goes in blocks --------------------------------------------------

    def _answer(self, request: Request, respond: Respond, response: Response) -> None:
        """Answer as the resource does, if that fits."""
        if len(response.payload) > request.link.size_max or request.options.block2 >= 0:
            response = self.cut(request.link, request.code, request.options, response)
        respond(response)

    def cut(self, link: Link, code: int, options: Options, response: Response) -> Response:
        """Return the first block of a response, or of a notification, and keep the rest to be fetched.

        `code` and `options` are those of the request, or of the one that began the observation: the client
        repeats them, without Observe, to get further blocks (RFC 7959, 2.6). What fits stays as it is.
        """
        payload = response.payload
        asked = options.block2
        if response.code >> 5 != 2:
            return _short(link, response)
        szx = link_szx(link)
        if asked >= 0:
            szx = min(szx, asked & 7)
        elif len(payload) <= link.size_max:
            return response
        if len(payload) <= _block_bytes(link, szx):
            more = (BLOCK2, block(0, False, szx))
            return Response(response.code, payload, (*response.options, more, *_size2(options, payload)))
        kept = self._keep(link, download_key(code, options), response)
        observe = [option for option in response.options if option[0] == OBSERVE]
        piece = _piece(kept, link, 0, szx, options)
        if observe:
            piece.options = (*observe, *piece.options)
        return piece

    def _keep(self, link: Link, key: Key, response: Response) -> Download:
        """Keep a response for who fetches its blocks; it gets an ETag, if it has none, to know it by."""
        payload = response.payload
        options = tuple(option for option in response.options if option[0] != OBSERVE)
        if not any(number == ETAG for number, _ in options):
            options = (*options, (ETAG, urlsafe_b64encode(blake2b(payload, digest_size=HASH_BYTES).digest())))
        kept = Download(link, key, response.code, options, payload)
        self.downloads.add(kept, len(payload), self._scheduler.now_ms)
        self._expect_end()
        return kept

    def _give_block(self, request: Request) -> None:
        """Answer a request for a block by its number, or for the first one in a certain size."""
        options, link = request.options, request.link
        if options.block2 & 7 == SZX_BERT and not link.bert:
            request.respond(fault(BAD_REQUEST, NOT_RELIABLE))
            return
        if options.block2 >> 4 == 0:
            request.respond = partial(self._answer, request, request.respond)
            self._inner.handle(request)
            return
        kept = self.downloads.find(link, download_key(request.code, options), self._scheduler.now_ms)
        if kept is not None:
            request.respond(_later_piece(kept, request))
        elif request.code == GET or (request.code == FETCH and request.payload):
            # Only what may be asked twice. Its client sees by the ETag whether it is still the same.
            if options.observe >= 0:
                request.options = _without_observe(options)
            request.respond = partial(self._answer_again, request, request.respond)
            self._inner.handle(request)
        else:
            text = "Block2: the answer is not there any more; repeat the request"
            request.respond(fault(REQUEST_ENTITY_INCOMPLETE, text))

    def _answer_again(self, request: Request, respond: Respond, response: Response) -> None:
        """Answer a request for a later block of what the resource has just given anew."""
        if response.code >> 5 != 2 or not response.payload:
            respond(_short(request.link, response))
            return
        key = download_key(request.code, request.options)
        respond(_later_piece(self._keep(request.link, key, response), request))

    # -- what nobody comes for ------------------------------------------------------------------

    def _expect_end(self) -> None:
        if self._timer is None:
            self._timer = self._scheduler.after(self._lifetime_ms, self._expire)

    def _expire(self) -> None:
        now_ms = self._scheduler.now_ms
        self._timer = None
        self.uploads.expire(now_ms)
        self.downloads.expire(now_ms)
        if len(self.uploads) or len(self.downloads):
            self._expect_end()

    def close(self) -> None:
        """The door closes: no timer is left."""
        self._scheduler.cancel(self._timer)
        self._timer = None


def _wrong_block(request: Request, szx: int, more: bool) -> str:
    """Return what is wrong with a block itself (RFC 7959, 2.2; RFC 8323, 6), "" if nothing is."""
    size, block2 = len(request.payload), request.options.block2
    if not request.link.bert and (szx == SZX_BERT or (block2 >= 0 and block2 & 7 == SZX_BERT)):
        return NOT_RELIABLE
    if block2 >> 4 > 0:
        return "Block2: the answer has no blocks before its request is whole"
    if szx == SZX_BERT:
        if more and (size == 0 or size % BERT_UNIT):
            return f"Block1: {size} bytes, but all blocks except the last are whole KiB"
    elif more and size != 16 << szx:
        return f"Block1: {size} bytes, but all blocks except the last have {16 << szx}"
    elif size > 16 << szx:
        return f"Block1: {size} bytes, but a block has at most {16 << szx}"
    return ""


def _block_bytes(link: Link, szx: int) -> int:
    """Return how many bytes a message with a block of this exponent may have."""
    if szx == SZX_BERT:
        return max(link.size_max // BERT_UNIT, 1) * BERT_UNIT
    return 16 << szx


def _later_piece(kept: Download, request: Request) -> Response:
    options, link = request.options, request.link
    szx = min(options.block2 & 7, link_szx(link))
    start = (options.block2 >> 4) * unit(options.block2 & 7)
    if start >= len(kept.payload):
        return fault(BAD_REQUEST, f"Block2: the block begins at {start}; there are {len(kept.payload)} bytes")
    return _piece(kept, link, start, szx, options)


def _piece(kept: Download, link: Link, start: int, szx: int, options: Options) -> Response:
    """Return the block that begins at `start`, which is a multiple of the unit of `szx`."""
    size = _block_bytes(link, szx)
    number = start // unit(szx)
    if number > NUMBER_MAX:
        return fault(BAD_REQUEST, "Block2: blocks this small cannot be numbered so far; ask for larger ones")
    more = start + size < len(kept.payload)
    piece = kept.payload[start : start + size]
    found = (*kept.options, (BLOCK2, block(number, more, szx)), *_size2(options, kept.payload))
    return Response(kept.code, piece, found)


def _size2(options: Options, payload: bytes) -> tuple[Option, ...]:
    """Return the option that says how large a representation is, to who has asked (RFC 7959, 4)."""
    return ((SIZE2, uint_bytes(len(payload))),) if options.size2 >= 0 else ()


def _short(link: Link, response: Response) -> Response:
    """Return an error with no more diagnostic text than fits: it is for people, and has no blocks."""
    if len(response.payload) <= link.size_max:
        return response
    text = response.payload[: link.size_max].decode(errors="ignore").encode()
    return Response(response.code, text, response.options)


def _without_observe(options: Options) -> Options:
    return read_options(encode_options([option for option in options.all if option[0] != OBSERVE]))
