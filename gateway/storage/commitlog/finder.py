"""Finding messages again, and what the journal says about one.

A look goes through the trails of all segments, newest first for terms, from the message's own
on for its history, and reads from the log only the records they point to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gateway.core.engine import Event, Trace

from . import record, trail
from .files import Files
from .loading import message_payload
from .segment import SEGMENT_HEADER_BYTES, Damage, Segment
from .segments import Segments
from .trail import Trail, TrailFile

LOOKED_AT_MAX: Final = 10_000  # messages that one look by time reads at most: some 30 ms
TRAILS_MAX: Final = 256  # in memory or mapped: each is a descriptor, of which connections need many
CLOCK_SLACK_MS: Final = 60_000  # how far the clock may have been set back between two messages

log = logging.getLogger("gateway.storage")


class Finder:
    """The trails of a log. `current` grows with the segment that is written to."""

    def __init__(self, files: Files, directory: Path, segments: Segments, begun: int) -> None:
        self._files = files
        self._directory = directory
        self._segments = segments
        self._trails: dict[int, list[Trail | TrailFile]] = {}  # of segments that were asked about
        tail = segments.tail
        self.current = Trail(tail.base, max(SEGMENT_HEADER_BYTES, begun - tail.base))

    def close(self) -> None:
        """Let go of the trails' files."""
        self._trails.clear()

    # -- growing ------------------------------------------------------------------------------

    def begin(self, base: int) -> None:
        """Another segment is written to from now on."""
        self.finish()
        self.current = Trail(base)

    def finish(self) -> None:
        """Put the current trail on file."""
        self._trails.pop(self.current.base, None)
        segment = self._segments.holding(self.current.base)
        if segment is None or segment.descriptor < 0 or segment.base != self.current.base:
            return  # it never was made
        made = self.current
        if made.begun > SEGMENT_HEADER_BYTES:
            earlier = self._file(segment)
            if earlier is None or earlier.covered != made.begun:
                return  # its beginning is not known: whoever asks has it made from the log
            made = made.after(earlier)
        self._keep(segment, made)

    def forget(self, base: int) -> None:
        """A segment was deleted."""
        self._trails.pop(base, None)
        try:
            self._files.remove(self._directory / f"{base:020}{trail.SUFFIX}")
        except OSError as error:
            log.warning("the trail of a deleted segment stays: %s", error)

    # -- looking ------------------------------------------------------------------------------

    def find(self, term: str, limit: int) -> list[int]:
        """Return positions of messages with that id or key, newest first."""
        found: list[int] = []
        for segment in self._newest_first():
            offsets = {offset for part in self._of(segment) for offset in part.offsets_of(term)}
            for offset in sorted(offsets, reverse=True):
                payload = self._record(segment, offset)
                if payload is None:
                    continue
                position = segment.base + offset
                if payload[0] == record.MOVED:
                    position, payload = record.decode_moved(payload)
                if payload[0] != record.MESSAGE:
                    continue
                raw = record.raw_properties(payload)
                if raw and term in trail.terms_of(record.decode_properties(raw)):
                    found.append(position)
            if len(found) >= limit:
                break
        return found[:limit]

    def preparation(self) -> Callable[[], None] | None:
        """Return what makes the trails that are missing; None if there are all."""
        missing = [segment for segment in self._segments if segment.base not in self._trails]
        if not missing:
            return None

        def prepare() -> None:
            for segment in missing:
                try:
                    self._of(segment)
                except (OSError, Damage) as error:
                    log.info("%s could not be looked through: %s", segment.path, error)

        return prepare

    def stored_between(self, from_ms: int, to_ms: int, after: int, limit: int) -> tuple[list[int], int]:
        """Return positions of messages stored between two times, and where to go on (0: no more)."""
        found: list[int] = []
        looked_at = 0
        for segment in self._segments:
            if segment.base + segment.end <= after:
                continue
            start = max((part.offset_at(from_ms) for part in self._of(segment)), default=0)
            for offset, payload in segment.records(max(start, after - segment.base), segment.end):
                position = segment.base + offset
                if payload[0] != record.MESSAGE or position <= after:
                    continue
                looked_at += 1
                stored_at_ms = record.stored_at_ms(payload)
                if from_ms <= stored_at_ms < to_ms:
                    found.append(position)
                if len(found) >= limit or looked_at >= LOOKED_AT_MAX:
                    return found, position
                if stored_at_ms >= to_ms + CLOCK_SLACK_MS:
                    return found, 0
        return found, 0

    def history(self, position: int, offset_in: Callable[[int], int]) -> Trace:
        """Return a message and what became of it. Raise NotFound.

        `offset_in` tells its offset in a queue, -1 if it is not known any more.
        """
        payload = message_payload(self._segments, position)
        ids, _, stored_at_ms = record.message_facts(payload)
        events: list[Event] = []
        for queue_id in ids:
            offset = offset_in(queue_id)
            for found, journal in self._journal(queue_id, position, offset):
                events += _events(journal, queue_id, position, offset, found)
        events.sort(key=_by_position)
        return Trace(position, record.decode_message(payload), stored_at_ms, ids, events)

    def _journal(self, queue_id: int, position: int, offset: int) -> Iterator[tuple[int, bytes]]:
        for segment in self._segments:
            if segment.base + segment.end <= position:
                continue
            regions: set[tuple[int, int]] = set()
            for part in self._of(segment):
                regions.update(part.regions(queue_id, position, False))
                if offset >= 0:
                    regions.update(part.regions(queue_id, offset, True))
            done = SEGMENT_HEADER_BYTES
            for first, last in sorted(regions):
                for at, payload in segment.records(max(first, done), last + 1):
                    yield segment.base + at, payload
                done = max(done, last + 1)

    def _record(self, segment: Segment, offset: int) -> bytes | None:
        try:
            return segment.read(segment.base + offset)
        except (Damage, OSError):
            return None

    def _newest_first(self) -> Iterator[Segment]:
        return iter(list(self._segments)[::-1])

    def _of(self, segment: Segment) -> list[Trail | TrailFile]:
        """Return what together is the trail of a segment; make what is missing."""
        is_current = segment.base == self.current.base
        parts = self._trails.pop(segment.base, None)
        if parts is None:
            parts = self._before(segment, self.current.begun if is_current else segment.end)
        self._trails[segment.base] = parts  # the last to be let go
        if len(self._trails) > TRAILS_MAX:
            oldest, *_ = self._trails  # not by an iterator: a thread that prepares may be here, too
            self._trails.pop(oldest, None)
        return [*parts, self.current] if is_current else parts

    def _before(self, segment: Segment, end: int) -> list[Trail | TrailFile]:
        """Return the trail of a segment up to an offset: from its file, the rest from its records."""
        if end <= SEGMENT_HEADER_BYTES:
            return []
        parts: list[Trail | TrailFile] = []
        covered = SEGMENT_HEADER_BYTES
        found = self._file(segment)
        if found is not None:
            parts.append(found)
            covered = found.covered
        if covered < end:
            rest = trail.rebuilt(segment, covered, end)
            if found is None and segment.base != self.current.base:
                self._keep(segment, rest)
            parts.append(rest)
        return parts

    def _file(self, segment: Segment) -> TrailFile | None:
        try:
            found = TrailFile(self._directory / f"{segment.base:020}{trail.SUFFIX}")
        except (OSError, ValueError):
            return None
        return found if found.base == segment.base and found.covered <= segment.end else None

    def _keep(self, segment: Segment, made: Trail) -> None:
        try:
            trail.write(self._files, self._directory, made, segment.end)
        except OSError as error:
            log.warning("the trail of %s is not kept: %s", segment.path, error)


