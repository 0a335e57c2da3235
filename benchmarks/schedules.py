"""A million messages that wait for their time, in process: memory, restart, and are they on time?

`python -m benchmarks.schedules --messages 1000000 --rate 10000 --seconds 30 --data DIR`

They are scheduled in random order, a minute and more ahead. Then the process dies, as by kill -9, and
another one recovers the log and publishes what is due to a live subscriber (or, with `--durable`, to
a durable queue) while the clock on the wall runs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.message import Message, Origin, Properties
from gateway.core.receiver import Item
from gateway.core.router import Binding
from gateway.core.session import Session

from . import backlog
from .backlog import rss_mb

BODY = b"x" * 128
TURN = 500
IDLE_SECONDS = 0.0005


class Everything:
    """Allows all."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        """Say yes."""
        return Ruling(True)


class Run(backlog.Run):
    """A broker on a log, with a loop and a client of its own."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        origin = Origin("bench", "bench", "bench", "")
        self.session = Session(self.broker, Principal("bench"), origin, Authority([Everything()]))

    def end(self) -> None:
        """End the turn."""
        self.broker.dispatch()
        self.log.flush()
        self.broker.flushed()
        self.log.completed()

    def turn(self) -> None:
        """Do what is due, and sleep until more is."""
        self.begin()
        if not self.broker.scheduler.run_due():
            time.sleep(IDLE_SECONDS)
        self.end()


def fill(data: Path, messages: int, first_ms: int, rate: int) -> None:
    """Schedule them, wait until they are on disk, and die."""
    run = Run(data)
    chance = random.Random(7)
    dues = [first_ms + n * 1000 // rate for n in range(messages)]
    chance.shuffle(dues)
    started = time.perf_counter()
    position = 0
    for start in range(0, messages, TURN):
        run.begin()
        for due_ms in dues[start : start + TURN]:
            message = Message("t/late", BODY, 1, properties=Properties(deliver_at_ms=due_ms))
            position = run.session.publish(message)
        run.end()
    while not run.log.stored(position):
        run.log.completed()
        time.sleep(IDLE_SECONDS)
    del dues
    rate_reached = messages / (time.perf_counter() - started)
    print(f"scheduled   {rate_reached:10,.0f} /s    RSS {rss_mb():6.0f} MB", flush=True)
    os._exit(0)


def fire(data: Path, seconds: float, durable: bool, first_ms: int) -> None:
    """Recover, and see how late what is due comes."""
    run = Run(data)
    print(f"restart     {run.opened_seconds:10.2f} s     RSS {rss_mb():6.0f} MB", flush=True)
    late: list[int] = []

    def deliver(batch: list[Item]) -> None:
        now_ms = int(time.time() * 1000)
        late.extend(now_ms - (message.properties.deliver_at_ms or 0) for message, _ in batch)

    run.session.receive(deliver)
    run.session.subscribe("t/#")
    if durable:
        queue, _ = run.broker.catalog.declare("late")
        run.broker.catalog.bind(queue, Binding("t/#", queue))
    while time.time() * 1000 < first_ms:
        run.turn()
    loaded_mb, cpu = rss_mb(), time.process_time()
    while time.time() * 1000 < first_ms + seconds * 1000:
        run.turn()
    cpu = time.process_time() - cpu
    _report(late, seconds, max(loaded_mb, rss_mb()), cpu)
    os._exit(0)


def _report(late: list[int], seconds: float, mb: float, cpu: float) -> None:
    print(f"on time     {len(late) / seconds:10,.0f} /s    RSS {mb:6.0f} MB    CPU {cpu / seconds:4.0%}")
    late.sort()
    if late:
        shares = (("50%", 0.5), ("99%", 0.99), ("99.9%", 0.999))
        shown = "  ".join(f"{name} {late[int(len(late) * share)]}" for name, share in shares)
        print(f"late, ms    {shown}  most {late[-1]};  early {sum(1 for ms in late if ms < 0)}", flush=True)


def main() -> None:
    """Run both steps, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--ahead", type=float, default=90, help="seconds until the first is due")
    parser.add_argument("--durable", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--step", choices=["fill", "fire"])
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    if options.step == "fill":
        fill(options.data, options.messages, options.first, options.rate)
    if options.step == "fire":
        fire(options.data, options.seconds, options.durable, options.first)
    data = options.data or Path(tempfile.mkdtemp())
    first_ms = int((time.time() + options.ahead) * 1000)
    print(f"{options.messages:,} messages of {len(BODY)} bytes, {options.rate:,} due a second, in process")
    try:
        for step in ("fill", "fire"):
            command = [sys.executable, "-m", "benchmarks.schedules", "--step", step, "--data", str(data)]
            for name in ("messages", "rate", "seconds"):
                command += [f"--{name}", str(getattr(options, name))]
            command += ["--first", str(first_ms), *(["--durable"] if options.durable else [])]
            subprocess.run(command, check=True)
    finally:
        if options.data is None:
            shutil.rmtree(data)


if __name__ == "__main__":
    main()
