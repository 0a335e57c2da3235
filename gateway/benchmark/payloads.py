"""Bodies and keys of messages: made before the load begins, so that making them is not measured."""

from __future__ import annotations

import base64
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

from .errors import BenchmarkError
from .workload import KeyDistribution, Workload

KEYS_COUNT = 10_000  # as many different keys as the original has
KEY_BYTES = 7

NextKey = Callable[[], str | None]


def load_payloads(workload: Workload, beside: Path) -> list[bytes]:
    """Return the bodies of a workload whose file is in the folder `beside`. Raise BenchmarkError."""
    if workload.useRandomizedPayloads:
        return random_payloads(workload)
    assert workload.payloadFile is not None, "the workload was not checked"
    name = Path(workload.payloadFile)
    # the original looks in its working directory only, where its `payload/` is
    path = next((each for each in (name, beside / name) if each.is_file()), None)
    if path is None:
        raise BenchmarkError(f"the payloadFile {name} is neither here nor in {beside}")
    body = path.read_bytes()
    if len(body) != workload.messageSize:
        raise BenchmarkError(f"{path} has {len(body)} bytes, messageSize is {workload.messageSize}")
    return [body]


def random_payloads(workload: Workload) -> list[bytes]:
    """Return bodies that are partly random and for the rest zeros: for compression."""
    size = workload.messageSize
    count = int(size * workload.randomBytesRatio)
    return [random.randbytes(count) + bytes(size - count) for _ in range(workload.randomizedPayloadPoolSize)]


def next_key(distribution: KeyDistribution) -> NextKey:
    """Return a function that gives the key of the next message."""
    if distribution == "NO_KEY":
        return lambda: None
    keys = [_key() for _ in range(KEYS_COUNT)]
    if distribution == "KEY_ROUND_ROBIN":
        return itertools.cycle(keys).__next__
    return lambda: keys[time.perf_counter_ns() % KEYS_COUNT]


def _key() -> str:
    return base64.urlsafe_b64encode(random.randbytes(KEY_BYTES)).rstrip(b"=").decode()
