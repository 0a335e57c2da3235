"""The resource manager of the local driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.api import WORK, Binding, Conflict, Queue, QueuePolicy

from ...driver import Resources, Routing
from ...errors import OMSDestinationError, OMSError, ResponseStatus
from ...key_value import Value
from ...keys import GROUP_DEFAULT
from ...names import share_of
from .errors import translating

if TYPE_CHECKING:
    from . import LocalDriver


class LocalResources(Resources):
    """A queue is a topic with groups' queues; its attributes are the policy of these."""

    def __init__(self, driver: LocalDriver) -> None:
        self._driver = driver
        self._gateway = driver.region.gateway
        self._registry = driver.region.registry
        self._catalog = driver.region.gateway.broker.catalog

    async def _stored(self) -> None:
        with translating():
            await self._gateway.durable(self._gateway.broker.engine.position())

    # -- namespaces -----------------------------------------------------------------------------

    async def create_namespace(self, namespace: str) -> None:
        if namespace in self._registry.namespaces:
            raise OMSDestinationError(
                f"namespace {namespace!r} exists already", ResponseStatus.NAMESPACE_EXISTS
            )
        if any(character in namespace for character in "+#$\0"):
            raise OMSError(
                f"{namespace!r} is no namespace: it has none of + # $", ResponseStatus.BAD_PARAMETER
            )
        self._gateway.begin_turn()
        self._registry.add_namespace(namespace)
        await self._stored()

    async def delete_namespace(self, namespace: str) -> None:
        self._driver.check_namespace(f"{namespace}://")
        self._gateway.begin_turn()
        self._registry.remove_namespace(namespace)
        await self._stored()

    async def list_namespaces(self) -> list[str]:
        return sorted(self._registry.namespaces)

    # -- queues ---------------------------------------------------------------------------------

    async def create_queue(self, queue: str, attributes: Mapping[str, Value]) -> None:
        topic = self._topic(queue)
        if topic in self._registry.topics():
            raise OMSDestinationError(f"queue {queue!r} exists already", ResponseStatus.DESTINATION_EXISTS)
        self._gateway.begin_turn()
        with translating():
            policy = _policy(WORK, attributes)
            made, _ = self._catalog.declare(share_of(GROUP_DEFAULT, topic), "classic", policy)
            self._catalog.bind(made, Binding(topic, made, selector=self._registry.filtered(topic, None)))
        await self._stored()

    async def delete_queue(self, queue: str) -> None:
        topic = self._existing(queue)
        self._gateway.begin_turn()
        self._registry.delete(topic)
        await self._stored()

    async def list_queues(self, namespace: str) -> list[str]:
        self._driver.check_namespace(f"{namespace}://")
        topics = self._registry.topics()
        if namespace:
            prefix = namespace + "/"
            return sorted(topic[len(prefix) :] for topic in topics if topic.startswith(prefix))
        others = self._registry.namespaces
        return sorted(topic for topic in topics if topic.partition("/")[0] not in others)

    async def queue_attributes(self, queue: str) -> dict[str, Value]:
        values = self._queues(queue)[0].policy.to_mapping()
        return {name.upper(): _shown(value) for name, value in values.items()}

    async def set_queue_attributes(self, queue: str, attributes: Mapping[str, Value]) -> None:
        queues = self._queues(queue)
        self._gateway.begin_turn()
        with translating():
            for found, policy in [(each, _policy(each.policy, attributes)) for each in queues]:
                self._catalog.set_policy(found, policy)
        await self._stored()

    async def list_streams(self, queue: str) -> list[int]:
        self._existing(queue)
        return [0]

    # -- filters and routings -------------------------------------------------------------------

    async def filter(self, queue: str, expression: str) -> None:
        topic = self._existing(queue)
        self._gateway.begin_turn()
        with translating():
            self._registry.set_filter(topic, expression)
        await self._stored()

    async def create_routing(self, routing: Routing) -> None:
        source, target = self._topic(routing.source), self._existing(routing.destination)
        if source == target:
            raise OMSError("a queue is not routed to itself", ResponseStatus.BAD_PARAMETER)
        self._gateway.begin_turn()
        with translating():
            self._registry.add_routing(source, target, routing.expression)
        await self._stored()

    async def delete_routing(self, source: str, destination: str) -> None:
        self._gateway.begin_turn()
        if not self._registry.remove_routing(self._topic(source), self._topic(destination)):
            raise OMSDestinationError(f"there is no routing from {source!r} to {destination!r}")
        await self._stored()

    async def list_routings(self) -> list[Routing]:
        found = []
        for source, target, expression in self._registry.routings():
            if self._driver.namespace_of(source) == self._driver.namespace:
                name = self._driver.name_of
                found.append(Routing(name(source), name(target), expression))
        return found

    # -- names ----------------------------------------------------------------------------------

    def _topic(self, queue: str) -> str:
        place = self._driver.place(queue)
        if place.queue:
            raise OMSDestinationError(
                f"{queue!r} is the gateway's own, and managed by its API", ResponseStatus.BAD_PARAMETER
            )
        return place.topic

    def _existing(self, queue: str) -> str:
        topic = self._topic(queue)
        if not self._registry.queues_of(topic):
            raise OMSDestinationError(f"there is no queue {queue!r}")
        return topic

    def _queues(self, queue: str) -> list[Queue]:
        """Return the groups' queues, the default group's first."""
        topic = self._existing(queue)
        found = [each for each in self._registry.queues_of(topic) if each.name != topic]
        if not found:
            raise OMSDestinationError(f"queue {queue!r} has a stream alone")
        return sorted(found, key=lambda each: each.name != share_of(GROUP_DEFAULT, topic))


def _policy(base: QueuePolicy, attributes: Mapping[str, Value]) -> QueuePolicy:
    """Return a policy that differs in what attributes say. Raise Conflict for what is none."""
    values = base.to_mapping()
    for name, value in attributes.items():
        key = name.lower()
        if key not in values:
            raise Conflict(f"attribute {name!r}: known are {', '.join(values).upper()}")
        values[key] = _read(key, values[key], value)
    return QueuePolicy.from_mapping(values)


def _read(name: str, known: Any, value: Value) -> Any:
    """Return an attribute's value as a policy has it; a list is numbers with commas between."""
    try:
        if isinstance(known, bool):
            return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
        if isinstance(known, tuple):
            return [int(part) for part in str(value).split(",") if part.strip()]
        return int(value) if isinstance(known, int) else str(value)
    except (ValueError, KeyError):
        raise Conflict(f"attribute {name.upper()}: {value!r} is none") from None


def _shown(value: Any) -> Value:
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    assert isinstance(value, str | int)
    return value
