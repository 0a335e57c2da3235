"""Queues of OpenMessaging as the core's: (namespace, queue) is the topic `namespace/queue`.

A group on it is the shared subscription `$share/<group>/<topic>`: that is what MQTT, AMQP, HTTP and RocketMQ
clients of the same group share. `$queue/<name>`, without a namespace, is the queue of that name itself. A
stream over a queue is the stream of the topic's name.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import OMSDestinationError, OMSError, ResponseStatus

DIRECT = "$queue/"
SHARE = "$share/"


class Place(NamedTuple):
    """Where a queue of OpenMessaging is: `queue` is the core's own, "" for what has a topic and groups."""

    topic: str
    queue: str = ""


def place_of(namespace: str, queue: str) -> Place:
    """Return where a queue is. Raise OMSDestinationError for what is no name of one."""
    if any(wild in queue for wild in "+#\0"):
        raise _no(queue, "+, # and U+0000 name no queue")
    if not queue:
        raise _no(queue, "it is empty")
    if queue.startswith(DIRECT) and not namespace and len(queue) > len(DIRECT):
        return Place(queue, queue.removeprefix(DIRECT))
    if queue.startswith("$"):
        raise _no(queue, "what begins with $ is the gateway's own")
    return Place(f"{namespace}/{queue}" if namespace else queue)


def share_of(group: str, topic: str) -> str:
    """Return the name of a group's queue."""
    return f"{SHARE}{group}/{topic}"


def split_share(name: str) -> tuple[str, str] | None:
    """Return (group, topic) of a group's queue; None if it is none, or for more than one topic."""
    if not name.startswith(SHARE):
        return None
    group, _, topic = name[len(SHARE) :].partition("/")
    return None if "+" in topic or "#" in topic else (group, topic)


def check_group(group: str) -> None:
    """Raise OMSError unless a group can be called so."""
    if not group or any(character in group for character in "/+#\0"):
        raise OMSError(f"{group!r} is no group: without /, + and # it is", ResponseStatus.BAD_PARAMETER)


def _no(queue: str, why: str) -> OMSDestinationError:
    return OMSDestinationError(f"{queue!r} is no queue: {why}", ResponseStatus.BAD_PARAMETER)
