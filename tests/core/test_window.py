"""What of a classic queue is in memory: its next window while somebody consumes, else nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.message import Message, Origin, Outcome
from gateway.core.metrics import DropCause
from gateway.core.policy import QueuePolicy
from gateway.core.router import Binding
from gateway.core.sweeper import SWEEP_INTERVAL_MS
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000
WINDOW = 10


class Bench:
    """A broker with one durable queue of a small window."""

    def __init__(self, engine: MemoryEngine | CommitLog | None = None, **policy: int | str) -> None:
        self.clock = Clock(NOW_MS, 0)
        self.broker = Broker(engine or MemoryEngine(), self.clock)
        self.broker.restore(lambda: None)
        queue, _ = self.broker.catalog.declare("q", policy=QueuePolicy.from_mapping(policy))
        assert isinstance(queue, ClassicQueue)
        queue.memory_messages_max = WINDOW
        self.queue = queue

    def publish(self, count: int, expires_in_ms: int = 0) -> None:
        for _ in range(count):
            expires_at_ms = self.clock.now_ms + expires_in_ms if expires_in_ms else 0
            body = b"%d" % self.queue.next_offset
            self.broker.publish(Message("$queue/q", body, 1, expires_at_ms=expires_at_ms))

    def consume(self, window: int) -> tuple[Consumer, list[Delivery]]:
        held: list[Delivery] = []
        consumer = Consumer("c", window, held.extend, Origin("test"))
        self.broker.queues.attach(self.queue.group, consumer)
        return consumer, held

    def sweep(self) -> None:
        self.clock.set(self.clock.now_ms + SWEEP_INTERVAL_MS, self.clock.monotonic_ms + SWEEP_INTERVAL_MS)
        self.broker.scheduler.run_due()

    def check(self) -> None:
        metrics = self.broker.metrics
        assert metrics.copies == metrics.delivered + sum(metrics.dropped) + self.broker.waiting()


def _drain(bench: Bench, held: list[Delivery]) -> list[bytes]:
    seen: list[bytes] = []
    while True:
        bench.broker.dispatch()
        if not held:
            return seen
        seen += [delivery.message.body for delivery in held]
        bench.broker.settlement.acknowledge(held[:])
        held.clear()
        bench.check()


def test_without_consumers_nothing_is_in_memory() -> None:
    bench = Bench()
    bench.publish(50)
    assert (len(bench.queue.waiting), bench.queue.behind, bench.queue.length()) == (0, 50, 50)
    _, held = bench.consume(3)
    bench.broker.dispatch()
    assert len(bench.queue.waiting) <= WINDOW
    bench.publish(30)
    assert _drain(bench, held[:0]) == []
    bench.broker.settlement.acknowledge(held[:])
    held.clear()
    assert _drain(bench, held) == [b"%d" % n for n in range(3, 80)]
    assert bench.queue.bytes_waiting == 0


def test_what_comes_back_late_keeps_its_offset() -> None:
    bench = Bench(retry_delay_ms=1)
    bench.publish(2)
    consumer, held = bench.consume(2)
    bench.broker.dispatch()
    bench.broker.settlement.settle(held[0], Outcome.RETRY)
    bench.broker.settlement.settle(held[1], Outcome.ACK)
    bench.broker.queues.detach(consumer)
    bench.sweep()
    bench.sweep()
    assert [(offset, message.body) for offset, message, _ in bench.queue.browse(0, 10)] == [(0, b"0")]


def test_what_nobody_has_touched_is_left_to_the_index_when_the_last_consumer_goes() -> None:
    bench = Bench()
    bench.publish(30)
    consumer, held = bench.consume(4)
    bench.broker.dispatch()
    assert len(bench.queue.waiting) == WINDOW - 4
    bench.broker.queues.detach(consumer, give_back=False)  # four are still held, under leases
    bench.sweep()
    assert (len(bench.queue.waiting), bench.queue.behind) == (0, 26)
    bench.broker.settlement.settle(held[1], Outcome.REQUEUE)
    bench.broker.settlement.settle(held[3], Outcome.ACK)
    bench.sweep()
    assert [delivery.message.body for delivery in bench.queue.waiting] == [b"1"], "it has been tried"
    _, later = bench.consume(100)
    assert _drain(bench, later) == [b"1", *(b"%d" % n for n in range(4, 30))]
    assert [bench.broker.settlement.settle(held[n], Outcome.ACK) for n in (0, 2)] == [True, True]
    bench.check()


def test_given_back_out_of_order_while_others_hold_later_ones() -> None:
    """What comes back lies before what is held: unloading it would hand the later ones out twice."""
    bench = Bench(retry_delay_ms=1)
    bench.publish(12)
    consumer, held = bench.consume(6)
    bench.broker.dispatch()
    bench.broker.queues.detach(consumer, give_back=False)
    bench.broker.settlement.settle(held[0], Outcome.RETRY)
    for _ in range(3):
        bench.sweep()
    _, later = bench.consume(100)
    seen = _drain(bench, later)
    assert seen == [b"0", *(b"%d" % n for n in range(6, 12))]


def test_a_retained_message_is_one_also_after_it_was_unloaded() -> None:
    bench = Bench()
    binding = Binding("t", bench.queue, qos=1).for_retained()
    for n in range(30):
        bench.broker.enqueue(bench.queue, Message("t", b"%d" % n), binding if n % 2 else None)
    consumer, held = bench.consume(3)
    bench.broker.dispatch()
    bench.broker.queues.detach(consumer)
    for _ in range(2):
        bench.sweep()
    held.clear()
    _, held = bench.consume(100)
    bench.broker.dispatch()
    marks = {
        delivery.message.body: delivery.binding is not None and delivery.binding.retained for delivery in held
    }
    assert marks == {b"%d" % n: n % 2 == 1 for n in range(30)}


@pytest.mark.parametrize("own", [True, False], ids=["the message's time", "the queue's"])
def test_what_expires_in_an_idle_queue_goes_in_time(own: bool) -> None:
    bench = Bench(**({} if own else {"ttl_ms": 2500}))
    bench.publish(25, expires_in_ms=2500 if own else 0)
    bench.publish(1)
    lengths = []
    for _ in range(4):
        bench.sweep()
        lengths.append(bench.queue.length())
        bench.check()
    assert lengths == [26, 26, 1 if own else 0, 1 if own else 0]
    assert bench.broker.metrics.dropped[DropCause.EXPIRED] == 26 - lengths[-1]


def test_a_longer_queue_makes_room_from_what_is_not_in_memory() -> None:
    bench = Bench(max_length=20)
    bench.publish(50)
    assert [message.body for _, message, _ in bench.queue.browse(0, 99)] == [b"%d" % n for n in range(30, 50)]
    assert bench.broker.metrics.dropped[DropCause.QUEUE_FULL] == 30
    bench.check()


@pytest.mark.parametrize("start", [0, 3, 17, 49, 50])
def test_browsing_changes_nothing_and_begins_anywhere(start: int) -> None:
    bench = Bench()
    bench.publish(50)
    consumer, _ = bench.consume(2)
    bench.broker.dispatch()
    before = (len(bench.queue.waiting), bench.queue.behind)
    for _ in range(2):
        found = bench.queue.browse(start, 20)
        assert [offset for offset, _, _ in found] == list(range(max(start, 2), min(50, max(start, 2) + 20)))
        assert all(message.body == b"%d" % offset for offset, message, _ in found)
    assert (len(bench.queue.waiting), bench.queue.behind) == before
    assert consumer.unsettled == 2


def test_a_message_whose_record_is_damaged_is_given_up_and_counted(tmp_path: Path) -> None:
    log = CommitLog(tmp_path)
    bench = Bench(log, dead_letter="$queue/q")
    bench.publish(9)
    log.flush()
    segment = next((tmp_path / "log").glob("*.seg"))
    content = bytearray(segment.read_bytes())
    at = content.rindex(b"gateway\0\0\x004")
    content[at] ^= 1
    segment.write_bytes(bytes(content))
    _, held = bench.consume(100)
    assert _drain(bench, held) == [b"%d" % n for n in range(9) if n != 4]
    assert bench.broker.metrics.dropped[DropCause.UNREADABLE] == 1
    assert (bench.queue.length(), bench.queue.bytes_waiting) == (0, 0)
    bench.check()
    log.flush()
    assert log.extent(bench.queue.queue_id).messages == 0
    log.close()
