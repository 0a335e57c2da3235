"""Streams: queues that keep their messages; any number of groups, each with its own cursor.

Offsets count from the stream's first message ever and never change. Retention (length,
bytes, age) trims from the head; a group whose cursor falls off the head goes on at the new
head. What a group gave back waits in its `redeliver` list, taken before the cursor.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .delivery import Delivery, Group
from .message import Message
from .policy import QueuePolicy
from .queue import Lost, Queue

if TYPE_CHECKING:
    from .router import Binding

#: A kept message: position (0: not logged), message (None: in the log), size, stored at.
Kept = tuple[int, "Message | None", int, int]


class StreamQueue(Queue):
    """Kept by retention; settled only moves a group's cursor."""

    kind = "stream"

    __slots__ = ("_groups", "first_offset", "kept")

    def __init__(
        self,
        name: str,
        queue_id: int,
        policy: QueuePolicy,
        read: Callable[[int], Message],
        auto_delete: bool = False,
    ) -> None:
        super().__init__(name, queue_id, policy, read, auto_delete)
        self._groups: dict[str, Group] = {}
        self.kept: deque[Kept] = deque()
        self.first_offset = 0

    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def group(self, name: str, start: int | None = None) -> Group:
        """Return a group, made at offset `start` (None: the next message to come) if new."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(self, name)
            group.cursor = self.next_offset if start is None else self.clamp(start)
        return group

    def remove_group(self, name: str) -> None:
        """Forget a group and its cursor."""
        self._groups.pop(name, None)

    def clamp(self, offset: int) -> int:
        """Return the offset, or the nearest one that exists or comes next."""
        return min(max(offset, self.first_offset), self.next_offset)

    def offset_at(self, time_ms: int) -> int:
        """Return the offset of the first kept message stored at that time (Unix ms) or later."""
        return self.first_offset + bisect_left(self.kept, time_ms, key=_stored_at)

    def floor(self, group: Group) -> int:
        """Return the offset below which the group has settled everything: what is journalled."""
        floor = group.cursor
        for offset in group.unsettled:
            floor = min(floor, offset)
        for offset in group.parked:
            floor = min(floor, offset)
        for delivery in group.redeliver:
            floor = min(floor, delivery.offset)
        return floor

    def depth(self, group: Group) -> int:
        return len(group.redeliver) + self.next_offset - max(group.cursor, self.first_offset)

    def length(self) -> int:
        return len(self.kept)

    def put(self, message: Message, position: int, binding: Binding | None, now_ms: int) -> None:
        keep = message if not position or len(self.kept) < self.memory_messages_max else None
        self.kept.append((position, keep, len(message.body), now_ms))
        self.next_offset += 1
        self.bytes_waiting += len(message.body)

    def make_room(self, size: int) -> list[Lost]:
        # Trimming is what retention promised, not a loss: the caller settles `trim`'s positions.
        return []

    def trim(self, now_ms: int) -> list[int]:
        """Apply retention; return the log positions that are kept no longer."""
        policy = self.policy
        positions: list[int] = []
        kept = self.kept
        while kept and (
            (policy.max_length and len(kept) > policy.max_length)
            or (policy.max_bytes and self.bytes_waiting > policy.max_bytes)
            or (policy.max_age_ms and kept[0][3] + policy.max_age_ms <= now_ms)
        ):
            position, _, size, _ = kept.popleft()
            self.first_offset += 1
            self.bytes_waiting -= size
            positions.append(position)
        return positions

    def take(self, group: Group, count: int, now_ms: int) -> list[Delivery]:
        batch: list[Delivery] = []
        while group.redeliver and len(batch) < count:
            delivery = group.redeliver.pop(0)
            if delivery.offset >= self.first_offset:
                batch.append(delivery)
        group.cursor = max(group.cursor, self.first_offset)
        while group.cursor < self.next_offset and len(batch) < count:
            offset = group.cursor
            group.cursor = offset + 1
            message = self._at(offset)
            if 0 < message.expires_at_ms <= now_ms:
                continue  # still kept and browsable, but nobody wants it any more
            group.forget(offset)  # after a seek back somebody may still hold it
            group.parked.pop(offset, None)
            position, _, size, _ = self.kept[offset - self.first_offset]
            batch.append(Delivery(group, offset, position, message, size))
        return batch

    def put_back(self, delivery: Delivery) -> None:
        group, redeliver = delivery.group, delivery.group.redeliver
        if delivery.offset >= group.cursor or delivery.offset in group.unsettled:
            return  # a seek went back: the cursor comes by it again, or has done so
        index = 0
        for other in redeliver:
            if other.offset >= delivery.offset:
                if other.offset == delivery.offset:
                    return
                break
            index += 1
        redeliver.insert(index, delivery)

    def restore(self, position: int, size: int, attempts: int, tag: int, stored_at_ms: int) -> None:
        self.kept.append((position, None, size, stored_at_ms))
        self.next_offset += 1
        self.bytes_waiting += size

    def restore_base(self, first_offset: int) -> None:
        """Set the offset of the oldest kept message; before any `restore`."""
        assert not self.kept
        self.first_offset = self.next_offset = first_offset

    def sweep(self, now_ms: int) -> list[Lost]:
        return []

    def clear(self) -> list[int]:
        positions = [kept[0] for kept in self.kept]
        self.first_offset = self.next_offset
        self.kept.clear()
        self.bytes_waiting = 0
        for group in self._groups.values():
            group.redeliver.clear()
            group.cursor = self.next_offset
        return positions

    def forget_from(self, position: int) -> int:
        count = 0
        while self.kept and self.kept[-1][0] >= position:
            self.bytes_waiting -= self.kept.pop()[2]
            self.next_offset -= 1
            count += 1
        for group in self._groups.values():
            self._forget_beyond(group)
        return count

    def _forget_beyond(self, group: Group) -> None:
        """Take from a group what it has of messages that do not exist any more: offsets come again."""
        end = self.next_offset
        group.cursor = min(group.cursor, end)
        for offset in [offset for offset in group.unsettled if offset >= end]:
            group.forget(offset)
        for offset in [offset for offset in group.parked if offset >= end]:
            del group.parked[offset]
        group.redeliver = [delivery for delivery in group.redeliver if delivery.offset < end]

    def browse(self, start: int, count: int) -> list[tuple[int, Message, int]]:
        first = self.clamp(start)
        last = min(first + count, self.next_offset)
        return [(offset, self._at(offset), 0) for offset in range(first, last)]

    def _at(self, offset: int) -> Message:
        position, message, _, _ = self.kept[offset - self.first_offset]
        return self.read(position) if message is None else message


def _stored_at(kept: Kept) -> int:
    return kept[3]
