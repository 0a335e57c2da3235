"""A topic's value: the retained message, else the last one published since the gateway started."""

from __future__ import annotations

from .access import Action
from .errors import NotFound
from .message import Message
from .session import Session
from .topic import QUEUE_PREFIX, SESSION_PREFIX, SHARE_PREFIX


def value_of(session: Session, topic: str) -> tuple[Message, bool] | None:
    """Return (message, retained), None if there is no value. Raise NotAuthorized, NotFound."""
    if topic.startswith((QUEUE_PREFIX, SHARE_PREFIX, SESSION_PREFIX)):
        raise NotFound(f"{topic!r} names a queue: what waits there is no value")
    session.check(Action.SUBSCRIBE, topic)
    broker = session.broker
    now_ms = broker.clock.now_ms
    message = broker.retained.get(topic)
    if message is not None and not _expired(message, now_ms):
        return (message, True)
    last = broker.router.last(topic)
    if last is None or _expired(last, now_ms) or (last.retain and not last.body):
        return None  # an empty retained message cleared the value
    return (last, False)


def _expired(message: Message, now_ms: int) -> bool:
    return bool(message.expires_at_ms) and message.expires_at_ms <= now_ms
