"""Which subscriptions match a topic.

A trie of filter levels finds them; a dictionary of `Route`s, one per topic seen, makes the
hot path a single lookup. Every change of the trie raises `version`, and a route that was
made under an older one is made again when it is next used.

A route holds everything `publish` would otherwise compute per message: receivers and queues
for messages that may be lost and for messages that may not, and the ids for the log record.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from .message import Message, Origin
from .policy import DURABILITIES, NONE, SYNC
from .receiver import Receiver
from .selector import Selector
from .topic import is_wildcard, matches

if TYPE_CHECKING:
    from .queue import Queue

NO_SUBSCRIBERS = -1  # what a publish returns when nobody is there to get it
THROUGH_MAX = 1000  # different ways to one topic: sets of queues that headers choose, mostly
TOPICS_CACHED_MAX = 100_000  # about 60 MB at worst; the older half goes when it is reached


class Relay(Protocol):
    """Routes by rules of its own what its filters match: an exchange of AMQP, say."""

    def queues(self, topic: str, message: Message | None) -> Sequence[Queue] | None:
        """Return the queues that get what is published to a topic; None, without a message, if that
        depends on the message. Every change of the answer has to be followed by `Router.changed`."""


class Binding:
    """A subscription: a filter, and where what matches it goes.

    A client's subscription has a `receiver` for what may be lost and, if `qos` > 0, a
    `queue` for what may not. A plain queue's binding has only the queue and gets everything.
    `ids` are subscription identifiers for the receiver's protocol; `retained` marks a copy
    made to send retained messages. One with a `relay` has neither: that knows the queues. What a
    `selector` does not match is not routed to it: it was never a copy.
    """

    __slots__ = (
        "filter",
        "ids",
        "no_local",
        "origin",
        "qos",
        "queue",
        "receiver",
        "relay",
        "retain_as_published",
        "retained",
        "selector",
    )

    def __init__(
        self,
        topic_filter: str,
        queue: Queue | None = None,
        receiver: Receiver | None = None,
        qos: int = 2,
        no_local: bool = False,
        retain_as_published: bool = False,
        ids: tuple[int, ...] = (),
        origin: Origin | None = None,
        retained: bool = False,
        relay: Relay | None = None,
        selector: Selector | None = None,
    ) -> None:
        assert queue is not None or receiver is not None or relay is not None
        self.filter = topic_filter
        self.queue = queue
        self.receiver = receiver
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.ids = ids
        self.origin = origin
        self.retained = retained
        self.relay = relay
        self.selector = selector

    def takes(self, message: Message) -> bool:
        """Tell whether its selector, if it has one, matches a message."""
        selector = self.selector
        return selector is None or selector.matches(message)

    def for_retained(self) -> Binding:
        """Return a copy that marks what it delivers as retained."""
        return Binding(
            self.filter,
            self.queue,
            self.receiver,
            self.qos,
            False,
            True,
            self.ids,
            self.origin,
            retained=True,
        )

    def merged(self, other: Binding) -> Binding:
        """Return one binding that stands for two of the same subscriber [MQTT-3.3.4-2]."""
        return Binding(
            self.filter,
            self.queue or other.queue,
            self.receiver or other.receiver,
            max(self.qos, other.qos),
            self.no_local and other.no_local,
            self.retain_as_published or other.retain_as_published,
            self.ids + other.ids,
            self.origin,
        )


class Route:
    """Where messages to one topic go, valid while `version` is the router's."""

    __slots__ = (
        "ids_lossy",
        "ids_safe",
        "last",
        "queues_lossy",
        "queues_safe",
        "receivers_lossy",
        "receivers_safe",
        "relays",
        "selective",
        "special",
        "sync",
        "through",
        "told",
        "version",
    )

    def __init__(self, version: int) -> None:
        self.version = version
        self.receivers_lossy: tuple[Binding, ...] = ()  # for qos 0 messages
        self.queues_lossy: tuple[Binding, ...] = ()
        self.receivers_safe: tuple[Binding, ...] = ()  # for qos 1 and 2
        self.queues_safe: tuple[Binding, ...] = ()
        self.ids_lossy: tuple[int, ...] = ()  # ids of durable queues among them
        self.ids_safe: tuple[int, ...] = ()
        self.sync = True  # "stored" is on disk: so the strictest of the durable queues, or a rule, wants it
        self.told = True  # when it is stored; else publishers do not wait
        self.special = False  # publish must look closer: a stream, a queue that rejects, or no-local
        self.relays: tuple[Relay, ...] = ()  # that have to see the message
        self.selective: tuple[tuple[Binding, ...], ...] = ()  # of a subscriber each, some with a selector
        self.through: dict[Hashable, Route] | None = None  # for what came by a relay, see `Router.through`
        self.last: Message | None = None  # the last message published by it

    def takers(self, message: Message) -> tuple[Sequence[Binding], Sequence[Binding]]:
        """Return (queues, receivers) that get a message, as far as selectors go."""
        if message.qos:
            queues, receivers = self.queues_safe, self.receivers_safe
        else:
            queues, receivers = self.queues_lossy, self.receivers_lossy
        if not self.selective:
            return queues, receivers
        more_queues, more_receivers = list(queues), list(receivers)
        for parts in self.selective:
            binding = merged_for(parts, message)
            if binding is None:
                continue
            safe = message.qos and binding.qos and binding.queue is not None
            if safe or binding.receiver is None:
                more_queues.append(binding)
            else:
                more_receivers.append(binding)
        return more_queues, more_receivers

    def wanted(self) -> bool:
        """Tell whether anybody might get what is published by it."""
        return bool(self.queues_safe or self.receivers_lossy or self.selective)

    def expire(self) -> None:
        """Something has changed: have it made again, and what came of it."""
        self.version = -1
        if self.through is not None:
            for route in self.through.values():
                route.version = -1


