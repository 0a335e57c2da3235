"""What queue indexes are made of: arrays of words, blocks of them, and who keeps and counts them.

An entry is two words of an array: the position of a message and the size of its body.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, Protocol

WORDS: Final = 2  # of an entry: position, size
BLOCK_ENTRIES: Final = 1024  # 16 KB: read in 10 µs, and a queue's worth of windows
BLOCK_WORDS: Final = BLOCK_ENTRIES * WORDS
TAIL_WORDS_MAX: Final = 2 * BLOCK_WORDS  # then the older half becomes a block
TOGETHER_MIN: Final = 16  # entries: of fewer, to look at each is quicker

ALL: Final = 1 << 62  # no bound on how many are collected

#: offset, position, size
Place = tuple[int, int, int]


class Live(Protocol):
    """Who counts how many entries refer to what is stored."""

    def release(self, positions: Sequence[int]) -> None:
        """One reference less to each of these positions (ascending)."""

    def add(self, positions: Sequence[int]) -> None:
        """One reference more."""

    def span(self, first: int, last: int, change: int) -> bool:
        """So many references more or less between two positions; False: they have to be named."""


class Blocks(Protocol):
    """Where the words of blocks are kept."""

    def store(self, block: Block) -> bool:
        """Put a new block away; False if there is no room, and it stays where it is."""

    def words(self, block: Block) -> array[int]:
        """Return a block's words. They may be forgotten again at any later call.

        If they had to be found elsewhere, `live` and `size` tell what of them is there.
        """

    def drop(self, block: Block) -> None:
        """A block is not needed any more."""


class Block:
    """`BLOCK_ENTRIES` entries. `words` is None while they are only on file, at `place`."""

    __slots__ = ("first", "gone", "last", "live", "offset", "place", "queue_id", "size", "words")

    def __init__(
        self,
        queue_id: int,
        offset: int,
        first: int,
        last: int,
        live: int,
        size: int,
        words: array[int] | None = None,
        gone: bytearray | None = None,
        place: int = -1,
    ) -> None:
        self.queue_id = queue_id
        self.offset = offset  # of its first entry
        self.first = first  # positions of its first and last entry, gone ones included
        self.last = last
        self.live = live
        self.size = size  # of the live ones
        self.words = words
        self.gone = gone
        self.place = place


def collect(
    words: array[int], gone: bytearray | None, offset: int, index: int, count: int, found: list[Place]
) -> None:
    end = len(words) // WORDS
    while index < end and len(found) < count:
        if gone is None or not gone[index]:
            found.append((offset + index, words[WORDS * index], words[WORDS * index + 1]))
        index += 1


def mark(words: array[int], gone: bytearray, positions: list[int], removed: array[int]) -> int:
    """Mark positions (ascending) as gone, note those that were not; return the size of these.

    Mostly they lie together, but for what somebody still holds: what does is marked in one go.
    """
    count = len(positions)
    if count >= TOGETHER_MIN:
        size = _mark_together(words, gone, positions, removed)
        if size >= 0:
            return size
        half = count // 2
        return mark(words, gone, positions[:half], removed) + mark(words, gone, positions[half:], removed)
    size = 0
    index, end = lower_bound(words, positions[0]), len(words) // WORDS
    for position in positions:
        while index < end and words[WORDS * index] < position:
            index += 1
        if index == end:
            break
        if words[WORDS * index] == position and not gone[index]:
            gone[index] = 1
            removed.append(position)
            size += words[WORDS * index + 1]
    return size


def _mark_together(words: array[int], gone: bytearray, positions: list[int], removed: array[int]) -> int:
    """The same for positions that lie together, none of them gone; -1 if they do not."""
    index = lower_bound(words, positions[0])
    following = index + len(positions)
    wanted = array("Q", positions)
    if words[WORDS * index : WORDS * following : WORDS] != wanted or gone.find(1, index, following) >= 0:
        return -1
    gone[index:following] = b"\1" * len(positions)
    removed.extend(wanted)
    return sum(words[WORDS * index + 1 : WORDS * following : WORDS])


def live_positions(words: array[int], gone: bytearray | None, index: int) -> array[int]:
    if gone is None:
        return words[WORDS * index :: WORDS]
    live = (words[WORDS * i] for i in range(index, len(words) // WORDS) if not gone[i])
    return array("Q", live)


def lower_bound(words: array[int], position: int) -> int:
    """Return the index of the first entry at or above a position."""
    low, high = 0, len(words) // WORDS
    while low < high:
        middle = (low + high) // 2
        if words[WORDS * middle] < position:
            low = middle + 1
        else:
            high = middle
    return low


def block_last(block: Block) -> int:
    return block.last


def block_offset(block: Block) -> int:
    return block.offset
