"""What exists: queues and their bindings, and how they survive a restart.

Durable queues and bindings are keys of the metadata store:
`queue/<name>` holds id, kind and policy, `binding/<name>NUL<filter>` the options,
`selector/<name>NUL<group>` what a stream's group wants.
The catalog declares and restores; it never touches a message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache

from .classic import ClassicQueue
from .delivery import Group
from .engine import Recovery, StorageEngine
from .errors import Conflict, InvalidTopic, NotFound
from .message import NOWHERE, Origin
from .policy import DEFAULT, QueuePolicy
from .priority import PriorityQueue
from .queue import MEMORY_MESSAGES_MAX, Queue
from .receiver import Item, Receiver
from .retained import RETAINED_QUEUE_ID
from .router import Binding, Router
from .selector import Selector, Selectors
from .stream import StreamQueue
from .topic import DEAD_PREFIX, QUEUE_PREFIX, SESSION_PREFIX, VHOST_PREFIX, check_filter, check_topic

QUEUE_KEY = "queue/"
BINDING_KEY = "binding/"
SELECTOR_KEY = "selector/"
NEXT_ID_KEY = "meta/next-queue-id"
POLICIES_SHARED_MAX = 1000  # different ones, as most queues have one of few
QUEUE_NAME_MAX = 1024  # characters; shared subscriptions carry a filter in theirs

USUAL_KIND = "classic"
KINDS: dict[str, type[Queue]] = {"classic": ClassicQueue, "stream": StreamQueue}


class Catalog:
    """All queues by name, all queue bindings by queue and filter."""

    __slots__ = (
        "_engine",
        "_next_id",
        "_router",
        "_selectors",
        "bindings",
        "deleted",
        "group_removed",
        "made",
        "memory_messages_max",
        "queues",
    )

    def __init__(
        self,
        engine: StorageEngine,
        router: Router,
        selectors: Selectors,
        memory_messages_max: int = MEMORY_MESSAGES_MAX,
    ) -> None:
        self._engine = engine
        self._router = router
        self._selectors = selectors
        self._next_id = RETAINED_QUEUE_ID + 1
        self.memory_messages_max = memory_messages_max
        self.queues: dict[str, Queue] = {}
        self.made: list[Callable[[Queue], None]] = []  # to be called when a queue is new
        self.deleted: list[Callable[[Queue], None]] = []  # to be called when a queue is gone
        self.group_removed: list[Callable[[Queue, str], None]] = []  # to be called when a group is
        self.bindings: dict[str, dict[str, Binding]] = {}  # queue name -> filter -> binding

    def get(self, name: str) -> Queue:
        """Return a queue. Raise NotFound."""
        queue = self.queues.get(name)
        if queue is None:
            raise NotFound(f"queue {name!r} does not exist; create it first (PUT /v1/queues/<name>)")
        return queue

    def declare(
        self,
        name: str,
        kind: str = "classic",
        policy: QueuePolicy | None = None,
        durable: bool = True,
        auto_delete: bool = False,
        creator: Origin | None = None,
    ) -> tuple[Queue, bool]:
        """Return (queue, created). Raise Conflict if it exists and is of another make."""
        policy = policy or DEFAULT
        queue = self.queues.get(name)
        if queue is not None:
            _check_same(queue, kind, policy, durable)
            queue.used_ms = 0
            return queue, False
        _check_name(name)
        if kind not in KINDS:
            raise Conflict(f"queue kind {kind!r}: one of {', '.join(KINDS)} is expected")
        queue = self._make(name, kind, policy, self._take_id() if durable else 0, auto_delete)
        queue.creator = creator
        if durable:
            self._save(queue)
        for call in self.made:
            call(queue)
        return queue, True

    def set_policy(self, queue: Queue, policy: QueuePolicy) -> None:
        """Change a queue's policy, also on disk. Raise Conflict for what cannot be changed."""
        if policy.compact != queue.policy.compact:
            raise Conflict("policy.compact: a stream is compacted from its beginning, or never")
        if policy.max_priority != queue.policy.max_priority:
            raise Conflict("policy.max_priority: a queue has its levels from its beginning, or never")
        queue.set_policy(policy)
        self._router.version += 1  # routes remember whether their queues have limits
        if queue.durable:
            self._save(queue)

    def make_durable(self, queue: Queue) -> None:
        """Log what is published to a queue from now on; what it already holds stays in memory."""
        if not queue.durable:
            queue.queue_id = self._take_id()
            self._router.version += 1
            self._save(queue)
            for binding in self.bindings.get(queue.name, {}).values():
                self._save_binding(queue, binding)

    def delete(self, queue: Queue) -> None:
        """Remove a queue and its bindings. Its messages are the broker's business."""
        for topic_filter in list(self.bindings.get(queue.name, ())):
            self.unbind(queue, topic_filter)
        self.bindings.pop(queue.name, None)
        del self.queues[queue.name]
        if own := _address(queue.name):
            self._remove_own(Binding(own, queue=queue))
        if queue.durable:
            for key, _ in list(self._engine.scan(f"{SELECTOR_KEY}{queue.name}\0")):
                self._engine.delete(key)
            self._engine.drop_queue(queue.queue_id)
            self._engine.delete(QUEUE_KEY + queue.name)
        for call in self.deleted:
            call(queue)

    def bind(self, queue: Queue, binding: Binding) -> Binding | None:
        """Add a binding, replacing one of the same filter; return the replaced one."""
        check_filter(binding.filter)
        mine = self.bindings.setdefault(queue.name, {})
        replaced = mine.get(binding.filter)
        if replaced is not None:
            self._router.remove(replaced)
        mine[binding.filter] = binding
        self._router.add(binding)
        if queue.durable:
            self._save_binding(queue, binding)
        return replaced

    def unbind(self, queue: Queue, topic_filter: str) -> bool:
        """Remove a binding; False if there was none."""
        binding = self.bindings.get(queue.name, {}).pop(topic_filter, None)
        if binding is None:
            return False
        self._router.remove(binding)
        if queue.durable:
            self._engine.delete(f"{BINDING_KEY}{queue.name}\0{topic_filter}")
        return True

    def select(self, group: Group, selector: Selector | None) -> None:
        """Have a stream's group want what a selector matches, also after a restart."""
        group.selector = selector
        queue = group.queue
        if not queue.durable or group.name.startswith("$"):  # a reader's own group goes with it
            return
        key = f"{SELECTOR_KEY}{queue.name}\0{group.name}"
        if selector is None:
            self._engine.delete(key)
        else:
            self._engine.put(key, json.dumps(selector.saved()).encode())

    def remove_group(self, stream: StreamQueue, group: Group) -> None:
        """Forget a stream's group: its position, its selector, and what is in hands of its members."""
        group.unsettled.clear()
        group.parked.clear()
        self.select(group, None)
        stream.remove_group(group.name)
        if stream.durable and not group.name.startswith("$"):
            self._engine.cursor(stream.queue_id, group.name, -1, 0)
        for call in self.group_removed:
            call(stream, group.name)

    def restore(self, recovery: Recovery) -> Iterator[Queue]:
        """Make what recovery found; yield each queue, filled, before its bindings count."""
        saved = self._engine.get(NEXT_ID_KEY)
        if saved is not None:
            self._next_id = int(saved)
        for key, value in list(self._engine.scan(QUEUE_KEY)):
            fields = json.loads(value)
            policy = _policy(json.dumps(fields.get("policy", {})))
            auto_delete = fields.get("auto_delete", False)
            kind = fields.get("kind", USUAL_KIND)
            queue = self._make(key[len(QUEUE_KEY) :], kind, policy, fields["id"], auto_delete)
            if "creator" in fields:
                queue.creator = Origin(*fields["creator"])
            queue.restore(self._engine.extent(queue.queue_id))
            yield queue
        self._restore_groups(recovery)
        self._restore_bindings()

    def _restore_groups(self, recovery: Recovery) -> None:
        streams = {q.queue_id: q for q in self.queues.values() if isinstance(q, StreamQueue)}
        for (queue_id, name), offset in recovery.cursors.items():
            stream = streams.get(queue_id)
            if stream is not None and name:
                stream.group(name, offset)
        for key, value in list(self._engine.scan(SELECTOR_KEY)):
            queue, _, name = key[len(SELECTOR_KEY) :].partition("\0")
            found = self.queues.get(queue)
            if isinstance(found, StreamQueue):
                selector = self._selectors.restored(json.loads(value), f"group {name!r} of queue {queue!r}")
                if selector is not None:
                    found.restore_selector(name, selector)
            else:
                self._engine.delete(key)

    def _restore_bindings(self) -> None:
        away: dict[str, Receiver] = {}
        for key, value in list(self._engine.scan(BINDING_KEY)):
            name, _, topic_filter = key[len(BINDING_KEY) :].partition("\0")
            queue = self.queues.get(name)
            if queue is None:
                self._engine.delete(key)
                continue
            receiver = None
            if name.startswith(SESSION_PREFIX):
                receiver = away.get(name)
                if receiver is None:
                    receiver = away[name] = Receiver(NOWHERE, _nobody)
                    receiver.open = False
            options = json.loads(value)
            binding = Binding(
                topic_filter,
                queue,
                receiver,
                options["qos"],
                options["no_local"],
                options["retain_as_published"],
                tuple(options["ids"]),
                selector=self._selector(options.get("selector"), name, topic_filter),
            )
            self.bindings.setdefault(name, {})[topic_filter] = binding
            self._router.add(binding)

    def _selector(self, saved: list[str] | None, queue: str, topic_filter: str) -> Selector | None:
        if saved is None:
            return None
        return self._selectors.restored(saved, f"the binding of queue {queue!r} to {topic_filter!r}")

    def _make(self, name: str, kind: str, policy: QueuePolicy, queue_id: int, auto_delete: bool) -> Queue:
        make = PriorityQueue if policy.max_priority and kind == USUAL_KIND else KINDS[kind]
        queue = make(name, queue_id, policy, self._engine, auto_delete)
        queue.memory_messages_max = self.memory_messages_max
        self.queues[name] = queue
        if own := _address(name):
            self._router.add(Binding(own, queue=queue))
        return queue

    def _remove_own(self, own: Binding) -> None:
        for binding in self._router.match(own.filter):
            if binding.filter == own.filter and binding.queue is own.queue:
                self._router.remove(binding)

    def _take_id(self) -> int:
        queue_id = self._next_id
        self._next_id += 1
        self._engine.put(NEXT_ID_KEY, str(self._next_id).encode())
        return queue_id

    def _save(self, queue: Queue) -> None:
        # What is usual is left out: a hundred thousand sessions have a value like this each.
        fields: dict[str, object] = {"id": queue.queue_id}
        if queue.kind != USUAL_KIND:
            fields["kind"] = queue.kind
        if policy := queue.policy.changes():
            fields["policy"] = policy
        if queue.auto_delete:
            fields["auto_delete"] = True
        if queue.creator is not None:
            fields["creator"] = [queue.creator.protocol, queue.creator.principal, queue.creator.client_id]
        self._engine.put(QUEUE_KEY + queue.name, json.dumps(fields, separators=(",", ":")).encode())

    def _save_binding(self, queue: Queue, binding: Binding) -> None:
        options: dict[str, object] = {
            "qos": int(binding.qos),
            "no_local": binding.no_local,
            "retain_as_published": binding.retain_as_published,
            "ids": list(binding.ids),
        }
        if binding.selector is not None:
            options["selector"] = binding.selector.saved()
        self._engine.put(f"{BINDING_KEY}{queue.name}\0{binding.filter}", json.dumps(options).encode())


