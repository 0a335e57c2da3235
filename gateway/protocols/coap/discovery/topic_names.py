"""The topics that have a value, in order. Listing very many takes a while: that is done once for all who ask.

Up to `AT_ONCE_MAX` they are gathered for each question. More are sorted in a thread, at most once in
`KEPT_MS`: so a client that asks again and again does not keep the loop busy.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from gateway.api import Gateway
from gateway.core.topic import QUEUE_PREFIX, SESSION_PREFIX

from ..pubsub.configurations import lives

AT_ONCE_MAX: Final = 5000  # names; gathering and sorting them holds the loop for a few milliseconds
KEPT_MS: Final = 2000  # how old a list of more may be

Then = Callable[[list[str]], None]


class TopicNames:
    """One per door."""

    __slots__ = ("_gateway", "_kept", "_kept_until_ms", "_waiting")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._kept: list[str] = []
        self._kept_until_ms = 0
        self._waiting: list[tuple[str, Then]] | None = None  # while a thread sorts

    def find(self, prefix: str, then: Then) -> None:
        """Call, now or soon, with the topics that begin so and have a value, in order."""
        broker = self._gateway.broker
        if len(broker.router.routes) + broker.retained.count <= AT_ONCE_MAX:
            retained, names = self._gather()
            then(_part(_sorted(retained, names), prefix))
        elif broker.clock.monotonic_ms < self._kept_until_ms:
            then(_part(self._kept, prefix))
        elif self._waiting is not None:
            self._waiting.append((prefix, then))
        else:
            self._waiting = [(prefix, then)]
            self._gateway.task(self._renew(*self._gather()))

    def _gather(self) -> tuple[list[str], list[str]]:
        broker = self._gateway.broker
        now_ms = broker.clock.now_ms
        retained = [message.topic for message in broker.retained.all() if lives(message, now_ms)]
        names = [topic for topic in broker.router.routes if lives(broker.router.last(topic), now_ms)]
        return (retained, names)

    async def _renew(self, retained: list[str], names: list[str]) -> None:
        found = await asyncio.to_thread(_sorted, retained, names)
        self._gateway.begin_turn()
        self._kept = found
        self._kept_until_ms = self._gateway.clock.monotonic_ms + KEPT_MS
        waiting, self._waiting = self._waiting, None
        for prefix, then in waiting or ():
            then(_part(found, prefix))


def _sorted(retained: list[str], names: list[str]) -> list[str]:
    internal = (QUEUE_PREFIX, SESSION_PREFIX)
    return sorted(topic for topic in {*retained, *names} if not topic.startswith(internal))


def _part(topics: list[str], prefix: str) -> list[str]:
    """Return those of sorted topics that begin so."""
    begin = bisect_left(topics, prefix)
    end = bisect_left(topics, prefix + "\U0010ffff", begin)
    return topics[begin:end]
