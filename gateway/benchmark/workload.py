"""What a workload file says: the fields of the original, which are camel case, with their defaults.

Two fields may have fractions here, so that a run can be short: the durations in minutes, and the backlog.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from .documents import convert, read_fields
from .errors import BenchmarkError

KeyDistribution = Literal["NO_KEY", "KEY_ROUND_ROBIN", "RANDOM_NANO"]
Count = Annotated[int, msgspec.Meta(ge=1)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Minutes = Annotated[float, msgspec.Meta(ge=0)]

GIGABYTE = 1 << 30


class Workload(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One workload."""

    name: str
    topics: Count
    messageSize: Annotated[int, msgspec.Meta(ge=0)]
    subscriptionsPerTopic: Annotated[int, msgspec.Meta(ge=0)]
    producersPerTopic: Count
    testDurationMinutes: Annotated[float, msgspec.Meta(gt=0)]
    partitionsPerTopic: Count = 1
    keyDistributor: KeyDistribution = "NO_KEY"
    useRandomizedPayloads: bool = False
    randomBytesRatio: Ratio = 0.0
    randomizedPayloadPoolSize: Annotated[int, msgspec.Meta(ge=0)] = 0
    payloadFile: str | None = None
    consumerPerSubscription: Annotated[int, msgspec.Meta(ge=0)] = 0
    producerRate: Annotated[int, msgspec.Meta(ge=0)] = 0
    consumerBacklogSizeGB: Annotated[float, msgspec.Meta(ge=0)] = 0
    backlogDrainRatio: Ratio = 1.0
    warmupDurationMinutes: Minutes = 1

    @property
    def copies(self) -> int:
        """How often each message must be received."""
        return self.subscriptionsPerTopic if self.consumerPerSubscription else 0

    @property
    def backlog_bytes(self) -> int:
        """How much is to wait before consumers go on."""
        return int(self.consumerBacklogSizeGB * GIGABYTE)


def load_workload(path: Path) -> Workload:
    """Return what a file says. Raise BenchmarkError."""
    workload = convert(path, read_fields(path), Workload)
    fault = _contradiction(workload)
    if fault:
        raise BenchmarkError(f"{path}: {fault}")
    return workload


def _contradiction(workload: Workload) -> str:
    """Say what does not go together."""
    if workload.consumerBacklogSizeGB and not workload.producerRate:
        return (
            "a backlog (consumerBacklogSizeGB) cannot be built while the rate is looked for (producerRate: 0)"
        )
    if workload.consumerBacklogSizeGB and not workload.copies:
        return "a backlog (consumerBacklogSizeGB) needs subscriptions with consumers"
    if workload.backlog_bytes and not workload.messageSize:
        return "a backlog (consumerBacklogSizeGB) of messages without a body never grows"
    if workload.useRandomizedPayloads and not workload.randomizedPayloadPoolSize:
        return "useRandomizedPayloads needs a randomizedPayloadPoolSize"
    if not workload.useRandomizedPayloads and not workload.payloadFile:
        return "there must be a payloadFile, or useRandomizedPayloads"
    return ""
