"""Addresses for answers: whoever was told one may answer there, and nobody can guess one.

`$reply/<token>` is a door's own, such as a waiting HTTP request, or begins topics that a client was given for
its requests (MQTT's response information). A queue that a protocol makes for answers alone (AMQP's direct
reply-to) may be published to in the same way. No rule has to allow that: who asks, and so tells the
address, has decided it. Doors make the tokens, of 128 random bits at least.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import QuotaExceeded
from .message import Message
from .metrics import DropCause
from .router import NO_SUBSCRIBERS
from .topic import REPLY_PREFIX

if TYPE_CHECKING:
    from .broker import Broker
    from .caller import Caller

WAITING_MAX = 100_000  # addresses at a time: as many as connections; each takes about 1 KB

Take = Callable[[Message], None]


class Replies:
    """The addresses there are."""

    __slots__ = ("_broker", "_takers", "queues")

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._takers: dict[str, Take | None] = {}
        self.queues: set[str] = set()  # topics of queues for answers
        broker.addresses[REPLY_PREFIX.rstrip("/")] = self.publish

    def open(self, token: str, take: Take | None = None) -> str:
        """Return the address of a token; `take` gets the answers, else they go to who subscribes below it.

        Raise QuotaExceeded. `close` it when nothing is waited for any more.
        """
        if len(self._takers) >= WAITING_MAX:
            raise QuotaExceeded(f"{WAITING_MAX} requests wait for answers; try again later", retry_ms=1000)
        self._takers[token] = take
        return REPLY_PREFIX + token

    def close(self, address: str) -> None:
        """Nobody waits at an address any more."""
        self._takers.pop(address.removeprefix(REPLY_PREFIX), None)

    def publish(self, caller: Caller, message: Message) -> int:
        """Take an answer; return as `Broker.publish`. Raise QuotaExceeded."""
        caller.charge(message)
        token = message.topic.split("/", 2)[1]
        metrics = self._broker.metrics
        if token not in self._takers:
            metrics.refuse(DropCause.NO_SUBSCRIBER)
            return NO_SUBSCRIBERS
        take = self._takers[token]
        if take is None:
            return self._broker.publish(message)
        metrics.published += 1
        metrics.copies += 1
        metrics.delivered += 1
        take(message)
        return 0
