"""A turn that spans two segments and fails in the second: everybody is told, and told the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.errors import NotStored
from gateway.core.message import Message
from gateway.storage.commitlog import CommitLog
from tests.process import wait_for
from tests.storage.commitlog.faulty_files import FaultyFiles
from tests.storage.commitlog.logs import NOW_MS, waiting

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