def _events(payload: bytes, queue_id: int, position: int, offset: int, found: int) -> Iterator[Event]:
    """Yield what a record says about a message."""
    kind = payload[0]
    if kind in (record.SETTLE, record.RETURNED):
        queue, outcome, now_ms, positions = record.decode_settle(payload)
        if queue == queue_id and position in positions:
            what = "settled" if kind == record.SETTLE else "returned"
            yield Event(found, what, queue_id, now_ms, outcome=outcome)
    elif kind == record.DELIVERED:
        entry = record.decode_delivered(payload)
        if entry.queue_id == queue_id and position in entry.positions:
            yield Event(found, "delivered", queue_id, entry.now_ms, entry.consumer, entry.group)
    elif kind == record.CURSOR:
        queue, group, reached, now_ms = record.decode_cursor(payload)
        if queue == queue_id and 0 <= offset < reached:
            yield Event(found, "passed", queue_id, now_ms, group=group)
    elif kind == record.TRIM:
        queue, before, first, keep = record.decode_trim(payload)
        if queue == queue_id and position < before and position not in keep and found > position:
            yield Event(found, "purged" if first < 0 else "trimmed", queue_id, 0)
    elif kind == record.DROP_QUEUE and record.decode_drop_queue(payload) == queue_id:
        yield Event(found, "queue deleted", queue_id, 0)


def _by_position(event: Event) -> int:
    return event.position
