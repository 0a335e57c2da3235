"""Dead letters: where they go, what they tell, and that there is a message or its letter: never both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.core import deadletter
from gateway.core.access import Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import NotStored
from gateway.core.message import Message, Origin, Outcome, Properties
from gateway.core.metrics import DropCause
from gateway.core.policy import DAY_MS, LETTERS_MAX, QueuePolicy
from gateway.core.queue import Queue
from gateway.core.router import Binding
from gateway.core.session import Session, group_of
from gateway.core.sweeper import SWEEP_INTERVAL_MS
from gateway.core.topic import check_topic
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine
from tests.storage.commitlog.faulty_files import FaultyFiles

START_MS = 1_700_000_000_000
WHO = Origin("mqtt", "ann", "worker-7", "peer")


class World:
    """A broker whose turns end when the test says so; on disk if it has a place."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.files = FaultyFiles()
        self.clock = Clock(START_MS, 5000)
        self.start()

    def start(self) -> None:
        self.broker = Broker(
            CommitLog(self.path, files=self.files) if self.path else MemoryEngine(), self.clock
        )
        self.broker.restore(lambda: None)

    def restart(self) -> None:
        """As after a crash: what was written is there."""
        self.broker.engine.close()
        self.files = FaultyFiles()
        self.start()

    def queue(self, name: str = "q", kind: str = "classic", durable: bool = True, **policy: Any) -> Queue:
        queue, _ = self.broker.catalog.declare(name, kind, QueuePolicy(**policy), durable)
        return queue

    def publish(self, *bodies: bytes, topic: str = "$queue/q", **properties: Any) -> None:
        for body in bodies:
            self.broker.publish(Message(topic, body, properties=Properties(**properties)))

    def take(self, queue: Queue, window: int = 10, group: str = "") -> list[Delivery]:
        held: list[Delivery] = []
        consumer = Consumer("c", window, held.extend, WHO)
        self.broker.queues.attach(group_of(queue, group), consumer)
        while self.broker.dispatch():
            pass
        return held

    def settle(self, delivery: Delivery, outcome: Outcome, *more: Any) -> None:
        assert self.broker.settlement.settle(delivery, outcome, *more)

    def end_turn(self) -> None:
        while self.broker.dispatch():
            pass
        try:
            self.broker.engine.flush()
        except NotStored:
            self.broker.rollback(self.broker.engine.failed_from())
        else:
            self.broker.flushed()

    def fail(self) -> None:
        """End a turn that cannot be written."""
        self.files.room = 0
        self.end_turn()
        self.files.room = None

    def wait(self, milliseconds: int) -> None:
        self.clock.set(self.clock.now_ms + milliseconds, self.clock.monotonic_ms + milliseconds)
        self.broker.scheduler.run_due()
        while self.broker.dispatch():
            pass

    def bodies(self, name: str) -> list[bytes]:
        queue = self.broker.catalog.queues.get(name)
        return [message.body for _, message, _ in queue.browse(0, 1000)] if queue is not None else []

    def letter(self, name: str = "$dead/q") -> Message:
        (found,) = self.broker.catalog.get(name).browse(0, 9)
        return found[1]

    def check(self) -> None:
        metrics = self.broker.metrics
        done = metrics.delivered + metrics.streamed + sum(metrics.dropped)
        assert metrics.copies == done + self.broker.waiting()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# -- where they go -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classic", "stream"])
@pytest.mark.parametrize("durable", [True, False])
def test_a_queue_has_dead_letters_of_its_own(kind: str, durable: bool) -> None:
    world = World()
    queue = world.queue(kind=kind, durable=durable)
    group = "g" if kind == "stream" else ""
    held = world.take(queue, group=group)
    world.publish(b"1")
    world.end_turn()
    world.settle(held[0], Outcome.REJECT)
    world.end_turn()
    assert world.bodies("$dead/q") == [b"1"]
    dead = world.broker.catalog.get("$dead/q")
    assert (dead.durable, dead.kind) == (True, "classic")
    assert (dead.policy.max_length, dead.policy.ttl_ms, dead.policy.dead_letter) == (
        LETTERS_MAX,
        30 * DAY_MS,
        "",
    )
    assert world.take(queue, group=group) == []
    assert world.letter().properties.header(deadletter.GROUP) == (group or None)
    world.check()


