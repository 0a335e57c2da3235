"""Which topics and consumer groups there are.

At the other doors a topic is there when somebody uses it, and so it is here, unless
`openmessaging.auto_create` says otherwise. Queues are declared: one that is not there is never made.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.api import Gateway
from gateway.core.topic import QUEUE_PREFIX, SHARE_PREFIX, matches
from gateway.rocketmq.numbers import Code

from .clients.groups import Groups
from .errors import Refused

REMEMBERED_MAX: Final = 10_000  # groups that were found: to look for one is to look at all queues


class Existence:
    """One for the door."""

    def __init__(self, gateway: Gateway, groups: Groups, settings: Any) -> None:
        self._router = gateway.broker.router
        self._queues = gateway.broker.catalog.queues
        self._open: bool = settings.auto_create
        self._topics: list[str] = settings.topics
        self._groups = groups
        self._found: dict[str, str] = {}  # group -> a queue of its

    def check_topic(self, topic: str) -> None:
        """Raise Refused (TOPIC_NOT_FOUND) unless a topic is there, or will be when it is used."""
        if topic.startswith(QUEUE_PREFIX):
            if topic[len(QUEUE_PREFIX) :] not in self._queues:
                raise Refused(Code.TOPIC_NOT_FOUND, f"there is no queue {topic[len(QUEUE_PREFIX) :]!r}")
            return
        if self._open or self._configured(topic) or self._bound(topic):
            return
        raise Refused(
            Code.TOPIC_NOT_FOUND,
            f"there is no topic {topic!r}: nothing is bound to it, and openmessaging.topics does not name it",
        )

    def check_group(self, group: str) -> None:
        """Raise Refused (CONSUMER_GROUP_NOT_FOUND) unless a group is there, or will be when it is used."""
        if self._open or self._groups.configured(group) or self._found.get(group) in self._queues:
            return
        prefix = f"{SHARE_PREFIX}{group}/"
        for name in self._queues:
            if name.startswith(prefix):
                if len(self._found) >= REMEMBERED_MAX:
                    self._found.clear()
                self._found[group] = name
                return
        raise Refused(Code.CONSUMER_GROUP_NOT_FOUND, f"there is no consumer group {group!r}")

    def _configured(self, topic: str) -> bool:
        return any(matches(topic_filter, topic) for topic_filter in self._topics)

    def _bound(self, topic: str) -> bool:
        """Tell whether something would get what is published there and keep it."""
        return any(
            binding.queue is not None or binding.relay is not None for binding in self._found_by(topic)
        )

    def _found_by(self, topic: str) -> list[Any]:
        return self._router.match(topic)
