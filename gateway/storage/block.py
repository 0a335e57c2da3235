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
    """Mark positions (ascending) as gone, note those that were not; return the size of these."""
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
