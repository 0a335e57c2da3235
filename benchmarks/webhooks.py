"""How many messages a second are pushed to an endpoint on this machine, and what one costs the gateway.

`python -m benchmarks.webhooks [MESSAGES]`: a real gateway, a sink in a process of its own. The messages are
there before the webhook goes on, so that what is measured is pushing alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httptools
import httpx
import uvloop

MESSAGES = 20_000
BODY = b"x" * 256
BATCH = 1000
CONCURRENCY = (1, 10, 100)
SECONDS_MAX = 120.0


class Sink(asyncio.Protocol):
    """Answers 204 to whatever comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # type: ignore[attr-defined]


def serve(port: int) -> None:
    """Run a sink."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
        await server.serve_forever()

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run())


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(data: Path, port: int) -> subprocess.Popen[str]:
    """Start a gateway and wait until it is ready."""
    command = [sys.executable, "-m", "gateway", "serve", "--dev", "--data", str(data)]
    for door in ("mqtt", "amqp", "coap", "openmessaging"):
        command += ["--set", f"listeners.{door}="]
    command += ["--set", f"listeners.http=127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("gateway ready"):
            return process
    raise SystemExit("the gateway did not start")


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(client: httpx.Client, pid: int, url: str, concurrency: int, count: int) -> tuple[float, float]:
    """Return (messages a second, microseconds of processor time each)."""
    path = f"/v1/webhooks/c{concurrency}"
    wanted = {"url": url, "filters": [f"c{concurrency}"], "concurrency": concurrency}
    client.put(path, json=wanted).raise_for_status()
    client.post(f"{path}/pause", json={}).raise_for_status()
    line = b'{"body": "%s"}' % BODY
    for _ in range(count // BATCH):
        answer = client.post(f"/v1/topics/c{concurrency}/batch", content=b"\n".join([line] * BATCH))
        answer.raise_for_status()
    began, used = time.perf_counter(), cpu_seconds(pid)
    client.post(f"{path}/resume", json={}).raise_for_status()
    while client.get(path).json()["delivered"] < count // BATCH * BATCH:
        if time.perf_counter() - began > SECONDS_MAX:
            raise SystemExit(client.get(path).text)
        time.sleep(0.05)
    taken, used = time.perf_counter() - began, cpu_seconds(pid) - used
    client.delete(path).raise_for_status()
    return count / taken, used / count * 1e6


def main() -> None:
    """Print a line for each number of requests at a time."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    sink_port, port = free_port(), free_port()
    sink = multiprocessing.get_context("spawn").Process(target=serve, args=(sink_port,), daemon=True)
    sink.start()
    with tempfile.TemporaryDirectory() as directory:
        gateway = start(Path(directory), port)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                print(f"{count} messages of {len(BODY)} bytes, signed, to a sink on this machine")
                for concurrency in CONCURRENCY:
                    url = f"http://127.0.0.1:{sink_port}/x"
                    rate, cost = measure(client, gateway.pid, url, concurrency, count)
                    print(
                        f"{concurrency:4} at a time: {rate:8,.0f} messages/s, {cost:6.0f} us of the gateway"
                    )
        finally:
            gateway.terminate()
            gateway.wait()
            sink.terminate()


if __name__ == "__main__":
    main()
