"""Streams: offsets, groups with cursors, seeking, retention, and what a group gives back."""

from __future__ import annotations

import pytest

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import Conflict, NotFound
from gateway.core.message import Message, Outcome
from gateway.core.policy import QueuePolicy
from gateway.core.stream import StreamQueue
from gateway.core.sweeper import SWEEP_INTERVAL_MS
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000


class Reader(Consumer):
    """A consumer that keeps what it is handed."""

    def __init__(self, stream: Stream, group: str, window: int = 100, start: int | None = 0) -> None:
        super().__init__(f"reader of {group}", window, self._take)
        self.stream = stream
        self.held: list[Delivery] = []
        stream.broker.queues.attach(stream.queue.group(group, start), self)

    def _take(self, batch: list[Delivery]) -> None:
        self.held.extend(batch)

    def read(self) -> list[tuple[int, int]]:
        """Dispatch; return (offset, attempt) of what is new."""
        before = len(self.held)
        self.stream.broker.dispatch()
        return [(delivery.offset, delivery.attempt) for delivery in self.held[before:]]

    def settle(self, offset: int, outcome: Outcome, delay_ms: int | None = None) -> bool:
        """Settle the last delivery of an offset."""
        delivery = [held for held in self.held if held.offset == offset][-1]
        return self.stream.broker.settlement.settle(delivery, outcome, delay_ms)


class Stream:
    """A stream and its broker."""

    def __init__(self, durable: bool = True, **policy: int | str) -> None:
        self.clock = Clock(NOW_MS, 0)
        self.broker = Broker(MemoryEngine(), self.clock)
        self.broker.restore(lambda: None)
        queue, _ = self.broker.catalog.declare("s", "stream", QueuePolicy.from_mapping(policy), durable)
        assert isinstance(queue, StreamQueue)
        self.queue = queue

    def publish(self, *bodies: bytes, expires_in_ms: int = 0) -> None:
        expires_at_ms = self.clock.now_ms + expires_in_ms if expires_in_ms else 0
        for body in bodies:
            self.broker.publish(Message("$queue/s", body, 1, expires_at_ms=expires_at_ms))

    def advance(self, ms: int) -> None:
        self.clock.set(self.clock.now_ms + ms, self.clock.monotonic_ms + ms)
        self.broker.scheduler.run_due()

    def offsets(self) -> list[int]:
        return [offset for offset, _, _ in self.queue.browse(0, 1000)]


def _offsets(read: list[tuple[int, int]]) -> list[int]:
    return [offset for offset, _ in read]


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_settled_stays_and_every_group_reads_it_all(durable: bool) -> None:
    stream = Stream(durable)
    stream.publish(b"a", b"b", b"c")
    for group in ("g1", "g2"):
        reader = Reader(stream, group)
        assert reader.read() == [(0, 1), (1, 1), (2, 1)]
        assert [delivery.message.body for delivery in reader.held] == [b"a", b"b", b"c"]
        for offset in range(3):
            assert reader.settle(offset, Outcome.ACK)
            assert not reader.settle(offset, Outcome.ACK)
    assert [message.body for _, message, _ in stream.queue.browse(1, 5)] == [b"b", b"c"]
    assert stream.queue.length() == 3
    assert [stream.queue.depth(group) for group in stream.queue.groups()] == [0, 0]


@pytest.mark.parametrize(("start", "expected"), [(None, []), (0, [0, 1]), (1, [1]), (-5, [0, 1]), (99, [])])
def test_a_new_group_begins_where_it_is_told_or_at_the_next_message(
    start: int | None, expected: list[int]
) -> None:
    stream = Stream()
    stream.publish(b"a", b"b")
    reader = Reader(stream, "g", start=start)
    assert _offsets(reader.read()) == expected
    stream.publish(b"c")
    assert _offsets(reader.read()) == [2]


def test_a_forgotten_group_begins_anew() -> None:
    stream = Stream()
    stream.publish(b"a")
    group = stream.queue.group("g", 0)
    assert stream.queue.group("g", 1) is group
    stream.queue.remove_group("g")
    stream.queue.remove_group("g")
    assert stream.queue.groups() == []
    assert stream.queue.group("g").cursor == 1


