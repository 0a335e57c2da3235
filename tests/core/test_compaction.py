"""Compacted streams: of each key the last message, whatever turns fail and however often one restarts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.compaction import GRAVE_MS
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import Conflict, NotStored
from gateway.core.journey import journey
from gateway.core.message import Message, Outcome, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.router import Binding
from gateway.core.stream import StreamQueue
from gateway.storage.commitlog import CommitLog
from tests.process import wait_for
from tests.storage.commitlog.faulty_files import FaultyFiles

NOW_MS = 1_700_000_000_000


class Bench:
    """A broker with a log whose disk can be full, and one compacted stream."""

    def __init__(self, path: Path, **policy: int) -> None:
        self.path = path
        self.policy = QueuePolicy(compact=True, **policy)
        self.clock = Clock(NOW_MS, 0)
        self.start()

    def start(self) -> None:
        self.files = FaultyFiles()
        self.broker = Broker(CommitLog(self.path, segment_bytes=2000, files=self.files), self.clock)
        self.broker.restore(lambda: None)
        queue, _ = self.broker.catalog.declare("s", "stream", self.policy)
        assert isinstance(queue, StreamQueue)
        self.queue = queue
        self.turn()

    def restart(self) -> None:
        self.turn()
        self.broker.engine.close()
        self.start()

    def publish(self, key: str, body: bytes) -> None:
        self.broker.publish(Message("$queue/s", body, 1, properties=Properties(key=key)))

    def turn(self) -> bool:
        """End a turn as the shell does; tell whether it was written."""
        self.broker.dispatch()
        try:
            self.broker.engine.flush()
        except NotStored:
            self.broker.rollback(self.broker.engine.failed_from())
            return False
        self._wait_for_the_disk()
        self.broker.flushed()
        self.broker.engine.flush()
        return True

    def _wait_for_the_disk(self) -> None:
        engine = self.broker.engine
        assert isinstance(engine, CommitLog)
        written = engine._written
        engine.when_durable(engine.position(), lambda stored: None)  # else it takes a tenth of a second
        wait_for(lambda: written <= 1 or engine.stored(written - 1) is not None, what="the sync")

    def advance(self, ms: int) -> None:
        self.clock.set(self.clock.now_ms + ms, self.clock.monotonic_ms + ms)
        self.broker.scheduler.run_due()

    def kept(self) -> list[tuple[int, str, bytes]]:
        return [(offset, m.properties.key, m.body) for offset, m, _ in self.queue.browse(0, 1000)]


class Model:
    """A dictionary, and what the turn in progress adds to it."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[int, bytes, int]] = {}
        self.turn: list[tuple[str, bytes, int]] = []
        self.next = 0

    def written(self) -> None:
        for key, body, now_ms in self.turn:
            self.kept[key] = (self.next, body, now_ms)
            self.next += 1
        self.turn = []

    def bury(self, now_ms: int) -> None:
        self.kept = {k: v for k, v in self.kept.items() if v[1] or v[2] + GRAVE_MS > now_ms}

    def trim(self, count: int) -> None:
        for key, _ in sorted(self.kept.items(), key=lambda item: item[1][0])[:-count]:
            del self.kept[key]

    def expected(self) -> list[tuple[int, str, bytes]]:
        return sorted((offset, key, body) for key, (offset, body, _) in self.kept.items())


PUBLISH = st.tuples(st.sampled_from("abcdef"), st.sampled_from([b"", b"x", b"yy"]))
STEPS = st.lists(st.one_of(PUBLISH, st.sampled_from(["turn", "full", "restart", "day"])), max_size=40)


