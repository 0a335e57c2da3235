"""When checkpoints are taken, and what may go once they are.

Taken in steps on the loop (see `checkpoint`), written in the sync thread once everything they
speak of is on disk.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from . import checkpoint
from .blocks import BlockFiles
from .checkpoint import Snapshot, State
from .files import Files
from .segments import Segments
from .space import Space
from .sync import Syncer

CHECKPOINT_BYTES: Final = 64 << 20  # how much log a restart reads at most, a second's worth
SIZE_FACTOR: Final = 8  # in proportion to its size: a large one is not worth writing often

log = logging.getLogger("gateway.storage")


class Checkpoints:
    """`oldest` is the position of the oldest one kept: recovery may have to begin there."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        state: State,
        segments: Segments,
        blocks: BlockFiles,
        syncer: Syncer,
        position: int,
    ) -> None:
        self._files = files
        self._directory = directory
        self._state = state
        self._segments = segments
        self.blocks = blocks
        self._syncer = syncer
        self._taken = position
        self._every = CHECKPOINT_BYTES
        self._snapshot: Snapshot | None = None
        self._done = False  # by the thread
        self.oldest = self._find_oldest()

    def written(self, position: int, make_up: bool = False) -> bool:
        """The log has been written up to a position: go on with a checkpoint, or begin one if it is time.

        `make_up`: a sync has failed. What the log may have lost of keys and journal has to be in a
        checkpoint, and nothing counts as stored until it is written. Tell whether what the index
        refers to has to be counted again.
        """
        if make_up:
            self._snapshot = None  # with it recovery would begin before what may be lost
        if make_up or self._snapshot is not None or position - self._taken > self._every:
            self._go_on(position, make_up)
        again, self.blocks.found_less = self.blocks.found_less, False
        return again

    def _go_on(self, position: int, to_the_end: bool) -> None:
        snapshot = self._snapshot = self._snapshot or self._begin(position)
        while not snapshot.step(position):
            if not to_the_end:
                return
        self._snapshot = None
        self._write_soon(snapshot, to_the_end)

    def _begin(self, position: int) -> Snapshot:
        state, segments = self._state, self._segments
        self._taken = position
        closed = [s for s in segments if s is not segments.tail]
        state.position = position
        state.closed = {segment.base: segment.end for segment in closed}
        state.moved = segments.moved
        return Snapshot(state)

    def _write_soon(self, snapshot: Snapshot, make_up: bool) -> None:
        sync_blocks = self.blocks.to_sync()

        def write() -> bool:
            try:
                sync_blocks()
                content = snapshot.content()
                self._every = max(CHECKPOINT_BYTES, SIZE_FACTOR * len(content))
                checkpoint.write(self._files, self._directory, content, snapshot.position)
            except OSError as error:
                log.warning("no checkpoint written, the next one is due after as much log: %s", error)
                return False
            self._done = True
            self._syncer.notify()
            return True

        self._syncer.after_next(write, make_up)

    def completed(self, space: Space, now_ms: int) -> None:
        """Free what the thread's last checkpoint has made superfluous."""
        if self._done:
            self._done = False
            self.blocks.checkpoint_taken(checkpoint.KEPT)
            self.oldest = self._find_oldest()
            space.free(self.oldest, now_ms)

    def take_now(self, position: int) -> None:
        """Write one, whole: at the end. Raise OSError."""
        snapshot = self._begin(position)
        while not snapshot.step(position):
            pass
        self.blocks.to_sync()()
        checkpoint.write(self._files, self._directory, snapshot.content(), position)
        self.oldest = self._find_oldest()

    def _find_oldest(self) -> int:
        return min((int(path.stem) for path in checkpoint.paths(self._directory)), default=0)
