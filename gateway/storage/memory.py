"""The in-memory engine: nothing survives, everything is "durable" at once.

For tests, and for gateways that only pass messages on. A message is dropped when every queue
it was appended for has settled it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gateway.core.engine import Extent, Recovery, StorageEngine, Stored, Trace
from gateway.core.errors import NotFound
from gateway.core.message import NO_PROPERTIES, Message, Origin, Outcome, Properties
from gateway.hookspecs import hookimpl

from .block import Place
from .index import QueueIndex


class _Held:
    __slots__ = ("message", "references", "stored_at_ms")

    def __init__(self, message: Message, references: int, stored_at_ms: int) -> None:
        self.message = message
        self.references = references
        self.stored_at_ms = stored_at_ms


class _Messages:
    """Implements `gateway.storage.block.Live`: what nobody refers to is gone."""

    def __init__(self) -> None:
        self.held: dict[int, _Held] = {}

    def add(self, positions: Sequence[int]) -> None:
        for position in positions:
            self.held[position].references += 1

    def release(self, positions: Sequence[int]) -> None:
        for position in positions:
            held = self.held.get(position)
            if held is not None:
                held.references -= 1
                if held.references <= 0:
                    del self.held[position]

    def span(self, first: int, last: int, change: int) -> bool:
        return False


class MemoryEngine:
    """Implements `gateway.core.engine.StorageEngine` with dictionaries."""

    def __init__(self) -> None:
        self._messages = _Messages()
        self._index = QueueIndex(self._messages)
        self._keys: dict[str, bytes] = {}
        self._position = 0

    def open(self, notify: Callable[[], None]) -> Recovery:
        return Recovery({}, [])

    def append(self, message: Message, queue_ids: Sequence[int], now_ms: int, sync: bool = True) -> int:
        self._position += 1
        if queue_ids:
            self._messages.held[self._position] = _Held(message, len(queue_ids), now_ms)
        self._index.add(queue_ids, self._position, len(message.body))
        return self._position

    def transact(
        self,
        messages: Sequence[tuple[Message, Sequence[int]]],
        settled: Sequence[tuple[int, Sequence[int]]],
        now_ms: int,
        at_once: bool = False,
        outcome: int = Outcome.ACK,
        cursors: Sequence[tuple[int, str, int]] = (),
    ) -> list[int]:
        positions = [self.append(message, ids, now_ms) for message, ids in messages]
        for queue_id, gone in settled:
            self._index.settle(queue_id, gone)
        for queue_id, group, offset in cursors:
            self._index.cursors[(queue_id, group)] = offset
        return positions

    def delivered(
        self,
        queue_id: int,
        positions: Sequence[int],
        tags: Sequence[int],
        consumer: Origin,
        group: str,
        now_ms: int,
    ) -> None:
        if not group:
            self._index.delivered(queue_id, positions, tags)

    def settle(self, queue_id: int, positions: Sequence[int], outcome: int, now_ms: int) -> None:
        self._index.settle(queue_id, positions)

    def returned(self, queue_id: int, position: int, outcome: int, now_ms: int) -> None:
        self._index.returned(queue_id, (position,), outcome)

    def cursor(self, queue_id: int, group: str, offset: int, now_ms: int) -> None:
        self._index.reached(queue_id, group, offset)

    def trim(self, queue_id: int, offset: int) -> None:
        first = self._index.of(queue_id).at(offset, 1)
        before, offset = (first[0][1], first[0][0]) if first else (self._position + 1, offset)
        self._index.trim(queue_id, before, offset, ())

    def purge(self, queue_id: int, keep: Sequence[int]) -> None:
        self._index.trim(queue_id, self._position + 1, -1, frozenset(keep))

    def drop_queue(self, queue_id: int) -> None:
        self._index.drop(queue_id)

    def read(self, position: int) -> Message:
        held = self._messages.held.get(position)
        if held is None:
            raise NotFound(f"no message at position {position}")
        return held.message

    def after(self, queue_id: int, position: int, count: int) -> list[Stored]:
        return self._load(queue_id, self._index.of(queue_id).after(position, count))

    def at(self, queue_id: int, offset: int, count: int) -> list[Stored]:
        return self._load(queue_id, self._index.of(queue_id).at(offset, count))

    def _load(self, queue_id: int, places: list[Place]) -> list[Stored]:
        tried = self._index.of(queue_id).tried or {}
        found = []
        for offset, position, size in places:
            held, attempt = self._messages.held[position], tried.get(position, 0)
            tag = attempt & 0xFFFFFFFF
            found.append(Stored(offset, position, held.message, size, attempt >> 32, tag, held.stored_at_ms))
        return found

    def due_times(self, queue_id: int, position: int, count: int) -> tuple[list[int], list[int]]:
        positions = [place[1] for place in self._index.of(queue_id).after(position, count)]
        held = self._messages.held
        return [held[p].message.properties.deliver_at_ms or 0 for p in positions], positions

    def extent(self, queue_id: int, after: int = 0) -> Extent:
        return self._index.of(queue_id).extent(after)

    def offset_at(self, queue_id: int, time_ms: int) -> int:
        entries = self._index.of(queue_id)
        for offset, position, _ in entries.after(0, entries.count):
            if self._messages.held[position].stored_at_ms >= time_ms:
                return offset
        return entries.extent().next

    def backup(self) -> None:
        return None

    def prepare_search(self) -> Callable[[], None] | None:
        return None

    def find(self, term: str, limit: int) -> list[int]:
        found = [p for p, held in self._messages.held.items() if term in _terms(held.message.properties)]
        return found[: -limit - 1 : -1]

    def stored_between(self, from_ms: int, to_ms: int, after: int, limit: int) -> tuple[list[int], int]:
        held = self._messages.held.items()
        found = [p for p, one in held if p > after and from_ms <= one.stored_at_ms < to_ms]
        return found[:limit], found[limit - 1] if len(found) > limit else 0

    def messages_after(self, position: int) -> Iterator[tuple[int, Message]]:
        held = self._messages.held.items()
        return iter(
            [
                (p, one.message)
                for p, one in held
                if p > position and one.message.properties is not NO_PROPERTIES
            ]
        )

    def history(self, position: int) -> Trace:
        held = self._messages.held.get(position)
        if held is None:
            raise NotFound(f"no message at position {position}: in memory only what waits is kept")
        waiting = [q for q, entries in self._index.queues.items() if entries.offset_of(position) >= 0]
        return Trace(position, held.message, held.stored_at_ms, tuple(waiting), [])

    def put(self, key: str, value: bytes) -> None:
        self._position += 1
        self._keys[key] = value

    def delete(self, key: str) -> None:
        if self._keys.pop(key, None) is not None:
            self._position += 1

    def get(self, key: str) -> bytes | None:
        return self._keys.get(key)

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((k, v) for k, v in self._keys.items() if k.startswith(prefix)))

    def flush(self) -> None:
        pass

    def failed_from(self) -> int:
        raise AssertionError("memory does not fail to be written")

    def forget_from(self, position: int) -> None:
        """Undo what was appended at or after a position: for engines made of this one that do fail."""
        self._index.forget_from(position)

    def position(self) -> int:
        return self._position

    def stored(self, position: int) -> bool | None:
        return True

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        call(True)

    def completed(self) -> None:
        pass

    def sweep(self, now_ms: int) -> None:
        pass

    def close(self) -> None:
        pass


def _terms(properties: Properties) -> tuple[str | None, ...]:
    return (properties.message_id, properties.key, *properties.keys)


@hookimpl
def gateway_storage_engines() -> Mapping[str, Callable[[Any], StorageEngine]]:
    """Offer the engine as `memory`."""
    return {"memory": lambda config: MemoryEngine()}