@given(STEPS, st.booleans())
def test_it_is_a_dictionary_with_offsets(steps: list[tuple[str, bytes] | str], attached: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        bench, model = Bench(Path(directory)), Model()
        if attached:  # then the newest are in memory as well
            bench.broker.queues.attach(bench.queue.group("g"), Consumer("c", 2, lambda batch: None))
        for step in steps:
            if isinstance(step, tuple):
                bench.publish(*step)
                model.turn.append((*step, bench.clock.now_ms))
                continue
            if step == "full":
                bench.files.room = 0
                if bench.turn():
                    assert not model.turn
                bench.files.room = None
                model.turn = []
            elif step == "turn":
                assert bench.turn()
                model.written()
            elif step == "restart":
                model.written()
                bench.restart()
            else:
                assert bench.turn()
                model.written()
                bench.advance(GRAVE_MS)
                assert bench.turn()
                assert bench.turn()
                model.bury(bench.clock.now_ms)
            assert bench.kept() == model.expected()
            assert bench.queue.length() == len(model.expected())
            assert bench.queue.bytes_waiting == sum(len(body) for _, _, body in model.expected())
        bench.broker.engine.close()


@given(st.lists(st.one_of(PUBLISH, st.just("turn"), st.just("restart")), max_size=40))
def test_its_oldest_keys_make_room(steps: list[tuple[str, bytes] | str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        bench, model = Bench(Path(directory), max_length=3), Model()
        for step in [*steps, "turn"]:
            if isinstance(step, tuple):
                bench.publish(*step)
                model.turn.append((*step, bench.clock.now_ms))
                continue
            model.written()
            if step == "restart":
                bench.restart()
            else:
                bench.turn()
            bench.turn()  # what a turn has replaced goes first, then the oldest keys
            newest = model.expected()[-3:]
            assert bench.kept() == newest
            model.kept = {key: model.kept[key] for _, key, _ in newest}
            assert bench.queue.compaction is not None
            assert len(bench.queue.compaction) == len(newest)
        bench.broker.engine.close()


def test_readers_get_what_is_left_of_what_they_have_not_seen(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for round_ in range(3):
        for key in "abc":
            bench.publish(key, b"%d" % round_)
        bench.turn()
    held: list[Delivery] = []
    reader = Consumer("c", 100, held.extend)
    bench.broker.queues.attach(bench.queue.group("g", 0), reader)
    bench.turn()
    assert [(d.offset, d.message.properties.key, d.message.body) for d in held] == [
        (6, "a", b"2"),
        (7, "b", b"2"),
        (8, "c", b"2"),
    ]
    bench.broker.settlement.settle(held[0], Outcome.REQUEUE)
    bench.broker.settlement.acknowledge(held[1:])
    held.clear()
    bench.publish("a", b"3")
    bench.turn()
    assert [(d.offset, d.message.body) for d in held] == [(6, b"2")], "one of a key at a time"
    bench.broker.settlement.acknowledge(held)
    held.clear()
    bench.turn()
    assert [(d.offset, d.message.body) for d in held] == [(9, b"3")]
    bench.restart()
    assert bench.queue.group("g").cursor == 9, "what it held before is settled"
    bench.broker.engine.close()


def test_without_a_key_the_topic_is_the_key(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.broker.catalog.bind(bench.queue, Binding("t/#", bench.queue))
    for topic, body in [("t/1", b"a"), ("t/2", b"b"), ("t/1", b"c")]:
        bench.broker.publish(Message(topic, body, 1))
    bench.turn()
    assert [(offset, body) for offset, _, body in bench.kept()] == [(1, b"b"), (2, b"c")]
    bench.broker.engine.close()


def test_the_journey_of_a_message_says_that_another_has_replaced_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for n in range(2):
        properties = Properties(key="k", message_id=f"m{n}")
        bench.broker.publish(Message("$queue/s", b"%d" % n, 1, properties=properties))
        bench.turn()
    bench.turn()
    for name, state in [("m0", "superseded"), ("m1", "kept")]:
        (position,) = bench.broker.engine.find(name, 10)
        found = journey(bench.broker.engine, bench.broker.catalog, position)
        assert [stay.state for stay in found.stays] == [state]
    bench.broker.engine.close()


@pytest.mark.parametrize(("kind", "durable"), [("classic", True), ("classic", False), ("stream", False)])
def test_only_a_durable_stream_can_be_compacted(tmp_path: Path, kind: str, durable: bool) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(Conflict, match="only a durable stream can be compacted"):
        bench.broker.catalog.declare("other", kind, QueuePolicy(compact=True), durable)
    bench.broker.engine.close()


def test_a_stream_is_compacted_from_its_beginning_or_never(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(Conflict, match="from its beginning, or never"):
        bench.broker.catalog.set_policy(bench.queue, QueuePolicy())
    bench.broker.engine.close()
