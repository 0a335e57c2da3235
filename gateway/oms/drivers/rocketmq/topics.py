"""Queues by the application's names, and as servers call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .translate import queue_of, resource_of

NAMES_MAX: Final = 10_000  # names that are remembered; it is quick to make them again


class Topics:
    """The topics of one client. `split` takes a queue's name apart: (namespace, queue)."""

    def __init__(self, split: Callable[[str], tuple[str, str]]) -> None:
        self._split = split
        self._resources: dict[str, Any] = {}

    def resource(self, queue: str) -> Any:
        """Return what servers call a queue."""
        found = self._resources.get(queue)
        if found is None:
            if len(self._resources) >= NAMES_MAX:
                self._resources.clear()
            found = self._resources[queue] = resource_of(*self._split(queue))
        return found

    def queue_of(self, resource: Any) -> str:
        """Return the application's name of what a server names."""
        for queue, known in self._resources.items():
            if known == resource:
                return queue
        return queue_of(resource)
