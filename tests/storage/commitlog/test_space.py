"""Space: what is settled goes after its time, and a few messages that wait do not keep the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.message import Message, Properties
from gateway.storage import entries
from gateway.storage.commitlog import CommitLog, blocks, checkpoints
from gateway.storage.commitlog.contents import Contents
from tests.process import wait_for
from tests.storage.commitlog.logs import NOW_MS, ORIGIN, bodies, waiting

SEGMENT_BYTES = 4000
HOUR_MS = 3_600_000
LATER_MS = 4_000_000_000_000  # than any file was written


@pytest.fixture(autouse=True)
def many_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 2000)
    monkeypatch.setattr(checkpoints, "SIZE_FACTOR", 0)


def _opened(path: Path, kept_ms: int = HOUR_MS, kept_bytes_max: int = 1 << 30) -> CommitLog:
    log = CommitLog(path, segment_bytes=SEGMENT_BYTES, kept_ms=kept_ms, kept_bytes_max=kept_bytes_max)
    log.open(lambda: None)
    return log


def _work(log: CommitLog, count: int, keep: int = 0, now_ms: int = NOW_MS) -> list[int]:
    """Store and settle, all but one in `keep`; return the positions of the rest."""
    kept = []
    for n in range(count):
        made = Message("t", b"%06d" % n, 1, properties=Properties(message_id=f"m{n}"), origin=ORIGIN)
        position = log.append(made, (2,), now_ms)
        if keep and n % keep == 0:
            kept.append(position)
        else:
            log.settle(2, [position], 1, now_ms)
        log.flush()
    return kept


def _segments(path: Path) -> int:
    return len(list((path / "log").glob("*.seg")))


def _sweep_until(log: CommitLog, path: Path, most: int, now_ms: int) -> None:
    def done() -> bool:
        log.put("k", b"v" * 500)  # so that checkpoints are due
        log.flush()
        log.completed()
        log.sweep(now_ms)
        return _segments(path) <= most

    wait_for(done, what=f"at most {most} segments")


def test_what_is_settled_is_kept_for_its_time(tmp_path: Path) -> None:
    log = _opened(tmp_path)
    _work(log, 300)
    before = _segments(tmp_path)
    assert before > 8
    for _ in range(5):
        log.sweep(NOW_MS + HOUR_MS - 1)
    assert _segments(tmp_path) == before
    assert log.find("m0", 1), "it can still be asked about"
    _sweep_until(log, tmp_path, 3, NOW_MS + HOUR_MS)
    assert log.find("m0", 1) == []
    assert len(list((tmp_path / "index").glob("*.trail"))) <= 3
    log.close()


def test_what_is_settled_takes_so_much_room_at_most(tmp_path: Path) -> None:
    log = _opened(tmp_path, kept_bytes_max=3 * SEGMENT_BYTES)
    _work(log, 300)
    _sweep_until(log, tmp_path, 6, NOW_MS)
    assert _segments(tmp_path) >= 3
    log.close()


def test_few_messages_that_wait_do_not_keep_segments(tmp_path: Path) -> None:
    log = _opened(tmp_path, kept_ms=1000)
    kept = _work(log, 1000, keep=100)
    wanted = bodies(log)
    assert len(wanted) == 10
    before = _segments(tmp_path)
    _sweep_until(log, tmp_path, before // 4, NOW_MS + 1001)
    assert [entry.position for entry in waiting(log)] == kept, "they keep their positions"
    assert bodies(log) == wanted
    assert log.find("m100", 2) == [kept[1]]
    assert log.history(kept[1]).message.body == b"%06d" % 100
    log.close()
    log = _opened(tmp_path, kept_ms=1000)
    assert bodies(log) == wanted
    # Moved a second time, with what came meanwhile, and settled in the end.
    _work(log, 1000, keep=0)
    _sweep_until(log, tmp_path, 5, LATER_MS)
    assert bodies(log) == wanted
    log.settle(2, kept, 1, NOW_MS)
    log.flush()
    assert waiting(log) == []
    _sweep_until(log, tmp_path, 4, LATER_MS)
    log.close()
    log = _opened(tmp_path)
    assert waiting(log) == []
    assert not log._segments.moved or len(log._segments.moved) <= 10
    log.close()


def test_moved_messages_are_exported_in_their_places(tmp_path: Path) -> None:
    log = _opened(tmp_path, kept_ms=1000)
    kept = _work(log, 1000, keep=100)
    _sweep_until(log, tmp_path, _segments(tmp_path) // 4, NOW_MS + 1001)
    kept += _work(log, 20, keep=1)
    assert log._segments.moved
    expected = [entry.message.body for entry in waiting(log) if entry.message is not None]
    log.close()
    contents = Contents(tmp_path)
    found = list(contents.messages())
    assert [each.position for each in found] == kept
    assert [each.message.body for each in found] == expected
    assert [each.position for each in contents.messages(kept[3])] == kept[4:]
    contents.close()


def test_blocks_that_cannot_be_read_are_found_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "BLOCK_ENTRIES", 16)
    monkeypatch.setattr(entries, "BLOCK_WORDS", 32)
    monkeypatch.setattr(entries, "TAIL_WORDS_MAX", 64)
    monkeypatch.setattr(blocks, "LOADED_MAX", 2)
    log = _opened(tmp_path)
    positions = [log.append(Message("t", b"%d" % n, 1, origin=ORIGIN), (2, 3), NOW_MS) for n in range(500)]
    log.settle(2, positions[50:60], 1, NOW_MS)
    log.flush()
    log.close()
    files = list((tmp_path / "index").glob("*.blk"))
    assert files
    for path in files[:1]:
        content = bytearray(path.read_bytes())
        for at in range(100, len(content), 300):
            content[at] ^= 1
        path.write_bytes(bytes(content))
    log = _opened(tmp_path)
    assert bodies(log, 3) == [b"%d" % n for n in range(500)]
    assert bodies(log, 2) == [b"%d" % n for n in range(500) if not 50 <= n < 60]
    log.close()
    for path in files:
        path.unlink()
    log = _opened(tmp_path, kept_ms=0)
    assert bodies(log, 2) == [b"%d" % n for n in range(500) if not 50 <= n < 60]
    # When all is settled, the files go, too.
    for queue in (2, 3):
        log.settle(queue, positions, 1, NOW_MS)

    def files_left() -> int:
        _sweep_until(log, tmp_path, 4, LATER_MS)
        return len(list((tmp_path / "index").glob("*.blk")))

    wait_for(lambda: files_left() <= 1, what="no file of blocks but the current one")
    log.close()


def test_a_segment_left_before_anything_told_the_time_is_kept_for_its_time(tmp_path: Path) -> None:
    log = _opened(tmp_path)
    _work(log, 300)
    log.close()
    log = _opened(tmp_path)
    for _ in range(30):
        log.put("k", b"v" * 500)
        log.flush()
    before = _segments(tmp_path)
    log._space.free(log._end, NOW_MS)  # as if a checkpoint had all of it
    assert _segments(tmp_path) == before
    _sweep_until(log, tmp_path, before - 1, NOW_MS + HOUR_MS)
    log.close()
