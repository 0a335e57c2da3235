"""What the CoAP door does, beside aiocoap's own server in the same minutes.

    python -m benchmarks.coap [--only aiocoap,put,...] [--seconds 4] [--rounds 3] [--json FILE]

The same confirmable PUTs of 64 bytes, window 32, from one socket that costs next to nothing
(`coap_load`), server and client on a core each. aiocoap keeps the payload in memory; the gateway
answers when its disk has it where a durable queue takes the message, and at once where nobody does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

from . import machine, processes
from .brokers import free_ports, stop
from .coap_fleet import Fleet
from .coap_load import MESSAGE_IDS, Sent, puts
from .rounds import Figures, Scenario, run

AIOCOAP_PYTHON = os.environ.get("GATEWAY_TEST_AIOCOAP_PYTHON") or str(
    machine.ROOT / ".venv-aiocoap" / "bin" / "python"
)
"""An environment of its own, made by `make .venv-aiocoap/.installed`: its extras pin an old `websockets`."""

AIOCOAP_RUNS = tuple(
    (transport, loop) for transport in ("udp6", "simplesocketserver") for loop in ("asyncio", "uvloop")
)
"""Transports of aiocoap's, and loops. udp6 and asyncio is what it does by default."""

PAYLOAD_BYTES = 64
WINDOW = 32
WARM_UP = 2000  # requests before those that count

