"""The audit log: what is written where, how much of it, and what happens when it cannot be."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import audit as module
from gateway.audit import BURST, REFILL_MS, STREAM, Audit
from gateway.core.access import Action, Credentials, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.message import Origin
from gateway.storage.memory import MemoryEngine

ANN, HERE = Principal("ann"), Origin("mqtt", "ann", "c1", "192.0.2.1:9")
NO = Ruling(False, "no")


class Log:
    """An audit log whose clock is driven."""

    def __init__(self, directory: Path | None) -> None:
        self.clock = Clock(1_700_000_000_123, 0)
        self.broker = Broker(MemoryEngine(), self.clock)
        self.broker.restore(lambda: None)
        self.faults: list[str] = []
        self.audit = Audit(self.broker, directory, self.faults.append)
        self.directory = directory
        self._read = 0
        self.audit.open()

    def refuse(self, resource: str = "t", times: int = 1, who: Origin = HERE) -> None:
        for _ in range(times):
            self.audit.refused(ANN, who, Action.PUBLISH, resource, NO)

    def login(self, user: str | None = "ann", peer: str = "192.0.2.1:9", times: int = 1) -> None:
        for number in range(times):
            credentials = Credentials("mqtt", f"{peer}{number}", "c1", user, b"marked", token="marked")
            self.audit.login_refused(credentials, "wrong")

    def change(self, what: str = "queue.delete") -> None:
        self.audit.changed(ANN, HERE, what, "$queue/q", "3 messages")

    def passes(self, ms: int) -> None:
        now_ms = self.clock.monotonic_ms + ms
        self.clock.set(1_700_000_000_123 + now_ms, now_ms)

    def lines(self) -> list[dict[str, Any]]:
        """Return what is new in the file."""
        assert self.directory is not None
        found = (self.directory / "audit.log").read_text().split("\n")[:-1]
        fresh = [json.loads(line) for line in found[self._read :]]
        self._read = len(found)
        return fresh


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "data")
    yield made
    made.audit.close()


def test_an_entry_is_one_line_of_json_and_a_message_of_the_stream(log: Log) -> None:
    log.change()
    log.refuse("a/b")
    log.login()
    who = {"user": "ann", "door": "mqtt", "peer": "192.0.2.1:9", "client_id": "c1"}
    when = {"time": "2023-11-14T22:13:20.123Z"}
    expected = [
        {**when, "event": "queue.delete", **who, "resource": "$queue/q", "detail": "3 messages"},
        {
            **when,
            "event": "refused",
            **who,
            "action": "publish",
            "resource": "a/b",
            "rule": "no",
            "detail": "publish 'a/b'",
        },
        {**when, "event": "login.refused", **who, "peer": "192.0.2.1:90", "detail": "wrong"},
    ]
    assert log.lines() == expected
    assert log.broker.catalog.get(STREAM).kind == "stream"
    assert log.broker.catalog.get(STREAM).length() == 3
    assert log.audit.entries == 3


def test_a_line_break_in_a_name_makes_no_second_entry(log: Log) -> None:
    log.audit.changed(ANN, HERE, "user.create", 'x\n{"event":"forged"}', "\u2028\r\n")
    assert len(log.lines()) == 1


def test_nobody_else_may_read_the_file(log: Log, tmp_path: Path) -> None:
    log.change()
    assert stat.S_IMODE((tmp_path / "data" / "audit.log").stat().st_mode) == 0o600


def test_the_file_goes_on_after_a_restart_and_the_stream_is_there_once(tmp_path: Path) -> None:
    for _ in range(2):
        log = Log(tmp_path)
        log.change()
        log.audit.close()
    assert len(log.lines()) == 2
    log.audit.open()
    log.change()
    log.audit.close()
    assert len(log.lines()) == 1


def test_without_a_directory_there_is_the_stream_alone(tmp_path: Path) -> None:
    log = Log(None)
    log.change()
    assert log.broker.catalog.get(STREAM).length() == 1
    log.audit.close()
    assert os.listdir(tmp_path) == []


# -- how much --------------------------------------------------------------------------------------


def test_of_refusals_a_burst_is_written_and_then_a_summary(log: Log) -> None:
    log.refuse("first", BURST)
    log.refuse("more", 30)
    log.refuse("last")
    assert len(log.lines()) == BURST
    log.passes(REFILL_MS)
    log.refuse("next")
    summary, following = log.lines()
    assert (summary["resource"], summary["repeated"]) == ("last", 31)
    assert following["resource"] == "next"
    assert "repeated" not in following
    log.refuse("again")
    assert log.lines() == []
    log.audit.close()
    assert [(entry["resource"], entry["repeated"]) for entry in log.lines()] == [("again", 1)]
    assert log.audit.suppressed == 32


def test_each_client_and_kind_of_refusal_has_its_own_limit(log: Log) -> None:
    others = [
        Origin("amqp", "ann", "c1", HERE.peer),
        Origin("mqtt", "ann", "c2", HERE.peer),
    ]
    for who in (HERE, *others):
        log.refuse(times=BURST + 5, who=who)
    log.audit.refused(ANN, HERE, Action.SUBSCRIBE, "t", NO)
    assert len(log.lines()) == 3 * BURST + 1


def test_logins_are_limited_by_address_whatever_the_user_and_the_port(log: Log) -> None:
    log.login("ann", times=BURST)
    log.login("bob", times=5)
    assert len(log.lines()) == BURST
    log.login("bob", "192.0.2.2:1")
    assert len(log.lines()) == 1


def test_changes_are_all_written(log: Log) -> None:
    for _ in range(BURST * 5):
        log.change()
    assert len(log.lines()) == BURST * 5


def test_clients_that_are_counted_are_bounded_and_the_oldest_are_summed_up(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRACKED_MAX", 3)
    log.refuse(times=BURST + 7)
    log.lines()
    for number in range(5):
        log.refuse(who=Origin("mqtt", "ann", f"other{number}", HERE.peer))
    assert [entry["repeated"] for entry in log.lines() if "repeated" in entry] == [7]
    assert len(log.audit._refusals) == 3


# -- trouble ---------------------------------------------------------------------------------------


def test_a_file_that_has_grown_is_put_aside(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 1000)
    assert log.directory is not None
    for number in range(40):
        log.change(f"change.{number}")
    old, new = log.directory / "audit.log.1", log.directory / "audit.log"
    for path in (old, new):
        assert path.stat().st_size <= 1000
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    events = [json.loads(line)["event"] for path in (old, new) for line in path.read_text().splitlines()]
    assert events == [f"change.{number}" for number in range(40 - len(events), 40)]
    assert sorted(os.listdir(log.directory)) == ["audit.log", "audit.log.1"]


def test_a_full_disk_is_told_once_and_the_stream_goes_on(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    for _ in range(3):
        log.change()
    assert len(log.faults) == 1
    assert "No space left on device" in log.faults[0]
    assert log.broker.catalog.get(STREAM).length() == 3
    monkeypatch.setattr(module.os, "write", write)
    log.change()
    assert len(log.lines()) == 1
    monkeypatch.setattr(module.os, "write", full)
    log.change()
    assert len(log.faults) == 2


def test_nothing_that_is_secret_is_written(log: Log) -> None:
    log.login()
    assert log.directory is not None
    assert "marked" not in (log.directory / "audit.log").read_text()
