"""Ordering keys: what an operator sees and does, limits, switching off, leases of connected consumers."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from gateway.core import order
from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery, Group
from gateway.core.errors import Conflict, NotFound
from gateway.core.keys import DELAYED, DELIVERED, PARKED, WAITING
from gateway.core.message import Message, Outcome, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.stream import StreamQueue
from gateway.core.sweeper import SWEEP_INTERVAL_MS
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000


class Bench:
    """A broker with one classic queue."""

    def __init__(self, policy: QueuePolicy | None = None, name: str = "q") -> None:
        self.clock = Clock(NOW_MS, 0)
        self.broker = Broker(MemoryEngine(), self.clock)
        self.broker.restore(lambda: None)
        queue, _ = self.broker.catalog.declare(name, policy=policy)
        assert isinstance(queue, ClassicQueue)
        self.queue = queue
        self.held: list[Delivery] = []

    @property
    def group(self) -> Group:
        return self.queue.group

    def publish(self, *keys: str | None) -> None:
        for key in keys:
            number = b"%d" % self.queue.next_offset
            message = Message("t", number, 1, properties=Properties(key=key))
            self.broker.enqueue(self.queue, message, None)

    def consumer(self, window: int = 10) -> Consumer:
        consumer = Consumer("c", window, self.held.extend)
        self.broker.queues.attach(self.group, consumer)
        return consumer

    def dispatch(self) -> list[tuple[str | None, int]]:
        """Return (key, number) of what is handed out now."""
        before = len(self.held)
        while self.broker.dispatch():
            pass
        self.broker.flushed()
        while self.broker.dispatch():
            pass
        return [(d.message.properties.key, int(d.message.body)) for d in self.held[before:]]

    def settle(self, number: int, outcome: Outcome = Outcome.ACK, delay_ms: int | None = None) -> bool:
        """Settle the last delivery of a message."""
        delivery = [held for held in self.held if int(held.message.body) == number][-1]
        return self.broker.settlement.settle(delivery, outcome, delay_ms)

    def wait(self, ms: int) -> None:
        self.clock.set(self.clock.now_ms + ms, self.clock.monotonic_ms + ms)
        self.broker.scheduler.run_due()


# -- what the order is for -----------------------------------------------------------------


def test_other_keys_and_messages_without_one_pass_by() -> None:
    bench = Bench()
    bench.publish("a", "a", None, "b", None, "a")
    bench.consumer()
    assert bench.dispatch() == [("a", 0), (None, 2), ("b", 3), (None, 4)]
    bench.settle(0)
    assert bench.dispatch() == [("a", 1)]
    bench.settle(1, Outcome.REQUEUE, 0)
    assert bench.dispatch() == [("a", 1)], "it alone comes again"
    bench.settle(1, Outcome.REJECT)
    assert bench.dispatch() == [("a", 5)]


@pytest.mark.parametrize("name", ["$session/c", "$own"])
def test_queues_of_sessions_and_of_the_gateway_have_no_order(name: str) -> None:
    bench = Bench(name=name)
    bench.publish("a", "a")
    bench.consumer()
    assert len(bench.dispatch()) == 2


@pytest.mark.parametrize("name", ["$share/g/t", "$vhost/v/q"])
def test_shared_subscriptions_and_virtual_hosts_have(name: str) -> None:
    bench = Bench(name=name)
    bench.publish("a", "a")
    bench.consumer()
    assert len(bench.dispatch()) == 1


def test_it_can_be_switched_off_and_on_again() -> None:
    bench = Bench(QueuePolicy(ordered=False))
    bench.publish("a", "a")
    bench.consumer()
    assert len(bench.dispatch()) == 2
    bench.broker.catalog.set_policy(bench.queue, QueuePolicy())
    bench.publish("a", "b")
    assert bench.dispatch() == [("b", 3)], "two of the key are in hands from before"
    bench.settle(0)
    assert bench.dispatch() == []
    bench.settle(1)
    assert bench.dispatch() == [("a", 2)]
    bench.publish("a")
    bench.broker.catalog.set_policy(bench.queue, QueuePolicy(ordered=False))
    bench.publish("c")
    assert bench.dispatch() == [("c", 5)]


def test_who_fetches_one_at_a_time_gets_the_first_that_is_free() -> None:
    bench = Bench()
    bench.publish("a", "a", "b")
    fetcher = Consumer("f", 1, bench.held.extend)
    fetcher.group = bench.group
    found = [bench.broker.queues.fetch(bench.group, fetcher) for _ in range(3)]
    assert [delivery and delivery.message.body for delivery in found] == [b"0", b"2", None]


def test_who_settles_at_once_gets_all_of_a_key_in_one_turn() -> None:
    bench = Bench()
    bench.publish(*["a"] * 50, None, "b")
    got: list[int] = []

    def take(batch: list[Delivery]) -> None:
        got.extend(int(delivery.message.body) for delivery in batch)
        bench.broker.settlement.acknowledge(batch)

    bench.broker.queues.attach(bench.group, Consumer("c", 100, take))
    bench.broker.dispatch()
    assert sorted(got) == list(range(52))
    assert [number for number in got if number < 50] == list(range(50))


def test_more_than_may_line_up_stops_the_group_until_some_is_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(order, "LINED_UP_MAX", 2)
    bench = Bench()
    bench.queue.memory_messages_max = 1
    bench.publish("a", "a", "a", "a", "a", "b")
    consumer = bench.consumer(2)
    assert bench.dispatch() == [("a", 0)], "three wait: one as it is, two in words"
    assert not bench.group.wants()
    bench.settle(0)
    assert bench.dispatch() == [("a", 1)]
    for number in (1, 2, 3):
        bench.settle(number)
        bench.dispatch()
    assert {int(delivery.message.body) for delivery in bench.held} == {0, 1, 2, 3, 4, 5}
    assert consumer.unsettled == 2


def test_a_failing_key_leaves_the_room_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "LINED_UP_MAX", 3)
    bench = Bench()
    bench.queue.memory_messages_max = 1
    bench.consumer()
    bench.publish("bad")
    for _ in range(3):
        bench.dispatch()
        bench.settle(0, Outcome.REQUEUE, 0)
    bench.dispatch()
    bench.publish(*["bad"] * 10, "good")
    assert bench.dispatch() == [("good", 11)]
    bench.settle(0)
    for number in range(1, 11):
        assert bench.dispatch() == [("bad", number)]
        bench.settle(number)


def test_a_line_costs_24_bytes_a_message() -> None:
    bench = Bench()
    bench.queue.memory_messages_max = 10
    bench.publish(*["a"] * 1000)
    bench.consumer(2)
    bench.dispatch()
    assert bench.group.order is not None
    key = bench.group.order.keys["a"]
    assert isinstance(key.far, array)
    assert key.near is not None
    assert (len(key.near), len(key.far) * key.far.itemsize) == (10, 24 * 989)
    assert bench.queue.length() == key.length() == 999


def test_what_waits_behind_a_key_expires_and_makes_room_as_anything_else() -> None:
    bench = Bench(QueuePolicy(max_length=3, ttl_ms=5000))
    bench.publish("a")
    bench.consumer()
    bench.dispatch()
    bench.publish("a", "a", "a")
    bench.dispatch()
    assert bench.queue.length() == 3
    bench.publish("a")
    assert bench.queue.length() == 3, "the oldest has made room"
    assert [message.body for _, message, _ in bench.queue.browse(0, 9)] == [b"2", b"3", b"4"]
    bench.wait(5000)
    bench.wait(SWEEP_INTERVAL_MS)
    assert bench.queue.length() == 0
    bench.settle(0)
    bench.publish("a")
    assert bench.dispatch() == [("a", 5)]


# -- what an operator does -----------------------------------------------------------------


def test_keys_that_fail_are_listed_first() -> None:
    bench = Bench()
    bench.consumer()
    bench.publish("a", "b", "b", "c", "d")
    bench.dispatch()
    bench.wait(10)
    bench.settle(1, Outcome.REQUEUE, 0)
    bench.dispatch()
    bench.settle(3, Outcome.REQUEUE, 5000)
    bench.broker.queues.keys.park(bench.group, "p")
    keys, group = bench.broker.queues.keys, bench.group
    found = {one.key: one for one in keys.listing(group, 10)}
    assert {key: (one.state, one.attempts, one.behind) for key, one in found.items()} == {
        "a": (DELIVERED, 1, 0),
        "b": (DELIVERED, 2, 1),
        "c": (DELAYED, 1, 0),
        "d": (DELIVERED, 1, 0),
        "p": (PARKED, 0, 0),
    }
    assert found["b"].since_ms == NOW_MS
    assert [one.key for one in keys.listing(group, 10, failing=True)] == ["b", "c", "p"]
    assert [one.key for one in keys.listing(group, 1)] == ["b"]
    bench.broker.queues.detach(group.consumers[0])
    assert {one.state for one in keys.listing(group, 10)} == {WAITING, DELAYED, PARKED}


def test_without_keys_there_is_nothing_to_list_skip_or_unpark() -> None:
    bench = Bench()
    keys = bench.broker.queues.keys
    assert keys.listing(bench.group, 10) == []
    for act in (keys.skip, keys.unpark):
        with pytest.raises(NotFound):
            act(bench.group, "a")
    with pytest.raises(Conflict):
        keys.group(bench.queue, "g")
    stream, _ = bench.broker.catalog.declare("s", "stream")
    with pytest.raises(Conflict):
        keys.group(stream, "")
    with pytest.raises(NotFound):
        keys.group(stream, "g")


def test_a_parked_key_waits_and_others_flow() -> None:
    bench = Bench()
    bench.consumer()
    bench.publish("a", "a")
    bench.dispatch()
    bench.broker.queues.keys.park(bench.group, "a")
    bench.settle(0)
    bench.publish("b", "a")
    assert bench.dispatch() == [("b", 2)]
    bench.broker.queues.keys.unpark(bench.group, "a")
    assert bench.dispatch() == [("a", 1)]
    bench.settle(1)
    assert bench.dispatch() == [("a", 3)]


def test_what_is_not_ordered_cannot_be_parked_and_not_too_much_can(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(QueuePolicy(ordered=False))
    with pytest.raises(Conflict, match="not ordered"):
        bench.broker.queues.keys.park(bench.group, "a")
    monkeypatch.setattr("gateway.core.keys.PARKED_MAX", 1)
    bench = Bench()
    bench.broker.queues.keys.park(bench.group, "a")
    with pytest.raises(Conflict, match="as many as can be"):
        bench.broker.queues.keys.park(bench.group, "b")


def test_what_is_skipped_goes_to_the_dead_letters_and_its_consumer_settles_nothing() -> None:
    bench = Bench()
    bench.consumer()
    bench.publish("a", "a")
    bench.dispatch()
    assert bench.broker.queues.keys.skip(bench.group, "a").body == b"0"
    assert not bench.settle(0)
    assert bench.dispatch() == [("a", 1)]
    letters = bench.broker.catalog.get("$dead/q").browse(0, 10)
    assert [message.body for _, message, _ in letters] == [b"0"]
    bench.settle(1, Outcome.REQUEUE, 60_000)
    assert bench.broker.queues.keys.skip(bench.group, "a").body == b"1"
    assert bench.dispatch() == []
    assert bench.broker.queues.keys.listing(bench.group, 10) == [], "nothing comes back"
    bench.wait(60_000)
    assert bench.dispatch() == []


def test_what_backs_off_in_the_log_alone_is_skipped_with_its_body() -> None:
    bench = Bench(QueuePolicy(backoff_ms=(1000,), dead_letter="$queue/q2"))
    dead, _ = bench.broker.catalog.declare("q2")
    bench.queue.memory_messages_max = 1
    bench.publish("a", "b")
    bench.consumer()
    assert bench.dispatch() == [("a", 0), ("b", 1)]
    bench.settle(0, Outcome.REQUEUE)
    bench.settle(1, Outcome.REQUEUE)
    assert bench.broker.queues.keys.skip(bench.group, "b").body == b"1"
    assert [message.body for _, message, _ in dead.browse(0, 10)] == [b"1"]


def test_a_queue_or_group_that_goes_takes_its_parked_keys_with_it(tmp_path: Path) -> None:
    clock = Clock(NOW_MS, 0)
    broker = Broker(CommitLog(tmp_path), clock)
    broker.restore(lambda: None)
    queue, _ = broker.catalog.declare("q")
    stream, _ = broker.catalog.declare("s", "stream")
    assert isinstance(stream, StreamQueue)
    for name in ("g", "h"):
        broker.queues.keys.park(stream.group(name), "a")
    broker.queues.keys.park(broker.queues.keys.group(queue, ""), "a")
    broker.queues.delete(queue)
    broker.queues.remove_group(stream, "g")
    broker.dispatch()
    broker.engine.close()
    broker = Broker(CommitLog(tmp_path), clock)
    broker.restore(lambda: None)
    found = broker.catalog.get("s")
    assert [group.name for group in found.groups()] == ["h"]
    assert [one.key for one in broker.queues.keys.listing(found.groups()[0], 10)] == ["a"]
    queue, _ = broker.catalog.declare("q")
    assert broker.queues.keys.listing(broker.queues.keys.group(queue, ""), 10) == []
    broker.engine.close()


# -- leases of connected consumers ---------------------------------------------------------


def test_what_a_consumer_hangs_on_goes_to_another() -> None:
    bench = Bench(QueuePolicy(lease_ms=1000))
    hanging = bench.consumer(1)
    bench.publish("a", "a")
    assert bench.dispatch() == [("a", 0)]
    good = bench.consumer(1)
    bench.wait(999)
    assert bench.dispatch() == []
    bench.wait(30)
    assert bench.dispatch() == [("a", 0)]
    assert bench.held[-1].consumer is good
    assert bench.held[-1].attempt == 2
    late, again = bench.held
    assert not bench.broker.settlement.settle(late, Outcome.ACK), "a late one settles nothing"
    assert bench.broker.settlement.settle(again, Outcome.ACK)
    assert (hanging.unsettled, good.unsettled) == (0, 0), "but it frees the window"
    assert bench.dispatch() == [("a", 1)]


def test_who_hangs_gets_no_more_than_its_window_until_it_says_something() -> None:
    bench = Bench(QueuePolicy(lease_ms=1000))
    hanging = bench.consumer(2)
    bench.publish(None, None, None)
    assert len(bench.dispatch()) == 2
    for _ in range(3):
        bench.wait(1100)
        assert bench.dispatch() == []
    assert hanging.unsettled == 2
    bench.broker.settlement.acknowledge(bench.held[:1])
    assert bench.dispatch() == [(None, 0)]


def test_a_lease_that_is_extended_holds() -> None:
    bench = Bench(QueuePolicy(lease_ms=1000))
    bench.consumer(2)
    bench.publish(None, None)
    bench.dispatch()
    for _ in range(3):
        bench.wait(600)
        assert bench.broker.settlement.overdue.extend(bench.held[0])
    assert len(bench.group.unsettled) == 1, "the other is taken back"
    assert bench.settle(0)
    assert not bench.broker.settlement.overdue.extend(bench.held[0])


def test_what_was_pulled_has_its_own_lease() -> None:
    bench = Bench(QueuePolicy(lease_ms=1000))
    consumer = bench.consumer(1)
    bench.publish(None)
    bench.dispatch()
    bench.broker.queues.detach(consumer, give_back=False)
    bench.broker.leases.hold("token", bench.held[0], 5000)
    bench.wait(4000)
    bench.broker.leases.extend("token", 5000)
    bench.wait(4900)
    bench.broker.leases.settle("token", Outcome.ACK)
    assert bench.broker.metrics.delivered == 1


# -- groups that nobody uses ---------------------------------------------------------------


def test_a_group_that_nobody_uses_goes_after_a_while() -> None:
    bench = Bench()
    stream, _ = bench.broker.catalog.declare("s", "stream", QueuePolicy(group_expires_ms=5000))
    assert isinstance(stream, StreamQueue)
    idle, used = stream.group("idle"), stream.group("used")
    consumer = Consumer("c", 1, bench.held.extend)
    bench.broker.queues.attach(used, consumer)
    for _ in range(4):
        bench.wait(SWEEP_INTERVAL_MS)
        bench.wait(10)
    assert stream.groups() == [idle, used]
    for _ in range(3):
        bench.wait(SWEEP_INTERVAL_MS)
        bench.wait(10)
    assert stream.groups() == [used]
    with pytest.raises(Conflict, match="consumers"):
        bench.broker.queues.remove_group(stream, "used")
    with pytest.raises(NotFound):
        bench.broker.queues.remove_group(stream, "idle")
