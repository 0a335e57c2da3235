"""What every storage engine must do, whatever it is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.core.engine import StorageEngine
from gateway.core.errors import NotFound
from gateway.core.message import Message, Origin, Properties
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine

Make = Callable[[], StorageEngine]

ENGINES: dict[str, Callable[[Path], StorageEngine]] = {
    "memory": lambda path: MemoryEngine(),
    "commitlog": lambda path: CommitLog(path / "data"),
    "commitlog, tiny segments": lambda path: CommitLog(path / "data", segment_bytes=300),
}

NOW_MS = 1_700_000_000_000
ORIGIN = Origin("test", "user", "client", "peer:1")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageEngine]:
    made = ENGINES[request.param](tmp_path)
    recovery = made.open(lambda: None)
    assert recovery.cursors == {}
    assert recovery.remarks == []
    yield made
    made.close()


def message(body: bytes = b"body", topic: str = "a/b", **fields: object) -> Message:
    return Message(topic, body, 1, origin=ORIGIN, **fields)  # type: ignore[arg-type]


def wait_durable(engine: StorageEngine, position: int) -> bool:
    """Flush and wait for one position; return what the engine said."""
    said: list[bool] = []
    engine.when_durable(position, said.append)
    engine.flush()
    deadline = time.monotonic() + 10
    while not said:
        assert time.monotonic() < deadline, "never became durable"
        engine.completed()
    return said[0]


def test_positions_are_positive_and_grow(engine: StorageEngine) -> None:
    positions = [engine.append(message(bytes(n)), (2,), NOW_MS) for n in range(20)]
    assert positions[0] > 0
    assert positions == sorted(set(positions))


def test_a_message_is_read_back_before_and_after_the_flush(engine: StorageEngine) -> None:
    properties = Properties(
        content_type="text/plain",
        correlation=b"\0\xff",
        keys=("k1", "k2"),
        priority=3,
        headers=(
            ("i", 1),
            ("f", 0.5),
            ("b", True),
            ("raw", b"\0"),
            ("n", None),
            ("l", [1, "x"]),
            ("m", {"k": 2}),
        ),
        native=b"\x01\x02",
        native_format="mqtt5",
    )
    sent = message(properties=properties, retain=True, timestamp_ms=5, expires_at_ms=99)
    position = engine.append(sent, (2, 3), NOW_MS)
    for _ in range(2):
        found = engine.read(position)
        assert (found.topic, found.body, found.qos, found.retain) == ("a/b", b"body", 1, True)
        assert (found.timestamp_ms, found.expires_at_ms) == (5, 99)
        assert found.properties == properties
        assert found.properties.native == b"\x01\x02"
        assert found.origin.same_client(sent.origin)
        engine.flush()


@pytest.mark.parametrize("size", [0, 1, 299, 300, 5000, 100_000])
def test_bodies_of_any_size(engine: StorageEngine, size: int) -> None:
    body = bytes(n % 251 for n in range(size))
    position = engine.append(message(body), (2,), NOW_MS)
    engine.append(message(b"next"), (2,), NOW_MS)
    engine.flush()
    assert engine.read(position).body == body


def test_what_was_never_appended_is_not_found(engine: StorageEngine) -> None:
    with pytest.raises(NotFound):
        engine.read(10_000_000)


def test_durable_callbacks_come_in_order_and_once(engine: StorageEngine) -> None:
    order: list[int] = []
    for number in range(10):
        position = engine.append(message(), (2,), NOW_MS)
        engine.when_durable(position, lambda stored, number=number: order.append(number if stored else -1))
    assert wait_durable(engine, engine.position())
    assert order == list(range(10))


def test_keys_are_put_replaced_deleted_and_scanned_in_order(engine: StorageEngine) -> None:
    for key, value in [("b/2", b"two"), ("b/1", b"one"), ("c", b"x"), ("b/1", b"uno")]:
        engine.put(key, value)
    engine.delete("c")
    engine.delete("never there")
    assert engine.get("b/1") == b"uno"
    assert engine.get("c") is None
    assert list(engine.scan("b/")) == [("b/1", b"uno"), ("b/2", b"two")]
    assert wait_durable(engine, engine.position())


def test_settling_what_is_unknown_is_fine(engine: StorageEngine) -> None:
    engine.settle(7, [12345], 1, NOW_MS)
    engine.delivered(7, [12345], [1], ORIGIN, "", NOW_MS)
    engine.returned(7, 12345, 2, NOW_MS)
    engine.trim(7, 10)
    engine.purge(7, [12345])
    engine.drop_queue(7)
    engine.flush()


def test_close_is_idempotent(engine: StorageEngine) -> None:
    engine.append(message(), (2,), NOW_MS)
    engine.close()
    engine.close()
