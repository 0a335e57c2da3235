"""Space: segments that nobody needs go; the few messages that pin one are moved.

A segment whose messages are all settled is kept for a while, so that what became of them can
be told; how long, and how much of it in all, is configured. One that is older than that and
holds little that still waits is emptied: the rest is written to the log once more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

from gateway.storage.index import QueueIndex

from . import record
from .record import HEADER_BYTES
from .segment import Damage, Segment
from .segments import Segments

MOVE_SHARE_MAX: Final = 8  # a segment is emptied when at most an eighth of it is still needed
MOVE_BYTES_MAX: Final = 8 << 20  # and not more than this, which goes into one turn's batch
QUEUES_PER_STEP: Final = 5000  # looked through for what is needed: some 5 ms

log = logging.getLogger("gateway.storage")

Pins = dict[int, list[int]]  # position -> queues that need it


class Space:
    """Frees segments. `write` adds a record to the batch and returns its position; `gone` is told of each."""

    def __init__(
        self,
        segments: Segments,
        index: QueueIndex,
        write: Callable[[bytes], int],
        gone: Callable[[int], None],
        kept_ms: int,
        kept_bytes_max: int,
    ) -> None:
        self._segments = segments
        self._index = index
        self._write = write
        self._gone = gone
        self._kept_ms = kept_ms
        self._kept_bytes_max = kept_bytes_max
        self._work: Iterator[None] | None = None

    def free(self, oldest_checkpoint: int, now_ms: int) -> None:
        """Delete the segments that are settled and old enough, or too many."""
        kept_bytes = 0
        for segment in reversed(list(self._segments)[:-1]):
            safe = max(segment.base + segment.end, segment.needed_until) <= oldest_checkpoint
            if segment.live > 0 or not safe:
                continue
            kept_bytes += segment.end
            if self._young(segment, now_ms) and kept_bytes <= self._kept_bytes_max:
                continue
            try:
                segment.delete()
            except OSError as error:
                log.warning("%s cannot be deleted: %s", segment.path, error)
                continue
            self._segments.remove(segment)
            self._gone(segment.base)

    def _young(self, segment: Segment, now_ms: int) -> bool:
        if not segment.closed_ms:
            segment.closed_ms = now_ms  # it was left before anything told the time: after a start
        return max(0, now_ms - segment.closed_ms) < self._kept_ms

    def step(self, now_ms: int) -> None:
        """Do a little of what it takes to empty an old segment."""
        if self._work is None:
            segment = self._candidate(now_ms)
            if segment is None:
                return
            self._work = self._empty(segment)
        if next(self._work, self) is self:
            self._work = None

    def _candidate(self, now_ms: int) -> Segment | None:
        for segment in list(self._segments)[:-1]:
            if segment.live <= 0 or self._young(segment, now_ms):
                continue
            if segment.looked_at < 0 or segment.live <= segment.looked_at // 2:
                return segment
        return None

    def _empty(self, segment: Segment) -> Iterator[None]:
        segment.looked_at = segment.live
        pins: Pins = {}
        first, end = segment.base, segment.base + segment.end
        copies = [position for position, copy in self._segments.moved.items() if first <= copy < end]
        ids = list(self._index.queues)
        for done in range(0, len(ids), QUEUES_PER_STEP):
            for queue_id in ids[done : done + QUEUES_PER_STEP]:
                self._find(segment, copies, queue_id, pins)
            if sum(map(len, pins.values())) > segment.live:
                return  # much has come and gone meanwhile: look again later
            yield
        payloads = self._payloads(segment, pins)
        if payloads is not None:
            self._move(segment, pins, payloads)

    def _find(self, segment: Segment, copies: list[int], queue_id: int, pins: Pins) -> None:
        entries = self._index.queues.get(queue_id)
        if entries is None or not entries.count:
            return
        for position in entries.between(segment.base, segment.base + segment.end):
            pins.setdefault(position, []).append(queue_id)
        for position in copies:
            if entries.offset_of(position) >= 0:
                pins.setdefault(position, []).append(queue_id)

    def _payloads(self, segment: Segment, pins: Pins) -> dict[int, bytes] | None:
        """Read what is to be moved; None if it is too much."""
        found: dict[int, bytes] = {}
        size = 0
        most = min(segment.end // MOVE_SHARE_MAX, MOVE_BYTES_MAX)
        for position in pins:
            try:
                payload = self._segments.payload(position)
            except (Damage, OSError):
                return None  # who consumes it is told; the segment stays as it is
            found[position] = payload
            size += HEADER_BYTES + len(payload)
            if size > most:
                return None
        return found

    def _move(self, segment: Segment, pins: Pins, payloads: dict[int, bytes]) -> None:
        queues = self._index.queues
        for position, payload in payloads.items():
            needed = [q for q in pins[position] if q in queues and queues[q].offset_of(position) >= 0]
            if not needed:
                continue
            copy = self._write(record.encode_moved(position, payload))
            self._segments.move(position, copy)
            self._segments.tail.live += len(needed)
            segment.live -= len(needed)
            segment.has_moved = True
            segment.needed_until = copy + 1
        log.info("%s: the %d messages that kept it were moved", segment.path, len(payloads))
