"""Retained messages: the last one per topic that was published to be kept.

A tree of levels, so that a wildcard filter visits only branches that can match. Each is
also an entry of the reserved durable queue `RETAINED_QUEUE_ID`, settled when it is replaced:
that is how it survives a restart, without a second copy in the log.
"""

from __future__ import annotations

from .message import Message

RETAINED_QUEUE_ID = 1  # ids of ordinary queues start above


class _Level:
    __slots__ = ("below", "message", "position")

    def __init__(self) -> None:
        self.below: dict[str, _Level] | None = None
        self.message: Message | None = None
        self.position = 0


class Retained:
    """All retained messages, in memory."""

    __slots__ = ("_expiring", "_root", "_undo", "count")

    def __init__(self) -> None:
        self._root = _Level()
        self._undo: list[tuple[str, Message | None, int]] = []  # what this turn has replaced
        self.count = 0
        self._expiring = 0  # of these have a time

    def set(self, message: Message, position: int) -> tuple[Message | None, int]:
        """Keep a message as its topic's; return what it replaced (None, 0: nothing)."""
        level = self._root
        for name in message.topic.split("/"):
            if level.below is None:
                level.below = {}
            level = level.below.setdefault(name, _Level())
        replaced = (level.message, level.position)
        self.count += replaced[0] is None
        self._expiring += (message.expires_at_ms > 0) - _has_time(replaced[0])
        level.message, level.position = message, position
        return replaced

    def replace(self, message: Message, position: int) -> tuple[Message | None, int]:
        """Keep a message, or clear its topic if it is empty [MQTT-3.3.1-6]; return what was there."""
        replaced = self.set(message, position) if message.body else self.clear(message.topic)
        self._undo.append((message.topic, *replaced))
        return replaced

    def undo(self) -> None:
        """The turn's batch could not be written: put back what it replaced."""
        for topic, message, position in reversed(self._undo):
            if message is None:
                self.clear(topic)
            else:
                self.set(message, position)
        self._undo = []

    def keep(self) -> None:
        """The turn's batch is written: what it replaced need not be remembered."""
        if self._undo:
            self._undo = []

    def get(self, topic: str) -> Message | None:
        """Return the retained message of one topic."""
        level: _Level | None = self._root
        for name in topic.split("/"):
            level = level.below.get(name) if level is not None and level.below else None
        return level.message if level is not None else None

    def clear(self, topic: str) -> tuple[Message | None, int]:
        """Forget a topic's message; return it and its position (None, 0: there was none)."""
        path = [self._root]
        names = topic.split("/")
        for name in names:
            below = path[-1].below
            if not below or name not in below:
                return (None, 0)
            path.append(below[name])
        leaf = path[-1]
        if leaf.message is None:
            return (None, 0)
        removed = (leaf.message, leaf.position)
        leaf.message, leaf.position = None, 0
        self.count -= 1
        self._expiring -= _has_time(removed[0])
        for depth in range(len(names), 0, -1):
            if path[depth].below or path[depth].message is not None:
                break
            below = path[depth - 1].below
            assert below is not None
            del below[names[depth - 1]]
        return removed

    def match(self, topic_filter: str, now_ms: int) -> list[Message]:
        """Return the retained messages a filter matches, without the expired, sorted by topic."""
        found: list[Message] = []
        _collect(self._root, topic_filter.split("/"), 0, found)
        found = [m for m in found if not m.expires_at_ms or m.expires_at_ms > now_ms]
        found.sort(key=_by_topic)
        return found

    def expired(self, now_ms: int) -> list[str]:
        """Return the topics whose message has expired."""
        if not self._expiring:
            return []
        found: list[Message] = []
        _collect_all(self._root, found)
        return [m.topic for m in found if m.expires_at_ms and m.expires_at_ms <= now_ms]

    def all(self) -> list[Message]:
        """Return every retained message, `$` topics included."""
        found: list[Message] = []
        _collect_all(self._root, found)
        return found


def _has_time(message: Message | None) -> bool:
    return message is not None and message.expires_at_ms > 0


def _by_topic(message: Message) -> str:
    return message.topic


def _collect(level: _Level, pattern: list[str], depth: int, found: list[Message]) -> None:
    if depth == len(pattern):
        if level.message is not None:
            found.append(level.message)
        return
    wanted = pattern[depth]
    if wanted == "#" and depth and level.message is not None:
        found.append(level.message)  # "a/#" matches "a"
    if not level.below:
        return
    if wanted not in ("+", "#"):
        child = level.below.get(wanted)
        if child is not None:
            _collect(child, pattern, depth + 1, found)
        return
    for name, child in level.below.items():
        if depth == 0 and name.startswith("$"):
            continue  # [MQTT-4.7.2-1]
        if wanted == "#":
            _collect_all(child, found)
        else:
            _collect(child, pattern, depth + 1, found)


def _collect_all(level: _Level, found: list[Message]) -> None:
    if level.message is not None:
        found.append(level.message)
    if level.below:
        for child in level.below.values():
            _collect_all(child, found)
