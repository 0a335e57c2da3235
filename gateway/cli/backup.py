"""`gateway backup DIR`: a copy of a running gateway's data, which is a data directory itself."""

from __future__ import annotations

import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from ..core.errors import StorageError
from ..storage.commitlog import examine
from ..storage.commitlog.files import Files
from .client import Client, Refused, fail
from .faults import fault
from .progress import Bar, progress

COPY_BYTES = 1 << 20
NAME = re.compile(r"(log|index)/[0-9]+\.(seg|idx|blk)")


def backup(url: str, user: str | None, target: Path) -> int:
    """Copy everything stored into a new directory, and check the copy."""
    if target.exists():
        return fault(f"{target} exists; a backup overwrites nothing")
    if not target.parent.is_dir():
        return fault(f"{target.parent}: no such directory")
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
    try:
        _fetch(url, user, partial)
        records = _check(partial)
        _keep(partial, target)
    except Refused as error:
        return fail(error)
    except (StorageError, OSError, tarfile.TarError) as error:
        return fault(f"no backup was made: {error}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{target}: {records} records; `gateway serve --data {target}` starts from it")
    return 0


class _Body:
    """A response's body as `tarfile` reads it."""

    def __init__(self, parts: Iterator[bytes], bar: Bar) -> None:
        self._parts = parts
        self._bar = bar
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        while len(self._rest) < size and (part := next(self._parts, b"")):
            self._rest += part
        data, self._rest = self._rest[:size], self._rest[size:]
        self._bar.advance(len(data))
        return data


def _fetch(url: str, user: str | None, directory: Path) -> None:
    for name in ("log", "index"):
        (directory / name).mkdir(mode=0o700)
    with (
        Client(url, user).download("/v1/admin/backup") as (size, parts),
        progress("backup", size, "bytes") as bar,
        tarfile.open(fileobj=cast("IO[bytes]", _Body(parts, bar)), mode="r|", bufsize=COPY_BYTES) as archive,
    ):
        for member in archive:
            source = archive.extractfile(member) if NAME.fullmatch(member.name) else None
            if source is None:
                raise StorageError(f"{member.name!r}: this is no file of a log")
            with (directory / member.name).open("xb") as file:
                shutil.copyfileobj(source, file, COPY_BYTES)
        for _ in parts:  # to the end, so that a body that was cut short is noticed
            pass


def _check(directory: Path) -> int:
    """Count the records; name what is damaged, which was so before."""
    records, holes = examine.survey(directory)
    for hole in holes:
        name = hole.path.relative_to(directory)
        print(f"{name}: {hole.what}, {hole.size} bytes at offset {hole.offset}", file=sys.stderr)
    return records


def _keep(partial: Path, target: Path) -> None:
    """Make it durable, then give it its name."""
    files = Files()
    for path in partial.rglob("*"):
        if path.is_file():
            descriptor = files.open(path)
            files.sync(descriptor)
            files.close(descriptor)
    for directory in (partial / "log", partial / "index", partial):
        files.sync_directory(directory)
    partial.rename(target)
    files.sync_directory(target.parent)
