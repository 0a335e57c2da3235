"""Trails: what a segment has about which message, so that one can be found again.

For every segment there is one: `terms` (message ids, search keys, ordering keys) lead to
messages, `spans` to the journal's records about positions of a queue, `times` to what was
stored when. It grows with the segment and is written beside the index when that is full:
DATA/index/<first position>.trail. Nothing depends on it: a missing or damaged one is made
again from its segment.

Terms are kept as crc32 << 32 | offset, sorted in runs; whoever looks one up reads the message
to see whether it is meant. A span covers up to `SPAN_RECORDS` records of one queue, from the
first to the last, and the positions (or offsets, for cursors) they speak of.
"""

from __future__ import annotations

import mmap
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from sys import byteorder
from typing import Final
from zlib import crc32

from gateway.core import deadletter
from gateway.core.message import NO_PROPERTIES, Properties

from . import record
from .files import Files, replace
from .record import column
from .segment import SEGMENT_HEADER_BYTES, Segment

SUFFIX: Final = ".trail"
RUN_TERMS: Final = 4096  # sorted in half a millisecond
SPAN_RECORDS: Final = 32  # read and decoded in a fraction of a millisecond
TIME_BYTES: Final = 64 << 10  # of log between two marks of time
EVERYTHING: Final = (1 << 63) - 1

_HEADER: Final = Struct("<6sHQQIIII")  # magic, version, base, covered, terms, spans, times, crc32 of the rest
_MAGIC: Final = b"GWTRL\0"
_VERSION: Final = 1
_SPAN_WORDS: Final = 5  # queue | cursor flag << 32, first, last (offsets in the segment), low, high
_CURSORS: Final = 1 << 32

#: (queue, group) -> how far it had come; group "": what the queue had let go
Past = dict[tuple[int, str], int]


