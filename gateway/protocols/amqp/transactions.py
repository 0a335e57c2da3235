"""A channel's transaction: what is published and settled after tx.select waits for tx.commit.

Publishes, and acknowledgements of durable queues, are one group in the log: all of it is there after
a crash, or nothing. What is rejected or given back follows as soon as that is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pamqp import commands

from gateway.api import NO_SUBSCRIBERS
from gateway.core.delivery import Delivery
from gateway.core.errors import QueueFull
from gateway.core.message import Message, Outcome

from .errors import AmqpFault, Reply
from .methods import make

if TYPE_CHECKING:
    from .channel import Channel
    from .publisher import Target


class Transaction:
    """Begun by tx.select, and again by every commit and rollback."""

    __slots__ = ("_channel", "_publishes", "_settled")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._publishes: list[tuple[Target, Message, list[str], bytes]] = []
        self._settled: list[tuple[int, Delivery, Outcome]] = []

    def publish(self, target: Target, message: Message, copies: list[str], raw: bytes) -> None:
        """Take a message."""
        # Now: it is this method's fault, not the commit's.
        self._channel.connection.session.check_publish(message.topic)
        self._publishes.append((target, message, copies, raw))

    def settle(self, tags: list[int], deliveries: list[Delivery], outcome: Outcome) -> None:
        """Take what was settled."""
        self._settled += [(tag, d, outcome) for tag, d in zip(tags, deliveries, strict=True)]

    def rollback(self) -> None:
        """Forget the publishes; what was settled is unacknowledged again, and not redelivered."""
        settled, self._settled = self._settled, []
        self._publishes = []
        self._channel.receiving.restore({tag: delivery for tag, delivery, _ in settled})

    def commit(self, method: Any) -> None:
        """Do it all; answer once it is stored. Raise AmqpFault, everything as it was, if it cannot be."""
        channel = self._channel
        connection = channel.connection
        publishes, settled = self._publishes, self._settled
        acknowledged = [delivery for _, delivery, outcome in settled if outcome is Outcome.ACK]
        items = [(message, target.find(message, copies)) for target, message, copies, _ in publishes]
        try:
            results = connection.session.transact(list(items), acknowledged)
        except QueueFull as error:
            self.rollback()
            raise AmqpFault(Reply.PRECONDITION_FAILED, f"nothing was committed: {error.detail}") from error
        self._publishes, self._settled = [], []
        for (target, message, _, raw), result in zip(publishes, results, strict=True):
            if result == NO_SUBSCRIBERS and target.mandatory:
                channel.publisher.give_back(target, raw, message.body)

        def stored(done: bool) -> None:
            if done:
                connection.session.broker.settlement.acknowledged(acknowledged)
                for _, delivery, outcome in reversed(settled):
                    if outcome is not Outcome.ACK:
                        connection.session.settle(delivery, outcome)
                channel.receiving.settled()
                if connection.channels.get(channel.number) is channel and not channel.closing:
                    channel.answer(make(commands.Tx.CommitOk))
                return
            channel.receiving.restore({tag: delivery for tag, delivery, _ in settled})
            fault = AmqpFault(Reply.INTERNAL_ERROR, "nothing was committed: it could not be stored")
            connection.refuse(channel.number, fault, method)

        if any(result > 0 for result in results) or acknowledged:
            connection.gateway.when_durable(connection.session.broker.engine.position(), stored)
        else:
            stored(True)
