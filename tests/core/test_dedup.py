"""Publishing once: what is a duplicate, for how long, after a crash, and when the disk says no."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core import dedup as dedup_module
from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import NO_SUBSCRIBERS, Broker
from gateway.core.clock import Clock
from gateway.core.dedup import COVER_INTERVAL_MS, QUEUE_ID, WINDOW_MS
from gateway.core.errors import NotAuthorized, NotStored, QueueFull
from gateway.core.message import Message, Origin, Properties
from gateway.core.once import Published
from gateway.core.policy import QueuePolicy
from gateway.core.session import OnPublish, Session
from gateway.storage.commitlog import CommitLog
from gateway.storage.commitlog.files import Files

NOW_MS = 1_700_000_000_000
STEP_MS = WINDOW_MS // 1000 + 1  # how exactly a window ends
REPEATS_MS = 30_000


class Rules:
    """Allows everything but what begins with `secret`."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(not resource.startswith("secret"))


class FullDisk(Files):
    """Refuses to write while `full`, and to sync while `broken`."""

    full = False
    broken = False

    def sync(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(5, "Input/output error")
        super().sync(descriptor)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(descriptor, data, offset)


class World:
    """A broker on a commit log, its clock, and its turns."""

    def __init__(self, directory: Path, now_ms: int = NOW_MS, rules: dict[str, int] | None = None) -> None:
        self.directory = directory
        self.files = FullDisk()
        self.engine = CommitLog(directory, files=self.files)
        self.clock = Clock(now_ms, 1000)
        self.broker = Broker(self.engine, self.clock)
        self.rules = rules or {}
        self.broker.dedup.configure(WINDOW_MS, self.rules, {"repeating": REPEATS_MS})
        self.broker.restore(lambda: None)
        self.broker.catalog.declare("q", durable=True)

    def session(self, user: str = "user", intercept: tuple[OnPublish, ...] = ()) -> Session:
        return Session(self.broker, Principal(user), Origin("test", user), Authority([Rules()]), intercept)

    def turn(self, forward_ms: int = 0) -> None:
        """End a turn, on disk."""
        position = self.engine.position()
        self.broker.dispatch()
        try:
            self.engine.flush()
        except NotStored:
            self.broker.rollback(self.engine.failed_from())
        else:
            self.broker.flushed()
            deadline = time.monotonic() + 10
            done: list[bool] = []
            self.engine.when_durable(position, done.append)
            while not done:
                assert time.monotonic() < deadline
                self.engine.completed()
        self.clock.now_ms += forward_ms
        self.clock.monotonic_ms += forward_ms
        self.broker.scheduler.run_due()

    def crashed(self, copy: Path, rules: dict[str, int] | None = None) -> World:
        """Return what a start after kill -9 finds."""
        shutil.copytree(self.directory, copy)
        (copy / "lock").unlink(missing_ok=True)
        return World(copy, self.clock.now_ms, self.rules if rules is None else rules)

    def chunks(self) -> int:
        return len(self.engine.after(QUEUE_ID, 0, 100))

    def length(self) -> int:
        return self.broker.catalog.get("q").length()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "data")
    yield made
    made.engine.close()


def keyed(
    key: str | None = "k", topic: str = "$queue/q", message_id: str | None = "id", qos: int = 1
) -> Message:
    properties = Properties(message_id=message_id, idempotency_key=key)
    return Message(
        topic, b"x", qos, properties=properties, origin=Origin("test", "user"), timestamp_ms=NOW_MS
    )


def once(session: Session, message: Message) -> Published:
    message.origin, message.timestamp_ms = session.origin, session.broker.clock.now_ms
    return session.publish_once(message)


def test_a_key_is_once_for_a_user_a_topic_and_a_window(world: World) -> None:
    client, other = world.session(), world.session("other")
    first = once(client, keyed(message_id="1"))
    assert (first.duplicate, first.message_id) == (False, "1")
    assert once(world.session(), keyed(message_id="2")) == (first.position, True, "1")
    assert not once(client, keyed(topic="elsewhere")).duplicate
    assert not once(other, keyed()).duplicate
    assert not once(client, keyed("k2")).duplicate
    world.turn(WINDOW_MS - 1)
    assert once(client, keyed()).duplicate
    world.turn(STEP_MS)
    assert not once(client, keyed()).duplicate
    assert world.length() == 4
    dropped = {cause: n for cause, n in world.broker.metrics.dropped_by_cause().items() if n}
    assert dropped == {"duplicate": 2, "no_subscriber": 1}
    metrics = world.broker.metrics
    assert metrics.copies == metrics.delivered + sum(metrics.dropped) + world.broker.waiting()


