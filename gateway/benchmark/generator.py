"""The flow of a run, as the original has it.

Topics, consumers, producers; a probe message by each producer until all subscriptions have been heard of;
load; warm-up; a backlog, if one is wanted, built with consumers suspended and drained; and the measurement, a
period after the other.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from .driver import Driver
from .errors import BenchmarkError
from .payloads import next_key
from .rate_controller import CONTROL_SECONDS, START_RATE, RateController
from .result import Result
from .worker import Worker, clock, random_name
from .workload import Workload

PROBE_SECONDS_MAX = 60.0  # as long as the original waits for consumers to be ready
PROBE_POLL_SECONDS = 0.02
BACKLOG_POLL_SECONDS = 0.1
#: A backlog of so many counts as drained: what is under way at a good rate.
DRAINED_MESSAGES = 1_000
PERIOD_SECONDS = 10.0

Say = Callable[[str], None]


class Generator:
    """One workload on one driver."""

    def __init__(
        self, workload: Workload, driver: Driver, bodies: Sequence[bytes], period_seconds: float, say: Say
    ) -> None:
        self._workload = workload
        self._driver = driver
        self._bodies = bodies
        self._period_seconds = period_seconds
        self._say = say
        self.worker = Worker(driver)
        self._draining = False

    async def run(self) -> Result:
        """Run it, and close all. Raise BenchmarkError."""
        background: list[asyncio.Task[None]] = []
        try:
            await self._driver.open()
            await self._set_up()
            await self._wait_until_ready()
            return await self._measure(background)
        finally:
            for task in background:
                task.cancel()
            if background:
                await asyncio.wait(background)
            await self._close()

    async def _close(self) -> None:
        """Close all; what cannot be removed is said, and does not spoil what was measured."""
        for close in (self.worker.stop, self._driver.close):
            try:
                await close()
            except BenchmarkError as error:
                self._say(f"while closing: {error.detail}")

    async def _measure(self, background: list[asyncio.Task[None]]) -> Result:
        workload, spawn = self._workload, asyncio.get_running_loop().create_task
        rate = float(workload.producerRate) or START_RATE
        self.worker.start(rate, self._bodies, next_key(workload.keyDistributor))
        if not workload.producerRate:
            background.append(spawn(self._find_rate(rate)))
        if workload.warmupDurationMinutes:
            self._say(f"----- Starting warm-up traffic ({workload.warmupDurationMinutes:g}m) ------")
            await self._collect(workload.warmupDurationMinutes, background)
        if workload.backlog_bytes:
            self._draining = True
            background.append(spawn(self._build_and_drain()))
        self.worker.stats.reset_latencies()
        self._say(f"----- Starting benchmark traffic ({workload.testDurationMinutes:g}m) ------")
        result = await self._collect(workload.testDurationMinutes, background)
        await self.worker.stop_load()
        result.aggregate(self.worker.stats.cumulative())
        return result

    async def _set_up(self) -> None:
        workload, worker = self._workload, self.worker
        topics = await worker.create_topics(workload.topics, workload.partitionsPerTopic)
        subscriptions = [
            (topic, name)
            for topic in topics
            for number in range(workload.subscriptionsPerTopic)
            for name in [f"sub-{number:03d}-{random_name()}"]
            for _ in range(workload.consumerPerSubscription)
        ]
        random.shuffle(subscriptions)
        await worker.create_consumers(subscriptions)
        producers = topics * workload.producersPerTopic
        random.shuffle(producers)
        await worker.create_producers(producers)
        self._say(f"{len(topics)} topics, {len(subscriptions)} consumers, {len(producers)} producers")

    async def _wait_until_ready(self) -> None:
        worker, expected = self.worker, self._workload.topics * self._workload.copies
        worker.probe()
        deadline = time.monotonic() + PROBE_SECONDS_MAX
        while worker.stats.total.received < expected or not (worker.stats.total.sent or worker.first_error):
            if worker.first_error:
                raise BenchmarkError(f"the first message could not be sent: {worker.first_error}")
            if time.monotonic() > deadline:
                got = worker.stats.total.received
                raise BenchmarkError(
                    f"consumers are not ready: {got} of {expected} messages after {PROBE_SECONDS_MAX:g} s"
                )
            await asyncio.sleep(PROBE_POLL_SECONDS)

    async def _collect(self, minutes: float, background: Sequence[asyncio.Task[None]]) -> Result:
        """Measure period by period, until time is up and no backlog is being drained."""
        result, stats = Result(self._workload, self._driver.config.name), self.worker.stats
        began = clock()
        until = began + round(minutes * 60e9)
        while True:
            left = (until - began) / 1e9
            await asyncio.sleep(min(self._period_seconds, left) if left > 0 else self._period_seconds)
            self.worker.check()
            for task in background:
                if task.done():
                    task.result()
            now = clock()
            counts, latencies = stats.end_period()
            result.add_period(counts, latencies, stats.total, (now - began) / 1e9)
            self._say(result.line())
            began = now
            if now >= until and not self._draining:
                return result

    async def _find_rate(self, rate: float) -> None:
        """Adjust the rate every few seconds; a message is received when all subscriptions have it."""
        controller, total, copies = RateController(), self.worker.stats.total, self._workload.copies
        before = clock()
        while True:
            await asyncio.sleep(CONTROL_SECONDS)
            now = clock()
            received = total.received // copies if copies else total.sent
            rate = controller.next_rate(rate, now - before, total.sent, received)
            before = now
            self.worker.adjust(rate)

    async def _build_and_drain(self) -> None:
        workload = self._workload
        wanted = workload.backlog_bytes // workload.messageSize
        self._say("Stopping all consumers to build backlog")
        await self.worker.pause_consumers()
        await self._until(lambda: self._backlog() >= wanted)
        self._say("--- Start draining backlog ---")
        await self.worker.resume_consumers()
        enough = max(DRAINED_MESSAGES, int((1 - workload.backlogDrainRatio) * wanted))
        await self._until(lambda: self._backlog() <= enough)
        self._say("--- Completed backlog draining ---")
        await asyncio.sleep(workload.testDurationMinutes * 60)
        self._draining = False

    async def _until(self, reached: Callable[[], bool]) -> None:
        while True:
            if reached():
                return
            await asyncio.sleep(BACKLOG_POLL_SECONDS)

    def _backlog(self) -> int:
        total = self.worker.stats.total
        return self._workload.copies * total.sent - total.received
