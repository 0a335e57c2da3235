"""Queues of OpenMessaging by the gateway's names: (namespace, queue) is the topic `namespace/queue`.

A group on it is the shared subscription `$share/<group>/<topic>`: that is what MQTT, AMQP, HTTP and RocketMQ
clients of the same group share. `$queue/<name>`, without a namespace, is the queue of that name itself.
"""

from __future__ import annotations

from typing import Final

from .errors import OMSDestinationError, ResponseStatus

DIRECT: Final = "$queue/"
SHARE: Final = "$share/"


def topic_of(namespace: str, queue: str) -> str:
    """Return where a queue is. Raise OMSDestinationError for what is no name of one."""
    if any(wild in queue for wild in "+#\0"):
        raise _no(queue, "+, # and U+0000 name no queue")
    if not queue:
        raise _no(queue, "it is empty")
    if queue.startswith(DIRECT) and not namespace and len(queue) > len(DIRECT):
        return queue
    if queue.startswith("$"):
        raise _no(queue, "what begins with $ is the gateway's own")
    return f"{namespace}/{queue}" if namespace else queue


def share_of(group: str, topic: str) -> str:
    """Return the name of a group's queue."""
    return f"{SHARE}{group}/{topic}"


def split_share(name: str) -> tuple[str, str] | None:
    """Return (group, topic) of a group's queue; None if it is none, or for more than one topic."""
    if not name.startswith(SHARE):
        return None
    group, _, topic = name[len(SHARE) :].partition("/")
    return None if "+" in topic or "#" in topic else (group, topic)


def topic_of_share(name: str) -> str:
    """Return the topic of a group's queue; "" if it is none, or for more than one topic."""
    found = split_share(name)
    return "" if found is None else found[1]


def _no(queue: str, why: str) -> OMSDestinationError:
    return OMSDestinationError(f"{queue!r} is no queue: {why}", ResponseStatus.BAD_PARAMETER)
