"""What every storage engine must do, whatever it is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.core.engine import StorageEngine
from gateway.core.errors import NotFound
from gateway.core.message import Message, Origin, Outcome, Properties
from gateway.core.metrics import DropCause
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


# -- queues ---------------------------------------------------------------------------------


def offsets(engine: StorageEngine, queue_id: int = 2) -> list[int]:
    return [entry.offset for entry in engine.after(queue_id, 0, 1000)]


def test_a_queue_has_what_was_appended_for_it_and_is_not_settled(engine: StorageEngine) -> None:
    positions = [engine.append(message(b"%d" % n), (2, 3) if n % 2 else (2,), NOW_MS + n) for n in range(20)]
    engine.settle(2, [positions[1], positions[0], positions[5]], 1, NOW_MS)
    for _ in range(2):
        found = engine.after(2, 0, 1000)
        assert [entry.position for entry in found] == [
            p for p in positions if positions.index(p) not in (0, 1, 5)
        ]
        assert [entry.message.body for entry in found if entry.message][:2] == [b"2", b"3"]
        assert [entry.offset for entry in engine.after(3, 0, 1000)] == list(range(10))
        assert engine.extent(2) == (2, 20, 17, 7 + 10 * 2)
        assert [entry.offset for entry in engine.after(2, positions[3], 3)] == [4, 6, 7]
        assert [entry.offset for entry in engine.at(2, 5, 2)] == [6, 7]
        assert engine.extent(2, positions[17]) == (18, 20, 2, 4)
        assert engine.after(2, positions[-1], 5) == engine.at(2, 20, 5) == engine.after(9, 0, 5) == []
        engine.flush()


def test_attempts_and_tags_are_counted_and_some_cost_nothing(engine: StorageEngine) -> None:
    position = engine.append(message(), (2, 3), NOW_MS)
    for tag in (7, 8):
        engine.delivered(2, [position], [tag], ORIGIN, "", NOW_MS)
    engine.returned(2, position, Outcome.REQUEUE, NOW_MS)
    engine.flush()
    assert [(e.attempts, e.tag, e.stored_at_ms) for e in engine.after(2, 0, 1)] == [(2, 8, NOW_MS)]
    engine.returned(2, position, Outcome.RETRY, NOW_MS)
    engine.delivered(3, [position], [1], ORIGIN, "a group of a stream", NOW_MS)
    engine.flush()
    assert [e.attempts for e in (*engine.after(2, 0, 1), *engine.after(3, 0, 1))] == [1, 0]


def test_trimmed_from_the_head_the_rest_keeps_its_offsets(engine: StorageEngine) -> None:
    for n in range(10):
        engine.append(message(b"x"), (2,), NOW_MS + 10 * n)
    engine.trim(2, 4)
    assert offsets(engine) == [4, 5, 6, 7, 8, 9]
    engine.flush()
    assert [engine.offset_at(2, NOW_MS + ms) for ms in (0, 40, 41, 90, 91)] == [4, 4, 5, 9, 10]
    engine.trim(2, 10)
    assert engine.extent(2) == (10, 10, 0, 0)
    engine.append(message(b"x"), (2,), NOW_MS)
    assert offsets(engine) == [10]


def test_purged_of_all_but_what_is_held(engine: StorageEngine) -> None:
    positions = [engine.append(message(b"x"), (2, 3), NOW_MS) for _ in range(10)]
    engine.purge(2, positions[3:5])
    later = engine.append(message(b"x"), (2,), NOW_MS)
    for _ in range(2):
        assert [entry.position for entry in engine.after(2, 0, 99)] == [*positions[3:5], later]
        assert len(engine.after(3, 0, 99)) == 10
        engine.flush()


def test_a_dropped_queue_has_nothing(engine: StorageEngine) -> None:
    engine.append(message(), (2, 3), NOW_MS)
    engine.drop_queue(2)
    assert (engine.extent(2).messages, engine.extent(3).messages) == (0, 1)


def test_a_message_is_found_by_id_key_time_and_position(engine: StorageEngine) -> None:
    named = message(properties=Properties(message_id="m", keys=("k1", "k2"), key="order"))
    first = engine.append(named, (2,), NOW_MS)
    second = engine.append(message(properties=Properties(keys=("k2",))), (2,), NOW_MS + 1)
    engine.flush()
    assert engine.find("m", 9) == engine.find("k1", 9) == engine.find("order", 9) == [first]
    assert (engine.find("k2", 9), engine.find("k2", 1), engine.find("k", 9)) == (
        [second, first],
        [second],
        [],
    )
    assert engine.stored_between(NOW_MS + 1, NOW_MS + 2, 0, 9)[0] == [second]
    assert engine.stored_between(0, NOW_MS + 9, 0, 1) == ([first], first)
    assert engine.stored_between(0, NOW_MS + 9, first, 9) == ([second], 0)
    trace = engine.history(first)
    assert (trace.position, trace.stored_at_ms, trace.queue_ids) == (first, NOW_MS, (2,))
    assert trace.message.properties.message_id == "m"
    with pytest.raises(NotFound):
        engine.history(10_000_000)


def test_messages_with_properties_are_found_from_a_position_on(engine: StorageEngine) -> None:
    known = Properties(message_id="id")
    positions = [
        engine.append(message(b"%d" % n, properties=known), (2,) if n % 2 else (2, 3), NOW_MS)
        for n in range(6)
    ]
    engine.append(message(b"plain"), (2,), NOW_MS)
    engine.put("key", b"value")
    wait_durable(engine, engine.position())
    found = [(position, one.body) for position, one in engine.messages_after(positions[2])]
    assert found == [(position, b"%d" % n) for n, position in enumerate(positions) if n > 2]
    assert list(engine.messages_after(engine.position())) == []


def test_a_message_for_no_queue_has_a_position(engine: StorageEngine) -> None:
    first = engine.append(message(), (), NOW_MS)
    assert engine.append(message(), (2,), NOW_MS) > first > 0
    assert wait_durable(engine, first)


def test_when_messages_are_due(engine: StorageEngine) -> None:
    dues = [NOW_MS + 5, 0, NOW_MS - 7, (1 << 63) - 1]
    made = [Properties(deliver_at_ms=due or None, headers=(("deliver_at_ms", "x"),)) for due in dues]
    positions = [engine.append(message(properties=each), (2,), NOW_MS) for each in made]
    positions.append(engine.append(message(), (2,), NOW_MS))
    for _ in range(2):
        assert engine.due_times(2, 0, 10) == ([*dues, 0], positions)
        assert engine.due_times(2, positions[0], 2) == (dues[1:3], positions[1:3])
        assert engine.due_times(2, positions[-1], 10) == ([], [])
        assert engine.due_times(3, 0, 10) == ([], [])
        wait_durable(engine, positions[-1])  # from the batch, then from the file
    engine.settle(2, [positions[0]], Outcome.ACK, NOW_MS)
    assert engine.due_times(2, 0, 1) == ([0], [positions[1]])


def test_what_happens_together_is_there_together(engine: StorageEngine) -> None:
    first, second = (engine.append(message(body), (2,), NOW_MS) for body in (b"1", b"2"))
    engine.flush()
    outcome = 16 + DropCause.REJECTED
    (letter,) = engine.transact([(message(b"letter"), (3,))], [(2, (first,))], NOW_MS, outcome=outcome)
    assert engine.transact([], [(2, (second,))], NOW_MS) == []
    engine.transact([(message(b"other"), (3,))], (), NOW_MS, cursors=[(4, "group", 7)])
    assert engine.read(letter).body == b"letter"
    assert wait_durable(engine, engine.position())
    assert [entry.position for entry in engine.after(2, 0, 9)] == []
    assert [entry.message.body for entry in engine.after(3, 0, 9) if entry.message] == [b"letter", b"other"]
