"""A long backlog, in process: does anything slow down beside it, and how fast is it gone again?

`python -m benchmarks.backlog --messages 10000000 --queues 100000 --data DIR [--json FILE]`

Each step is a process of its own on one data directory, so that memory and restarts are real.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.journey import journey
from gateway.core.message import Message, Origin, Properties
from gateway.storage.commitlog import CommitLog

BODY = b"x" * 200
TURN = 500  # messages between two writes, as a busy gateway has them
SAMPLE = 1_000_000  # messages of a rate
QUEUE = "big"
ORIGIN = Origin("bench", "", "publisher", "127.0.0.1:1")
Numbers = dict[str, float]


def rss_mb() -> float:
    """Return this process's resident memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


class Run:
    """A broker on a log, opened and timed."""

    def __init__(self, data: Path) -> None:
        self.clock = Clock()
        self.log = CommitLog(data)
        self.broker = Broker(self.log, self.clock)
        self.begin()
        started = time.perf_counter()
        self.broker.restore(lambda: None)
        self.opened_seconds = time.perf_counter() - started

    def begin(self) -> None:
        """Take the time, as every turn does."""
        self.clock.set(int(time.time() * 1000), int(time.monotonic() * 1000))

    def end(self) -> None:
        """Write, as every turn does."""
        self.broker.dispatch()
        self.log.flush()
        self.log.completed()
        self.begin()

    def publish(self, count: int, first: int, ids: bool = False) -> float:
        """Publish to the queue; return messages a second."""
        publish, topic = self.broker.publish, "$queue/" + QUEUE
        started = time.perf_counter()
        for number in range(first, first + count):
            if ids:
                properties = Properties(message_id=f"m{number}")
                publish(Message(topic, BODY, 1, False, properties, ORIGIN, self.clock.now_ms))
            else:
                publish(Message(topic, BODY, 1, origin=ORIGIN, timestamp_ms=self.clock.now_ms))
            if number % TURN == TURN - 1:
                self.end()
        self.end()
        return count / (time.perf_counter() - started)

    def drain(self, count: int) -> float:
        """Consume from the queue and acknowledge; return messages a second."""
        queue = self.broker.catalog.get(QUEUE)
        held: list[Delivery] = []
        consumer = Consumer("c", 1000, held.extend, ORIGIN)
        self.broker.queues.attach(queue.groups()[0], consumer)
        done = 0
        started = time.perf_counter()
        while done < count and queue.length():
            self.broker.dispatch()
            done += len(held)
            self.broker.settlement.acknowledge(held[:])
            held.clear()
            self.end()
        return done / (time.perf_counter() - started)


def empty(data: Path, options: argparse.Namespace) -> Numbers:
    """The rate into an empty queue: what the others are compared with."""
    run = Run(data)
    run.broker.catalog.declare(QUEUE)
    rate = run.publish(min(SAMPLE, options.messages), 0)
    run.log.close()
    return {"publish_empty": rate}


def fill(data: Path, options: argparse.Namespace) -> Numbers:
    """Fill the queue, then measure beside the backlog, in turns with an empty queue of a log of its own.

    In turns, because after gigabytes the system's page cache is slower for everybody.
    """
    run = Run(data)
    run.broker.catalog.declare(QUEUE)
    run.publish(options.messages, 0, ids=True)
    memory = rss_mb()
    rates: list[float] = []
    empty_rates: list[float] = []
    part, at = min(SAMPLE, options.messages) // 10, options.messages
    for number in range(10):
        other = Run(data.with_name(f"{data.name}-empty-{number}"))
        other.broker.catalog.declare(QUEUE)
        for each, found in ((other, empty_rates), (run, rates)):
            found.append(each.publish(part, at))
        other.log.close()
        at += part
    started = time.perf_counter()
    run.log.close()
    return {
        "publish_beside": statistics.median(rates),
        "publish_empty_in_turns": statistics.median(empty_rates),
        "rss_filled_mb": memory,
        "close_seconds": time.perf_counter() - started,
    }


