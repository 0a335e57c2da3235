"""What ordering keys cost: messages a second, and what one key that fails for ever costs the others.

    python -m benchmarks.order [--messages 200000]

Processor time of one thread, in process: publish, hand out, acknowledge. The comparison with a failing key
runs with it and without it in turn, so that the machine's moods are the same for both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery, Group
from gateway.core.engine import StorageEngine
from gateway.core.message import Message, Outcome, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.stream import StreamQueue
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000
BODY = b"x" * 128
KEYS = 1000
TURN = 1000  # messages of one turn
TURN_MS = 5  # what a turn takes, by the gateway's clock: so often does the failing key come again
BACKOFF_MS = 100  # a hundredth of the usual first pause
WINDOW = 2000
ROUNDS = 10  # of the comparison, each way


class Bench:
    """A queue, one consumer, and its clock."""

    def __init__(self, engine: StorageEngine, kind: str = "classic", durable: bool = True) -> None:
        self.clock = Clock(NOW_MS, 0)
        self.broker = Broker(engine, self.clock)
        self.broker.restore(lambda: None)
        self.queue, _ = self.broker.catalog.declare("q", kind, QueuePolicy(backoff_ms=(BACKOFF_MS,)), durable)
        self.held: list[Delivery] = []
        self.broker.queues.attach(self.group, Consumer("bench", WINDOW, self.held.extend))

    @property
    def group(self) -> Group:
        """The queue's group."""
        return self.queue.group("g", 0) if isinstance(self.queue, StreamQueue) else self.queue.groups()[0]

    def turn(self, messages: list[Message], failing: str = "") -> int:
        """Publish, hand out and acknowledge; what is of the failing key fails. Return how many were done."""
        broker = self.broker
        for message in messages:
            broker.publish(message)
        done = 0
        while True:
            self.end()
            held, self.held[:] = list(self.held), []
            good = [d for d in held if d.message.properties.key != failing]
            broker.settlement.acknowledge(good)
            if len(good) < len(held):
                for delivery in held:
                    if delivery.message.properties.key == failing:
                        broker.settlement.settle(delivery, Outcome.REQUEUE)
            done += len(good)
            if not good:
                break
        self.clock.set(self.clock.now_ms + TURN_MS, self.clock.monotonic_ms + TURN_MS)
        broker.scheduler.run_due()
        return done

    def end(self) -> None:
        """End a turn as the shell does."""
        self.broker.dispatch()
        self.broker.engine.flush()
        self.broker.flushed()


def messages_of(keys: int, count: int, keyed: bool = True) -> list[Message]:
    """Return messages, one key after the other."""
    made = [Properties(key=f"key-{number}" if keyed else None, message_id="m") for number in range(keys)]
    return [Message("$queue/q", BODY, 1, properties=made[n % keys]) for n in range(count)]


def rate(bench: Bench, keys: int, count: int, keyed: bool = True) -> float:
    """Return messages a second."""
    batch = messages_of(keys, TURN, keyed)
    began = time.thread_time()
    done = sum(bench.turn(batch) for _ in range(count // TURN))
    return done / (time.thread_time() - began)


def paths(count: int, directory: Path) -> list[tuple[str, str, float]]:
    """Return (what, keys, messages a second) of each kind of queue."""
    found = []
    for name, engine, kind, durable in (
        ("transient", MemoryEngine(), "classic", False),
        ("commit log", CommitLog(directory / "classic"), "classic", True),
        ("commit log, stream", CommitLog(directory / "stream"), "stream", True),
    ):
        bench = Bench(engine, kind, durable)
        found.append((name, "none", rate(bench, 1, count, keyed=False)))
        for keys in (KEYS, 10):
            found.append((name, str(keys), rate(bench, keys, count)))
        engine.close()
    return found


def with_one_failing(count: int, directory: Path) -> tuple[float, float]:
    """Return the throughput of 999 keys without and with one more that fails for ever."""
    spent = [0.0, 0.0]
    done = [0, 0]
    good = messages_of(KEYS - 1, KEYS - 1)
    bad = Message("$queue/q", BODY, 1, properties=Properties(key="bad", message_id="m"))
    benches = [Bench(CommitLog(directory / name)) for name in ("without", "with")]
    for _ in range(ROUNDS):
        for which, bench in enumerate(benches):
            began = time.thread_time()
            for _ in range(max(1, count // ROUNDS // KEYS)):
                done[which] += bench.turn([*good, bad], "bad") if which else bench.turn(good)
            spent[which] += time.thread_time() - began
    waiting = benches[1].queue.length()
    assert waiting, "the failing key's messages wait"
    for bench in benches:
        bench.broker.engine.close()
    return done[0] / spent[0], done[1] / spent[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    count = parser.parse_args().messages
    with tempfile.TemporaryDirectory() as directory:
        print(f"{'queue':<22}{'keys':>8}{'messages/s':>14}")
        for name, keys, found in paths(count, Path(directory)):
            print(f"{name:<22}{keys:>8}{found:>14,.0f}")
        without, failing = with_one_failing(count, Path(directory))
    print(f"\n999 keys alone: {without:,.0f}/s; with one that fails for ever: {failing:,.0f}/s")
    print(f"ratio {failing / without:.3f}")


if __name__ == "__main__":
    main()
