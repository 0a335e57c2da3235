"""What retry and dead letters carry: messages a second through each path, in process.

    python -m benchmarks.retry [--messages 100000]

Processor time of one thread: the machine may have other work. `plain` is the same without a failure,
for comparison; `parked` gives all back, and hands them out a second time when their pause is over.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.engine import StorageEngine
from gateway.core.message import Message, Origin, Outcome
from gateway.core.policy import QueuePolicy
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine

TURN = 100  # messages of one turn
WINDOW = 1000  # of the consumer
PAUSE_MS = 1000
NOW_MS = 1_700_000_000_000
ORIGIN = Origin("bench", "user", "c")

Settle = Callable[["Run", list[Delivery]], None]


class Run:
    """A broker with one queue and one consumer, and what it does with what it gets."""

    def __init__(self, engine: StorageEngine, settle: Settle, **policy: int | tuple[int, ...]) -> None:
        self.clock = Clock(NOW_MS, 0)
        self.broker = Broker(engine, self.clock)
        self.broker.restore(lambda: None)
        queue, _ = self.broker.catalog.declare("q", policy=QueuePolicy(**policy))  # type: ignore[arg-type]
        assert isinstance(queue, ClassicQueue)
        self.queue = queue
        self.batch: list[Delivery] = []
        self.settle = settle
        self.broker.queues.attach(queue.group, Consumer("c", WINDOW, self.batch.extend, ORIGIN))

    def turn(self, passed_ms: int = 1) -> None:
        """Let time pass, deliver, settle, write."""
        self.clock.set(self.clock.now_ms + passed_ms, self.clock.monotonic_ms + passed_ms)
        self.broker.scheduler.run_due()
        self.broker.dispatch()
        if self.batch:
            batch, self.batch[:] = list(self.batch), []
            self.settle(self, batch)
        self.broker.engine.flush()
        self.broker.flushed()
        self.broker.engine.completed()

    def publish(self, count: int) -> float:
        """Carry messages to their end; return how many a second."""
        body = b"x" * 128
        started = time.process_time()
        for _ in range(count // TURN):
            for _ in range(TURN):
                self.broker.publish(Message("$queue/q", body, origin=ORIGIN))
            self.turn()
        while self.queue.length() or self.queue.held():
            self.turn(PAUSE_MS // 10)
        return count / (time.process_time() - started)


def plain(run: Run, batch: list[Delivery]) -> None:
    """Acknowledge all."""
    run.broker.settlement.acknowledge(batch)


def again(run: Run, batch: list[Delivery]) -> None:
    """Fail each once."""
    settle = run.broker.settlement.settle
    for delivery in batch:
        settle(delivery, Outcome.REQUEUE if delivery.attempt == 1 else Outcome.ACK)


def buried(run: Run, batch: list[Delivery]) -> None:
    """Reject all."""
    settle = run.broker.settlement.settle
    for delivery in batch:
        settle(delivery, Outcome.REJECT, None, "no good")


PATHS: dict[str, tuple[Settle, dict[str, int | tuple[int, ...]]]] = {
    "plain: acknowledged": (plain, {}),
    "at once: given back, delivered again": (again, {}),
    "parked: after a pause of 1 s": (again, {"backoff_ms": (PAUSE_MS,)}),
    "rejected: to the dead letters": (buried, {}),
}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    count = parser.parse_args().messages
    print(f"{'messages a second':40}{'memory':>10}{'log':>10}")
    for name, (settle, policy) in PATHS.items():
        memory = Run(MemoryEngine(), settle, **policy).publish(count)
        with tempfile.TemporaryDirectory() as directory:
            log = CommitLog(Path(directory))
            logged = Run(log, settle, **policy).publish(count)
            log.close()
        print(f"{name:40}{memory:>10,.0f}{logged:>10,.0f}")


if __name__ == "__main__":
    main()