def test_it_is_made_with_the_first_letter_and_found_again(world: World) -> None:
    queue = world.queue()
    world.publish(b"1", b"2")
    held = world.take(queue)
    assert "$dead/q" not in world.broker.catalog.queues
    world.settle(held[0], Outcome.REJECT)
    world.end_turn()
    world.restart()
    assert world.bodies("$dead/q") == [b"1"]
    world.settle(world.take(world.broker.catalog.get("q"))[0], Outcome.REJECT)
    world.end_turn()
    assert world.bodies("$dead/q") == [b"1", b"2"]
    world.check()


def test_who_subscribes_to_the_topic_gets_them_live() -> None:
    world = World()
    session = Session(world.broker, Principal("p", admin=True), WHO, Authority([Yes()]))
    got: list[Message] = []
    session.receive(lambda batch: got.extend(message for message, _ in batch))
    session.subscribe("$dead/#")
    queue = world.queue()
    world.publish(b"1")
    world.settle(world.take(queue)[0], Outcome.REJECT)
    world.end_turn()
    assert [(message.topic, message.body) for message in got] == [("$dead/q", b"1")]
    assert world.bodies("$dead/q") == [b"1"]


class Yes:
    """Everybody may do everything."""

    def authorize(self, *asked: Any) -> Ruling:
        return Ruling(True)


@pytest.mark.parametrize(
    ("dead_letter", "reaches"), [("", None), ("$queue/other", "other"), ("t/x", "bound")]
)
def test_or_another_place_or_none(dead_letter: str, reaches: str | None) -> None:
    world = World()
    queue = world.queue(dead_letter=dead_letter)
    world.queue("other")
    bound = world.queue("bound")
    world.broker.catalog.bind(bound, Binding("t/#", bound))
    world.publish(b"1")
    world.settle(world.take(queue)[0], Outcome.REJECT)
    world.end_turn()
    filled = [name for name in world.broker.catalog.queues if world.bodies(name)]
    assert filled == ([reaches] if reaches else [])
    world.check()


@pytest.mark.parametrize("address", ["$dead", "$queue/other"])
def test_what_ends_by_itself_needs_an_address(address: str) -> None:
    world = World()
    world.queue(dead_letter=address, ttl_ms=10, max_length=1)
    world.queue("other")
    world.publish(b"too much", b"too old")
    world.wait(SWEEP_INTERVAL_MS)
    world.end_turn()
    told = [b"too much", b"too old"] if address != "$dead" else []
    assert world.bodies("other") == told
    assert "$dead/q" not in world.broker.catalog.queues
    world.check()


def test_dead_letters_have_no_dead_letters() -> None:
    world = World()
    world.publish(b"1", topic="$dead/q")  # nobody is there yet
    queue = world.queue()
    world.publish(b"2")
    world.settle(world.take(queue)[0], Outcome.REJECT)
    world.end_turn()
    world.settle(world.take(world.broker.catalog.get("$dead/q"))[0], Outcome.REJECT)
    world.end_turn()
    assert list(world.broker.catalog.queues) == ["q", "$dead/q"]
    assert world.bodies("$dead/q") == []
    world.check()


def test_sessions_share_one() -> None:
    assert deadletter.home("$session/a") == deadletter.home("$session/b/c") == "$dead/$session"
    assert deadletter.home("$dead/q") == ""