@pytest.mark.parametrize(("one", "two"), [(("a", "b/k"), ("a/b", "k")), (("a", "1 k"), ("a 1", "k"))])
def test_users_cannot_take_each_others_keys(world: World, one: tuple[str, str], two: tuple[str, str]) -> None:
    once(world.session(one[0]), keyed(one[1]))
    assert not once(world.session(two[0]), keyed(two[1])).duplicate


def test_what_is_refused_may_be_tried_again_and_nobody_learns_of_anothers(world: World) -> None:
    client = world.session()
    for _ in range(2):
        with pytest.raises(NotAuthorized):
            once(client, keyed(topic="secret"))
    world.broker.catalog.declare("full", policy=QueuePolicy(max_length=1, overflow="reject"))
    once(client, keyed(None, "$queue/full"))
    for _ in range(2):
        with pytest.raises(QueueFull):
            once(client, keyed(topic="$queue/full"))


def test_without_a_key_nothing_is_written(world: World) -> None:
    before = world.engine.position()
    assert once(world.session(), keyed(None, "t")) == (NO_SUBSCRIBERS, False, "id")
    assert world.engine.position() == before


@pytest.mark.parametrize("topic", ["$queue/q", "nobody"])
@pytest.mark.parametrize("covered", [False, True], ids=["from the log", "from a chunk"])
def test_a_crash_leaves_both_or_neither(world: World, tmp_path: Path, topic: str, covered: bool) -> None:
    client = world.session()
    once(client, keyed("before", topic))
    world.turn(COVER_INTERVAL_MS if covered else 0)
    world.turn()
    again = world.crashed(tmp_path / "2")
    assert once(again.session(), keyed("before", topic)).duplicate
    assert not once(again.session(), keyed("after", topic)).duplicate
    again.turn()
    third = again.crashed(tmp_path / "3")
    assert once(third.session(), keyed("before", topic)).duplicate
    assert once(third.session(), keyed("after", topic)).duplicate
    for one in (again, third):
        one.engine.close()


def test_every_prefix_of_the_log_knows_what_it_has(world: World, tmp_path: Path) -> None:
    """A crash between any two writes: a message that is there is a duplicate, one that is not is none."""
    client = world.session()
    for number in range(6):
        once(client, keyed(f"k{number}"))
        world.turn(COVER_INTERVAL_MS)
        world.turn()
    (segment,) = (world.directory / "log").glob("*.seg")
    whole = segment.read_bytes()
    ends = [end for end in range(len(whole), 0, -37) if end > 64]
    for number, end in enumerate(ends):
        copy = tmp_path / f"cut{number}"
        shutil.copytree(world.directory, copy)
        shutil.rmtree(copy / "index")
        (copy / "log" / segment.name).write_bytes(whole[:end])
        found = World(copy, world.clock.now_ms)
        there = found.length()
        assert [once(found.session(), keyed(f"k{n}")).duplicate for n in range(6)] == [
            n < there for n in range(6)
        ]
        found.engine.close()


