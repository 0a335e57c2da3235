"""Live subscriptions that outlast a broken connection.

A subscription keeps what it sent last, and goes on keeping for a while when its client is
gone. A client that comes back with the id of the last event it saw gets what it missed; if
that is no longer here it is told so, by an event `gap`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque

from ...api import Selector, Session
from ...core.receiver import Item
from ...core.scheduler import Timer
from .context import Context
from .limits import (
    EVENT_CHUNK_BYTES,
    LINGER_MS,
    LINGERING_MAX,
    REPLAY_BYTES_MAX,
    REPLAY_BYTES_MIN,
    REPLAY_BYTES_TOTAL_MAX,
    REPLAY_EVENTS_MAX,
)


class Share:
    """What each subscription may keep, so that all together stay below their limit."""

    __slots__ = ("bytes_max",)

    def __init__(self) -> None:
        self.bytes_max = REPLAY_BYTES_MAX

    def among(self, count: int) -> None:
        """Share out."""
        self.bytes_max = min(max(REPLAY_BYTES_MIN, REPLAY_BYTES_TOTAL_MAX // max(1, count)), REPLAY_BYTES_MAX)


class Subscription:
    """Filters, and the events they brought: numbered from 1, the latest ones kept."""

    def __init__(
        self,
        context: Context,
        session: Session,
        filters: tuple[str, ...],
        share: Share,
        selector: Selector | None,
    ) -> None:
        self.token = secrets.token_urlsafe(12)  # who knows it and is the same principal may resume
        self.filters = filters
        self.selector = selector
        self.session = session
        self.timer: Timer | None = None
        self._share = share
        self._context = context
        self._receiver = session.receive(self._on_messages, context.limits.receiver_messages_max)
        self._kept: deque[tuple[int, bytes]] = deque()  # (number, event)
        self._bytes = 0
        self._latest = 0
        self._sent = 0  # number of the latest event written to the client
        self._wake: asyncio.Event | None = None  # of the stream that sends; None while the client is away

    def subscribe(self, retained: bool) -> None:
        """Subscribe to the filters. Raise InvalidTopic or NotAuthorized."""
        session = self.session
        seen: set[str] = set()
        for topic_filter in self.filters:
            binding, _ = session.subscribe(topic_filter, selector=self.selector)
            if retained:
                messages = [m for m in session.retained(topic_filter) if m.topic not in seen]
                seen.update(message.topic for message in messages)
                session.send_retained(messages, binding)

    def _on_messages(self, batch: list[Item]) -> None:
        encoder = self._context.encoder
        prefix = f"id: {self.token}-"
        for message, binding in batch:
            self._latest += 1
            head = f"{prefix}{self._latest}\nevent: message\ndata: ".encode()
            event = b"%b%b\n\n" % (head, encoder.encode(message, binding.retained))
            self._kept.append((self._latest, event))
            self._bytes += len(event)
        if self._wake is None:
            self._trim(self._latest)
        else:
            self._receiver.congested = True  # until these are sent: what comes meanwhile waits in the inbox
            self._wake.set()

    def _trim(self, number: int) -> None:
        """Forget what is over the limits, up to an event number."""
        kept, bytes_max = self._kept, self._share.bytes_max
        while kept and kept[0][0] <= number and (len(kept) > REPLAY_EVENTS_MAX or self._bytes > bytes_max):
            self._bytes -= len(kept.popleft()[1])

    # -- the client's comings and goings ------------------------------------------------------

    def attach(self, wake: asyncio.Event, seen: int) -> int:
        """Send to this stream, from the event after `seen`; return how many events are lost (-1: unknown)."""
        if self._wake is not None:
            self._wake.set()  # the stream before this one finds that it is no longer meant
        self._wake = wake
        first = self._kept[0][0] if self._kept else self._latest + 1
        if seen > self._latest:
            self._sent = first - 1
            return -1
        self._sent = max(seen, first - 1)
        return self._sent - seen

    def attached(self, wake: asyncio.Event) -> bool:
        """Tell whether this stream is the one that sends."""
        return self._wake is wake

    def detach(self) -> None:
        """The client is gone: keep what comes."""
        self._wake = None
        self._trim(self._latest)
        if self._receiver.congested:
            self._context.gateway.begin_turn()
            self._context.gateway.broker.relieve(self._receiver)

    # -- what the stream sends ----------------------------------------------------------------

    def position(self) -> bytes:
        """Return an event that says nothing but where the client is."""
        return f"id: {self.token}-{self._sent}\n\n".encode()

    def take(self) -> bytes:
        """Return what is to be written next, empty if nothing."""
        if self._sent == self._latest:
            if self._receiver.congested:
                self._context.gateway.begin_turn()
                self._context.gateway.broker.relieve(self._receiver)
            return b""
        parts: list[bytes] = []
        size = 0
        index = self._sent + 1 - self._kept[0][0]  # numbers are consecutive
        while index < len(self._kept) and size < EVENT_CHUNK_BYTES:
            number, event = self._kept[index]
            parts.append(event)
            size += len(event)
            self._sent = number
            index += 1
        return b"".join(parts)

    def sent(self) -> None:
        """What `take` returned is written."""
        self._trim(self._sent)


class Subscriptions:
    """All subscriptions of the door, by token."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, Subscription] = {}
        self._share = Share()
        self._lingering: dict[str, Subscription] = {}  # without a client, longest first

    def __len__(self) -> int:
        return len(self._known)

    def open(
        self, session: Session, filters: tuple[str, ...], retained: bool, selector: Selector | None = None
    ) -> Subscription:
        """Make a subscription. Raise InvalidTopic or NotAuthorized; the session is then closed."""
        subscription = Subscription(self._context, session, filters, self._share, selector)
        try:
            subscription.subscribe(retained)
        except BaseException:
            session.close()
            raise
        self._known[subscription.token] = subscription
        self._share.among(len(self._known))
        return subscription

    def find(
        self, token: str, principal: str, filters: tuple[str, ...], selector: Selector | None
    ) -> Subscription | None:
        """Return a subscription to resume, if it is here and the caller's."""
        found = self._known.get(token)
        if (
            found is None
            or found.session.ended
            or found.filters != filters
            or found.selector != selector
            or found.session.principal.name != principal
        ):
            return None
        self._lingering.pop(token, None)
        self._context.gateway.scheduler.cancel(found.timer)
        return found

    def leave(self, subscription: Subscription) -> None:
        """The client is gone; wait for it a while."""
        subscription.detach()
        if self._context.stopping or subscription.session.ended:
            self._close(subscription)
            return
        self._lingering[subscription.token] = subscription
        subscription.timer = self._context.gateway.scheduler.after(
            LINGER_MS, lambda: self._close(subscription)
        )
        if len(self._lingering) > LINGERING_MAX:
            self._close(next(iter(self._lingering.values())))

    def _close(self, subscription: Subscription) -> None:
        self._lingering.pop(subscription.token, None)
        self._context.gateway.scheduler.cancel(subscription.timer)
        if self._known.pop(subscription.token, None) is not None:
            self._context.gateway.begin_turn()
            subscription.session.close()
            self._share.among(len(self._known))

    def close(self) -> None:
        """End every subscription."""
        for subscription in list(self._known.values()):
            self._close(subscription)
