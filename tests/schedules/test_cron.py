"""Cron: at its times, once, whatever becomes of the gateway and of the clocks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from gateway.api import InvalidValue, NotFound
from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.errors import Conflict, NotStored
from gateway.core.policy import QueuePolicy
from gateway.core.router import Binding
from gateway.core.sweeper import Sweeper
from gateway.schedules import cron as module
from gateway.schedules.cron import RETRY_MS, Crons
from gateway.schedules.entry import Entry
from gateway.storage.commitlog import CommitLog
from tests.process import wait_for
from tests.storage.commitlog.faulty_files import FaultyFiles


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


START_MS = at("2026-11-21 12:00:30")


class House:
    """A broker on a commit log with cron, and a queue that gets what is published to `t`."""

    def __init__(self, directory: Path, now_ms: int = START_MS) -> None:
        self.files = FaultyFiles()
        self.engine = CommitLog(directory, files=self.files)
        self.clock = Clock(now_ms, 1000)
        self.broker = Broker(self.engine, self.clock)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Sweeper, "start", lambda sweeper: None)
            self.broker.restore(lambda: None)
        out, _ = self.broker.catalog.declare("out")
        assert isinstance(out, ClassicQueue)
        self.out = out
        if "t" not in self.broker.catalog.bindings.get("out", {}):
            self.broker.catalog.bind(out, Binding("t", out))
        self.crons = Crons(self.broker)
        self.crons.restore()
        self.end_turn()

    def put(self, expression: str, **fields: Any) -> Entry:
        made = Entry(
            name="job", cron=expression, topic="t", body=b"x", user="me", made_ms=self.clock.wall_ms, **fields
        )
        made.check()
        self.crons.put(made)
        self.end_turn()
        return made

    def end_turn(self) -> None:
        self.broker.dispatch()
        try:
            self.engine.flush()
        except NotStored:
            self.broker.rollback(self.engine.failed_from())
        else:
            self.broker.flushed()
        self.engine.completed()

    def settle(self) -> None:
        said: list[bool] = []
        self.engine.when_durable(self.engine.position(), said.append)
        self.end_turn()

        def told() -> bool:
            self.engine.completed()
            return bool(said)

        wait_for(told, what="the disk")
        self.end_turn()

    def until(self, text: str) -> None:
        """Let time pass until a time of the wall clock."""
        end_ms = at(text)
        while self.clock.wall_ms < end_ms:
            due_ms = self.broker.scheduler.next_due_ms()
            wait_ms = end_ms - self.clock.wall_ms
            if due_ms is not None:
                wait_ms = min(wait_ms, max(0, due_ms - self.clock.monotonic_ms))
            self.clock.set(self.clock.wall_ms + wait_ms, self.clock.monotonic_ms + wait_ms)
            self.broker.scheduler.run_due()
            self.end_turn()
        self.settle()

    def ran(self) -> list[str]:
        """Return when it ran."""
        return [
            datetime.fromtimestamp(message.timestamp_ms / 1000, UTC).strftime("%H:%M:%S")
            for _, message, _ in self.out.browse(0, 1000)
        ]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "data")
    yield made
    made.engine.close()


def test_it_runs_at_its_times(house: House) -> None:
    house.put("*/2 * * * *", headers=[("h", 1)], content_type="text/plain", qos=2)
    house.until("2026-11-21 12:07:00")
    assert house.ran() == ["12:02:00", "12:04:00", "12:06:00"]
    ((_, message, _),) = house.out.browse(0, 1)
    assert (message.body, message.qos, message.properties.content_type) == (b"x", 2, "text/plain")
    assert message.properties.headers == (("h", 1),)
    assert (message.origin.protocol, message.origin.principal, message.origin.client_id) == (
        "cron",
        "me",
        "job",
    )
    assert message.properties.idempotency_key == f"cron/job/{at('2026-11-21 12:02:00')}"


def test_seconds(house: House) -> None:
    house.put("*/15 * * * * *")
    house.until("2026-11-21 12:01:20")
    assert house.ran() == ["12:00:45", "12:01:00", "12:01:15"]


def test_changed_switched_off_and_deleted(house: House) -> None:
    house.put("* * * * *")
    house.until("2026-11-21 12:01:30")
    house.put("*/5 * * * *")
    house.until("2026-11-21 12:05:30")
    house.put("* * * * *", enabled=False)
    house.until("2026-11-21 12:10:30")
    house.put("* * * * *")
    house.until("2026-11-21 12:11:30")
    house.crons.delete("job")
    house.until("2026-11-21 12:20:00")
    assert house.ran() == ["12:01:00", "12:05:00", "12:11:00"]
    for call in (house.crons.get, house.crons.delete):
        with pytest.raises(NotFound):
            call("job")


@pytest.mark.parametrize(("missed", "late"), [("skip", []), ("once", ["12:30:30"])])
def test_what_was_missed_while_it_was_away(tmp_path: Path, missed: str, late: list[str]) -> None:
    house = House(tmp_path)
    house.put("*/10 * * * *", missed=missed)
    house.until("2026-11-21 12:10:20")
    house.engine.close()
    house = House(tmp_path, at("2026-11-21 12:30:30"))
    house.until("2026-11-21 12:41:00")
    assert house.ran() == ["12:10:00", *late, "12:40:00"]
    house.engine.close()


def test_a_restart_between_two_runs_repeats_none(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.put("* * * * *", missed="once")
    for minute in (1, 2, 3):
        house.until(f"2026-11-21 12:0{minute}:10")
        house.engine.close()
        house = House(tmp_path, house.clock.wall_ms + 5000)
    assert house.ran() == ["12:01:00", "12:02:00", "12:03:00"]
    house.engine.close()


def test_a_run_that_was_not_noted_is_not_repeated(tmp_path: Path) -> None:
    house = House(tmp_path)
    entry = house.put("* * * * *", missed="once")
    house.until("2026-11-21 12:01:10")
    entry.last_ms = 0  # as if it had died before
    house.crons._keep(entry)
    house.settle()
    house.engine.close()
    house = House(tmp_path, at("2026-11-21 12:01:20"))
    house.until("2026-11-21 12:01:50")
    assert house.ran() == ["12:01:00"]
    house.until("2026-11-21 12:02:10")
    assert house.ran() == ["12:01:00", "12:02:00"]
    house.engine.close()


def test_a_full_disk_is_waited_for(house: House) -> None:
    house.put("0 * * * *")
    house.until("2026-11-21 12:59:59")
    house.files.room = 0
    house.until("2026-11-21 13:00:01")
    assert house.ran() == []
    assert "disk" in house.crons.get("job").failed
    house.files.room = None
    house.until("2026-11-21 13:00:05")
    assert len(house.ran()) == 1
    assert house.crons.get("job").failed == ""


def test_a_full_queue_is_waited_for_until_it_is_too_late(house: House) -> None:
    full, _ = house.broker.catalog.declare("full", policy=QueuePolicy(max_length=1, overflow="reject"))
    house.broker.catalog.bind(full, Binding("t", full))
    house.put("*/10 * * * *")
    house.until("2026-11-21 12:10:01")
    house.until("2026-11-21 12:20:30")
    assert "full" in house.crons.get("job").failed
    assert len(house.ran()) == 1
    house.broker.queues.purge(full)
    house.until("2026-11-21 12:20:32")
    assert len(house.ran()) == 2
    house.until("2026-11-21 12:30:01")
    house.until("2026-11-21 12:33:00")  # late by more than a minute: given up
    house.broker.queues.purge(full)
    house.until("2026-11-21 12:39:00")
    assert len(house.ran()) == 2
    house.until("2026-11-21 12:40:01")
    assert len(house.ran()) == 3
    assert RETRY_MS == 1000


def test_a_clock_that_is_set(house: House) -> None:
    house.put("0 * * * *")
    house.clock.set(at("2026-11-22 06:59:00"), house.clock.monotonic_ms + 1)  # ahead: hours were missed
    house.until("2026-11-22 07:00:10")
    assert house.ran() == ["07:00:00"]
    house.clock.set(at("2026-11-22 05:30:00"), house.clock.monotonic_ms + 1)  # back: none is repeated
    house.until("2026-11-22 07:30:00")
    assert house.ran() == ["07:00:00"]
    house.until("2026-11-22 08:00:10")
    assert house.ran() == ["07:00:00", "08:00:00"]


def _times(expression: str, zone: str, after: str, count: int) -> list[str]:
    entry = Entry(name="x", cron=expression, topic="t", time_zone=zone)
    return [
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%m-%d %H:%M")
        for ms in islice(entry.runs(at(after)), count)
    ]


def test_when_clocks_change() -> None:
    spring = _times("30 2 * * *", "Europe/Berlin", "2026-03-27 12:00", 3)  # 02:30 does not exist on the 29th
    assert spring == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]
    autumn = _times("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", 2)  # 02:30 comes twice on the 25th
    assert autumn == ["10-25 00:30", "10-26 01:30"]
    assert _times("0 9 * * MON-FRI", "America/New_York", "2026-11-21 00:00", 1) == ["11-23 14:00"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cron": ""}, "cron"),
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "* * * * * * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "a b c d e"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "@daily"}, "cron"),
        ({"cron": "1," * 200 + "1 * * * *"}, "cron"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "/etc/passwd"}, "time_zone"),
        ({"time_zone": "a\0b"}, "time_zone"),
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"missed": "twice"}, "missed"),
        ({"qos": 3}, "qos"),
        ({"body": bytes(65_537)}, "body"),
    ],
)
def test_what_makes_no_sense(fields: dict[str, object], named: str) -> None:
    entry = Entry(**{"name": "x", "cron": "* * * * *", "topic": "t", **fields})  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match=named):
        entry.check()


def test_there_is_a_limit(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CRONS_MAX", 1)
    house.put("* * * * *")
    house.put("*/2 * * * *")  # the same
    with pytest.raises(Conflict):
        house.crons.put(Entry(name="other", cron="* * * * *", topic="t"))


def test_one_that_cannot_be_read_stops_nobody(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.put("* * * * *")
    house.engine.put("cron/broken", b"\xff")
    house.settle()
    house.engine.close()
    house = House(tmp_path, house.clock.wall_ms)
    assert list(house.crons.all) == ["job"]
    house.engine.close()
