"""Ordering keys as an operator sees them: which are busy or fail, and what can be done about one.

A parked key's messages are held back, those to come as well, until it is let go on; that is a key of
the metadata store, so that it outlives a restart. To skip is to give up the message that a key is stuck at.
"""

from __future__ import annotations

import json
from heapq import nsmallest
from typing import Final, NamedTuple

from .catalog import Catalog
from .classic import ClassicQueue
from .clock import Clock
from .delivery import Delivery, Group
from .engine import StorageEngine
from .errors import Conflict, NotFound
from .message import Message
from .metrics import DropCause
from .order import Key, KeyOrder
from .queue import Queue
from .settlement import Settlement
from .stream import StreamQueue

PARKED_KEY: Final = "parked-key/"
PARKED_MAX: Final = 1000  # a group: each is asked for whenever a floor or the oldest is; people park few

DELIVERED, DELAYED, WAITING, PARKED = "delivered", "delayed", "waiting", "parked"
BY_OPERATOR: Final = "skipped by an operator"


class KeyState(NamedTuple):
    """How a key is doing. `state` is delivered (its message is in a consumer's hands), delayed (it backs
    off), waiting (it is about to go out) or parked; `attempts` and `since_ms` (when it went out first, 0: it
    has not) are of that message, `behind` counts those that wait behind it."""

    key: str
    state: str
    attempts: int
    since_ms: int
    behind: int
    parked: bool


class Keys:
    """Part of the broker."""

    __slots__ = ("_catalog", "_clock", "_engine", "_settlement")

    def __init__(self, catalog: Catalog, engine: StorageEngine, clock: Clock, settlement: Settlement) -> None:
        self._catalog = catalog
        self._engine = engine
        self._clock = clock
        self._settlement = settlement
        catalog.deleted.append(lambda queue: self._forget(queue.name + "\0"))
        catalog.group_removed.append(lambda queue, group: self._forget(f"{queue.name}\0{group}\0"))

    def restore(self) -> None:
        """Park what was parked before the start."""
        for record, value in list(self._engine.scan(PARKED_KEY)):
            fields = json.loads(value)
            queue = self._catalog.queues.get(fields["queue"])
            group = _found(queue, fields["group"]) if queue is not None else None
            if group is None:
                self._engine.delete(record)
            else:
                _order_of(group).park(fields["key"])

    def _forget(self, prefix: str) -> None:
        for record, _ in list(self._engine.scan(PARKED_KEY + prefix)):
            self._engine.delete(record)

    def group(self, queue: Queue, name: str) -> Group:
        """Return a group that there is. Raise NotFound or Conflict."""
        if isinstance(queue, StreamQueue) != bool(name):
            what = "is a stream: name its group" if not name else "is classic and has no groups"
            raise Conflict(f"queue {queue.name!r} {what}")
        group = _found(queue, name)
        if group is None:
            raise NotFound(f"queue {queue.name!r} has no group {name!r}; GET the queue to see its groups")
        return group

    # -- looking ------------------------------------------------------------------------------

    def listing(self, group: Group, count: int, failing: bool = False) -> list[KeyState]:
        """Return keys that are busy or parked, those with the most attempts first, then the oldest.

        With `failing` only those that are parked, back off, or are at their second attempt or later.
        """
        order = group.order
        if order is None:
            return []
        found = [_state(group, key) for key in order.keys.values()]
        if failing:
            found = [one for one in found if one.parked or one.state == DELAYED or one.attempts > 1]
        return nsmallest(count, found, key=_rank)

    # -- acting -------------------------------------------------------------------------------

    def park(self, group: Group, key: str) -> None:
        """Hold a key back. Raise Conflict if its queue has no order, or the group too many."""
        queue = group.queue
        if not queue.ordered or group.name.startswith("$"):
            raise Conflict(f"queue {queue.name!r} is not ordered by key: there is nothing to park")
        order = _order_of(group)
        parked = sum(1 for known in order.keys.values() if known.parked)
        if parked >= PARKED_MAX:
            raise Conflict(f"{parked} keys are parked already, as many as can be; let some go on first")
        order.park(key)
        if queue.durable:
            fields = {"queue": queue.name, "group": group.name, "key": key}
            self._engine.put(_record(group, key), json.dumps(fields).encode())
        if isinstance(queue, StreamQueue):
            self._settlement.ready.moved.append(group)  # the group is to be there after a restart
        self._settlement.ready.wake()

    def unpark(self, group: Group, key: str) -> None:
        """Let a key go on. Raise NotFound if it is not parked."""
        if group.order is None or not group.order.unpark(key):
            raise NotFound(f"key {key!r} of queue {group.queue.name!r} is not parked")
        self._engine.delete(_record(group, key))
        self._settlement.ready.look(group)
        self._settlement.ready.wake()

    def skip(self, group: Group, key: str) -> Message:
        """Give up the message that a key is stuck at, as if it had been rejected; return it.

        Raise NotFound if the key has none, or Conflict if it is being given up already.
        """
        order, queue, settlement = group.order, group.queue, self._settlement
        known = order.keys.get(key) if order is not None else None
        if order is None or known is None:
            raise NotFound(f"key {key!r} of queue {queue.name!r} has nothing that could be skipped")
        offset = known.head.offset if known.head is not None else -1
        held = group.unsettled.get(offset)
        if held is not None:
            settlement.discard(held, DropCause.REJECTED, BY_OPERATOR)
            settlement.ready.wake()
            return held.message
        waiting = group.parked.pop(offset, None) or order.first(known)
        if waiting is None:
            empty = known.head is None
            raise (NotFound if empty else Conflict)(f"key {key!r} has nothing that could be skipped now")
        self._give_up(group, waiting)
        return waiting.message

    def _give_up(self, group: Group, delivery: Delivery) -> None:
        settlement, queue = self._settlement, group.queue
        if queue.revive(group, delivery, self._clock.now_ms):
            settlement.give_up(queue, (delivery, DropCause.REJECTED), BY_OPERATOR)
        elif queue.kind == "stream" and group.order is not None:
            group.order.done(delivery.offset)
        settlement.give_up_lost(queue)  # it has expired, or cannot be read
        if queue.kind == "stream":
            settlement.ready.moved.append(group)
        settlement.ready.look(group)
        settlement.ready.wake()


def _found(queue: Queue, name: str) -> Group | None:
    if isinstance(queue, StreamQueue):
        return queue.find_group(name)
    assert isinstance(queue, ClassicQueue)
    return queue.group


def _order_of(group: Group) -> KeyOrder:
    if group.order is None:
        group.order = KeyOrder(group)
    return group.order


def _record(group: Group, key: str) -> str:
    return f"{PARKED_KEY}{group.queue.name}\0{group.name}\0{key}"


def _state(group: Group, key: Key) -> KeyState:
    head = key.head
    held = group.unsettled.get(head.offset) if head is not None else None
    delayed = group.parked.get(head.offset) if head is not None else None
    current = held or delayed or head
    state = DELIVERED if held else DELAYED if delayed else PARKED if key.parked else WAITING
    attempts = current.attempt if current is not None else 0
    return KeyState(key.name, state, attempts, key.since_ms, key.length(), key.parked)


def _rank(state: KeyState) -> tuple[int, int, str]:
    return (-state.attempts, state.since_ms, state.key)
