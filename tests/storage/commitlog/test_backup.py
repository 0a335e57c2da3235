"""A backup is the log as it was when the backup began, whatever happens while it is read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway.core.errors import Conflict, StorageError
from gateway.core.message import Message
from gateway.storage import entries
from gateway.storage.commitlog import CommitLog, backup, checkpoints
from gateway.storage.commitlog.backup import LogBackup
from tests.process import wait_for
from tests.storage.commitlog.logs import NOW_MS, bodies, waiting

QUEUES = (2, 3, 4)
SEGMENT_BYTES = 3000
State = tuple[dict[int, list[bytes]], list[tuple[str, bytes]], dict[int, int]]


class Work:
    """Messages come and go, keys change, checkpoints are taken, segments freed and emptied."""

    def __init__(self, path: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.log = CommitLog(path, segment_bytes=SEGMENT_BYTES, kept_ms=10, kept_bytes_max=SEGMENT_BYTES)
        self.log.open(lambda: None)
        self.count = 0

    def turn(self) -> None:
        log, chance = self.log, self.chance
        for _ in range(chance.randrange(12)):
            ids = tuple(sorted(chance.sample(QUEUES, chance.randrange(1, 4))))
            log.append(Message("t", b"%06d" % self.count, 1), ids, NOW_MS)
            self.count += 1
        for queue_id in QUEUES:
            held = [entry.position for entry in waiting(log, queue_id)]
            done = [position for position in held if chance.random() < 0.4]
            log.settle(queue_id, done, 1, NOW_MS)
        log.put(f"k{chance.randrange(5)}", b"%d" % self.count)
        log.cursor(9, "g", self.count, NOW_MS)
        log.flush()
        log.completed()
        log.sweep(NOW_MS + 1_000_000_000_000)

    def state(self) -> State:
        return _state(self.log)


def _state(log: CommitLog) -> State:
    offsets = {queue_id: log.extent(queue_id).next for queue_id in QUEUES}
    return {queue_id: bodies(log, queue_id) for queue_id in QUEUES}, list(log.scan("")), offsets


def _copy(found: LogBackup, target: Path, work: Work) -> None:
    for number, (name, size) in enumerate(found.files):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        content = b""
        while len(content) < size:
            content += found.read(number, len(content), 700)
            if work.chance.random() < 0.3:
                work.turn()
        (target / name).write_bytes(content)
    found.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 2000)
    monkeypatch.setattr(checkpoints, "SIZE_FACTOR", 0)
    monkeypatch.setattr(entries, "BLOCK_ENTRIES", 16)
    monkeypatch.setattr(entries, "BLOCK_WORDS", 32)
    monkeypatch.setattr(entries, "TAIL_WORDS_MAX", 64)


@pytest.mark.parametrize("seed", range(30))
def test_it_is_the_log_as_of_its_beginning(tmp_path: Path, seed: int) -> None:
    work = Work(tmp_path / "data", seed)
    for _ in range(work.chance.randrange(120)):
        work.turn()
    expected = work.state()
    found = work.log.backup()
    _copy(found, tmp_path / "copy", work)
    for _ in range(20):
        work.turn()
    work.log.close()
    copy = CommitLog(tmp_path / "copy", segment_bytes=SEGMENT_BYTES)
    assert copy.open(lambda: None).remarks == []
    assert _state(copy) == expected
    copy.append(Message("t", b"goes on", 1), (2,), NOW_MS)
    copy.flush()
    copy.close()


def test_what_it_reads_stays_until_its_end_and_goes_then(tmp_path: Path) -> None:
    work = Work(tmp_path, 1)
    for _ in range(50):
        work.turn()
    found = work.log.backup()
    for _ in range(100):
        work.turn()
    assert all((tmp_path / name).exists() for name, _ in found.files if name.endswith(".seg"))
    found.close()
    segments = [name for name, _ in found.files if name.endswith(".seg")]

    def gone() -> bool:
        work.turn()
        return not (tmp_path / segments[0]).exists()

    wait_for(gone, what="checkpoints, and that the oldest segment goes")
    work.log.close()


def test_one_at_a_time(tmp_path: Path) -> None:
    work = Work(tmp_path, 1)
    work.turn()
    found = work.log.backup()
    with pytest.raises(Conflict, match="running already"):
        work.log.backup()
    found.close()
    found.close()
    work.log.backup().close()
    work.log.close()


def test_who_does_not_read_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(tmp_path, 1)
    work.turn()
    found = work.log.backup()
    monkeypatch.setattr(backup, "IDLE_SECONDS_MAX", -1.0)
    work.turn()
    with pytest.raises(StorageError, match="read from too slowly"):
        found.read(0, 0, 10)
    monkeypatch.undo()
    work.log.backup().close()
    work.log.close()


def test_the_end_of_the_gateway_is_the_end_of_the_backup(tmp_path: Path) -> None:
    work = Work(tmp_path, 1)
    work.turn()
    found = work.log.backup()
    work.log.close()
    with pytest.raises(StorageError):
        found.read(0, 0, 10)
