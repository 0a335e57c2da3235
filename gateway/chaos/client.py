"""What a client of the queue does. All outcomes are told, none is raised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from .history import Outcome

OPERATION_SECONDS_MAX = 5.0  # then nobody knows: RocketMQ's timeout
QUEUE = "chaos"  # prefix of the topic
GROUP = "ChaosTest_ConsumerGroup"


@dataclass(frozen=True, slots=True)
class Result:
    """How an operation ended; of a dequeue, with what."""

    outcome: Outcome
    extra: str | None = None
    value: str | None = None
    key: str | None = None


class QueueClient(ABC):
    """One client of one queue. It connects, and connects again, when something is asked of it.

    SUCCESS of an enqueue: it is stored. FAILURE: it is not, and never will be. UNKNOWN: neither is known.
    Of a dequeue: the message is acknowledged; there was none, or nobody could be asked; there was one, and
    nobody knows whether it is acknowledged.
    """

    @abstractmethod
    async def open(self) -> None:
        """Connect and subscribe. Raise ChaosError if that is impossible now."""

    @abstractmethod
    async def enqueue(self, value: str, key: str | None) -> Result:
        """Send a message."""

    @abstractmethod
    async def dequeue(self, seconds: float) -> Result:
        """Take a message, waiting for so long."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""
