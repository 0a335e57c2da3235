"""What every part of the HTTP door shares, and the small things they all need."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Protocol as Interface
from urllib.parse import unquote

from ...api import Gateway, InvalidTopic, NotStored, Selector, Session
from ...core import last
from ...core.message import Message
from ...core.selector import USUAL_LANGUAGE
from ...core.topic import QUEUE_PREFIX, SESSION_PREFIX, SHARE_PREFIX
from .answers import Scope
from .convert import Encoder
from .limits import Limits
from .problems import Refused
from .sessions import Sessions


class Stoppable(Interface):
    """Something that lasts (a stream of events, a socket, a long poll), told when the door closes."""

    def stop(self) -> None: ...


class Context:
    """One per HTTP door."""

    __slots__ = (
        "_ids",
        "_loop",
        "_prefix",
        "encoder",
        "gateway",
        "lasting",
        "limits",
        "sessions",
        "stopping",
    )

    def __init__(self, gateway: Gateway, limits: Limits) -> None:
        self.gateway = gateway
        self.limits = limits
        self.sessions = Sessions(gateway)
        self.encoder = Encoder()
        self.lasting: set[Stoppable] = set()
        self.stopping = False
        self._prefix = secrets.token_hex(6)
        self._ids = itertools.count(1)
        self._loop = asyncio.get_running_loop()  # asked once: the question is a system call (getpid)

    def new_id(self) -> str:
        """Return a message id: unique, also across restarts; not secret."""
        return f"{self._prefix}-{next(self._ids):x}"

    def selector(self, text: str | None, language: str | None) -> Selector | None:
        """Return what `selector` and `selector_language` of a request ask for. Raise a GatewayError."""
        if text is None:
            if language is not None:
                raise Refused("invalid-parameter", "selector_language is there, but no selector")
            return None
        return self.gateway.broker.selectors.find(text, USUAL_LANGUAGE if language is None else language)

    async def stored(self, position: int) -> bool:
        """Wait until a position is on disk; False if it never will be."""
        if position <= 0:
            return True
        waiting: asyncio.Future[bool] = self._loop.create_future()
        self.gateway.when_durable(position, _resolver(waiting))
        return await waiting

    async def metadata_stored(self) -> None:
        """Wait until every change so far is on disk. Raise NotStored."""
        if not await self.stored(self.gateway.broker.engine.position()):
            raise not_stored()

    def stop(self) -> None:
        """End everything that lasts."""
        self.stopping = True
        for lasting in list(self.lasting):
            lasting.stop()


def _resolver(waiting: asyncio.Future[bool]) -> Callable[[bool], None]:
    def resolve(stored: bool) -> None:
        if not waiting.done():
            waiting.set_result(stored)

    return resolve


CUT = "gateway.cut"  # key of a scope: a call that closes the socket at once


def cutter(scope: Scope) -> Callable[[], None]:
    """Return the call that closes a WebSocket's socket at once, where the server offers it."""
    cut: Callable[[], None] = scope.get(CUT, _nothing)
    return cut


def _nothing() -> None:
    pass


def not_stored() -> NotStored:
    """Return the error for what the log could not take."""
    return NotStored("the log could not be written, so nothing was stored; free disk space, then try again")


def decode_segment(raw: str, what: str = "topic") -> str:
    """Decode a percent-encoded part of a path. Raise InvalidTopic."""
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidTopic(f"a {what} is percent-encoded UTF-8; {raw[:80]!r} is not") from error


def value_of(context: Context, session: Session, topic: str) -> tuple[Message, bool] | None:
    """Return (message, retained): a topic's retained value, else the last published since start.

    Raise NotAuthorized or NotFound.
    """
    if topic.startswith((QUEUE_PREFIX, SHARE_PREFIX, SESSION_PREFIX)):
        raise Refused("not-found", f"{topic!r} names a queue; look into it with GET /v1/queues/<name>/browse")
    return last.value_of(session, topic)