@pytest.mark.parametrize(
    "queue", ["q", "a/b", "50%", "$share/g/a/+/b/#", "+", "%2B", "x" * 1024, "/" * 319, "#" * 900]
)
def test_every_queue_has_a_name_for_its_own_that_is_a_topic(queue: str) -> None:
    world = World()
    name = deadletter.home(queue)
    check_topic(name)
    world.queue(name)
    assert name.startswith("$dead/")
    assert len({deadletter.home(other) for other in (queue, queue + "x", "y" + queue, "%" + queue)}) == 4


def test_a_deleted_queue_leaves_its_letters(world: World) -> None:
    queue = world.queue()
    world.publish(b"1")
    world.settle(world.take(queue)[0], Outcome.REJECT)
    world.end_turn()
    world.broker.queues.delete(queue)
    world.end_turn()
    world.restart()
    assert world.bodies("$dead/q") == [b"1"]


@pytest.mark.parametrize("used", [False, True])
def test_where_no_letters_are_left_it_goes_with_its_queue(world: World, used: bool) -> None:
    queue = world.queue()
    world.publish(b"1")
    world.settle(world.take(queue)[0], Outcome.REJECT)
    world.end_turn()
    world.broker.queues.purge(world.broker.catalog.get("$dead/q"))
    if used:
        world.take(world.broker.catalog.get("$dead/q"))
    world.broker.queues.delete(queue)
    assert ("$dead/q" in world.broker.catalog.queues) == used
    world.end_turn()
    world.check()


# -- what they tell ------------------------------------------------------------------------------


def test_the_story_is_in_the_headers() -> None:
    world = World()
    queue = world.queue()
    world.publish(b"1", headers=(("mine", 1), ("mine", 2)), message_id="m", content_type="text/plain")
    (delivery,) = world.take(queue)
    world.settle(delivery, Outcome.REJECT, None, "ValueError: no\n" + "x" * 5000)
    letter = world.letter()
    headers = letter.properties.headers
    assert headers[:2] == (("mine", 1), ("mine", 2))
    assert dict(headers[2:]) == {
        "dead-letter-cause": "rejected",
        "dead-letter-queue": "q",
        "dead-letter-topic": "$queue/q",
        "dead-letter-attempts": 1,
        "dead-letter-time-ms": START_MS,
        "dead-letter-position": delivery.position,
        "dead-letter-reason": ("ValueError: no\n" + "x" * 5000)[:1000],
        "dead-letter-consumer": "worker-7",
        "dead-letter-protocol": "mqtt",
        "dead-letter-principal": "ann",
    }
    assert (letter.properties.message_id, letter.properties.content_type) == ("m", "text/plain")


def _die(world: World, message: Message) -> Message:
    world.broker.publish(message)
    (delivery,) = world.take(world.broker.catalog.get("q"), 1)
    world.settle(delivery, Outcome.REJECT)
    world.end_turn()
    return world.letter()


def test_who_dies_again_is_led_back_to_the_first_death() -> None:
    world = World()
    world.queue()
    first = _die(world, Message("$queue/q", b"1", properties=Properties(headers=(("mine", 1),))))
    assert deadletter.DEATHS not in dict(first.properties.headers)
    for deaths in (2, 3):
        last = world.letter()
        world.broker.queues.purge(world.broker.catalog.get("$dead/q"))
        world.wait(1000)
        again = Message("$queue/q", b"1", properties=deadletter.revived(last.properties))
        assert not [name for name, _ in again.properties.headers if name == deadletter.CAUSE]
        told = dict(_die(world, again).properties.headers)
        assert told[deadletter.DEATHS] == deaths
        assert told[deadletter.FIRST_TIME] == START_MS
        assert told[deadletter.FIRST_POSITION] == first.properties.header(deadletter.POSITION)
        assert told[deadletter.FIRST_QUEUE] == "q"
        assert told[deadletter.FIRST_CAUSE] == "rejected"
        assert told[deadletter.TIME] == START_MS + 1000 * (deaths - 1)
        assert told["mine"] == 1
        assert deadletter.QUEUES not in told
    assert deadletter.revived(Properties(headers=(("mine", 1),))).headers == (("mine", 1),)


