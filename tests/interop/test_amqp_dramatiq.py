"""Dramatiq, unchanged: a worker process with its own application, and queues for retries and the dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.process import GatewayProcess, wait_for

HERE = Path(__file__).parent / "dramatiq_app"
READY = "Worker process is ready for action."
RESULT_SECONDS = 30
DELAY_SECONDS = 1.5


class Application:
    """A worker, and the application as a client sees it."""

    def __init__(self, gateway: GatewayProcess, directory: Path) -> None:
        self.results = directory / "results"
        self.log = directory / "worker.log"
        self.results.mkdir(exist_ok=True)
        self._environment = {
            **os.environ,
            "BROKER_URL": f"amqp://guest:guest@127.0.0.1:{gateway.amqp_port}/%2F",
            "RESULTS_DIR": str(self.results),
            "dramatiq_restart_delay": "200",  # milliseconds; this and the next only make the tests short
            "dramatiq_worker_timeout": "100",
        }
        self._worker: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> None:
        """Run a worker with two threads; return once it is ready."""
        command = [sys.executable, "-m", "dramatiq", "tasks", "-p", "1", "-t", "2"]
        with self.log.open("w") as log:
            self._worker = subprocess.Popen(
                command, cwd=HERE, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(lambda: READY in self.log.read_text(), 60, f"the worker: {self.log}")

    def stop_worker(self) -> None:
        """End it and its children."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.terminate()
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    def ask(self, code: str) -> Any:
        """Run a client; return what its expression was."""
        script = f"import json, tasks\nprint('result:' + json.dumps({code}))\ntasks.broker.close()"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=HERE,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rpartition("result:")[2])

    def send(self, code: str) -> str:
        """Send a task; return its message's name."""
        return str(self.ask(f"tasks.{code}.message_id"))

    def told(self, name: str, lines: int = 1) -> list[str]:
        """Wait until a task has told so much; return all of it."""
        path = self.results / name

        def enough() -> list[str] | None:
            found = path.read_text().splitlines() if path.exists() else []
            return found if len(found) >= lines else None

        found: list[str] = wait_for(enough, RESULT_SECONDS, f"{lines} lines of {name}: {self.log}")
        return found

    def counts(self) -> list[int]:
        """Return what waits: to be done, delayed, dead. Dramatiq declares its queues again to know."""
        found: list[int] = self.ask("tasks.broker.get_queue_message_counts('default')")
        return found


@pytest.fixture
def application(gateway: GatewayProcess, tmp_path: Path) -> Iterator[Application]:
    made = Application(gateway, tmp_path)
    yield made
    made.stop_worker()


def take(gateway: GatewayProcess, queue: str) -> tuple[Any, bytes]:
    """Return the properties and the body of the one message that comes to a queue."""
    parameters = pika.ConnectionParameters("127.0.0.1", gateway.amqp_port)
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        got: list[tuple[Any, bytes]] = []

        def taken() -> bool:
            method, properties, body = channel.basic_get(queue)
            if method is not None:
                channel.basic_ack(method.delivery_tag)
                got.append((properties, body))
            return bool(got)

        wait_for(taken, RESULT_SECONDS, f"a message in {queue}")
        assert channel.basic_get(queue)[0] is None
        return got[0]


def test_tasks_run_retry_and_wait(application: Application) -> None:
    application.start_worker()
    application.send("add.send('sum', 2, 3)")
    application.send("fails_twice.send('retried')")
    assert application.told("sum") == ["5"]
    assert len(application.told("retried", 3)) == 3
    sent = time.time()
    application.send(f"when.send_with_options(args=('later',), delay={int(DELAY_SECONDS * 1000)})")
    (done,) = application.told("later")
    assert float(done) - sent > DELAY_SECONDS
    wait_for(lambda: application.counts() == [0, 0, 0], RESULT_SECONDS, "empty queues")
    application.stop_worker()
    assert application.counts() == [0, 0, 0], "the worker had left something unacknowledged"
    assert len(application.told("retried", 3)) == 3
    assert "connection error" not in application.log.read_text()


def test_a_task_that_never_works_is_a_dead_letter(gateway: GatewayProcess, application: Application) -> None:
    application.start_worker()
    name = application.send("never_works.send('failed')")
    properties, body = take(gateway, "default.XQ")
    assert application.told("failed", 3) == ["attempt"] * 3
    message = json.loads(body)
    assert (message["message_id"], message["actor_name"]) == (name, "never_works")
    assert message["args"] == ["failed"]
    assert properties.delivery_mode == 2
    (death,) = properties.headers["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == ("default", "rejected", 1)
    assert (death["exchange"], death["routing-keys"]) == ("", ["default"])
    assert application.counts() == [0, 0, 0]


def test_work_survives_the_gateway_and_the_worker_comes_back(
    gateway: GatewayProcess, application: Application
) -> None:
    sent = "[tasks.add.send(f'sum-{n}', n, 1) and n for n in range(20)]"
    assert application.ask(sent) == list(range(20))
    gateway.kill()
    gateway.start()
    application.start_worker()
    for n in range(20):
        assert application.told(f"sum-{n}") == [str(n + 1)]
    later = time.time() + DELAY_SECONDS
    application.send(f"when.send_with_options(args=('later',), delay={int(DELAY_SECONDS * 1000)})")
    gateway.kill()  # while the worker holds the delayed one
    gateway.start()
    application.send("add.send('after', 1, 1)")
    assert application.told("after") == ["2"]
    assert float(application.told("later")[0]) > later
    wait_for(lambda: application.counts() == [0, 0, 0], RESULT_SECONDS, "empty queues")
