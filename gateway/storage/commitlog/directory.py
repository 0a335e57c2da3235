"""The data directory: made if need be, and locked, so that two gateways never write one log."""

from __future__ import annotations

from pathlib import Path

from gateway.core.errors import StorageError

from .files import TEMPORARY, Files


class DataDirectory:
    """DATA with `log`, `index` and `lock` in it."""

    def __init__(self, files: Files, path: Path) -> None:
        self._files = files
        self._lock = -1
        self.path = path
        self.log = path / "log"
        self.index = path / "index"

    @property
    def locked(self) -> bool:
        """Whether it is ours."""
        return self._lock >= 0

    def take(self) -> None:
        """Make what is missing, durably, and lock it. Raise StorageError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = self._files.lock(self.path / "lock")
            self.log.mkdir(exist_ok=True)
            self.index.mkdir(exist_ok=True)
            self._tidy()
            self._files.sync_directory(self.path)
        except BlockingIOError:
            raise StorageError(f"{self.path}: another gateway is using this data directory") from None
        except OSError as error:
            self.leave()
            where = error.filename or self.path
            raise StorageError(f"{where}: cannot be used as data directory: {error.strerror}") from error

    def _tidy(self) -> None:
        """Remove what a crash left half written."""
        for path in self.index.glob("*" + TEMPORARY):
            self._files.remove(path)

    def leave(self) -> None:
        """Unlock it. Idempotent."""
        if self._lock >= 0:
            self._files.close(self._lock)
            self._lock = -1
