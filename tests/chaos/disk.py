"""A disk that fails when it is told to, and a machine that dies in the middle of anything.

On top of `FaultyFiles`: errors at chosen operations, and a crash at any of them, after which
nothing is written any more. What of the directory survives is then up to how it died: by kill -9
all that was written; without power what was synced, and of the rest pages, names and deletions
as it pleases.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

from tests.storage.commitlog.faulty_files import FaultyFiles, lose_pages


class Crash(BaseException):
    """The process is dead; not an Exception, so that nobody handles it."""


class Disk(FaultyFiles):
    """`fail` is the chance that an operation fails; `crash_in` counts operations until death."""

    def __init__(self, chance: random.Random, graves: Path) -> None:
        super().__init__()
        self.chance = chance
        self.fail = 0.0
        self.crash_in = -1
        self.dead = False
        self.syncs_failed = 0
        self._graves = graves  # where removed files are until their directory is synced
        self._removed: dict[Path, Path] = {}
        self._made: set[Path] = set()  # names that may not be on disk yet

    def _operation(self, can_fail: bool = True) -> None:
        if self.dead:
            raise Crash
        self.crash_in -= 1
        if self.crash_in == 0:
            self.dead = True
            raise Crash
        if can_fail and self.chance.random() < self.fail:
            code = self.chance.choice([errno.EIO, errno.ENOSPC])
            raise OSError(code, os.strerror(code))

    def open(self, path: Path) -> int:
        self._operation(can_fail=False)
        if not path.exists():
            self._made.add(path)
        return super().open(path)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        part = data[: self.chance.randrange(len(data) + 1)] if self.chance.random() < 0.3 else data
        try:
            self._operation()
        except (Crash, OSError):
            if part and not (self.dead and self.crash_in < 0):
                super().write(descriptor, part, offset)  # torn, or short before it fails
            raise
        return super().write(descriptor, part or data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        self._operation()
        super().truncate(descriptor, size)

    def _sync_operation(self) -> None:
        try:
            self._operation()
        except OSError:
            self.syncs_failed += 1
            raise

    def sync(self, descriptor: int) -> None:
        self._sync_operation()
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._operation()
        super().rename(source, target)
        self._made.discard(source)
        self._made.add(target)

    def remove(self, path: Path) -> None:
        self._operation()
        if path.exists():
            grave = self._graves / f"{len(self._removed)}-{path.name}"
            shutil.copyfile(path, grave)
            self._removed[path] = grave
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        self._sync_operation()
        self._made = {name for name in self._made if name.parent != path}
        for name in [name for name in self._removed if name.parent == path]:
            del self._removed[name]

    def survive(self, source: Path, target: Path, power: bool) -> None:
        """Leave in `target` what is left of `source`."""
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("lock"))
        if not power:
            return
        for path in sorted(target.rglob("*")):
            original = source / path.relative_to(target)
            if not path.is_file():
                continue
            if original in self._made and self.chance.random() < 0.5:
                path.unlink()
            else:
                lose_pages(path, self._synced.get(original, path.stat().st_size), self.chance)
        for original, grave in self._removed.items():
            if self.chance.random() < 0.5:
                back = target / original.relative_to(source)
                if not back.exists():
                    shutil.copyfile(grave, back)
