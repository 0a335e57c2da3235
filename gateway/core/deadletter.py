"""What happens to a message's headers when its queue gives up on it.

The story of a letter: why, where and by whose doing, and of its first death if it had several.
A letter that is sent to its queue once more loses the story but for the first death, so that the
next letter leads back to it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from .message import HeaderValue, Message, Properties
from .metrics import DropCause
from .topic import DEAD_PREFIX, SESSION_PREFIX

if TYPE_CHECKING:
    from .delivery import Delivery

CAUSE: Final = "dead-letter-cause"
QUEUE: Final = "dead-letter-queue"
GROUP: Final = "dead-letter-group"  # of a stream
TOPIC: Final = "dead-letter-topic"
ATTEMPTS: Final = "dead-letter-attempts"
TIME: Final = "dead-letter-time-ms"
POSITION: Final = "dead-letter-position"  # in the log: by it the journey of the one leads to the other
REASON: Final = "dead-letter-reason"  # what the consumer said
CONSUMER: Final = "dead-letter-consumer"  # the last one: client id, how it was connected, who it was
PROTOCOL: Final = "dead-letter-protocol"
PRINCIPAL: Final = "dead-letter-principal"
QUEUES: Final = "dead-letter-queues"  # all of them since somebody sent it on, if there was more than one

DEATHS: Final = "dead-letter-count"
FIRST_CAUSE: Final = "dead-letter-first-cause"
FIRST_QUEUE: Final = "dead-letter-first-queue"
FIRST_TIME: Final = "dead-letter-first-time-ms"
FIRST_POSITION: Final = "dead-letter-first-position"

#: Of an earlier death -> of the first one.
_FIRST: Final = {CAUSE: FIRST_CAUSE, QUEUE: FIRST_QUEUE, TIME: FIRST_TIME, POSITION: FIRST_POSITION}
_LATEST: Final = frozenset(
    (CAUSE, QUEUE, GROUP, TOPIC, ATTEMPTS, TIME, POSITION, REASON, CONSUMER, PROTOCOL, PRINCIPAL, QUEUES)
)
_LASTING: Final = frozenset((DEATHS, *_FIRST.values()))
STORY: Final = _LATEST | _LASTING

REASON_MAX: Final = 1000  # characters: a sentence and a stack's last lines, in every letter
QUEUES_MAX: Final = 32  # a chain of dead letters that is longer is a mistake of its maker's
NAME_MAX: Final = 1000  # characters: with the prefix, as much as a queue's name may have
NAME_LEVELS_MAX: Final = 300  # a topic may have 320
NAME_BEGINNING: Final = 200  # characters that are left of a name that is too long, before its hash
SESSIONS: Final = DEAD_PREFIX + SESSION_PREFIX[:-1]  # where the letters of all sessions are
_ESCAPES: Final = (("%", "%25"), ("+", "%2B"), ("#", "%23"))
_BLANKS: Final = str.maketrans("%+#", "___")

#: Causes that happen by themselves: these, repeated in one queue, would go round for ever.
_AUTOMATIC: Final = frozenset({DropCause.EXPIRED, DropCause.QUEUE_FULL})


def dead_letter(delivery: Delivery, address: str, cause: DropCause, now_ms: int, reason: str = "") -> Message:
    """Return the message as it goes to the dead-letter address: same body, its story in headers."""
    message, queue = delivery.message, delivery.queue.name
    told = dict(message.properties.headers)
    story: dict[str, HeaderValue] = {CAUSE: cause.name.lower(), QUEUE: queue}
    if delivery.group.name:
        story[GROUP] = delivery.group.name
    story[TOPIC] = message.topic
    story[ATTEMPTS] = delivery.attempt
    story[TIME] = now_ms
    if delivery.position:
        story[POSITION] = delivery.position
    if reason:
        story[REASON] = reason[:REASON_MAX]
    if delivery.consumer is not None:
        origin = delivery.consumer.origin
        who = {CONSUMER: origin.client_id, PROTOCOL: origin.protocol, PRINCIPAL: origin.principal}
        story.update({name: value for name, value in who.items() if value})
    if DEATHS in told or CAUSE in told:
        story.update(_before(told, queue))
    return with_story(message, address, story)


def with_story(message: Message, address: str, story: dict[str, HeaderValue]) -> Message:
    """Return a message as it goes to the dead letters; a story that it had is told no more."""
    letter = message.with_topic(address, _retold(message.properties, story))
    letter.qos = max(letter.qos, 1)  # it survived so far because it matters
    return letter


def _before(told: dict[str, HeaderValue], queue: str) -> dict[str, HeaderValue]:
    """Return what a letter tells of the deaths before this one."""
    count = told.get(DEATHS)
    story: dict[str, HeaderValue] = {DEATHS: (count if isinstance(count, int) else 1) + 1}
    story.update(_first(told))
    if QUEUE in told:
        before = told.get(QUEUES)
        path: list[HeaderValue] = list(before) if isinstance(before, list | tuple) else [told[QUEUE]]
        story[QUEUES] = [*(name for name in path if name != queue), queue][-QUEUES_MAX:]
    return story


def _first(told: dict[str, HeaderValue]) -> dict[str, HeaderValue]:
    """Return what is known of the first death: as it was told, or what is the latest until now."""
    lasting: dict[str, HeaderValue] = {name: told[name] for name in _FIRST.values() if name in told}
    if lasting:
        return lasting
    return {first: told[latest] for latest, first in _FIRST.items() if latest in told}


def revived(properties: Properties) -> Properties:
    """Return the properties with which a letter is sent on: of its story, only the first death is left."""
    told = dict(properties.headers)
    if CAUSE not in told:
        return properties
    count = told.get(DEATHS)
    story = {DEATHS: count if isinstance(count, int) else 1, **_first(told)}
    return _retold(properties, story)


def _retold(properties: Properties, story: dict[str, HeaderValue]) -> Properties:
    kept = tuple(header for header in properties.headers if header[0] not in STORY)
    copy = properties.copy()
    copy.headers = kept + tuple(story.items())
    return copy


def would_cycle(message: Message, queue: str, cause: DropCause) -> bool:
    """Tell whether this queue gave up on the message before, with nobody's doing in between."""
    if cause not in _AUTOMATIC:
        return False
    header = message.properties.header
    path = header(QUEUES)
    return header(QUEUE) == queue or (isinstance(path, list | tuple) and queue in path)


def home(queue: str) -> str:
    """Return the name, and the topic, of the queue of a queue's own dead letters; "" if it has none.

    All sessions share one, as sessions come and go. What would be a wildcard in a topic is escaped.
    """
    if queue.startswith(DEAD_PREFIX):
        return ""
    if queue.startswith(SESSION_PREFIX):
        return SESSIONS
    name = queue
    for char, escape in _ESCAPES:
        if char in name:
            name = name.replace(char, escape)
    if len(name) > NAME_MAX or name.count("/") > NAME_LEVELS_MAX:
        digest = sha256(queue.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        name = f"{queue[:NAME_BEGINNING].replace('/', '.').translate(_BLANKS)}~{digest}"
    return DEAD_PREFIX + name
