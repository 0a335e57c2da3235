"""What selectors cost: evaluations a second, compiling one, and messages a second through what has one.

    python -m benchmarks.selectors [--messages 100000]

Processor time of one thread in process: the machine may have other work. A message is asked many times
where many want it (`again`), or once where one does (`once`: its headers are looked up for the first time).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Delivery
from gateway.core.message import Headers, Message, Origin, Properties
from gateway.core.receiver import Item
from gateway.core.router import Binding
from gateway.core.session import Session
from gateway.selectors import LANGUAGES, compile_sql
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine

TURN = 100  # messages of one turn
NOW_MS = 1_700_000_000_000

FIVE = (
    "color = 'red' AND price > 10 AND region IN ('eu', 'us') AND weight BETWEEN 1 AND 5 AND name LIKE 'dev%'"
)
#: name -> a selector; all of their terms are true of the message, so that all are evaluated
SELECTORS: dict[str, str] = {
    "one term, a text": "color = 'red'",
    "five terms": FIVE,
    "five terms, with OR and NOT": (
        "(color = 'blue' OR price > 10) AND NOT (weight > 5 OR region IS NULL) AND name <> 'x'"
    ),
    "five terms of the message's own": (
        "topic LIKE 'a/%' AND priority > 3 AND size < 1000 AND protocol = 'bench' AND key IS NOT NULL"
    ),
    "arithmetic": "price * 2 - 1 > weight + 5",
}


def properties(typed: bool, key: str | None) -> Properties:
    """Return headers with types, as AMQP and HTTP have them, or as MQTT has."""
    values: dict[str, int | float | str] = {
        "color": "red",
        "price": 42,
        "region": "eu",
        "weight": 2.5,
        "name": "device-7",
        "unit": "kg",
    }
    headers: Headers = tuple((name, value if typed else str(value)) for name, value in values.items())
    return Properties(headers=headers, priority=5, key=key)


def message(typed: bool = True, key: str | None = "k") -> Message:
    """Return a message of its own, whose headers nobody has looked at."""
    made, origin = properties(typed, key), Origin("bench", "user", "c")
    return Message("a/b", b"x" * 128, 1, properties=made, origin=origin)


def rate(call: Callable[[Message], object], messages: Iterable[Message], count: int) -> float:
    """Return calls a second."""
    started = time.process_time()
    for one in messages:
        call(one)
    return count / (time.process_time() - started)


def evaluations(count: int) -> None:
    """Print evaluations a second."""
    print(f"{'millions of evaluations a second':36}{'again':>8}{'once':>8}{'texts, again':>14}")
    for name, text in SELECTORS.items():
        selector = compile_sql(text)
        found = []
        for messages in ([message()] * count, [message() for _ in range(count)], [message(False)] * count):
            assert selector(messages[0])
            messages[0].properties.by_name = None
            found.append(rate(selector, messages, count) / 1e6)
        print(f"  {name:34}{found[0]:8.2f}{found[1]:8.2f}{found[2]:14.2f}")
    started = time.process_time()
    for number in range(200):
        compile_sql(f"{FIVE} AND n = {number}")
    print(f"compiling six terms: {(time.process_time() - started) / 200 * 1e6:.0f} us")


class _Everybody:
    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(True)


class Way:
    """A way through a broker: messages in, and what comes out at its end counted."""

    def __init__(self, directory: Path | None) -> None:
        self.engine = MemoryEngine() if directory is None else CommitLog(directory)
        self.clock = Clock(NOW_MS, 1000)
        self.broker = Broker(self.engine, self.clock)
        for language, compiler in LANGUAGES.items():
            self.broker.selectors.add(language, compiler)
        self.broker.restore(lambda: None)
        self.session = Session(
            self.broker, Principal("user"), Origin("bench", "user", "c"), Authority([_Everybody()])
        )
        self.got = 0

    def receive(self, batch: list[Item]) -> None:
        self.got += len(batch)

    def deliver(self, batch: list[Delivery]) -> None:
        self.got += len(batch)
        self.broker.settlement.acknowledge(batch)

    def run(self, messages: list[Message], topic: str) -> float:
        """Return messages a second, from publish to acknowledgement."""
        for one in messages:
            one.topic = topic
        started = time.process_time()
        for number, one in enumerate(messages, 1):
            self.session.publish(one)
            if number % TURN == 0:
                self._end_turn()
        while self.broker.dispatch():
            self._end_turn()
        found = len(messages) / (time.process_time() - started)
        assert self.got == len(messages), self.got
        self.engine.close()
        return found

    def _end_turn(self) -> None:
        self.clock.set(self.clock.wall_ms + 1, self.clock.monotonic_ms + 1)
        self.broker.dispatch()
        self.engine.flush()
        self.broker.flushed()
        self.engine.completed()


def subscriber(way: Way, text: str | None) -> str:
    """A live subscription."""
    way.session.receive(way.receive)
    way.session.subscribe("a/#", selector=None if text is None else way.broker.selectors.find(text))
    return "a/b"


def queue(way: Way, text: str | None) -> str:
    """A durable queue with a consumer, bound to a filter."""
    found, _ = way.broker.catalog.declare("q")
    selector = None if text is None else way.broker.selectors.find(text)
    way.broker.catalog.bind(found, Binding("a/#", found, selector=selector))
    way.session.consume("q", way.deliver, 1000)
    return "a/b"


def group(way: Way, text: str | None) -> str:
    """A group of a durable stream."""
    way.broker.catalog.declare("s", "stream")
    selector = None if text is None else way.broker.selectors.find(text)
    way.session.consume("s", way.deliver, 1000, "g", 0, selector)
    return "$queue/s"


def paths(count: int) -> None:
    """Print messages a second through each kind of subscription, with a selector and without."""
    print(f"{'thousands of messages a second':36}{'plain':>8}{'a term':>8}{'five terms':>12}")
    for name, begin, durable in (
        ("a live subscription", subscriber, False),
        ("a durable queue's binding", queue, True),
        ("a durable stream's group", group, True),
    ):
        found = []
        for text in (None, "unit = 'kg'", FIVE):
            with tempfile.TemporaryDirectory() as directory:
                way = Way(Path(directory) if durable else None)
                found.append(way.run([message(key=None) for _ in range(count)], begin(way, text)) / 1e3)
        print(f"  {name:34}{found[0]:8.0f}{found[1]:8.0f}{found[2]:12.0f}")


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    count = parser.parse_args().messages
    evaluations(count)
    paths(count)


if __name__ == "__main__":
    main()
