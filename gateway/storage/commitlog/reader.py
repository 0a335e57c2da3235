"""Reading records back: neighbours come with one call to the operating system.

Who reads a backlog reads forwards. A chunk that was read is kept for what follows; the few
latest are, so that readers at different places do not take each other's.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from .files import Files
from .record import HEADER, HEADER_BYTES
from .segment import Damage, Segment

CHUNK_BYTES: Final = 128 << 10  # some hundred small messages: 20 µs
CHUNKS_MAX: Final = 32  # 4 MB for all readers


class Reader:
    """Payloads by position."""

    __slots__ = ("_chunks", "_files")

    def __init__(self, files: Files) -> None:
        self._files = files
        self._chunks: dict[tuple[int, int], bytes] = {}  # (segment, number) -> content, oldest first

    def payload(self, segment: Segment, position: int) -> bytes:
        """Return the payload of the record at a position. Raise Damage or OSError."""
        offset = position - segment.base
        number = offset // CHUNK_BYTES
        chunk = self._chunk(segment, number)
        start = offset - number * CHUNK_BYTES
        if start + HEADER_BYTES > len(chunk):
            return segment.read(position)
        mark, length, checksum = HEADER.unpack_from(chunk, start)
        end = start + HEADER_BYTES + length
        if mark != segment.mark or end > len(chunk):
            return segment.read(position)  # it crosses the chunk's end, or is damaged, which is told there
        payload = chunk[start + HEADER_BYTES : end]
        if not length or crc32(payload) != checksum:
            raise Damage(f"{segment.path}: damaged record at offset {offset}")
        return payload

    def _chunk(self, segment: Segment, number: int) -> bytes:
        key = (segment.base, number)
        chunk = self._chunks.pop(key, b"")
        first = number * CHUNK_BYTES
        size = min(segment.end - first, CHUNK_BYTES)
        if len(chunk) < size:
            # Not beyond the segment's end: what is there now may be the rest of a failed write.
            chunk = self._files.read(segment.descriptor, size, first)
            while len(self._chunks) >= CHUNKS_MAX:
                del self._chunks[next(iter(self._chunks))]
        self._chunks[key] = chunk
        return chunk

    def forget(self) -> None:
        """A segment has been cut or deleted."""
        self._chunks.clear()
