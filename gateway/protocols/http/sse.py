"""Server-sent events: one writer, and the two sources it can have.

A live subscription's events are numbered and kept for a moment (resume.py). A stream
queue's carry their offset, so that `Last-Event-ID` resumes exactly, also after a restart.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Protocol as Interface

import msgspec

from ...api import Consumer, Delivery, GatewayError, Selector, Session
from ...core.message import Outcome
from ...core.replay import start_offset
from ...core.stream import StreamQueue
from .answers import Receive, Send
from .context import Context
from .limits import HEARTBEAT_SECONDS, STREAM_WINDOW
from .problems import Refused
from .resume import Subscription, Subscriptions

RETRY_MS = 2000  # when EventSource connects again: soon, but not all at once with the first packet lost
HEARTBEAT = b":\n\n"
EPHEMERAL_PREFIX = "$reader-"  # groups of one reader; the broker does not write down their cursor

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # or nginx collects events before it passes them on
]


class Source(Interface):
    """Where a stream's events come from."""

    @property
    def session(self) -> Session:
        """For whom they are."""

    def start(self, wake: asyncio.Event) -> bytes:
        """Begin to set `wake` when there is something; return what goes first."""

    def take(self) -> bytes:
        """Return what is to be written next, empty if nothing."""

    def sent(self) -> None:
        """What `take` returned is written."""

    def over(self) -> bool:
        """Tell whether there is nothing more to come."""

    def end(self) -> None:
        """The client is gone. Called once."""


