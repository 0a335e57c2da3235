"""The node that suffers: a `gateway serve` of our own on this machine, killed and suspended by its process
id."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

from .errors import ChaosError

START_SECONDS_MAX = 60.0  # a recovery of a large log takes its time
STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05
READY = "gateway ready"
DOORS = ("mqtt", "amqp", "coap", "http", "openmessaging")
#: Where it listens: below the ports that the kernel gives to clients, so that it finds its own free again.
PORTS = range(10_000, 32_000)
PORT_TRIES_MAX = 100


def free_port() -> int:
    """Return a port where nobody listens."""
    for _ in range(PORT_TRIES_MAX):
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ChaosError(f"no free port found in {PORT_TRIES_MAX} tries")


class Node:
    """A gateway with one door; the same data and port whenever it is started."""

    def __init__(self, door: str, data: Path, log: Path, settings: Sequence[str] = ()) -> None:
        assert door in DOORS, "the door is one of the gateway's own"
        self.door = door
        self.port = free_port()
        self._data = data
        self._log = log
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._suspended = False

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        return None if self._process is None else self._process.pid

    def _command(self) -> list[str]:
        # what else is installed may have doors of fixed ports
        others = [entry.name for entry in entry_points(group="gateway")]
        settings = [f"plugins.disabled={others!r}"]
        settings += [f"listeners.{door}=" for door in DOORS if door != self.door]
        settings += [f"listeners.{self.door}=127.0.0.1:{self.port}", *self._settings]
        arguments = [word for setting in settings for word in ("--set", setting)]
        return [sys.executable, "-m", "gateway", "serve", "--dev", "--data", str(self._data), *arguments]

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C is for us: we stop it
            )

    async def start(self) -> None:
        """Start it and wait until it is ready. Raise ChaosError with what it said instead."""
        assert self._process is None, "it runs"
        said = self._log.stat().st_size if self._log.exists() else 0
        self._process = self._spawn()
        for _ in range(int(START_SECONDS_MAX / POLL_SECONDS)):
            await asyncio.sleep(POLL_SECONDS)
            with self._log.open("rb") as log:
                log.seek(said)
                text = log.read().decode(errors="replace")
            if READY in text:
                return
            if self._process.poll() is not None:
                break
        await self.kill()
        raise ChaosError(f"the gateway does not start: {text[-2000:].strip()}")

    async def kill(self) -> None:
        """End it by SIGKILL, as a power cut for the process."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it by SIGTERM."""
        self.resume()
        await self._end(signal.SIGTERM)

    def suspend(self) -> None:
        """Stop it where it is, by SIGSTOP."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self._suspended = True

    def resume(self) -> None:
        """Have it go on, by SIGCONT."""
        if self._process is not None and self._suspended:
            self._process.send_signal(signal.SIGCONT)
        self._suspended = False

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        self._suspended = False
        if process is None:
            return
        process.send_signal(how)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, process.wait, STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            await loop.run_in_executor(None, process.wait)


def temporary_data() -> tempfile.TemporaryDirectory[str]:
    """Return a data directory that goes with the run."""
    return tempfile.TemporaryDirectory(prefix="gateway-chaos-")
