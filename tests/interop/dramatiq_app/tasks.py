"""A Dramatiq application that knows nothing of us: its URL is all it is told. Run as a worker by the tests.

A task tells what it did in a file of its own, a line an attempt.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

RESULTS = Path(os.environ["RESULTS_DIR"])
BACKOFF_MIN, BACKOFF_MAX = 50, 200  # milliseconds

broker = RabbitmqBroker(url=os.environ["BROKER_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)


def tell(name: str, text: str) -> int:
    """Write a line; return how many there are."""
    path = RESULTS / name
    with path.open("a") as file:
        file.write(text + "\n")
    return len(path.read_text().splitlines())


@dramatiq.actor
def add(name: str, x: int, y: int) -> None:
    """Tell a sum."""
    tell(name, str(x + y))


@dramatiq.actor(max_retries=3, min_backoff=BACKOFF_MIN, max_backoff=BACKOFF_MAX)
def fails_twice(name: str) -> None:
    """Succeed at the third attempt."""
    if tell(name, "attempt") < 3:
        raise RuntimeError("not yet")


@dramatiq.actor(max_retries=2, min_backoff=BACKOFF_MIN, max_backoff=BACKOFF_MAX)
def never_works(name: str) -> None:
    """Use up all attempts."""
    tell(name, "attempt")
    raise RuntimeError("never")


@dramatiq.actor
def when(name: str) -> None:
    """Tell the time."""
    tell(name, str(time.time()))
