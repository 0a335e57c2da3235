"""Celery, unchanged: a worker process with its own application, and a client that waits for results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import GatewayProcess, wait_for

HERE = Path(__file__).parent / "celery_app"
RESULT_SECONDS = 30


class Worker:
    """A worker and the application as a client sees it."""

    def __init__(self, gateway: GatewayProcess, directory: Path) -> None:
        self.url = f"amqp://guest:guest@127.0.0.1:{gateway.amqp_port}//"
        self.log = directory / "worker.log"
        self._backend = f"file://{directory}/results"
        (directory / "results").mkdir()
        environment = {**os.environ, "BROKER_URL": self.url, "RESULT_BACKEND": self._backend}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "2", "-l", "INFO"],
                cwd=HERE,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(lambda: " ready." in self.log.read_text(), 60, f"the worker: {self.log}")

    def stop(self) -> None:
        """End it and its children."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


SCRIPT = """
import sys, time
from datetime import datetime, timedelta, timezone
import tasks
from celery import chord, group
result = {code}
print("result:", result)
"""


def ask(worker: Worker, code: str) -> str:
    """Run a client of the application; return what it printed as its result."""
    environment = {**os.environ, "BROKER_URL": worker.url, "RESULT_BACKEND": worker._backend}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(code=code)],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr + worker.log.read_text()
    return done.stdout.rpartition("result:")[2].strip()


@pytest.fixture
def worker(gateway: GatewayProcess, tmp_path: Path) -> Iterator[Any]:
    made = Worker(gateway, tmp_path)
    yield made
    made.stop()


def test_tasks_run_retry_wait_and_gather(worker: Worker) -> None:
    assert ask(worker, "tasks.add.delay(2, 3).get(timeout=30)") == "5"
    assert ask(worker, "tasks.fails_twice.delay().get(timeout=30)") == "3"
    began = time.monotonic()
    eta = "datetime.now(timezone.utc) + timedelta(seconds=1.5)"
    assert ask(worker, f"tasks.add.apply_async((1, 1), eta={eta}).get(timeout=30)") == "2"
    assert time.monotonic() - began > 1.5
    parts = "group(tasks.add.s(n, n) for n in range(10))"
    assert ask(worker, f"{parts}.apply_async().get(timeout=30)") == str([2 * n for n in range(10)])
    assert ask(worker, f"chord({parts})(tasks.total.s()).get(timeout=30)") == "90"
    assert "tasks.add" in ask(worker, "list(tasks.app.control.inspect(timeout=5).registered().values())[0]")


def test_a_task_whose_worker_dies_comes_again(worker: Worker, tmp_path: Path) -> None:
    assert ask(worker, f"tasks.dies_once.delay({str(tmp_path / 'died')!r}).get(timeout=60)") == "survived"


def test_work_survives_the_gateway(gateway: GatewayProcess, worker: Worker, tmp_path: Path) -> None:
    worker.stop()
    sent = ask(worker, "[tasks.add.delay(n, 1).id for n in range(20)] and 'sent'")
    assert sent == "sent"
    gateway.kill()
    gateway.start()
    (tmp_path / "again").mkdir()
    second = Worker(gateway, tmp_path / "again")
    try:
        done = lambda: second.log.read_text().count("succeeded in")  # noqa: E731
        wait_for(lambda: done() == 20, RESULT_SECONDS, "all twenty tasks")
    finally:
        second.stop()
