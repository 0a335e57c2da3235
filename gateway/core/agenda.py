"""What waits for its time, in order of time, a page at a time.

The calendar knows only its buckets; to list what is in one all of it is read, in parts, so that
others have their turns meanwhile. What is published between two parts is not on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import nsmallest
from typing import TYPE_CHECKING

from .bucket import Bucket
from .errors import NotFound
from .schedules import Scheduled

if TYPE_CHECKING:
    from .schedules import Schedules

LISTED_PER_PART = 1000  # messages: some 5 ms, also if a filter has each of them read
Place = tuple[int, int]  # due (ms, the gateway's own), position


class Agenda:
    """One page: what is due after a place, up to a time, and is wanted."""

    def __init__(
        self,
        schedules: Schedules,
        after: Place,
        until_ms: int,
        limit: int,
        wanted: Callable[[Scheduled], bool] | None = None,
    ) -> None:
        self._schedules = schedules
        self._after = after
        self._until_ms = until_ms
        self._limit = limit
        self._wanted = wanted
        self._found: list[Place] = []  # the earliest so far, one more than the page has

    def parts(self) -> Iterator[None]:
        """Read; others may have their turn wherever this stops."""
        buckets = sorted(self._schedules.calendar.buckets.values(), key=_begin)
        for bucket in buckets:
            if self._full() and bucket.begin_ms > self._found[-1][0]:
                return
            over = bucket.key.width_ms and bucket.end_ms <= self._after[0]
            if over or bucket.begin_ms >= self._until_ms or not bucket.queue.length():
                continue
            yield from self._read(bucket)

    def page(self) -> tuple[list[Scheduled], Place | None]:
        """Return what was found, and after which place the next page begins; None if this is the last."""
        shown: list[Scheduled] = []
        for _, position in self._found[: self._limit]:
            try:
                shown.append(self._schedules.find(position))
            except NotFound:
                continue  # published meanwhile
        return shown, self._found[self._limit - 1] if self._full() else None

    def _full(self) -> bool:
        return len(self._found) > self._limit

    def _read(self, bucket: Bucket) -> Iterator[None]:
        engine, position = self._schedules.engine, 0
        while True:
            dues, positions = engine.due_times(bucket.queue.queue_id, position, LISTED_PER_PART)
            if not positions:
                return
            position = positions[-1]
            places = [place for place in zip(dues, positions, strict=True) if self._fits(place)]
            if self._wanted is not None:
                places = [place for place in places if self._is_wanted(bucket, place)]
            self._found = nsmallest(self._limit + 1, self._found + places)
            yield

    def _fits(self, place: Place) -> bool:
        if not self._after < place or place[0] >= self._until_ms:
            return False
        return not self._full() or place < self._found[-1]

    def _is_wanted(self, bucket: Bucket, place: Place) -> bool:
        assert self._wanted is not None
        try:
            message = self._schedules.engine.read(place[1])
        except NotFound:
            return False
        return self._wanted(Scheduled(place[1], place[0], message, bucket))


def _begin(bucket: Bucket) -> int:
    return bucket.begin_ms
