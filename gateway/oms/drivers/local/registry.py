"""What the core does not know of OpenMessaging's resources: namespaces, filters and routings, kept in its
log.

A routing is a relay of the core's router at its source: what comes there is put into the groups' queues of
its destination, too, in the same record of the log. Routings may follow one another; no queue gets a
message twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gateway.api import Binding, Broker, Conflict, Message, Queue, Selector, StreamQueue

from ...names import split_share

NAMESPACE_KEY: Final = "oms/namespace/"
FILTER_KEY: Final = "oms/filter/"
ROUTING_KEY: Final = "oms/routing/"
ROUTINGS_MAX: Final = 1000  # each that leaves a queue is tried for each message to it


class Registry:
    """All of one gateway."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        engine = broker.engine
        self.namespaces = {key[len(NAMESPACE_KEY) :] for key, _ in engine.scan(NAMESPACE_KEY)}
        self.filters = {key[len(FILTER_KEY) :]: value.decode() for key, value in engine.scan(FILTER_KEY)}
        self._relays: dict[str, _Relay] = {}
        for key, value in list(engine.scan(ROUTING_KEY)):
            source, _, target = key[len(ROUTING_KEY) :].partition("\0")
            self._relay(source, target, value.decode())

    # -- namespaces -----------------------------------------------------------------------------

    def add_namespace(self, name: str) -> None:
        """Know a namespace."""
        self.namespaces.add(name)
        self._broker.engine.put(NAMESPACE_KEY + name, b"")

    def remove_namespace(self, name: str) -> None:
        """Know it no more, and nothing in it."""
        prefix = name + "/"
        for topic in [topic for topic in self.topics() if topic.startswith(prefix)]:
            self.delete(topic)
        self.namespaces.discard(name)
        self._broker.engine.delete(NAMESPACE_KEY + name)

    # -- queues ---------------------------------------------------------------------------------

    def topics(self) -> set[str]:
        """Return the topics that have groups' queues, or a stream of their name."""
        found = set()
        bindings = self._broker.catalog.bindings
        for name, queue in self._broker.catalog.queues.items():
            shared = split_share(name)
            if shared is not None:
                found.add(shared[1])
            elif isinstance(queue, StreamQueue) and name in bindings.get(name, {}):
                found.add(name)
        return found

    def queues_of(self, topic: str) -> list[Queue]:
        """Return the groups' queues of a topic, and its stream."""
        found = (binding for binding in self._broker.router.match(topic) if binding.filter == topic)
        return [b.queue for b in found if b.queue is not None and _of_topic(b.queue, topic)]

    def delete(self, topic: str) -> None:
        """Delete all queues of a topic, its filter, and routings from and to it."""
        for queue in self.queues_of(topic):
            self._broker.queues.delete(queue)
        if topic in self.filters:
            self.set_filter(topic, "")
        for source, target, _ in list(self.routings()):
            if topic in (source, target):
                self.remove_routing(source, target)

    # -- filters --------------------------------------------------------------------------------

    def set_filter(self, topic: str, expression: str) -> None:
        """Have all groups of a topic, now and later, get only what matches. Raise InvalidSelector."""
        self._broker.selectors.find(expression or "TRUE")
        before = {queue: self._own(topic, queue) for queue in self.queues_of(topic)}
        if expression:
            self.filters[topic] = expression
            self._broker.engine.put(FILTER_KEY + topic, expression.encode())
        else:
            self.filters.pop(topic, None)
            self._broker.engine.delete(FILTER_KEY + topic)
        for queue, own in before.items():
            self._broker.catalog.bind(queue, Binding(topic, queue, selector=self.filtered(topic, own)))

    def filtered(self, topic: str, own: Selector | None) -> Selector | None:
        """Return what a consumer's selector is together with the queue's filter. Raise InvalidSelector."""
        expression = self.filters.get(topic)
        if expression is None:
            return own
        if own is None:
            return self._broker.selectors.find(expression)
        if own.language != "sql":
            own_text = f"tag IN ({', '.join(_quoted(tag) for tag in own.text.split('||'))})"
        else:
            own_text = own.text
        return self._broker.selectors.find(f"({expression}) AND ({own_text})")

    def _own(self, topic: str, queue: Queue) -> Selector | None:
        """Return a binding's selector without the filter: undo `filtered`."""
        selector = self._broker.catalog.bindings[queue.name][topic].selector
        expression = self.filters.get(topic)
        if selector is None or expression is None:
            return selector
        prefix = f"({expression}) AND ("
        if selector.text.startswith(prefix):
            return self._broker.selectors.find(selector.text[len(prefix) : -1])
        return None

    # -- routings -------------------------------------------------------------------------------

    def routings(self) -> Iterator[tuple[str, str, str]]:
        """Yield (source, destination, expression) of each."""
        for source, relay in sorted(self._relays.items()):
            for target, (expression, _) in sorted(relay.targets.items()):
                yield source, target, expression

    def add_routing(self, source: str, target: str, expression: str) -> None:
        """Have a routing. Raise InvalidSelector, or Conflict if there are too many."""
        if len(list(self.routings())) >= ROUTINGS_MAX:
            raise Conflict(f"there are {ROUTINGS_MAX} routings, as many as may be")
        self._relay(source, target, expression)
        self._broker.engine.put(f"{ROUTING_KEY}{source}\0{target}", expression.encode())

    def remove_routing(self, source: str, target: str) -> bool:
        """Have it no more; False if there was none."""
        relay = self._relays.get(source)
        if relay is None or relay.targets.pop(target, None) is None:
            return False
        if not relay.targets:
            self._broker.router.remove(relay.binding)
            del self._relays[source]
        self._broker.engine.delete(f"{ROUTING_KEY}{source}\0{target}")
        return True

    def _relay(self, source: str, target: str, expression: str) -> None:
        selector = self._broker.selectors.find(expression) if expression else None
        relay = self._relays.get(source)
        if relay is None:
            relay = self._relays[source] = _Relay(self, source)
            self._broker.router.add(relay.binding)
        relay.targets[target] = (expression, selector)

    def reached(self, source: str, message: Message) -> list[Queue]:
        """Return all queues that routings lead a message to."""
        found: list[Queue] = []
        seen, ahead = {source}, [source]
        while ahead:
            relay = self._relays.get(ahead.pop())
            for target, (_, selector) in relay.targets.items() if relay is not None else ():
                if target not in seen and (selector is None or selector.matches(message)):
                    seen.add(target)
                    ahead.append(target)
                    found += [
                        queue for queue in self.queues_of(target) if self._takes(queue, target, message)
                    ]
        return found

    def _takes(self, queue: Queue, topic: str, message: Message) -> bool:
        return self._broker.catalog.bindings[queue.name][topic].takes(message)


class _Relay:
    """The routings that leave one queue. Implements `gateway.api.Relay`."""

    def __init__(self, registry: Registry, source: str) -> None:
        self._registry = registry
        self._source = source
        self.targets: dict[str, tuple[str, Selector | None]] = {}
        self.binding = Binding(source, relay=self)

    def queues(self, topic: str, message: Message | None) -> Sequence[Queue] | None:
        """Return who gets it. What that depends on may change at any time: it is asked for each message."""
        return None if message is None else self._registry.reached(self._source, message)


def _of_topic(queue: Queue, topic: str) -> bool:
    shared = split_share(queue.name)
    return shared[1] == topic if shared is not None else queue.name == topic


def _quoted(tag: str) -> str:
    return "'" + tag.strip().replace("'", "''") + "'"
