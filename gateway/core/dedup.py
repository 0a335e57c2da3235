"""Publishing once: idempotency keys within a window.

A key that was seen answers with the position of the first publish, which may still be on
its way to the disk: the duplicate is acknowledged when the original is. Keys live in the
metadata store too, so that a retry after a restart is still a duplicate.
"""

from __future__ import annotations

from .clock import Clock
from .engine import StorageEngine

WINDOW_MS = 10 * 60 * 1000  # HTTP clients retry for minutes, not hours
KEYS_MAX = 1_000_000  # about 200 MB; the oldest go first
PREFIX = "dedup/"


class Dedup:
    """Idempotency keys in order of arrival."""

    __slots__ = ("_clock", "_engine", "_seen")

    def __init__(self, engine: StorageEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._seen: dict[str, tuple[int, int, str]] = {}  # key -> (expires_at_ms, position, id)

    def restore(self) -> None:
        """Read the keys of the last run."""
        found: list[tuple[int, str, str]] = []
        for name, value in list(self._engine.scan(PREFIX)):
            expires, _, message_id = value.decode().partition(" ")
            if int(expires) <= self._clock.now_ms:
                self._engine.delete(name)
            else:
                found.append((int(expires), name[len(PREFIX) :], message_id))
        for expires_at_ms, key, message_id in sorted(found):  # the engine's order is by name, ours by arrival
            self._seen[key] = (expires_at_ms, 0, message_id)

    def seen(self, key: str) -> tuple[int, str] | None:
        """Return (position, message id) of the first publish under this key, or None."""
        found = self._seen.get(key)
        if found is None or found[0] <= self._clock.now_ms:
            return None
        return (found[1], found[2])

    def remember(self, key: str, position: int, message_id: str) -> int:
        """Note a publish; return the position to wait for so that the key is durable too."""
        self.prune()
        expires = self._clock.now_ms + WINDOW_MS
        self._engine.put(PREFIX + key, f"{expires} {message_id}".encode())
        durable_at = max(position, self._engine.position())
        self._seen[key] = (expires, durable_at, message_id)
        return durable_at

    def forget(self, key: str) -> None:
        """Take a key back, because its message was not stored."""
        if self._seen.pop(key, None) is not None:
            self._engine.delete(PREFIX + key)

    def prune(self) -> None:
        """Forget what has expired, oldest first, and what is over the limit."""
        now_ms = self._clock.now_ms
        while self._seen:
            key = next(iter(self._seen))
            if self._seen[key][0] > now_ms and len(self._seen) < KEYS_MAX:
                return
            self.forget(key)
