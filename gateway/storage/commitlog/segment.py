"""Segment files: DATA/log/<first position>.seg, a header and then records.

Positions are byte offsets in the log as a whole: a segment's first position plus the offset
in its file. Room is not reserved ahead: measured on ext4, a sync of a file that grows costs
the same as one of a reserved file (docs/storage-format.md). Zeros after the last record are
its end: pages that a crash left unwritten.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from gateway.core.errors import StorageError

from .files import Files, write_all
from .record import HEADER, HEADER_BYTES, KINDS

MAGIC: Final = b"GWLOG\0"
VERSION: Final = 1
_HEADER: Final = Struct("<6sHQq4s")  # magic, version, first position, made at (ms), the log's mark
_CHECKSUM: Final = Struct("<I")  # crc32 of the above
FIRST_POSITION: Final = 1  # positions are positive
SEGMENT_HEADER_BYTES: Final = _HEADER.size + _CHECKSUM.size
READ_BYTES: Final = 1024  # most messages are read with one call
PIECE_BYTES: Final = 1 << 20  # a scan holds about this much
READ_ALL_BYTES: Final = 16 << 20  # recovery reads in pieces of this size
SUFFIX: Final = ".seg"


class Damage(Exception):
    """The bytes at an offset are no record."""


class Segment:
    """One file. `end` is the offset in the file behind the last record written."""

    __slots__ = (
        "_files",
        "_fresh",
        "base",
        "closed_ms",
        "descriptor",
        "end",
        "has_moved",
        "live",
        "looked_at",
        "mark",
        "needed_until",
        "path",
        "returns",
        "room",
        "spoilt",
    )

    def __init__(self, files: Files, directory: Path, base: int, room: int, mark: bytes) -> None:
        self._files = files
        self.base = base
        self.room = room  # how long the file may get
        self.mark = mark
        self.path = directory / f"{base:020}{SUFFIX}"
        self.descriptor = -1
        self.end = SEGMENT_HEADER_BYTES
        self.spoilt = False  # something is behind `end` that is no record
        self.returns = False  # and could be taken for records, if the next segment were lost
        self.live = 0  # how many queue entries refer to its messages
        self.closed_ms = 0  # when the last record was written (Unix ms); 0: it still is written to
        self.has_moved = False  # some of its messages have a copy elsewhere
        self.needed_until = 0  # must not go before a checkpoint at this position
        self.looked_at = -1  # `live`, when it was last found too full to be emptied
        self._fresh = False  # its name is not durable yet

    @property
    def reach(self) -> tuple[int, int]:
        """The positions at which it begins, and at which it must end."""
        return self.base, self.base + self.room

    def create(self, on_disk: bool = False) -> None:
        """Make the file; if asked for, so that a power loss leaves it. Raise OSError."""
        descriptor = self._files.open(self.path)
        try:
            self._write_header(descriptor)
            if on_disk:
                self._files.sync(descriptor)
                self._files.sync_directory(self.path.parent)
        except OSError:
            self._files.close(descriptor)
            raise
        self.descriptor = descriptor
        self._fresh = not on_disk

    def _write_header(self, descriptor: int) -> None:
        header = _HEADER.pack(MAGIC, VERSION, self.base, int(time.time() * 1000), self.mark)
        header += _CHECKSUM.pack(crc32(header))
        write_all(self._files, descriptor, header, 0)

    def open(self) -> bool:
        """Open an existing file and take its mark; tell whether its header is good.

        Raise StorageError if it cannot be opened or is from a newer version.
        """
        try:
            self.descriptor = self._files.open(self.path)
            header = self._files.read(self.descriptor, SEGMENT_HEADER_BYTES, 0)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be opened: {error.strerror}") from error
        if len(header) < SEGMENT_HEADER_BYTES or header[: len(MAGIC)] != MAGIC:
            return False
        # The version comes first: a newer one may have another checksum.
        _, version, base, _, mark = _HEADER.unpack_from(header)
        checksum = _CHECKSUM.unpack_from(header, _HEADER.size)[0]
        if crc32(header[: _HEADER.size]) != checksum and version <= VERSION:
            return False
        if version > VERSION:
            what = f"written by a newer version (format {version}; this reads {VERSION})"
            raise StorageError(f"{self.path}: {what}")
        self.mark = mark
        self.closed_ms = self._files.modified_ms(self.path)
        return bool(base == self.base)

    def repair_header(self) -> None:
        """Write the header anew, for records that have survived it. Raise OSError."""
        self._write_header(self.descriptor)

    def write(self, data: bytes) -> None:
        """Write records at the end. Raise OSError, having cut off what was written of them."""
        try:
            write_all(self._files, self.descriptor, data, self.end)
        except OSError:
            # What is left of a failed batch must not be taken for records later.
            try:
                self._files.truncate(self.descriptor, self.end)
            except OSError:
                self.spoilt = True  # go on elsewhere: recovery reads only up to the next segment's base
                self.returns = not self._blank()
            raise
        self.end += len(data)

    def _blank(self) -> bool:
        """Have recovery stop at `end`, also without a segment that begins there; tell whether it will.

        The next one may be lost with the power, when others have seen what is in it: messages that
        were refused before that must not turn up then.
        """
        try:
            write_all(self._files, self.descriptor, bytes(HEADER_BYTES), self.end)
        except OSError:
            return False
        return True

    def read(self, position: int) -> bytes:
        """Return the payload of the record at a position. Raise Damage or OSError."""
        offset = position - self.base
        data = self._files.read(self.descriptor, READ_BYTES, offset)
        if len(data) < HEADER_BYTES:
            raise Damage(f"{self.path}: nothing at offset {offset}")
        mark, length, checksum = HEADER.unpack_from(data)
        if mark != self.mark:
            raise Damage(f"{self.path}: no record at offset {offset}")
        end = HEADER_BYTES + length
        if end > len(data):
            data += self._files.read(self.descriptor, end - len(data), offset + len(data))
        payload = data[HEADER_BYTES:end]
        if len(payload) != length or not length or crc32(payload) != checksum:  # nothing has the checksum 0
            raise Damage(f"{self.path}: damaged record at offset {offset}")
        return payload

    def content(self) -> bytes:
        """Return the whole file: for recovery."""
        parts = []
        offset = 0
        while part := self._files.read(self.descriptor, READ_ALL_BYTES, offset):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def records(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, payload) of the records that begin between two offsets. Raise OSError.

        Reads piece by piece; what is damaged is passed over.
        """
        first = max(start, SEGMENT_HEADER_BYTES)  # offset of data[0]
        data, at = b"", 0
        while first + at < min(stop, self.end):
            end = self.record_at(data, at)
            if end > 0:
                yield first + at, data[at + HEADER_BYTES : end]
                at = end
                continue
            piece = self._files.read(self.descriptor, PIECE_BYTES, first + len(data))
            if piece:
                data, first, at = data[at:] + piece, first + at, 0
                continue
            at = self.next_record(data, at + 1)
            if at < 0:
                return

    def record_at(self, data: bytes, offset: int) -> int:
        """Return the offset behind a valid record at `offset`, 0 at the end of records, -1 for damage."""
        header = data[offset : offset + HEADER_BYTES]
        if not header.strip(b"\0"):
            return 0
        if len(header) < HEADER_BYTES:
            return -1
        mark, length, checksum = HEADER.unpack(header)
        start = offset + HEADER_BYTES
        end = start + length
        if mark != self.mark or length == 0 or end > len(data):
            return -1
        if data[start] not in KINDS or crc32(data[start:end]) != checksum:
            return -1
        return int(end)

    def next_record(self, data: bytes, offset: int) -> int:
        """Return the offset of the first valid record at or after `offset`, or -1."""
        while (offset := data.find(self.mark, offset)) >= 0:
            if self.record_at(data, offset) > 0:
                return offset
            offset += 1
        return -1

    def cut(self, end: int) -> None:
        """Forget everything from an offset on. Raise OSError."""
        self._files.truncate(self.descriptor, end)
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
        """Remove the file. Raise OSError: then it can still be read."""
        self._files.remove(self.path)
        self.close()


def segment_paths(directory: Path) -> list[Path]:
    """Return the segment files, oldest first: their names sort. Raise StorageError for a strange name."""
    found = sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)
    for path in found:
        if not path.stem.isdigit():
            raise StorageError(f"{path}: this is no segment of ours; move it out of the log's directory")
    return found
