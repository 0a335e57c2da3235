"""Queues and bindings: how they are declared and deleted, and what a restart brings back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.broker import NO_SUBSCRIBERS, Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery, Group
from gateway.core.engine import StorageEngine
from gateway.core.errors import Conflict, InvalidTopic, NotFound
from gateway.core.message import Message, Outcome
from gateway.core.policy import QueuePolicy
from gateway.core.queue import Queue
from gateway.core.router import Binding
from gateway.core.stream import StreamQueue
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000


def _broker(engine: StorageEngine | None = None) -> Broker:
    broker = Broker(engine or MemoryEngine(), Clock(NOW_MS, 0))
    assert broker.restore(lambda: None) == []
    return broker


def _bodies(queue: Queue) -> list[bytes]:
    return [message.body for _, message, _ in queue.browse(0, 100)]


# -- declaring ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classic", "stream"])
@pytest.mark.parametrize("durable", [False, True])
def test_declaring_again_finds_the_same_queue(kind: str, durable: bool) -> None:
    catalog = _broker().catalog
    policy = QueuePolicy(max_length=5)
    queue, created = catalog.declare("q", kind, policy, durable)
    assert created
    assert (queue.kind, queue.durable, queue.policy) == (kind, durable, policy)
    assert catalog.get("q") is queue
    assert catalog.declare("q", kind, QueuePolicy(max_length=5), durable) == (queue, False)


def test_who_wants_to_know_is_told_of_queues_that_come_and_go() -> None:
    catalog = _broker().catalog
    seen: list[str] = []
    catalog.made.append(lambda queue: seen.append(f"+{queue.name}"))
    catalog.deleted.append(lambda queue: seen.append(f"-{queue.name}"))
    queue, _ = catalog.declare("q")
    catalog.declare("q")
    catalog.delete(queue)
    assert seen == ["+q", "-q"]


@pytest.mark.parametrize(
    ("name", "fields", "difference"),
    [
        ("q", {"kind": "stream"}, "exists as classic, not stream"),
        ("q", {"durable": False}, "exists and is durable"),
        ("q", {"policy": QueuePolicy(ttl_ms=1)}, "another policy: ttl_ms is 0, not 1"),
        ("new", {"kind": "ring"}, "one of classic, stream is expected"),
    ],
)
def test_a_queue_of_another_make_is_a_conflict(name: str, fields: dict[str, object], difference: str) -> None:
    catalog = _broker().catalog
    catalog.declare("q")
    with pytest.raises(Conflict, match=difference):
        catalog.declare(name, **fields)  # type: ignore[arg-type]
    assert list(catalog.queues) == ["q"]


@pytest.mark.parametrize("name", ["", "a\0b", "a+", "a/#", "x" * 1025, "\ud800", "$a\0b"])
def test_a_name_that_cannot_be_published_to_is_refused(name: str) -> None:
    broker = _broker()
    with pytest.raises(InvalidTopic):
        broker.catalog.declare(name)
    assert broker.catalog.queues == {}
    assert list(broker.engine.scan("")) == []


def test_a_queue_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match="'q' does not exist"):
        _broker().catalog.get("q")


def test_a_queue_has_an_address_of_its_own_while_it_exists() -> None:
    broker = _broker()
    queue, _ = broker.catalog.declare("a/b")
    assert broker.publish(Message("$queue/a/b", b"1")) > 0
    assert _bodies(queue) == [b"1"]
    assert broker.queues.delete(queue) == 1
    assert broker.queues.delete(queue) == 0
    assert broker.publish(Message("$queue/a/b", b"2")) == NO_SUBSCRIBERS
    assert broker.router.bindings == 0


def test_binding_again_replaces_and_unbinding_tells_whether_it_was_there() -> None:
    broker = _broker()
    queue, _ = broker.catalog.declare("q")
    first, second = Binding("t/+", queue), Binding("t/+", queue)
    assert broker.catalog.bind(queue, first) is None
    assert broker.catalog.bind(queue, second) is first
    broker.publish(Message("t/1", b"once"))
    assert _bodies(queue) == [b"once"]
    assert [broker.catalog.unbind(queue, "t/+") for _ in range(2)] == [True, False]
    assert broker.publish(Message("t/1", b"")) == NO_SUBSCRIBERS
    with pytest.raises(InvalidTopic):
        broker.catalog.bind(queue, Binding("t/+x", queue))


def test_a_deleted_queue_leaves_no_key_behind_but_its_id_is_not_used_again() -> None:
    broker = _broker()
    first, _ = broker.catalog.declare("q")
    broker.catalog.bind(first, Binding("t", first))
    broker.queues.delete(first)
    assert [key for key, _ in broker.engine.scan("")] == ["meta/next-queue-id"]
    again = _broker(broker.engine).catalog.declare("q")[0]
    assert again.queue_id > first.queue_id


# -- a restart ----------------------------------------------------------------------------


class Place:
    """Somewhere to restart from. The memory engine keeps keys, not messages, while its object lives."""

    def __init__(self, kind: str, path: Path) -> None:
        self._kind = kind
        self._path = path
        self._engine: StorageEngine | None = None

    def reopen(self) -> Broker:
        """Close what was open; return a broker restored from what it left."""
        self.close()
        if self._kind == "commitlog":
            self._engine = CommitLog(self._path / "data")
        elif self._engine is None:
            self._engine = MemoryEngine()
        return _broker(self._engine)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


@pytest.fixture(params=["memory", "commitlog"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = Place(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Place]:
    made = Place("commitlog", tmp_path)
    yield made
    made.close()


POLICY = QueuePolicy(5, 6, 7, "reject", 8, "$queue/dead", 9, 10)


@pytest.mark.parametrize("kind", ["classic", "stream"])
def test_a_durable_queue_comes_back_as_it_was_declared(place: Place, kind: str) -> None:
    queue, _ = place.reopen().catalog.declare("a/b \N{SNOWMAN}", kind, POLICY, auto_delete=True)
    found = place.reopen().catalog.get(queue.name)
    assert (found.kind, found.queue_id, found.durable) == (kind, queue.queue_id, True)
    assert (found.policy.to_mapping(), found.auto_delete) == (POLICY.to_mapping(), True)


def test_only_what_is_durable_comes_back(place: Place) -> None:
    broker = place.reopen()
    for name, durable in [("kept", True), ("gone", False), ("later", False), ("deleted", True)]:
        queue, _ = broker.catalog.declare(name, durable=durable)
        broker.catalog.bind(queue, Binding("t/#", queue))
    broker.catalog.make_durable(broker.catalog.get("later"))
    broker.catalog.delete(broker.catalog.get("deleted"))
    restored = place.reopen()
    assert sorted(restored.catalog.queues) == ["kept", "later"]
    restored.publish(Message("t/1", b"x"))
    assert {name: _bodies(queue) for name, queue in restored.catalog.queues.items()} == {
        "kept": [b"x"],
        "later": [b"x"],
    }


def test_ids_are_never_used_twice(place: Place) -> None:
    ids = []
    for name in ("a", "b", "c"):
        broker = place.reopen()
        queue, _ = broker.catalog.declare(name)
        ids.append(queue.queue_id)
        if name == "b":
            broker.queues.delete(queue)
    assert ids == sorted(set(ids))


def test_a_changed_policy_comes_back_and_holds(place: Place) -> None:
    broker = place.reopen()
    queue, _ = broker.catalog.declare("q")
    broker.publish(Message("$queue/q", b""))  # makes a route that knows a queue without limits
    broker.catalog.set_policy(queue, QueuePolicy(max_length=1))
    for body in (b"1", b"2"):
        broker.publish(Message("$queue/q", body))
    assert _bodies(queue) == [b"2"]
    assert place.reopen().catalog.get("q").policy.max_length == 1


def test_bindings_come_back_with_their_options(place: Place) -> None:
    broker = place.reopen()
    queue, _ = broker.catalog.declare("q")
    broker.catalog.bind(queue, Binding("a/+", queue, None, 1, True, True, (3, 4)))
    broker.catalog.bind(queue, Binding("gone", queue))
    broker.catalog.unbind(queue, "gone")
    restored = place.reopen()
    bindings = restored.catalog.bindings["q"]
    assert list(bindings) == ["a/+"]
    found = bindings["a/+"]
    assert found.queue is restored.catalog.get("q")
    assert found.receiver is None
    assert (found.qos, found.no_local, found.retain_as_published, found.ids) == (1, True, True, (3, 4))


def test_a_session_queue_comes_back_with_a_receiver_that_is_away(place: Place) -> None:
    broker = place.reopen()
    queue, _ = broker.catalog.declare("$session/c")
    for topic_filter in ("a", "b"):
        broker.catalog.bind(queue, Binding(topic_filter, queue))
    bindings = place.reopen().catalog.bindings["$session/c"]
    receivers = [binding.receiver for binding in bindings.values()]
    assert receivers[0] is receivers[1]
    assert receivers[0] is not None
    assert not receivers[0].open


def test_a_binding_without_its_queue_is_cleaned_up(place: Place) -> None:
    place.reopen().engine.put("binding/nowhere\0t", b"{}")
    restored = place.reopen()
    assert restored.router.bindings == 0
    assert restored.engine.get("binding/nowhere\0t") is None


class Keeps(Consumer):
    """A consumer that keeps what it is handed."""

    def __init__(self, broker: Broker, group: Group, window: int = 100) -> None:
        super().__init__("keeps", window, lambda batch: self.held.extend(batch))
        self.held: list[Delivery] = []
        broker.queues.attach(group, self)
        broker.dispatch()


def test_a_classic_queue_comes_back_with_what_is_not_settled(log: Place) -> None:
    broker = log.reopen()
    queue, _ = broker.catalog.declare("q", policy=QueuePolicy(dead_letter=""))
    for body in (b"acked", b"held", b"rejected", b"waiting"):
        broker.publish(Message("$queue/q", body))
    held = Keeps(broker, queue.groups()[0], 3).held
    held[1].tag = 77
    broker.settlement.settle(held[0], Outcome.ACK)
    broker.settlement.settle(held[2], Outcome.REJECT)
    restored = log.reopen()
    found = restored.catalog.get("q")
    assert _bodies(found) == [b"held", b"waiting"]
    assert found.bytes_waiting == len(b"heldwaiting")
    assert restored.waiting() == restored.metrics.copies == 2
    attempts = [delivery.attempt for delivery in Keeps(restored, found.groups()[0]).held]
    assert attempts == [2, 1]


def test_time_to_live_counts_from_enqueueing_also_after_a_restart(log: Place) -> None:
    broker = log.reopen()
    source, _ = broker.catalog.declare("source", policy=QueuePolicy(dead_letter="$queue/dead"))
    dead, _ = broker.catalog.declare("dead", policy=QueuePolicy(ttl_ms=1000))
    broker.publish(Message("$queue/source", b"x", timestamp_ms=NOW_MS - 5000))
    broker.settlement.settle(Keeps(broker, source.groups()[0]).held[0], Outcome.REJECT)
    assert _bodies(dead) == [b"x"]
    assert dead.sweep(NOW_MS + 999) == []
    assert log.reopen().catalog.get("dead").sweep(NOW_MS + 999) == []


def test_a_stream_comes_back_with_its_offsets_and_cursors(log: Place) -> None:
    broker = log.reopen()
    stream, _ = broker.catalog.declare("s", "stream", QueuePolicy(max_length=3))
    assert isinstance(stream, StreamQueue)
    for body in (b"0", b"1", b"2", b"3"):
        broker.publish(Message("$queue/s", body))
    reader = Keeps(broker, stream.group("g", 0), 2)
    for offset, outcome in [(0, Outcome.ACK), (1, Outcome.RETRY)]:
        broker.settlement.settle(reader.held[offset], outcome)
    Keeps(broker, stream.group("$own", 0))
    broker.dispatch()
    restored = log.reopen()
    found = restored.catalog.get("s")
    assert isinstance(found, StreamQueue)
    assert [(offset, message.body) for offset, message, _ in found.browse(0, 9)] == [
        (1, b"1"),
        (2, b"2"),
        (3, b"3"),
    ]
    assert [(group.name, group.cursor) for group in found.groups()] == [("g", 2)]
    restored.publish(Message("$queue/s", b"4"))
    restored.dispatch()
    assert (found.first_offset, found.next_offset) == (2, 5)


def test_a_stream_that_was_emptied_goes_on_counting(log: Place) -> None:
    broker = log.reopen()
    stream, _ = broker.catalog.declare("s", "stream")
    for body in (b"0", b"1"):
        broker.publish(Message("$queue/s", body))
    broker.queues.purge(stream)
    restored = log.reopen()
    restored.publish(Message("$queue/s", b"2"))
    assert [(offset, message.body) for offset, message, _ in restored.catalog.get("s").browse(0, 9)] == [
        (2, b"2")
    ]
