"""An endpoint and a gateway for all tests of a module, and what one asks of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.process import GatewayProcess, wait_for
from tests.webhooks.sink import Received, Sink

SECONDS = 15.0
_names = itertools.count(1)


class Push:
    """One webhook: its name is the first level of what it gets, and the path at the endpoint."""

    def __init__(self, gateway: GatewayProcess, sink: Sink, http: httpx.Client, **fields: Any) -> None:
        self.http = http
        self.sink = sink
        self.name = f"h{next(_names)}"
        self.path = f"/{self.name}"
        self.secret = ""
        self.gateway = gateway
        self._fields = fields

    def make(self, **fields: Any) -> dict[str, Any]:
        """PUT it."""
        wanted = {"url": self.sink.url(self.path), "filters": [f"{self.name}/#"], **self._fields, **fields}
        if "queue" in wanted:
            del wanted["filters"]
        answer = self.http.put(f"/v1/webhooks/{self.name}", json=wanted)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        self.secret = found.get("secret", self.secret)
        return found

    def publish(self, *bodies: bytes, **headers: str) -> None:
        """Publish messages that it gets."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        for body in bodies:
            answer = self.http.post(f"/v1/topics/{self.name}/t", content=body, headers=names)
            assert answer.status_code == 200, answer.text

    def show(self) -> dict[str, Any]:
        """GET it."""
        answer = self.http.get(f"/v1/webhooks/{self.name}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def do(self, what: str, **fields: Any) -> dict[str, Any]:
        """POST pause, resume, test or rotate."""
        answer = self.http.post(f"/v1/webhooks/{self.name}/{what}", json=fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def attempts(self) -> list[dict[str, Any]]:
        """Return the latest attempts, the first first."""
        found = self.http.get(f"/v1/webhooks/{self.name}/attempts").json()["attempts"]
        return list(reversed(found))

    def got(self, count: int = 1) -> list[Received]:
        """Wait for so many requests, and return all."""
        wait_for(lambda: len(self.sink.got(self.path)) >= count, SECONDS, f"{count} requests")
        return self.sink.got(self.path)

    def delivered(self, count: int = 1) -> None:
        """Wait until so many messages are taken."""
        wait_for(lambda: self.show()["delivered"] >= count, SECONDS, f"{count} messages delivered")

    def depth(self, queue: str = "") -> int:
        """Return how many messages wait, or are in hand."""
        name = (queue or f"$webhook/{self.name}").replace("/", "%2F").replace("$", "%24")
        found = self.http.get(f"/v1/queues/{name}").json()
        return int(found["depth"] + found["unsettled"])


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway in development mode: endpoints on this machine are allowed."""
    process = GatewayProcess(tmp_path_factory.mktemp("webhooks") / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module")
def http(running: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=SECONDS) as client:
        yield client


@pytest.fixture
def push(running: GatewayProcess, sink: Sink, http: httpx.Client) -> Iterator[Push]:
    """A webhook that is not made yet, and is removed afterwards."""
    made = Push(running, sink, http)
    yield made
    http.delete(f"/v1/webhooks/{made.name}")
