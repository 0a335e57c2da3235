"""A turn that spans two segments and fails in the second: everybody is told, and told the truth."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import NotStored
from gateway.core.message import Message, Outcome
from gateway.core.policy import QueuePolicy
from gateway.storage.commitlog import CommitLog
from gateway.storage.commitlog.segment import SEGMENT_HEADER_BYTES, segment_paths
from tests.process import wait_for
from tests.storage.commitlog.faulty_files import FaultyFiles
from tests.storage.commitlog.logs import NOW_MS, bodies, waiting

SEGMENT_BYTES = 400


def _durable(log: CommitLog, said: list[bool]) -> bool:
    def told() -> bool:
        log.completed()
        return bool(said)

    wait_for(told, what="an answer")
    return said[0]


@pytest.mark.parametrize("room", [0, 100, 200, 300])
@pytest.mark.parametrize("size", range(0, 200, 10))
def test_who_waits_for_a_turn_is_told_what_became_of_all_of_it(tmp_path: Path, size: int, room: int) -> None:
    files = FaultyFiles()
    log = CommitLog(tmp_path, segment_bytes=SEGMENT_BYTES, files=files)
    log.open(lambda: None)
    first = log.append(Message("t", b"", 1), (2, 3, 4), NOW_MS)
    log.flush()
    log.append(Message("t", bytes(size), 1), (2,), NOW_MS)
    for queue_id in (2, 3, 4):
        log.settle(queue_id, [first], 1, NOW_MS)
    said: list[bool] = []
    log.when_durable(log.position(), said.append)
    files.room = room
    failed = False
    try:
        log.flush()
    except NotStored:
        failed = True
    assert _durable(log, said) is not failed
    files.room = None
    log.put("k", b"there is room again")
    log.flush()
    log.close()
    log = CommitLog(tmp_path, segment_bytes=SEGMENT_BYTES)
    log.open(lambda: None)
    assert all(first not in [entry.position for entry in waiting(log, queue)] for queue in (2, 3, 4)), (
        "what was settled stays settled: a failed turn's journal is written by the next"
    )
    log.close()


@pytest.mark.parametrize("truncate_fails", [False, True])
@pytest.mark.parametrize("room", [0, 1, 30, 60, 200])
@pytest.mark.parametrize("size", [0, 150, 380])
def test_who_waits_for_nothing_after_a_turn_that_failed_is_told_at_once(
    tmp_path: Path, size: int, room: int, truncate_fails: bool
) -> None:
    files = FaultyFiles()
    log = CommitLog(tmp_path, segment_bytes=SEGMENT_BYTES, files=files)
    log.open(lambda: None)
    log.append(Message("t", b"", 1), (2,), NOW_MS)
    log.flush()
    files.room, files.truncate_fails = room, truncate_fails
    log.append(Message("t", bytes(size), 1), (2,), NOW_MS)
    try:
        log.flush()
    except NotStored:
        pass  # it may have begun a segment that has nothing in it yet
    files.room, files.truncate_fails = None, False
    said: list[bool] = []
    log.when_durable(log.position(), said.append)
    log.flush()
    assert _durable(log, said)
    log.close()


class _Stubborn(FaultyFiles):
    """Writes, but says that it has not, and cuts nothing off; zeros over it only if `blanks`."""

    def __init__(self, blanks: bool) -> None:
        super().__init__()
        self.blanks = blanks
        self.lasting: set[Path] = set()  # what was on disk before its first record was written

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        zeros = not data.strip(b"\0")
        if not self.truncate_fails or not zeros or self.blanks:
            super().write(descriptor, data, offset)
        if self.truncate_fails and not (zeros and self.blanks):
            raise OSError(errno.EIO, "Input/output error")
        path = self._paths[descriptor]
        if offset == SEGMENT_HEADER_BYTES and self._synced[path]:
            self.lasting.add(path)
        return len(data)


@pytest.mark.parametrize("blanks", [True, False])
def test_what_was_refused_does_not_come_back_when_the_power_takes_the_next_segment(
    tmp_path: Path, blanks: bool
) -> None:
    files = _Stubborn(blanks)
    log = CommitLog(tmp_path / "before", files=files)
    log.open(lambda: None)
    log.append(Message("t", b"stored", 1), (2,), NOW_MS)
    log.flush()
    files.truncate_fails = True
    log.append(Message("t", b"refused", 1), (2,), NOW_MS)
    log.append(Message("t", b"refused, too", 1), (2,), NOW_MS)
    with pytest.raises(NotStored):
        log.flush()
    files.truncate_fails = False
    log.append(Message("t", b"next", 1), (2,), NOW_MS)
    log.flush()
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    log.close()
    following = segment_paths(tmp_path / "before" / "log")[-1]
    assert (following in files.lasting) is not blanks
    if blanks:
        (tmp_path / "after" / "log" / following.name).unlink()
    log = CommitLog(tmp_path / "after")
    log.open(lambda: None)
    assert bodies(log) == ([b"stored"] if blanks else [b"stored", b"next"])
    log.close()


class _Bench:
    """A broker with a queue, and a consumer that has got "refused" in a turn that failed."""

    def __init__(self, directory: Path, policy: QueuePolicy, pulls: bool = False) -> None:
        self.directory = directory
        files = FaultyFiles()
        self.log = CommitLog(directory, files=files)
        self.broker = Broker(self.log, Clock(NOW_MS))
        self.broker.restore(lambda: None)
        self.jobs, _ = self.broker.catalog.declare("jobs", policy=policy)
        self.turn()
        self.held: list[Delivery] = []
        consumer, group = Consumer("c", 9, self.held.extend), self.jobs.groups()[0]
        if not pulls:
            self.broker.queues.attach(group, consumer)
        refused = self.publish(b"refused")
        if pulls:
            self.held += filter(None, [group.fetch(consumer, NOW_MS)])
        self.broker.dispatch()
        files.room = 0
        with pytest.raises(NotStored):
            self.log.flush()
        files.room = None
        self.broker.rollback(self.log.failed_from())
        assert self.publish(b"stored") == refused, "else this shows nothing"
        self.turn()

    def publish(self, body: bytes) -> int:
        return self.broker.publish(Message("$queue/jobs", body, 1))

    def turn(self) -> None:
        self.broker.dispatch()
        self.log.flush()
        self.broker.flushed()

    def left(self) -> list[bytes]:
        """Return what is in the queue after a restart."""
        self.turn()
        metrics = self.broker.metrics
        assert metrics.copies == metrics.delivered + sum(metrics.dropped) + self.broker.waiting()
        self.log.close()
        log = CommitLog(self.directory)
        log.open(lambda: None)
        found = bodies(log, self.jobs.queue_id)
        log.close()
        return found


@pytest.mark.parametrize("policy", [QueuePolicy(), QueuePolicy(max_priority=4)])
@pytest.mark.parametrize("how", ["one", "together", "later", "rejected"])
def test_what_a_failed_turn_handed_out_settles_nothing_that_is_stored_in_its_place(
    tmp_path: Path, how: str, policy: QueuePolicy
) -> None:
    bench = _Bench(tmp_path, policy)
    settlement = bench.broker.settlement
    delivery = next(each for each in bench.held if each.message.body == b"refused")
    if how == "together":
        settlement.acknowledge([delivery])
    elif how == "rejected":
        settlement.settle(delivery, Outcome.REJECT)
    else:
        if how == "later":
            settlement.settle(delivery, Outcome.REQUEUE, 0)
            bench.turn()
            delivery = bench.held[-1]
        assert settlement.settle(delivery, Outcome.ACK)
    assert delivery.message.body == b"refused"
    assert bench.left() == [b"stored"]


def test_a_queue_that_is_put_away_knows_what_a_failed_turn_left_in_hands(tmp_path: Path) -> None:
    bench = _Bench(tmp_path, QueuePolicy(), pulls=True)
    assert isinstance(bench.jobs, ClassicQueue)
    bench.jobs.unload()
    assert [each.message.body for each in bench.jobs.held()] == [b"refused"]
    assert bench.broker.settlement.settle(bench.held.pop(), Outcome.ACK)
    assert bench.left() == [b"stored"]
