"""Transactions: all of it or nothing, wherever the power goes, and on a disk that refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.core.errors import NotStored
from gateway.core.message import Message, Outcome
from gateway.storage.commitlog import CommitLog
from tests.storage.commitlog.faulty_files import FaultyFiles
from tests.storage.commitlog.logs import NOW_MS, bodies

INPUT, ONE, OTHER = 2, 3, 4


def _opened(path: Path, files: FaultyFiles | None = None, segment_bytes: int = 4096) -> CommitLog:
    log = CommitLog(path, segment_bytes=segment_bytes, files=files)
    log.open(lambda: None)
    return log


def _begun(log: CommitLog) -> list[int]:
    """Put two messages into the input."""
    positions = [log.append(Message("in", body, 1), (INPUT,), NOW_MS) for body in (b"first", b"second")]
    log.flush()
    return positions


def _commit(log: CommitLog, position: int, at_once: bool = False) -> list[int]:
    messages = [(Message("a", b"for one", 1), (ONE,)), (Message("b", b"for both", 1), (ONE, OTHER))]
    return log.transact(messages, [(INPUT, [position])], NOW_MS, at_once)


def test_what_is_written_is_all_there(tmp_path: Path) -> None:
    log = _opened(tmp_path)
    first, _ = _begun(log)
    positions = _commit(log, first)
    assert bodies(log, INPUT) == [b"first", b"second"]  # until it is written
    log.flush()
    assert bodies(log, INPUT) == [b"second"]
    assert [log.read(position).body for position in positions] == [b"for one", b"for both"]
    log.close()
    log = _opened(tmp_path)
    assert (bodies(log, INPUT), bodies(log, ONE)) == ([b"second"], [b"for one", b"for both"])
    assert bodies(log, OTHER) == [b"for both"]
    log.close()


def test_cut_off_anywhere_it_is_there_or_not(tmp_path: Path) -> None:
    log = _opened(tmp_path / "log")
    first, _ = _begun(log)
    (segment,) = (tmp_path / "log" / "log").glob("*.seg")
    before = segment.stat().st_size
    _commit(log, first)
    log.flush()
    log.append(Message("in", b"after", 1), (INPUT,), NOW_MS)
    log.flush()
    content = segment.read_bytes()
    whole = 0
    for cut in range(before, len(content) + 1):
        copy = tmp_path / f"cut-{cut}"
        (copy / "log").mkdir(parents=True)
        (copy / "log" / segment.name).write_bytes(content[:cut])
        again = _opened(copy)
        state = (bodies(again, INPUT), bodies(again, ONE), bodies(again, OTHER))
        rest = [b"after"] if b"after" in state[0] else []
        if state[1]:
            whole += 1
            assert state == ([b"second", *rest], [b"for one", b"for both"], [b"for both"])
        else:
            assert state == ([b"first", b"second"], [], [])
        again.append(Message("in", b"goes on", 1), (INPUT,), NOW_MS)
        again.flush()
        again.close()
        shutil.rmtree(copy)
    assert 0 < whole < len(content) - before
    log.close()


def test_a_hole_in_it_takes_all_of_it_and_what_follows(tmp_path: Path) -> None:
    log = _opened(tmp_path / "log")
    first, _ = _begun(log)
    (segment,) = (tmp_path / "log" / "log").glob("*.seg")
    _commit(log, first)
    log.flush()
    content = bytearray(segment.read_bytes())
    at = content.rindex(b"for both")
    content[at : at + 4] = bytes(4)  # a page that never came to the disk
    copy = tmp_path / "copy" / "log"
    copy.mkdir(parents=True)
    (copy / segment.name).write_bytes(content)
    again = _opened(tmp_path / "copy")
    assert (bodies(again, INPUT), bodies(again, ONE)) == ([b"first", b"second"], [])
    again.close()
    log.close()


def test_a_disk_that_refuses_takes_nothing(tmp_path: Path) -> None:
    files = FaultyFiles()
    log = _opened(tmp_path, files)
    first, second = _begun(log)
    files.room = 60
    _commit(log, first)
    log.settle(INPUT, [second], Outcome.ACK, NOW_MS)  # no part of it: kept for the next turn
    with pytest.raises(NotStored):
        log.flush()
    files.room = None
    log.flush()
    assert (bodies(log, INPUT), bodies(log, ONE), bodies(log, OTHER)) == ([b"first"], [], [])
    _commit(log, first)
    log.flush()
    log.close()
    log = _opened(tmp_path)
    assert (bodies(log, INPUT), bodies(log, OTHER)) == ([], [b"for both"])
    log.close()


def test_at_once_is_written_when_it_returns(tmp_path: Path) -> None:
    log = _opened(tmp_path)
    first, second = _begun(log)
    log.append(Message("in", b"third", 1), (INPUT,), NOW_MS)
    _commit(log, first, at_once=True)
    (segment,) = (tmp_path / "log").glob("*.seg")
    assert b"for both" in segment.read_bytes()
    assert bodies(log, INPUT) == [b"second", b"third"]
    log.settle(INPUT, [second], Outcome.ACK, NOW_MS)
    log.flush()
    log.close()
    log = _opened(tmp_path)
    assert (bodies(log, INPUT), bodies(log, ONE)) == ([b"third"], [b"for one", b"for both"])
    log.close()


def test_at_once_refuses_at_once_and_the_turn_is_lost(tmp_path: Path) -> None:
    files = FaultyFiles()
    log = _opened(tmp_path, files)
    first, second = _begun(log)
    files.room = 60
    lost = log.append(Message("in", b"third", 1), (INPUT,), NOW_MS)
    with pytest.raises(NotStored):
        _commit(log, first, at_once=True)
    assert (bodies(log, ONE), bodies(log, OTHER)) == ([], [])  # nobody can be handed what is not there
    assert bodies(log, INPUT) == [b"first", b"second", b"third"]
    log.settle(INPUT, [second], Outcome.ACK, NOW_MS)
    with pytest.raises(NotStored):
        _commit(log, first, at_once=True)  # once lost, the turn stays lost
    told: list[bool] = []
    log.when_durable(lost, told.append)
    with pytest.raises(NotStored):
        log.flush()
    log.completed()
    assert (log.failed_from() <= lost, told) == (True, [False])
    files.room = None
    log.flush()
    assert (bodies(log, INPUT), bodies(log, ONE)) == ([b"first"], [])
    _commit(log, first, at_once=True)
    log.flush()
    log.close()
    log = _opened(tmp_path)
    assert (bodies(log, INPUT), bodies(log, ONE)) == ([], [b"for one", b"for both"])
    log.close()


def test_it_is_never_split_over_segments(tmp_path: Path) -> None:
    log = _opened(tmp_path, segment_bytes=600)
    for n in range(40):
        log.transact(
            [(Message("a", b"%d" % n * 40, 1), (ONE,)), (Message("b", b"x", 1), (OTHER,))], [], NOW_MS
        )
        log.flush()
    assert len(list((tmp_path / "log").glob("*.seg"))) > 5
    log.close()
    log = _opened(tmp_path, segment_bytes=600)
    assert (len(bodies(log, ONE)), len(bodies(log, OTHER))) == (40, 40)
    log.close()


def test_a_cursor_goes_with_it_and_an_outcome_is_told(tmp_path: Path) -> None:
    files = FaultyFiles()
    log = _opened(tmp_path, files)
    first, second = _begun(log)
    log.cursor(5, "group", 1, NOW_MS)
    log.flush()
    letter = [(Message("dead", b"letter", 1), (ONE,))]
    files.room = 60
    log.transact(letter, [(INPUT, (first,))], NOW_MS, outcome=19, cursors=[(5, "group", 2)])
    with pytest.raises(NotStored):
        log.flush()
    files.room = None
    assert bodies(log, INPUT) == [b"first", b"second"]
    log.transact(letter, [(INPUT, (second,))], NOW_MS, outcome=19, cursors=[(5, "group", 3)])
    log.flush()
    (event,) = log.history(second).events
    assert (event.kind, event.outcome) == ("settled", 19)
    shutil.copytree(tmp_path / "log", tmp_path / "killed" / "log")
    log.close()
    log = CommitLog(tmp_path / "killed", segment_bytes=4096)
    assert log.open(lambda: None).cursors == {(5, "group"): 3}
    assert (bodies(log, INPUT), bodies(log, ONE)) == ([b"first"], [b"letter"])
    log.close()


def test_a_cursor_that_could_not_be_written_is_where_it_was(tmp_path: Path) -> None:
    files = FaultyFiles()
    log = _opened(tmp_path, files)
    log.cursor(5, "group", 1, NOW_MS)
    log.flush()
    files.room = 60
    log.transact([(Message("dead", b"x" * 100, 1), (ONE,))], (), NOW_MS, cursors=[(5, "group", 2)])
    with pytest.raises(NotStored):
        log.flush()
    files.room = None
    log.close()
    log = CommitLog(tmp_path)
    assert log.open(lambda: None).cursors == {(5, "group"): 1}
    log.close()
