"""The resource manager: namespaces, queues, filters and routings, as far as the driver has them."""

from __future__ import annotations

from collections.abc import Mapping

from .client import Connection
from .driver import Driver, Feature, Resources, Routing
from .errors import OMSDestinationError, OMSError, ResponseStatus
from .key_value import Value
from .lifecycle import ServiceLifecycle
from .message import QueueMetaData

NAME_BYTES_MAX = 255  # of a namespace or queue: RocketMQ's topics have 127, MQTT's 65535


class ResourceManager(ServiceLifecycle):
    """Names are `ns://queue`, or `queue` in the namespace of the access point.

    What is not there is an OMSDestinationError with DESTINATION_NOT_FOUND or NAMESPACE_NOT_FOUND, what is
    there already one with DESTINATION_EXISTS or NAMESPACE_EXISTS.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._driver: Driver = connection.driver

    async def _start(self) -> None:
        await self._connection.enter()

    async def _stop(self) -> None:
        await self._connection.leave()

    def _resources(self, feature: Feature, *names: str) -> Resources:
        self._driver.require(feature)
        self._check_started()
        for name in names:
            _, queue = self._driver.split_queue(name)
            _check_name(queue)
        return self._driver.resources()

    async def create_namespace(self, namespace: str) -> None:
        """Make a namespace."""
        resources = self._resources(Feature.NAMESPACES)
        _check_namespace(namespace)
        await resources.create_namespace(namespace)

    async def delete_namespace(self, namespace: str) -> None:
        """Delete a namespace with all its queues and routings."""
        resources = self._resources(Feature.NAMESPACES)
        _check_namespace(namespace)
        await resources.delete_namespace(namespace)

    async def switch_namespace(self, namespace: str) -> None:
        """Have names without a namespace mean this one, for all clients of the access point from now on.

        What is bound already stays as it is.
        """
        if namespace and namespace not in await self.list_namespaces():
            raise OMSDestinationError(
                f"there is no namespace {namespace!r}", ResponseStatus.NAMESPACE_NOT_FOUND
            )
        self._driver.namespace = namespace

    async def list_namespaces(self) -> list[str]:
        """Return the names of all namespaces."""
        return await self._resources(Feature.NAMESPACES).list_namespaces()

    async def create_queue(self, queue: str, attributes: Mapping[str, Value] | None = None) -> None:
        """Make a queue: from now on it keeps messages for consumers without a CONSUMER_ID."""
        await self._resources(Feature.QUEUES, queue).create_queue(queue, attributes or {})

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue with what it holds for all groups."""
        await self._resources(Feature.QUEUES, queue).delete_queue(queue)

    async def list_queues(self, namespace: str | None = None) -> list[str]:
        """Return the queues of a namespace: the access point's, unless another is named."""
        resources = self._resources(Feature.LIST_QUEUES)
        return await resources.list_queues(self._driver.namespace if namespace is None else namespace)

    async def queue_attributes(self, queue: str) -> dict[str, Value]:
        """Return the attributes of a queue."""
        return await self._resources(Feature.QUEUE_ATTRIBUTES, queue).queue_attributes(queue)

    async def set_queue_attributes(self, queue: str, attributes: Mapping[str, Value]) -> None:
        """Change attributes of a queue; those not named stay."""
        await self._resources(Feature.QUEUE_ATTRIBUTES, queue).set_queue_attributes(queue, attributes)

    async def filter(self, queue: str, expression: str) -> None:
        """Have a queue take only what an SQL expression matches, from now on; "" is everything."""
        await self._resources(Feature.FILTERS, queue).filter(queue, expression)

    async def routing(self, source: str, destination: str, expression: str = "") -> Routing:
        """Copy what comes into one queue to another as well, if the expression matches; "" is everything."""
        made = Routing(source, destination, expression)
        await self._resources(Feature.ROUTINGS, source, destination).create_routing(made)
        return made

    async def delete_routing(self, source: str, destination: str) -> None:
        """Copy no more."""
        await self._resources(Feature.ROUTINGS, source, destination).delete_routing(source, destination)

    async def list_routings(self) -> list[Routing]:
        """Return the routings of the access point's namespace."""
        return await self._resources(Feature.ROUTINGS).list_routings()

    async def list_streams(self, queue: str) -> list[QueueMetaData]:
        """Return the partitions of a queue."""
        found = await self._resources(Feature.STREAMS, queue).list_streams(queue)
        return [QueueMetaData(queue, partition) for partition in found]

    async def update_message(self, queue: str, message_id: str, headers: Mapping[str, Value]) -> None:
        """Change headers of a message that waits."""
        await self._resources(Feature.UPDATE_MESSAGE, queue).update_message(queue, message_id, headers)


def _check_namespace(namespace: str) -> None:
    _check_name(namespace)
    if "/" in namespace or ":" in namespace:
        raise OMSError(
            f"{namespace!r} is no namespace: / and : part it from queues", ResponseStatus.BAD_PARAMETER
        )


def _check_name(name: str) -> None:
    if not name or len(name.encode()) > NAME_BYTES_MAX:
        raise OMSError(f"{name!r} is no name: 1 to {NAME_BYTES_MAX} bytes are", ResponseStatus.BAD_PARAMETER)
