"""What a log keeps, read without touching it: keys, cursors, and the messages that queues need.

Not beside a running gateway: files would go while they are read. Its backups can be read.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gateway.core.errors import StorageError
from gateway.core.message import Message

from . import record
from .files import ReadOnly
from .recovery import Recovered, recover
from .segment import Damage


class Place(NamedTuple):
    """Where a message waits, or is kept."""

    queue_id: int
    offset: int
    attempts: int


class Kept(NamedTuple):
    """A message that is needed."""

    position: int
    stored_at_ms: int
    message: Message
    places: list[Place]


class Contents:
    """Of one data directory. Raise StorageError if it cannot be read."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "log").is_dir() or not (directory / "index").is_dir():
            raise StorageError(f"{directory}: there is no log here")
        logging.getLogger("gateway.storage").setLevel(logging.ERROR)  # that nothing is written is as wanted
        files = ReadOnly()
        self._files = files
        self._lock = -1
        try:
            if (directory / "lock").exists():  # a backup has none yet
                self._lock = files.lock(directory / "lock")
            self._found: Recovered = recover(files, directory / "log", directory / "index", 0)
        except BlockingIOError:
            raise StorageError(f"{directory}: a gateway is using it; take a backup and read that") from None
        except OSError as error:
            raise StorageError(f"{error.filename or directory}: {error.strerror}") from error
        state = self._found.state
        self.remarks = self._found.remarks
        self.mark = state.mark
        self.end = state.position
        self.keys = state.keys
        self.cursors = state.index.cursors

    def close(self) -> None:
        """Release the files. Idempotent."""
        self._found.close()
        if self._lock >= 0:
            self._files.close(self._lock)
            self._lock = -1

    def position_of(self, queue_id: int, offset: int) -> int:
        """Return the position of a queue's first message at an offset or after it; `end` if there is none."""
        entries = self._found.state.index.queues.get(queue_id)
        found = entries.at(offset, 1) if entries is not None else []
        return found[0][1] if found else self.end

    def messages(self, after: int = 0) -> Iterator[Kept]:
        """Yield what queues need, by position, after one. What cannot be read is passed over."""
        segments = self._found.segments
        moved = deque(sorted(position for position in segments.moved if position > after))
        for segment in segments:
            if segment.live <= 0:
                continue
            for position, payload in segments.scan(segment.base, segment.base + segment.end):
                if position <= after or payload[0] != record.MESSAGE or position in segments.moved:
                    continue
                while moved and moved[0] < position:
                    yield from self._moved(moved.popleft())
                yield from self._kept(position, payload)
        while moved:
            yield from self._moved(moved.popleft())

    def _moved(self, position: int) -> Iterator[Kept]:
        try:
            yield from self._kept(position, self._found.segments.payload(position))
        except (Damage, OSError):
            return

    def _kept(self, position: int, payload: bytes) -> Iterator[Kept]:
        places = []
        for queue_id in record.message_facts(payload)[0]:
            entries = self._found.state.index.queues.get(queue_id)
            offset = entries.offset_of(position) if entries is not None else -1
            if entries is not None and offset >= 0:
                attempts = (entries.tried or {}).get(position, 0) >> 32
                places.append(Place(queue_id, offset, attempts))
        if places:
            yield Kept(position, record.stored_at_ms(payload), record.decode_message(payload), places)
