"""OpenMessaging's API over the driver `local`: sends a second of one process, its gateway in it.

    python -m benchmarks.oms_local [--messages 200000] [--size 128] [--engines memory,commitlog] [--ways ...]

Every message goes to a durable queue, and is counted when its send has come back: with the commit log, when
the disk has it. `sends/s` is by the clock; `of one processor` is by the processor time of the whole
process, its sync thread included, which tells more on a machine that has other work.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.oms import MessagingAccessPoint, Producer, get_access_point
from gateway.server import new_event_loop, tune_interpreter

from . import machine

RUN = Path(__file__).resolve().parent / ".run"
QUEUE = "bench"
BATCHES_IN_FLIGHT = 8
WINDOW = 1000  # futures that are not waited for

#: Sends so many messages with a body.
Way = Callable[[Producer, int, bytes], Awaitable[None]]


def by_tasks(tasks: int) -> Way:
    """Each task sends a message, waits, and sends the next."""

    async def send(producer: Producer, count: int, body: bytes) -> None:
        async def one_after_another(share: int) -> None:
            for _ in range(share):
                await producer.send(producer.create_message(QUEUE, body))

        await asyncio.gather(*(one_after_another(count // tasks) for _ in range(tasks)))

    return send


async def by_window(producer: Producer, count: int, body: bytes) -> None:
    """One task sends on as long as no more than WINDOW sends are under way."""
    under_way: deque[asyncio.Future[object]] = deque()
    for _ in range(count):
        under_way.append(producer.send_async(producer.create_message(QUEUE, body)))  # type: ignore[arg-type]
        if len(under_way) >= WINDOW:
            await under_way[0]
            while under_way and under_way[0].done():
                under_way.popleft().result()
    await asyncio.gather(*under_way)


def by_batches(size: int) -> Way:
    """Some tasks send lists of messages, and wait for each list."""

    async def send(producer: Producer, count: int, body: bytes) -> None:
        async def lists(share: int) -> None:
            for _ in range(share):
                await producer.send([producer.create_message(QUEUE, body) for _ in range(size)])

        await asyncio.gather(*(lists(count // size // BATCHES_IN_FLIGHT) for _ in range(BATCHES_IN_FLIGHT)))

    return send


async def by_oneway(producer: Producer, count: int, body: bytes) -> None:
    """One task hands messages over."""
    for _ in range(count):
        await producer.send_oneway(producer.create_message(QUEUE, body))


WAYS: dict[str, Way] = {
    "64 tasks": by_tasks(64),
    "1000 tasks": by_tasks(1000),
    f"window {WINDOW}": by_window,
    f"{BATCHES_IN_FLIGHT} x 32": by_batches(32),
    f"{BATCHES_IN_FLIGHT} x 128": by_batches(128),
    "one-way": by_oneway,
}


@contextmanager
def attributes_of(engine: str) -> Iterator[dict[str, str]]:
    """Yield the attributes of an access point with that engine."""
    if engine == "memory":
        yield {}
        return
    RUN.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=RUN))
    machine.require_disk(directory)
    try:
        yield {"DATA": str(directory)}
    finally:
        shutil.rmtree(directory)


async def measure(
    access_point: MessagingAccessPoint, way: Way, count: int, body: bytes
) -> tuple[float, float]:
    """Return sends a second, by the clock and of one processor."""
    async with access_point.resource_manager() as resources, access_point.create_producer() as producer:
        await resources.create_queue(QUEUE)
        await way(producer, count // 20, body)  # warm
        gc.collect()
        wall, processor = time.perf_counter(), time.process_time()
        await way(producer, count, body)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        await resources.delete_queue(QUEUE)
    return count / wall, count / processor


async def run(wanted: argparse.Namespace) -> None:
    body = bytes(wanted.size)
    tune_interpreter()
    print(f"{wanted.messages} messages of {wanted.size} bytes")
    print(f"{'engine':<12}{'way':<14}{'sends/s':>10}{'of one processor':>18}")
    for engine in wanted.engines.split(","):
        for name, way in WAYS.items():
            if wanted.ways and name not in wanted.ways.split(","):
                continue
            with attributes_of(engine) as attributes:
                async with get_access_point("oms:local://memory/bench", attributes) as access_point:
                    wall, processor = await measure(access_point, way, wanted.messages, body)
            print(f"{engine:<12}{name:<14}{wall:>10,.0f}{processor:>18,.0f}", flush=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.oms_local", description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=128, help="bytes of a body")
    parser.add_argument("--engines", default="memory,commitlog")
    parser.add_argument("--ways", default="", help=f"some of: {', '.join(WAYS)}")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
