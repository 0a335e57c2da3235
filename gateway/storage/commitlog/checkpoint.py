"""Checkpoints: the index and the keys as of a position, so that recovery reads only what came later.

DATA/index/<position>.idx, written beside its name and renamed: a checkpoint is whole or not
there. The two newest are kept; one whose checksum is wrong is passed over.
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from struct import Struct
from typing import Any, Final
from zlib import crc32

import msgspec

from .files import Files
from .index import QueueIndex

MAGIC: Final = b"GWIDX\0"
VERSION: Final = 1
HEADER: Final = Struct("<6sHQII")  # magic, version, position, length, crc32
SUFFIX: Final = ".idx"
KEPT: Final = 2  # the newest, and one to fall back on


def encode(index: QueueIndex, keys: dict[str, bytes], position: int) -> bytes:
    """Return a checkpoint file's content."""
    queues = {}
    for queue_id, entries in index.queues.items():
        columns = list(zip(*entries.values(), strict=True)) or [(), (), (), ()]
        queues[queue_id] = [
            array("Q", entries).tobytes(),
            array("Q", columns[0]).tobytes(),
            array("I", columns[1]).tobytes(),
            array("I", columns[2]).tobytes(),
            array("q", columns[3]).tobytes(),
        ]
    cursors = [[queue_id, group, offset] for (queue_id, group), offset in index.cursors.items()]
    body = msgspec.msgpack.encode({"queues": queues, "cursors": cursors, "keys": keys})
    return HEADER.pack(MAGIC, VERSION, position, len(body), crc32(body)) + body


def decode(data: bytes) -> tuple[QueueIndex, dict[str, bytes], int] | None:
    """Return (index, keys, position), or None if the file is damaged or of another version."""
    if len(data) < HEADER.size:
        return None
    magic, version, position, length, checksum = HEADER.unpack_from(data)
    body = data[HEADER.size :]
    if magic != MAGIC or version != VERSION or len(body) != length or crc32(body) != checksum:
        return None
    fields = msgspec.msgpack.decode(body)
    index = QueueIndex()
    for queue_id, columns in fields["queues"].items():
        positions, *facts = (_column(kind, raw) for kind, raw in zip("QQIIq", columns, strict=True))
        index.queues[queue_id] = dict(zip(positions, zip(*facts, strict=True), strict=True))
    for queue_id, group, offset in fields["cursors"]:
        index.cursors[(queue_id, group)] = offset
    return index, fields["keys"], position


def _column(kind: str, raw: bytes) -> Any:
    column = array(kind)
    column.frombytes(raw)
    return column


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
                raise OSError(28, "no room for a checkpoint")
            offset += count
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    os.replace(temporary, path)
    files.sync_directory(directory)
    for old in paths(directory)[KEPT:]:
        old.unlink(missing_ok=True)


def paths(directory: Path) -> list[Path]:
    """Return the checkpoint files, newest first."""
    return sorted((path for path in directory.iterdir() if path.suffix == SUFFIX), reverse=True)


def load(directory: Path) -> tuple[QueueIndex, dict[str, bytes], int, list[str]]:
    """Return (index, keys, position, remarks) of the newest good checkpoint; position 0 if there is none."""
    remarks: list[str] = []
    for path in paths(directory):
        loaded = decode(path.read_bytes())
        if loaded is not None:
            return *loaded, remarks
        remarks.append(f"{path}: damaged checkpoint passed over; the log is read from further back")
    return QueueIndex(), {}, 0, remarks
