"""`%DLQ%<group>`: the dead letters of all of a group's subscriptions, each in a queue of its own.

Who may consume these queues may receive from here; the name gives no right. A queue whose first letter
comes while somebody waits is waited for, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.api import Consumer, NotAuthorized, Session
from gateway.core.access import Action, queue_resource
from gateway.core.catalog import Catalog
from gateway.core.deadletter import home
from gateway.core.queue import Queue
from gateway.core.topic import DEAD_PREFIX, SHARE_PREFIX
from gateway.rocketmq.names import share_of

from .sources import Deliver, Source, fitting

REMEMBERED_MAX: Final = 1024  # groups whose queues were looked up: to find them is to look at all queues


class LetterQueues:
    """The queues that hold letters of each group."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[str, list[str]] = {}  # beginning -> names, until such a queue comes or goes
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

    def of(self, group: str, namespace: str = "") -> list[str]:
        """Return the names of the queues with dead letters of a group: of one namespace, or of all."""
        own = share_of(group, f"{namespace}/" if namespace else "")
        found = self._known.get(own)
        if found is None:
            letters = home(own)  # begins them all, but those of names too long for that
            names = {name for name in self._catalog.queues if name.startswith(letters)}
            names |= {home(name) for name in self._catalog.queues if name.startswith(own)}
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            found = self._known[own] = sorted(names & self._catalog.queues.keys())
        return found


class Letters(Source):
    """The dead letters of the group `of`, for the consumers of a group."""

    __slots__ = ("_namespace", "_queues", "of")

    def __init__(self, group: str, topic: str, of: str, namespace: str, queues: LetterQueues) -> None:
        super().__init__(group, topic)
        self.of = of
        self._namespace = namespace
        self._queues = queues

    @property
    def notices(self) -> set[Callable[[], None]] | None:
        return self._queues.notices

    def consume(self, session: Session, deliver: Deliver, count: int) -> list[Consumer]:
        names = self._queues.of(self.of, self._namespace)
        mine = [name for name in names if session.may(Action.CONSUME, queue_resource(name))]
        if names and not mine:
            raise NotAuthorized(f"you may not consume {names[0]!r}, where dead letters of {self.of!r} are")
        catalog = session.broker.catalog
        return [session.consume(name, deliver, fitting(catalog.get(name), count)) for name in mine]
