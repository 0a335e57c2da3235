"""Queues: ordered lists of references to messages, for competing consumers.

`Queue` is what both kinds share; `ClassicQueue` (here) forgets what is settled,
`StreamQueue` (stream.py) keeps everything its retention allows. A queue never calls the
broker: what must go up (messages it gave up on) is returned, or left in `lost` to be
collected after a pump.

Bodies: up to `memory_messages_max` waiting messages are held in memory; beyond that a
durable queue keeps only positions and reads the log when their turn comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .delivery import Delivery, Group
from .message import Message, Outcome
from .metrics import DropCause
from .policy import REJECT, QueuePolicy

if TYPE_CHECKING:
    from .router import Binding

MEMORY_MESSAGES_MAX = 1000  # a window's worth: what the next turns will hand out

#: A message that was given up on: message, cause, attempts made, log position.
Lost = tuple[Message, DropCause, int, int]


class Queue:
    """What every kind of queue has. `queue_id` 0 means not durable: nothing is logged."""

    kind = ""

    __slots__ = (
        "active",
        "auto_delete",
        "bytes_waiting",
        "journal",
        "limited",
        "lost",
        "memory_messages_max",
        "name",
        "next_offset",
        "policy",
        "queue_id",
        "read",
        "unusual",
    )

    policy: QueuePolicy
    limited: bool
    unusual: bool  # publishing to it is more than `make_room` and `put`

    def __init__(
        self,
        name: str,
        queue_id: int,
        policy: QueuePolicy,
        read: Callable[[int], Message],
        auto_delete: bool = False,
    ) -> None:
        self.name = name
        self.queue_id = queue_id
        self.active: list[Group] = []  # groups that have consumers
        self.set_policy(policy)
        self.read = read  # position -> message, for what is not in memory
        self.auto_delete = auto_delete  # goes when its last consumer goes
        self.next_offset = 0
        self.bytes_waiting = 0
        self.memory_messages_max = MEMORY_MESSAGES_MAX
        self.lost: list[Lost] = []  # what take() found expired
        self.journal: Callable[[int, int, int], None] | None = None  # engine.delivered, if durable

    def set_policy(self, policy: QueuePolicy) -> None:
        """Change the policy; it holds from the next message on."""
        self.policy = policy
        self.limited = bool(policy.max_length or policy.max_bytes)  # else publish need not ask `full`
        self.unusual = self.kind == "stream" or (self.limited and policy.overflow == REJECT)

    @property
    def durable(self) -> bool:
        """Whether its messages are logged."""
        return self.queue_id != 0

    def groups(self) -> list[Group]:
        """Return all groups."""
        raise NotImplementedError

    def depth(self, group: Group) -> int:
        """Return how many messages wait for that group."""
        raise NotImplementedError

    def length(self) -> int:
        """Return how many messages the queue holds that are in nobody's hands."""
        raise NotImplementedError

    def full(self, size: int) -> bool:
        """Tell whether a body of `size` bytes would go over a limit."""
        policy = self.policy
        if policy.max_length and self.length() >= policy.max_length:
            return True
        return bool(policy.max_bytes) and self.bytes_waiting + size > policy.max_bytes

    def put(self, message: Message, position: int, binding: Binding | None, now_ms: int) -> None:
        """Append a message."""
        raise NotImplementedError

    def make_room(self, size: int) -> list[Lost]:
        """Drop from the head until a body of `size` fits; return what was dropped."""
        raise NotImplementedError

    def take(self, group: Group, count: int, now_ms: int) -> list[Delivery]:
        """Hand out up to `count` messages; expired ones go to `lost` instead."""
        raise NotImplementedError

    def give_back(self, delivery: Delivery, outcome: Outcome) -> Lost | None:
        """Take back what was not acknowledged, or return it as lost."""
        attempts = delivery.attempt - 1 if outcome is Outcome.RETRY else delivery.attempt
        limit = self.policy.delivery_limit
        if outcome is Outcome.REJECT:
            return (delivery.message, DropCause.REJECTED, attempts, delivery.position)
        if limit and attempts >= limit:
            return (delivery.message, DropCause.DELIVERY_LIMIT, attempts, delivery.position)
        self.put_back(delivery.again(attempts))
        return None

    def put_back(self, delivery: Delivery) -> None:
        """Return a delivery to its place in the order."""
        raise NotImplementedError

    def restore(self, position: int, size: int, attempts: int, tag: int, stored_at_ms: int) -> None:
        """Append what recovery found, in order."""
        raise NotImplementedError

    def sweep(self, now_ms: int) -> list[Lost]:
        """Remove what has expired at the head."""
        raise NotImplementedError

    def clear(self) -> list[int]:
        """Drop everything that waits; return the log positions."""
        raise NotImplementedError

    def forget_from(self, position: int) -> int:
        """Drop entries whose record, at or after `position`, could not be written."""
        raise NotImplementedError

    def browse(self, start: int, count: int) -> list[tuple[int, Message, int]]:
        """Return (offset, message, attempts) of waiting messages without touching them."""
        raise NotImplementedError


