"""What is not settled, of all queues; and the cursors of streams.

Both engines have one. The commit log's is saved in checkpoints and rebuilt from the log; its
blocks are on file (`commitlog/blocks.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.core.message import Outcome

from .block import Blocks, Live
from .entries import Entries


class QueueIndex:
    """Unsettled entries and cursors of all queues."""

    __slots__ = ("_live", "_store", "cursors", "queues")

    def __init__(self, live: Live, store: Blocks | None = None) -> None:
        self._live = live
        self._store = store
        self.queues: dict[int, Entries] = {}
        self.cursors: dict[tuple[int, str], int] = {}

    def make(self, queue_id: int, offset: int = 0) -> Entries:
        """Return a queue's entries, new and empty."""
        entries = self.queues[queue_id] = Entries(queue_id, self._live, self._store, offset)
        return entries

    def of(self, queue_id: int) -> Entries:
        """Return a queue's entries, made if need be."""
        return self.queues.get(queue_id) or self.make(queue_id)

    def add(self, queue_ids: Sequence[int], position: int, size: int) -> None:
        """A message was stored for these queues."""
        for queue_id in queue_ids:
            (self.queues.get(queue_id) or self.make(queue_id)).append(position, size)

    def settle(self, queue_id: int, positions: Sequence[int]) -> None:
        """A queue is done with messages; unknown ones are fine."""
        entries = self.queues.get(queue_id)
        if entries is not None:
            entries.settle(positions)

    def delivered(self, queue_id: int, positions: Sequence[int], tags: Sequence[int]) -> None:
        """A queue has handed messages out once more."""
        entries = self.queues.get(queue_id)
        if entries is not None:
            entries.delivered(positions, tags)

    def returned(self, queue_id: int, positions: Sequence[int], outcome: int) -> None:
        """A queue has messages back."""
        entries = self.queues.get(queue_id)
        if entries is not None and outcome == Outcome.RETRY:
            entries.spared(positions)

    def reached(self, queue_id: int, group: str, offset: int) -> None:
        """A stream's group has come so far; -1: it is gone."""
        if offset < 0:
            self.cursors.pop((queue_id, group), None)
        else:
            self.cursors[(queue_id, group)] = offset

    def trim(self, queue_id: int, before: int, offset: int, keep: Collection[int]) -> None:
        """Everything of a queue below a position is gone; its oldest has this offset now (-1: as it is)."""
        entries = self.of(queue_id)
        entries.trim(before, keep)
        if offset >= 0:
            entries.begin_at(offset)

    def drop(self, queue_id: int) -> None:
        """A queue is gone."""
        entries = self.queues.pop(queue_id, None)
        if entries is not None:
            entries.trim(1 << 63)
        for key in [key for key in self.cursors if key[0] == queue_id]:
            del self.cursors[key]

    def forget_from(self, position: int) -> None:
        """What was appended at or after a position could not be written."""
        for entries in self.queues.values():
            if entries.newest() >= position:
                entries.forget_from(position)

    def forget_missing(self, ranges: Sequence[tuple[int, int]], moved: Collection[int]) -> int:
        """Drop entries outside the position ranges (ascending) of what there is; return how many."""
        ends = [0, *(end for _, end in ranges)]
        firsts = [*(first for first, _ in ranges), 1 << 63]
        gaps = [gap for gap in zip(ends, firsts, strict=True) if gap[0] < gap[1]]
        if not gaps:
            return 0
        lost = 0
        for entries in self.queues.values():
            for start, end in gaps:
                gone = [p for p in entries.between(start, end) if p not in moved]
                entries.settle(gone)
                lost += len(gone)
        return lost

    def recount(self) -> None:
        """Have every entry counted again by who counts them."""
        for entries in self.queues.values():
            entries.recount()
