"""Queues of OpenMessaging as the core's, by `gateway.oms.names`; a stream over one has the topic's name."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import OMSError, ResponseStatus
from ...names import DIRECT, topic_of


class Place(NamedTuple):
    """Where a queue of OpenMessaging is: `queue` is the core's own, "" for what has a topic and groups."""

    topic: str
    queue: str = ""


def place_of(namespace: str, queue: str) -> Place:
    """Return where a queue is. Raise OMSDestinationError for what is no name of one."""
    topic = topic_of(namespace, queue)
    return Place(topic, topic.removeprefix(DIRECT)) if topic.startswith(DIRECT) else Place(topic)


def check_group(group: str) -> None:
    """Raise OMSError unless a group can be called so."""
    if not group or any(character in group for character in "/+#\0"):
        raise OMSError(f"{group!r} is no group: without /, + and # it is", ResponseStatus.BAD_PARAMETER)
