"""Ordering keys, in every kind of queue, against a list of messages and four sentences.

Of one key one message is in hands at a time, and none before those that came before it. What has no
such reason to wait does not wait as long as there is room. Nothing is lost, nothing is settled twice.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import note as remember
from hypothesis import strategies as st

from gateway.core import order
from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery, Group
from gateway.core.errors import NotFound, NotStored
from gateway.core.message import NO_PROPERTIES, Message, Outcome, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.stream import StreamQueue
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine
from tests.storage.commitlog.faulty_files import FaultyFiles

NOW_MS = 1_700_000_000_000
WAITING, HELD, DONE = "waiting", "held", "done"


class Note:
    """A message as the model knows it."""

    def __init__(self, number: int, key: str | None, priority: int, expires_at_ms: int) -> None:
        self.number, self.key, self.priority, self.expires_at_ms = number, key, priority, expires_at_ms
        self.state = WAITING
        self.until_ms = 0  # held back by RETRY
        self.stored: bool | None = None  # False: never will be
        self.purged = False  # from a stream: once it is given back it is gone


class Kind:
    """What sort of queue, in what engine."""

    def __init__(self, kind: str, durable: bool, log: bool = False, **policy: Any) -> None:
        self.kind, self.durable, self.log, self.policy = kind, durable, log, policy


class World:
    """A queue with one group, its consumers, and the list."""

    def __init__(self, kind: Kind, path: Path) -> None:
        self.kind, self.path = kind, path
        self.clock = Clock(NOW_MS, 0)
        self.notes: list[Note] = []
        self.held: list[Delivery] = []
        self.consumers: list[Consumer] = []
        self.parked: set[str] = set()
        self.start()

    def start(self) -> None:
        self.files = FaultyFiles()
        log = self.kind.log
        engine: Any = CommitLog(self.path, segment_bytes=3000, files=self.files) if log else MemoryEngine()
        self.broker = Broker(engine, self.clock)
        self.broker.restore(lambda: None)
        policy = QueuePolicy(retry_delay_ms=500, **self.kind.policy)
        queue, _ = self.broker.catalog.declare("q", self.kind.kind, policy, self.kind.durable)
        queue.memory_messages_max = 3
        self.queue: Any = queue
        self.flush()

    @property
    def group(self) -> Group:
        if isinstance(self.queue, StreamQueue):
            return self.queue.group("g", 0)
        group: Group = self.queue.group
        return group

    # -- what is done -------------------------------------------------------------------------

    def publish(self, key: str | None, priority: int, ttl_ms: int) -> None:
        if self.kind.log and self.kind.kind == "stream":
            ttl_ms = 0  # whether a restart hands out again what came after depends on who has seen it expire
        now_ms = self.clock.now_ms
        note = Note(len(self.notes), key, priority, now_ms + ttl_ms if ttl_ms else 0)
        self.notes.append(note)
        properties = Properties(key=key, priority=priority) if key or priority else NO_PROPERTIES
        body = b"%d" % note.number
        expires = note.expires_at_ms
        self.broker.publish(Message("$queue/q", body, 1, properties=properties, expires_at_ms=expires))

    def attach(self, window: int) -> None:
        consumer = Consumer("c", window, self.take)
        self.consumers.append(consumer)
        self.broker.queues.attach(self.group, consumer)

    def fetch(self) -> None:
        fetcher = Consumer("f", 1, self.take)
        fetcher.group = self.group
        delivery = self.broker.queues.fetch(self.group, fetcher)
        if delivery is not None:
            self.take([delivery])

    def take(self, batch: list[Delivery]) -> None:
        """Check each delivery as it comes."""
        assert batch
        for delivery in batch:
            note = self.notes[int(delivery.message.body)]
            assert note.state is WAITING, "it is in hands already, or was settled"
            assert note.until_ms <= self.clock.now_ms, "it was to be held back"
            assert not self.expired(note)
            assert note.key not in self.parked or note.key is None
            for other in self.notes:
                if note.key is not None and other.key == note.key:
                    assert other.state is not HELD, "one of a key at a time"
                    assert other.number >= note.number or not self.blocks(other, note), "in order"
            note.state = HELD
            self.held.append(delivery)

    def blocks(self, earlier: Note, note: Note) -> bool:
        same = not self.kind.policy.get("max_priority") or earlier.priority == note.priority
        return earlier.state is WAITING and not self.expired(earlier) and same

    def counts(self, note: Note) -> bool:
        return not self.expired(note) or note.until_ms > self.clock.now_ms

    def expired(self, note: Note) -> bool:
        return 0 < note.expires_at_ms <= self.clock.now_ms

    def settle(self, index: int, outcome: Outcome) -> None:
        if not self.held:
            return
        delivery = self.held.pop(index % len(self.held))
        assert self.broker.settlement.settle(delivery, outcome, 0 if outcome is Outcome.REQUEUE else None)
        assert not self.broker.settlement.settle(delivery, outcome), "settled once"
        note = self.notes[int(delivery.message.body)]
        limit = self.kind.policy.get("delivery_limit", 0)
        ends = outcome is Outcome.REQUEUE and limit and delivery.attempt >= limit
        ends = ends or note.purged or outcome in (Outcome.ACK, Outcome.REJECT)
        note.state = DONE if ends else WAITING
        if outcome is Outcome.RETRY:
            note.until_ms = self.clock.now_ms + 500

    def acknowledge(self) -> None:
        for delivery in self.held:
            self.notes[int(delivery.message.body)].state = DONE
        self.broker.settlement.acknowledge(self.held)
        self.held = []

    def detach(self, index: int) -> None:
        if not self.consumers:
            return
        consumer = self.consumers.pop(index % len(self.consumers))
        mine = [delivery for delivery in self.held if delivery.consumer is consumer]
        self.held = [delivery for delivery in self.held if delivery.consumer is not consumer]
        limit = self.kind.policy.get("delivery_limit", 0)
        self.broker.queues.detach(consumer)
        for delivery in mine:
            note = self.notes[int(delivery.message.body)]
            ends = note.purged or (limit and delivery.attempt >= limit)
            note.state = DONE if ends else WAITING

    def park(self, key: str) -> None:
        self.broker.queues.keys.park(self.group, key)
        self.parked.add(key)

    def unpark(self, key: str) -> None:
        if key not in self.parked:
            with pytest.raises(NotFound):
                self.broker.queues.keys.unpark(self.group, key)
            return
        self.parked.discard(key)
        self.broker.queues.keys.unpark(self.group, key)

    def skip(self, key: str) -> None:
        """Give up what a key is stuck at, as an operator does."""
        try:
            skipped = self.broker.queues.keys.skip(self.group, key)
        except NotFound:
            order = self.group.order
            known = order.keys.get(key) if order is not None else None
            assert known is None or not known.length(), "there was something to skip"
            return
        note = self.notes[int(skipped.body)]
        mine = [n for n in self.notes if n.key == key and (n.state is HELD or self.blocks(n, note))]
        assert note.key == key
        assert self.kind.policy.get("max_priority") or note.number == min(n.number for n in [*mine, note])
        note.state = DONE
        self.held = [delivery for delivery in self.held if delivery.message is not skipped]

    def wait(self, milliseconds: int) -> None:
        self.clock.set(self.clock.now_ms + milliseconds, self.clock.monotonic_ms + milliseconds)
        self.broker.scheduler.run_due()

    def purge(self) -> None:
        self.broker.queues.purge(self.queue)
        for note in self.notes:
            if note.state is WAITING and (self.kind.kind == "stream" or note.until_ms <= self.clock.now_ms):
                note.state = DONE
            note.purged = self.kind.kind == "stream"

    def flush(self) -> None:
        self.turn(False)

    def turn(self, fails: bool) -> None:
        """End a turn as the shell does."""
        while self.broker.dispatch():
            pass
        self.files.room = 0 if fails else None
        try:
            self.broker.engine.flush()
        except NotStored:
            self.files.room = None
            self.broker.rollback(self.broker.engine.failed_from())
            for note in self.notes:
                if note.stored is None:
                    note.stored = False
                    note.state = HELD if note.state is HELD and self.kind.kind != "stream" else DONE
            if self.kind.kind == "stream":
                self.held = [d for d in self.held if self.notes[int(d.message.body)].state is HELD]
        else:
            self.files.room = None
            engine = self.broker.engine
            if isinstance(engine, CommitLog):
                _wait_for_the_disk(engine)
            self.broker.flushed()
            self.broker.engine.flush()
            for note in self.notes:
                note.stored = note.stored is not False
        while self.broker.dispatch():
            pass

    def restart(self) -> None:
        """Stop as by a kill: what is in hands comes back."""
        if not (self.kind.log and self.kind.durable):
            return
        self.turn(False)
        floor = min((n.number for n in self.notes if n.state is not DONE), default=len(self.notes))
        self.broker.engine.close()
        self.consumers, self.held = [], []
        for note in self.notes:
            note.until_ms = 0
            if note.state is not DONE or (self.kind.kind == "stream" and note.number >= floor):
                note.state = WAITING if note.stored and not note.purged else DONE
        self.start()

    # -- what holds ---------------------------------------------------------------------------

    def check(self) -> None:
        """The books balance, and nobody waits for no reason."""
        metrics, queue = self.broker.metrics, self.queue
        assert (
            metrics.copies
            == metrics.delivered + metrics.streamed + sum(metrics.dropped) + self.broker.waiting()
        )
        assert not self.broker.ready.groups, "nothing is left to do"
        if isinstance(queue, ClassicQueue):
            sizes = [len(message.body) for _, message, _ in queue.browse(0, 10_000)]
            assert len(sizes) == queue.length()
            assert sum(sizes) == queue.bytes_waiting
        room = any(c.unsettled < c.window for c in self.consumers)
        for note in self.notes if room else ():
            if note.state is not WAITING or note.until_ms > self.clock.now_ms or self.expired(note):
                continue
            others = [n for n in self.notes if n.key == note.key and n is not note]
            reason = note.key is not None and (
                note.key in self.parked
                or any(n.state is HELD or (n.state is WAITING and self.counts(n)) for n in others)
                or any(n.purged and n.until_ms > self.clock.now_ms for n in others)
            )
            assert reason, f"{note.number} waits for no reason"

    def drain(self) -> None:
        """Settle everything: it all comes, and is then gone."""
        for key in sorted(self.parked):
            self.unpark(key)
        self.attach(5)
        for _ in range(10 * len(self.notes) + 10):
            self.flush()
            self.acknowledge()
            self.wait(600)
        for note in self.notes:
            assert note.state is DONE or self.expired(note)
        assert self.queue.depth(self.group) == 0 or any(n.expires_at_ms for n in self.notes)
        assert not self.group.unsettled
        assert self.group.order is None or not self.group.order.keys


def _wait_for_the_disk(engine: CommitLog) -> None:
    written = engine._written
    engine.when_durable(engine.position(), lambda stored: None)  # else it takes a tenth of a second
    deadline = time.monotonic() + 10
    while written > 1 and engine.stored(written - 1) is None:
        assert time.monotonic() < deadline, "the sync takes ten seconds"
        time.sleep(0.0002)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.sampled_from([None, "a", "a", "b", "c"]),
            st.sampled_from([0, 0, 1, 9]),
            st.sampled_from([0, 0, 0, 300, 1500]),
        ),
        st.tuples(st.just("publish"), st.sampled_from(["a", "a", "b"]), st.just(0), st.just(0)),
        st.tuples(st.just("publish"), st.sampled_from(["a", "b", "c", "d"]), st.just(0), st.just(0)),
        st.tuples(st.just("attach"), st.integers(1, 4)),
        st.tuples(st.just("detach"), st.integers(0, 9)),
        st.tuples(st.just("fetch")),
        st.tuples(st.just("settle"), st.integers(0, 9), st.sampled_from(Outcome)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.just(Outcome.ACK)),
        st.tuples(st.just("acknowledge")),
        st.tuples(st.just("wait"), st.sampled_from([100, 600, 1100])),
        st.tuples(st.just("purge")),
        st.tuples(st.just("park"), st.sampled_from("ab")),
        st.tuples(st.just("unpark"), st.sampled_from("ab")),
        st.tuples(st.just("skip"), st.sampled_from("abc")),
        st.tuples(st.just("restart")),
        st.tuples(st.just("turn"), st.booleans()),
    ),
    min_size=12,  # which makes them long on average, too
    max_size=60,
)
KINDS = {
    "transient": Kind("classic", False),
    "durable": Kind("classic", True),
    "limited": Kind("classic", True, delivery_limit=2),
    "priority": Kind("classic", True, max_priority=3),
    "stream": Kind("stream", True),
    "transient stream": Kind("stream", False),
}
LOGGED = {
    "classic": Kind("classic", True, log=True),
    "priority": Kind("classic", True, log=True, max_priority=3),
    "stream": Kind("stream", True, log=True),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make limits small, so that they are met."""
    monkeypatch.setattr(order, "FETCHED_TOGETHER", 2)
    monkeypatch.setattr(order, "LOOKED_AT_MAX", 4)


def _run(kind: Kind, steps: list[Any], path: Path) -> None:
    world = World(kind, path)
    for name, *arguments in steps:
        if name == "turn" and not kind.log:
            continue
        getattr(world, name)(*arguments)
        if name != "publish":  # so that a turn has several
            world.flush()
            world.check()
    world.drain()
    world.broker.engine.close()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@settings(max_examples=60)
@given(steps=STEPS)
def test_of_a_key_one_at_a_time_in_order(kind: Kind, steps: list[Any]) -> None:
    remember(repr(steps))
    _run(kind, steps, Path())


@pytest.mark.parametrize("kind", LOGGED.values(), ids=LOGGED)
@settings(max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # to shrink takes minutes
@given(steps=STEPS)
def test_also_over_restarts_and_a_full_disk(kind: Kind, steps: list[Any]) -> None:
    remember(repr(steps))
    with tempfile.TemporaryDirectory() as directory:
        _run(kind, steps, Path(directory))
