"""What exchanges need of the core, and consumers of rank: relays, priorities, one active, fetching."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.core.broker import NO_SUBSCRIBERS, Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.message import Message, Outcome, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.queue import Queue
from gateway.core.queues import group_of
from gateway.core.router import Binding
from gateway.storage.memory import MemoryEngine


class Fixed:
    """A relay to the queues it is given; with `by` only for messages whose tag that is."""

    def __init__(self, *queues: Queue, by: str = "") -> None:
        self.given = list(queues)
        self.by = by

    def queues(self, topic: str, message: Message | None) -> Sequence[Queue] | None:
        if self.by and message is None:
            return None
        if message is not None and message.properties.tag != self.by:
            return ()
        return self.given


@pytest.fixture
def broker() -> Broker:
    broker = Broker(MemoryEngine(), Clock(1_700_000_000_000, 1000))
    broker.restore(lambda: None)
    return broker


def _queue(broker: Broker, name: str, policy: QueuePolicy | None = None, durable: bool = False) -> Queue:
    return broker.catalog.declare(name, "classic", policy, durable)[0]


def test_a_relay_takes_part_in_what_its_filter_matches(broker: Broker) -> None:
    one, two = _queue(broker, "one"), _queue(broker, "two")
    relay = Fixed(one)
    broker.router.add(Binding("x/#", relay=relay))
    broker.publish(Message("x/k", b"1"))
    relay.given = [one, two]
    broker.router.changed()
    broker.publish(Message("x/k", b"2"))
    assert broker.publish(Message("y", b"3")) == NO_SUBSCRIBERS
    assert (one.length(), two.length()) == (2, 1)


def test_a_relay_may_need_the_message(broker: Broker) -> None:
    one = _queue(broker, "one", durable=True)
    broker.router.add(Binding("x/#", relay=Fixed(one, by="t")))
    assert broker.publish(Message("x/k", b"1", properties=Properties(tag="t"))) > 0
    assert broker.publish(Message("x/k", b"2")) == NO_SUBSCRIBERS
    assert one.length() == 1
    metrics = broker.metrics
    assert metrics.copies == metrics.delivered + sum(metrics.dropped) + broker.waiting()


def test_what_comes_through_a_relay_is_for_its_queues_and_the_topics_subscribers(broker: Broker) -> None:
    mine, others, plain = _queue(broker, "mine"), _queue(broker, "others"), _queue(broker, "plain")
    broker.router.add(Binding("#", relay=Fixed(others)))
    broker.catalog.bind(plain, Binding("x/+", plain))
    route = broker.router.through("x/k", "mine", [mine])
    broker.publish(Message("x/k", b"1"), route)
    assert (mine.length(), others.length(), plain.length()) == (1, 0, 1)
    assert broker.router.through("x/k", "mine", [mine]) is route
    broker.catalog.unbind(plain, "x/+")
    assert route.version != broker.router.version
    broker.catalog.bind(plain, Binding("x/k", plain))
    again = broker.router.through("x/k", "mine", [mine])
    broker.catalog.unbind(plain, "x/k")
    assert again.version != broker.router.version
    last = broker.router.last("x/k")
    assert last is not None
    assert last.body == b"1"


def _consumer(broker: Broker, queue: Queue, name: str, window: int, priority: int = 0) -> list[bytes]:
    got: list[bytes] = []

    def deliver(batch: list[Delivery]) -> None:
        got.extend(delivery.message.body for delivery in batch)

    consumer = Consumer(name, window, deliver, priority=priority)
    broker.queues.attach(group_of(queue, ""), consumer)
    return got


def test_who_has_priority_is_served_while_there_is_room(broker: Broker) -> None:
    queue = _queue(broker, "q")
    low, high, middle = (
        _consumer(broker, queue, "low", 10, -1),
        _consumer(broker, queue, "high", 2, 5),
        _consumer(broker, queue, "middle", 3),
    )
    for n in range(7):
        broker.publish(Message("$queue/q", b"%d" % n))
    broker.dispatch()
    assert (high, middle, low) == ([b"0", b"1"], [b"2", b"3", b"4"], [b"5", b"6"])


def test_one_consumer_is_active_until_it_leaves(broker: Broker) -> None:
    queue = _queue(broker, "q", QueuePolicy(single_active=True))
    first = _consumer(broker, queue, "first", 2)
    second = _consumer(broker, queue, "second", 10)
    for n in range(3):
        broker.publish(Message("$queue/q", b"%d" % n))
    assert not broker.dispatch()
    assert (first, second) == ([b"0", b"1"], [])
    broker.queues.detach(queue.groups()[0].consumers[0])
    broker.dispatch()
    assert sorted(second) == [b"0", b"1", b"2"]


def test_fetching_hands_out_one_at_a_time(broker: Broker) -> None:
    queue = _queue(broker, "q", durable=True)
    for body in (b"a", b"b"):
        broker.publish(Message("$queue/q", body))
    broker.engine.flush()
    group = group_of(queue, "")
    consumer = Consumer("fetcher", 1, lambda batch: None)
    first, second = broker.queues.fetch(group, consumer), broker.queues.fetch(group, consumer)
    assert first is not None
    assert second is not None
    assert (first.message.body, second.message.body) == (b"a", b"b")
    assert broker.queues.fetch(group, consumer) is None
    assert broker.settlement.settle(first, Outcome.ACK)
    assert broker.settlement.settle(second, Outcome.REQUEUE)
    again = broker.queues.fetch(group, consumer)
    assert again is not None
    assert again.attempt == 2


def test_a_consumer_learns_that_its_queue_is_gone(broker: Broker) -> None:
    queue = _queue(broker, "q")
    told: list[str] = []
    broker.catalog.deleted.append(lambda queue: told.append(queue.name))
    consumer = Consumer("c", 1, lambda batch: None)
    consumer.gone = lambda: told.append("consumer")
    broker.queues.attach(group_of(queue, ""), consumer)
    broker.queues.delete(queue)
    assert told == ["consumer", "q"]


def test_a_queue_that_nobody_uses_expires(broker: Broker) -> None:
    queue = _queue(broker, "q", QueuePolicy(expires_ms=5000))
    consumer = Consumer("c", 1, lambda batch: None)
    broker.queues.attach(group_of(queue, ""), consumer)
    clock = broker.clock

    def pass_seconds(count: int) -> None:
        for _ in range(count):
            clock.set(clock.wall_ms + 1000, clock.monotonic_ms + 1000)
            broker.scheduler.run_due()

    pass_seconds(20)
    assert "q" in broker.catalog.queues
    broker.queues.detach(consumer)
    pass_seconds(3)
    broker.catalog.declare("q", "classic", queue.policy, durable=False)
    pass_seconds(4)
    assert "q" in broker.catalog.queues
    pass_seconds(4)
    assert "q" not in broker.catalog.queues
