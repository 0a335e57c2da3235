"""What comes due next: sorted runs of (time, position), merged as they are taken.

A part of the calendar that is read from the log is sorted by itself and becomes a run: two columns
of integers, 16 bytes a message, never bodies. A heap of the runs' heads finds the earliest. So
nothing is ever sorted as a whole, and half a million messages come into memory without anybody
waiting for it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bucket import Bucket

NEVER_MS = 1 << 62
SINGLES_MAX = 4096  # what came one by one takes 150 bytes each: beyond this it becomes a run, too


class Run:
    """Some messages of a bucket, by time; those before `at` have been taken."""

    __slots__ = ("at", "bucket", "dues", "positions")

    def __init__(self, bucket: Bucket, dues: array[int], positions: array[int]) -> None:
        self.bucket = bucket
        self.dues = dues
        self.positions = positions
        self.at = 0

    def head(self) -> tuple[int, int, Run]:
        """Return the next one, as the heap has it."""
        return self.dues[self.at], self.positions[self.at], self

    def cut(self, due_ms: int) -> int:
        """Forget what is due at a time or later; return how many."""
        end = max(self.at, bisect_left(self.dues, due_ms))
        count = len(self.dues) - end
        del self.dues[end:]
        del self.positions[end:]
        return count


def make_run(bucket: Bucket, dues: Sequence[int], positions: Sequence[int]) -> Run:
    """Return a run of messages in any order; equal times stay as they are."""
    order = sorted(range(len(dues)), key=dues.__getitem__)
    return Run(bucket, array("Q", [dues[i] for i in order]), array("Q", [positions[i] for i in order]))


class Due:
    """All runs, of all buckets that are in memory."""

    __slots__ = ("_heap", "_singles")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Run]] = []
        self._singles = 0

    def head_ms(self) -> int:
        """Return when the next one is due, NEVER_MS if there is none."""
        return self._heap[0][0] if self._heap else NEVER_MS

    def add_run(self, run: Run) -> None:
        """Take a run."""
        if run.at < len(run.dues):
            heappush(self._heap, run.head())

    def add(self, bucket: Bucket, due_ms: int, position: int) -> None:
        """Take a single message."""
        heappush(self._heap, (due_ms, position, bucket.single))
        self._singles += 1
        if self._singles > SINGLES_MAX:
            self._join_singles()

    def _join_singles(self) -> None:
        found: dict[Bucket, tuple[list[int], list[int]]] = {}
        heap: list[tuple[int, int, Run]] = []
        for item in self._heap:
            due_ms, position, run = item
            if run is run.bucket.single:
                dues, positions = found.setdefault(run.bucket, ([], []))
                dues.append(due_ms)
                positions.append(position)
            else:
                heap.append(item)
        heap += [make_run(bucket, *columns).head() for bucket, columns in found.items()]
        heapify(heap)
        self._heap = heap
        self._singles = 0

    def take(self, now_ms: int, count: int) -> list[tuple[int, int, Bucket]]:
        """Return what is due, at most `count`, as (due, position, bucket), earliest first."""
        taken: list[tuple[int, int, Bucket]] = []
        heap = self._heap
        while heap and heap[0][0] <= now_ms and len(taken) < count:
            due_ms, position, run = heappop(heap)
            taken.append((due_ms, position, run.bucket))
            if run is run.bucket.single:
                self._singles -= 1
                continue
            run.at += 1
            if run.at < len(run.dues):
                heappush(heap, run.head())
        return taken

    def drop(self, bucket: Bucket) -> None:
        """Forget a bucket's."""
        self._heap = [item for item in self._heap if item[2].bucket is not bucket]
        heapify(self._heap)
        self._singles = sum(1 for item in self._heap if item[2] is item[2].bucket.single)
