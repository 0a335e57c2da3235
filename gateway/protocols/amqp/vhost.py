"""A virtual host: its exchanges, its bindings, and what AMQP knows of its queues.

Queues are the gateway's own. What only AMQP says of one (its arguments as they were given, who
may use it alone) is in a `Declared` beside it; a queue that another door has made has one, too,
once somebody here asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gateway.core.broker import Broker
from gateway.core.errors import Conflict
from gateway.core.message import Message, Origin
from gateway.core.queue import Queue
from gateway.core.router import Binding, Route
from gateway.core.topic import VHOST_PREFIX

from . import names
from .arguments import check, difference, plain, selector_of, shown, terms
from .declared import Declared
from .errors import AmqpFault, Reply
from .exchanges import Bound, Exchange
from .letters import ExchangeLetters
from .methods import shortstr
from .policies import Policy, best, effective
from .store import Store
from .tables import Table
from .translate import address_of, native_of

#: Exchanges that are always there [3.1.2]: name -> type.
PREDECLARED: Final = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}
RESERVED: Final = "amq."


class Vhost:
    """One of them."""

    def __init__(self, name: str, broker: Broker, store: Store) -> None:
        self.name = name
        self.broker = broker
        self._store = store
        self.exchanges: dict[str, Exchange] = {}
        self.declared: dict[str, Declared] = {}
        self.policies: dict[str, Policy] = {}
        self._addresses: dict[str, bytes] = {}  # of topics, as exchanges are now
        self._gates: dict[str, Binding] = {}
        for exchange, kind in PREDECLARED.items():
            self.exchanges[exchange] = self._exchange(exchange, kind, durable=True)

    # -- exchanges ------------------------------------------------------------------------------

    def exchange(self, name: str) -> Exchange:
        """Return an exchange. Raise AmqpFault."""
        found = self.exchanges.get(name)
        if found is None:
            raise AmqpFault(Reply.NOT_FOUND, f"no exchange '{name}' in vhost '{self.name}'")
        return found

    def _exchange(self, name: str, kind: str, **flags: Any) -> Exchange:
        return Exchange(self.name, name, kind, find=self.exchanges.get, **flags)

    def declare_exchange(
        self,
        name: str,
        kind: str,
        durable: bool,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Table | None = None,
    ) -> Exchange:
        """Return an exchange, made if need be. Raise AmqpFault if there is another of that name."""
        arguments = arguments or {}
        found = self.exchanges.get(name)
        if found is not None:
            self._check_exchange(found, kind, durable, auto_delete, internal, arguments)
            return found
        if name.startswith(RESERVED):
            raise AmqpFault(
                Reply.ACCESS_REFUSED, f"exchange name '{name}' contains reserved prefix '{RESERVED}*'"
            )
        alternate = arguments.get("alternate-exchange")
        if alternate is not None and not isinstance(alternate, str):
            text = f"invalid arg 'alternate-exchange' for exchange '{name}' in vhost '{self.name}'"
            raise AmqpFault(Reply.PRECONDITION_FAILED, f"{text}: expected a string, got {alternate!r}")
        made = self.restore_exchange(name, kind, durable, auto_delete, internal, arguments)
        if durable:
            self._store.save_exchange(made)
        return made

    def restore_exchange(
        self, name: str, kind: str, durable: bool, auto_delete: bool, internal: bool, arguments: Table
    ) -> Exchange:
        """Make an exchange without keeping it."""
        made = self.exchanges[name] = self._exchange(
            name, kind, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments
        )
        self._apply_to_exchange(made)
        self._changed(made)
        return made

    def _check_exchange(
        self, found: Exchange, kind: str, durable: bool, auto_delete: bool, internal: bool, arguments: Table
    ) -> None:
        resource = f"exchange '{found.name}'"
        for what, wanted, is_so in (
            ("type", kind, found.kind),
            ("durable", durable, found.durable),
            ("auto_delete", auto_delete, found.auto_delete),
            ("internal", internal, found.internal),
        ):
            if wanted != is_so:
                raise difference(resource, self.name, what, plain(wanted), plain(is_so))
        self._check_arguments(resource, arguments, found.arguments)

    def _check_arguments(self, resource: str, wanted: Table, found: Table) -> None:
        for what in sorted({*wanted, *found}):
            if wanted.get(what) != found.get(what):
                is_so = found.get(what)
                raise difference(resource, self.name, what, shown(wanted.get(what)), shown(is_so))

    def delete_exchange(self, name: str, if_unused: bool = False) -> None:
        """Delete an exchange with its bindings; one that does not exist is fine [RabbitMQ]."""
        exchange = self.exchanges.get(name)
        if name.startswith(RESERVED) or not name:
            why = f"contains reserved prefix '{RESERVED}*'" if name else "is the default's"
            raise AmqpFault(Reply.ACCESS_REFUSED, f"exchange name '{name}' {why}")
        if exchange is None:
            return
        if if_unused and exchange.bound:
            raise AmqpFault(Reply.PRECONDITION_FAILED, f"exchange '{name}' in vhost '{self.name}' in use")
        for bound in [*exchange.bound, *self._bound_to(exchange)]:
            self._release(bound)
        self.exchanges.pop(name, None)
        self._close_gate(exchange)
        if exchange.durable:
            self._store.drop_exchange(exchange)
        self._note_change()

    def _bound_to(self, exchange: Exchange) -> list[Bound]:
        return [bound for bound in self.bindings() if bound.exchange is exchange]

    # -- policies -------------------------------------------------------------------------------

    def set_policy(self, policy: Policy, keep: bool = True) -> None:
        """Make or change a policy; it takes effect at once."""
        self.policies[policy.name] = policy
        if keep:
            self._store.save_policy(self.name, policy)
        self._reapply()

    def drop_policy(self, name: str) -> None:
        """Delete a policy. Raise AmqpFault."""
        if self.policies.pop(name, None) is None:
            raise AmqpFault(Reply.NOT_FOUND, f"no policy '{name}' in vhost '{self.name}'")
        self._store.drop_policy(self.name, name)
        self._reapply()

    def _reapply(self) -> None:
        for declared in self.declared.values():
            self._apply(declared)
        for exchange in self.exchanges.values():
            self._apply_to_exchange(exchange)
        self.broker.ready.wake()

    def _apply_to_exchange(self, exchange: Exchange) -> None:
        policy = best(self.policies.values(), exchange.name, "exchange")
        exchange.policy = policy
        alternate = policy.definition.get("alternate-exchange", "") if policy is not None else ""
        if exchange.policy_alternate != alternate:
            exchange.policy_alternate = alternate
            self._changed(exchange)

    # -- bindings -------------------------------------------------------------------------------

    def bind(
        self, source: Exchange, to: Declared | Exchange, key: str, arguments: Table, keep: bool = True
    ) -> Bound | None:
        """Bind a queue or exchange to an exchange; None if it was bound that way. Raise a GatewayError."""
        if not source.name:
            raise AmqpFault(Reply.ACCESS_REFUSED, "operation not permitted on the default exchange")
        if self.find_bound(source, to, key, arguments) is not None:
            return None
        selector = selector_of(self.broker.selectors, arguments)
        if isinstance(to, Declared):
            bound = Bound(source, to.queue, None, key, arguments, selector)
        else:
            bound = Bound(source, None, to, key, arguments, selector)
        source.add(bound)
        if isinstance(to, Declared):
            to.bound.append(bound)
        if keep and bound.durable:
            self._store.save_binding(bound)
        self._changed(source)
        return bound

    def bindings(self) -> Iterator[Bound]:
        """Yield all bindings but those of the default exchange, which are there by themselves."""
        for source in self.exchanges.values():
            yield from source.bound

    def find_bound(
        self, source: Exchange, to: Declared | Exchange, key: str, arguments: Table
    ) -> Bound | None:
        """Return the binding of that key and those arguments, or None."""
        if isinstance(to, Declared):
            mine = (bound for bound in to.bound if bound.source is source)
        else:
            mine = (bound for bound in source.bound if bound.exchange is to)
        return next((bound for bound in mine if bound.same(key, arguments)), None)

    def unbind(self, source: Exchange, to: Declared | Exchange, key: str, arguments: Table) -> bool:
        """Remove a binding; tell whether there was one: it is fine if not [RabbitMQ]."""
        if not source.name:
            raise AmqpFault(Reply.ACCESS_REFUSED, "operation not permitted on the default exchange")
        bound = self.find_bound(source, to, key, arguments)
        if bound is not None:
            self._release(bound)
        return bound is not None

    def _release(self, bound: Bound) -> None:
        source = bound.source
        if bound not in source.bound:
            return
        source.remove(bound)
        if bound.queue is not None:
            declared = self.declared.get(names.core_to_queue(bound.queue.name)[1])
            if declared is not None and bound in declared.bound:
                declared.bound.remove(bound)
        if bound.durable:
            self._store.drop_binding(bound)
        self._changed(source)
        if source.auto_delete and not source.bound:
            self.delete_exchange(source.name)

    # -- the router -------------------------------------------------------------------------------

    def _changed(self, exchange: Exchange) -> None:
        """What an exchange reaches is different: open or close its part of the topic space."""
        wanted = bool(exchange.name) and not exchange.internal
        wanted = wanted and bool(exchange.bound or exchange.alternate)
        if wanted and exchange.name not in self._gates:
            gate = self._gates[exchange.name] = Binding(exchange.filter, relay=exchange)
            self.broker.router.add(gate)
        elif not wanted:
            self._close_gate(exchange)
        self._note_change()

    def _close_gate(self, exchange: Exchange) -> None:
        gate = self._gates.pop(exchange.name, None)
        if gate is not None:
            self.broker.router.remove(gate)

    def _note_change(self) -> None:
        self._addresses.clear()
        self.broker.router.changed()

    def route(self, exchange: Exchange, topic: str, keys: Sequence[str], message: Message) -> Route:
        """Return the way of a message through an exchange."""
        route = self.fixed_route(exchange, topic, keys)
        if route is None:
            queues = exchange.reach(keys, message) or []
            mark = (exchange.name, *sorted(id(queue) for queue in queues))
            route = self.broker.router.through(topic, mark, queues)
        return route

    def way(self, exchange: Exchange, topic: str, keys: Sequence[str], message: Message) -> Route:
        """The same, also through the default exchange, where keys are names of queues."""
        if exchange.name:
            return self.route(exchange, topic, keys, message)
        found = [self.find(key) for key in keys]
        queues = [declared.queue for declared in found if declared is not None]
        return self.broker.router.through(topic, ("", *keys), queues)

    def fixed_route(self, exchange: Exchange, topic: str, keys: Sequence[str]) -> Route | None:
        """Return the way through an exchange, None if each message has its own."""
        queues = exchange.reach(keys, None)
        return None if queues is None else self.broker.router.through(topic, (exchange.name, *keys), queues)

    def address_of(self, topic: str) -> bytes:
        """Return exchange and key, as short strings, for a topic that no AMQP client published to."""
        found = self._addresses.get(topic)
        if found is None:
            if len(self._addresses) >= names.CACHED_MAX:
                self._addresses.clear()
            found = self._addresses[topic] = self._find_address(topic)
        return found

    def _find_address(self, topic: str) -> bytes:
        prefix = names.vhost_prefix(self.name)
        if topic.startswith(prefix):
            level = topic[len(prefix) :].partition("/")[0]
            exchange = self.exchanges.get(names.level_to_name(level))
            if exchange is not None and exchange.name not in ("", names.TOPIC_EXCHANGE):
                key = exchange.key_of(topic)
                if key is not None:
                    return shortstr(exchange.name) + shortstr(key)
        return address_of(self.name, topic)

    def content_of(self, message: Message) -> tuple[bytes, bytes]:
        """Return (address, property list) of a message, as clients of this virtual host get them."""
        return native_of(self.name, message, self.broker.clock.now_ms, self.address_of)

    # -- queues -------------------------------------------------------------------------------------

    def find(self, name: str) -> Declared | None:
        """Return a queue, or None. One that another door has made is found, too."""
        declared = self.declared.get(name)
        if declared is not None:
            return declared
        queue = self.broker.catalog.queues.get(names.queue_to_core(self.name, name))
        if queue is None or (queue.name.startswith("$") and not queue.name.startswith(VHOST_PREFIX)):
            return None
        declared = self.declared[name] = Declared(name, queue, None, queue.durable)
        return declared

    def queue(self, name: str, asker: object) -> Declared:
        """Return a queue that `asker` (a connection) may use. Raise AmqpFault."""
        declared = self.find(name)
        if declared is None:
            raise AmqpFault(Reply.NOT_FOUND, f"no queue '{name}' in vhost '{self.name}'")
        if declared.owner is not None and declared.owner is not asker:
            raise AmqpFault(
                Reply.RESOURCE_LOCKED,
                f"cannot obtain exclusive access to locked queue '{name}' in vhost '{self.name}'. It could "
                "be originally declared on another connection or the exclusive property value does not "
                "match that of the original declaration.",
            )
        return declared

    def declare_queue(
        self,
        name: str,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        asker: object,
        arguments: Table,
        creator: Origin | None = None,
    ) -> Declared:
        """Return a queue, made if need be. Raise AmqpFault if there is another of that name."""
        if self.find(name) is not None:
            declared = self.queue(name, asker)
            self._check_queue(declared, durable, auto_delete, owner is not None, arguments)
            declared.queue.used_ms = 0
            return declared
        check(name, self.name, arguments, durable, owner is not None)
        found = terms(arguments)
        core_name = names.queue_to_core(self.name, name)
        kept = durable and owner is None
        try:
            queue, _ = self.broker.catalog.declare(
                core_name, found.kind, found.policy, kept, auto_delete, creator
            )
        except Conflict as error:
            raise AmqpFault(Reply.PRECONDITION_FAILED, error.detail) from error
        declared = self.restore_queue(name, queue, arguments, durable, owner)
        if kept:
            self._store.save_queue(core_name, {"arguments": arguments})
        return declared

    def restore_queue(
        self, name: str, queue: Queue, arguments: Table, durable: bool = True, owner: object | None = None
    ) -> Declared:
        """Note what AMQP knows of a queue that is there."""
        declared = self.declared[name] = Declared(name, queue, arguments, durable, owner)
        self._apply(declared)
        self.broker.ready.wake()
        return declared

    def _apply(self, declared: Declared) -> None:
        """Have a queue be as its arguments and the policy for it say. Another door's stays as it is."""
        if declared.arguments is None:
            return
        kind = declared.arguments.get("x-queue-type", "classic")
        declared.policy = best(self.policies.values(), declared.name, kind)
        arguments = effective(declared.arguments, declared.policy)
        policy = terms(arguments).policy
        if declared.queue.policy.difference(policy):
            self.broker.catalog.set_policy(declared.queue, policy)
        self._set_letters(declared, arguments)

    def _set_letters(self, declared: Declared, arguments: Table) -> None:
        """Have dead letters go to the exchange that the arguments name."""
        exchange = arguments.get("x-dead-letter-exchange")
        if exchange is None:
            declared.queue.letters = None
            return
        key = arguments.get("x-dead-letter-routing-key")
        declared.queue.letters = ExchangeLetters(self, declared.name, exchange, key)

    def _check_queue(
        self, declared: Declared, durable: bool, auto_delete: bool, exclusive: bool, arguments: Table
    ) -> None:
        resource = f"queue '{declared.name}'"
        for what, wanted, is_so in (
            ("durable", durable, declared.durable),
            ("auto_delete", auto_delete, declared.auto_delete),
            ("exclusive", exclusive, declared.exclusive),
        ):
            if wanted != is_so:
                raise difference(resource, self.name, what, plain(wanted), plain(is_so))
        if declared.arguments is not None:
            self._check_arguments(resource, arguments, declared.arguments)
            return
        check(declared.name, self.name, arguments, durable, exclusive)
        wanted_terms = terms(arguments, declared.queue.policy)
        if wanted_terms.kind != declared.queue.kind:
            kinds = shown(wanted_terms.kind), shown(declared.queue.kind)
            raise difference(resource, self.name, "x-queue-type", *kinds)
        if text := declared.queue.policy.difference(wanted_terms.policy):
            raise AmqpFault(Reply.PRECONDITION_FAILED, f"{resource} in vhost '{self.name}': {text}")

    def gone(self, queue: Queue) -> None:
        """A queue of this virtual host has been deleted, by whatever door."""
        name = names.core_to_queue(queue.name)[1]
        declared = self.declared.get(name)
        if declared is None or declared.queue is not queue:
            return
        del self.declared[name]
        for bound in list(declared.bound):
            self._release(bound)
        if declared.durable:
            self._store.drop_queue(queue.name)

    def all_queues(self) -> list[Declared]:
        """Return all queues of this virtual host, other doors' too."""
        for name in list(self.broker.catalog.queues):
            vhost, queue = names.core_to_queue(name)
            if vhost == self.name:
                self.find(queue)
        return sorted(self.declared.values(), key=lambda declared: declared.name)

    def clear(self) -> None:
        """Delete everything in it."""
        for declared in self.all_queues():
            self.broker.queues.delete(declared.queue)
        for name in [name for name in self.exchanges if name and not name.startswith(RESERVED)]:
            self.delete_exchange(name)
        for name in list(self.policies):
            self.drop_policy(name)
