"""A real gateway process for tests: free ports, its own data, stopped by pid."""

from __future__ import annotations

import importlib.util
import itertools
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Who runs the gateway: another environment's interpreter tries what is installed there, compiled say.
PYTHON = os.environ.get("GATEWAY_TEST_PYTHON", sys.executable)
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0


#: Where servers of tests listen: the kernel gives none of these to an outgoing connection, so a gateway
#: that was killed finds its port free when it comes back.
SERVER_PORTS = range(10_000, 32_000)
WORKERS_MAX = 8  # test runners side by side, each with ports of its own


def _own_ports() -> Iterator[int]:
    """Give this process's ports in turn: the next to ask must not get one whose server is only restarted."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    number = int(worker[2:]) if worker[2:].isdigit() else random.randrange(WORKERS_MAX)
    own = list(SERVER_PORTS[number % WORKERS_MAX :: WORKERS_MAX])
    first = random.SystemRandom().randrange(len(own))
    return itertools.cycle(own[first:] + own[:first])


_ports = _own_ports()


def free_port() -> int:
    """Return a port nobody listens on right now, by TCP or by UDP: CoAP's door takes both."""
    while True:
        port = next(_ports)
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams, suppress(OSError):
            stream.bind(("127.0.0.1", port))
            datagrams.bind(("127.0.0.1", port))
            return port


def wait_for(condition: Callable[[], Any], seconds: float = 10.0, what: str = "the condition") -> Any:
    """Return the first true value of `condition`; fail when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.01)


class GatewayProcess:
    """`python -m gateway serve --dev` on free ports. `start` again after `kill` uses the same data."""

    def __init__(
        self, data: Path, sets: tuple[str, ...] = (), dev: bool = True, config: Path | None = None
    ) -> None:
        self.data = data
        self.mqtt_port = free_port()
        self.http_port = free_port()
        self.amqp_port = free_port()
        self.coap_port = free_port()
        self._sets = sets
        self._dev = dev
        self._config = config
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        self.errors: list[str] = []

    @property
    def url(self) -> str:
        """The HTTP door."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def pid(self) -> int:
        """The running process."""
        assert self.process is not None
        return self.process.pid

    def command(self) -> list[str]:
        """Return the command line."""
        # -P: not the sources in the working directory, if another environment's gateway is wanted.
        alone = ["-P"] if sys.executable != PYTHON else []
        command = [PYTHON, *alone, "-m", "gateway", "serve", "--data", str(self.data)]
        if self._dev:
            command.append("--dev")
        if self._config is not None:
            command += ["--config", str(self._config)]
        doors = {
            "mqtt": f"127.0.0.1:{self.mqtt_port}",
            "http": f"127.0.0.1:{self.http_port}",
            "amqp": f"127.0.0.1:{self.amqp_port}",
            "coap": f"127.0.0.1:{self.coap_port}",
            "openmessaging": "",
        }
        if sys.executable == PYTHON and importlib.util.find_spec("gateway_line") is not None:
            doors["line"] = ""  # installed beside us: its door has a fixed port, and tests run side by side
        for name, address in doors.items():
            command += ["--set", f"listeners.{name}={address}"]
        for setting in self._sets:
            command += ["--set", setting]
        return command

    def start(self, preexec: Callable[[], None] | None = None) -> GatewayProcess:
        """Run it and wait for the ready line."""
        self.lines, self.errors = [], []
        self.process = subprocess.Popen(
            self.command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            preexec_fn=preexec,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        ready: queue.Queue[bool] = queue.Queue()
        threading.Thread(target=self._read_out, args=(self.process, ready), daemon=True).start()
        threading.Thread(target=self._read_errors, args=(self.process,), daemon=True).start()
        assert ready.get(timeout=START_SECONDS_MAX), "\n".join([*self.lines, *self.errors])
        return self

    def _read_out(self, process: subprocess.Popen[str], ready: queue.Queue[bool]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.lines.append(line.rstrip("\n"))
                if line.startswith("gateway ready"):
                    ready.put(True)
        ready.put(False)

    def _read_errors(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self.errors.append(line.rstrip("\n"))

    def kill(self) -> None:
        """kill -9, as a power cut for the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_SECONDS_MAX)
            self.process = None

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS_MAX)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.process = None
        return status

    def rss_bytes(self) -> int:
        """Return the resident memory of the process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def bugs(self) -> list[str]:
        """Return what was logged as our mistake: nothing, in a good test."""
        return [line for line in self.errors if "bug:" in line or "Traceback" in line]


class RocketGateway(GatewayProcess):
    """A gateway with the door for RocketMQ clients."""

    def __init__(self, data: Path, sets: tuple[str, ...] = (), **more: Any) -> None:
        self.rocketmq_port = free_port()
        super().__init__(data, (f"listeners.openmessaging=127.0.0.1:{self.rocketmq_port}", *sets), **more)

    @property
    def endpoints(self) -> str:
        """Where RocketMQ's clients are told to go."""
        return f"127.0.0.1:{self.rocketmq_port}"
