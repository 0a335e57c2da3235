"""A turn's journal: who was handed what, what was settled, how far groups have come.

Entries are kept in the order they were made and become records when the turn's batch is
written, after the messages they speak of; one of the same kind as its predecessor joins it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.storage.index import QueueIndex

from . import record


class _Settled:
    __slots__ = ("kind", "now_ms", "outcome", "positions", "queue_id")

    def __init__(self, kind: int, queue_id: int, outcome: int, now_ms: int, positions: Sequence[int]) -> None:
        self.kind = kind
        self.queue_id = queue_id
        self.outcome = outcome
        self.now_ms = now_ms
        self.positions = list(positions)


class Journal:
    """What is not in the batch yet."""

    __slots__ = ("_cursors", "_entries", "_index", "_last")

    def __init__(self, index: QueueIndex) -> None:
        self._index = index
        self._entries: list[_Settled | record.Delivered] = []
        self._last: _Settled | None = None  # that the next one may join
        self._cursors: dict[tuple[int, str], tuple[int, int]] = {}  # (queue, group) -> offset, time

    def __bool__(self) -> bool:
        return bool(self._entries or self._cursors)

    def delivered(self, entry: record.Delivered) -> None:
        """A queue has handed messages out."""
        self._entries.append(entry)
        self._last = None

    def settle(self, kind: int, queue_id: int, outcome: int, now_ms: int, positions: Sequence[int]) -> None:
        """A queue is done with messages (SETTLE) or has them back (RETURNED)."""
        last = self._last
        if last is not None and last.queue_id == queue_id and last.outcome == outcome and last.kind == kind:
            last.positions.extend(positions)
            return
        last = self._last = _Settled(kind, queue_id, outcome, now_ms, positions)
        self._entries.append(last)

    def cursor(self, queue_id: int, group: str, offset: int, now_ms: int) -> None:
        """A group has come so far, or is gone."""
        self._index.reached(queue_id, group, offset)
        self._cursors[(queue_id, group)] = (offset, now_ms)

    def drop(self, queue_id: int) -> None:
        """A queue is gone: what was to be written about it need not be."""
        self._entries = [entry for entry in self._entries if entry.queue_id != queue_id]
        self._last = None
        for key in [key for key in self._cursors if key[0] == queue_id]:
            del self._cursors[key]

    def pack(self, add: Callable[[bytes], int]) -> None:
        """Make records, and have the index know what they say."""
        entries, self._entries, self._last = self._entries, [], None
        for entry in entries:
            if isinstance(entry, _Settled):
                if entry.kind == record.SETTLE:
                    self._index.settle(entry.queue_id, entry.positions)
                else:
                    self._index.returned(entry.queue_id, entry.positions, entry.outcome)
                add(
                    record.encode_settle(
                        entry.kind, entry.queue_id, entry.outcome, entry.now_ms, entry.positions
                    )
                )
            else:
                if not entry.group:
                    self._index.delivered(entry.queue_id, entry.positions, entry.tags)
                add(record.encode_delivered(*entry))
        cursors, self._cursors = self._cursors, {}
        for (queue_id, group), (offset, now_ms) in cursors.items():
            add(record.encode_cursor(queue_id, group, offset, now_ms))
