"""A disk that can be full, lie about syncs, and lose what was not synced when the power goes."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from pathlib import Path

from gateway.storage.commitlog.files import Files

PAGE_BYTES = 64  # of the pretended disk: small, so that tiny segments have many


class FaultyFiles(Files):
    """Real files that remember how much of each was synced."""

    def __init__(self) -> None:
        self.room: int | None = None  # bytes that may still be written, if the disk is about to be full
        self.truncate_fails = False
        self.syncs_failing = 0
        self.syncs = 0
        self._paths: dict[int, Path] = {}
        self._synced: dict[Path, int] = {}
        self._guard = threading.Lock()

    def open(self, path: Path) -> int:
        descriptor = super().open(path)
        with self._guard:
            self._paths[descriptor] = path
            self._synced.setdefault(path, os.fstat(descriptor).st_size)
        return descriptor

    def lock(self, path: Path) -> int:
        descriptor = super().lock(path)
        with self._guard:
            self._paths[descriptor] = path
        return descriptor

    def close(self, descriptor: int) -> None:
        with self._guard:
            del self._paths[descriptor]  # first: another thread may be given the number at once
        super().close(descriptor)

    def close_all(self) -> None:
        """Close what a dead process would not have to."""
        for descriptor in list(self._paths):
            self.close(descriptor)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.room is None:
            return super().write(descriptor, data, offset)
        count, self.room = min(self.room, len(data)), max(0, self.room - len(data))
        if count == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, data[:count], offset)

    def truncate(self, descriptor: int, size: int) -> None:
        if self.truncate_fails and self._paths[descriptor].suffix == ".seg":
            raise OSError(errno.EIO, "Input/output error")
        super().truncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if self.syncs_failing:
            self.syncs_failing -= 1
            raise OSError(errno.EIO, "Input/output error")
        super().sync(descriptor)
        self.syncs += 1
        with self._guard:
            path = self._paths[descriptor]
            self._synced[path] = max(size, self._synced[path])

    def power_loss(self, source: Path, target: Path, chance: random.Random) -> None:
        """Leave in `target` what `source` may look like after a power loss now.

        The index goes first: a checkpoint that is written meanwhile may not be newer than the
        log beside it, as the log is always synced before.
        """
        for directory in ("index", "log"):
            (target / directory).mkdir(parents=True)
            with self._guard:
                synced = dict(self._synced)
            for path in sorted((source / directory).iterdir()):
                try:
                    shutil.copyfile(path, target / directory / path.name)
                except FileNotFoundError:
                    continue  # a checkpoint that was replaced while we looked
                if directory == "log" or path.suffix == ".blk":
                    lose_pages(target / directory / path.name, synced.get(path, 0), chance)


class SlowDisk(FaultyFiles):
    """Syncs wait while `may_sync` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.may_sync = threading.Event()
        self.may_sync.set()

    def sync(self, descriptor: int) -> None:
        assert self.may_sync.wait(10)
        super().sync(descriptor)


def lose_pages(path: Path, synced: int, chance: random.Random) -> None:
    """Cut or blank some of what was not synced."""
    data = bytearray(path.read_bytes())
    if len(data) <= synced:
        return
    match chance.randrange(4):
        case 0:
            pass  # kill -9: the kernel still has it all
        case 1:
            del data[chance.randrange(synced, len(data)) :]
        case _:
            for start in range(synced, len(data), PAGE_BYTES):
                if chance.random() < 0.5:
                    end = min(start + PAGE_BYTES, len(data))
                    data[start:end] = bytes(end - start)
    path.write_bytes(data)