class EventStream:
    """One response under way."""

    def __init__(self, context: Context, source: Source) -> None:
        self._context = context
        self._source = source
        self._wake = asyncio.Event()
        self._gone = False

    def end(self, error: GatewayError) -> None:
        """What the client may do has changed: it may ask again."""
        self.stop()

    def stop(self) -> None:
        """The gateway stops."""
        self._gone = True
        self._wake.set()

    async def run(self, receive: Receive, send: Send) -> None:
        """Write events until the client leaves."""
        context, source = self._context, self._source
        context.lasting.add(self)
        watch = asyncio.create_task(self._watch(receive))
        try:
            context.gateway.begin_turn()
            source.session.owner = self
            first = source.start(self._wake)
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._write(send, b"retry: %d\n%b" % (RETRY_MS, first))
            while not self._gone and not source.over():
                data = source.take()
                await self._write(send, data or await self._idle())
                source.sent()
            await send({"type": "http.response.body", "body": b""})
        finally:
            context.lasting.discard(self)
            watch.cancel()
            context.gateway.begin_turn()
            source.end()

    async def _write(self, send: Send, data: bytes) -> None:
        if data:
            await send({"type": "http.response.body", "body": data, "more_body": True})

    async def _idle(self) -> bytes:
        """Wait for something to send; return what goes out anyhow."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return HEARTBEAT
        self._wake.clear()
        return b""

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.stop()


def gap(reason: str, missed: int | None) -> bytes:
    """Return the event that says that events are missing here."""
    return b"event: gap\ndata: %b\n\n" % msgspec.json.encode({"reason": reason, "missed": missed})


# -- live subscriptions -----------------------------------------------------------------------


class LiveSource:
    """The events of a live subscription, from where its client was."""

    def __init__(
        self, subscriptions: Subscriptions, subscription: Subscription, seen: int, lost: bool
    ) -> None:
        self._subscriptions = subscriptions
        self._subscription = subscription
        self._seen = seen
        self._lost = lost
        self._wake = asyncio.Event()

    @property
    def session(self) -> Session:
        """For whom they are."""
        return self._subscription.session

    def start(self, wake: asyncio.Event) -> bytes:
        self._wake = wake
        missed = self._subscription.attach(wake, self._seen)
        first = self._subscription.position()
        if self._lost:
            return first + gap(
                "the subscription is gone: its client was away too long, or the gateway restarted", None
            )
        if missed:
            return first + gap(
                "more came than is kept for a client that is away", missed if missed > 0 else None
            )
        return first

    def take(self) -> bytes:
        return self._subscription.take() if not self.over() else b""

    def sent(self) -> None:
        self._subscription.sent()

    def over(self) -> bool:
        return not self._subscription.attached(self._wake)

    def end(self) -> None:
        if not self.over():  # else the client is back already, on another connection
            self._subscriptions.leave(self._subscription)


def open_live(
    subscriptions: Subscriptions,
    session: Session,
    filters: tuple[str, ...],
    retained: bool,
    last_id: str,
    selector: Selector | None,
) -> LiveSource:
    """Subscribe, or resume. Raise InvalidTopic or NotAuthorized."""
    token, _, number = last_id.rpartition("-")
    if token and number.isascii() and number.isdigit() and len(number) < 20:
        found = subscriptions.find(token, session.principal.name, filters, selector)
        if found is not None:
            session.close()
            return LiveSource(subscriptions, found, int(number), False)
    opened = subscriptions.open(session, filters, retained, selector)
    return LiveSource(subscriptions, opened, 0, bool(last_id))


# -- stream queues ----------------------------------------------------------------------------


class StreamSource:
    """A group's view of a stream queue; an event is settled when it is written."""

    def __init__(
        self,
        context: Context,
        session: Session,
        queue: StreamQueue,
        group: str,
        start: int | None,
        selector: Selector | None,
    ) -> None:
        self._context = context
        self._session = session
        self._queue = queue
        self._ephemeral = not group
        self._group = group or EPHEMERAL_PREFIX + secrets.token_hex(8)
        self._start = start
        self._selector = selector
        self._consumer: Consumer | None = None
        self._waiting: list[Delivery] = []
        self._written: list[Delivery] = []
        self._wake = asyncio.Event()

    @property
    def session(self) -> Session:
        """For whom they are."""
        return self._session

    def start(self, wake: asyncio.Event) -> bytes:
        self._wake = wake
        first = b""
        if self._start is not None:
            if self._start < self._queue.first_offset:
                missed = self._queue.first_offset - self._start
                first = gap("retention has removed events since", missed)
            self._context.gateway.broker.queues.seek(self._queue, self._group, self._start)
        self._consumer = self._session.consume(
            self._queue.name, self._deliver, STREAM_WINDOW, self._group, 0, self._selector
        )
        return first + b"\n"

    def _deliver(self, batch: list[Delivery]) -> None:
        self._waiting += batch
        self._wake.set()

    def take(self) -> bytes:
        self._written, self._waiting = self._waiting, []
        return b"".join(self._event(delivery) for delivery in self._written)

    def _event(self, delivery: Delivery) -> bytes:
        data = self._context.encoder.encode(delivery.message, False)
        return b"id: %d\nevent: message\ndata: %b\n\n" % (delivery.offset, data)

    def sent(self) -> None:
        if self._written:
            self._context.gateway.begin_turn()
            for delivery in self._written:
                self._session.settle(delivery, Outcome.ACK)
            self._written = []

    def over(self) -> bool:
        return self._consumer is not None and not self._consumer.attached  # the queue was deleted

    def end(self) -> None:
        self._session.close()
        if self._ephemeral:
            self._queue.remove_group(self._group)


def open_stream(
    context: Context,
    session: Session,
    name: str,
    group: str,
    offset: str | None,
    last_id: str,
    selector: Selector | None,
) -> StreamSource:
    """Read a stream from `Last-Event-ID`, else from `offset`, else from the group's position.

    Raise NotFound, NotAuthorized, Conflict or Refused.
    """
    session.check_consume(name, group)
    queue = context.gateway.broker.catalog.get(name)
    if not isinstance(queue, StreamQueue):
        raise Refused(
            "conflict", f"queue {name!r} is {queue.kind}; receive from it, or subscribe over the WebSocket"
        )
    if group.startswith("$"):
        raise Refused("invalid-parameter", "group: names that begin with $ are the gateway's own")
    start, clock = None, context.gateway.clock
    if last_id:
        start = start_offset(queue, clock, last_id, "Last-Event-ID") + 1
        if group and any(g.name == group and g.consumers for g in queue.groups()):
            start = None  # others read in this group: moving its position would disturb them
    elif offset is not None:
        start = start_offset(queue, clock, offset, "offset")
    context.gateway.broker.queues.check_selector(queue, group, selector, start is not None)
    return StreamSource(context, session, queue, group, start, selector)
