"""What random crashes found wrong, each by itself: turns and syncs that failed, and what they took along."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import NotStored
from gateway.core.message import Message, Outcome
from gateway.core.policy import QueuePolicy
from gateway.storage import entries
from gateway.storage.commitlog import CommitLog, blocks, checkpoints
from gateway.storage.commitlog.record import HEADER
from tests.process import wait_for
from tests.storage.commitlog.faulty_files import FaultyFiles, SlowDisk
from tests.storage.commitlog.logs import NOW_MS, bodies, waiting

SEGMENT_BYTES = 2000
LATER_MS = 4_000_000_000_000


def _opened(path: Path, files: FaultyFiles) -> CommitLog:
    log = CommitLog(path, segment_bytes=SEGMENT_BYTES, files=files, kept_ms=0)
    log.open(lambda: None)
    return log


def _settled(log: CommitLog) -> bool:
    """Tell whether all that was written is on disk, or will never be."""
    log.completed()
    log.flush()
    return log.stored(log._written - 1) is not None


def _fail(log: CommitLog, files: FaultyFiles) -> None:
    files.room = 0
    with pytest.raises(NotStored):
        log.flush()
    files.room = None


def test_messages_whose_move_could_not_be_written_are_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 500)
    monkeypatch.setattr(checkpoints, "SIZE_FACTOR", 0)
    files = FaultyFiles()
    log = _opened(tmp_path, files)
    kept = log.append(Message("t", b"kept", 1), (2,), NOW_MS)
    while len(log._segments) < 6:
        position = log.append(Message("t", bytes(100), 1), (3,), NOW_MS)
        log.settle(3, [position], 1, NOW_MS)
        log.flush()
    while not log._segments.moved:
        log.sweep(LATER_MS)
    _fail(log, files)
    assert not log._segments.moved
    first = tmp_path / "log" / f"{1:020}.seg"
    for n in range(40):
        log.put("k", bytes(100) + b"%d" % n)
        log.flush()
        wait_for(lambda: _settled(log), what="the sync")
        if not n:
            assert first.exists()
        log.sweep(LATER_MS)
    assert bodies(log) == [b"kept"]
    assert not first.exists(), "moved after all"
    log.close()
    log = _opened(tmp_path, files)
    assert [entry.position for entry in waiting(log)] == [kept]
    assert bodies(log) == [b"kept"]
    log.close()


def test_a_turn_that_fails_in_the_middle_is_whole_until_its_end(tmp_path: Path) -> None:
    files = FaultyFiles()
    log = _opened(tmp_path, files)
    files.room = 0
    for n in range(60):  # three segments
        log.append(Message("t", bytes(100) + b"%d" % n, 1), (2,), NOW_MS)
        assert log.extent(2).messages == len(bodies(log)) == n + 1
    _fail(log, files)
    assert log.extent(2).messages == len(bodies(log)) == 0
    log.close()


def test_after_a_failed_sync_nothing_counts_as_stored_until_a_checkpoint_is_written(tmp_path: Path) -> None:
    files = SlowDisk()
    log = CommitLog(tmp_path / "a", files=files)  # which keeps its segments for an hour
    log.open(lambda: None)
    log.put("lost with its segment", b"value")
    log.put("key", b"value")
    files.syncs_failing = 1
    told: list[tuple[str, bool]] = []
    log.when_durable(log.position(), lambda stored: told.append(("key", stored)))
    log.flush()
    wait_for(lambda: _settled(log) and told, what="the bad news")
    assert told == [("key", False)]
    position = log.append(Message("t", b"after", 1), (2,), NOW_MS)
    log.when_durable(position, lambda stored: told.append(("after", stored)))
    wait_for(lambda: _settled(log) and len(told) == 2, what="the checkpoint")
    assert told[1] == ("after", True)
    # The segment's pages are lost, as the kernel may drop what it could not write.
    shutil.copytree(tmp_path / "a", tmp_path / "b", ignore=shutil.ignore_patterns("lock"))
    log.close()
    first = min((tmp_path / "b" / "log").iterdir())
    first.write_bytes(first.read_bytes()[:32] + bytes(len(first.read_bytes()) - 32))
    log = _opened(tmp_path / "b", FaultyFiles())
    assert dict(log.scan("")) == {"lost with its segment": b"value", "key": b"value"}
    assert bodies(log) == [b"after"]
    log.close()


def _sync_fails(log: CommitLog, files: FaultyFiles) -> int:
    """A sync fails; that is found out when a turn already has a message, whose position is returned."""
    files.syncs_failing = 1
    log.put("key", b"value")
    log.flush()
    wait_for(lambda: log._syncer.failures, what="the failure")
    position = log.append(Message("t", b"not stored", 1), (3,), NOW_MS)
    log.completed()
    return position


def _free_what_is_settled(log: CommitLog) -> None:
    begun = log._written

    def done() -> bool:
        log.put("key", bytes(500))
        log.flush()
        log.completed()
        log.sweep(LATER_MS)
        return log._checkpoints.oldest > begun + 3 * SEGMENT_BYTES

    wait_for(done, what="checkpoints")


def test_a_failed_turn_that_leaves_its_segment_takes_nothing_from_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entries were counted in the old segment, and when they were forgotten missing in the new one."""
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 500)
    monkeypatch.setattr(checkpoints, "SIZE_FACTOR", 0)
    files = FaultyFiles()
    log = _opened(tmp_path, files)
    _sync_fails(log, files)
    files.room = 0
    while log._error is None:  # until a segment is full, and what there is of the turn cannot be written
        log.append(Message("t", bytes(100), 1), (3,), NOW_MS)
    _fail(log, files)
    kept = log.append(Message("t", b"kept", 1), (2,), NOW_MS)
    log.flush()
    wait_for(lambda: _settled(log), what="the checkpoint")
    assert log.stored(kept)
    _free_what_is_settled(log)
    log.close()
    log = _opened(tmp_path, files)
    assert bodies(log) == [b"kept"]
    log.close()


