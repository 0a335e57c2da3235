"""A copy of the log while it is written to: the newest checkpoint, and all there is after it.

What a backup says it will read does not go away while it runs: segments are not freed, files of
blocks not deleted. The copy ends where the log ended when it began, so it is what recovery would
find after a crash at that moment: everything acknowledged until then is in it.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.core.errors import Conflict, StorageError

from . import blocks, checkpoint
from .directory import DataDirectory
from .segments import Segments

IDLE_SECONDS_MAX: Final = 60.0  # whoever reads nothing for so long does not keep the disk from being freed


class LogBackup:
    """Implements `gateway.core.engine.Backup`. Reads in any one thread."""

    def __init__(self, directory: DataDirectory, segments: Segments) -> None:
        self._root = directory.path
        self._open: tuple[int, int] = (-1, -1)  # number of the file, descriptor
        self._lock = threading.Lock()  # reading and closing
        self._used = time.monotonic()
        self._closed = False
        self._checkpoint = -1
        self.files: list[tuple[str, int]] = []
        self._add_checkpoint(directory.index)
        for path in sorted(directory.index.glob("*" + blocks.SUFFIX)):
            self._add(path, path.stat().st_size)
        for segment in segments:
            self._add(segment.path, segment.end)

    def _add_checkpoint(self, index: Path) -> None:
        """Hold the newest one open: a thread writes newer ones, and deletes it then."""
        while (newest := next(iter(checkpoint.paths(index)), None)) is not None:
            with suppress(FileNotFoundError):  # gone meanwhile: there are newer ones
                self._checkpoint = os.open(newest, os.O_RDONLY | os.O_CLOEXEC)
                self._add(newest, os.fstat(self._checkpoint).st_size)
                return

    def _add(self, path: Path, size: int) -> None:
        self.files.append((path.relative_to(self._root).as_posix(), size))

    @property
    def running(self) -> bool:
        """Whether files have to stay; ends the backup if nobody has read for too long."""
        if not self._closed and time.monotonic() - self._used > IDLE_SECONDS_MAX:
            self.close()
        return not self._closed

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return bytes of a file of `files`. Raise StorageError if they are not there any more."""
        with self._lock:
            if self._closed:
                raise StorageError(f"the backup was read from too slowly: {IDLE_SECONDS_MAX:.0f} s nothing")
            self._used = time.monotonic()
            size = min(size, self.files[number][1] - offset)
            try:
                data = os.pread(self._descriptor(number), size, offset)
            except OSError as error:
                raise StorageError(f"{self.files[number][0]}: {error.strerror}") from error
        if len(data) < size:
            raise StorageError(f"{self.files[number][0]}: shorter than it was")
        return data

    def _descriptor(self, number: int) -> int:
        name = self.files[number][0]
        if name.endswith(checkpoint.SUFFIX):
            return self._checkpoint
        if self._open[0] != number:
            self._leave_file()
            self._open = (number, os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC))
        return self._open[1]

    def _leave_file(self) -> None:
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = (-1, -1)

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._leave_file()
            if self._checkpoint >= 0:
                os.close(self._checkpoint)


class Backups:
    """The one backup that may run at a time."""

    __slots__ = ("_current",)

    def __init__(self) -> None:
        self._current: LogBackup | None = None

    @property
    def running(self) -> bool:
        """Whether one is."""
        return self._current is not None and self._current.running

    def begin(self, directory: DataDirectory, segments: Segments) -> LogBackup:
        """Begin one. Raise Conflict if there is one, or StorageError."""
        if self.running:
            raise Conflict("a backup is running already; wait for its end")
        try:
            self._current = LogBackup(directory, segments)
        except OSError as error:
            raise StorageError(f"{error.filename or directory.path}: {error.strerror}") from error
        return self._current

    def close(self) -> None:
        """End it."""
        if self._current is not None:
            self._current.close()
