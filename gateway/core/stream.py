"""Streams: queues that keep their messages; any number of groups, each with its own cursor.

Offsets count from the stream's first message ever and never change. Retention (length,
bytes, age) trims from the head; a group whose cursor falls off the head goes on at the new
head. What a group gave back waits in its `redeliver` list, taken before the cursor.

In memory is `recent`: the newest messages, for groups that keep up; all of them if the stream
is not durable. Who is further behind is served from the engine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from .compaction import Compaction, Place
from .delivery import UNLOADED, Delivery, Group
from .engine import Extent, StorageEngine, Stored
from .message import Message
from .policy import QueuePolicy
from .queue import Lost, Queue

if TYPE_CHECKING:
    from .router import Binding
    from .selector import Selector

SELECTED_LOAD_MIN = 100  # messages: what a group with a selector looks at together, one read of a block
PASSED_PER_TAKE_MAX = 2000  # messages that do not match: some milliseconds, then others have their turn
HEADS_LOADED = 100  # messages at the head that retention looks at together


class StreamQueue(Queue):
    """Kept by retention; settled only moves a group's cursor."""

    kind = "stream"

    __slots__ = (
        "_groups",
        "_heads",
        "_selectors",
        "compaction",
        "count",
        "first_offset",
        "recent",
        "retained",
    )

    def __init__(
        self,
        name: str,
        queue_id: int,
        policy: QueuePolicy,
        engine: StorageEngine,
        auto_delete: bool = False,
    ) -> None:
        super().__init__(name, queue_id, policy, engine, auto_delete)
        self._groups: dict[str, Group] = {}
        self._selectors: dict[str, Selector] = {}  # of groups that are not made yet
        self.recent: deque[Stored] = deque()
        self._heads: deque[Stored] = deque()  # the oldest, as far as retention has looked
        self.first_offset = 0
        self.count = 0
        self.compaction = Compaction() if policy.compact else None

    def set_policy(self, policy: QueuePolicy) -> None:
        super().set_policy(policy)
        self.retained = bool(policy.max_length or policy.max_bytes or policy.max_age_ms)

    # -- groups -------------------------------------------------------------------------------

    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def group(self, name: str, start: int | None = None) -> Group:
        """Return a group, made at offset `start` (None: the next message to come) if new."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(self, name)
            group.cursor = self.next_offset if start is None else self.clamp(start)
            group.selector = self._selectors.pop(name, None)
        return group

    def selector_of(self, name: str) -> Selector | None:
        """Return the selector of a group, also of one that is not made yet."""
        group = self._groups.get(name)
        return group.selector if group is not None else self._selectors.get(name)

    def restore_selector(self, name: str, selector: Selector) -> None:
        """A group has this selector; if it has no position yet, once it is made."""
        group = self._groups.get(name)
        if group is None:
            self._selectors[name] = selector
        else:
            group.selector = selector

    def find_group(self, name: str) -> Group | None:
        """Return a group, or None."""
        return self._groups.get(name)

    def remove_group(self, name: str) -> None:
        """Forget a group and its cursor."""
        self._groups.pop(name, None)

    def clamp(self, offset: int) -> int:
        """Return the offset, or the nearest one that exists or comes next."""
        return min(max(offset, self.first_offset), self.next_offset)

    def offset_at(self, time_ms: int) -> int:
        """Return the offset of the first kept message stored at that time (Unix ms) or later."""
        if self.queue_id:
            return self.engine.offset_at(self.queue_id, time_ms)
        return self.first_offset + bisect_left(self.recent, time_ms, key=_stored_at)

    def floor(self, group: Group) -> int:
        """Return the offset below which the group has settled everything: what is journalled."""
        floor = group.cursor
        for offset in group.unsettled:
            floor = min(floor, offset)
        for offset in group.parked:
            floor = min(floor, offset)
        for delivery in group.redeliver:
            floor = min(floor, delivery.offset)
        return floor if group.order is None else group.order.floor(floor)

    def depth(self, group: Group) -> int:
        return self.fresh(group) + (group.order.count if group.order is not None else 0)

    def fresh(self, group: Group) -> int:
        return len(group.redeliver) + self.next_offset - max(group.cursor, self.first_offset)

    def length(self) -> int:
        return self.count

    # -- in and out ---------------------------------------------------------------------------

    def put(self, message: Message, position: int, binding: Binding | None, now_ms: int) -> None:
        size = len(message.body)
        recent = self.recent
        if not position or self.active:
            recent.append(Stored(self.next_offset, position, message, size, 0, 0, now_ms))
            if position and len(recent) > self.memory_messages_max:
                recent.popleft()
        elif recent:
            recent.clear()  # it must reach up to the newest
        if self.compaction is not None:
            self._replace(self.compaction, message, Place(self.next_offset, position, size), now_ms)
        self.next_offset += 1
        self.count += 1
        self.bytes_waiting += size

    def _replace(self, compaction: Compaction, message: Message, place: Place, now_ms: int) -> None:
        """The message before it of its key counts no more, though it goes only once this is written."""
        old = compaction.put(message, place, now_ms)
        if old is not None:
            self._uncount(old)

    def _uncount(self, place: Place) -> None:
        self.count -= 1
        self.bytes_waiting -= place.size
        self._heads.clear()
        recent = self.recent
        if recent and place.offset >= recent[0].offset:
            at = place.offset - recent[0].offset
            recent[at] = recent[at]._replace(message=None)

    def make_room(self, size: int) -> list[Lost]:
        # Trimming is what retention promised, not a loss.
        return []

    def trim(self, now_ms: int) -> int:
        """Apply retention; return how many messages are kept no longer."""
        policy = self.policy
        before = self.count
        if self.compaction is not None and self.compaction.replacing:
            return 0  # the index has got them still: once they are gone
        if policy.max_length and self.next_offset - self.first_offset == self.count > policy.max_length:
            self._cut(self.next_offset - policy.max_length)  # all are there: no need to look
        if not (policy.max_bytes or policy.max_age_ms or self.count > policy.max_length > 0):
            return before - self.count
        first, count, size = self.first_offset, self.count, self.bytes_waiting
        while (head := self._head(first)) is not None:
            old = policy.max_age_ms and head.stored_at_ms + policy.max_age_ms <= now_ms
            many = policy.max_length and count > policy.max_length
            if not old and not many and not (policy.max_bytes and size > policy.max_bytes):
                break
            count -= 1
            size -= head.size
            first = head.offset + 1
        if first > self.first_offset:
            self._cut(first)
        return before - self.count

    def _head(self, first: int) -> Stored | None:
        """Return the oldest message from an offset on."""
        heads = self._heads if self.queue_id else self.recent
        while self.queue_id and heads and heads[0].offset < first:
            heads.popleft()
        if self.queue_id:
            if not heads:
                heads.extend(self.engine.at(self.queue_id, first, HEADS_LOADED))
            return heads[0] if heads else None
        index = first - self.first_offset
        return heads[index] if index < len(heads) else None

    def _cut(self, first: int) -> None:
        """Let everything below an offset go."""
        recent = self.recent
        while recent and recent[0].offset < first:
            gone = recent.popleft()
            if not self.queue_id:
                self.count -= 1
                self.bytes_waiting -= gone.size
        self.first_offset = first
        if self.queue_id:
            self.engine.trim(self.queue_id, first)
            extent = self.engine.extent(self.queue_id)
            self.count, self.bytes_waiting = extent.messages, extent.size
            if self.compaction is not None:
                self.compaction.cut(first)

    def take(self, group: Group, count: int, now_ms: int) -> list[Delivery]:
        batch: list[Delivery] = []
        while group.redeliver and len(batch) < count:
            delivery = group.redeliver.pop(0)
            if delivery.offset >= self.first_offset and not 0 < delivery.message.expires_at_ms <= now_ms:
                batch.append(delivery)
        group.cursor = max(group.cursor, self.first_offset)
        if group.selector is not None:
            self._take_selected(group, group.selector, count, now_ms, batch)
            return batch
        while group.cursor < self.next_offset and len(batch) < count:
            found = self._from(group.cursor, count - len(batch))
            if not found:
                group.cursor = self.next_offset
            for offset, position, message, size, *_ in found:
                group.cursor = offset + 1
                if message is None or 0 < message.expires_at_ms <= now_ms:
                    continue  # damaged, or still kept and browsable but nobody wants it any more
                group.forget(offset)  # after a seek back somebody may still hold it
                group.parked.pop(offset, None)
                batch.append(Delivery(group, offset, position, message, size))
        return batch

    def _take_selected(
        self, group: Group, selector: Selector, count: int, now_ms: int, batch: list[Delivery]
    ) -> None:
        """Take up to `count` that match; what does not is passed over, some of it in one call."""
        matches = selector.matches
        left = PASSED_PER_TAKE_MAX
        while group.cursor < self.next_offset and len(batch) < count and left > 0:
            found = self._from(group.cursor, max(count - len(batch), SELECTED_LOAD_MIN))
            if not found:
                group.cursor = self.next_offset
            for offset, position, message, size, *_ in found:
                if len(batch) >= count or left <= 0:
                    break
                group.cursor = offset + 1
                group.forget(offset)
                group.parked.pop(offset, None)
                left -= 1
                if message is None or 0 < message.expires_at_ms <= now_ms or not matches(message):
                    continue
                batch.append(Delivery(group, offset, position, message, size))

    def _from(self, offset: int, count: int) -> list[Stored]:
        """Return the first messages from an offset on: some of them, at most `count`."""
        recent = self.recent
        if recent and offset >= recent[0].offset:
            start = offset - recent[0].offset
            return list(islice(recent, start, start + count))
        return self.engine.at(self.queue_id, offset, count) if self.queue_id else []

    def has_passed(self, group: Group, offset: int) -> bool:
        return offset < group.cursor

    def revive(self, group: Group, delivery: Delivery, now_ms: int) -> bool:
        if delivery.offset < self.first_offset:
            return False  # retention has trimmed it
        if delivery.message is UNLOADED:
            found = self._from(delivery.offset, 1)
            if not found or found[0].offset != delivery.offset or found[0].message is None:
                return False
            delivery.message = found[0].message
        return not 0 < delivery.message.expires_at_ms <= now_ms

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

    def restore(self, extent: Extent) -> None:
        self.first_offset, self.next_offset = extent.first, extent.next
        self.count, self.bytes_waiting = extent.messages, extent.size
        if self.compaction is not None:
            self._find_last(self.compaction)

    def _find_last(self, compaction: Compaction) -> None:
        """Read what there is for its keys; of a key that is there twice, the first has been replaced."""
        position = 0
        while found := self.engine.after(self.queue_id, position, HEADS_LOADED):
            position = found[-1].position
            for entry in found:
                if entry.message is not None:
                    place = Place(entry.offset, entry.position, entry.size)
                    self._replace(compaction, entry.message, place, entry.stored_at_ms)

    def sweep(self, now_ms: int) -> list[Lost]:
        if self.queue_id and not self.active and self.recent:
            self.recent.clear()
        if self.retained:
            self.trim(now_ms)
        return []

    def bury(self, now_ms: int) -> bool:
        """In a compacted stream, let keys go that are said to be gone; tell whether there were any."""
        places = self.compaction.bury(now_ms) if self.compaction is not None else []
        for place in places:
            self._uncount(place)
        return bool(places)

    def clear(self) -> int:
        count = self.count
        self.first_offset = self.next_offset
        self.recent.clear()
        self._heads.clear()
        self.count = self.bytes_waiting = 0
        if self.compaction is not None:
            self.compaction.clear()
        for group in self._groups.values():
            group.redeliver.clear()
            group.parked.clear()
            group.cursor = self.next_offset
            if group.order is not None:
                group.order.clear()
        return count

    def forget_from(self, position: int) -> int:
        before = self.next_offset
        while self.recent and self.recent[-1].position >= position:
            self.recent.pop()
        while self._heads and self._heads[-1].position >= position:
            self._heads.pop()
        extent = self.engine.extent(self.queue_id)
        self.next_offset, self.count, self.bytes_waiting = extent.next, extent.messages, extent.size
        self.first_offset = min(self.first_offset, extent.next)
        if self.compaction is not None:
            self.compaction.rolled_back()
            self.recent.clear()  # some of it was taken for replaced
        for group in self._groups.values():
            self._forget_beyond(group)
        return before - self.next_offset

    def _forget_beyond(self, group: Group) -> None:
        """Take from a group what it has of messages that do not exist any more: offsets come again."""
        end = self.next_offset
        group.cursor = min(group.cursor, end)
        if group.order is not None:
            group.order.forget_from(end, True)
        for offset in [offset for offset in group.unsettled if offset >= end]:
            group.forget(offset)
        for offset in [offset for offset in group.parked if offset >= end]:
            del group.parked[offset]
        group.redeliver = [delivery for delivery in group.redeliver if delivery.offset < end]

    def browse(self, start: int, count: int) -> list[tuple[int, Message, int]]:
        found: list[tuple[int, Message, int]] = []
        at = self.clamp(start)
        while len(found) < count and at < self.next_offset:
            entries = self._from(at, count - len(found))
            if not entries:
                break
            found += [(e.offset, e.message, 0) for e in entries if e.message is not None]
            at = entries[-1].offset + 1
        return found


def _stored_at(kept: Stored) -> int:
    return kept.stored_at_ms