def test_readers_of_one_group_share_its_messages() -> None:
    stream = Stream()
    readers = [Reader(stream, "g"), Reader(stream, "g")]
    stream.publish(*[b"x"] * 6)
    stream.broker.dispatch()
    held = [[delivery.offset for delivery in reader.held] for reader in readers]
    assert sorted(held[0] + held[1]) == list(range(6))
    assert all(held), "one reader took it all"


def test_who_is_far_behind_is_served_from_the_log() -> None:
    stream = Stream()
    stream.queue.memory_messages_max = 2
    keeping_up = Reader(stream, "now")
    bodies = [bytes([n]) for n in range(7)]
    for body in bodies:
        stream.publish(body)
        keeping_up.read()
    assert len(stream.queue.recent) == 2
    late = Reader(stream, "late", window=3)
    while got := _offsets(late.read()):
        for offset in got:
            late.settle(offset, Outcome.ACK)
    for reader in (keeping_up, late):
        assert [delivery.message.body for delivery in reader.held] == bodies


def test_an_expired_message_is_kept_but_not_handed_out() -> None:
    stream = Stream()
    stream.publish(b"old", expires_in_ms=10)
    stream.publish(b"new")
    stream.advance(10)
    assert _offsets(Reader(stream, "g").read()) == [1]
    assert stream.offsets() == [0, 1]


# -- giving back --------------------------------------------------------------------------


def test_what_was_given_back_comes_before_the_cursor_in_order() -> None:
    stream = Stream()
    stream.publish(*[b"x"] * 4)
    reader = Reader(stream, "g", window=3)
    assert _offsets(reader.read()) == [0, 1, 2]
    for offset in (2, 0, 1):
        assert reader.settle(offset, Outcome.REQUEUE)
    assert stream.queue.depth(stream.queue.group("g")) == 4
    assert reader.read() == [(0, 2), (1, 2), (2, 2)]


def test_retry_waits_its_time_and_costs_no_attempt() -> None:
    stream = Stream(delivery_limit=1, retry_delay_ms=200)
    stream.publish(b"a", b"b")
    reader = Reader(stream, "g")
    reader.read()
    reader.settle(0, Outcome.RETRY)
    reader.settle(1, Outcome.RETRY, 50)
    stream.advance(49)
    assert reader.read() == []
    stream.advance(1)
    assert reader.read() == [(1, 1)]
    stream.advance(150)
    assert reader.read() == [(0, 1)]


def test_a_reader_that_leaves_gives_back_what_it_held() -> None:
    stream = Stream()
    stream.publish(b"a", b"b", b"c")
    first = Reader(stream, "g", window=2)
    first.read()
    first.settle(0, Outcome.ACK)
    stream.broker.queues.detach(first)
    assert Reader(stream, "g").read() == [(1, 2), (2, 1)]


@pytest.mark.parametrize(
    ("outcomes", "cause"),
    [([Outcome.REJECT], "rejected"), ([Outcome.REQUEUE, Outcome.REQUEUE], "delivery_limit")],
)
def test_a_group_gives_up_for_itself_alone(outcomes: list[Outcome], cause: str) -> None:
    stream = Stream(delivery_limit=2, dead_letter="$queue/dead")
    dead, _ = stream.broker.catalog.declare("dead")
    stream.publish(b"a")
    reader, other = Reader(stream, "g"), Reader(stream, "other")
    for attempt, outcome in enumerate(outcomes, 1):
        assert reader.read() == [(0, attempt)]
        reader.settle(0, outcome)
    assert reader.read() == []
    letters = [message for _, message, _ in dead.browse(0, 10)]
    assert [(m.body, m.properties.header("dead-letter-cause")) for m in letters] == [(b"a", cause)]
    assert other.settle(0, Outcome.ACK)
    assert stream.offsets() == [0]


