"""Queues with priorities: what has more comes first, what has the same in order.

What waits is known in memory, about 200 bytes for each message, and is found again at the start
by looking at all of it. Bodies beyond `memory_messages_max` stay in the engine until their turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from .classic import ClassicQueue
from .delivery import UNLOADED, Delivery, Group, by_offset
from .engine import Extent, StorageEngine
from .errors import NotFound
from .message import Message
from .metrics import DropCause
from .policy import QueuePolicy
from .queue import Lost

if TYPE_CHECKING:
    from .router import Binding

RESTORED_TOGETHER = 1000  # messages that a start reads at once


class PriorityQueue(ClassicQueue):
    """A classic queue in levels. `behind` counts what waits on all of them."""

    __slots__ = ("_in_memory", "_levels")

    def __init__(
        self,
        name: str,
        queue_id: int,
        policy: QueuePolicy,
        engine: StorageEngine,
        auto_delete: bool = False,
    ) -> None:
        super().__init__(name, queue_id, policy, engine, auto_delete)
        self._levels: list[deque[Delivery]] = [deque() for _ in range(policy.max_priority + 1)]
        self._in_memory = 0  # messages with their bodies

    def _level(self, message: Message) -> deque[Delivery]:
        priority = message.properties.priority
        return self._levels[min(priority, len(self._levels) - 1) if priority else 0]

    # -- in and out ---------------------------------------------------------------------------

    def put(self, message: Message, position: int, binding: Binding | None, now_ms: int) -> None:
        self._append(message, position, len(message.body), 0, 0, binding, now_ms)
        self.bytes_waiting += len(message.body)

    def _append(
        self,
        message: Message,
        position: int,
        size: int,
        attempts: int,
        tag: int,
        binding: Binding | None,
        stored_at_ms: int,
    ) -> None:
        ttl_ms = self.policy.ttl_ms
        expires_at_ms = stored_at_ms + ttl_ms if ttl_ms else 0
        if message.expires_at_ms and (not expires_at_ms or message.expires_at_ms < expires_at_ms):
            expires_at_ms = message.expires_at_ms
        level = self._level(message)
        kept = message
        if position and self._in_memory >= self.memory_messages_max:
            kept = UNLOADED
        else:
            self._in_memory += 1
        offset = self.next_offset
        self.next_offset = offset + 1
        level.append(
            Delivery(self.group, offset, position, kept, size, attempts, binding, tag, expires_at_ms)
        )
        self.behind += 1

    def take(self, group: Group, count: int, now_ms: int) -> list[Delivery]:
        batch: list[Delivery] = []
        for level in reversed(self._levels):
            while level and len(batch) < count:
                delivery = self._pop(level)
                if 0 < delivery.expires_at_ms <= now_ms:
                    self._lose(delivery, DropCause.EXPIRED)
                elif delivery.message is UNLOADED:
                    self._lose(delivery, DropCause.UNREADABLE)
                else:
                    batch.append(delivery)
        return batch

    def _pop(self, level: deque[Delivery]) -> Delivery:
        """Take the first of a level, with its message if that can be read."""
        delivery = level.popleft()
        self.behind -= 1
        self.bytes_waiting -= delivery.size
        if delivery.message is UNLOADED:
            try:
                delivery.message = self.engine.read(delivery.position)
            except NotFound:
                pass
        else:
            self._in_memory -= 1
        return delivery

    def put_back(self, delivery: Delivery) -> None:
        level = self._level(delivery.message)
        self.behind += 1
        self._in_memory += 1
        self.bytes_waiting += delivery.size
        level.insert(bisect_left(level, delivery.offset, key=by_offset), delivery)

    def make_room(self, size: int) -> list[Lost]:
        lost = self._drop_aside(size) if self.aside else []
        while self.behind and self.full(size):
            lowest = next(level for level in self._levels if level)
            lost.append(self._given_up(lowest, DropCause.QUEUE_FULL))
        return lost + self._take_lost()

    def _given_up(self, level: deque[Delivery], cause: DropCause) -> Lost:
        delivery = self._pop(level)
        self.let_go(delivery)
        return (delivery, cause)

    def clear(self) -> int:
        count = super().clear()  # the order's, too
        for level in self._levels:
            level.clear()
        self._in_memory = 0
        return count

    # -- between memory and index -------------------------------------------------------------

    def restore(self, extent: Extent) -> None:
        position = 0
        self.next_offset = extent.first
        while found := self.engine.after(self.queue_id, position, RESTORED_TOGETHER):
            for entry in found:
                position = entry.position
                self.next_offset = max(self.next_offset, entry.offset)
                message = entry.message or UNLOADED
                stored_at_ms = entry.stored_at_ms
                self._append(message, position, entry.size, entry.attempts, entry.tag, None, stored_at_ms)
        self.next_offset = max(self.next_offset, extent.next)
        self.bytes_waiting = extent.size

    def unload(self) -> None:
        """Nothing: it is all in memory, as it has to be."""

    def forget_from(self, position: int) -> int:
        before = self.length()
        order = self.group.order
        if order is not None:
            order.forget_from(position, False)
        self._unlog(position)
        for number, level in enumerate(self._levels):
            kept = deque(delivery for delivery in level if delivery.position < position)
            gone = len(level) - len(kept)
            self.behind -= gone
            self._in_memory -= sum(d.message is not UNLOADED for d in level) - sum(
                d.message is not UNLOADED for d in kept
            )
            self.bytes_waiting -= sum(d.size for d in level) - sum(d.size for d in kept)
            self._levels[number] = kept
        return before - self.length()

    # -- looking ------------------------------------------------------------------------------

    def sweep(self, now_ms: int) -> list[Lost]:
        lost: list[Lost] = []
        if self.aside:
            self._expire_aside(now_ms)
        for level in self._levels:
            while level and 0 < level[0].expires_at_ms <= now_ms:
                lost.append(self._given_up(level, DropCause.EXPIRED))
        return lost + self._take_lost()

    def browse(self, start: int, count: int) -> list[tuple[int, Message, int]]:
        found: list[tuple[int, Message, int]] = []
        waiting = [delivery for level in self._levels for delivery in level if delivery.offset >= start]
        for delivery in sorted([*waiting, *self.browse_aside(start)], key=by_offset)[:count]:
            message = delivery.message
            if message is UNLOADED:
                message = self.engine.read(delivery.position)
            found.append((delivery.offset, message, delivery.attempt))
        return found
