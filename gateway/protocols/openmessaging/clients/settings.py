"""What a client is told about how to behave: sizes, waits, and when to try again what failed.

Consumers get the policy of their group's queue, so that a client which waits by itself before the next
attempt (FIFO) waits as the gateway would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gateway.api import Gateway
from gateway.core.access import Action
from gateway.core.policy import WORK, QueuePolicy
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.schema import Settings

from ..errors import Refused
from ..existence import Existence
from ..names import Named, group_of, named, queue_name, topic_of
from .client import Client
from .groups import Groups
from .logins import Logins

SEND_ATTEMPTS: Final = 3  # RocketMQ's proxy: with pauses of 10 ms to 1 s, each twice the last
SEND_PAUSE_MS: Final = (10, 1000)
BATCH_MAX: Final = 32  # messages that a push consumer asks for at once
ATTEMPTS_MAX: Final = 2**31 - 1  # of a queue that never gives up: as much as the field holds
TOPICS_MAX: Final = 10_000  # of one client: it asks for each every half minute


#: Is told what a group's consumer will receive: client, group, topic and filter, as it sent them.
OnSubscribed = Callable[[Client, Any, Any, Any], None]


class Negotiation:
    """Answers clients' settings."""

    def __init__(
        self, gateway: Gateway, logins: Logins, groups: Groups, existence: Existence, settings: Any
    ) -> None:
        self._queues = gateway.broker.catalog.queues
        self._logins = logins
        self._groups = groups
        self._existence = existence
        self._settings = settings
        self.on_subscribed: list[OnSubscribed] = []

    def settle(self, client: Client, wanted: Any) -> Any:
        """Note a client's settings, and return what it is to do. Raise Refused, NotAuthorized ..."""
        settings = Settings()
        settings.CopyFrom(wanted)
        settings.metric.Clear()
        settings.metric.on = False
        if wanted.HasField("publishing"):
            self._publish(client, settings)
        else:
            self._subscribe(client, settings)
        client.kind = wanted.client_type
        client.settings = settings
        return settings

    def _publish(self, client: Client, settings: Any) -> None:
        publishing = settings.publishing
        topics = {topic_of(client, topic) for topic in publishing.topics}
        _check_number(len(client.publishes | topics))
        client.publishes |= topics
        publishing.max_body_size = self._settings.body_bytes_max
        publishing.validate_message_type = False  # a topic takes every kind of message
        backoff = settings.backoff_policy
        backoff.max_attempts = SEND_ATTEMPTS
        backoff.exponential_backoff.initial.FromMilliseconds(SEND_PAUSE_MS[0])
        backoff.exponential_backoff.max.FromMilliseconds(SEND_PAUSE_MS[1])
        backoff.exponential_backoff.multiplier = 2

    def _subscribe(self, client: Client, settings: Any) -> None:
        subscription = settings.subscription
        group = group_of(subscription.group)
        self._existence.check_group(group)
        _check_number(len(subscription.subscriptions))
        topics = [named(client, entry.topic) for entry in subscription.subscriptions]
        for entry in subscription.subscriptions:
            for call in self.on_subscribed:
                call(client, subscription.group, entry.topic, entry.expression)
        if subscription.HasField("fifo"):
            self._note(client, group, topics, subscription.fifo)
        client.group = group
        subscription.fifo = subscription.fifo or self._groups.get(group).fifo
        subscription.receive_batch_size = BATCH_MAX
        subscription.long_polling_timeout.FromMilliseconds(round(self._settings.long_poll_seconds_max * 1000))
        policy = self._policy(group, topics)
        backoff = settings.backoff_policy
        backoff.Clear()
        backoff.max_attempts = min(policy.delivery_limit or ATTEMPTS_MAX, ATTEMPTS_MAX)
        for pause_ms in policy.backoff_ms or (policy.retry_delay_ms,):
            backoff.customized_backoff.next.add().FromMilliseconds(pause_ms)

    def _note(self, client: Client, group: str, topics: list[Named], fifo: bool) -> None:
        """Remember that a group is for messages in order; one of several consumers cannot take that back."""
        if not fifo and any(other.group == group and other is not client for other in self._logins):
            return
        mine = [found.topic for found in topics if not found.group]
        if mine and all(client.session.may(Action.SUBSCRIBE, topic) for topic in mine):
            self._groups.note(group, fifo)

    def _policy(self, group: str, topics: list[Named]) -> QueuePolicy:
        """Return the policy of the first queue that is there; they all have what the first receive makes."""
        for found in topics:
            queue = self._queues.get(queue_name(group, found.topic))
            if queue is not None:
                return queue.policy
        return WORK


def _check_number(topics: int) -> None:
    if topics > TOPICS_MAX:
        raise Refused(Code.BAD_REQUEST, f"{topics} topics; a client may have {TOPICS_MAX}")
