"""Whose topic and group a resource of RocketMQ's is: names to ours and back, with namespaces.

A resource names its namespace itself, or its client's is meant. What begins with `%DLQ%` or `%RETRY%` is a
group's; see `Named`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gateway.core.errors import InvalidTopic
from gateway.rocketmq.names import DEAD_LETTERS, RETRIES, from_topic, share_of, to_group, to_topic
from gateway.rocketmq.numbers import Code

from .clients.client import Client
from .errors import Refused

QUEUE_PREFIX: Final = "$queue/"


class Named(NamedTuple):
    """What a topic's name stands for: a topic of ours, or, if `group` is not empty, something of a group's.

    `kind` is then `DEAD_LETTERS` or `RETRIES`, and `topic` what RocketMQ calls it.
    """

    topic: str
    group: str = ""
    kind: str = ""


def namespace_of(client: Client, resource: Any) -> str:
    """Return the namespace that is meant."""
    return str(resource.resource_namespace) or client.namespace


def named(client: Client, resource: Any) -> Named:
    """Return what a resource stands for. Raise Refused (ILLEGAL_TOPIC)."""
    name = str(resource.name)
    try:
        for kind in (DEAD_LETTERS, RETRIES):
            if name.startswith(kind):
                return Named(name, to_group(name[len(kind) :]), kind)
        return Named(to_topic(namespace_of(client, resource), name))
    except InvalidTopic as error:
        raise Refused(Code.ILLEGAL_TOPIC, error.detail) from error


def topic_of(client: Client, resource: Any) -> str:
    """Return the topic of ours that a resource names, to be published to. Raise Refused (ILLEGAL_TOPIC)."""
    found = named(client, resource)
    if found.group:
        raise Refused(Code.ILLEGAL_TOPIC, f"{found.topic!r}: only the gateway writes there")
    return found.topic


def group_of(resource: Any) -> str:
    """Return the consumer group that a resource names. Raise Refused (ILLEGAL_CONSUMER_GROUP)."""
    try:
        return to_group(str(resource.name))
    except InvalidTopic as error:
        raise Refused(Code.ILLEGAL_CONSUMER_GROUP, error.detail) from error


def queue_name(group: str, topic: str) -> str:
    """Return the queue that a group's consumers of a topic compete for: a queue's own topic is that queue."""
    if topic.startswith(QUEUE_PREFIX):
        return topic[len(QUEUE_PREFIX) :]
    return share_of(group, topic)


def resource_name(client: Client, topic: str) -> tuple[str, str]:
    """Return (namespace, name) by which a client knows a topic of ours."""
    namespace = client.namespace
    if namespace and not topic.startswith(namespace + "/"):
        namespace = ""
    return namespace, from_topic(namespace, topic)
