"""What a compacted stream keeps: of each key the last message.

A message replaces the one before it only once it is in the log: should the log not take it,
the old one stays. An empty message says that its key is gone; it stays for a day, so that
readers who were away learn of it, and then goes as well.

The keys are in memory, about 250 bytes for each, and are read from the log at the start.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

from .message import Message

#: Kafka's delete.retention.ms: who was away for longer reads the stream from its beginning
GRAVE_MS = 86_400_000


class Place(NamedTuple):
    """Where a key's last message is."""

    offset: int
    position: int
    size: int


class Compaction:
    """The last message of each key, in order of their offsets."""

    __slots__ = ("_fresh", "_graves", "_latest")

    def __init__(self) -> None:
        self._latest: OrderedDict[str, Place] = OrderedDict()
        self._fresh: list[tuple[str, Place | None, int]] = []  # what this turn has replaced, and by what
        self._graves: deque[tuple[int, str, int]] = deque()  # until when, key, offset

    def __len__(self) -> int:
        return len(self._latest)

    @property
    def replacing(self) -> bool:
        """Whether something has been replaced by what is not in the log yet."""
        return bool(self._fresh)

    def put(self, message: Message, place: Place, now_ms: int) -> Place | None:
        """A key has another message; return the one it replaces."""
        key = key_of(message)
        old = self._latest.pop(key, None)
        self._latest[key] = place
        self._fresh.append((key, old, place.position))
        if not message.body:
            self._graves.append((now_ms + GRAVE_MS, key, place.offset))
        return old

    def written(self) -> list[tuple[Place, int]]:
        """The turn is in the log: return what it has replaced, and the position of what has."""
        replaced = [(old, by) for _, old, by in self._fresh if old is not None]
        self._fresh = []
        return replaced

    def rolled_back(self) -> None:
        """The turn is not in the log: what it replaced is the last again."""
        if not self._fresh:
            return
        for key, old, _ in reversed(self._fresh):
            if old is None:
                self._latest.pop(key, None)
            else:
                self._latest[key] = old
        self._fresh = []
        self._latest = OrderedDict(sorted(self._latest.items(), key=_by_offset))
        self._graves = deque(grave for grave in self._graves if self._is_last(grave[1], grave[2]))

    def cut(self, first: int) -> None:
        """Everything below an offset is gone."""
        latest = self._latest
        while latest:
            key = next(iter(latest))
            if latest[key].offset >= first:
                break
            del latest[key]

    def bury(self, now_ms: int) -> list[Place]:
        """Keys that have been gone for long enough are replaced by nothing; return their places."""
        gone = []
        while self._graves and self._graves[0][0] <= now_ms:
            _, key, offset = self._graves.popleft()
            if self._is_last(key, offset):
                place = self._latest.pop(key)
                self._fresh.append((key, place, 0))
                gone.append(place)
        return gone

    def _is_last(self, key: str, offset: int) -> bool:
        place = self._latest.get(key)
        return place is not None and place.offset == offset

    def clear(self) -> None:
        """Nothing is left."""
        self._latest.clear()
        self._graves.clear()
        self._fresh = []


def key_of(message: Message) -> str:
    """Return what a compacted stream keeps only the last message of."""
    return message.properties.key or message.topic


def _by_offset(entry: tuple[str, Place]) -> int:
    return entry[1].offset
