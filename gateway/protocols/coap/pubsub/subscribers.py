"""How many clients observe topics configured with a limit (draft-ietf-core-coap-pubsub-21, 2.2.1)."""

from __future__ import annotations

from .configurations import Configurations


class Subscribers:
    """Counts, for topics with a limit alone: most gateways have none, and many observers."""

    __slots__ = ("_configurations", "_counts")

    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations
        self._counts: dict[str, int] = {}

    def begin(self, topic: str, count: int) -> None:
        """A topic has been configured, or is not any more; so many observe it now."""
        if self._configurations.max_subscribers(topic) >= 0:
            self._counts[topic] = count
        else:
            self._counts.pop(topic, None)

    def full(self, topic: str) -> bool:
        """Tell whether no other may observe a topic."""
        limit = self._configurations.max_subscribers(topic)
        return 0 <= limit <= self._counts.get(topic, 0)

    def count(self, topic: str, change: int) -> None:
        """One came (1) or went (-1)."""
        if topic in self._counts:
            self._counts[topic] += change