def restart(data: Path, options: argparse.Namespace) -> Numbers:
    """Start again after a clean stop, look messages up, and be killed while publishing."""
    run = Run(data)
    numbers = {"restart_seconds": run.opened_seconds, "rss_restarted_mb": rss_mb()}
    assert run.broker.catalog.get(QUEUE).length() >= options.messages
    prepare = run.log.prepare_search()
    started = time.perf_counter()
    if prepare is not None:
        prepare()
    numbers["search_prepared_seconds"] = time.perf_counter() - started
    chance, times = random.Random(1), []
    for _ in range(50):
        wanted = f"m{chance.randrange(options.messages)}"
        started = time.perf_counter()
        (position,) = run.log.find(wanted, 2)
        found = journey(run.log, run.broker.catalog, position)
        times.append(time.perf_counter() - started)
        assert found.trace.message.properties.message_id == wanted
        assert found.stays[0].state == "waiting"
    numbers["journey_worst_ms"] = max(times) * 1000
    numbers["journey_median_ms"] = sorted(times)[len(times) // 2] * 1000
    return numbers


def drain(data: Path, options: argparse.Namespace) -> Numbers:
    """Catch up from disk."""
    run = Run(data)
    rate = run.drain(min(2 * SAMPLE, options.messages))
    memory = rss_mb()
    run.log.close()
    return {"drain": rate, "rss_draining_mb": memory}


def killed(data: Path, options: argparse.Namespace) -> Numbers:
    """Publish until killed."""
    run = Run(data)
    run.publish(min(SAMPLE, options.messages) // 2, 0)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def after_kill(data: Path, options: argparse.Namespace) -> Numbers:
    """Start again after that."""
    run = Run(data)
    run.log.close()
    return {"restart_killed_seconds": run.opened_seconds}


def queues(data: Path, options: argparse.Namespace) -> Numbers:
    """Many queues with three messages each, without consumers."""
    run = Run(data)
    before = rss_mb()
    for number in range(options.queues):
        run.broker.catalog.declare(f"$session/mqtt/device-{number:06}")
        if number % TURN == 0:
            run.end()
    made = list(run.broker.catalog.queues.values())
    for _ in range(3):
        for number, queue in enumerate(made):
            run.broker.enqueue(queue, Message("cmd", b"x" * 100, 1, origin=ORIGIN), None)
            if number % TURN == 0:
                run.end()
    run.end()
    memory = (rss_mb() - before) * 1024 * 1024 / options.queues
    run.log.close()
    return {"queue_bytes": memory}


def queues_restarted(data: Path, options: argparse.Namespace) -> Numbers:
    """The same, started again."""
    before = rss_mb()
    run = Run(data)
    memory = (rss_mb() - before) * 1024 * 1024 / options.queues
    assert sum(queue.length() for queue in run.broker.catalog.queues.values()) == 3 * options.queues
    run.log.close()
    return {"queues_restart_seconds": run.opened_seconds, "queue_bytes_restarted": memory}


#: step -> (function, its data directory)
STEPS: dict[str, tuple[Callable[[Path, argparse.Namespace], Numbers], str]] = {
    "empty": (empty, "empty"),
    "fill": (fill, "big"),
    "restart": (restart, "big"),
    "drain": (drain, "big"),
    "killed": (killed, "big"),
    "after-kill": (after_kill, "big"),
    "queues": (queues, "queues"),
    "queues-restarted": (queues_restarted, "queues"),
}


def main() -> None:
    """Run all steps, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--queues", type=int, default=100_000)
    parser.add_argument("--data", type=Path, help="a directory on a disk")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--python", default=sys.executable, help="interpreter, for compiled modules")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(STEPS[options.step][0](options.data, options)))
        return
    data = Path(tempfile.mkdtemp(prefix="backlog-", dir=options.data))
    numbers: dict[str, Any] = {"messages": options.messages, "queues": options.queues}
    try:
        for step, (_, directory) in STEPS.items():
            numbers |= _step(step, data / directory, options)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")


def _step(step: str, data: Path, options: argparse.Namespace) -> Numbers:
    command = [options.python, "-m", "benchmarks.backlog", "--step", step, "--data", str(data)]
    command += ["--messages", str(options.messages), "--queues", str(options.queues)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if step == "killed":
        assert done.returncode == -signal.SIGKILL, done.returncode
        return {}
    assert done.returncode == 0, f"{step} failed"
    found: Numbers = json.loads(done.stdout)
    for name, value in found.items():
        print(f"{step}: {name} {value:,.2f}", flush=True)
    return found


if __name__ == "__main__":
    main()