class Trail:
    """One segment's, in memory. `begun` is the offset from which on it knows everything."""

    __slots__ = ("_open", "_past", "_run", "base", "begun", "runs", "spans", "times")

    def __init__(self, base: int, begun: int = SEGMENT_HEADER_BYTES) -> None:
        self.base = base
        self.begun = begun
        self.runs: list[array[int]] = []
        self._run: array[int] = array("Q")
        self.spans: array[int] = array("Q")
        self._open: dict[int, list[int]] = {}  # queue and flag -> records, first, last, low, high
        self._past: Past = {}
        self.times: array[int] = array("Q")  # pairs: stored at (ms), offset

    # -- growing ------------------------------------------------------------------------------

    def message(self, properties: Properties, position: int) -> None:
        """A message with properties is at a position."""
        for term in terms_of(properties):
            self._run.append(hash_of(term) << 32 | (position - self.base))
            if len(self._run) >= RUN_TERMS:
                self.runs.append(array("Q", sorted(self._run)))
                self._run = array("Q")

    def time(self, now_ms: int, position: int) -> None:
        """What comes from a position on was stored at this time or later."""
        offset = position - self.base
        if not self.times or offset >= self.times[-1] + TIME_BYTES:
            self.times.extend((max(0, now_ms), offset))

    def journal(self, payload: bytes, position: int) -> None:
        """A record of the journal is at a position; those of other kinds are fine."""
        if payload[0] == record.MOVED:
            raw = record.raw_properties(record.decode_moved(payload)[1])
            self.message(record.decode_properties(raw) if raw else NO_PROPERTIES, position)
            return
        note = _NOTES.get(payload[0])
        if note is not None:
            queue, low, high = note(payload, self._past)
            self._note(queue, position - self.base, low, high)

    def _note(self, queue: int, offset: int, low: int, high: int) -> None:
        span = self._open.get(queue)
        if span is None:
            self._open[queue] = [1, offset, offset, low, high]
            return
        span[0] += 1
        span[2] = offset
        span[3], span[4] = min(span[3], low), max(span[4], high)
        if span[0] >= SPAN_RECORDS:
            self.spans.extend((queue, *span[1:]))
            del self._open[queue]

    def close(self) -> None:
        """Nothing more comes."""
        for queue, span in self._open.items():
            self.spans.extend((queue, *span[1:]))
        self._open.clear()
        if self._run:
            self.runs.append(array("Q", sorted(self._run)))
            self._run = array("Q")

    def after(self, earlier: TrailFile) -> Trail:
        """Return one trail of an earlier part of the segment and this."""
        self.close()
        both = Trail(self.base, SEGMENT_HEADER_BYTES)
        both.runs = [*(array("Q", run) for run in earlier.runs), *self.runs]
        both.spans = array("Q", earlier.spans) + self.spans
        both.times = array("Q", earlier.times) + self.times
        return both

    # -- looking ------------------------------------------------------------------------------

    def offsets_of(self, term: str) -> list[int]:
        """Return offsets of messages that may have a term."""
        wanted = hash_of(term)
        found = [packed & 0xFFFFFFFF for packed in self._run if packed >> 32 == wanted]
        for run in self.runs:
            found += _in_run(run, wanted)
        return found

    def regions(self, queue_id: int, number: int, cursors: bool) -> list[tuple[int, int]]:
        """Return pairs of offsets: from the first to the last, records of a queue may speak of a position.

        With `cursors`: of its groups, and an offset in the queue.
        """
        key = queue_id | _CURSORS if cursors else queue_id
        found = [(s[1], s[2]) for q, s in self._open.items() if q == key and s[3] <= number <= s[4]]
        return found + _in_spans(self.spans, key, number)

    def offset_at(self, time_ms: int) -> int:
        """Return an offset before which nothing was stored at that time or later."""
        return _in_times(self.times, time_ms)

    # -- file ---------------------------------------------------------------------------------

    def content(self, covered: int) -> bytes:
        """Return the file's content; it covers the segment up to an offset."""
        self.close()
        terms = b"".join(column("Q", run) for run in self.runs)
        sizes = column("Q", [len(run) for run in self.runs])
        body = b"".join((sizes, terms, column("Q", self.spans), column("Q", self.times)))
        counts = (len(self.runs), len(self.spans), len(self.times))
        return _HEADER.pack(_MAGIC, _VERSION, self.base, covered, *counts, crc32(body)) + body


class TrailFile:
    """The same, on file: mapped into memory, not read."""

    __slots__ = ("_map", "_words", "base", "covered", "runs", "spans", "times")

    def __init__(self, path: Path) -> None:
        """Raise OSError if there is none, ValueError if it is damaged or of another version."""
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._map) < _HEADER.size:
            raise ValueError("too short")
        if byteorder != "little":
            raise ValueError("words in another order than this machine's")
        magic, version, self.base, self.covered, runs, spans, times, checksum = _HEADER.unpack_from(self._map)
        if (magic, version) != (_MAGIC, _VERSION) or crc32(memoryview(self._map)[_HEADER.size :]) != checksum:
            raise ValueError("damaged")
        words = self._words = memoryview(self._map)[_HEADER.size :].cast("Q")
        self.runs = []
        at = runs
        for size in words[:runs]:
            self.runs.append(words[at : at + size])
            at += size
        self.spans = words[at : at + spans]
        self.times = words[at + spans : at + spans + times]

    def offsets_of(self, term: str) -> list[int]:
        """As `Trail.offsets_of`."""
        wanted = hash_of(term)
        return [offset for run in self.runs for offset in _in_run(run, wanted)]

    def regions(self, queue_id: int, number: int, cursors: bool) -> list[tuple[int, int]]:
        """As `Trail.regions`."""
        return _in_spans(self.spans, queue_id | _CURSORS if cursors else queue_id, number)

    def offset_at(self, time_ms: int) -> int:
        """As `Trail.offset_at`."""
        return _in_times(self.times, time_ms)


