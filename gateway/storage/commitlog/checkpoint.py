"""Checkpoints: the index and the keys, so that recovery reads only the log that came later.

DATA/index/<position>.idx, written beside its name and renamed: a checkpoint is whole or not
there. The two newest are kept; one whose checksum is wrong is passed over.

A checkpoint is taken in steps, one a turn, so that a hundred thousand queues hold nobody up.
Each queue is as of its own position, noted with it; recovery reads the log from the first
step's position and applies to a queue only what came after its own. Keys need no such note:
putting and deleting them once more changes nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from typing import Any, Final
from zlib import crc32

import msgspec

from gateway.core.errors import StorageError
from gateway.storage.block import WORDS, Block
from gateway.storage.entries import Entries
from gateway.storage.index import QueueIndex

from .blocks import BlockFiles
from .files import Files, replace
from .record import column, read_column

MAGIC: Final = b"GWIDX\0"
VERSION: Final = 3
HEADER: Final = Struct("<6sHQII")  # magic, version, position, length, crc32
SUFFIX: Final = ".idx"
KEPT: Final = 2  # the newest, and one to fall back on
STEP_QUEUES: Final = 500  # about a millisecond's work
STEP_KEYS: Final = 5000


class State:
    """What the log up to `position` amounts to."""

    __slots__ = ("as_of", "blocks", "closed", "index", "keys", "mark", "moved", "position")

    def __init__(self, index: QueueIndex, blocks: BlockFiles | None = None) -> None:
        self.index = index
        self.blocks = blocks
        self.keys: dict[str, bytes] = {}
        self.mark = b""  # of the log's records; b"" if there is no log yet
        self.position = 0
        self.closed: dict[int, int] = {}  # segments that are not written to any more: base -> end in the file
        self.moved: dict[int, int] = {}
        self.as_of: dict[int, int] = {}  # queue -> what lies before this position is in its entries


class Snapshot:
    """A checkpoint in the making. `state.position` is where recovery will begin to read."""

    def __init__(self, state: State) -> None:
        self.position = state.position
        self.written = state.position  # up to where the log has been written, as of the current step
        self._state = state
        self._frames: list[bytes] = []
        self._steps = self._run()

    def step(self, written: int) -> bool:
        """Do one step's work; tell whether that was the last."""
        self.written = written
        return next(self._steps, None) is None

    def content(self) -> bytes:
        """Return the file's content, after the last step."""
        body = msgspec.msgpack.encode(self._frames)
        return HEADER.pack(MAGIC, VERSION, self.position, len(body), crc32(body)) + body

    def _run(self) -> Iterator[bool]:
        state, encode = self._state, msgspec.msgpack.encode
        about: dict[str, Any] = {"mark": state.mark, "closed": state.closed, "moved": dict(state.moved)}
        about["cursors"] = [[*key, offset] for key, offset in state.index.cursors.items()]
        self._frames.append(encode(about))
        ids = list(state.index.queues)
        for first in range(0, len(ids), STEP_QUEUES):
            entries = [state.index.queues.get(queue_id) for queue_id in ids[first : first + STEP_QUEUES]]
            rows = [_row(each, self.written, state.blocks) for each in entries if each is not None]
            self._frames.append(encode({"queues": rows}))
            yield True
        names = list(state.keys)
        for first in range(0, len(names), STEP_KEYS):
            some = {k: state.keys[k] for k in names[first : first + STEP_KEYS] if k in state.keys}
            self._frames.append(encode({"keys": some}))
            yield True


def _row(entries: Entries, written: int, files: BlockFiles | None) -> list[Any]:
    tail = column("Q", entries.tail[WORDS * entries.head :]) if entries.tail else b""
    gone = bytes(entries.gone[entries.head :]) if entries.gone is not None else b""
    tried: array[int] = array("Q")
    for pair in (entries.tried or {}).items():
        tried.extend(pair)
    blocks: list[Any] = []
    for b in entries.blocks or ():
        words = column("Q", files.words(b)) if files is not None and files.spoilt(b) else b""
        blocks.append([b.offset, b.first, b.last, b.live, b.size, b.place, bytes(b.gone or b""), words])
    at = entries.offset + entries.head
    return [
        entries.queue_id,
        written,
        at,
        entries.count,
        entries.size,
        tail,
        gone,
        column("Q", tried),
        blocks,
    ]


def decode(data: bytes, state: State) -> bool:
    """Fill in the state; False if the file is damaged. Raise StorageError if it is from a newer version."""
    if len(data) < HEADER.size:
        return False
    magic, version, position, length, checksum = HEADER.unpack_from(data)
    if magic != MAGIC:
        return False
    if version > VERSION:
        raise StorageError(f"written by a newer version (format {version}; this reads {VERSION})")
    body = data[HEADER.size :]
    if version < VERSION or len(body) != length or crc32(body) != checksum:
        return False
    state.position = position
    for frame in msgspec.msgpack.decode(body):
        fields = msgspec.msgpack.decode(frame)
        for row in fields.get("queues", ()):
            _restore(row, state)
        state.keys.update(fields.get("keys", ()))
        if "mark" in fields:
            state.mark, state.closed, state.moved = fields["mark"], fields["closed"], fields["moved"]
            state.index.cursors.update({(queue, group): offset for queue, group, offset in fields["cursors"]})
    return True


def _restore(row: list[Any], state: State) -> None:
    queue_id, as_of, offset, count, size, tail, gone, tried, blocks = row
    entries = state.index.make(queue_id, offset)
    entries.count, entries.size = count, size
    entries.tail = read_column("Q", tail)
    entries.gone = bytearray(gone) if gone else None
    pairs = read_column("Q", tried)
    entries.tried = dict(zip(pairs[::2], pairs[1::2], strict=True)) if pairs else None
    restored = []
    for at, first, last, live, live_bytes, place, marks, words in blocks:
        gone = bytearray(marks) if marks else None
        known = read_column("Q", words) if words else None
        block = Block(queue_id, at, first, last, live, live_bytes, known, gone, -1 if words else place)
        restored.append(block)
        if state.blocks is not None and not words:
            state.blocks.restore(block)
    entries.blocks = restored or None
    state.as_of[queue_id] = as_of


def write(files: Files, directory: Path, content: bytes, position: int) -> None:
    """Write a checkpoint and remove the ones it makes superfluous. Raise OSError."""
    replace(files, directory / f"{position:020}{SUFFIX}", content, sync=True)
    files.sync_directory(directory)
    for old in paths(directory)[KEPT:]:
        files.remove(old)


def paths(directory: Path) -> list[Path]:
    """Return the checkpoint files, newest first."""
    return sorted((path for path in directory.iterdir() if path.suffix == SUFFIX), reverse=True)


def load(directory: Path, make: Callable[[], State]) -> tuple[State, list[str]]:
    """Return the state, and remarks, of the newest good checkpoint; position 0 if there is none."""
    remarks: list[str] = []
    for path in paths(directory):
        state = make()
        try:
            good = decode(path.read_bytes(), state)
        except StorageError as error:
            raise StorageError(f"{path}: {error.detail}") from None
        if good:
            return state, remarks
        remarks.append(f"{path}: damaged checkpoint passed over; the log is read from further back")
    return make(), remarks
