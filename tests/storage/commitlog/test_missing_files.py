"""Files that are gone: what is still on disk is found, and what is not is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.core.engine import Recovery
from gateway.core.message import Message
from gateway.storage.commitlog import CommitLog, examine
from gateway.storage.commitlog.record import MESSAGE, decode_message
from tests.storage.commitlog.logs import NOW_MS, bodies, waiting

MESSAGES = 30


def _opened(path: Path) -> tuple[CommitLog, Recovery]:
    log = CommitLog(path, segment_bytes=500)
    return log, log.open(lambda: None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A log of several segments, with a checkpoint."""
    log, _ = _opened(tmp_path)
    for n in range(MESSAGES):
        log.append(Message("t", b"%d" % n, 1), (2,), NOW_MS + n)
    log.put("key", b"value")
    log.close()
    assert len(list((tmp_path / "log").glob("*.seg"))) > 3
    return tmp_path


def test_without_its_index_the_log_is_read_from_its_beginning(data: Path) -> None:
    shutil.rmtree(data / "index")
    log, recovery = _opened(data)
    assert recovery.remarks == []
    assert bodies(log) == [b"%d" % n for n in range(MESSAGES)]
    assert [entry.stored_at_ms for entry in waiting(log)] == [NOW_MS + n for n in range(MESSAGES)]
    assert log.get("key") == b"value"
    log.close()


@pytest.mark.parametrize("index", [True, False], ids=["with index", "without"])
@pytest.mark.parametrize("which", [0, 1, -1], ids=["first", "second", "last"])
def test_without_a_segment_everything_else_is_there(data: Path, index: bool, which: int) -> None:
    gone = sorted((data / "log").glob("*.seg"))[which]
    lost = [b"%d" % n for n in range(MESSAGES) if _holds(gone, b"%d" % n)]
    assert lost
    gone.unlink()
    if not index:
        shutil.rmtree(data / "index")
    log, recovery = _opened(data)
    assert bodies(log) == [b"%d" % n for n in range(MESSAGES) if b"%d" % n not in lost]
    if index:
        assert any(f"{len(lost)} waiting messages are lost" in remark for remark in recovery.remarks)
        assert log.get("key") == b"value"
    # It goes on, and a position is never used twice.
    new = log.append(Message("t", b"new", 1), (2,), NOW_MS)
    log.flush()
    assert log.read(new).body == b"new"
    log.close()
    log, recovery = _opened(data)
    assert bodies(log)[-1] == b"new"
    log.close()


def _holds(segment: Path, body: bytes) -> bool:
    """Tell whether a segment has that message."""
    return any(
        isinstance(found, examine.Entry)
        and found.path == segment
        and found.payload[0] == MESSAGE
        and decode_message(found.payload).body == body
        for found in examine.walk(segment.parent.parent)
    )