def test_a_restart_keeps_the_rest_of_the_window(world: World, tmp_path: Path) -> None:
    once(world.session(), keyed("old"))
    world.turn(WINDOW_MS // 2)
    once(world.session(), keyed("new"))
    world.turn(COVER_INTERVAL_MS)
    world.turn(WINDOW_MS // 2)
    again = world.crashed(tmp_path / "2")
    assert not once(again.session(), keyed("old")).duplicate
    assert once(again.session(), keyed("new")).duplicate
    again.engine.close()


def test_time_goes_on_while_the_gateway_is_down(world: World, tmp_path: Path) -> None:
    once(world.session(), keyed("old"))
    world.turn(WINDOW_MS // 2)
    once(world.session(), keyed("new"))
    world.turn()
    world.clock.now_ms += WINDOW_MS // 2  # and then it starts again
    again = world.crashed(tmp_path / "2")
    assert not once(again.session(), keyed("old")).duplicate
    assert once(again.session(), keyed("new")).duplicate
    again.engine.close()


def test_a_copy_that_comes_later_is_no_first_one(world: World, tmp_path: Path) -> None:
    """What was delayed, or replayed, is stored again long after it was published."""
    old = keyed()
    once(world.session(), keyed("other"))
    world.turn(WINDOW_MS)
    world.turn(STEP_MS)
    once(world.session(), keyed("another"))
    world.broker.publish(old)
    world.turn()
    again = world.crashed(tmp_path / "2")
    assert not once(again.session(), keyed()).duplicate
    assert once(again.session(), keyed("another")).duplicate
    again.engine.close()


def test_what_could_not_be_synced_was_never_seen(world: World, tmp_path: Path) -> None:
    client = world.session()
    once(client, keyed("kept"))
    world.turn(COVER_INTERVAL_MS)
    world.turn()
    world.files.broken = True
    once(client, keyed("lost"))
    world.turn()
    world.files.broken = False
    assert not once(client, keyed("lost")).duplicate
    assert once(client, keyed("lost")).duplicate
    assert once(client, keyed("kept")).duplicate
    for _ in range(3):
        world.turn(COVER_INTERVAL_MS)
    again = world.crashed(tmp_path / "2")
    assert once(again.session(), keyed("kept")).duplicate
    assert once(again.session(), keyed("lost")).duplicate
    again.engine.close()


def test_what_could_not_be_written_was_never_seen(world: World, tmp_path: Path) -> None:
    client = world.session()
    once(client, keyed("kept"))
    world.turn()
    world.files.full = True
    once(client, keyed("lost"))
    world.turn()
    assert world.broker.metrics.dropped_by_cause()["not_stored"] == 1
    world.files.full = False
    assert not once(client, keyed("lost")).duplicate
    assert once(client, keyed("kept")).duplicate
    world.turn(COVER_INTERVAL_MS)
    world.turn()
    again = world.crashed(tmp_path / "2")
    assert once(again.session(), keyed("kept")).duplicate
    assert once(again.session(), keyed("lost")).duplicate
    again.engine.close()


def test_the_first_of_all_on_a_full_disk(world: World, tmp_path: Path) -> None:
    client = world.session()
    world.files.full = True
    once(client, keyed())
    world.turn()
    world.files.full = False
    assert not once(client, keyed()).duplicate
    world.turn()
    again = world.crashed(tmp_path / "2")
    assert once(again.session(), keyed()).duplicate
    again.engine.close()


def test_a_chunk_that_was_not_written_is_written_later(world: World, tmp_path: Path) -> None:
    client = world.session()
    once(client, keyed())
    world.turn(COVER_INTERVAL_MS)  # the chunk is in the batch
    world.files.full = True
    world.turn()
    world.files.full = False
    once(client, keyed("other"))
    for _ in range(3):
        world.turn(COVER_INTERVAL_MS)
    again = world.crashed(tmp_path / "2")
    assert once(again.session(), keyed()).duplicate
    assert once(again.session(), keyed("other")).duplicate
    again.engine.close()


def test_nothing_is_left_when_all_is_over(world: World) -> None:
    once(world.session(), keyed())
    for _ in range(4):
        world.turn(COVER_INTERVAL_MS)
    assert world.chunks() > 0
    for _ in range(4):
        world.turn(WINDOW_MS // 2)
    assert world.chunks() == 0
    written = world.engine.extent(QUEUE_ID).next
    world.turn(COVER_INTERVAL_MS * 2)
    assert world.engine.extent(QUEUE_ID).next == written


def test_many_make_chunks_ahead_of_time(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedup_module, "CHUNK_MAX", 10)
    client = world.session()
    for number in range(95):
        once(client, keyed(f"k{number}"))
        if number % 7 == 0:
            world.turn()
    assert world.chunks() > 5
    world.turn()
    again = world.crashed(tmp_path / "2")
    assert all(once(again.session(), keyed(f"k{number}")).duplicate for number in range(95))
    again.engine.close()


# -- message ids --------------------------------------------------------------------------


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "ruled", rules={"orders/#": 60_000, "$queue/q": 2000})
    made.broker.router.add(_to(made, "orders/#"))
    yield made
    made.engine.close()


def _to(world: World, topic_filter: str):  # type: ignore[no-untyped-def]
    from gateway.core.router import Binding

    return Binding(topic_filter, world.broker.catalog.get("q"))


def test_a_rule_goes_by_topic_and_message_id_whoever_publishes(ruled: World) -> None:
    client, other = ruled.session(), ruled.session("other")
    first = client.publish(keyed(None, "orders/1"))
    assert other.publish(keyed(None, "orders/1")) == first  # plugins' doors that know nothing of it, too
    assert not once(client, keyed(None, "orders/2")).duplicate
    assert not once(client, keyed(None, "orders/1", "id2")).duplicate
    for _ in range(2):
        assert not once(client, keyed(None, "orders/1", None)).duplicate
        assert not once(client, keyed(None, "other")).duplicate
    ruled.turn(59_000)
    assert once(other, keyed(None, "orders/1")) == (first, True, "id")
    ruled.turn(1100)
    assert not once(other, keyed(None, "orders/1")).duplicate


def test_a_rule_is_no_matter_of_what_was_admitted_before(ruled: World) -> None:
    client = ruled.session()
    for number in range(3):
        client.publish(keyed(None, "orders/1", f"{number}"))
    assert "orders/1" not in client.publishable
    client.publish(keyed(None, "free"))
    assert "free" in client.publishable


def test_windows_have_their_own_ends_over_a_restart(ruled: World, tmp_path: Path) -> None:
    client = ruled.session()
    client.publish(keyed(None, "orders/1"))
    client.publish(keyed(None))
    once(client, keyed("key", message_id=None))
    ruled.turn(COVER_INTERVAL_MS)
    ruled.turn()
    again = ruled.crashed(tmp_path / "2")
    later = ruled.crashed(tmp_path / "3", {"orders/#": 60_000})
    assert once(again.session(), keyed(None, "orders/1")).duplicate
    assert not once(again.session(), keyed(None)).duplicate  # two seconds are over
    assert once(again.session(), keyed("key", message_id=None)).duplicate
    assert once(later.session(), keyed(None, "orders/1")).duplicate
    assert not once(later.session(), keyed(None)).duplicate  # the rule is gone
    for one in (again, later):
        one.engine.close()


def test_a_key_and_an_id_count_both(ruled: World) -> None:
    client = ruled.session()
    once(client, keyed("k", "orders/1", "1"))
    assert once(client, keyed("k", "orders/1", "2")).duplicate
    assert once(client, keyed("other", "orders/1", "1")).duplicate
    assert not once(client, keyed("third", "orders/1", "3")).duplicate


# -- interceptors and transactions --------------------------------------------------------


def test_what_counts_is_what_interceptors_make_of_it(world: World, tmp_path: Path) -> None:
    def move(message: Message, session: Session) -> Message | None:
        if message.topic == "drop":
            return None
        return message.with_topic("$queue/q")

    client = world.session(intercept=(move,))
    assert not once(client, keyed(topic="one")).duplicate
    assert once(client, keyed(topic="two")).duplicate
    assert once(client, keyed(topic="drop")) == (0, False, "id")
    world.turn()
    again = world.crashed(tmp_path / "2")
    assert once(again.session(), keyed()).duplicate
    again.engine.close()


def test_a_transaction_publishes_once(world: World, tmp_path: Path) -> None:
    client = world.session()
    once(client, keyed("seen"))
    plain = Message("$queue/q", b"x", origin=client.origin)
    publishes = [
        (keyed("seen"), None),
        (keyed("new"), None),
        (keyed("new"), None),
        (plain, None),
        (plain, None),
    ]
    results = client.transact(list(publishes), [])
    assert [result > 0 for result in results] == [False, True, False, True, True]
    world.turn()
    assert world.length() == 4
    again = world.crashed(tmp_path / "2")
    assert once(again.session(), keyed("new")).duplicate
    again.engine.close()


def test_a_transaction_that_is_refused_has_published_nothing(world: World) -> None:
    world.broker.catalog.declare("full", policy=QueuePolicy(max_length=1, overflow="reject"))
    client = world.session()
    with pytest.raises(QueueFull):
        client.transact([(keyed("k", "$queue/full"), None), (keyed("k2", "$queue/full"), None)], [])
    assert not once(client, keyed("k", "$queue/full")).duplicate


# -- clients of a protocol that repeats -----------------------------------------------------------


def by_protocol(
    world: World, client_id: str = "c1", user: str = "user", protocol: str = "repeating"
) -> Session:
    origin = Origin(protocol, user, client_id)
    return Session(world.broker, Principal(user), origin, Authority([Rules()]))


def test_a_clients_second_message_of_an_id_is_a_duplicate(world: World) -> None:
    client = by_protocol(world)
    first = once(client, keyed(None))
    assert not first.duplicate
    assert once(client, keyed(None)) == (first.position, True, "id")
    assert not once(client, keyed(None, message_id="other")).duplicate
    assert not once(client, keyed(None, message_id=None)).duplicate
    assert not once(client, keyed(None, message_id=None)).duplicate
    assert not once(client, keyed(None, topic="elsewhere")).duplicate
    assert world.length() == 4


@pytest.mark.parametrize(
    "whose",
    [{"client_id": "c2"}, {"user": "other"}, {"protocol": "test"}, {"client_id": "1", "user": "userc"}],
)
def test_another_clients_message_is_another(world: World, whose: dict[str, str]) -> None:
    once(by_protocol(world), keyed(None))
    assert not once(by_protocol(world, **whose), keyed(None)).duplicate


def test_a_repeated_message_is_known_after_a_crash_until_its_window_ends(
    world: World, tmp_path: Path
) -> None:
    once(by_protocol(world), keyed(None))
    world.turn(COVER_INTERVAL_MS)
    after = world.crashed(tmp_path / "again")
    assert once(by_protocol(after), keyed(None)).duplicate
    after.turn(REPEATS_MS)
    assert not once(by_protocol(after), keyed(None)).duplicate
    after.engine.close()
