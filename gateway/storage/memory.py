"""The in-memory engine: nothing survives, everything is "durable" at once.

For tests, and for gateways that only pass messages on. A message is dropped when every queue
it was appended for has settled it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gateway.core.engine import Recovery, StorageEngine
from gateway.core.errors import NotFound
from gateway.core.message import Message
from gateway.hookspecs import hookimpl


class MemoryEngine:
    """Implements `gateway.core.engine.StorageEngine` with dictionaries."""

    def __init__(self) -> None:
        self._messages: dict[int, tuple[Message, set[int]]] = {}
        self._keys: dict[str, bytes] = {}
        self._position = 0

    def open(self, notify: Callable[[], None]) -> Recovery:
        return Recovery({}, {}, [])

    def append(self, message: Message, queue_ids: Sequence[int], now_ms: int) -> int:
        self._position += 1
        self._messages[self._position] = (message, set(queue_ids))
        return self._position

    def delivered(self, queue_id: int, position: int, tag: int) -> None:
        pass

    def settle(self, queue_id: int, position: int, outcome: int) -> None:
        held = self._messages.get(position)
        if held is not None:
            held[1].discard(queue_id)
            if not held[1]:
                del self._messages[position]

    def cursor(self, queue_id: int, group: str, offset: int) -> None:
        pass

    def drop_queue(self, queue_id: int) -> None:
        for position in [p for p, (_, ids) in self._messages.items() if queue_id in ids]:
            self.settle(queue_id, position, 0)

    def read(self, position: int) -> Message:
        held = self._messages.get(position)
        if held is None:
            raise NotFound(f"no message at position {position}")
        return held[0]

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

    def position(self) -> int:
        return self._position

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        call(True)

    def completed(self) -> None:
        pass

    def close(self) -> None:
        pass


@hookimpl
def gateway_storage_engines() -> Mapping[str, Callable[[Any], StorageEngine]]:
    """Offer the engine as `memory`."""
    return {"memory": lambda config: MemoryEngine()}
