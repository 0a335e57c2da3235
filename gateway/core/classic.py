"""Classic queues: settled is gone. One group, without a name.

`waiting` is the head of the queue, in memory; behind it come `behind` messages that only the
engine's index knows. A durable queue without consumers has everything behind: it costs a few
hundred bytes however much waits in it. The head is loaded when consumers ask for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from .delivery import UNLOADED, Delivery, Group, by_offset
from .engine import Extent, StorageEngine, stored_at
from .message import Message
from .metrics import DropCause
from .policy import QueuePolicy
from .queue import Lost, Queue

if TYPE_CHECKING:
    from .router import Binding

LOAD_MIN = 100  # messages: what one look into the index brings in at least
NEVER_MS = 1 << 62

_UNREADABLE = Message("", b"")
_NOTHING: deque[Delivery] = deque()  # nobody's: a queue gets a deque of its own with its first message


class ClassicQueue(Queue):
    """An ordered list with competing consumers."""

    kind = "classic"

    __slots__ = ("_group", "_loaded", "_quiet_until_ms", "_retained", "aside", "behind", "waiting")

    def __init__(
        self,
        name: str,
        queue_id: int,
        policy: QueuePolicy,
        engine: StorageEngine,
        auto_delete: bool = False,
    ) -> None:
        super().__init__(name, queue_id, policy, engine, auto_delete)
        self._group: Group | None = None  # made when there is something for it to do
        self.waiting: deque[Delivery] = _NOTHING
        self.behind = 0
        self.aside = 0  # in the group's order
        self._loaded = 0  # what is behind lies above this position
        self._quiet_until_ms = 0  # without consumers: when its head expires
        self._retained: dict[int, Binding] | None = None  # of what is behind, if sent as retained

    @property
    def group(self) -> Group:
        """The one group. Keep it only while it has a consumer or deliveries: then it stays the same."""
        group = self._group
        if group is None:
            group = self._group = Group(self)
        return group

    def groups(self) -> list[Group]:
        return [self.group]

    def depth(self, group: Group) -> int:
        return len(self.waiting) + self.behind + self.aside

    def length(self) -> int:
        return len(self.waiting) + self.behind + self.aside

    def fresh(self, group: Group) -> int:
        return len(self.waiting) + self.behind

    def full(self, size: int) -> bool:
        policy = self.policy
        if policy.max_length and len(self.waiting) + self.behind + self.aside >= policy.max_length:
            return True
        return policy.max_bytes > 0 and self.bytes_waiting + size > policy.max_bytes

    def set_policy(self, policy: QueuePolicy) -> None:
        super().set_policy(policy)
        self._quiet_until_ms = 0

    def quiet(self) -> None:
        """Nothing that is in it now expires: it need not be looked at."""
        self._quiet_until_ms = NEVER_MS

    # -- in and out ---------------------------------------------------------------------------

    def put(self, message: Message, position: int, binding: Binding | None, now_ms: int) -> None:
        size = len(message.body)
        self.bytes_waiting += size
        waiting = self.waiting
        if position and (self.behind or not self.active or len(waiting) >= self.memory_messages_max):
            if not self.behind:
                self._quiet_until_ms = 0
            self.behind += 1
            self.next_offset += 1
            if binding is not None and binding.retained:
                self._note_retained(position, binding)
            return
        if waiting is _NOTHING:
            waiting = self.waiting = deque()
        offset = self.next_offset
        self.next_offset = offset + 1
        ttl_ms = self.policy.ttl_ms
        expires_at_ms = now_ms + ttl_ms if ttl_ms else 0
        if position:
            self._loaded = position
        group = self._group or self.group
        waiting.append(Delivery(group, offset, position, message, size, 0, binding, 0, expires_at_ms))

    def make_room(self, size: int) -> list[Lost]:
        lost = self._drop_aside(size) if self.aside else []
        while self.full(size) and (self.waiting or self._load(LOAD_MIN)):
            lost.append(self._drop_head(DropCause.QUEUE_FULL))
        return lost + self._take_lost()

    def _drop_aside(self, size: int) -> list[Lost]:
        """Make room for a body: what waits in the order came before the rest."""
        lost: list[Lost] = []
        order = self.group.order
        while order is not None and self.full(size):
            oldest = order.oldest()
            if oldest is None:
                break
            cause = DropCause.QUEUE_FULL if self._read(oldest) else DropCause.UNREADABLE
            self.let_go(oldest)
            lost.append((oldest, cause))
        return lost

    def take(self, group: Group, count: int, now_ms: int) -> list[Delivery]:
        batch: list[Delivery] = []
        waiting = self.waiting
        taken_bytes = 0
        while count:
            if not waiting:
                if not self.behind or not self._load(count):
                    break
                waiting = self.waiting
            delivery = waiting.popleft()
            taken_bytes += delivery.size
            expires_at_ms = delivery.message.expires_at_ms
            if expires_at_ms or delivery.expires_at_ms:
                if 0 < expires_at_ms <= now_ms or 0 < delivery.expires_at_ms <= now_ms:
                    self._lose(delivery, DropCause.EXPIRED)
                    continue
            batch.append(delivery)
            count -= 1
        self.bytes_waiting -= taken_bytes
        self._quiet_until_ms = 0
        return batch

    def put_back(self, delivery: Delivery) -> None:
        waiting = self.waiting
        if waiting is _NOTHING:
            waiting = self.waiting = deque()
        self.bytes_waiting += delivery.size
        self._quiet_until_ms = 0
        if not waiting or delivery.offset < waiting[0].offset:
            waiting.appendleft(delivery)
            return
        # Rare (several consumers, out of order)
        waiting.insert(bisect_left(waiting, delivery.offset, key=by_offset), delivery)

    def set_aside(self, count: int, size: int) -> None:
        self.aside += count
        self.bytes_waiting += size

    def _aside_size(self) -> int:
        """Return how many bytes wait in the order."""
        return self._group.order.size if self._group is not None and self._group.order is not None else 0

    def revive(self, group: Group, delivery: Delivery, now_ms: int) -> bool:
        if not self._read(delivery):
            self._lose(delivery, DropCause.UNREADABLE)
            return False
        if delivery.expired(now_ms):
            self._lose(delivery, DropCause.EXPIRED)
            return False
        return True

    def _read(self, delivery: Delivery) -> bool:
        """Read again what waited in the order without its message; False if that is not possible."""
        if delivery.message is not UNLOADED:
            return True
        entry, ttl_ms = stored_at(self.engine, self.queue_id, delivery.position), self.policy.ttl_ms
        if entry is None or entry.message is None:
            return False
        delivery.message = entry.message
        delivery.attempt, delivery.tag = entry.attempts, entry.tag
        delivery.expires_at_ms = entry.stored_at_ms + ttl_ms if ttl_ms else 0
        return True

    def withdraw(self, size: int) -> bool:
        """Let go of a message of that size that nobody has in hands, and that is settled elsewhere."""
        if self.waiting:
            self.unload()
        if not self.behind:
            return False
        self.behind -= 1
        self.bytes_waiting -= size
        return True

    def take_out(self, position: int) -> Delivery | None:
        """Take a waiting message from where it is; None if it does not wait. Have it settled in this turn.

        Its offset is -1 if nobody had it in memory: then `forget_from` counts it as waiting again.
        """
        for index, delivery in enumerate(self.waiting):
            if delivery.position == position:
                del self.waiting[index]
                self.bytes_waiting -= delivery.size
                self.let_go(delivery)
                return delivery
        leaving = self.group.leaving
        if not self.behind or position <= self._loaded or (leaving and position in leaving):
            return None
        found = stored_at(self.engine, self.queue_id, position)
        if found is None or found.message is None:
            return None
        taken = Delivery(self.group, -1, position, found.message, found.size, found.attempts)
        self.behind -= 1
        self.bytes_waiting -= taken.size
        self.let_go(taken)
        return taken

    def clear(self) -> int:
        count = self.length()
        if self._group is not None and self._group.order is not None:
            self._group.order.clear()
        self.waiting = _NOTHING
        self.behind = 0
        self.bytes_waiting = 0
        self._retained = None
        if self.queue_id:
            self._loaded = self.engine.position()
        return count

    def _drop_head(self, cause: DropCause) -> Lost:
        head = self.waiting.popleft()
        self.bytes_waiting -= head.size
        self._quiet_until_ms = 0
        self.let_go(head)
        return (head, cause)

    def _lose(self, delivery: Delivery, cause: DropCause) -> None:
        """Leave something to be collected."""
        self.let_go(delivery)
        self.lost = [*self.lost, (delivery, cause)]

    def _take_lost(self) -> list[Lost]:
        lost, self.lost = self.lost, ()
        return list(lost)

    def let_go(self, delivery: Delivery) -> None:
        """It has been given up, though the index has it still."""
        if not delivery.position:
            return
        group = self.group
        if group.leaving is None:
            group.leaving = set()
        group.leaving.add(delivery.position)

    def gone(self, delivery: Delivery) -> None:
        """It has been settled, or is to be put back."""
        group = self._group
        if group is not None and group.leaving is not None:
            group.leaving.discard(delivery.position)

    # -- between memory and index -------------------------------------------------------------

    def _load(self, count: int) -> bool:
        """Bring the next part of what is behind into memory; False if none of it could be read."""
        count = min(max(count, LOAD_MIN), self.memory_messages_max)
        found = self.engine.after(self.queue_id, self._loaded, count)
        if not found:
            self._lose_behind()
            return False
        ttl_ms = self.policy.ttl_ms
        waiting = self.waiting
        if waiting is _NOTHING:
            waiting = self.waiting = deque()
        retained, group = self._retained, self.group
        leaving = group.leaving
        for entry in found:
            position = entry.position
            if leaving and position in leaving:
                continue  # taken out, though not settled yet
            binding = retained.pop(position, None) if retained else None
            delivery = Delivery(
                group,
                self.next_offset - self.behind,
                position,
                entry.message or _UNREADABLE,
                entry.size,
                entry.attempts,
                binding,
                entry.tag,
                entry.stored_at_ms + ttl_ms if ttl_ms else 0,
            )
            self.behind -= 1
            if entry.message is not None:
                waiting.append(delivery)
            else:
                self.bytes_waiting -= entry.size
                self._lose(delivery, DropCause.UNREADABLE)
        self._loaded = found[-1].position
        return bool(waiting)

    def _lose_behind(self) -> None:
        """The index has lost them: damage that went unnoticed until now."""
        extent = self.engine.extent(self.queue_id, self._loaded)
        lost, self.behind = self.behind - extent.messages, extent.messages
        in_memory = sum(delivery.size for delivery in self.waiting)
        self.bytes_waiting = extent.size + in_memory + self._aside_size()
        for _ in range(lost):
            self._lose(Delivery(self.group, self.next_offset, 0, _UNREADABLE, 0), DropCause.UNREADABLE)

    def unload(self) -> None:
        """Leave to the index what nobody has touched yet: nobody is there to consume it."""
        waiting = self.waiting
        group = self._group
        held = max((delivery.position for delivery in self.held()), default=0) if group else 0
        if group is not None and group.leaving:
            held = max(held, *group.leaving)
        order = group.order if group is not None else None
        if order is not None:
            held = max(held, order.newest())
        while waiting:
            last = waiting[-1]
            if last.position <= held or last.attempt:
                return  # of these the index does not know all
            if last.offset != self.next_offset - self.behind - 1:
                return  # it came back after a later one was settled: behind, offsets have no gaps
            waiting.pop()
            self.behind += 1
            self._loaded = last.position - 1
            if last.binding is not None and last.binding.retained:
                self._note_retained(last.position, last.binding)
        self.waiting = _NOTHING
        if not held:
            self._loaded = 0  # all there is lies behind
            idle = group is None or not (group.unsettled or group.parked)  # as of what is not in the log
            if idle and (order is None or not order.keys):
                self._group = None

    def _note_retained(self, position: int, binding: Binding) -> None:
        """Remember that it goes out as a retained message [MQTT-3.3.1-8]; the index does not."""
        if self._retained is None:
            self._retained = {}
        self._retained[position] = binding

    def restore(self, extent: Extent) -> None:
        self.behind = extent.messages
        self.bytes_waiting = extent.size
        self.next_offset = extent.next

    def forget_from(self, position: int) -> int:
        before = self.length()
        if self._group is not None and self._group.order is not None:
            self._group.order.forget_from(position, False)
        self._unlog(position)
        kept = [delivery for delivery in self.waiting if delivery.position < position]
        self.waiting = deque(kept) if kept else _NOTHING
        self._loaded = min(self._loaded, position - 1)
        extent = self.engine.extent(self.queue_id, self._loaded)
        self.behind = extent.messages
        self.bytes_waiting = extent.size + sum(delivery.size for delivery in kept) + self._aside_size()
        return before - self.length()

    def _unlog(self, position: int) -> None:
        """What is in hands of it stays there, but settles nothing: its position will be another message's."""
        group = self._group
        if group is not None:
            for delivery in (*group.unsettled.values(), *group.parked.values()):
                if delivery.position >= position:
                    delivery.position = 0

    # -- looking ------------------------------------------------------------------------------

    def sweep(self, now_ms: int) -> list[Lost]:
        if self.aside:
            self._expire_aside(now_ms)
        idle = self.queue_id != 0 and not self.active
        if idle and now_ms < self._quiet_until_ms and self.waiting is _NOTHING:
            return self._take_lost()
        lost: list[Lost] = []
        quiet_until_ms = NEVER_MS
        while self.waiting or (self.behind and self._load(1)):
            head = self.waiting[0]
            due = [at for at in (head.message.expires_at_ms, head.expires_at_ms) if at]
            if not due or min(due) > now_ms:
                quiet_until_ms = min(due, default=NEVER_MS)
                break
            lost.append(self._drop_head(DropCause.EXPIRED))
        if idle:
            self.unload()
            self._quiet_until_ms = quiet_until_ms
        return lost + self._take_lost()

    def _expire_aside(self, now_ms: int) -> None:
        order = self.group.order
        for delivery in order.expired(now_ms) if order is not None else ():
            self._lose(delivery, DropCause.EXPIRED)

    def browse_aside(self, start: int) -> list[Delivery]:
        """Return what waits in the order, from an offset on, in order of offsets."""
        order = self.group.order
        return sorted((d for d in order.waiting() if d.offset >= start), key=by_offset) if order else []

    def _in_order(self, start: int, count: int) -> list[Delivery]:
        """Return what waits and was in memory once, from an offset on: at most `count`, readable."""
        waiting = [delivery for delivery in self.waiting if delivery.offset >= start]
        both = sorted([*waiting, *self.browse_aside(start)], key=by_offset)
        return [delivery for delivery in both[:count] if self._read(delivery)]

    def browse(self, start: int, count: int) -> list[tuple[int, Message, int]]:
        found: list[tuple[int, Message, int]] = []
        for delivery in self._in_order(start, count) if self.aside else self.waiting:
            if len(found) >= count:
                return found
            if delivery.offset >= start:
                found.append((delivery.offset, delivery.message, delivery.attempt))
        if self.behind and len(found) < count:
            self._browse_behind(max(start, self.next_offset - self.behind), count, found)
        return found

    def _browse_behind(self, start: int, count: int, found: list[tuple[int, Message, int]]) -> None:
        """Look at what is behind, where offsets are the index's but for a constant."""
        entries = self.engine.after(self.queue_id, self._loaded, 1)
        difference = self.next_offset - self.behind - entries[0].offset
        at = start - difference
        while len(found) < count and start < self.next_offset:
            entries = self.engine.at(self.queue_id, at, count - len(found))
            if not entries:
                return
            found += [
                (e.offset + difference, e.message, e.attempts) for e in entries if e.message is not None
            ]
            at = entries[-1].offset + 1