def _nobody(batch: list[Item]) -> None:
    raise AssertionError("a closed receiver is never pumped")


@lru_cache(POLICIES_SHARED_MAX)
def _policy(stored: str) -> QueuePolicy:
    """Return a policy from JSON; queues with the same share one object, which nobody changes."""
    policy = QueuePolicy.from_mapping(json.loads(stored))
    return policy if policy.changes() else DEFAULT


def _check_same(queue: Queue, kind: str, policy: QueuePolicy, durable: bool) -> None:
    if queue.kind != kind:
        raise Conflict(f"queue {queue.name!r} exists as {queue.kind}, not {kind}")
    if queue.durable != durable:
        made = "durable" if queue.durable else "transient"
        raise Conflict(f"queue {queue.name!r} exists and is {made}; delete it first to change that")
    difference = queue.policy.difference(policy)
    if difference:
        raise Conflict(f"queue {queue.name!r} exists with another policy: {difference}")


def _check_name(name: str) -> None:
    if not name or len(name) > QUEUE_NAME_MAX:
        raise InvalidTopic(f"a queue name has 1 to {QUEUE_NAME_MAX} characters")
    if "\0" in name:
        raise InvalidTopic("a queue name must not contain U+0000")
    if _addressable(name):
        check_topic(QUEUE_PREFIX + name)


def _address(name: str) -> str:
    """Return the topic that leads to a queue without anybody having bound it; "" if there is none."""
    if name.startswith(DEAD_PREFIX):
        return name
    return QUEUE_PREFIX + name if _addressable(name) else ""


def _addressable(name: str) -> bool:
    """Tell whether `$queue/<name>` leads to a queue: not to a session's or a shared subscription's."""
    return not name.startswith("$") or name.startswith(VHOST_PREFIX)
