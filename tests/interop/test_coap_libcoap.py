"""libcoap's `coap-client` with a real gateway: put, get, delete, observe, blocks, NON, TCP."""

from __future__ import annotations

import queue
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.paho_client import V5, PahoClient
from tests.peers import coap_client
from tests.process import GatewayProcess, wait_for

pytestmark = pytest.mark.interop
SECONDS_MAX = 20
LARGE = random.Random(5).randbytes(100_000)
SCHEMES = ("coap", "coap+tcp")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("libcoap") / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


class Libcoap:
    """The program, for one scheme."""

    def __init__(self, port: int, scheme: str, directory: Path) -> None:
        self._base = f"{scheme}://127.0.0.1:{port}"
        self._out = directory / "out"

    def run(self, path: str, *options: str) -> bytes:
        """Run it; return the payload. What is no success is on standard error: raise Refused with it."""
        self._out.unlink(missing_ok=True)
        command = [coap_client(), "-B", "10", "-o", str(self._out), *options, self._base + path]
        done = subprocess.run(command, capture_output=True, timeout=SECONDS_MAX, check=False)
        assert done.returncode == 0, done.stderr
        if done.stderr:
            raise Refused(done.stderr.decode().strip())
        return self._out.read_bytes() if self._out.exists() else b""

    @contextmanager
    def observing(self, path: str, seconds: int = SECONDS_MAX) -> Iterator[queue.Queue[str]]:
        """Observe; give what is printed, line by line, after the first answer was."""
        command = [coap_client(), "-w", "-s", str(seconds), self._base + path]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    if line.strip():
                        lines.put(line.strip())

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield lines
        finally:
            process.terminate()
            process.wait(10)
            thread.join(10)


class Refused(Exception):
    """What coap-client prints of an answer that is no success: "4.04 Not Found", say."""


@pytest.fixture(params=SCHEMES)
def client(shared: GatewayProcess, request: pytest.FixtureRequest, tmp_path: Path) -> Libcoap:
    return Libcoap(shared.coap_port, request.param, tmp_path)


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic of this test's own."""
    return re.sub(r"[^a-z0-9_]+", "-", request.node.name).strip("-")


def test_put_get_and_delete(client: Libcoap, topic: str) -> None:
    path = f"/ps/libcoap/{topic}"
    with pytest.raises(Refused, match=r"^4\.04"):
        client.run(path)
    client.run(f"{path}?retain=true", "-m", "put", "-e", "twenty degrees", "-t", "text/plain")
    assert client.run(path) == b"twenty degrees"
    assert client.run(path, "-A", "text/plain") == b"twenty degrees"
    with pytest.raises(Refused, match=r"^4\.06"):
        client.run(path, "-A", "application/cbor")
    client.run(f"{path}?retain=true", "-m", "post", "-e", "warm")
    assert client.run(path) == b"warm"
    client.run(path, "-m", "delete")
    with pytest.raises(Refused, match=r"^4\.05"):
        client.run(path, "-m", "fetch")


@pytest.mark.parametrize("size", ["1024", "64"])
def test_blocks(client: Libcoap, topic: str, tmp_path: Path, size: str) -> None:
    path, body = f"/ps/libcoap/{topic}", LARGE[: 100 * int(size)]
    (tmp_path / "in").write_bytes(body)
    client.run(f"{path}?retain=true", "-m", "put", "-b", size, "-f", str(tmp_path / "in"))
    assert client.run(path, "-b", size) == body


def test_not_confirmable(shared: GatewayProcess, topic: str, tmp_path: Path) -> None:
    client = Libcoap(shared.coap_port, "coap", tmp_path)
    with PahoClient(topic, V5).open(shared.mqtt_port) as listener:
        listener.subscribe(f"libcoap/{topic}", 2)
        client.run(f"/ps/libcoap/{topic}", "-N", "-m", "put", "-e", "hi")
        message = listener.receive()
        assert (message.payload, message.qos) == (b"hi", 0)
        client.run(f"/ps/libcoap/{topic}?qos=1", "-N", "-m", "put", "-e", "hi")
        assert listener.receive().qos == 1


def test_observe(shared: GatewayProcess, client: Libcoap, topic: str) -> None:
    path = f"/ps/libcoap/{topic}"
    client.run(f"{path}?retain=true", "-m", "put", "-e", "before")
    with (
        client.observing(path) as lines,
        PahoClient(topic, V5).open(shared.mqtt_port) as publisher,
    ):
        assert lines.get(timeout=SECONDS_MAX) == "before"
        for n in range(30):
            publisher.publish(f"libcoap/{topic}", b"n%d" % n, 1)
            assert lines.get(timeout=SECONDS_MAX) == f"n{n}"
    # Ended by a signal, it says nothing: what is sent to it after that nobody takes.
    wait_for(lambda: client.run(path), what="others are still answered")
