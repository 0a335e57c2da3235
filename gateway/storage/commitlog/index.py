"""What is not settled: per queue, the positions it still refers to.

Held in memory and rebuilt from checkpoint and log at start. (Bounded windows on files come
with the next step; this class is their place.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from gateway.core.engine import StoredEntry

#: size of the body, attempts, tag of the last delivery, stored at
Facts = tuple[int, int, int, int]


class QueueIndex:
    """Unsettled entries and cursors of all queues."""

    __slots__ = ("cursors", "queues")

    def __init__(self) -> None:
        self.queues: dict[int, dict[int, Facts]] = {}
        self.cursors: dict[tuple[int, str], int] = {}

    def add(self, queue_ids: Sequence[int], position: int, facts: Facts) -> None:
        """A message was appended for these queues."""
        queues = self.queues
        for queue_id in queue_ids:
            queue = queues.get(queue_id)
            if queue is None:
                queue = queues[queue_id] = {}
            queue[position] = facts

    def settle(self, queue_id: int, positions: Sequence[int]) -> None:
        """A queue is done with messages; unknown ones are fine."""
        queue = self.queues.get(queue_id)
        if queue is not None:
            pop = queue.pop
            for position in positions:
                pop(position, None)

    def delivered(self, queue_id: int, positions: Sequence[int], tags: Sequence[int]) -> None:
        """A queue has handed messages out once more."""
        queue = self.queues.get(queue_id)
        if queue is None:
            return
        for position, tag in zip(positions, tags, strict=True):
            facts = queue.get(position)
            if facts is not None:
                queue[position] = (facts[0], facts[1] + 1, tag, facts[3])

    def drop(self, queue_id: int) -> None:
        """A queue is gone."""
        self.queues.pop(queue_id, None)
        for key in [key for key in self.cursors if key[0] == queue_id]:
            del self.cursors[key]

    def forget_from(self, position: int) -> None:
        """What was appended at or after a position could not be written."""
        for queue in self.queues.values():
            # In order of position, so only the end of each queue is looked at.
            while queue and (late := next(reversed(queue))) >= position:
                del queue[late]

    def forget_missing(self, ranges: Sequence[tuple[int, int]]) -> int:
        """Drop entries outside the position ranges (ascending) of existing segments; return how many."""
        ends = [0, *(end for _, end in ranges)]
        firsts = [*(first for first, _ in ranges), 1 << 64]
        gaps = [gap for gap in zip(ends, firsts, strict=True) if gap[0] < gap[1]]
        lost = 0
        for queue in self.queues.values():
            positions = sorted(queue)
            for start, end in gaps:
                gone = positions[bisect_left(positions, start) : bisect_left(positions, end)]
                for position in gone:
                    del queue[position]
                lost += len(gone)
        return lost

    def entries(self) -> dict[int, list[StoredEntry]]:
        """Return what recovery hands to the core."""
        return {
            queue_id: [StoredEntry(position, *facts) for position, facts in queue.items()]
            for queue_id, queue in self.queues.items()
        }

    def used(self, bases: Sequence[int]) -> set[int]:
        """Return the bases (ascending) of the segments that some queue refers to."""
        used: set[int] = set()
        for queue in self.queues.values():
            low = high = 0
            for position in queue:
                if not low <= position < high:
                    number = bisect_right(bases, position)
                    low = bases[number - 1] if number else 0
                    high = bases[number] if number < len(bases) else 1 << 64
                    used.add(low)
        return used
