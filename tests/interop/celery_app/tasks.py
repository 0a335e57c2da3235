"""A Celery application that knows nothing of us: its URL is all it is told. Run as a worker by the tests."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chord

app = Celery("tasks", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_expires=60,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_reject_on_worker_lost=True,
)


@app.task
def add(x: int, y: int) -> int:
    """Return a sum."""
    return x + y


@app.task(bind=True, max_retries=3)
def fails_twice(self: Any) -> int:
    """Succeed at the third attempt; return how many there were."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries) + 1


@app.task
def total(numbers: list[int]) -> int:
    """Return a sum of many."""
    return sum(numbers)


@app.task
def dies_once(path: str) -> str:
    """Kill the worker's process the first time: acks_late has the task come again."""
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        os.kill(os.getpid(), 9)
    return "survived"


__all__ = ["add", "app", "chord", "dies_once", "fails_twice", "total"]
