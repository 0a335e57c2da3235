"""The blocking resource manager."""

from __future__ import annotations

from collections.abc import Mapping

from ..driver import Routing
from ..key_value import Value
from ..message import QueueMetaData
from ..resource import ResourceManager as AsyncResourceManager
from .service import Service
from .thread import THREAD


class ResourceManager(Service):
    """Namespaces, queues, filters, routings: see `gateway.oms.ResourceManager`."""

    _inner: AsyncResourceManager

    def create_namespace(self, namespace: str) -> None:
        """Make a namespace."""
        THREAD.call(self._inner.create_namespace(namespace))

    def delete_namespace(self, namespace: str) -> None:
        """Delete a namespace with all its queues."""
        THREAD.call(self._inner.delete_namespace(namespace))

    def switch_namespace(self, namespace: str) -> None:
        """Have names without a namespace mean this one."""
        THREAD.call(self._inner.switch_namespace(namespace))

    def list_namespaces(self) -> list[str]:
        """Return all namespaces."""
        return THREAD.call(self._inner.list_namespaces())

    def create_queue(self, queue: str, attributes: Mapping[str, Value] | None = None) -> None:
        """Make a queue."""
        THREAD.call(self._inner.create_queue(queue, attributes))

    def delete_queue(self, queue: str) -> None:
        """Delete a queue."""
        THREAD.call(self._inner.delete_queue(queue))

    def list_queues(self, namespace: str | None = None) -> list[str]:
        """Return the queues of a namespace."""
        return THREAD.call(self._inner.list_queues(namespace))

    def queue_attributes(self, queue: str) -> dict[str, Value]:
        """Return the attributes of a queue."""
        return THREAD.call(self._inner.queue_attributes(queue))

    def set_queue_attributes(self, queue: str, attributes: Mapping[str, Value]) -> None:
        """Change attributes of a queue."""
        THREAD.call(self._inner.set_queue_attributes(queue, attributes))

    def filter(self, queue: str, expression: str) -> None:
        """Have a queue take only what matches."""
        THREAD.call(self._inner.filter(queue, expression))

    def routing(self, source: str, destination: str, expression: str = "") -> Routing:
        """Copy what comes into one queue to another."""
        return THREAD.call(self._inner.routing(source, destination, expression))

    def delete_routing(self, source: str, destination: str) -> None:
        """Copy no more."""
        THREAD.call(self._inner.delete_routing(source, destination))

    def list_routings(self) -> list[Routing]:
        """Return the routings."""
        return THREAD.call(self._inner.list_routings())

    def list_streams(self, queue: str) -> list[QueueMetaData]:
        """Return the partitions of a queue."""
        return THREAD.call(self._inner.list_streams(queue))

    def update_message(self, queue: str, message_id: str, headers: Mapping[str, Value]) -> None:
        """Change headers of a message that waits."""
        THREAD.call(self._inner.update_message(queue, message_id, headers))
