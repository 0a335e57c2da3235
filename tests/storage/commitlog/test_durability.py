"""When whoever waits is told: the disk has it, or the operating system has it; always in order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.errors import NotStored
from gateway.core.message import Message
from gateway.core.policy import QueuePolicy
from gateway.core.router import Binding
from gateway.storage.commitlog import CommitLog
from tests.process import wait_for
from tests.storage.commitlog.faulty_files import SlowDisk
from tests.storage.commitlog.logs import NOW_MS, bodies


class Bench:
    """A broker on a slow disk, and what publishers were told, in order."""

    def __init__(self, path: Path) -> None:
        self.files = SlowDisk()
        self.log = CommitLog(path, files=self.files)
        self.broker = Broker(self.log, Clock(NOW_MS, 0))
        self.broker.restore(lambda: None)
        self.told: list[tuple[str, bool]] = []
        for name in ("sync", "async", "none"):
            queue, _ = self.broker.catalog.declare(name, policy=QueuePolicy(durability=name))
            self.broker.catalog.bind(queue, Binding(f"to/{name}", queue))
            self.broker.catalog.bind(queue, Binding(f"{name}/#", queue))
            self.broker.catalog.bind(queue, Binding("all", queue))
        self.wait(self.log.position())
        self.turn()
        wait_for(self._all_told, what="an empty log on the disk")
        self.told.clear()

    def _all_told(self) -> bool:
        self.log.completed()
        return len(self.told) == 1

    def publish(self, topic: str, qos: int = 1) -> int:
        position = self.broker.publish(Message(topic, topic.encode(), qos))
        self.wait(position, topic)
        return position

    def wait(self, position: int, name: str = "") -> None:
        if position > 0:
            self.log.when_durable(position, lambda stored: self.told.append((name, stored)))

    def turn(self) -> None:
        self.broker.dispatch()
        self.log.flush()
        self.broker.flushed()
        self.log.completed()

    def names(self) -> list[str]:
        self.log.completed()
        return [name for name, stored in self.told if stored]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.files.may_sync.clear()
    yield made
    made.files.may_sync.set()
    made.log.close()


def test_each_mode_is_told_at_its_time(bench: Bench) -> None:
    assert bench.publish("to/none") == 0, "nothing to wait for"
    bench.publish("to/async")
    assert bench.names() == [], "not written yet"
    bench.turn()
    assert bench.names() == ["to/async"]
    bench.publish("to/sync")
    bench.turn()
    assert bench.names() == ["to/async"], "the disk has not got it"
    bench.files.may_sync.set()
    wait_for(lambda: bench.names() == ["to/async", "to/sync"], what="the sync")
    for name in ("sync", "async", "none"):
        assert bench.broker.catalog.get(name).length() == 1


def test_answers_come_in_the_order_of_the_questions(bench: Bench) -> None:
    for topic in ("to/async", "to/sync", "to/async"):
        bench.publish(topic)
    bench.turn()
    bench.publish("to/async")
    bench.turn()
    assert bench.names() == ["to/async"], "the others wait behind what has to be on the disk"
    bench.files.may_sync.set()
    wait_for(lambda: len(bench.names()) == 4, what="the sync")
    assert bench.names() == ["to/async", "to/sync", "to/async", "to/async"]


def test_the_strictest_queue_decides(bench: Bench) -> None:
    bench.publish("all")
    bench.turn()
    assert bench.names() == []
    bench.files.may_sync.set()
    wait_for(lambda: bench.names() == ["all"], what="the sync")


def test_a_rule_for_topics_wins_over_the_queues_and_the_first_that_matches_over_others(bench: Bench) -> None:
    bench.broker.router.rules = [("sync/a", "".join("none")), ("sync/#", "async"), ("none/#", "sync")]
    assert bench.publish("sync/a") == 0
    bench.publish("sync/b")
    bench.turn()
    assert bench.names() == ["sync/b"]
    bench.publish("none/a")
    bench.turn()
    assert bench.names() == ["sync/b"]
    bench.files.may_sync.set()
    wait_for(lambda: bench.names() == ["sync/b", "none/a"], what="the sync")


def test_a_full_disk_is_told_to_whoever_waits(bench: Bench) -> None:
    bench.publish("to/async")
    bench.publish("to/none")
    bench.files.room = 0
    with pytest.raises(NotStored):
        bench.log.flush()
    bench.broker.rollback(bench.log.failed_from())
    bench.files.may_sync.set()
    wait_for(lambda: bench.names() == [] and bench.told == [("to/async", False)], what="the bad news")
    assert bench.broker.catalog.get("none").length() == 0
    bench.files.room = None
    bench.turn()


def test_what_is_said_to_be_on_the_disk_outlives_a_power_loss(tmp_path: Path) -> None:
    """And `async`, what was there before something else was synced."""
    for seed in range(20):
        bench = Bench(tmp_path / f"{seed}")
        bench.publish("to/async")
        bench.publish("to/sync")
        bench.turn()
        wait_for(lambda bench=bench: len(bench.names()) == 2, what="the sync")  # type: ignore[misc]
        bench.files.may_sync.clear()
        bench.publish("to/async")
        bench.turn()
        after = tmp_path / f"{seed}-after"
        bench.files.power_loss(tmp_path / f"{seed}", after, random.Random(seed))
        bench.files.may_sync.set()
        bench.log.close()
        log = CommitLog(after)
        log.open(lambda: None)
        ids = {name: bench.broker.catalog.get(name).queue_id for name in ("sync", "async")}
        assert bodies(log, ids["sync"]) == [b"to/sync"]
        assert bodies(log, ids["async"])[0] == b"to/async"
        log.close()
