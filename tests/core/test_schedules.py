"""Schedules: nothing early, nothing twice, nothing lost, whatever happens between any two writes."""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.bucket import SPANS, Bucket, Key, key_of, key_of_queue, keys_for, queue_name
from gateway.core.calendar import RELOAD_PAUSE_MS
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.due import NEVER_MS, SINGLES_MAX, Due, make_run
from gateway.core.errors import InvalidTopic, InvalidValue, NotAuthorized, NotFound, NotStored, QueueFull
from gateway.core.message import Message, Origin, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.receiver import Item
from gateway.core.router import Binding
from gateway.core.schedules import DISTANCE_MS_MAX, FULL_PAUSE_MS, parse_delay
from gateway.core.session import Session
from gateway.core.sweeper import Sweeper
from gateway.core.transaction import commit
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine
from tests.storage.commitlog.faulty_files import FaultyFiles

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # a disk that is quick to sync
LATE_MS = 20  # simulated time that reading a bucket takes, a part a millisecond


class Rules:
    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(not resource.startswith("secret/"))


class World:
    """A broker on a commit log, with a durable queue that gets everything published to `t`."""

    def __init__(self, directory: Path, now_ms: int = NOW_MS, held_max: int = 0) -> None:
        self.directory = directory
        self.files = FaultyFiles()
        self.engine = CommitLog(directory, segment_bytes=4000, files=self.files)
        self.clock = Clock(now_ms, 5000)
        self.broker = Broker(self.engine, self.clock)
        if held_max:
            self.broker.schedules.calendar.held_max = held_max
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Sweeper, "start", lambda sweeper: None)  # it wakes once a second: days have many
            self.told = threading.Event()
            self.broker.restore(self.told.set)
        out, _ = self.broker.catalog.declare("out")
        assert isinstance(out, ClassicQueue)
        self.out = out
        if "t" not in self.broker.catalog.bindings.get("out", {}):
            self.broker.catalog.bind(out, Binding("t", out))
        origin = Origin("test", "user", "c", "peer")
        self.session = Session(self.broker, Principal("user"), origin, Authority([Rules()]))
        self.schedules = self.broker.schedules
        self.settle()

    def schedule(self, body: bytes, due_ms: int) -> int:
        properties = Properties(deliver_at_ms=due_ms)
        return self.session.publish(Message("t", body, 1, properties=properties, origin=self.session.origin))

    def end_turn(self) -> bool:
        """Dispatch and flush; tell whether it was written."""
        self.broker.dispatch()
        try:
            self.engine.flush()
        except NotStored:
            self.broker.rollback(self.engine.failed_from())
            return False
        self.broker.flushed()
        return True

    def settle(self) -> bool:
        """End the turn and wait for the disk; tell whether it was stored."""
        said: list[bool] = []
        self.broker.clock.keep(self.engine, self.broker.metrics.published)
        self.engine.sweep(self.clock.now_ms)
        self.engine.when_durable(self.engine.position(), said.append)
        written = self.end_turn()
        self.engine.completed()
        while not said:
            assert self.told.wait(10), "an answer of the disk"
            self.told.clear()
            self.engine.completed()
        return said[0] and written

    def advance(self, to_ms: int) -> None:
        """Let time pass, timer by timer."""
        while self.clock.now_ms < to_ms:
            due_ms = self.broker.scheduler.next_due_ms()
            wait_ms = to_ms - self.clock.now_ms
            if due_ms is not None:
                wait_ms = min(wait_ms, max(0, due_ms - self.clock.monotonic_ms))
            self.clock.set(self.clock.wall_ms + wait_ms, self.clock.monotonic_ms + wait_ms)
            self.broker.scheduler.run_due()
            self.end_turn()
            self.engine.completed()

    def published(self) -> list[bytes]:
        return [message.body for _, message, _ in self.out.browse(0, 10_000)]

    def balanced(self) -> bool:
        m = self.broker.metrics
        return m.copies == m.delivered + m.streamed + sum(m.dropped) + self.broker.waiting()

    def after_crash(self, target: Path, chance: random.Random, held_max: int = 0) -> World:
        """Return the world after a power loss now."""
        self.files.power_loss(self.directory, target, chance)
        self.files.close_all()
        self.engine._syncer.stop()
        return World(target, self.clock.now_ms, held_max)

    def restarted(self) -> World:
        self.engine.close()
        return World(self.directory, self.clock.now_ms)

    def close(self) -> None:
        self.engine.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "data")
    yield made
    made.close()


