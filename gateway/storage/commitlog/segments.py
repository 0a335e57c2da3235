"""The segments of a log in order: which one holds a position, and how many entries refer to each.

`next` is the one that the next write will make. A message that was moved (its old segment held
little else) keeps its position, by which queues and journal know it; `moved` says where its
record is now.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress

from gateway.storage.block import Block
from gateway.storage.index import QueueIndex

from . import record
from .reader import Reader
from .segment import Damage, Segment


class Segments:
    """Implements `gateway.storage.block.Live`."""

    __slots__ = ("_all", "_bases", "_before", "moved", "next")

    def __init__(self) -> None:
        self._all: list[Segment] = []
        self._bases: list[int] = []
        self.next: Segment | None = None
        self.moved: dict[int, int] = {}  # position -> position of the copy
        self._before: dict[int, int] = {}  # position -> the copy before that

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def last(self) -> Segment:
        """The newest segment that exists."""
        return self._all[-1]

    @property
    def tail(self) -> Segment:
        """Where the next write goes."""
        return self.next or self._all[-1]

    def replace(self, segments: list[Segment]) -> None:
        """Take these instead, oldest first."""
        self._all = segments
        self._bases = [segment.base for segment in segments]

    def begin(self, now_ms: int) -> None:
        """Make `next`, to be written to instead of the last. Raise OSError."""
        assert self.next is not None
        # If nothing else says where the last one ends, this one must be there whatever happens.
        self.next.create(on_disk=bool(self._all) and self.last.returns)
        if self._all:
            self.last.closed_ms = now_ms
        self._all.append(self.next)
        self._bases.append(self.next.base)
        self.next = None

    def remove(self, segment: Segment) -> None:
        """A segment was deleted, and with it what was moved there."""
        self.replace([other for other in self._all if other is not segment])
        if self.moved:
            first, end = segment.base, segment.base + segment.end
            self.moved = {p: copy for p, copy in self.moved.items() if not first <= copy < end}
            self._before = {p: copy for p, copy in self._before.items() if not first <= copy < end}

    def move(self, position: int, copy: int) -> None:
        """A message has another copy."""
        if position in self.moved:
            self._before[position] = self.moved[position]
        self.moved[position] = copy

    def holding(self, position: int) -> Segment | None:
        """Return the segment that a position lies in, or None."""
        if self.next is not None and position >= self.next.base:
            return self.next
        number = bisect_right(self._bases, position) - 1
        if number < 0:
            return None
        segment = self._all[number]
        if position >= segment.base + segment.end and segment is not self._all[-1]:
            return None  # between two that exist
        return segment

    def payload(self, position: int, reader: Reader | None = None) -> bytes:
        """Return a message's payload, read with its neighbours if there is a reader.

        Raise Damage or OSError.
        """
        segment = self.holding(position)
        if segment is not None:
            try:
                return segment.read(position) if reader is None else reader.payload(segment, position)
            except Damage:
                if position not in self.moved:
                    raise  # else it was copied while it could be read: a sync that failed has spoilt it since
        # Only now: as long as the original, or an earlier copy, is there, the last may not be written yet.
        copy = self._before.get(position, -1)
        segment = self.holding(copy)
        if segment is None:
            copy = self.moved.get(position, -1)
            segment = self.holding(copy)
        if segment is None:
            raise Damage(f"position {position}: its segment is missing")
        return record.decode_moved(segment.read(copy))[1]

    def scan(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Yield (position, payload) of the records from a position to another; damage is passed over."""
        for segment in self._all:
            if segment.base > last or segment.base + segment.end <= first:
                continue
            base = segment.base
            for offset, payload in segment.records(first - base, last + 1 - base):
                yield base + offset, payload

    def words_of(self, block: Block) -> array[int]:
        """Find the entries of a block in the log, because its file cannot be read."""
        found: dict[int, int] = {}
        for position, payload in self.scan(block.first, block.last):
            _note(found, block.queue_id, position, payload)
        for position in self.moved:
            if block.first <= position <= block.last:
                with suppress(Damage, OSError):  # whoever consumes it is told
                    _note(found, block.queue_id, position, self.payload(position))
        words: array[int] = array("Q")
        for pair in sorted(found.items()):
            words.extend(pair)
        return words

    def forget_moved(self, first: int, end: int) -> bool:
        """Copies from a position up to another are not there: what they are of is where it was.

        Tell whether there were any; what is referred to has to be counted again then.
        """
        gone = [position for position, copy in self.moved.items() if first <= copy < end]
        for position in gone:
            before = self._before.pop(position, -1)
            if self.holding(before) is not None:
                self.moved[position] = before
            elif (original := self.holding(position)) is not None:
                del self.moved[position]
                original.looked_at = -1  # to be emptied another time
        return bool(gone)

    # -- what is referred to --------------------------------------------------------------------

    def add(self, positions: Sequence[int]) -> None:
        self._change(positions, 1)

    def release(self, positions: Sequence[int]) -> None:
        self._change(positions, -1)

    def span(self, first: int, last: int, change: int) -> bool:
        segment = self.holding(first)
        if segment is None or segment.has_moved or segment is not self.holding(last):
            return False
        segment.live += change
        return True

    def recount(self, index: QueueIndex) -> None:
        """Count again what an index refers to."""
        for segment in self._all:
            segment.live = 0
        if self.next is not None:
            self.next.live = 0
        index.recount()

    def _change(self, positions: Sequence[int], change: int) -> None:
        moved = self.moved
        if moved and any(position in moved for position in positions):
            for position in positions:
                segment = self.holding(moved.get(position, position))
                if segment is not None:
                    segment.live += change
            return
        if not positions or self.span(positions[0], positions[-1], change * len(positions)):
            return
        done = 0
        while done < len(positions):
            position = positions[done]
            segment = self.holding(position)
            if segment is None:
                done += 1
                continue
            number = bisect_right(self._bases, position)
            following = self._bases[number] if number < len(self._bases) else 1 << 63
            if self.next is not None and segment is not self.next:
                following = min(following, self.next.base)
            end = min(following, segment.base + segment.end) if number < len(self._bases) else following
            until = max(bisect_left(positions, end, done), done + 1)
            segment.live += change * (until - done)
            done = until


def _note(found: dict[int, int], queue_id: int, position: int, payload: bytes) -> None:
    if payload[0] == record.MESSAGE:
        ids, size, _ = record.message_facts(payload)
        if queue_id in ids:
            found[position] = size
