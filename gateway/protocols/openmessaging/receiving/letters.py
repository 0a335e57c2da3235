"""`%DLQ%<group>`: the dead letters of all of a group's subscriptions, each in a queue of its own.

Who may consume these queues may receive from here; the name gives no right. A queue whose first letter
comes while somebody waits is waited for, too.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.api import Consumer, NotAuthorized, Session
from gateway.core.access import Action, queue_resource
from gateway.core.catalog import Catalog
from gateway.core.deadletter import home
from gateway.core.queue import Queue
from gateway.core.topic import DEAD_PREFIX, SHARE_PREFIX

from .sources import Deliver, Source, fitting


class LetterQueues:
    """The queues that hold letters of each group."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[str, list[str]] = {}  # group -> names, until a queue of that kind comes or goes
        self.notices: set[Callable[[], None]] = set()  # to be called when there is one more
        catalog.made.append(self._made)
        catalog.deleted.append(self._changed)

    def _changed(self, queue: Queue) -> None:
        if queue.name.startswith((DEAD_PREFIX, SHARE_PREFIX)):
            self._known.clear()

    def _made(self, queue: Queue) -> None:
        self._changed(queue)
        if queue.name.startswith(DEAD_PREFIX):
            for call in list(self.notices):
                call()

    def of(self, group: str) -> list[str]:
        """Return the names of the queues with dead letters of a group."""
        found = self._known.get(group)
        if found is None:
            own = f"{SHARE_PREFIX}{group}/"
            letters = home(own)  # begins them all, but those of names too long for that
            names = {name for name in self._catalog.queues if name.startswith(letters)}
            names |= {home(name) for name in self._catalog.queues if name.startswith(own)}
            found = self._known[group] = sorted(names & self._catalog.queues.keys())
        return found


class Letters(Source):
    """The dead letters of the group `of`, for the consumers of a group."""

    __slots__ = ("_queues", "of")

    def __init__(self, group: str, topic: str, of: str, queues: LetterQueues) -> None:
        super().__init__(group, topic)
        self.of = of
        self._queues = queues

    @property
    def notices(self) -> set[Callable[[], None]] | None:
        return self._queues.notices

    def consume(self, session: Session, deliver: Deliver, count: int) -> list[Consumer]:
        names = self._queues.of(self.of)
        mine = [name for name in names if session.may(Action.CONSUME, queue_resource(name))]
        if names and not mine:
            raise NotAuthorized(f"you may not consume {names[0]!r}, where dead letters of {self.of!r} are")
        catalog = session.broker.catalog
        return [session.consume(name, deliver, fitting(catalog.get(name), count)) for name in mine]