def test_the_floor_is_the_oldest_offset_that_is_not_settled() -> None:
    stream = Stream()
    stream.publish(*[b"x"] * 5)
    group = stream.queue.group("g", 0)
    reader = Reader(stream, "g", window=4)
    assert stream.queue.floor(group) == 0
    reader.read()
    floors = []
    for offset, outcome in [(1, Outcome.ACK), (0, Outcome.ACK), (2, Outcome.RETRY), (3, Outcome.ACK)]:
        reader.settle(offset, outcome)
        floors.append(stream.queue.floor(group))
    assert floors == [0, 2, 2, 2]
    stream.advance(1000)
    assert stream.queue.floor(group) == 2  # not parked any more, but not settled either
    assert reader.read() == [(2, 1), (4, 1)]


# -- seeking ------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "expected"), [(0, [2, 3]), (3, [3]), (99, []), (-1, [2, 3])])
def test_seek_moves_a_group_to_what_exists(offset: int, expected: list[int]) -> None:
    stream = Stream(max_length=2)
    stream.publish(*[b"x"] * 4)
    reader = Reader(stream, "g")
    for held in _offsets(reader.read()):
        reader.settle(held, Outcome.ACK)
    stream.broker.queues.seek(stream.queue, "g", offset)
    assert _offsets(reader.read()) == expected


def test_seek_makes_a_group_but_not_on_a_classic_queue() -> None:
    stream = Stream()
    stream.publish(b"a", b"b")
    assert stream.broker.queues.seek(stream.queue, "new", 1) is stream.queue.group("new")
    assert stream.queue.group("new").cursor == 1
    classic, _ = stream.broker.catalog.declare("c")
    with pytest.raises(Conflict, match="only a stream has groups"):
        stream.broker.queues.seek(classic, "g", 0)


def test_seek_forgets_what_was_given_back_before() -> None:
    stream = Stream()
    stream.publish(b"a", b"b", b"c")
    reader = Reader(stream, "g")
    reader.read()
    reader.settle(0, Outcome.REQUEUE)
    reader.settle(1, Outcome.RETRY)
    stream.broker.queues.seek(stream.queue, "g", 2)
    stream.advance(10_000)
    assert _offsets(reader.read()) == [2]


@pytest.mark.parametrize("settle_first", [False, True])
def test_a_reader_whose_group_is_moved_back_keeps_its_whole_window(settle_first: bool) -> None:
    stream = Stream()
    stream.publish(b"a", b"b")
    reader = Reader(stream, "g", window=4)
    reader.read()
    stale = list(reader.held)
    for _ in range(3):
        stream.broker.queues.seek(stream.queue, "g", 0)
        assert _offsets(reader.read()) == [0, 1]
        if settle_first:
            assert not any(stream.broker.settlement.settle(old, Outcome.ACK) for old in stale)
        assert [reader.settle(offset, Outcome.ACK) for offset in (0, 1)] == [True, True]
        assert reader.unsettled == 0


@pytest.mark.parametrize("outcome", [Outcome.REQUEUE, Outcome.RETRY])
@pytest.mark.parametrize("before", [False, True], ids=["given back after", "given back before"])
def test_after_a_seek_back_nothing_comes_twice(outcome: Outcome, before: bool) -> None:
    stream = Stream()
    stream.publish(b"a", b"b", b"c")
    reader = Reader(stream, "g")
    reader.read()
    if before:
        reader.settle(1, outcome)
    stream.broker.queues.seek(stream.queue, "g", 0)
    if not before:
        reader.settle(1, outcome)
    got = _offsets(reader.read())
    stream.advance(10_000)
    assert got + _offsets(reader.read()) == [0, 1, 2]
    assert reader.unsettled == 3


# -- retention ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ({}, [0, 1, 2, 3]),
        ({"max_length": 3}, [1, 2, 3]),
        ({"max_bytes": 9}, [2, 3]),
        ({"max_bytes": 10}, [2, 3]),
        ({"max_bytes": 3}, []),
        ({"max_length": 3, "max_bytes": 4}, [3]),
        ({"overflow": "reject", "max_length": 4}, [0, 1, 2, 3]),
    ],
)
@pytest.mark.parametrize("durable", [False, True])
def test_length_and_bytes_trim_from_the_head(
    policy: dict[str, int | str], kept: list[int], durable: bool
) -> None:
    stream = Stream(durable, **policy)
    for body in (b"1", b"22", b"55555", b"4444"):
        stream.publish(body)
    stream.broker.dispatch()
    assert stream.offsets() == kept
    assert (stream.queue.first_offset, stream.queue.next_offset) == (4 - len(kept), 4)
    assert stream.queue.bytes_waiting == sum(len(message.body) for _, message, _ in stream.queue.browse(0, 9))


