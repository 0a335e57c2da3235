"""Exchanges: what is bound to them, and which queues a message reaches through them.

An exchange is a relay of the core's router. A client's publish goes through the one exchange it
names; what comes by another door goes through every exchange whose part of the topic space it is
in: all of it for `amq.topic`, `x/...` for an exchange `x`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway.core.access import Action
from gateway.core.message import Message
from gateway.core.queue import Queue
from gateway.core.selector import Selector
from gateway.core.session import Session

from . import names
from .errors import AmqpFault, Reply
from .policies import Policy
from .rules import RULES, Rule
from .tables import Table

DELAYED: Final = "x-delayed-message"
HOPS_MAX: Final = 1000  # exchanges that one message may go through


class Bound:
    """A binding: from an exchange to a queue or to another exchange."""

    __slots__ = ("arguments", "exchange", "key", "queue", "selector", "source")

    def __init__(
        self,
        source: Exchange,
        queue: Queue | None,
        exchange: Exchange | None,
        key: str,
        arguments: Table,
        selector: Selector | None = None,
    ) -> None:
        assert (queue is None) != (exchange is None)
        self.source = source
        self.queue = queue
        self.exchange = exchange
        self.key = key
        self.arguments = arguments
        self.selector = selector

    def takes(self, message: Message | None) -> bool:
        """Tell whether its selector matches; without a message only one that has none does."""
        return self.selector is None or (message is not None and self.selector.matches(message))

    @property
    def destination_name(self) -> str:
        """The name of the queue, as AMQP has it, or of the exchange."""
        if self.queue is not None:
            return names.core_to_queue(self.queue.name)[1]
        assert self.exchange is not None
        return self.exchange.name

    @property
    def destination_kind(self) -> str:
        """`queue` or `exchange`."""
        return "queue" if self.queue is not None else "exchange"

    @property
    def durable(self) -> bool:
        """Whether both ends survive a restart, and so the binding."""
        if not self.source.durable:
            return False
        if self.queue is not None:
            return self.queue.durable
        assert self.exchange is not None
        return self.exchange.durable

    def same(self, key: str, arguments: Table) -> bool:
        """Tell whether this is the binding of that key and those arguments."""
        return self.key == key and self.arguments == arguments


class Exchange:
    """One exchange of a virtual host. Implements `core.router.Relay`."""

    def __init__(
        self,
        vhost: str,
        name: str,
        kind: str,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Table | None = None,
        find: Callable[[str], Exchange | None] = lambda name: None,
    ) -> None:
        self.vhost = vhost
        self.name = name
        self.kind = kind
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments or {}
        self.rule = _rule(kind, self.arguments)
        self.bound: list[Bound] = []  # from here
        self.selective = 0  # how many of these have a selector
        self.policy: Policy | None = None  # that counts for it
        self.policy_alternate = ""
        self._find = find  # an exchange of the same virtual host
        prefix = names.vhost_prefix(vhost)
        self._prefix = prefix if name == names.TOPIC_EXCHANGE else f"{prefix}{names.name_to_level(name)}/"

    @property
    def delayed(self) -> bool:
        """Whether messages may wait here."""
        return self.kind == DELAYED

    @property
    def filter(self) -> str:
        """What this exchange's part of the topic space matches."""
        return self._prefix + "#"

    @property
    def alternate(self) -> str:
        """The exchange that gets what nothing here takes."""
        found = self.arguments.get("alternate-exchange")
        return found if isinstance(found, str) and found else self.policy_alternate

    def add(self, bound: Bound) -> None:
        """Take a binding. Raise AmqpFault."""
        self.rule.add(bound)
        self.bound.append(bound)
        self.selective += bound.selector is not None

    def remove(self, bound: Bound) -> None:
        """Let a binding go."""
        self.rule.remove(bound)
        self.bound.remove(bound)
        self.selective -= bound.selector is not None

    def check_listener(self, session: Session, key: str) -> None:
        """Raise NotAuthorized unless a client may have what a binding with this key brings."""
        wanted = self.filter
        if self.kind == "topic":
            wanted = self._prefix + names.pattern_to_filter(key)[0] if key else self.topic_of("")
        session.check(Action.SUBSCRIBE, wanted)

    def topic_of(self, key: str) -> str:
        """Return the topic of what is published here with a key."""
        return names.to_topic(self.vhost, self.name, key)

    def key_of(self, topic: str) -> str | None:
        """Return the routing key of a topic in this exchange's part of the space, or None."""
        if self.name == names.TOPIC_EXCHANGE:
            return names.from_topic(self.vhost, topic)
        return names.levels_to_key(topic[len(self._prefix) :]) if topic.startswith(self._prefix) else None

    def queues(self, topic: str, message: Message | None) -> Sequence[Queue] | None:
        """Implement `Relay`."""
        key = self.key_of(topic)
        return () if key is None else self.reach((key,), message)

    def reach(self, keys: Sequence[str], message: Message | None) -> list[Queue] | None:
        """Return the queues that messages of these keys reach, each once.

        None if that depends on the message and there is none. Raise AmqpFault if it never ends.
        """
        found: dict[int, Queue] = {}
        for key in keys:
            if not self._reach(key, message, found):
                return None
        return list(found.values())

    def _reach(self, key: str, message: Message | None, found: dict[int, Queue]) -> bool:
        seen = {id(self)}
        exchanges: list[Exchange] = [self]
        for exchange in exchanges:
            if message is None and (exchange.rule.by_message or exchange.selective):
                return False
            taken = exchange.rule.find(key, message)
            if exchange.selective:
                taken = [bound for bound in taken if bound.takes(message)]
            for bound in taken:
                if bound.queue is not None:
                    found[id(bound.queue)] = bound.queue
                elif bound.exchange is not None and id(bound.exchange) not in seen:
                    seen.add(id(bound.exchange))
                    exchanges.append(bound.exchange)
            if not taken and exchange.alternate:
                alternate = self._find(exchange.alternate)
                if alternate is not None and id(alternate) not in seen:
                    seen.add(id(alternate))
                    exchanges.append(alternate)
            if len(exchanges) > HOPS_MAX:
                raise AmqpFault(Reply.RESOURCE_ERROR, f"a message would go through over {HOPS_MAX} exchanges")
        return True


def _rule(kind: str, arguments: Table) -> Rule:
    wrapped = kind
    if kind == DELAYED:
        inner: Any = arguments.get("x-delayed-type")
        if not isinstance(inner, str) or inner not in RULES:
            raise AmqpFault(
                Reply.PRECONDITION_FAILED,
                "Invalid argument, 'x-delayed-type' must be an existing exchange type",
            )
        wrapped = inner
    make = RULES.get(wrapped)
    if make is None:
        raise AmqpFault(Reply.COMMAND_INVALID, f"unknown exchange type '{kind}'")
    return make(arguments)
