"""OpenMessaging's driver `rocketmq` as a load: tasks of one producer that wait before they send again.

    python -m benchmarks.rocketmq_oms PORT --tasks 64 --batch 1 --bytes 1024 --seconds 4 [--receive]

With `--batch 1` each task awaits `send` of one message; else `send` of a list. With `--receive` a pull
consumer of the same process takes and acknowledges what was sent before, and that is measured. Run by
`benchmarks.openmessaging`, in a process of its own; prints what came to pass as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.oms import Message, Producer, PullConsumer, get_access_point

QUEUE: Final = "bench"
WARM_UP_SECONDS: Final = 0.5
RECEIVE_MAX: Final = 1024  # at once

Once = Callable[[], Awaitable[int]]


def sending(producer: Producer, batch: int, size: int) -> Once:
    """Return what sends once and returns how many messages that were."""
    body = b"x" * size

    async def one() -> int:
        await producer.send(Message(QUEUE, body))
        return 1

    async def many() -> int:
        return len(await producer.send([Message(QUEUE, body) for _ in range(batch)]))

    return one if batch == 1 else many


def receiving(consumer: PullConsumer) -> Once:
    """Return what receives once, acknowledges, and returns how many messages those were."""

    async def some() -> int:
        messages = await consumer.batch_receive(RECEIVE_MAX, 0)
        receipts = [message.receipt for message in messages if message.receipt is not None]
        await asyncio.gather(*(consumer.ack(receipt) for receipt in receipts))
        return len(messages)

    return some


async def measure(once: Once, tasks: int, seconds: float) -> dict[str, float]:
    """Have tasks do it again and again for some time; return the figures."""
    latencies: list[float] = []
    done = 0
    began, used = time.perf_counter(), time.process_time()
    until = began + seconds

    async def again() -> None:
        nonlocal done
        while (now := time.perf_counter()) < until:
            count = await once()
            if not count:
                return  # there is no more
            done += count
            latencies.append(time.perf_counter() - now)

    await asyncio.gather(*(again() for _ in range(tasks)))
    took = time.perf_counter() - began
    latencies.sort()
    return {
        "per_second": done / took,
        "answered": done,
        "seconds": took,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
        "client_busy": (time.process_time() - used) / took,
    }


async def run(options: argparse.Namespace) -> dict[str, float]:
    """Warm up, measure, and return the figures."""
    url = f"oms:rocketmq://127.0.0.1:{options.port}/bench"
    async with get_access_point(url) as point, point.create_producer() as producer:
        once = sending(producer, options.batch, options.bytes)
        if not options.receive:
            await measure(once, options.tasks, WARM_UP_SECONDS)
            return await measure(once, options.tasks, options.seconds)
        async with point.create_pull_consumer() as consumer:
            await consumer.bind_queue(QUEUE)
            await measure(once, options.tasks, options.seconds)
            return await measure(receiving(consumer), 1, options.seconds)


def main() -> None:
    """Measure once, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--receive", action="store_true")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