# -- the model ------------------------------------------------------------------------------------


SOON = st.integers(1, 2000)
DISTANCES = st.one_of(
    SOON,
    SOON,
    st.integers(1, 20_000),
    st.sampled_from([reach + n for _, reach in SPANS[:-1] for n in (-1, 0, 1)]),
    st.integers(1, 400 * DAY_MS),
)
WHICH = st.integers(0, 99)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["schedule"] * 5 + ["schedule, crash", "schedule, full disk"]), DISTANCES),
    st.tuples(st.sampled_from(["advance"] * 3 + ["advance, crash", "advance, full disk"]), SOON),
    st.tuples(st.just("advance"), st.integers(1, DAY_MS // 4)),
    st.tuples(st.sampled_from(["cancel", "cancel, crash", "publish now", "crash"]), WHICH),
    st.tuples(st.sampled_from(["edit", "edit, crash", "edit, full disk"]), WHICH),
)


class Model:
    """A list of what waits: (position, due, body); and what must have been published."""

    def __init__(self, directory: Path, seed: int, held_max: int) -> None:
        self.directory = directory
        self.chance = random.Random(seed)
        self.held_max = held_max
        self.crashes = 0
        self.number = 0
        self.world = World(directory / "0", held_max=held_max)
        self.waiting: dict[bytes, tuple[int, int]] = {}  # body -> position, due
        self.unsure: set[bytes] = set()  # bodies that may be gone, as nobody was told that they are stored
        self.ready_ms = 0  # of a crash or a full disk: since then it has what it needs
        self.out: set[bytes] = set()

    def step(self, what: str, value: int) -> None:
        action, _, then = what.partition(", ")
        if then == "full disk":
            self.world.files.room = self.chance.randrange(120)
        getattr(self, action.replace(" ", "_"))(value, then)
        if then == "full disk":
            self.world.files.room = None
            self.ready_ms = self.world.clock.now_ms + RELOAD_PAUSE_MS
        if then == "crash":
            self.crash()
        self.check()

    def schedule(self, distance_ms: int, then: str) -> None:
        self.number += 1
        body, due_ms = b"%d" % self.number, self.world.clock.now_ms + distance_ms
        position = self.world.schedule(body, due_ms)
        assert position > 0
        if then == "crash" and self.chance.random() < 0.5:
            self.world.engine.flush()
            self.unsure.add(body)
            self.waiting[body] = (position, due_ms)  # or not: `crash` looks
        elif self.world.settle() or then == "crash":
            self.waiting[body] = (position, due_ms)

    def advance(self, ms: int, then: str) -> None:
        self.world.advance(self.world.clock.now_ms + ms)
        if then == "full disk":
            self.world.files.room = None
            self.world.advance(self.world.clock.now_ms + 3000)
        if then != "crash":
            self.world.settle()

    def cancel(self, which: int, then: str) -> None:
        if self.waiting:
            body = sorted(self.waiting)[which % len(self.waiting)]
            position, due_ms = self.waiting[body]
            if self.world.clock.now_ms - due_ms >= 0:
                return
            self.world.schedules.cancel(position)
            with pytest.raises(NotFound):
                self.world.schedules.cancel(position)
            if then == "crash":
                self.unsure.add(body)  # the cancelled may be back
            else:
                assert self.world.settle()
                del self.waiting[body]

    def edit(self, which: int, then: str) -> None:
        if self.waiting:
            body = sorted(self.waiting)[which % len(self.waiting)]
            position, due_ms = self.waiting[body]
            if self.world.clock.now_ms - due_ms >= 0:
                return
            later_ms = self.world.clock.now_ms + self.chance.randrange(1, 100_000)
            found = self.world.schedules.find(position)
            new = self.world.schedules.replace(position, found.message, later_ms)
            if self.world.settle() or then == "crash":
                self.waiting[body] = (new, later_ms)

    def publish_now(self, which: int, then: str) -> None:
        if self.waiting:
            body = sorted(self.waiting)[which % len(self.waiting)]
            position, due_ms = self.waiting[body]
            if self.world.clock.now_ms - due_ms >= 0:
                return
            self.world.schedules.publish_now(position)
            assert self.world.settle()
            self.waiting[body] = (position, self.world.clock.now_ms)

    def crash(self, value: int = 0, then: str = "") -> None:
        self.crashes += 1
        self.ready_ms = self.world.clock.now_ms
        self.world = self.world.after_crash(self.directory / str(self.crashes), self.chance, self.held_max)
        present = set(self.world.published())
        for body, (position, _) in list(self.waiting.items()):
            if body not in present:
                try:
                    assert self.world.schedules.find(position).message.body == body
                except NotFound:
                    assert body in self.unsure, "lost, though it was stored"
                    del self.waiting[body]
        self.unsure.clear()

    def check(self) -> None:
        now_ms, published = self.world.clock.now_ms, self.world.published()
        assert len(published) == len(set(published)), "published twice"
        for body, (_, due_ms) in list(self.waiting.items()):
            if body in published:
                assert due_ms <= now_ms, "published early"
                self.out.add(body)
                del self.waiting[body]
        late = [due for _, due in self.waiting.values() if max(due, self.ready_ms) + LATE_MS < now_ms]
        assert not late, "published late"
        assert self.world.balanced()

    def finish(self) -> None:
        end_ms = max((due for _, due in self.waiting.values()), default=0)
        self.world.advance(max(end_ms, self.world.clock.now_ms, self.ready_ms) + LATE_MS)
        self.world.settle()
        self.check()
        assert not self.waiting, "never published"
        assert set(self.world.published()) >= self.out
        # Buckets that are over go once they are empty.
        ends = [bucket.end_ms for bucket in self.world.schedules.calendar.buckets.values()]
        for wait_ms in (max([0, *ends]) + 3000 - self.world.clock.now_ms, 61_000, 3000, 3000):
            self.world.advance(self.world.clock.now_ms + wait_ms)
            self.world.settle()
        left = self.world.schedules.calendar.buckets.values()
        assert not [(b.key, b.state, b.emptied, b.queue.length(), b.held) for b in left]
        self.world.close()


@settings(max_examples=150, deadline=None, print_blob=True)
@given(st.lists(STEPS, min_size=20, max_size=50), st.integers(0, 1 << 32), st.sampled_from([0, 2]))
def test_against_a_list(steps: list[tuple[str, int]], seed: int, held_max: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        model = Model(Path(directory), seed, held_max)
        try:
            for what, value in steps:
                model.step(what, value)
            model.finish()
        finally:
            model.world.close()


# -- scheduling -----------------------------------------------------------------------------------


def test_400_days_with_restarts(tmp_path: Path) -> None:
    world = World(tmp_path)
    position = world.schedule(b"far", NOW_MS + 400 * DAY_MS)
    world.settle()
    for day in range(40, 400, 40):
        world = world.restarted()
        world.advance(NOW_MS + day * DAY_MS)
        assert world.schedules.find(position).due_ms == NOW_MS + 400 * DAY_MS
    world.advance(NOW_MS + 400 * DAY_MS - 1)
    assert world.published() == []
    world.advance(NOW_MS + 400 * DAY_MS)
    assert world.published() == [b"far"]
    world.close()


def test_in_the_order_of_time_also_after_being_away(world: World) -> None:
    for number in (5, 3, 4, 1, 2):
        world.schedule(b"%d" % number, NOW_MS + number * 7 * DAY_MS)
    world.settle()
    world.engine.close()
    later = World(world.directory, NOW_MS + 300 * DAY_MS)
    assert later.published() == [], "the start does not wait for it"
    later.advance(later.clock.now_ms + 100)
    assert later.published() == [b"1", b"2", b"3", b"4", b"5"]
    later.close()


def test_what_is_due_is_published_at_once(world: World) -> None:
    for due_ms in (0, 1, NOW_MS - 1, NOW_MS):
        world.schedule(b"%d" % due_ms, due_ms)
    assert len(world.published()) == 4
    assert not world.schedules.calendar.buckets


@pytest.mark.parametrize(
    "topic",
    [
        "$delayed",
        "$delayed/",
        "$delayed/5",
        "$delayed/5/",
        "$delayed//t",
        "$delayed/-1/t",
        "$delayed/+1/t",
        "$delayed/nan/t",
        "$delayed/inf/t",
        "$delayed/1e300/t",
        "$delayed/1e3/t",
        "$delayed/1.2.3/t",
        "$delayed/./t",
        "$delayed/\u0661/t",
        "$delayed/ 5/t",
        "$delayed/5s/t",
        "$delayed/1_0/t",
        "$delayed/" + "9" * 20 + "/t",
        "$delayed/" + "9" * 30 + "/t",
        "$delayed/400000000/t",
        "$delayed/5/$delayed/5/t",
        "$delayed/5/$transaction/x/publish/t",
        "$delayed/5/$reply/token",
        "$delayed/5/a/+",
        "$delayed/5/a/#",
    ],
)
def test_topics_that_are_no_schedules(world: World, topic: str) -> None:
    with pytest.raises(InvalidTopic):
        world.session.publish(Message(topic, b"", 1))
    assert not world.schedules.calendar.buckets


@pytest.mark.parametrize("text", ["0", "1", "0.001", "5", "5.5", "00005", "1.", ".5", "34560000"])
def test_delays(text: str) -> None:
    assert parse_delay(text, "x") == round(float(text) * 1000)


def test_a_topic_that_says_when(world: World) -> None:
    world.session.publish(Message("$delayed/0.5/t", b"half", 1))
    world.session.publish(Message("$delayed/0/t", b"now", 1))
    assert world.published() == [b"now"]
    world.advance(NOW_MS + 499)
    assert world.published() == [b"now"]
    world.advance(NOW_MS + 500)
    assert world.published() == [b"now", b"half"]
    assert world.balanced()


def test_rights_are_those_of_the_topic_behind(world: World) -> None:
    for topic in ("$delayed/5/secret/t", "$delayed/5/$sys/x", "$delayed/5/$dead/x", "$delayed/5/$session/x"):
        with pytest.raises(NotAuthorized):
            world.session.publish(Message(topic, b"", 1))
    assert not world.schedules.calendar.buckets
    assert world.balanced()


def test_a_time_too_far_away(world: World) -> None:
    world.schedule(b"", NOW_MS + DISTANCE_MS_MAX)
    with pytest.raises(InvalidValue, match="ten years"):
        world.schedule(b"", NOW_MS + DISTANCE_MS_MAX + 1)
    with pytest.raises(InvalidValue, match="ten years"):
        world.schedule(b"", (1 << 63) - 1)
    properties = Properties()
    properties.delay_ms = -1
    with pytest.raises(InvalidValue, match="no number of seconds"):
        world.session.publish(Message("t", b"", 1, properties=properties))


def test_a_delay_outvotes_a_time(world: World) -> None:
    properties = Properties(deliver_at_ms=NOW_MS + 1000, content_type="text/plain", headers=(("h", 1),))
    properties.delay_ms = 50
    world.session.publish(Message("t", b"x", 1, properties=properties))
    world.advance(NOW_MS + 50)
    ((_, message, _),) = world.out.browse(0, 1)
    assert message.properties.deliver_at_ms == NOW_MS + 50
    assert (message.properties.content_type, message.properties.headers) == ("text/plain", (("h", 1),))
    assert properties.deliver_at_ms == NOW_MS + 1000, "the publisher's are its own"


def test_expiry_counts_from_when_it_is_due(world: World) -> None:
    for body in (b"in time", b"too late"):
        properties = Properties(deliver_at_ms=NOW_MS + 10_000)
        ttl_ms = 5000 if body == b"in time" else 50
        world.session.publish(Message("t", body, 1, properties=properties, expires_at_ms=NOW_MS + ttl_ms))
    world.advance(NOW_MS + 10_000)
    assert [m.expires_at_ms for _, m, _ in world.out.browse(0, 9)] == [NOW_MS + 15_000, NOW_MS + 10_050]
    world.schedule(b"x", NOW_MS + 20_000)
    properties = Properties(deliver_at_ms=NOW_MS + 20_000)
    world.session.publish(Message("t", b"gone", 1, properties=properties, expires_at_ms=NOW_MS + 10_050))
    world.settle()
    world.engine.close()
    later = World(world.directory, NOW_MS + DAY_MS)  # it was away when that was due
    later.advance(later.clock.now_ms + 100)
    assert later.published()[-1:] == [b"x"]
    assert later.broker.metrics.dropped_by_cause()["expired"] == 1
    assert later.balanced()
    later.close()


def test_qos_and_retain_are_those_it_was_published_with(world: World) -> None:
    got: list[Item] = []
    origin = Origin("test", "user", "live", "peer")
    live = Session(world.broker, Principal("user"), origin, Authority([Rules()]))
    live.receive(got.extend)
    live.subscribe("#", 0)
    for qos, retain in ((0, False), (1, True), (2, False)):
        world.session.publish(Message(f"$delayed/1/a/{qos}", b"x", qos, retain))
    assert world.broker.retained.get("a/1") is None
    world.advance(NOW_MS + 1000)
    assert [(m.topic, m.qos, m.retain) for m, _ in got] == [
        ("a/0", 0, False),
        ("a/1", 1, True),
        ("a/2", 2, False),
    ]
    kept = world.broker.retained.get("a/1")
    assert kept is not None
    assert world.balanced()


def test_nobody_is_there_when_it_is_due(world: World) -> None:
    world.session.publish(Message("$delayed/1/nobody", b"x", 1))
    world.advance(NOW_MS + 1000)
    assert world.broker.metrics.dropped_by_cause()["no_subscriber"] == 1
    assert world.broker.metrics.published == 1
    assert world.balanced()


def test_a_queue_that_rejects_is_waited_for(world: World) -> None:
    full, _ = world.broker.catalog.declare("full", policy=QueuePolicy(max_length=1, overflow="reject"))
    for number in range(3):
        world.session.publish(Message("$delayed/1/$queue/full", b"%d" % number, 1))
        world.session.publish(Message("$delayed/1/t", b"%d" % number, 1))
    world.advance(NOW_MS + 1000)
    assert full.length() == 1
    assert world.published() == [b"0", b"1", b"2"], "others are not held up"
    for expected in (1, 2):
        world.broker.queues.purge(full)
        world.advance(NOW_MS + 1000 + expected * FULL_PAUSE_MS)
        assert [m.body for _, m, _ in full.browse(0, 9)] == [b"%d" % expected]
    assert world.balanced()
    world.broker.queues.purge(full)
    world.advance(NOW_MS + 5000)
    assert full.length() == 0


def test_in_a_transaction(world: World) -> None:
    messages = [
        Message("t", b"now", 1),
        Message("t", b"later", 1, properties=Properties(deliver_at_ms=NOW_MS + 9)),
    ]
    results = world.session.transact([(message, None) for message in messages], [])
    assert all(result > 0 for result in results)
    assert world.published() == [b"now"]
    world.settle()
    again = world.restarted()
    assert again.published() == [b"now"]
    again.advance(NOW_MS + LATE_MS)
    assert again.published() == [b"now", b"later"]
    again.close()


def test_all_of_a_transaction_or_nothing(world: World) -> None:
    world.broker.catalog.declare("full", policy=QueuePolicy(max_length=1, overflow="reject"))
    later = Message("t", b"later", 1, properties=Properties(deliver_at_ms=NOW_MS + 9))
    full = Message("$queue/full", b"", 1)
    with pytest.raises(QueueFull):
        commit(world.broker, [(later, None), (full, None), (full, None)], [])
    world.advance(NOW_MS + 1000)
    assert world.published() == []
    far = Message("t", b"", 1, properties=Properties(deliver_at_ms=NOW_MS + 2 * DISTANCE_MS_MAX))
    with pytest.raises(InvalidValue):
        commit(world.broker, [(later, None), (far, None)], [])
    assert world.balanced()


def test_a_jump_of_the_wall_clock_moves_nothing(world: World) -> None:
    world.schedule(b"x", NOW_MS + 10_000)
    world.clock.set(NOW_MS + 3_600_000, world.clock.monotonic_ms + 1)  # an hour ahead
    offset_ms = world.clock.offset_ms
    assert offset_ms == 3_600_000 - 1
    world.advance(NOW_MS + 9_999)
    assert world.published() == []
    world.schedule(b"y", world.clock.wall_ms + 500)  # a time that is read from the wall clock as it is now
    world.advance(NOW_MS + 10_000)
    ((_, message, _),) = world.out.browse(0, 9)
    assert message.properties.deliver_at_ms == NOW_MS + 10_000 + offset_ms, "when it was, as the clock has it"
    world.advance(NOW_MS + 10_499)
    assert world.published() == [b"x", b"y"]


def test_a_door_releases_its_own(world: World) -> None:
    bugs: list[str] = []
    world.broker.on_bug = lambda what, error: bugs.append(what)

    def release(message: Message) -> tuple[Message, None]:
        if message.body == b"bug":
            raise ZeroDivisionError
        return message.with_topic("t"), None

    world.schedules.release["mine"] = release
    for body in (b"x", b"bug"):
        properties = Properties(native=b"raw", native_format="mine", deliver_at_ms=NOW_MS + 5, headers=None)
        world.session.publish(Message("elsewhere", body, 1, properties=properties))
    world.advance(NOW_MS + 5)
    assert world.published() == [b"x"]
    assert bugs == ["a scheduled message to elsewhere"]
    assert world.balanced()


# -- looking and changing -------------------------------------------------------------------------


def test_what_is_no_schedule_is_not_found(world: World) -> None:
    other = world.session.publish(Message("t", b"x", 1))
    gone = world.schedule(b"y", NOW_MS + 1)
    world.advance(NOW_MS + 1)
    for position in (0, -1, 1, other, gone, other + 1, 1 << 62, 1 << 63, 1 << 70):
        for call in (world.schedules.find, world.schedules.cancel, world.schedules.publish_now):
            with pytest.raises(NotFound):
                call(position)
        with pytest.raises(NotFound):
            world.schedules.replace(position, Message("t", b""), NOW_MS + 100)
    assert world.published() == [b"x", b"y"]


def test_publish_now_into_a_full_queue_changes_nothing(world: World) -> None:
    full, _ = world.broker.catalog.declare("full", policy=QueuePolicy(max_length=1, overflow="reject"))
    world.session.publish(Message("$queue/full", b"", 1))
    position = world.session.publish(Message("$delayed/5/$queue/full", b"later", 1))
    with pytest.raises(QueueFull):
        world.schedules.publish_now(position)
    assert world.schedules.find(position).message.body == b"later"
    world.broker.queues.purge(full)
    world.advance(NOW_MS + 5000)
    assert [m.body for _, m, _ in full.browse(0, 9)] == [b"later"]
    assert world.balanced()


def test_a_bucket_that_is_deleted_is_gone(world: World) -> None:
    position = world.schedule(b"x", NOW_MS + 1000)
    world.advance(NOW_MS + 100)
    (bucket,) = world.schedules.calendar.buckets.values()
    world.broker.queues.delete(bucket.queue)
    with pytest.raises(NotFound):
        world.schedules.find(position)
    again = world.schedule(b"y", NOW_MS + 1000)
    assert again != position
    world.advance(NOW_MS + 5000)
    assert world.published() == [b"y"]
    assert world.balanced()


def test_the_queue_of_an_earlier_version_is_taken_over(world: World) -> None:
    queue, _ = world.broker.catalog.declare("$delayed/amqp")
    for body, due_ms in ((b"b", NOW_MS + 20_000), (b"a", NOW_MS - 5), (b"c", NOW_MS + 9 * DAY_MS)):
        message = Message("t", body, 1, properties=Properties(deliver_at_ms=due_ms))
        world.broker.enqueue(queue, message, None)
    world.settle()
    world = world.restarted()
    world.advance(NOW_MS + LATE_MS)
    assert world.published() == [b"a"]
    world.advance(NOW_MS + 9 * DAY_MS)
    assert world.published() == [b"a", b"b", b"c"]
    world.close()


# -- buckets and runs -----------------------------------------------------------------------------


@given(st.integers(0, DISTANCE_MS_MAX), st.integers(0, 1 << 45))
def test_a_bucket_spans_what_is_in_it(distance_ms: int, now_ms: int) -> None:
    due_ms = now_ms + distance_ms
    key = key_of(due_ms, now_ms)
    assert key.slot * key.width_ms <= due_ms < (key.slot + 1) * key.width_ms
    assert key in keys_for(due_ms)
    assert key_of_queue(queue_name(key)) == key


def _bucket(room: int = 100) -> Bucket:
    queue = ClassicQueue("$delayed/4096/1", 9, QueuePolicy(), MemoryEngine())
    return Bucket(Key(4096, 1), queue, room)


@given(st.lists(st.lists(st.integers(0, 50), max_size=30), max_size=6), st.lists(st.integers(0, 50)))
def test_runs_are_merged(runs: list[list[int]], singles: list[int]) -> None:
    due, bucket = Due(), _bucket()
    position = 0
    expected: list[tuple[int, int]] = []
    for dues in runs:
        positions = list(range(position + 1, position + 1 + len(dues)))
        position += len(dues)
        due.add_run(make_run(bucket, dues, positions))
        expected += zip(dues, positions, strict=True)
    for single in singles:
        position += 1
        due.add(bucket, single, position)
        expected.append((single, position))
    found = []
    for now_ms in (10, 30, 50):
        while part := due.take(now_ms, 7):
            assert all(item[0] <= now_ms for item in part)
            found += [item[:2] for item in part]
    assert found == sorted(expected)
    assert due.head_ms() == NEVER_MS


def test_many_singles_become_a_run() -> None:
    due, bucket = Due(), _bucket()
    dues = [(number * 7919) % 10_007 for number in range(SINGLES_MAX * 2)]
    for position, due_ms in enumerate(dues):
        due.add(bucket, due_ms, position)
    assert len(due._heap) <= SINGLES_MAX + 2
    taken = due.take(NEVER_MS, len(dues) + 1)
    assert [item[0] for item in taken] == sorted(dues)


@pytest.mark.parametrize("same", [False, True])
def test_only_the_earlier_half_of_too_many_is_kept(same: bool) -> None:
    bucket = _bucket(room=100)
    for start in (0, 5000):
        dues = [7] * 1000 if same else list(range(start, start + 1000))
        bucket.runs.append(make_run(bucket, dues, range(start, start + 1000)))
        bucket.held += 1000
    bucket.halve(100)
    kept = [due for run in bucket.runs for due in run.dues]
    assert bucket.held == len(kept)
    assert all(due < bucket.horizon_ms for due in kept)
    assert (len(kept) == 2000) if same else (0 < len(kept) <= 1100)
    assert bucket.room >= 2 * bucket.held