class ClassicQueue(Queue):
    """Settled is gone. One group, without a name."""

    kind = "classic"

    __slots__ = ("group", "waiting")

    def __init__(
        self,
        name: str,
        queue_id: int,
        policy: QueuePolicy,
        read: Callable[[int], Message],
        auto_delete: bool = False,
    ) -> None:
        super().__init__(name, queue_id, policy, read, auto_delete)
        self.group = Group(self)
        self.waiting: deque[Delivery] = deque()

    def groups(self) -> list[Group]:
        return [self.group]

    def depth(self, group: Group) -> int:
        return len(self.waiting)

    def length(self) -> int:
        return len(self.waiting)

    def full(self, size: int) -> bool:
        policy = self.policy
        if policy.max_length and len(self.waiting) >= policy.max_length:
            return True
        return policy.max_bytes > 0 and self.bytes_waiting + size > policy.max_bytes

    def put(self, message: Message, position: int, binding: Binding | None, now_ms: int) -> None:
        offset = self.next_offset
        self.next_offset = offset + 1
        ttl_ms = self.policy.ttl_ms
        waiting = self.waiting
        size = len(message.body)
        self.bytes_waiting += size
        kept = message if not position or len(waiting) < self.memory_messages_max else None
        expires_at_ms = now_ms + ttl_ms if ttl_ms else 0
        waiting.append(Delivery(self.group, offset, position, kept, size, 0, binding, 0, expires_at_ms))

    def make_room(self, size: int) -> list[Lost]:
        lost: list[Lost] = []
        while self.waiting and self.full(size):
            lost.append(self._drop_head(DropCause.QUEUE_FULL))
        return lost

    def take(self, group: Group, count: int, now_ms: int) -> list[Delivery]:
        batch: list[Delivery] = []
        waiting = self.waiting
        taken_bytes = 0
        while waiting and count:
            delivery = waiting.popleft()
            taken_bytes += delivery.size
            message = delivery.stored
            if message is None:
                message = delivery.stored = self.read(delivery.position)
            expires_at_ms = message.expires_at_ms
            if expires_at_ms or delivery.expires_at_ms:
                if 0 < expires_at_ms <= now_ms or 0 < delivery.expires_at_ms <= now_ms:
                    self.lost.append((message, DropCause.EXPIRED, delivery.attempt, delivery.position))
                    continue
            batch.append(delivery)
            count -= 1
        self.bytes_waiting -= taken_bytes
        return batch

    def put_back(self, delivery: Delivery) -> None:
        waiting = self.waiting
        self.bytes_waiting += delivery.size
        if not waiting or delivery.offset < waiting[0].offset:
            waiting.appendleft(delivery)
            return
        # Rare (several consumers, out of order): find the place from the head.
        index = 0
        for other in waiting:
            if other.offset > delivery.offset:
                break
            index += 1
        waiting.insert(index, delivery)

    def restore(self, position: int, size: int, attempts: int, tag: int, stored_at_ms: int) -> None:
        ttl_ms = self.policy.ttl_ms
        expires_at_ms = stored_at_ms + ttl_ms if ttl_ms else 0
        offset = self.next_offset
        self.waiting.append(
            Delivery(self.group, offset, position, None, size, attempts, None, tag, expires_at_ms)
        )
        self.next_offset += 1
        self.bytes_waiting += size

    def sweep(self, now_ms: int) -> list[Lost]:
        lost: list[Lost] = []
        while self.waiting:
            head = self.waiting[0]
            message = head.stored
            by_itself = message is not None and 0 < message.expires_at_ms <= now_ms
            if not by_itself and not 0 < head.expires_at_ms <= now_ms:
                break
            lost.append(self._drop_head(DropCause.EXPIRED))
        return lost

    def clear(self) -> list[int]:
        positions = [delivery.position for delivery in self.waiting]
        self.waiting.clear()
        self.bytes_waiting = 0
        return positions

    def forget_from(self, position: int) -> int:
        kept: deque[Delivery] = deque()
        count = 0
        for delivery in self.waiting:
            if delivery.position >= position:
                self.bytes_waiting -= delivery.size
                count += 1
            else:
                kept.append(delivery)
        if count:
            self.waiting = kept
        return count

    def browse(self, start: int, count: int) -> list[tuple[int, Message, int]]:
        found: list[tuple[int, Message, int]] = []
        for delivery in self.waiting:
            if len(found) >= count:
                break
            if delivery.offset >= start:
                found.append((delivery.offset, delivery.message, delivery.attempt))
        return found

    def _drop_head(self, cause: DropCause) -> Lost:
        head = self.waiting.popleft()
        self.bytes_waiting -= head.size
        return (head.message, cause, head.attempt, head.position)