def test_letters_of_letters_know_the_way_and_do_not_go_round() -> None:
    world = World()
    world.queue("a", dead_letter="$queue/b", ttl_ms=10)
    world.queue("b", dead_letter="$queue/c", ttl_ms=10)
    world.queue("c", dead_letter="$queue/a", ttl_ms=10)
    world.publish(b"1", topic="$queue/a")
    for _ in range(9):
        world.wait(SWEEP_INTERVAL_MS)
    assert world.broker.metrics.dead_lettered == 3
    assert world.broker.metrics.dropped[DropCause.EXPIRED] == 4
    assert not any(world.bodies(name) for name in "abc")
    world.check()


# -- one of both, never two, never none -------------------------------------------------------------


def _pages(world: World) -> list[bytes]:
    return sorted(world.bodies("q") + world.bodies("$dead/q"))


def test_a_letter_and_the_removal_are_one(world: World) -> None:
    queue = world.queue()
    world.publish(*(b"%d" % number for number in range(9)))
    world.end_turn()
    for delivery in world.take(queue, 5):
        world.settle(delivery, Outcome.REJECT)
    world.end_turn()
    world.restart()
    assert world.bodies("$dead/q") == [b"0", b"1", b"2", b"3", b"4"]
    assert _pages(world) == [b"%d" % number for number in range(9)]


def test_at_any_cut_of_the_log_there_is_one_of_both(tmp_path: Path) -> None:
    world = World(tmp_path / "whole")
    queue = world.queue()
    world.queue("$dead/q")
    world.publish(b"1", b"2")
    world.end_turn()
    (segment,) = (tmp_path / "whole" / "log").glob("*.seg")
    before = segment.stat().st_size
    first, second = world.take(queue)
    world.settle(first, Outcome.REJECT)
    world.settle(second, Outcome.REJECT)
    world.end_turn()
    log = segment.read_bytes()
    mark = (tmp_path / "whole" / "log" / segment.name).name
    found = set()
    for cut in [*range(before, len(log), 9), len(log)]:
        place = tmp_path / str(cut)
        (place / "log").mkdir(parents=True)
        (place / "log" / mark).write_bytes(log[:cut])
        left = World(place)
        assert _pages(left) == [b"1", b"2"], cut
        found.add(len(left.bodies("$dead/q")))
        left.broker.engine.close()
    assert found == {0, 1, 2}


@pytest.mark.parametrize("consumers", [0, 1])
def test_a_flush_that_fails_puts_the_message_back(world: World, consumers: int) -> None:
    queue = world.queue()
    assert isinstance(queue, ClassicQueue)
    world.publish(b"1", b"2")
    world.end_turn()
    held = world.take(queue, 1)
    world.settle(held[0], Outcome.REJECT)
    if not consumers:
        world.broker.queues.detach(queue.group.consumers[0])
    world.fail()
    assert world.bodies("$dead/q") == []
    assert len(held) == 1 + consumers * (len(held) - 1)
    waiting = world.bodies("q") + [d.message.body for d in queue.held()]
    assert sorted(waiting) == [b"1", b"2"]
    world.check()
    world.end_turn()
    world.restart()
    assert _pages(world) == [b"1", b"2"]


def test_the_same_of_a_streams_group(world: World) -> None:
    stream = world.queue("q", "stream")
    held = world.take(stream, 10, "g")
    world.publish(b"1", b"2")
    world.end_turn()
    world.settle(held[0], Outcome.REJECT)
    world.fail()
    assert world.bodies("$dead/q") == []
    world.end_turn()
    assert [d.message.body for d in held] == [b"1", b"2", b"1"]
    world.settle(held[2], Outcome.REJECT)
    world.end_turn()
    world.restart()
    assert world.bodies("$dead/q") == [b"1"]
    assert [d.message.body for d in world.take(world.broker.catalog.get("q"), 10, "g")] == [b"2"]