def test_age_trims_without_anybody_publishing() -> None:
    stream = Stream(max_age_ms=5000)
    stream.publish(b"a")
    stream.advance(SWEEP_INTERVAL_MS)
    stream.publish(b"b")
    kept = []
    for _ in range(5):
        stream.advance(SWEEP_INTERVAL_MS)
        kept.append(stream.offsets())
    assert kept == [[0, 1]] * 3 + [[1], []]


def test_what_is_trimmed_leaves_the_engine() -> None:
    stream = Stream(max_length=1)
    engine = stream.broker.engine
    stream.publish(b"a")
    position = engine.position()
    stream.publish(b"b")
    stream.broker.dispatch()
    assert [entry.message.body for entry in engine.after(stream.queue.queue_id, 0, 9)] == [b"b"]
    with pytest.raises(NotFound):
        engine.read(position)


def test_a_group_that_fell_off_the_head_goes_on_at_the_new_head() -> None:
    stream = Stream(max_length=2)
    reader = Reader(stream, "g", window=2)
    stream.publish(*[b"x"] * 2)
    reader.read()
    stream.publish(*[b"x"] * 5)
    assert reader.settle(0, Outcome.REQUEUE)  # trimmed meanwhile: nobody gets it again
    assert reader.settle(1, Outcome.ACK)
    assert stream.queue.depth(stream.queue.group("g")) >= 2
    assert _offsets(reader.read()) == [5, 6]


def test_a_purge_moves_every_group_behind_the_end() -> None:
    stream = Stream()
    stream.publish(b"a", b"b")
    reader = Reader(stream, "g", window=1)
    reader.read()
    assert stream.broker.queues.purge(stream.queue) == 2
    assert (stream.queue.length(), stream.queue.bytes_waiting, stream.queue.first_offset) == (0, 0, 2)
    assert reader.settle(0, Outcome.ACK)
    stream.publish(b"c")
    assert _offsets(reader.read()) == [2]


@pytest.mark.parametrize("outcome", [None, Outcome.REQUEUE, Outcome.RETRY])
def test_what_could_not_be_stored_is_handed_out_no_more(outcome: Outcome | None) -> None:
    stream = Stream()
    stream.publish(b"a")
    reader = Reader(stream, "g", window=3)
    position = stream.broker.engine.position()
    stream.publish(b"lost")
    assert _offsets(reader.read()) == [0, 1]
    if outcome is not None:
        reader.settle(1, outcome)
    assert isinstance(stream.broker.engine, MemoryEngine)
    stream.broker.engine.forget_from(position + 1)
    stream.broker.rollback(position + 1)
    stream.advance(10_000)
    assert reader.read() == []
    assert stream.offsets() == [0]
    stream.publish(b"next")
    assert _offsets(reader.read()) == [1]
    assert reader.held[-1].message.body == b"next"
    assert [reader.settle(offset, Outcome.ACK) for offset in (0, 1)] == [True, True]
    assert reader.unsettled == 0


# -- times --------------------------------------------------------------------------------


def test_a_time_is_the_offset_of_what_was_stored_then_or_later() -> None:
    stream = Stream(max_length=4)
    for _ in range(6):
        stream.publish(b"x", b"y")  # two at 0 s, two at 1 s, ... ; the last four are kept
        stream.advance(1000)
        stream.broker.dispatch()
    assert (stream.queue.first_offset, stream.queue.next_offset) == (8, 12)
    times = {-1: 8, 0: 8, 3999: 8, 4000: 8, 4001: 10, 5000: 10, 5001: 12, 99_000: 12}
    assert {ms: stream.queue.offset_at(NOW_MS + ms) for ms in times} == times
