"""Where a group's consumers of a topic get their messages.

| topic | from |
|---|---|
| any | the shared subscription `$share/<group>/<topic>`, durable, made with the first member |
| `%24queue%2Fjobs` | the queue `jobs` itself; of a stream, the group's position in it |
| `%DLQ%<group>` | the queues of dead letters of that group's subscriptions (`letters`) |
| `%RETRY%<group>` | nowhere: what is to be tried again waits in its own queue |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.api import Conflict, Consumer, Delivery, InvalidSelector, NotFound, Selector, Session
from gateway.core.policy import WORK
from gateway.core.queue import Queue
from gateway.core.selector import Selectors
from gateway.core.shares import is_share, join, reselect, selector_of, shared_filter
from gateway.core.stream import StreamQueue
from gateway.rocketmq.numbers import Code, FilterType

from ..errors import Refused
from ..names import QUEUE_PREFIX, queue_name

if TYPE_CHECKING:
    from .poll import Poll

LANGUAGES: Final = {
    FilterType.FILTER_TYPE_UNSPECIFIED: "tags",
    FilterType.TAG: "tags",
    FilterType.SQL: "sql",
}
EVERYTHING: Final = ("", "*")
ATTEMPTS_MAX: Final = 4  # answers that a client may have missed: it has one under way, of a queue
BYTES_MAX: Final = 4 << 20  # of bodies in one answer, its first message excepted: as large as one may be

Deliver = Callable[[list[Delivery]], None]
#: Tells of a shared subscription's name and its filter whether somebody is there who wants just that.
Defended = Callable[[str, Selector | None], bool]


class Source:
    """Where a client's messages come from: from nowhere, until a subclass says more.

    `topic` is the topic of ours that was asked for, `selector` what is wanted of it.
    """

    __slots__ = ("_attempts", "group", "selector", "topic")

    def __init__(self, group: str, topic: str, selector: Selector | None = None) -> None:
        self.group = group
        self.topic = topic
        self.selector = selector
        self._attempts: dict[str, Poll] = {}

    def attempt(self, attempt_id: str, poll: Poll) -> Poll | None:
        """A poll begins; return the one that was the same attempt."""
        attempts = self._attempts
        earlier = attempts.pop(attempt_id, None)
        if len(attempts) >= ATTEMPTS_MAX:
            del attempts[next(iter(attempts))]
        attempts[attempt_id] = poll
        return earlier

    @property
    def notices(self) -> set[Callable[[], None]] | None:
        """What is to be called when there is more than one has begun to `consume`."""
        return None

    def open(self, session: Session) -> None:
        """See to it that what is published from now on waits for the group. Raise a GatewayError."""

    def consume(self, session: Session, deliver: Deliver, count: int) -> list[Consumer]:
        """Begin to compete for up to `count` messages. Raise a GatewayError."""
        return []


class Share(Source):
    """A shared subscription. `defended` tells whether others receive by the filter that it has."""

    __slots__ = ("_defended", "filter", "name")

    def __init__(self, group: str, topic: str, selector: Selector | None, defended: Defended) -> None:
        super().__init__(group, topic, selector)
        self.name = queue_name(group, topic)
        self.filter = shared_filter(self.name)
        self._defended = defended

    def open(self, session: Session) -> None:
        self._joined(session)

    def consume(self, session: Session, deliver: Deliver, count: int) -> list[Consumer]:
        queue = self._joined(session)
        return [session.consume_shared(queue, deliver, fitting(queue, count), "", self.filter)]

    def _joined(self, session: Session) -> Queue:
        try:
            return join(session, self.name, True, self.selector, WORK)
        except Conflict as error:
            # A group that is deployed with another filter has left nobody who wants the old one.
            kept = selector_of(session.broker.catalog, self.name)
            if self._defended(self.name, kept) or not reselect(session, self.name, self.selector):
                raise Refused(Code.ILLEGAL_FILTER_EXPRESSION, error.detail) from error
        return session.broker.catalog.get(self.name)


class Declared(Source):
    """A queue by its own name; what is published to its topic is in it already."""

    __slots__ = ("name",)

    def __init__(self, group: str, topic: str, selector: Selector | None) -> None:
        super().__init__(group, topic, selector)
        self.name = topic.removeprefix(QUEUE_PREFIX)
        if is_share(self.name):
            raise Refused(Code.ILLEGAL_TOPIC, f"{topic!r}: receive from its topic, in its group")

    def consume(self, session: Session, deliver: Deliver, count: int) -> list[Consumer]:
        queue = session.broker.catalog.queues.get(self.name)
        if queue is not None and queue.auto_delete:
            raise Conflict(
                f"queue {self.name!r} is deleted with its last consumer, and who polls is one only meanwhile"
            )
        group = self.group if isinstance(queue, StreamQueue) else ""
        window = count if queue is None else fitting(queue, count)
        try:
            return [session.consume(self.name, deliver, window, group, 0, self.selector)]
        except NotFound as error:
            raise Refused(Code.TOPIC_NOT_FOUND, error.detail) from error
        except Conflict as error:
            raise Refused(Code.ILLEGAL_FILTER_EXPRESSION, error.detail) from error


def fitting(queue: Queue, count: int) -> int:
    """Return how many messages of a queue, if they are of its usual size, fit in one answer."""
    usual = queue.bytes_waiting // max(1, queue.length())
    return max(1, min(count, BYTES_MAX // max(1, usual)))


def selector_for(selectors: Selectors, expression: Any) -> Selector | None:
    """Return what a filter expression wants; None: everything. Raise Refused."""
    text = str(expression.expression)
    language = LANGUAGES.get(expression.type)
    if language is None:
        raise Refused(
            Code.ILLEGAL_FILTER_EXPRESSION, f"a filter is of type TAG or SQL, not {expression.type}"
        )
    if language == "tags" and text.strip() in EVERYTHING:
        return None
    try:
        return selectors.find(text, language)
    except InvalidSelector as error:
        raise Refused(Code.ILLEGAL_FILTER_EXPRESSION, error.detail) from error