class _Node:
    __slots__ = ("bindings", "children")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.bindings: list[Binding] | None = None


class Router:
    """The trie and its cache."""

    __slots__ = ("_root", "bindings", "routes", "rules", "topics_max", "version")

    def __init__(self, topics_max: int = TOPICS_CACHED_MAX) -> None:
        self._root = _Node()
        self.routes: dict[str, Route] = {}
        self.topics_max = topics_max
        self.rules: list[tuple[str, str]] = []  # filter, durability of what matches: the first that does
        self.version = 0
        self.bindings = 0

    def add(self, binding: Binding) -> None:
        """Add a binding. The same filter may be bound any number of times."""
        node = self._root
        for level in binding.filter.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        if node.bindings is None:
            node.bindings = []
        node.bindings.append(binding)
        self.bindings += 1
        self._invalidate(binding.filter)

    def remove(self, binding: Binding) -> None:
        """Remove a binding that was added, and branches that became empty."""
        levels = binding.filter.split("/")
        path = [self._root]
        for level in levels:
            children = path[-1].children
            assert children is not None, "a binding that was never added"
            path.append(children[level])
        bindings = path[-1].bindings
        assert bindings is not None
        bindings.remove(binding)
        self.bindings -= 1
        for depth in range(len(levels), 0, -1):
            node = path[depth]
            if node.bindings or node.children:
                break
            children = path[depth - 1].children
            assert children is not None
            del children[levels[depth - 1]]
        self._invalidate(binding.filter)

    def match(self, topic: str) -> list[Binding]:
        """Return every binding whose filter matches, in no particular order."""
        found: list[Binding] = []
        levels = topic.split("/")
        _collect(self._root, levels, 0, not topic.startswith("$"), found)
        return found

    def route(self, topic: str) -> Route:
        """Return a valid route, from the cache or made now."""
        route = self.routes.get(topic)
        if route is None:
            if len(self.routes) >= self.topics_max:
                self._evict()
            route = self.routes[topic] = Route(-1)
        if route.version != self.version:
            route.expire()
            found = self.match(topic)
            relays = [binding.relay for binding in found if binding.relay is not None]
            answers = [(relay, relay.queues(topic, None)) for relay in relays]
            route.relays = tuple(relay for relay, queues in answers if queues is None)
            self._resolve(route, topic, found, [queue for _, queues in answers for queue in queues or ()])
        return route

    def through(self, topic: str, relay: Hashable, queues: Sequence[Queue]) -> Route:
        """Return the route of what comes by a relay: to its queues, and to the topic's subscribers.

        Other relays do not take part: one exchange does not hear what is published to another.
        `relay` names whose queues these are. Valid while `version` is the router's.
        """
        own = self.route(topic)
        if own.through is None:
            own.through = {}
        route = own.through.get(relay)
        if route is None or route.version != self.version:
            if len(own.through) >= THROUGH_MAX:
                for other in own.through.values():
                    other.version = -1
                own.through.clear()
            last = route.last if route is not None else None
            route = own.through[relay] = Route(-1)
            route.last = last
            self._resolve(route, topic, self.match(topic), queues)
        return route

    def last(self, topic: str) -> Message | None:
        """Return the last message published to a topic, whatever way it took."""
        route = self.routes.get(topic)
        if route is None:
            return None
        found = route.last
        for other in (route.through or {}).values():
            if found is None or (other.last is not None and other.last.timestamp_ms >= found.timestamp_ms):
                found = other.last
        return found

    def changed(self) -> None:
        """A relay answers differently from now on."""
        self.version += 1

    def _resolve(self, route: Route, topic: str, found: list[Binding], queues: Sequence[Queue]) -> None:
        bindings = [*found, *(Binding(topic, queue) for queue in queues)]
        selective = _selective(bindings)
        route.selective = tuple(tuple(parts) for parts in selective.values())
        plain = [b for b in bindings if _subscriber(b) not in selective] if selective else bindings
        _resolve(route, _merged(plain))
        mode = self._rule(topic) or _strictest(bindings)
        route.sync, route.told = mode == SYNC, mode != NONE
        route.version = self.version

    def _rule(self, topic: str) -> str | None:
        return next((mode for topic_filter, mode in self.rules if matches(topic_filter, topic)), None)

    def _invalidate(self, topic_filter: str) -> None:
        if is_wildcard(topic_filter):
            self.version += 1
            return
        route = self.routes.get(topic_filter)
        if route is not None:
            route.expire()

    def _evict(self) -> None:
        for topic in list(self.routes)[: max(1, self.topics_max // 2)]:
            self.routes.pop(topic).expire()


def _subscriber(binding: Binding) -> int:
    return id(binding.receiver) if binding.receiver is not None else id(binding.queue)


def _merged(bindings: list[Binding]) -> list[Binding]:
    """Return one binding per subscriber, overlapping ones merged."""
    merged: dict[int, Binding] = {}
    for binding in bindings:
        if binding.relay is not None:
            continue
        key = _subscriber(binding)
        earlier = merged.get(key)
        merged[key] = binding if earlier is None else earlier.merged(binding)
    return list(merged.values())


def _selective(bindings: list[Binding]) -> dict[int, list[Binding]]:
    """Return all bindings of each subscriber that has one with a selector."""
    found: dict[int, list[Binding]] = {}
    for binding in bindings:
        if binding.selector is not None:
            found[_subscriber(binding)] = []
    if found:
        for binding in bindings:
            if _subscriber(binding) in found and binding.relay is None:
                found[_subscriber(binding)].append(binding)
    return found


def merged_for(bindings: Iterable[Binding], message: Message) -> Binding | None:
    """Return one binding for those of a subscriber's that take a message; None if none does."""
    found: Binding | None = None
    for binding in bindings:
        selector = binding.selector
        if selector is None or selector.matches(message):
            found = binding if found is None else found.merged(binding)
    return found


def _collect(node: _Node, levels: list[str], depth: int, wild: bool, found: list[Binding]) -> None:
    children = node.children
    if depth == len(levels):
        if node.bindings:
            found.extend(node.bindings)
        if children and (rest := children.get("#")) and rest.bindings:
            found.extend(rest.bindings)  # "a/#" matches "a" too
        return
    if not children:
        return
    if wild:  # [MQTT-4.7.2-1]: no wildcard in the first level of a $ topic
        rest = children.get("#")
        if rest is not None and rest.bindings:
            found.extend(rest.bindings)
        any_level = children.get("+")
        if any_level is not None:
            _collect(any_level, levels, depth + 1, True, found)
    child = children.get(levels[depth])
    if child is not None and levels[depth] not in ("+", "#"):
        _collect(child, levels, depth + 1, True, found)


def _resolve(route: Route, bindings: list[Binding]) -> None:
    receivers_lossy: list[Binding] = []
    queues_lossy: list[Binding] = []
    receivers_safe: list[Binding] = []
    queues_safe: list[Binding] = []
    for binding in bindings:
        if binding.receiver is None:
            queues_lossy.append(binding)
            queues_safe.append(binding)
            continue
        receivers_lossy.append(binding)
        if binding.qos and binding.queue is not None:
            queues_safe.append(binding)
        else:
            receivers_safe.append(binding)
    route.receivers_lossy = tuple(receivers_lossy)
    route.queues_lossy = tuple(queues_lossy)
    route.receivers_safe = tuple(receivers_safe)
    route.queues_safe = tuple(queues_safe)
    unusual = any(b.queue is not None and (b.queue.unusual or b.no_local) for b in bindings)
    route.special = unusual or bool(route.relays) or bool(route.selective)
    route.ids_lossy = _durable_ids(queues_lossy)
    route.ids_safe = _durable_ids(queues_safe)


def _strictest(bindings: list[Binding]) -> str:
    modes = {b.queue.policy.durability for b in bindings if b.queue is not None and b.queue.durable}
    return next((mode for mode in DURABILITIES if mode in modes), SYNC)


def _durable_ids(bindings: list[Binding]) -> tuple[int, ...]:
    return tuple(sorted({b.queue.queue_id for b in bindings if b.queue is not None and b.queue.queue_id}))
