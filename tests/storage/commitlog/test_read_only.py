"""A file system that cannot be written to: one clear line, nothing touched, everything can still be read."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.errors import StorageError
from gateway.core.message import Message
from gateway.storage.commitlog import CommitLog
from gateway.storage.commitlog.contents import Contents
from gateway.storage.commitlog.files import Files
from tests.cli.test_commands import run
from tests.storage.commitlog.logs import NOW_MS


class ReadOnlyDisk(Files):
    """Says what such a file system says."""

    def open(self, path: Path) -> int:
        raise self._refused(path)

    def lock(self, path: Path) -> int:
        raise self._refused(path)

    def _refused(self, path: Path) -> OSError:
        return OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A log with a few messages that wait."""
    log = CommitLog(tmp_path / "data")
    log.open(lambda: None)
    for n in range(5):
        log.append(Message("t", b"%d" % n, 1), (2,), NOW_MS)
    log.close()
    return tmp_path / "data"


@pytest.fixture
def mounted(data: Path, tmp_path: Path) -> Iterator[Path]:
    """The same, on a file system that is mounted read-only."""
    where = tmp_path / "mounted"
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", where], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("may not mount a file system here")
    try:
        shutil.copytree(data, where / "data")
        subprocess.run(["mount", "-o", "remount,ro", where], check=True)
        yield where / "data"
    finally:
        subprocess.run(["umount", where], check=True)


def test_it_is_refused_with_the_files_name(data: Path) -> None:
    with pytest.raises(StorageError) as refused:
        CommitLog(data, files=ReadOnlyDisk()).open(lambda: None)
    assert refused.value.detail == f"{data}/lock: cannot be used as data directory: Read-only file system"


def test_a_gateway_on_it_says_so_and_stops(mounted: Path) -> None:
    done = run("serve", "--dev", "--data", str(mounted), "--set", "listeners.mqtt=127.0.0.1:0")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Read-only file system" in done.stderr
    assert str(mounted) in done.stderr


def test_what_is_on_it_can_be_looked_at(mounted: Path, tmp_path: Path) -> None:
    assert run("log", "check", "--data", str(mounted)).returncode == 0
    assert run("log", "stats", "--data", str(mounted)).returncode == 0
    contents = Contents(mounted)
    assert [kept.message.body for kept in contents.messages()] == [b"%d" % n for n in range(5)]
    contents.close()
    assert run("log", "export", str(tmp_path / "export"), "--data", str(mounted)).returncode == 0
    repaired = run("log", "repair", "--data", str(mounted))
    assert (repaired.returncode, "Read-only file system" in repaired.stderr) == (2, True)
