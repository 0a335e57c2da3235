"""Blocks of queue indexes on file: DATA/index/<number>.blk, appended to, never changed.

They save memory, nothing else: the log knows all that is in them. One that cannot be read is
made again from the log; files that are missing at start are no fault. A file goes when none
of its blocks has been needed for as long as checkpoints are kept.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from gateway.storage.block import WORDS, Block

from .files import Files, write_all
from .record import column, read_column

SUFFIX: Final = ".blk"
FILE_BYTES: Final = 16 << 20  # a thousand blocks: small enough to become free
LOADED_MAX: Final = 256  # blocks in memory: 4 MB for all queues
_HEADER: Final = Struct("<III")  # queue, length, crc32 of the words
_OFFSET_BITS: Final = 32  # of a place: number of the file, offset in it

log = logging.getLogger("gateway.storage")

Rebuild = Callable[[Block], "array[int]"]


class _File:
    __slots__ = ("checkpoints", "descriptor", "end", "live", "path", "spoilt", "synced")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = -1
        self.end = 0
        self.live = 0  # blocks that somebody needs
        self.checkpoints = 0  # taken since nobody does
        self.synced = 0
        self.spoilt = False  # a sync has failed: what was in it may not be on disk, ever


class BlockFiles:
    """Implements `gateway.storage.block.Blocks`. `rebuild` finds a block's words in the log."""

    def __init__(self, files: Files, directory: Path, rebuild: Rebuild) -> None:
        self._files = files
        self._directory = directory
        self._rebuild = rebuild
        self._all: dict[int, _File] = {}
        self._current = -1
        self._loaded: dict[int, Block] = {}  # place -> block, longest unused first
        self._resting = 0  # calls of `store` to refuse after a failure
        self.found_less = False  # than there was, when a block was made again: what counts on it is wrong

    # -- gateway.storage.block.Blocks ---------------------------------------------------------

    def store(self, block: Block) -> bool:
        if self._resting:
            self._resting -= 1
            return False
        if not self._put(block):
            self._resting = 10_000
            return False
        return True

    def _put(self, block: Block) -> bool:
        assert block.words is not None
        words = column("Q", block.words)
        content = _HEADER.pack(block.queue_id, len(words), crc32(words)) + words
        try:
            number, offset = self._append(content)
        except OSError as error:
            log.warning("no room for queue indexes on disk, they stay in memory: %s", error.strerror or error)
            return False
        block.place = number << _OFFSET_BITS | offset
        self._all[number].live += 1
        self._keep(block)
        return True

    def words(self, block: Block) -> array[int]:
        words = block.words
        if words is None:
            words = self._read(block)
            if words is None:
                return self._made_again(block)
            block.words = words
            self._keep(block)
        return words

    def _made_again(self, block: Block) -> array[int]:
        """Find a block's words in the log, and keep them elsewhere."""
        words = block.words = self._rebuild(block)
        if block.gone is not None and len(block.gone) * WORDS != len(words):
            block.gone = None  # its marks count entries that are not there any more
        left = [n for n in range(len(words) // WORDS) if block.gone is None or not block.gone[n]]
        if len(left) != block.live:
            log.warning(
                "queue %d: %d entries of its index could not be found again",
                block.queue_id,
                block.live - len(left),
            )
            self.found_less = True
        block.live = len(left)
        block.size = sum(words[WORDS * n + 1] for n in left)
        self.drop(block)
        self._put(block)
        return words

    def drop(self, block: Block) -> None:
        self._loaded.pop(block.place, None)
        file = self._all.get(block.place >> _OFFSET_BITS)
        if file is not None:
            file.live -= 1

    # -- start and checkpoints ------------------------------------------------------------------

    def restore(self, block: Block) -> None:
        """A checkpoint knows this block."""
        number = block.place >> _OFFSET_BITS
        file = self._all.get(number)
        if file is None:
            file = self._all[number] = _File(self._path(number))
        file.live += 1

    def open(self) -> None:
        """Find the files there are, after the last `restore`. Never appends to one of an earlier run."""
        for path in self._directory.glob("*" + SUFFIX):
            if path.stem.isdigit():
                self._all.setdefault(int(path.stem), _File(path))
        self._current = max(self._all, default=-1)
        if self._current >= 0:
            file = self._all[self._current]
            file.end = file.synced = FILE_BYTES

    def to_sync(self) -> Callable[[], None]:
        """Return what syncs the blocks a checkpoint refers to, in any thread. It raises OSError."""
        files = [
            (f, f.end) for f in self._all.values() if f.synced < f.end and f.descriptor >= 0 and not f.spoilt
        ]

        def sync() -> None:
            for file, end in files:
                try:
                    self._files.sync(file.descriptor)
                except OSError:
                    file.spoilt = True  # never again: another sync would find nothing to do
                    raise
                file.synced = max(file.synced, end)

        return sync

    def spoilt(self, block: Block) -> bool:
        """Tell whether a block's file cannot be relied on: its words have to be in the checkpoint."""
        file = self._all.get(block.place >> _OFFSET_BITS)
        return file is None or file.spoilt

    def checkpoint_taken(self, kept: int) -> None:
        """Delete files that no checkpoint refers to: none of their blocks was needed for `kept` of them."""
        for number, file in list(self._all.items()):
            if file.live > 0 or number == self._current:
                file.checkpoints = 0
                continue
            file.checkpoints += 1
            if file.checkpoints > kept:
                self._close(file)
                try:
                    self._files.remove(file.path)
                except OSError as error:
                    log.warning("%s cannot be deleted: %s", file.path, error)
                del self._all[number]

    def close(self) -> None:
        """Release the files. Idempotent."""
        for file in self._all.values():
            self._close(file)

    # -- files ----------------------------------------------------------------------------------

    def _append(self, content: bytes) -> tuple[int, int]:
        file = self._all.get(self._current)
        if file is None or file.spoilt or file.end + len(content) > FILE_BYTES:
            self._current = max(self._all, default=-1) + 1
            file = self._all[self._current] = _File(self._path(self._current))
        if file.descriptor < 0:
            file.descriptor = self._files.open(file.path)
        offset = file.end
        write_all(self._files, file.descriptor, content, offset)
        file.end = offset + len(content)
        return self._current, offset

    def _read(self, block: Block) -> array[int] | None:
        file = self._all.get(block.place >> _OFFSET_BITS)
        if file is None or not (file.descriptor >= 0 or file.path.exists()):
            return None
        offset = block.place & (1 << _OFFSET_BITS) - 1
        try:
            if file.descriptor < 0:
                file.descriptor = self._files.open(file.path)
            head = self._files.read(file.descriptor, _HEADER.size, offset)
            if len(head) < _HEADER.size:
                return None
            queue_id, length, checksum = _HEADER.unpack(head)
            words = self._files.read(file.descriptor, length, offset + _HEADER.size)
        except OSError:
            return None
        if queue_id != block.queue_id or len(words) != length or crc32(words) != checksum:
            return None
        return read_column("Q", words)

    def _keep(self, block: Block) -> None:
        """Note a block whose words are in memory; forget those of the one longest there."""
        self._loaded.pop(block.place, None)
        self._loaded[block.place] = block
        if len(self._loaded) > LOADED_MAX:
            self._loaded.pop(next(iter(self._loaded))).words = None

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:010}{SUFFIX}"

    def _close(self, file: _File) -> None:
        if file.descriptor >= 0:
            self._files.close(file.descriptor)
            file.descriptor = -1
