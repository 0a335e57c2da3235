"""Every call to the operating system that the log makes, in one object.

Tests replace it to have writes fail, fall short or be forgotten; nothing else in the engine
touches a file.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

TEMPORARY: Final = ".tmp"  # after the name of a file that is being written


class Files:
    """The real thing. Every method may raise OSError."""

    def open(self, path: Path) -> int:
        """Open for reading and writing, creating the file."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        """Write at an offset; return how many bytes were written, maybe fewer than given."""
        return os.pwrite(descriptor, data, offset)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Read at an offset; fewer bytes at the end of the file."""
        return os.pread(descriptor, size, offset)

    def sync(self, descriptor: int) -> None:
        """Wait until the data is on disk. Called in a thread."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(descriptor)
        else:
            os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file off."""
        os.ftruncate(descriptor, size)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, replacing what is there."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Delete a file; one that does not exist is fine."""
        path.unlink(missing_ok=True)

    def modified_ms(self, path: Path) -> int:
        """Return when a file was last written to (Unix ms)."""
        return path.stat().st_mtime_ns // 1_000_000

    def sync_directory(self, path: Path) -> None:
        """Make created, renamed and removed names durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def lock(self, path: Path) -> int:
        """Take an exclusive lock for as long as the returned descriptor is open. Raise BlockingIOError."""
        return _locked(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), fcntl.LOCK_EX)


class ReadOnly(Files):
    """Files that stay as they are, also for whoever may only read them.

    What recovery would cut off or put away is left there and passed over.
    """

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.EROFS, "this would have to be repaired first; see `gateway log repair`")

    def truncate(self, descriptor: int, size: int) -> None:
        pass

    def rename(self, source: Path, target: Path) -> None:
        pass

    def remove(self, path: Path) -> None:
        pass

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass

    def lock(self, path: Path) -> int:
        """Share a lock with other readers. Raise BlockingIOError if somebody writes."""
        return _locked(os.open(path, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)


def _locked(descriptor: int, how: int) -> int:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def replace(files: Files, path: Path, content: bytes, sync: bool) -> None:
    """Write a file beside its name and rename it: it is whole or not there. Raise OSError.

    Without `sync` the name may outlive a power loss, and the content not.
    """
    # All of the name stays in it: two threads may be at files that differ in the suffix alone.
    temporary = path.with_name(path.name + TEMPORARY)
    descriptor = files.open(temporary)
    try:
        files.truncate(descriptor, 0)
        write_all(files, descriptor, content, 0)
        if sync:
            files.sync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(temporary, path)


def write_all(files: Files, descriptor: int, data: bytes, offset: int) -> None:
    """Write all of it, in as many pieces as the system wants. Raise OSError."""
    while data:
        count = files.write(descriptor, data, offset)
        if count <= 0:
            raise OSError(errno.ENOSPC, "nothing more could be written")
        offset += count
        data = data[count:]
