"""Checkpoints: the index and the keys as of a position, so that recovery reads only what came later.

DATA/index/<position>.idx, written beside its name and renamed: a checkpoint is whole or not
there. The two newest are kept; one whose checksum is wrong is passed over.
"""

from __future__ import annotations

import errno
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

import msgspec

from gateway.core.errors import StorageError

from .files import Files
from .index import QueueIndex
from .record import column, read_column

MAGIC: Final = b"GWIDX\0"
VERSION: Final = 1
HEADER: Final = Struct("<6sHQII")  # magic, version, position, length, crc32
SUFFIX: Final = ".idx"
KEPT: Final = 2  # the newest, and one to fall back on


class State:
    """What a checkpoint holds: everything that the log up to `position` amounts to."""

    __slots__ = ("closed", "index", "keys", "mark", "position")

    def __init__(
        self, index: QueueIndex, keys: dict[str, bytes], mark: bytes, position: int, closed: dict[int, int]
    ) -> None:
        self.index = index
        self.keys = keys
        self.mark = mark  # of the log's records; b"" if there is no log yet
        self.position = position
        self.closed = closed  # segments that are not written to any more: base -> end in the file


def encode(state: State) -> bytes:
    """Return a checkpoint file's content."""
    queues = {}
    for queue_id, entries in state.index.queues.items():
        columns = list(zip(*entries.values(), strict=True)) or [(), (), (), ()]
        queues[queue_id] = [column(kind, c) for kind, c in zip("QQIIq", (entries, *columns), strict=True)]
    cursors = [[queue_id, group, offset] for (queue_id, group), offset in state.index.cursors.items()]
    fields = {"queues": queues, "cursors": cursors, "keys": state.keys}
    body = msgspec.msgpack.encode({**fields, "mark": state.mark, "closed": state.closed})
    return HEADER.pack(MAGIC, VERSION, state.position, len(body), crc32(body)) + body


def decode(data: bytes) -> State | None:
    """Return the state, or None if the file is damaged. Raise StorageError if it is from a newer version."""
    if len(data) < HEADER.size:
        return None
    magic, version, position, length, checksum = HEADER.unpack_from(data)
    if magic != MAGIC:
        return None
    if version > VERSION:
        raise StorageError(f"written by a newer version (format {version}; this reads {VERSION})")
    body = data[HEADER.size :]
    if len(body) != length or crc32(body) != checksum:
        return None
    fields = msgspec.msgpack.decode(body)
    index = QueueIndex()
    for queue_id, columns in fields["queues"].items():
        positions, *facts = (read_column(kind, raw) for kind, raw in zip("QQIIq", columns, strict=True))
        index.queues[queue_id] = dict(zip(positions, zip(*facts, strict=True), strict=True))
    for queue_id, group, offset in fields["cursors"]:
        index.cursors[(queue_id, group)] = offset
    return State(index, fields["keys"], fields["mark"], position, fields["closed"])


def write(files: Files, directory: Path, content: bytes, position: int) -> None:
    """Write a checkpoint and remove the ones it makes superfluous. Raise OSError."""
    path = directory / f"{position:020}{SUFFIX}"
    temporary = path.with_suffix(".tmp")
    descriptor = files.open(temporary)
    try:
        files.truncate(descriptor, 0)
        offset = 0
        while offset < len(content):
            count = files.write(descriptor, content[offset:], offset)
            if count <= 0:
                raise OSError(errno.ENOSPC, "no room for a checkpoint")
            offset += count
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(temporary, path)
    files.sync_directory(directory)
    for old in paths(directory)[KEPT:]:
        files.remove(old)


def paths(directory: Path) -> list[Path]:
    """Return the checkpoint files, newest first."""
    return sorted((path for path in directory.iterdir() if path.suffix == SUFFIX), reverse=True)


def load(directory: Path) -> tuple[State, list[str]]:
    """Return (state, remarks) of the newest good checkpoint; position 0 if there is none."""
    remarks: list[str] = []
    for path in paths(directory):
        try:
            state = decode(path.read_bytes())
        except StorageError as error:
            raise StorageError(f"{path}: {error.detail}") from None
        if state is not None:
            return state, remarks
        remarks.append(f"{path}: damaged checkpoint passed over; the log is read from further back")
    return State(QueueIndex(), {}, b"", 0, {}), remarks
