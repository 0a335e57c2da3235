"""What is given back comes again after the pause that its queue's policy, or its consumer, has for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.core.delivery import Delivery
from gateway.core.errors import NotFound
from gateway.core.message import Outcome
from gateway.core.policy import BACKOFF_MS, WORK
from tests.core.test_dead_letters import World


def _failing(world: World, **policy: Any) -> tuple[list[Delivery], Any]:
    queue = world.queue(**policy)
    world.publish(b"1")
    return world.take(queue), queue


@pytest.mark.parametrize("kind", ["classic", "stream"])
@pytest.mark.parametrize("durable", [True, False])
def test_pauses_grow_and_the_last_repeats(kind: str, durable: bool) -> None:
    world = World()
    queue = world.queue("q", kind, durable, backoff_ms=(100, 200, 400))
    held = world.take(queue, group="g" if kind == "stream" else "")
    world.publish(b"1")
    world.end_turn()
    for attempt, pause in enumerate((100, 200, 400, 400, 400), 1):
        assert held[-1].attempt == attempt == len(held)
        world.settle(held[-1], Outcome.REQUEUE)
        world.wait(pause - 1)
        assert len(held) == attempt, pause
        world.wait(1)
        assert len(held) == attempt + 1
    world.settle(held[-1], Outcome.ACK)
    world.end_turn()
    world.check()


@pytest.mark.parametrize(
    ("outcome", "delay_ms", "pause", "attempt"),
    [
        (Outcome.REQUEUE, None, 100, 2),
        (Outcome.REQUEUE, 30, 30, 2),
        (Outcome.REQUEUE, 0, 0, 2),
        (Outcome.RETRY, None, 70, 1),
        (Outcome.RETRY, 30, 30, 1),
        (Outcome.RETRY, 0, 0, 1),
    ],
)
def test_a_consumer_may_say_when(outcome: Outcome, delay_ms: int | None, pause: int, attempt: int) -> None:
    world = World()
    held, _ = _failing(world, backoff_ms=(100,), retry_delay_ms=70)
    world.settle(held[0], outcome, delay_ms)
    if pause:
        world.wait(pause - 1)
        assert len(held) == 1
    world.wait(1)
    assert [delivery.attempt for delivery in held] == [1, attempt]
    world.check()


def test_retry_costs_nothing_however_often() -> None:
    world = World()
    held, _ = _failing(world, delivery_limit=1)
    for _ in range(50):
        world.settle(held[-1], Outcome.RETRY, 0)
        world.end_turn()
    assert held[-1].attempt == 1
    assert world.bodies("$dead/q") == []


def test_without_a_word_it_is_rocketmqs_schedule_then_the_dead_letters() -> None:
    world = World()
    held, _ = _failing(world, **WORK.to_mapping())
    for pause in BACKOFF_MS:
        count = len(held)
        world.settle(held[-1], Outcome.REQUEUE)
        world.wait(pause - 1)
        assert len(held) == count
        world.wait(1)
    assert held[-1].attempt == len(BACKOFF_MS) + 1
    world.settle(held[-1], Outcome.REQUEUE, 1_000_000, "it will never work")
    world.end_turn()
    told = dict(world.letter().properties.headers)
    assert (told["dead-letter-cause"], told["dead-letter-attempts"]) == ("delivery_limit", 17)
    assert told["dead-letter-reason"] == "it will never work"
    world.check()


def test_who_goes_away_gives_back_at_once() -> None:
    world = World()
    held, queue = _failing(world, backoff_ms=(60_000,))
    world.broker.queues.detach(queue.group.consumers[0])
    (again,) = world.take(queue)
    assert (again.attempt, again.message) == (2, held[0].message)


def test_a_lease_that_is_over_gives_back_at_once() -> None:
    world = World()
    held, _ = _failing(world, backoff_ms=(60_000,))
    world.broker.leases.hold("token", held[0], 50)
    world.wait(50)
    assert [delivery.attempt for delivery in held] == [1, 2]


def test_many_come_back_together_each_in_its_place() -> None:
    world = World()
    queue = world.queue(backoff_ms=(100,))
    world.publish(*(b"%d" % number for number in range(6)))
    held = world.take(queue, 5)
    for number in (3, 0, 4, 1):
        world.settle(held[number], Outcome.REQUEUE)
    world.end_turn()
    assert [delivery.message.body for delivery in held] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    world.wait(100)
    assert [delivery.message.body for delivery in held[6:]] == [b"0", b"1", b"3"]
    world.settle(held[2], Outcome.ACK)
    world.end_turn()
    assert held[9].message.body == b"4"
    world.check()


def test_what_waits_for_its_time_is_gone_with_its_queue() -> None:
    world = World()
    held, queue = _failing(world, backoff_ms=(100,))
    world.settle(held[0], Outcome.REQUEUE)
    world.broker.queues.delete(queue)
    world.wait(1000)
    world.check()
    held, _ = _failing(world, backoff_ms=(100,))
    world.settle(held[0], Outcome.REQUEUE)
    world.wait(100)
    assert len(held) == 2
    world.check()


@pytest.mark.parametrize(("outcome", "attempt"), [(Outcome.REQUEUE, 2), (Outcome.RETRY, 1)])
def test_a_restart_knows_the_attempts(tmp_path: Path, outcome: Outcome, attempt: int) -> None:
    world = World(tmp_path)
    held, _ = _failing(world, backoff_ms=(60_000,))
    world.settle(held[0], outcome, 60_000)
    world.end_turn()
    world.restart()
    queue = world.broker.catalog.get("q")
    assert queue.policy.backoff_ms == (60_000,)
    held = world.take(queue)
    world.wait(60_000)
    assert [delivery.attempt for delivery in held] == [attempt]


@pytest.mark.parametrize("lost", [False, True])
def test_what_waits_long_is_not_kept_in_memory(tmp_path: Path, lost: bool) -> None:
    world = World(tmp_path)
    queue = world.queue(backoff_ms=(100,))
    queue.memory_messages_max = 2
    world.publish(*(b"%d" % number for number in range(5)))
    world.end_turn()
    held = world.take(queue, 5)
    for delivery in held:
        world.settle(delivery, Outcome.REQUEUE)
    world.end_turn()
    assert sorted(delivery.message.body for delivery in queue.held()) == [b"", b"", b"", b"0", b"1"]
    if lost:
        world.broker.engine.settle(queue.queue_id, [held[4].position], Outcome.ACK, 0)
        read = world.broker.engine.read
        world.broker.settlement._engine = Unreadable(read, held[4].position)  # type: ignore[assignment]
    world.wait(100)
    assert [delivery.message.body for delivery in held[5:]] == [b"0", b"1", b"2", b"3", b"4"][: 5 - lost]
    assert [delivery.attempt for delivery in held[5:]] == [2] * (5 - lost)
    world.check()


class Unreadable:
    """An engine that has lost one message."""

    def __init__(self, read: Any, lost: int) -> None:
        self._read = read
        self._lost = lost

    def read(self, position: int) -> Any:
        if position == self._lost:
            raise NotFound("damaged")
        return self._read(position)
