"""Segment files: DATA/log/<first position>.seg, a header and then records.

Positions are byte offsets in the log as a whole: a segment's first position plus the offset
in its file. The room of a segment is reserved when it is made, so that a sync has no new
file size to write; zeros after the last record are its end.
"""

from __future__ import annotations

from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from gateway.core.errors import StorageError

from .files import Files
from .record import HEADER, HEADER_BYTES, KINDS, MARK

MAGIC: Final = b"GWLOG\0"
VERSION: Final = 1
SEGMENT_HEADER: Final = Struct("<6sHQQ")  # magic, version, first position, reserved
SEGMENT_HEADER_BYTES: Final = SEGMENT_HEADER.size
READ_BYTES: Final = 1024  # most messages are read with one call
SUFFIX: Final = ".seg"


class Damage(Exception):
    """The bytes at an offset are no record."""


class Segment:
    """One file. `end` is the offset in the file behind the last record written."""

    __slots__ = ("_files", "_fresh", "base", "descriptor", "end", "path", "room")

    def __init__(self, files: Files, directory: Path, base: int, room: int) -> None:
        self._files = files
        self.base = base
        self.room = room
        self.path = directory / f"{base:020}{SUFFIX}"
        self.descriptor = -1
        self.end = SEGMENT_HEADER_BYTES
        self._fresh = False  # its name is not durable yet

    def create(self) -> None:
        """Make the file. Raise OSError."""
        descriptor = self._files.open(self.path)
        try:
            self._files.reserve(descriptor, self.room)
            header = SEGMENT_HEADER.pack(MAGIC, VERSION, self.base, 0)
            if self._files.write(descriptor, header, 0) != len(header):
                raise OSError(28, "no room for a segment header")
        except OSError:
            self._files.close(descriptor)
            raise
        self.descriptor = descriptor
        self._fresh = True

    def open(self) -> None:
        """Open an existing file. Raise StorageError if it is not ours or from a newer version."""
        try:
            self.descriptor = self._files.open(self.path)
            header = self._files.read(self.descriptor, SEGMENT_HEADER_BYTES, 0)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be opened: {error.strerror}") from error
        if len(header) < SEGMENT_HEADER_BYTES or header[:6] != MAGIC:
            raise Damage(f"{self.path}: the header is damaged")
        version = SEGMENT_HEADER.unpack(header)[1]
        if version > VERSION:
            raise StorageError(f"{self.path}: written by a newer version (format {version}; this reads {VERSION})")

    def write(self, data: bytes) -> None:
        """Write records at the end. Raise OSError, having cut off what was written of them."""
        offset = self.end
        view = memoryview(data)
        try:
            while view:
                count = self._files.write(self.descriptor, bytes(view) if len(view) < len(data) else data, offset)
                if count <= 0:
                    raise OSError(28, "nothing more could be written")
                offset += count
                view = view[count:]
        except OSError:
            # What is left of a failed batch must not be taken for records later.
            self._files.truncate(self.descriptor, self.end)
            raise
        self.end = offset

    def read(self, position: int) -> bytes:
        """Return the payload of the record at a position. Raise Damage."""
        offset = position - self.base
        data = self._files.read(self.descriptor, READ_BYTES, offset)
        if len(data) < HEADER_BYTES:
            raise Damage(f"{self.path}: nothing at offset {offset}")
        mark, length, checksum = HEADER.unpack_from(data)
        if mark != MARK:
            raise Damage(f"{self.path}: no record at offset {offset}")
        end = HEADER_BYTES + length
        if end > len(data):
            data += self._files.read(self.descriptor, end - len(data), offset + len(data))
        payload = data[HEADER_BYTES:end]
        if len(payload) != length or crc32(payload) != checksum:
            raise Damage(f"{self.path}: damaged record at offset {offset}")
        return payload

    def content(self) -> bytes:
        """Return the whole file: for recovery."""
        parts = []
        offset = 0
        while part := self._files.read(self.descriptor, 1 << 24, offset):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def cut(self, end: int) -> None:
        """Forget everything from an offset on; the room is reserved again."""
        self._files.truncate(self.descriptor, end)
        self._files.reserve(self.descriptor, self.room)
        self.end = end

    def sync(self) -> None:
        """Wait until everything written is on disk, the file's name included. Raise OSError."""
        if self._fresh:
            self._files.sync_directory(self.path.parent)
            self._fresh = False
        self._files.sync(self.descriptor)

    def close(self) -> None:
        """Release the file. Idempotent."""
        if self.descriptor >= 0:
            self._files.close(self.descriptor)
            self.descriptor = -1

    def delete(self) -> None:
        """Remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)


def record_at(data: bytes, offset: int) -> int:
    """Return the offset behind a valid record at `offset`, 0 at the end of records, -1 for damage."""
    header = data[offset : offset + HEADER_BYTES]
    if not header.strip(b"\0"):
        return 0
    if len(header) < HEADER_BYTES:
        return -1
    mark, length, checksum = HEADER.unpack(header)
    end = offset + HEADER_BYTES + length
    if mark != MARK or length == 0 or end > len(data):
        return -1
    if data[offset + HEADER_BYTES] not in KINDS or crc32(data[offset + HEADER_BYTES : end]) != checksum:
        return -1
    return int(end)


def next_record(data: bytes, offset: int) -> int:
    """Return the offset of the first valid record at or after `offset`, or -1."""
    while (offset := data.find(MARK, offset)) >= 0:
        if record_at(data, offset) > 0:
            return offset
        offset += 1
    return -1


def segment_paths(directory: Path) -> list[Path]:
    """Return the segment files, oldest first: their names sort."""
    return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)
