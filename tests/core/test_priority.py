"""Queues with priorities, beside a plain list that is sorted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.engine import StorageEngine
from gateway.core.errors import Conflict
from gateway.core.message import Message, Outcome, Properties
from gateway.core.metrics import DropCause
from gateway.core.policy import QueuePolicy
from gateway.core.queue import Queue
from gateway.core.session import group_of
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine

LEVELS = 5


def _broker(engine: StorageEngine) -> Broker:
    broker = Broker(engine, Clock(1_700_000_000_000, 1000))
    broker.restore(lambda: None)
    return broker


def _declare(broker: Broker, durable: bool = True, **policy: int) -> Queue:
    made = QueuePolicy(max_priority=LEVELS, **policy)  # type: ignore[arg-type]
    return broker.catalog.declare("q", "classic", made, durable)[0]


def _publish(broker: Broker, number: int, priority: int | None, expires_at_ms: int = 0) -> None:
    made = Properties(priority=priority)
    broker.publish(Message("$queue/q", b"%d" % number, 1, properties=made, expires_at_ms=expires_at_ms))


def _fetch(broker: Broker, queue: Queue) -> Delivery | None:
    return broker.queues.fetch(group_of(queue, ""), Consumer("c", 1, lambda batch: None))


def _balanced(broker: Broker) -> bool:
    metrics = broker.metrics
    return metrics.copies == metrics.delivered + sum(metrics.dropped) + broker.waiting()


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_it_does_what_a_sorted_list_would(seed: int, durable: bool) -> None:
    chance = random.Random(seed)
    broker = _broker(MemoryEngine())
    queue = _declare(broker, durable)
    queue.memory_messages_max = 20
    model: list[tuple[int, int]] = []  # negative priority, number
    held: list[tuple[Delivery, tuple[int, int]]] = []
    for number in range(400):
        priority = chance.choice([None, *range(LEVELS + 3)])
        _publish(broker, number, priority)
        model.append((-min(priority or 0, LEVELS), number))
        model.sort()
        while chance.random() < 0.5 and model:
            delivery = _fetch(broker, queue)
            assert delivery is not None
            assert delivery.message.body == b"%d" % model[0][1]
            held.append((delivery, model.pop(0)))
        while held and chance.random() < 0.5:
            delivery, entry = held.pop(chance.randrange(len(held)))
            if chance.random() < 0.5:
                broker.settlement.settle(delivery, Outcome.ACK)
            else:
                broker.settlement.settle(delivery, Outcome.REQUEUE)
                model.append(entry)
                model.sort()
        assert queue.length() == len(model)
        assert _balanced(broker)
    assert [body for _, body, _ in _browsed(queue)] == [b"%d" % n for n in sorted(n for _, n in model)]


def _browsed(queue: Queue) -> list[tuple[int, bytes, int]]:
    return [(offset, message.body, attempts) for offset, message, attempts in queue.browse(0, 1000)]


def test_order_and_attempts_survive_a_restart(tmp_path: Path) -> None:
    broker = _broker(CommitLog(tmp_path))
    queue = _declare(broker)
    for number, priority in enumerate([0, 3, 5, None, 5]):
        _publish(broker, number, priority)
    first = _fetch(broker, queue)
    assert first is not None
    broker.settlement.settle(first, Outcome.REQUEUE)
    broker.engine.close()
    broker = _broker(CommitLog(tmp_path))
    queue = broker.catalog.get("q")
    found = [_fetch(broker, queue) for _ in range(5)]
    assert [d.message.body for d in found if d is not None] == [b"2", b"4", b"1", b"0", b"3"]
    assert found[0] is not None
    assert found[0].attempt == 2
    broker.engine.close()


def test_the_lowest_makes_room_and_what_expires_goes() -> None:
    broker = _broker(MemoryEngine())
    queue = _declare(broker, max_length=3)
    for number, priority in enumerate([5, 0, 3, 4]):
        _publish(broker, number, priority)
    assert broker.metrics.dropped[DropCause.QUEUE_FULL] == 1
    _publish(broker, 9, 1, expires_at_ms=broker.clock.now_ms + 10)
    broker.clock.set(broker.clock.wall_ms + 20, broker.clock.monotonic_ms + 20)
    found = [_fetch(broker, queue) for _ in range(3)]
    assert [d.message.body if d is not None else None for d in found] == [b"0", b"3", None]
    assert broker.metrics.dropped[DropCause.EXPIRED] == 1
    assert _balanced(broker)


def test_a_turn_that_was_not_stored_is_forgotten_and_a_purge_empties() -> None:
    broker = _broker(MemoryEngine())
    queue = _declare(broker)
    _publish(broker, 1, 1)
    after = broker.engine.position() + 1
    _publish(broker, 2, 2)
    assert queue.forget_from(after) == 1
    assert (queue.length(), queue.bytes_waiting) == (1, 1)
    assert broker.queues.purge(queue) == 1
    assert (queue.length(), queue.bytes_waiting, _fetch(broker, queue)) == (0, 0, None)


def test_levels_are_for_good() -> None:
    broker = _broker(MemoryEngine())
    queue = _declare(broker)
    with pytest.raises(Conflict, match="max_priority"):
        broker.catalog.set_policy(queue, QueuePolicy(max_priority=9))
    with pytest.raises(Conflict, match="at most 255"):
        QueuePolicy.from_mapping({"max_priority": 256})
