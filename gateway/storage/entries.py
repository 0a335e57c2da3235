"""The unsettled entries of one queue, in order of position: full blocks, and the newest in a tail.

An entry is two words of an array: position and size of the body; what else is known of a message
is in its record. The tail is in memory. When it grows long its oldest part becomes a `Block`,
whose words may be on file: so a backlog of any length takes a few bytes of memory a thousand
entries, and an idle queue a few hundred bytes in all.

Every entry has an offset, its number in the queue. What is settled out of order is marked in
`gone` until everything before it is gone too.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence

from gateway.core.engine import Extent

from .block import (
    ALL,
    BLOCK_ENTRIES,
    BLOCK_WORDS,
    TAIL_WORDS_MAX,
    WORDS,
    Block,
    Blocks,
    Live,
    Place,
    block_last,
    block_offset,
    collect,
    live_positions,
    lower_bound,
    mark,
)


class Entries:
    """One queue's. `tried` knows of those that were delivered: attempts << 32 | last tag."""

    __slots__ = (
        "_live",
        "_store",
        "blocks",
        "count",
        "gone",
        "head",
        "offset",
        "queue_id",
        "size",
        "tail",
        "tried",
    )

    def __init__(self, queue_id: int, live: Live, store: Blocks | None, offset: int = 0) -> None:
        self._live = live
        self._store = store  # None: everything stays in memory
        self.queue_id = queue_id
        self.blocks: list[Block] | None = None
        self.tail: array[int] = array("Q")
        self.offset = offset  # of the tail's first entry
        self.head = 0  # so many entries at the beginning of the tail are gone
        self.gone: bytearray | None = None  # of the tail: 1 for each that is gone; None: none behind `head`
        self.tried: dict[int, int] | None = None
        self.count = 0  # of all that is not gone
        self.size = 0

    # -- coming -------------------------------------------------------------------------------

    def append(self, position: int, size: int) -> None:
        """A message was stored for this queue, after all others."""
        tail = self.tail
        tail.append(position)
        tail.append(size)
        self.count += 1
        self.size += size
        if self.gone is not None:
            self.gone.append(0)
        if len(tail) > TAIL_WORDS_MAX:
            self.spill()

    def spill(self) -> None:
        """Make blocks of all but the newest part of the tail."""
        self._compact()
        store = self._store
        while store is not None and len(self.tail) > TAIL_WORDS_MAX:
            words = self.tail[:BLOCK_WORDS]
            gone = (
                self.gone[:BLOCK_ENTRIES]
                if self.gone is not None and 1 in self.gone[:BLOCK_ENTRIES]
                else None
            )
            block = Block(self.queue_id, self.offset, words[0], words[-WORDS], BLOCK_ENTRIES, 0, words, gone)
            block.size = sum(words[1::WORDS])
            if gone is not None:
                block.live -= gone.count(1)
                block.size -= sum(words[WORDS * i + 1] for i in range(BLOCK_ENTRIES) if gone[i])
            if not store.store(block):
                return
            if self.blocks is None:
                self.blocks = []
            self.blocks.append(block)
            self._cut_tail(BLOCK_ENTRIES)

    def _compact(self) -> None:
        """Forget the tail's beginning that is gone."""
        if self.head:
            count, self.head = self.head, 0
            self._cut_tail(count)

    def _cut_tail(self, count: int) -> None:
        del self.tail[: WORDS * count]
        if self.gone is not None:
            del self.gone[:count]
        self.offset += count

    # -- going --------------------------------------------------------------------------------

    def settle(self, positions: Sequence[int]) -> None:
        """The queue is done with these; what is unknown is fine."""
        start, number = WORDS * self.head, len(positions)
        if not self.blocks and self.gone is None:
            wanted = array("Q", positions)
            found = self.tail[start : start + WORDS * number : WORDS]
            if found != wanted:
                wanted = array("Q", sorted(positions))
            if found == wanted:  # in the order they came: all but always
                self.size -= sum(self.tail[start + 1 : start + WORDS * number : WORDS])
                self.count -= number
                self._settled(wanted)
                self.head += number
                if WORDS * 2 * self.head >= len(self.tail):
                    self._compact()
                return
        self._settle_scattered(sorted(set(positions)))

    def _settled(self, positions: Sequence[int]) -> None:
        if self.tried:
            forget = self.tried.pop
            for position in positions:
                forget(position, None)
        self._live.release(positions)

    def _settle_scattered(self, positions: list[int]) -> None:
        removed: array[int] = array("Q")
        done = 0
        for block in self._blocks_from(positions[0]) if positions else ():
            done = bisect_left(positions, block.first, done)
            end = bisect_right(positions, block.last, done)
            if end > done:
                self._settle_in_block(block, positions[done:end], removed)
                done = end
            if done == len(positions):
                break
        self._drop_empty_blocks()
        if done < len(positions):
            self._settle_in_tail(positions[done:], removed)
        self.count -= len(removed)
        if removed:
            self._settled(removed)

    def _settle_in_block(self, block: Block, positions: list[int], removed: array[int]) -> None:
        words = self._words(block)
        if block.gone is None:
            block.gone = bytearray(len(words) // WORDS)
        before = len(removed)
        size = mark(words, block.gone, positions, removed)
        block.live -= len(removed) - before
        block.size -= size
        self.size -= size

    def _drop_empty_blocks(self) -> None:
        blocks, store = self.blocks, self._store
        if not blocks or store is None:
            return
        empty = [block for block in blocks if not block.live]
        if empty:
            for block in empty:
                store.drop(block)
            self.blocks = [block for block in blocks if block.live] or None

    def _settle_in_tail(self, positions: list[int], removed: array[int]) -> None:
        gone = self.gone
        if gone is None:
            gone = self.gone = bytearray(len(self.tail) // WORDS)
            gone[: self.head] = b"\1" * self.head
        self.size -= mark(self.tail, gone, positions, removed)
        head = gone.find(0, self.head)
        self.head = len(gone) if head < 0 else head
        if gone.find(1, self.head) < 0:
            self.gone = None
        if WORDS * 2 * self.head >= len(self.tail):
            self._compact()

    def trim(self, before: int, keep: Collection[int] = ()) -> None:
        """Everything below a position is gone, but for the positions to keep."""
        scattered: list[int] = []
        store = self._store
        if self.blocks and store is not None:
            kept = []
            for block in self.blocks:
                whole = block.last < before and not any(block.first <= p <= block.last for p in keep)
                if whole:
                    self._drop_block(block)
                    continue
                kept.append(block)
                if block.first < before:
                    found: list[Place] = []
                    self._collect_block(block, 0, ALL, found)
                    scattered += [p for _, p, _ in found if p < before and p not in keep]
            self.blocks = kept or None
        end = lower_bound(self.tail, before)
        if end > self.head:
            found = []
            self._collect_tail(self.head, end - self.head, found)
            scattered += [p for _, p, _ in found if p < before and p not in keep]
        if scattered:
            self.settle(scattered)
        if self.tried:
            self.tried = {p: t for p, t in self.tried.items() if p >= before or p in keep}

    def _drop_block(self, block: Block) -> None:
        assert self._store is not None
        if not self._live.span(block.first, block.last, -block.live):
            self._live.release(live_positions(self._words(block), block.gone, 0))
        self.count -= block.live
        self.size -= block.size
        self._store.drop(block)

    def begin_at(self, offset: int) -> None:
        """The oldest entry, or the next one to come, has this offset."""
        move = offset - self.extent().first
        self.offset += move
        for block in self.blocks or ():
            block.offset += move

    def forget_from(self, position: int) -> None:
        """What was stored at or after a position was not: it never was in the queue."""
        while self.blocks and self.blocks[-1].last >= position:
            self._unspill(self.blocks.pop())
        index = max(lower_bound(self.tail, position), self.head)
        lost = live_positions(self.tail, self.gone, index)
        self.count -= len(lost)
        for number in range(index, len(self.tail) // WORDS):
            if self.gone is None or not self.gone[number]:
                self.size -= self.tail[WORDS * number + 1]
        del self.tail[WORDS * index :]
        if self.gone is not None:
            del self.gone[index:]
        self._settled(lost)

    def _unspill(self, block: Block) -> None:
        """Put a block back where it came from."""
        assert self._store is not None
        self._compact()
        words = self._words(block)
        if block.gone is not None or self.gone is not None:
            mine = block.gone or bytearray(len(words) // WORDS)
            self.gone = mine + (self.gone or bytearray(len(self.tail) // WORDS))
        self.tail = words + self.tail
        self.offset = block.offset
        self._store.drop(block)

    def delivered(self, positions: Sequence[int], tags: Sequence[int]) -> None:
        """Handed out once more."""
        tried = self.tried
        if tried is None:
            tried = self.tried = {}
        for position, tag in zip(positions, tags, strict=True):
            tried[position] = (((tried.get(position, 0) >> 32) + 1) << 32) | tag

    def spared(self, positions: Sequence[int]) -> None:
        """Come back without having cost an attempt."""
        tried = self.tried or {}
        for position in positions:
            known = tried.get(position, 0)
            if known >> 32:
                tried[position] = known - (1 << 32)

    # -- looking ------------------------------------------------------------------------------

    def extent(self, after: int = 0) -> Extent:
        """Return how far the entries above a position reach."""
        following = self.offset + len(self.tail) // WORDS
        first = self.after(after, 1)
        if not first:
            return Extent(following, following, 0, 0)
        if after == 0:
            return Extent(first[0][0], following, self.count, self.size)
        count = size = 0
        for block in self._blocks_from(after + 1):
            if block.first > after:
                count, size = count + block.live, size + block.size
            else:
                found: list[Place] = []
                self._collect_block(block, after + 1, ALL, found)
                count, size = count + len(found), size + sum(place[2] for place in found)
        found = []
        self._collect_tail(max(self.head, lower_bound(self.tail, after + 1)), ALL, found)
        return Extent(first[0][0], following, count + len(found), size + sum(place[2] for place in found))

    def after(self, position: int, count: int) -> list[Place]:
        """Return the first entries above a position, at most `count`."""
        found: list[Place] = []
        for block in self._blocks_from(position + 1):
            self._collect_block(block, position + 1, count, found)
            if len(found) >= count:
                return found
        self._collect_tail(max(self.head, lower_bound(self.tail, position + 1)), count, found)
        return found

    def at(self, offset: int, count: int) -> list[Place]:
        """Return the first entries from an offset on, at most `count`."""
        blocks = self.blocks
        if blocks and offset < self.offset:
            number = bisect_right(blocks, offset, key=block_offset) - 1
            if number >= 0:
                block = blocks[number]
                index = offset - block.offset
                if index < BLOCK_ENTRIES:
                    words = self._words(block)
                    index = min(index, len(words) // WORDS - 1)
                    return self.after(words[WORDS * index] - 1, count)
                return self.after(block.last, count)
            return self.after(0, count)
        found: list[Place] = []
        self._collect_tail(max(self.head, offset - self.offset), count, found)
        return found

    def offset_of(self, position: int) -> int:
        """Return the offset of the entry at a position, -1 if there is none."""
        found = self.after(position - 1, 1)
        return found[0][0] if found and found[0][1] == position else -1

    def newest(self) -> int:
        """Return the position of the newest entry, 0 if nothing is in memory."""
        return self.tail[-WORDS] if self.tail else 0

    def between(self, start: int, end: int) -> list[int]:
        """Return the positions of the entries from a position up to another."""
        found: list[Place] = []
        for block in self._blocks_from(start):
            if block.first < end:
                self._collect_block(block, start, ALL, found)
        self._collect_tail(max(self.head, lower_bound(self.tail, start)), ALL, found)
        return [position for _, position, _ in found if start <= position < end]

    def recount(self) -> None:
        """Have every entry counted once more."""
        for block in self.blocks or ():
            if not self._live.span(block.first, block.last, block.live):
                self._live.add(live_positions(self._words(block), block.gone, 0))
        if self.count:
            self._live.add(live_positions(self.tail, self.gone, self.head))

    def _words(self, block: Block) -> array[int]:
        """Return a block's words. What had to be found again may not be all there was."""
        assert self._store is not None
        live, size = block.live, block.size
        words = self._store.words(block)
        self.count += block.live - live
        self.size += block.size - size
        return words

    def _blocks_from(self, position: int) -> Sequence[Block]:
        """Return the blocks that may have entries at or above a position."""
        blocks = self.blocks
        if not blocks or blocks[-1].last < position:
            return ()
        return blocks[bisect_left(blocks, position, key=block_last) :]

    def _collect_block(self, block: Block, position: int, count: int, found: list[Place]) -> None:
        words = self._words(block)
        index = lower_bound(words, position) if position > block.first else 0
        collect(words, block.gone, block.offset, index, count, found)

    def _collect_tail(self, index: int, count: int, found: list[Place]) -> None:
        collect(self.tail, self.gone, self.offset, index, count, found)