OBSERVERS = 10_000
PUBLISHES = 5
FLEETS = (
    ("10,000 devices", OBSERVERS, ()),
    ("10,000 devices, confirmable", OBSERVERS, ("qos=1",)),
    ("100 devices with 100 tokens each", OBSERVERS // 100, ()),
)
REGISTERED = 50_000


@contextlib.contextmanager
def aiocoap_server(transport: str, loop: str) -> Iterator[tuple[int, int]]:
    """Run aiocoap's server on the servers' core; give its pid and its port."""
    (port,) = free_ports(1)
    program = str(machine.ROOT / "benchmarks" / "coap_aiocoap.py")
    with processes.pinned(processes.cores()[1]):
        process = subprocess.Popen(
            [AIOCOAP_PYTHON, "-P", program, str(port), transport, loop], stdout=subprocess.PIPE
        )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("aiocoap's server did not start")
        yield process.pid, port
    finally:
        stop(process)


def put_rate(pid: int, port: int, seconds: float, count: int) -> tuple[Sent, float]:
    """Return what PUTs came to, and the server's processor time for each in microseconds."""
    client = puts(port, "ps/bench", PAYLOAD_BYTES, WINDOW)
    try:
        client.run(seconds, WARM_UP)
        before = processes.cpu_seconds(pid)
        sent = client.run(seconds, count)
        return sent, (processes.cpu_seconds(pid) - before) / sent.answered * 1e6
    finally:
        client.close()


def aiocoap_alone(seconds: float) -> Figures:
    """Measure aiocoap's server on each transport and loop."""
    found: Figures = {}
    for transport, loop in AIOCOAP_RUNS:
        with aiocoap_server(transport, loop) as (pid, port):
            # It takes an id that comes again for a duplicate: not more requests than ids.
            sent, cost = put_rate(pid, port, seconds, MESSAGE_IDS - WARM_UP)
        found[f"{transport}, {loop}"] = figures(sent, cost)
    return found


class Gateway(NamedTuple):
    """A gateway that runs."""

    pid: int
    coap_port: int
    url: str


@contextlib.contextmanager
def gateway(*sets: str) -> Iterator[Gateway]:
    """Run a gateway on the servers' core."""
    coap_port, http_port = free_ports(2)
    wanted = [f"listeners.{name}=" for name in ("mqtt", "amqp", "openmessaging")]
    wanted += [f"listeners.coap=127.0.0.1:{coap_port}", f"listeners.http=127.0.0.1:{http_port}", *sets]
    if importlib.util.find_spec("gateway_line") is not None:
        wanted.append("listeners.line=")  # installed beside us, with a fixed port
    with tempfile.TemporaryDirectory(dir=machine.ROOT) as directory:
        machine.require_disk(Path(directory))
        command = [sys.executable, "-m", "gateway", "serve", "--dev", "--data", directory]
        command += [word for text in wanted for word in ("--set", text)]
        with processes.pinned(processes.cores()[1]):
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            if not any(line.startswith(b"gateway ready") for line in process.stdout):
                raise RuntimeError("the gateway did not start")
            yield Gateway(process.pid, coap_port, f"http://127.0.0.1:{http_port}")
        finally:
            stop(process)


def gateway_puts(seconds: float) -> Figures:
    """Measure PUTs that nobody takes, and PUTs that are on disk before they are answered."""
    found: Figures = {}
    for title, stored in (("nobody subscribed", False), ("stored: a durable queue, fdatasync", True)):
        # One address is faster here than it may be by default.
        with gateway("coap.requests_per_second_max=0") as running:
            if stored:
                wanted = {"bindings": ["bench"], "durable": True}
                httpx.put(f"{running.url}/v1/queues/bench", json=wanted).raise_for_status()
            found[title] = figures(*put_rate(running.pid, running.coap_port, seconds, sys.maxsize))
            if stored:
                told = httpx.get(f"{running.url}/v1/queues/bench").json()
                found[title]["in_queue"] = told["depth"]
    return found


def figures(sent: Sent, cost: float) -> Figures:
    """Return a run as the report has it."""
    return {
        "per_second": sent.answered / sent.seconds,
        "server_us_each": cost,
        "client_busy": sent.client_seconds / sent.seconds,
        "resent": sent.resent,
    }


def fan_out(seconds: float) -> Figures:
    """Measure how long it takes until the last of 10,000 observers of a topic has a message."""
    found: Figures = {}
    for title, devices, query in FLEETS:
        with gateway() as running, contextlib.ExitStack() as stack:
            fleet = Fleet(running.coap_port, devices, OBSERVERS // devices)
            stack.callback(fleet.close)
            client = puts(running.coap_port, "ps/fan", PAYLOAD_BYTES, 1, ("qos=1",))
            stack.callback(client.close)
            client.run(seconds, 1)
            registering = fleet.register("ps/fan", query)
            rounds = []
            for _ in range(PUBLISHES):
                began = time.perf_counter()
                client.run(seconds, 1)
                rounds.append(fleet.notified(began))
        found[title] = {
            "seconds": statistics.median(each.seconds for each in rounds),
            "slowest": max(each.seconds for each in rounds),
            "confirmable": rounds[-1].confirmable,
            "twice": sum(each.again for each in rounds),
            "registered_per_second": OBSERVERS / registering,
        }
    return found


def registered(seconds: float) -> Figures:
    """Measure what the gateway's memory grows by with 50,000 observers."""
    found: Figures = {}
    for title, devices in (
        ("50,000 devices", REGISTERED),
        ("500 devices, 100 tokens each", REGISTERED // 100),
    ):
        with gateway() as running:
            before = processes.settled_rss_bytes(running.pid)
            fleet = Fleet(running.coap_port, devices, REGISTERED // devices)
            with contextlib.closing(fleet):
                taken = fleet.register("ps/fan")
                grown = processes.settled_rss_bytes(running.pid) - before
            found[title] = {
                "mb": grown / 1e6,
                "bytes_each": grown / REGISTERED,
                "mb_before": before / 1e6,
                "registered_per_second": REGISTERED / taken,
            }
    return found


SCENARIOS: dict[str, Scenario] = {
    "aiocoap": aiocoap_alone,
    "put": gateway_puts,
    "fan-out": fan_out,
    "registered": registered,
}


if __name__ == "__main__":
    run(__doc__, SCENARIOS)
