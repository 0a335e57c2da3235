"""Files of the index that two threads are at, or that a crash left half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.message import Message
from gateway.storage.commitlog import CommitLog, checkpoint
from gateway.storage.commitlog.files import Files, replace
from tests.storage.commitlog.logs import NOW_MS, bodies


class Interrupted(Files):
    """Another file is written, whole, while the first one is being."""

    def __init__(self, other: Path) -> None:
        self._other: Path | None = other

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        if (other := self._other) is not None:
            self._other = None
            replace(self, other, b"another", sync=False)
        return super().write(descriptor, data, offset)


def test_a_checkpoint_and_a_trail_at_one_position_are_two_files(tmp_path: Path) -> None:
    # The one is written by the thread that syncs, the other by who looks for a message.
    files = Interrupted(tmp_path / "00000000000000000007.trail")
    checkpoint.write(files, tmp_path, b"a checkpoint", 7)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"00000000000000000007.idx": b"a checkpoint", "00000000000000000007.trail": b"another"}


def test_what_a_crash_left_half_written_goes(tmp_path: Path) -> None:
    log = CommitLog(tmp_path)
    log.open(lambda: None)
    log.close()
    half = tmp_path / "index" / "00000000000000000007.idx.tmp"
    half.write_bytes(b"half a che")
    assert log.open(lambda: None).remarks == []
    assert not half.exists()
    log.close()


def test_a_backup_takes_the_next_checkpoint_if_the_newest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CommitLog(tmp_path / "data")
    log.open(lambda: None)
    log.append(Message("t", b"here", 1), (2,), NOW_MS)
    log.close()
    log.open(lambda: None)
    listed = checkpoint.paths
    answers = [[tmp_path / "gone.idx"]]
    monkeypatch.setattr(
        checkpoint, "paths", lambda directory: answers.pop() if answers else listed(directory)
    )
    backup = log.backup()
    (newest,) = (name for name, _ in backup.files if name.endswith(".idx"))
    assert newest == f"index/{listed(tmp_path / 'data' / 'index')[0].name}"
    backup.close()
    assert bodies(log) == [b"here"]
    log.close()
