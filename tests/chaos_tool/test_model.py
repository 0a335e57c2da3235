"""The queue model over queues that are right, and over some that are wrong in one way each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.chaos.client import QueueClient, Result
from gateway.chaos.control import Report, judge
from gateway.chaos.history import Outcome, Recorder, Request, read_history
from gateway.chaos.model import KEYS_PER_CLIENT, Pace, QueueModel

Enqueue = Callable[[deque[tuple[str, str | None]], str, str | None], Outcome]


def right(queue: deque[tuple[str, str | None]], value: str, key: str | None) -> Outcome:
    queue.append((value, key))
    return Outcome.SUCCESS


def losing(queue: deque[tuple[str, str | None]], value: str, key: str | None) -> Outcome:
    if int(value) % 5:
        queue.append((value, key))
    return Outcome.SUCCESS


def doubling(queue: deque[tuple[str, str | None]], value: str, key: str | None) -> Outcome:
    queue.extend([(value, key)] * (1 if int(value) % 5 else 2))
    return Outcome.SUCCESS


def reversing(queue: deque[tuple[str, str | None]], value: str, key: str | None) -> Outcome:
    queue.appendleft((value, key))
    return Outcome.SUCCESS


def refusing(queue: deque[tuple[str, str | None]], value: str, key: str | None) -> Outcome:
    queue.append((value, key))
    return Outcome.SUCCESS if int(value) % 5 else Outcome.FAILURE


def silent(queue: deque[tuple[str, str | None]], value: str, key: str | None) -> Outcome:
    if int(value) % 2:
        queue.append((value, key))
    return Outcome.UNKNOWN


class FakeClient(QueueClient):
    """One of several clients of a queue in memory."""

    def __init__(self, queue: deque[tuple[str, str | None]], enqueue: Enqueue) -> None:
        self._queue = queue
        self._enqueue = enqueue

    async def open(self) -> None:
        pass

    async def enqueue(self, value: str, key: str | None) -> Result:
        return Result(self._enqueue(self._queue, value, key))

    async def dequeue(self, seconds: float) -> Result:
        await asyncio.sleep(0)
        if not self._queue:
            return Result(Outcome.FAILURE)
        value, key = self._queue.popleft()
        return Result(Outcome.SUCCESS, None, value, key)

    async def close(self) -> None:
        pass


def played(folder: Path, enqueue: Enqueue, clients: int = 3, enough: int = 60) -> Report:
    """Return the verdicts on a queue that takes messages in its own way."""
    queue: deque[tuple[str, str | None]] = deque()
    recorder = Recorder(folder / "history")
    count = 0

    def counting(queue: deque[tuple[str, str | None]], value: str, key: str | None) -> Outcome:
        nonlocal count
        count += 1
        if count == enough:
            model.stop()
        return enqueue(queue, value, key)

    async def scenario() -> None:
        await model.run()
        await model.prove(0.0)
        await model.drain(0.0)

    model = QueueModel(
        [FakeClient(queue, counting) for _ in range(clients)], recorder, 100_000, ordered=True, seed=7
    )
    asyncio.run(scenario())
    recorder.close()
    return judge(folder / "history")


@pytest.mark.parametrize(
    ("enqueue", "expected", "kinds"),
    [
        (right, "exactly-once", set()),
        (losing, "at-least-once", {"lost"}),
        (doubling, "exactly-once", {"duplicate"}),
        (doubling, "at-least-once", set()),
        (reversing, "at-least-once", {"order"}),
        (refusing, "at-least-once", {"unexpected"}),
        (silent, "exactly-once", {"recovery"}),
    ],
)
def test_what_is_wrong_with_a_queue_is_found(
    tmp_path: Path, enqueue: Enqueue, expected: str, kinds: set[str]
) -> None:
    report = played(tmp_path, enqueue)
    assert {fault.partition(":")[0] for fault in report.faults(expected)} == kinds


def test_each_client_has_keys_of_its_own(tmp_path: Path) -> None:
    played(tmp_path, right)
    clients: dict[str, set[int]] = {}
    for entry in read_history(tmp_path / "history"):
        if isinstance(entry, Request) and entry.key is not None:
            clients.setdefault(entry.key, set()).add(entry.client)
    assert len(clients) == 3 * KEYS_PER_CLIENT
    assert all(len(each) == 1 for each in clients.values())


def test_turns_are_not_saved_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = 100.0, []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))

    async def scenario() -> None:
        nonlocal now
        pace = Pace(10)
        for gap in (0.0, 0.0, 5.0, 0.0):  # nobody came for five seconds
            now += gap
            await pace.turn()

    monkeypatch.setattr("gateway.chaos.model.time.monotonic", lambda: now)
    monkeypatch.setattr("gateway.chaos.model.asyncio.sleep", sleep)
    asyncio.run(scenario())
    assert slept == [0.0, 0.1, 0.0, 0.1]
