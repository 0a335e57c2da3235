"""Publishing many at once: NDJSON, one message a line.

A batch is parsed and published in pieces, with the loop's other work between them, and
answered once, when everything is on disk. A line that cannot be published does not hold up
the others: the answer names it. With `?atomic=true` it does: all of them are published, or none.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from ...api import GatewayError, Session
from ...core import cloudevents
from ...core.message import Message
from ...core.router import Route
from .answers import Receive, Scope, Send, send_json
from .context import Context, decode_segment, not_stored
from .convert import JsonMessage, to_message
from .headers import read_head
from .limits import ATOMIC_LINES_MAX, BATCH_CHUNK_BYTES, BATCH_LINES_MAX, REJECTED_SHOWN_MAX
from .problems import Problem, Refused, problem_of
from .publish import BATCH_SUFFIX, TOPICS_PATH, may_repeat, read_body

_decoder = msgspec.json.Decoder(JsonMessage)
_events = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Batch:
    """One batch under way."""

    __slots__ = (
        "accepted",
        "context",
        "duplicates",
        "duplicates_count",
        "line",
        "position",
        "refused",
        "rejected",
        "rejected_count",
        "session",
        "topic",
    )

    def __init__(self, context: Context, session: Session, topic: str) -> None:
        self.context = context
        self.session = session
        self.topic = topic
        self.line = 0  # number of the current line; the first is 1
        self.accepted = 0
        self.rejected: list[dict[str, Any]] = []
        self.rejected_count = 0
        self.position = 0  # to wait for, of the current piece
        self.duplicates: list[int] = []  # their lines
        self.duplicates_count = 0
        self.refused: set[int] = set()  # lines of the current piece that were not accepted

    def publish(self, piece: bytes) -> None:
        """Publish the lines of a piece."""
        try:
            lines = _decoder.decode_lines(piece)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self._publish_one_by_one(piece)
            return
        if len(lines) != piece.count(b"\n") + (not piece.endswith(b"\n")):
            self._publish_one_by_one(piece)  # there are empty lines, and lines are counted as editors do
            return
        for line in lines:
            self.line += 1
            try:
                self._publish_line(line)
            except GatewayError as error:
                self.reject(self.line, problem_of(error))

    def _publish_one_by_one(self, piece: bytes) -> None:
        for text in piece.removesuffix(b"\n").split(b"\n"):
            self.line += 1
            if not text.strip():
                continue
            try:
                self._publish_line(_decoder.decode(text))
            except GatewayError as error:
                self.reject(self.line, problem_of(error))
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                self.reject(self.line, Problem("malformed", f"{error}; one JSON object a line is expected"))

    def _publish_line(self, line: JsonMessage) -> None:
        context, session = self.context, self.session
        message_id = line.message_id
        if message_id is None:
            message_id = context.new_id()
        message = to_message(line, self.topic, message_id, session.origin, context.gateway.clock)
        if may_repeat(session, message):
            position, duplicate, _ = session.publish_once(message)
            self._note(duplicate)
        else:
            position = session.publish(message)
        if position > self.position:
            self.position = position
        self.accepted += 1

    def _note(self, duplicate: bool) -> None:
        self.duplicates_count += duplicate
        if duplicate and len(self.duplicates) < REJECTED_SHOWN_MAX:
            self.duplicates.append(self.line)

    def reject(self, line: int, problem: Problem) -> None:
        """Note a line that was not accepted."""
        self.refused.add(line)
        self.rejected_count += 1
        if len(self.rejected) < REJECTED_SHOWN_MAX:
            self.rejected.append({"line": line, "problem": problem.to_mapping()})

    def take_back(self, lines: list[int]) -> None:
        """A piece could not be written: its lines were accepted too early."""
        self.accepted -= len(lines)
        problem = problem_of(not_stored())
        for line in lines:
            self.reject(line, problem)


class _Piece:
    """What was accepted of one piece, until it is on disk."""

    __slots__ = ("lines", "position", "refused")

    def __init__(self, batch: _Batch, lines: range) -> None:
        self.position = batch.position
        self.lines = lines
        self.refused = batch.refused

    def accepted(self) -> list[int]:
        """Return the numbers of the lines that were accepted."""
        return [line for line in self.lines if line not in self.refused]


async def publish_batch(context: Context, scope: Scope, receive: Receive, send: Send) -> None:
    """Publish the lines of the body. Raise GatewayError if none can be."""
    raw: bytes = scope["raw_path"]
    topic = decode_segment(raw[len(TOPICS_PATH) : -len(BATCH_SUFFIX)].decode("ascii"))
    await publish_batch_to(topic, context, scope, receive, send)


async def publish_batch_to(topic: str, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
    """Publish the lines of the body, by default to `topic`."""
    head = read_head(scope["headers"])
    if head.properties.idempotency_key is not None:
        raise Refused("malformed", "a batch has no Idempotency-Key; give each line its own idempotency_key")
    atomic = _is_atomic(scope["query_string"])
    body = await read_body(receive, head.length, context.limits.body_bytes_max)
    if cloudevents.is_batch(head.properties.content_type):
        body = _lines_of(body)
    lines_max = ATOMIC_LINES_MAX if atomic else BATCH_LINES_MAX
    if body.count(b"\n") > lines_max:
        raise Refused("too-large", f"such a batch has at most {lines_max} lines; send it in parts")
    lent = await context.sessions.of(scope)
    session = lent.take()
    try:
        batch = _Batch(context, session, topic)
        if atomic:
            await _publish_together(batch, body)
        else:
            await _publish_pieces(batch, body)
    finally:
        lent.give_back()
    await _answer(batch, send)


def _lines_of(events: bytes) -> bytes:
    """Return a batch of CloudEvents as lines: each is a body as it is, in structured mode."""
    try:
        found = _events(events)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("malformed", f"{error}; a JSON array of CloudEvents is expected") from error
    kind = cloudevents.STRUCTURED
    return b"\n".join(
        msgspec.json.encode({"body": str(bytes(event), "utf-8", "replace"), "content_type": kind})
        for event in found
    )


def _is_atomic(query: bytes) -> bool:
    if query not in (b"", b"atomic=true", b"atomic=false"):
        raise Refused(
            "invalid-parameter", "a batch has one parameter, atomic=true; each line has its own fields"
        )
    return query == b"atomic=true"


async def _publish_together(batch: _Batch, body: bytes) -> None:
    """Publish all lines in one transaction. Raise the first one's GatewayError, having published none."""
    context, session = batch.context, batch.session
    context.gateway.begin_turn()
    publishes: list[tuple[Message, Route | None]] = []
    for number, text in enumerate(body.removesuffix(b"\n").split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            publishes.append((_atomic_message(batch, text), None))
        except GatewayError as error:
            problem = problem_of(error)
            detail = f"nothing was published; line {number}: {problem.detail}"
            raise Refused(problem.kind, detail, **problem.extra) from error
    results = session.transact(publishes, [], at_once=True)
    if not await context.stored(max(results, default=0)):
        raise not_stored()
    batch.accepted = len(publishes)


def _atomic_message(batch: _Batch, text: bytes) -> Message:
    context, session = batch.context, batch.session
    try:
        line = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("malformed", f"{error}; one JSON object a line is expected") from error
    clock, message_id = context.gateway.clock, line.message_id or context.new_id()
    message = to_message(line, batch.topic, message_id, session.origin, clock)
    session.check_publish(message.topic)  # now: it is this line's fault
    return message


async def _publish_pieces(batch: _Batch, body: bytes) -> None:
    pieces: list[_Piece] = []
    start = 0
    while start < len(body):
        end = len(body)
        if end - start > BATCH_CHUNK_BYTES:
            end = body.find(b"\n", start + BATCH_CHUNK_BYTES) + 1 or len(body)
        if start:
            await asyncio.sleep(0)  # the turn ends here, and others have theirs
        batch.context.gateway.begin_turn()
        batch.position, batch.refused = 0, set()
        first = batch.line + 1
        batch.publish(body[start:end])
        if batch.position > 0:
            pieces.append(_Piece(batch, range(first, batch.line + 1)))
        start = end
    for piece in pieces:
        if not await batch.context.stored(piece.position):
            batch.take_back(piece.accepted())


async def _answer(batch: _Batch, send: Send) -> None:
    if not batch.accepted and batch.rejected:
        first = batch.rejected[0]["problem"]
        kind = "nothing-accepted"
        if all(r["problem"]["status"] == first["status"] for r in batch.rejected) and first["status"] != 400:
            kind = first["type"].rpartition("#")[2]
        detail = f"line {batch.rejected[0]['line']}: {first['detail']}"
        raise Refused(kind, detail, rejected=batch.rejected, rejected_count=batch.rejected_count)
    found: dict[str, Any] = {"accepted": batch.accepted, "rejected": batch.rejected}
    if batch.duplicates_count:
        found["duplicates"], found["duplicates_count"] = batch.duplicates, batch.duplicates_count
    if batch.rejected_count > len(batch.rejected):
        found["rejected_count"] = batch.rejected_count
    await send_json(send, msgspec.json.encode(found))
