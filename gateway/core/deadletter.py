"""What happens to a message's headers when its queue gives up on it."""

from __future__ import annotations

from .message import HeaderValue, Message
from .metrics import DropCause

CAUSE = "dead-letter-cause"
QUEUE = "dead-letter-queue"
TOPIC = "dead-letter-topic"
ATTEMPTS = "dead-letter-attempts"
TIME = "dead-letter-time-ms"
POSITION = "dead-letter-position"  # in the log: by it the journey of the one leads to the other

#: Causes that happen by themselves: these, repeated in one queue, would go round for ever.
_AUTOMATIC = frozenset({DropCause.EXPIRED, DropCause.QUEUE_FULL})


def dead_letter(
    message: Message,
    address: str,
    queue: str,
    cause: DropCause,
    attempts: int,
    now_ms: int,
    position: int = 0,
) -> Message:
    """Return the message as it goes to the dead-letter address: same body, its story in headers."""
    story: tuple[tuple[str, HeaderValue], ...] = (
        (CAUSE, cause.name.lower()),
        (QUEUE, queue),
        (TOPIC, message.topic),
        (ATTEMPTS, attempts),
        (TIME, now_ms),
        *(((POSITION, position),) if position else ()),
    )
    letter = message.with_topic(address, message.properties.with_headers(story))
    letter.qos = max(letter.qos, 1)  # it survived so far because it matters
    return letter


def would_cycle(message: Message, queue: str, cause: DropCause) -> bool:
    """Tell whether this queue gave up on the message before, with nobody's doing in between."""
    if cause not in _AUTOMATIC:
        return False
    return any(name == QUEUE and value == queue for name, value in message.properties.headers)
