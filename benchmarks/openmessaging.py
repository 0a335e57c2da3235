"""What the door for RocketMQ clients does: stored messages a second, by the official client and a bare one.

    python -m benchmarks.openmessaging [--only official,batches,...] [--seconds 4] [--rounds 3] [--json FILE]

Server and client on a core each, bodies of 1 KB, a durable group that takes what is sent; an answer means
that the disk has it. `official` is `rocketmq-python-client`, 64 callers of one producer; `requests` and
`batches` a gRPC client that makes its requests beforehand, one connection; `driver` is OpenMessaging's API
over its driver `rocketmq`: tasks that send a message each, or lists, and a consumer that acknowledges.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import httpx

from . import processes, rounds
from .brokers import free_ports
from .coap import gateway
from .rounds import Figures, Scenario

BODY_BYTES = 1024
CALLERS = 64
WINDOWS = (1, 16, 64)
BATCHES = (32, 128)
BATCH_WINDOW = 8  # batches under way: others are there while some wait for the disk


class Door(NamedTuple):
    """A gateway that runs."""

    pid: int
    port: int
    url: str


@contextlib.contextmanager
def door() -> Iterator[Door]:
    """Run a gateway whose group waits for what is sent."""
    (port,) = free_ports(1)
    with gateway(f"listeners.openmessaging=127.0.0.1:{port}") as running:
        wanted = {"bindings": ["bench"], "durable": True, "policy": {"max_length": 1_000_000}}
        httpx.put(f"{running.url}/v1/queues/bench", json=wanted).raise_for_status()
        yield Door(running.pid, port, running.url)


def run(module: str, running: Door, *arguments: object) -> Figures:
    """Run a client in a process of its own; return its figures, and what the gateway took for each."""
    before = processes.cpu_seconds(running.pid)
    with tempfile.TemporaryDirectory() as home:
        found = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", str(running.port), *map(str, arguments)],
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, "HOME": home},
        )
    figures: Figures = json.loads(found.stdout)
    used = processes.cpu_seconds(running.pid) - before
    stored = httpx.get(f"{running.url}/v1/queues/bench").json()["depth"]
    # the warm-up was work, too
    return {**figures, "server_us_each": used / stored * 1e6, "in_queue": stored}


def official(seconds: float) -> Figures:
    """Measure RocketMQ's own Python client."""
    with door() as running:
        arguments = ("--callers", CALLERS, "--bytes", BODY_BYTES, "--seconds", seconds)
        return {f"{CALLERS} callers": run("rocketmq_official", running, *arguments)}


def _bare(running: Door, messages: int, window: int, seconds: float) -> Figures:
    arguments = ("--messages", messages, "--window", window, "--bytes", BODY_BYTES, "--seconds", seconds)
    return run("rocketmq_load", running, *arguments)


def requests(seconds: float) -> Figures:
    """Measure requests of one message."""
    found: Figures = {}
    for window in WINDOWS:
        with door() as running:
            found[f"{window} under way"] = _bare(running, 1, window, seconds)
    return found


def batches(seconds: float) -> Figures:
    """Measure requests of many."""
    found: Figures = {}
    for messages in BATCHES:
        with door() as running:
            found[f"{messages} a request"] = _bare(running, messages, BATCH_WINDOW, seconds)
    return found


def driver(seconds: float) -> Figures:
    """Measure OpenMessaging's driver."""
    ways: dict[str, tuple[object, ...]] = {f"{CALLERS} tasks": ("--tasks", CALLERS)}
    for messages in BATCHES:
        ways[f"lists of {messages}"] = ("--batch", messages, "--tasks", BATCH_WINDOW)
    ways["receive"] = ("--receive", "--batch", BATCHES[-1], "--tasks", BATCH_WINDOW)
    found: Figures = {}
    for name, arguments in ways.items():
        with door() as running:
            found[name] = run(
                "rocketmq_oms", running, *arguments, "--bytes", BODY_BYTES, "--seconds", seconds
            )
    return found


SCENARIOS: dict[str, Scenario] = {
    "official": official,
    "requests": requests,
    "batches": batches,
    "driver": driver,
}


if __name__ == "__main__":
    rounds.run(__doc__, SCENARIOS)
