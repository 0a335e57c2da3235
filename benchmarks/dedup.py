"""What publishing once costs: messages a second of one processor, memory a key, a restart.

    python -m benchmarks.dedup [--messages 200000] [--keys 1000000]

Every message is another one, stored for a durable queue and synced as always; then all of them come again.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from pathlib import Path

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.fingerprints import Fingerprints
from gateway.core.message import Message, Origin, Properties
from gateway.core.session import Session
from gateway.storage.commitlog import CommitLog

TURN = 100  # messages of one turn
WINDOW_MS = 600_000


class _Everybody:
    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(True)


class _Bench:
    """A broker on a commit log that lives in a directory."""

    def __init__(self, directory: Path) -> None:
        self.engine = CommitLog(directory)
        self.clock = Clock(int(time.time() * 1000), 1000)
        self.broker = Broker(self.engine, self.clock)
        self.broker.dedup.configure(WINDOW_MS, {"ruled": WINDOW_MS}, {})
        started = time.perf_counter()
        self.broker.restore(lambda: None)
        self.restored_seconds = time.perf_counter() - started
        self.broker.catalog.declare("q", durable=True)
        origin = Origin("bench", "user", "client", "peer")
        self.session = Session(self.broker, Principal("user"), origin, Authority([_Everybody()]))

    def publish(self, messages: list[Message], once: bool) -> float:
        """Return how many a second of processor time: the machine may have other work."""
        publish = self.session.publish_once if once else self.session.publish
        started = time.process_time()
        for number, message in enumerate(messages, 1):
            publish(message)
            if number % TURN == 0:
                self._end_turn()
        self._end_turn()
        return len(messages) / (time.process_time() - started)

    def _end_turn(self) -> None:
        self.clock.set(self.clock.wall_ms + 1, self.clock.monotonic_ms + 1)
        self.broker.dispatch()
        self.engine.flush()
        self.broker.flushed()
        self.engine.completed()
        self.broker.scheduler.run_due()


def _messages(count: int, keyed: bool, topic: str) -> list[Message]:
    return [
        Message(
            topic,
            bytes(128),
            properties=Properties(message_id=f"id-{n}", idempotency_key=f"order-{n}" if keyed else None),
            origin=Origin("bench", "user", "client", "peer"),
        )
        for n in range(count)
    ]


def _throughput(count: int) -> None:
    rows = (
        ("none", False, "$queue/q"),
        ("idempotency key", True, "$queue/q"),
        ("message id", False, "ruled"),
    )
    for name, keyed, topic in rows:
        with tempfile.TemporaryDirectory() as directory:
            bench = _Bench(Path(directory))
            messages = _messages(count, keyed, topic)
            bench.publish(messages[:1000], keyed)
            fresh = bench.publish(messages[1000:], keyed)
            again = bench.publish(messages, keyed)
            print(f"{name:<16} {fresh:>10,.0f}/s new  {again:>10,.0f}/s again")
            if keyed:
                bench.engine.flush()
                crashed = _again(bench, Path(directory))
                print(f"{'':<16} {crashed:>10.2f} s to start with {count:,} keys, after a crash")
            else:
                bench.engine.close()
            gc.collect()


def _again(bench: _Bench, directory: Path) -> float:
    bench.engine.close()  # without `Dedup.stop`: what is in no chunk yet is read from the log
    found = _Bench(directory)
    found.engine.close()
    return found.restored_seconds


def _memory(count: int) -> None:
    prints = Fingerprints(WINDOW_MS, 1 << 40)
    word = 0x9E3779B97F4A7C15
    started = time.perf_counter()
    for number in range(1, count + 1):
        word = (word * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        prints.add(word, word >> 7, number, 1)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(100_000):
        word = (word * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        prints.find(word, word >> 7, 1)
    each = (time.perf_counter() - started) / 100_000 * 1e6
    print(f"{count:,} keys: {prints.bytes / count:.0f} bytes each, {seconds / count * 1e6:.2f} us to add,")
    print(f"{each:.2f} us to look up what is not there")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    _throughput(options.messages)
    _memory(options.keys)


if __name__ == "__main__":
    main()
