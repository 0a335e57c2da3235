"""The whole door over a gateway in memory, and devices that talk to it by links without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from gateway.core.message import Message
from gateway.core.policy import QueuePolicy
from gateway.core.queue import Queue
from gateway.protocols.coap import Coap
from gateway.protocols.coap.codec import Option, encode_options, read_options
from gateway.protocols.coap.exchange import Link, Request, Response
from gateway.protocols.coap.numbers import LOCATION_PATH, POST, code_name
from gateway.settings import Coap as Settings
from gateway.settings import Limits
from gateway.testing import TestGateway
from tests.coap_client import options_of


class FakeLink(Link):
    """A link that can be closed, and notes what it is told."""

    def __init__(self, peer: str = "127.0.0.1:1") -> None:
        super().__init__(peer)
        self.is_open = True
        self.told: list[tuple[bytes, Response, bool, Callable[[bool], None]]] = []

    @property
    def open(self) -> bool:
        return self.is_open

    def notify(
        self, token: bytes, response: Response, confirmable: bool, done: Callable[[bool], None]
    ) -> None:
        self.told.append((token, response, confirmable, done))


class Device:
    """One client. `ask` returns its answers so far: a list that fills up."""

    def __init__(self, door: Door, login: str = "", peer: str = "127.0.0.1:1") -> None:
        self.door = door
        self.link = FakeLink(peer)
        self._login = [f"clientid={login}", f"username={login}"] if login else []
        self._token = 0

    def start(
        self,
        code: int,
        path: str,
        query: Sequence[str] = (),
        payload: bytes = b"",
        options: Sequence[Option] = (),
        confirmable: bool = True,
        segments: Sequence[str] = (),
    ) -> list[Response]:
        """Send a request; return the list that its answer will be in."""
        found: list[Response] = []
        self._token += 1
        words = options_of(path, [*self._login, *query], options)
        words += [(11, segment.encode()) for segment in segments]
        read = read_options(encode_options(words))
        token = self._token.to_bytes(4, "big")
        request = Request(self.link, code, token, read, payload, confirmable, found.append)
        self.door.coap.resources.handle(request)
        self.door.gateway.settle()
        return found

    def ask(
        self,
        code: int,
        path: str,
        query: Sequence[str] = (),
        payload: bytes = b"",
        options: Sequence[Option] = (),
        confirmable: bool = True,
        segments: Sequence[str] = (),
    ) -> Response:
        """Send a request that is answered at once."""
        found = self.start(code, path, query, payload, options, confirmable, segments)
        assert len(found) == 1, "one answer, at once"
        return found[0]

    def receive(self, queue: str = "jobs", *query: str) -> list[Response]:
        """Ask for a message."""
        return self.start(POST, f"queues/{queue}/receive", query)

    def settle(self, response: Response, *query: str, code: int = POST, more: str = "") -> str:
        """Settle where a response says; return the code."""
        segments = [*location(response), *([more] if more else [])]
        return code_name(self.ask(code, "", query, segments=segments).code)

    def leave(self) -> None:
        """The link is closed."""
        self.link.is_open = False
        self.door.coap.resources.gone(self.link)
        self.door.gateway.settle()


class Door:
    """A gateway with a CoAP door and a queue `jobs`."""

    def __init__(self) -> None:
        self.gateway = TestGateway()
        config: Any = SimpleNamespace(coap=Settings(), limits=Limits())
        self.coap = Coap(config)
        self.coap.start(self.gateway)
        self.queue = self.declare("jobs")

    def declare(self, name: str, kind: str = "classic", **more: Any) -> Queue:
        """Make a queue."""
        queue, _ = self.gateway.broker.catalog.declare(name, kind, QueuePolicy(**more))
        return queue

    def put(self, *bodies: bytes, queue: str = "jobs", **more: Any) -> None:
        """Publish to a queue."""
        for body in bodies:
            self.gateway.broker.publish(Message(f"$queue/{queue}", body, 1, **more))
        self.gateway.settle()

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass, and what is due be done."""
        clock = self.gateway.clock
        clock.set(clock.wall_ms + int(seconds * 1000), clock.monotonic_ms + int(seconds * 1000))
        self.gateway.scheduler.run_due()
        self.gateway.settle()

    def unsettled(self) -> int:
        """Return how many messages of `jobs` are in somebody's hands."""
        return sum(len(group.unsettled) for group in self.queue.groups())

    def idle(self) -> bool:
        """Tell whether nobody waits, or consumes."""
        consumers = sum(len(group.consumers) for group in self.queue.groups())
        return len(self.coap.pulls) == 0 and consumers == 0


@contextmanager
def opened() -> Iterator[Door]:
    """Give a door, and see that nothing failed in it."""
    door = Door()
    failed: list[tuple[str, Exception]] = []
    door.gateway.broker.on_bug = lambda what, error: failed.append((what, error))
    try:
        yield door
        assert not failed
        assert not door.gateway.errors
    finally:
        door.gateway.close()


def location(response: Response) -> list[str]:
    """Return the segments of Location-Path."""
    return [value.decode() for number, value in response.options if number == LOCATION_PATH]


def shown(response: Response) -> tuple[str, bytes]:
    """Return code and payload."""
    return (code_name(response.code), response.payload)