def terms_of(properties: Properties) -> Iterator[str]:
    """Yield what a message can be found by."""
    if properties is NO_PROPERTIES:
        return
    if properties.message_id:
        yield properties.message_id
    if properties.key:
        yield properties.key
    yield from properties.keys
    if properties.native_headers and _POSITION not in (properties.native or b""):
        return  # they are not read for this
    for name, value in properties.headers:
        if name == deadletter.POSITION and isinstance(value, int):
            yield f"@{value}"


_POSITION: Final = deadletter.POSITION.encode()


def hash_of(term: str) -> int:
    """Return the 32 bits by which a term is indexed."""
    return crc32(term.encode("utf-8", "surrogatepass"))


def rebuilt(segment: Segment, begin: int, end: int) -> Trail:
    """Return the trail of a part of a segment, from its records. Raise OSError."""
    trail = Trail(segment.base, begin)
    for offset, payload in segment.records(begin, end):
        position = segment.base + offset
        if payload[0] == record.MESSAGE:
            trail.time(record.stored_at_ms(payload), position)
            if raw := record.raw_properties(payload):
                trail.message(record.decode_properties(raw), position)
        else:
            trail.journal(payload, position)
    return trail


def write(files: Files, directory: Path, trail: Trail, covered: int) -> None:
    """Write a trail's file. Not synced: a torn one is found out and made again. Raise OSError."""
    replace(files, directory / f"{trail.base:020}{SUFFIX}", trail.content(covered), sync=False)


def _in_run(run: array[int] | memoryview, wanted: int) -> list[int]:
    found = []
    index = bisect_left(run, wanted << 32)
    while index < len(run) and run[index] >> 32 == wanted:
        found.append(run[index] & 0xFFFFFFFF)
        index += 1
    return found


def _in_spans(spans: array[int] | memoryview, key: int, number: int) -> list[tuple[int, int]]:
    found = []
    for index in range(0, len(spans), _SPAN_WORDS):
        if spans[index] == key and spans[index + 3] <= number <= spans[index + 4]:
            found.append((spans[index + 1], spans[index + 2]))
    return found


def _in_times(times: array[int] | memoryview, time_ms: int) -> int:
    found = SEGMENT_HEADER_BYTES
    for index in range(0, len(times), 2):
        if times[index] >= time_ms:
            break
        found = times[index + 1]
    return found


def _settled(payload: bytes, past: Past) -> tuple[int, int, int]:
    queue_id, _, _, positions = record.decode_settle(payload)
    return queue_id, min(positions, default=0), max(positions, default=0)


def _delivered(payload: bytes, past: Past) -> tuple[int, int, int]:
    entry = record.decode_delivered(payload)
    return entry.queue_id, min(entry.positions, default=0), max(entry.positions, default=0)


def _trimmed(payload: bytes, past: Past) -> tuple[int, int, int]:
    queue_id, before, _, _ = record.decode_trim(payload)
    low, past[(queue_id, "")] = past.get((queue_id, ""), 0), before
    return queue_id, min(low, before), before


def _moved_on(payload: bytes, past: Past) -> tuple[int, int, int]:
    queue_id, group, offset, _ = record.decode_cursor(payload)
    if offset < 0:
        low = past.pop((queue_id, group), 0)
        return queue_id | _CURSORS, low, low
    low, past[(queue_id, group)] = past.get((queue_id, group), 0), offset
    return queue_id | _CURSORS, min(low, offset), offset


def _dropped(payload: bytes, past: Past) -> tuple[int, int, int]:
    return record.decode_drop_queue(payload), 0, EVERYTHING


_NOTES: Final = {
    record.SETTLE: _settled,
    record.RETURNED: _settled,
    record.DELIVERED: _delivered,
    record.TRIM: _trimmed,
    record.CURSOR: _moved_on,
    record.DROP_QUEUE: _dropped,
}