def test_a_failing_sync_may_double_a_letter_but_never_lose_it(world: World) -> None:
    queue = world.queue()
    world.publish(b"1")
    world.end_turn()
    world.settle(world.take(queue)[0], Outcome.REJECT)
    world.files.syncs_failing = 1
    world.end_turn()
    engine = world.broker.engine
    assert isinstance(engine, CommitLog)
    done: list[bool] = []
    engine.when_durable(engine.position(), done.append)
    world.end_turn()
    while not done:
        engine.completed()
    world.end_turn()
    assert set(world.bodies("$dead/q")) == {b"1"}
    assert 1 <= len(world.bodies("$dead/q")) <= 2
    world.check()


def test_dead_letters_that_refuse_more_do_not_keep_the_message() -> None:
    world = World()
    queue = world.queue(dead_letter="$queue/full")
    world.queue("full", max_length=1, overflow="reject")
    world.publish(b"1", b"2")
    for delivery in world.take(queue):
        world.settle(delivery, Outcome.REJECT)
    world.end_turn()
    assert world.bodies("full") == [b"1"]
    assert world.broker.metrics.dropped[DropCause.QUEUE_FULL] == 1
    world.check()


# -- sent on ------------------------------------------------------------------------------------------


def _buried(world: World, *bodies: bytes) -> ClassicQueue:
    queue = world.queue()
    world.publish(*bodies)
    for delivery in world.take(queue, 1000):
        world.settle(delivery, Outcome.REJECT)
    world.end_turn()
    world.broker.queues.detach(group_of(queue, "").consumers[0])
    dead = world.broker.catalog.get("$dead/q")
    assert isinstance(dead, ClassicQueue)
    return dead


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_one_from_the_middle_is_sent_on_or_stays(world: World, in_memory: bool, fails: bool) -> None:
    dead = _buried(world, *(b"%d" % number for number in range(5)))
    positions = [entry.position for entry in world.broker.engine.after(dead.queue_id, 0, 9)]
    if in_memory:
        world.take(dead, 1)
    message = Message("t", b"mended")
    to = world.broker.catalog.get("q")
    assert world.broker.letters.send_on(dead, positions[2], message, to)
    assert world.broker.letters.send_on(dead, positions[2], message, to) is None, "it does not wait any more"
    if fails:
        world.fail()
    world.end_turn()
    left = [b"0", b"1", b"2", b"3", b"4"] if fails else [b"0", b"1", b"3", b"4"]
    assert sorted(world.bodies("$dead/q") + [d.message.body for d in dead.held()]) == left
    assert world.bodies("q") == ([] if fails else [b"mended"])
    world.check()
    world.restart()
    assert world.bodies("$dead/q") == left
    assert world.bodies("q") == ([] if fails else [b"mended"])
    dead = world.broker.catalog.get("$dead/q")  # type: ignore[assignment]
    assert [d.message.body for d in world.take(dead, 9)] == left
    world.check()


def test_what_is_sent_on_in_a_turn_is_not_handed_out_in_it(world: World) -> None:
    dead = _buried(world, b"0", b"1", b"2")
    positions = [entry.position for entry in world.broker.engine.after(dead.queue_id, 0, 9)]
    dead.unload()
    assert world.broker.letters.send_on(dead, positions[1], Message("nobody", b"1")) == 0
    assert world.broker.letters.send_on(dead, positions[0], Message("$queue/q", b"0"))
    assert [d.message.body for d in world.take(dead)] == [b"2"]
    world.end_turn()
    assert world.bodies("q") == [b"0"]
    world.check()


def test_a_letter_in_somebodys_hands_is_theirs(world: World) -> None:
    dead = _buried(world, b"0")
    (held,) = world.take(dead)
    assert world.broker.letters.send_on(dead, held.position, Message("$queue/q", b"0")) is None
    assert world.broker.letters.send_on(dead, held.position + 1, Message("$queue/q", b"0")) is None
    world.settle(held, Outcome.ACK)
    world.end_turn()
    world.check()
