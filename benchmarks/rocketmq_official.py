"""RocketMQ's own Python client as a load: callers who wait for an answer before they send again.

    python -m benchmarks.rocketmq_official PORT --callers 64 --bytes 1024 --seconds 4

Run by `benchmarks.openmessaging`, in a process of its own and with a home of its own: the client writes a
log there as soon as it is imported. Prints what came to pass as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import threading
import time
from concurrent.futures import Future
from typing import Any, Final

TOPIC: Final = "bench"
WARM_UP_SECONDS: Final = 1.0


class Callers:
    """So many callers of one producer's `send_async`, each with one message under way."""

    def __init__(self, producer: Any, make: Any, size: int) -> None:
        self._producer, self._make, self._body = producer, make, b"x" * size
        self._lock = threading.Lock()
        self._left = 0
        self._until = 0.0
        self._over = threading.Event()
        self.answered = 0
        self.failed = 0
        self.latencies: list[float] = []

    def run(self, callers: int, seconds: float) -> float:
        """Send for some time; return how long it took."""
        began = time.perf_counter()
        self._until, self._left = began + seconds, callers
        self.answered = self.failed = 0
        self.latencies.clear()
        self._over.clear()
        for _ in range(callers):
            self._send()
        self._over.wait()
        return time.perf_counter() - began

    def _send(self) -> None:
        message = self._make()
        message.topic, message.body = TOPIC, self._body
        began = time.perf_counter()
        future: Future[Any] = self._producer.send_async(message)
        future.add_done_callback(lambda done: self._answered(done, began))

    def _answered(self, future: Future[Any], began: float) -> None:
        now = time.perf_counter()
        if future.exception() is None:
            self.answered += 1
            self.latencies.append(now - began)
        else:
            self.failed += 1
        if now < self._until:
            self._send()
            return
        with self._lock:
            self._left -= 1
            if not self._left:
                self._over.set()


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Warm up, send, and return the figures."""
    rocketmq: Any = importlib.import_module("rocketmq")  # it has no types
    configuration = rocketmq.ClientConfiguration(f"127.0.0.1:{options.port}", rocketmq.Credentials("", ""))
    producer = rocketmq.Producer(configuration, [TOPIC])
    producer.startup()
    callers = Callers(producer, rocketmq.Message, options.bytes)
    callers.run(options.callers, WARM_UP_SECONDS)
    used = time.process_time()
    seconds = callers.run(options.callers, options.seconds)
    used = time.process_time() - used
    producer.shutdown()
    latencies = sorted(callers.latencies)
    return {
        "per_second": callers.answered / seconds,
        "answered": callers.answered,
        "failed": callers.failed,
        "seconds": seconds,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
        "client_busy": used / seconds,
    }


def main() -> None:
    """Measure once, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=4.0)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