def test_what_a_failed_turn_stored_and_settled_leaves_its_segment_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 500)
    monkeypatch.setattr(checkpoints, "SIZE_FACTOR", 0)
    files = FaultyFiles()
    log = _opened(tmp_path, files)
    kept = log.append(Message("t", b"kept", 1), (2,), NOW_MS)
    log.flush()
    wait_for(lambda: _settled(log), what="the sync")
    assert log.stored(kept)
    log.settle(3, [_sync_fails(log, files)], 1, NOW_MS)
    with pytest.raises(NotStored):
        log.flush()
    _free_what_is_settled(log)
    log.close()
    log = _opened(tmp_path, files)
    assert bodies(log) == [b"kept"]
    log.close()


def test_without_its_dead_letter_a_message_is_not_given_up(tmp_path: Path) -> None:
    files = FaultyFiles()
    log = CommitLog(tmp_path, files=files)
    broker = Broker(log, Clock(NOW_MS))
    broker.restore(lambda: None)
    jobs, _ = broker.catalog.declare("jobs", policy=QueuePolicy(dead_letter="$queue/dead"))
    dead, _ = broker.catalog.declare("dead")
    broker.publish(Message("$queue/jobs", b"x", 1))
    held: list[Delivery] = []
    broker.queues.attach(jobs.groups()[0], Consumer("c", 1, held.extend))
    broker.dispatch()
    log.flush()
    broker.flushed()
    broker.settlement.settle(held.pop(), Outcome.REJECT)
    assert (jobs.length(), dead.length()) == (0, 1)
    _fail(log, files)
    broker.rollback(log.failed_from())
    assert (jobs.length(), dead.length()) == (1, 0)
    broker.dispatch()
    log.flush()
    broker.settlement.settle(held.pop(), Outcome.REJECT)
    log.flush()
    wait_for(lambda: _settled(log), what="the sync")
    broker.flushed()
    log.close()
    log = CommitLog(tmp_path, files=files)
    log.open(lambda: None)
    assert (bodies(log, jobs.queue_id), bodies(log, dead.queue_id)) == ([], [b"x"])
    metrics = broker.metrics
    assert metrics.copies == metrics.delivered + sum(metrics.dropped) + broker.waiting()
    log.close()


def test_an_index_that_has_lost_entries_knows_how_many_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BLOCK_ENTRIES": 4, "BLOCK_WORDS": 8, "TAIL_WORDS_MAX": 16}.items():
        monkeypatch.setattr(entries, name, value)
    monkeypatch.setattr(blocks, "LOADED_MAX", 1)
    broker = Broker(CommitLog(tmp_path, segment_bytes=500), Clock(NOW_MS))
    broker.restore(lambda: None)
    queue, _ = broker.catalog.declare("q")
    for n in range(100):
        broker.publish(Message("$queue/q", b"%d" % n, 1))
        broker.engine.flush()
    broker.engine.close()
    for path in (tmp_path / "index").glob("*.blk"):
        path.unlink()
    segments = sorted((tmp_path / "log").iterdir())
    lost = segments[len(segments) // 3]
    lost.write_bytes(lost.read_bytes()[:40] + bytes(lost.stat().st_size - 40))  # a page of zeros
    broker = Broker(CommitLog(tmp_path, segment_bytes=500), Clock(NOW_MS))
    broker.restore(lambda: None)
    found = broker.catalog.get("q")
    got: list[bytes] = []

    def take(batch: list[Delivery]) -> None:
        got.extend(delivery.message.body for delivery in batch)

    broker.queues.attach(found.groups()[0], Consumer("c", 1000, take))
    for _ in range(20):
        broker.dispatch()
        broker.engine.flush()
    assert len(got) < 100
    assert got == sorted(got, key=int)
    assert (found.length(), len(got) + sum(broker.metrics.dropped)) == (0, broker.metrics.copies)
    assert queue.queue_id == found.queue_id
    broker.engine.close()


def test_a_header_without_a_length_is_no_record(tmp_path: Path) -> None:
    """Its first page is there, the next one, with length and checksum, is not: crc32 of nothing is 0, too."""
    log = _opened(tmp_path, FaultyFiles())
    position = log.append(Message("t", b"x", 1), (2,), NOW_MS)
    log.flush()
    mark, path = log._batch.mark, log._segments.last.path
    with path.open("r+b") as file:
        file.seek(position - log._segments.last.base)
        file.write(HEADER.pack(mark, 0, 0))
    log._reader.forget()
    (entry,) = waiting(log)
    assert entry.message is None
    log.close()


def test_the_same_power_loss_twice_leaves_the_same(tmp_path: Path) -> None:
    """What recovery found counts as stored: it is synced before anything else happens."""
    files = FaultyFiles()
    log = _opened(tmp_path / "a", files)
    for n in range(50):
        log.append(Message("t", bytes(60) + b"%d" % n, 1), (2,), NOW_MS)
        log.flush()
    files.power_loss(tmp_path / "a", tmp_path / "b", random.Random(3))
    log.close()
    files = FaultyFiles()
    log = _opened(tmp_path / "b", files)
    found = bodies(log)
    files.power_loss(tmp_path / "b", tmp_path / "c", random.Random(4))
    log.close()
    log = _opened(tmp_path / "c", FaultyFiles())
    assert bodies(log) == found
    log.close()
