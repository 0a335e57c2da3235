"""Queues: ordered lists of references to messages, for competing consumers.

`Queue` is what every kind shares; `ClassicQueue` (classic.py) forgets what is settled,
`StreamQueue` (stream.py) keeps everything its retention allows. A queue never calls the
broker: what must go up (messages it gave up on) is returned, or left in `lost` to be
collected after a pump.

What a durable queue holds is in the engine's index; in memory is only what its consumers
will be handed next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .delivery import Delivery, Group
from .engine import Extent, StorageEngine
from .errors import Conflict
from .message import Message, Origin
from .metrics import DropCause
from .policy import DROP_HEAD, QueuePolicy
from .topic import SHARE_PREFIX, VHOST_PREFIX, WEBHOOK_PREFIX

if TYPE_CHECKING:
    from .router import Binding, Route

MEMORY_MESSAGES_MAX = 1000  # a window's worth: what the next turns will hand out

ORDERED = (SHARE_PREFIX, VHOST_PREFIX, WEBHOOK_PREFIX)  # of clients' queues, though they begin with a `$`

#: A message that was given up on. Its `attempt` counts the deliveries made.
Lost = tuple[Delivery, DropCause]


class Letters(Protocol):
    """Makes dead letters in a protocol's own way: for an exchange, with the headers that AMQP has for it."""

    def letter(
        self, queue: Queue, delivery: Delivery, cause: DropCause
    ) -> tuple[Message, Route | None] | None:
        """Return the dead letter of a message, and the way it takes; None if it has none."""


class Queue:
    """What every kind of queue has. `queue_id` 0 means not durable: nothing is logged."""

    kind = ""

    __slots__ = (
        "active",
        "auto_delete",
        "bytes_waiting",
        "creator",
        "engine",
        "leased",
        "letters",
        "limited",
        "lost",
        "memory_messages_max",
        "name",
        "next_offset",
        "ordered",
        "policy",
        "queue_id",
        "unusual",
        "used_ms",
    )

    policy: QueuePolicy
    limited: bool
    unusual: bool  # publishing to it is more than `make_room` and `put`
    ordered: bool  # by key: see `order.py`
    leased: bool  # what consumers hold for too long is taken back

    def __init__(
        self,
        name: str,
        queue_id: int,
        policy: QueuePolicy,
        engine: StorageEngine,
        auto_delete: bool = False,
    ) -> None:
        self.name = name
        self.queue_id = queue_id
        self.active: Sequence[Group] = ()  # groups that have consumers
        self.set_policy(policy)
        self.engine = engine
        self.creator: Origin | None = None  # who declared it, for quotas; None: nobody's
        self.auto_delete = auto_delete  # goes when its last consumer goes
        self.next_offset = 0
        self.bytes_waiting = 0
        self.memory_messages_max = MEMORY_MESSAGES_MAX
        self.letters: Letters | None = None  # who makes its dead letters, if not the policy's address
        self.used_ms = 0  # when somebody used it last, as the sweeper saw it; 0: just now
        self.lost: Sequence[Lost] = ()  # what take() found expired, or could not read

    def set_policy(self, policy: QueuePolicy) -> None:
        """Change the policy; it holds from the next message on. Raise Conflict if it does not fit."""
        if policy.compact and (self.kind != "stream" or not self.queue_id):
            raise Conflict("policy.compact: only a durable stream can be compacted")
        self.policy = policy
        self.limited = bool(policy.max_length or policy.max_bytes)  # else publish need not ask `full`
        self.unusual = self.kind == "stream" or (self.limited and policy.overflow != DROP_HEAD)
        self.leased = policy.lease_ms > 0
        # A session's own queue has one consumer and MQTT's order; the gateway's own have none to keep.
        self.ordered = policy.ordered and (not self.name.startswith("$") or self.name.startswith(ORDERED))

    @property
    def durable(self) -> bool:
        """Whether its messages are logged."""
        return self.queue_id != 0

    def groups(self) -> list[Group]:
        """Return all groups."""
        raise NotImplementedError

    def held(self) -> list[Delivery]:
        """Return what is in consumers' hands, or will be given back to them in a while."""
        return [d for group in self.groups() for d in (*group.unsettled.values(), *group.parked.values())]

    def depth(self, group: Group) -> int:
        """Return how many messages wait for that group."""
        raise NotImplementedError

    def fresh(self, group: Group) -> int:
        """Return how many of these the group has not taken out yet: all but what its order holds back."""
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

    def take_back(self, delivery: Delivery) -> None:
        """Have a delivery wait again: in its group's order, or in its place in the queue."""
        order = delivery.group.order
        if order is None or not order.returned(delivery):
            self.put_back(delivery)

    def put_back(self, delivery: Delivery) -> None:
        """Return a delivery to its place in the order."""
        raise NotImplementedError

    def set_aside(self, count: int, size: int) -> None:
        """So many messages more wait in a group's order, of so many bytes."""

    def has_passed(self, group: Group, offset: int) -> bool:
        """Tell whether what a group has at an offset will not come by itself again."""
        return True

    def revive(self, group: Group, delivery: Delivery, now_ms: int) -> bool:
        """Make what waited in an order ready to go out; False if it has expired or cannot be read."""
        raise NotImplementedError

    def restore(self, extent: Extent) -> None:
        """Take over what recovery found."""
        raise NotImplementedError

    def sweep(self, now_ms: int) -> list[Lost]:
        """Remove what has expired at the head, and what need not be in memory."""
        raise NotImplementedError

    def clear(self) -> int:
        """Drop everything that waits; return how many that was. The caller has the engine know."""
        raise NotImplementedError

    def forget_from(self, position: int) -> int:
        """The engine could not write what was to be at or after `position`: drop it; return how many."""
        raise NotImplementedError

    def browse(self, start: int, count: int) -> list[tuple[int, Message, int]]:
        """Return (offset, message, attempts) of waiting messages without touching them."""
        raise NotImplementedError
