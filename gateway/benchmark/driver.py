"""What a driver does, and which one a driver file names.

A driver runs in the runner's event loop. Its producers send without waiting and say later what became of each
message (`settled`); its consumers call `received` for each message that comes. The runner puts the time of
sending into a body's first bytes, so drivers carry bytes and nothing else.
"""

from __future__ import annotations

import asyncio
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from .documents import convert, read_fields
from .errors import BenchmarkError

#: Called with the body of each message; plainly, in the event loop.
Received = Callable[[bytes], None]
#: What a message was: its size, when it was due and when it was sent; None: a probe.
Sent = tuple[int, int, int] | None
#: Called when it is known what became of a message: None, or why it failed.
Settled = Callable[[Sent, str | None], None]

#: Messages of a producer that the broker has not confirmed: as many as hide a round trip, and no more than a
#: broker should have to remember. Who is at the limit sends later, which is publish delay.
WINDOW_DEFAULT = 1_000


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What each driver file may say; drivers add their own fields."""

    name: str
    driver: str = ""
    driverClass: str = ""
    window: Annotated[int, msgspec.Meta(ge=1)] = WINDOW_DEFAULT


class Closing(ABC):
    """What is closed at the end of a run."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of what it holds; what is under way may get lost."""


class Producer(Closing):
    """Sends to one topic."""

    def __init__(self, window: int) -> None:
        self.settled: Settled
        self._window = window
        self._in_flight = 0
        self._room = asyncio.Event()

    @property
    def full(self) -> bool:
        """Tell whether as much is under way as may be: wait for `room`."""
        return self._in_flight >= self._window

    async def room(self) -> None:
        """Wait until there is room for one more."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    def send(self, key: str | None, body: bytes, sent: Sent) -> None:
        """Send a message; `settled` is called with `sent` later, or at once."""
        self._in_flight += 1
        try:
            self.publish(key, body, sent)
        except Exception as error:
            self.done(sent, str(error) or type(error).__name__)

    def done(self, sent: Sent, error: str | None) -> None:
        """Tell what became of a message: called by the driver, once for each."""
        self._in_flight -= 1
        self._room.set()
        self.settled(sent, error)

    @abstractmethod
    def publish(self, key: str | None, body: bytes, sent: Sent) -> None:
        """Send it, and call `done` when it is known what became of it. What it raises fails the message."""


class Consumer(Closing):
    """Receives from one subscription."""

    @abstractmethod
    async def suspend(self) -> None:
        """Take nothing more than what is under way, so that a backlog grows."""

    @abstractmethod
    async def resume(self) -> None:
        """Go on."""


class Driver(ABC):
    """Talks to one broker. `settings` says what of a driver file it takes."""

    settings: ClassVar[type[Settings]] = Settings
    topic_prefix = "test-topic"

    def __init__(self, settings: Any) -> None:
        self.config = settings

    @abstractmethod
    async def open(self) -> None:
        """Connect, if that is done once for all; raise BenchmarkError if nobody answers."""

    @abstractmethod
    async def create_topic(self, topic: str, partitions: int) -> None:
        """Make a topic. What has no partitions takes any number of them for one."""

    @abstractmethod
    async def create_producer(self, topic: str) -> Producer:
        """Make a producer."""

    @abstractmethod
    async def create_consumer(self, topic: str, subscription: str, received: Received) -> Consumer:
        """Make one of the consumers that share a subscription."""

    @abstractmethod
    async def close(self) -> None:
        """Remove what it has made, as far as the broker lets it, and disconnect."""


#: Short names of the drivers that are built in.
DRIVERS = {
    "oms": "gateway.benchmark.oms_driver:OmsDriver",
    "mqtt": "gateway.benchmark.mqtt_driver:MqttDriver",
    "amqp": "gateway.benchmark.amqp_driver:AmqpDriver",
    "rabbitmq": "gateway.benchmark.amqp_driver:AmqpDriver",
}
#: Classes of the original whose files these can read.
ORIGINALS = {"io.openmessaging.benchmark.driver.rabbitmq.RabbitMqBenchmarkDriver": "rabbitmq"}


def load_driver(path: Path) -> Driver:
    """Return the driver that a file describes. Raise BenchmarkError."""
    fields = read_fields(path)
    kind = _class(path, fields)
    return kind(convert(path, fields, kind.settings))


def make_driver(fields: dict[str, Any]) -> Driver:
    """Return the driver that these fields describe. Raise BenchmarkError."""
    kind = _class(Path("the driver"), fields)
    return kind(convert(Path("the driver"), fields, kind.settings))


def _class(path: Path, fields: dict[str, Any]) -> type[Driver]:
    named = fields.get("driver") or fields.get("driverClass")
    if not isinstance(named, str):
        raise BenchmarkError(f"{path}: there must be a driver ({', '.join(DRIVERS)}) or a driverClass")
    where = DRIVERS.get(ORIGINALS.get(named, named), named)
    module, colon, name = where.partition(":")
    if not colon:
        raise BenchmarkError(
            f"{path}: {named!r} is not known; there are {', '.join(DRIVERS)}, and module:Class of your own"
        )
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BenchmarkError(f"{path}: {where} cannot be imported: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Driver)):
        raise BenchmarkError(f"{path}: {where} is no {Driver.__module__}.Driver")
    return kind
