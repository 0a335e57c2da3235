"""Selectors of bindings and of streams' groups: who gets what, what is kept, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import NO_SUBSCRIBERS, Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Delivery
from gateway.core.engine import StorageEngine
from gateway.core.errors import Conflict, InvalidValue, StorageError
from gateway.core.message import Message, Origin, Outcome, Properties
from gateway.core.metrics import DropCause
from gateway.core.queue import Queue
from gateway.core.receiver import Item
from gateway.core.router import Binding
from gateway.core.selector import COMPILED_MAX, InvalidSelector, Selector, Selectors, shown
from gateway.core.session import Session
from gateway.core.stream import PASSED_PER_TAKE_MAX, StreamQueue
from gateway.selectors import LANGUAGES
from gateway.storage.commitlog import CommitLog
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000


class Everything:
    """Everybody may do everything."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(True)


class World:
    """A broker that knows the usual languages."""

    def __init__(self, engine: StorageEngine | None = None, languages: bool = True) -> None:
        self.broker = Broker(engine or MemoryEngine(), Clock(NOW_MS, 0))
        for name, compiler in LANGUAGES.items() if languages else ():
            self.broker.selectors.add(name, compiler)
        self.broker.restore(lambda: None)

    def selector(self, text: str | None) -> Selector | None:
        return None if text is None else self.broker.selectors.find(text)

    def session(self, name: str = "c") -> Session:
        return Session(
            self.broker, Principal("p"), Origin("test", "p", name, "peer"), Authority([Everything()])
        )

    def subscriber(self, *subscriptions: tuple[str, int, str | None], queue: bool = False) -> Subscriber:
        return Subscriber(self, subscriptions, queue)

    def publish(self, number: int, topic: str = "a/b", qos: int = 1, **more: Any) -> int:
        properties = Properties(headers=(("n", number),))
        return self.broker.publish(Message(topic, b"%d" % number, qos, properties=properties, **more))

    def check(self) -> None:
        """The books balance."""
        while self.broker.dispatch():
            pass
        metrics = self.broker.metrics
        done = metrics.delivered + metrics.streamed + sum(metrics.dropped)
        assert metrics.copies == done + self.broker.waiting()


class Subscriber:
    """A session that notes what it gets: live, and from its own queue."""

    def __init__(
        self, world: World, subscriptions: tuple[tuple[str, int, str | None], ...], queue: bool
    ) -> None:
        self.session = world.session("s")
        self.live: list[int] = []
        self.stored: list[int] = []
        self.bindings: list[Binding | None] = []
        self.session.receive(self._take)
        if queue or any(qos for _, qos, _ in subscriptions):
            self.session.own_queue("s", True)
            self.session.consume_own(self._take_stored, 1000)
        for index, (topic_filter, qos, text) in enumerate(subscriptions):
            self.session.subscribe(topic_filter, qos, ids=(index,), selector=world.selector(text))

    def _take(self, batch: list[Item]) -> None:
        self.live += [int(message.body) for message, _ in batch]
        self.bindings += [binding for _, binding in batch]

    def _take_stored(self, batch: list[Delivery]) -> None:
        self.stored += [int(delivery.message.body) for delivery in batch]
        self.bindings += [delivery.binding for delivery in batch]
        for delivery in batch:
            self.session.settle(delivery, Outcome.ACK)


def bodies(queue: Queue) -> list[int]:
    return [int(message.body) for _, message, _ in queue.browse(0, 100_000)]


# -- the registry -----------------------------------------------------------------------------


def test_a_text_is_compiled_once_and_the_oldest_goes_when_there_are_too_many() -> None:
    compiled: list[str] = []

    def compiler(text: str) -> Any:
        compiled.append(text)
        return None if text == "all" else lambda message: True

    selectors = Selectors()
    selectors.add("mine", compiler)
    first = selectors.find("0", "mine")
    assert first is not None
    assert selectors.find("0", "mine") is first
    assert selectors.find("all", "mine") is None
    assert selectors.find("all", "mine") is None
    for number in range(1, COMPILED_MAX - 1):
        selectors.find(str(number), "mine")
    assert selectors.find("0", "mine") is first  # used: now the youngest
    selectors.find("new", "mine")
    assert selectors.find("0", "mine") is first
    assert selectors.find("all", "mine") is None
    assert compiled.count("0") == 1
    assert compiled.count("all") == 2


def test_two_selectors_of_one_language_and_text_are_equal() -> None:
    selectors = World().broker.selectors
    found = selectors.find("a = 1")
    assert found == fresh().find("a = 1")
    assert hash(found) == hash(fresh().find("a = 1"))
    assert found != selectors.find("a = 2")
    assert found != selectors.find("a", "tags")
    assert found != "a = 1"
    assert found is not None
    assert found(Message("t", b"", properties=Properties(headers=(("a", 1),))))
    assert repr(found) == "Selector('sql', 'a = 1')"
    assert shown(selectors.find("a = '" + "x" * 100 + "'")).endswith('..."')


def fresh() -> Selectors:
    return World().broker.selectors


@pytest.mark.parametrize(
    ("text", "language", "error", "words"),
    [
        ("a =", "sql", InvalidSelector, "column 4"),
        ("a", "xpath", InvalidValue, "known: sql, tags"),
        ("a" * 5000, "sql", InvalidSelector, "4096 characters"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, language: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        World().broker.selectors.find(text, language)
    with pytest.raises(InvalidValue, match="known: none"):
        Selectors().find(text, language)


# -- bindings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_what_does_not_match_is_not_routed_and_no_drop(qos: int) -> None:
    world = World()
    picky = world.subscriber(("a/#", qos, "n > 2"))
    for number in range(1, 5):
        position = world.publish(number, qos=qos)
        assert (position == NO_SUBSCRIBERS) is (number <= 2)
    world.check()
    assert picky.live + picky.stored == [3, 4]
    assert world.broker.metrics.dropped[DropCause.NO_SUBSCRIBER] == 2
    assert sum(world.broker.metrics.dropped) == 2
    assert world.broker.metrics.copies == 4  # two delivered, and two that nobody wanted


def test_beside_others_what_one_does_not_want_is_no_drop_at_all() -> None:
    world = World()
    picky, all_of_it = world.subscriber(("a/#", 0, "n > 2")), world.subscriber(("a/b", 0, None))
    queue, _ = world.broker.catalog.declare("q")
    world.broker.catalog.bind(queue, Binding("a/+", queue, selector=world.selector("n < 2")))
    for number in range(4):
        world.publish(number)
    world.check()
    assert (picky.live, all_of_it.live, bodies(queue)) == ([3], [0, 1, 2, 3], [0, 1])
    assert sum(world.broker.metrics.dropped) == 0


def test_each_of_a_clients_overlapping_subscriptions_has_its_own_selector() -> None:
    world = World()
    both = world.subscriber(("a/#", 0, "n > 5"), ("a/b", 1, "n < 8"))
    for number in (1, 6, 9):
        world.publish(number)
    world.publish(7, qos=0)
    world.check()
    assert both.stored == [1, 6]  # one copy of 6, at the higher of the two
    assert both.live == [9, 7]
    ids = {binding.ids if binding else () for binding in both.bindings}
    assert ids == {(1,), (0, 1), (0,)}


def test_a_subscription_without_a_selector_takes_what_the_other_passes_over() -> None:
    world = World()
    both = world.subscriber(("a/#", 0, "n > 5"), ("a/b", 0, None))
    world.publish(1)
    world.publish(9)
    world.check()
    assert both.live == [1, 9]
    assert both.session.unsubscribe("a/b")
    assert world.publish(2) == NO_SUBSCRIBERS
    world.publish(8)
    world.check()
    assert both.live == [1, 9, 8]


def test_a_new_subscription_to_a_filter_replaces_the_selector() -> None:
    world = World()
    one = world.subscriber(("a/#", 0, "n > 5"))
    one.session.subscribe("a/#", 0, selector=world.selector("n < 5"))
    world.publish(1)
    world.publish(9)
    world.check()
    assert one.live == [1]
    one.session.subscribe("a/#", 0)
    world.publish(9)
    world.check()
    assert one.live == [1, 9]


def test_no_local_holds_beside_a_selector() -> None:
    world = World()
    one = world.subscriber()
    one.session.subscribe("a/#", 0, no_local=True, selector=world.selector("n > 5"))
    world.publish(9, origin=one.session.origin)
    world.publish(8)
    world.check()
    assert one.live == [8]


def test_retained_messages_go_by_the_selector() -> None:
    world = World()
    for number in range(4):
        world.publish(number, topic=f"a/{number}", retain=True)
    one = world.subscriber()
    binding, _ = one.session.subscribe("a/#", 0, selector=world.selector("n > 1"))
    one.session.send_retained(one.session.retained("a/#"), binding)
    world.check()
    assert one.live == [2, 3]


def test_statistics_go_by_the_selector() -> None:
    world = World()
    one = world.subscriber(("$sys/#", 0, "topic = '$sys/up'"))
    for topic in ("$sys/up", "$sys/down"):
        world.broker.announce(Message(topic, b"1", 0, True))
    world.check()
    assert one.live == [1]


def test_what_waits_in_the_inbox_of_a_picky_receiver_is_in_the_books() -> None:
    world = World()
    one = world.subscriber(("a/#", 0, "n > 5"))
    world.publish(9)
    assert one.session.receiver is not None
    one.session.receiver.congested = True
    world.check()
    assert world.broker.waiting() == 1


def test_a_transaction_goes_by_selectors() -> None:
    world = World()
    queue, _ = world.broker.catalog.declare("q")
    world.broker.catalog.bind(queue, Binding("a/+", queue, selector=world.selector("n > 5")))
    batch = [(Message("a/b", b"%d" % n, 1, properties=Properties(headers=(("n", n),))), None) for n in (1, 9)]
    world.session().transact(list(batch), [])
    world.check()
    assert bodies(queue) == [9]


selectors = st.sampled_from([None, "n > 5", "n < 3", "n BETWEEN 2 AND 7", "n IS NULL"])


@settings(max_examples=100, deadline=None)
@given(
    subscriptions=st.lists(
        st.tuples(st.sampled_from(["a/b", "a/+", "#", "x"]), st.integers(0, 1), selectors),
        max_size=4,
        unique_by=lambda subscription: subscription[0],
    ),
    published=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), max_size=8),
)
def test_a_subscriber_gets_what_any_of_its_subscriptions_takes(
    subscriptions: list[tuple[str, int, str | None]], published: list[tuple[int, int]]
) -> None:
    world = World()
    one = world.subscriber(*subscriptions)
    expected: list[list[int]] = [[], []]
    for number, qos in published:
        world.publish(number, qos=qos)
        message = Message("a/b", b"", properties=Properties(headers=(("n", number),)))
        granted = [
            min(qos, own)
            for topic_filter, own, text in subscriptions
            if topic_filter != "x" and (text is None or LANGUAGES["sql"](text)(message))  # type: ignore[misc]
        ]
        if granted:
            expected[max(granted)].append(number)
    world.check()
    assert [one.live, one.stored] == expected


def test_a_durable_binding_has_its_selector_after_a_restart(tmp_path: Path) -> None:
    world = World(CommitLog(tmp_path))
    one = world.subscriber(("a/#", 1, "n > 5"))
    queue, _ = world.broker.catalog.declare("q")
    binding = Binding("a/+", queue, selector=world.broker.selectors.find("x || y", "tags"))
    world.broker.catalog.bind(queue, binding)
    one.session.close(keep=True)
    world.broker.engine.close()
    again = World(CommitLog(tmp_path))
    found = again.broker.catalog.bindings
    assert found["$session/s"]["a/#"].selector == again.selector("n > 5")
    assert found["q"]["a/+"].selector == again.broker.selectors.find("x || y", "tags")
    again.publish(1)
    again.publish(9)
    assert bodies(again.broker.catalog.get("$session/s")) == [9]
    assert bodies(again.broker.catalog.get("q")) == []
    again.broker.engine.close()
    with pytest.raises(StorageError, match=r"binding of queue .* has a selector that cannot be used"):
        World(CommitLog(tmp_path), languages=False)


# -- groups of streams ------------------------------------------------------------------------


def stream(world: World, count: int = 0, durable: bool = True) -> StreamQueue:
    queue, _ = world.broker.catalog.declare("s", "stream", None, durable)
    assert isinstance(queue, StreamQueue)
    for number in range(count):
        world.publish(number, topic="$queue/s")
    return queue


class Reader:
    """A member of a group."""

    def __init__(self, world: World, text: str | None, group: str = "g", window: int = 1000) -> None:
        self.world = world
        self.session = world.session("reader")
        self.held: list[Delivery] = []
        self.consumer = self.session.consume("s", self.held.extend, window, group, 0, world.selector(text))

    def read(self) -> list[int]:
        """Acknowledge everything that comes; return it."""
        got: list[int] = []
        while self.world.broker.dispatch() or self.held:
            batch, self.held[:] = list(self.held), []
            got += [int(delivery.message.body) for delivery in batch]
            for delivery in batch:
                self.session.settle(delivery, Outcome.ACK)
        return got


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("window", [1, 7, 1000])
def test_a_group_passes_over_what_does_not_match(durable: bool, window: int) -> None:
    world = World()
    queue = stream(world, 500, durable)
    world.broker.queues.seek(queue, "g", 0)
    reader = Reader(world, "n >= 495 OR n = 3", window=window)
    assert reader.read() == [3, *range(495, 500)]
    assert queue.group("g").cursor == 500
    world.publish(7, topic="$queue/s")
    world.publish(600, topic="$queue/s")
    assert reader.read() == [600]
    assert queue.floor(queue.group("g")) == queue.next_offset
    world.check()


def test_passing_over_very_many_gives_others_their_turn() -> None:
    world = World()
    queue = stream(world, PASSED_PER_TAKE_MAX * 2 + 1)
    world.broker.queues.seek(queue, "g", 0)
    reader = Reader(world, f"n = {PASSED_PER_TAKE_MAX * 2}")
    assert world.broker.dispatch(), "there is more to look at, in another turn"
    assert queue.group("g").cursor == PASSED_PER_TAKE_MAX
    assert reader.read() == [PASSED_PER_TAKE_MAX * 2]
    assert not world.broker.dispatch()


def test_members_of_a_group_want_the_same() -> None:
    world = World()
    stream(world)
    first = Reader(world, "n > 5")
    second = Reader(world, "n > 5")
    for other, words in (("n > 6", "'n > 5', not the sql selector 'n > 6'"), (None, "not no selector")):
        with pytest.raises(Conflict, match=words):
            Reader(world, other)
    assert first.consumer.group is second.consumer.group
    for reader in (first, second):
        reader.session.close()
    with pytest.raises(Conflict, match="use another group, or move this one"):
        Reader(world, None)  # what it has passed over, it has passed over for all
    Reader(world, "n > 6", "other")
    Reader(world, "n > 5").session.close()


def test_a_group_that_is_used_without_a_selector_gets_none() -> None:
    world = World()
    queue = stream(world)
    reader = Reader(world, None)
    with pytest.raises(Conflict, match="has no selector, not the sql selector 'n > 5'"):
        Reader(world, "n > 5")
    world.publish(1, topic="$queue/s")
    world.broker.dispatch()
    reader.session.cancel(reader.consumer, give_back=False)  # as under a lease
    with pytest.raises(Conflict):
        Reader(world, "n > 5")
    reader.session.settle(reader.held[0], Outcome.ACK)
    assert Reader(world, "n > 5").consumer.group is queue.group("g")


def test_moving_a_group_that_nobody_uses_frees_it_from_its_selector() -> None:
    world = World()
    queue = stream(world, 10)
    reader = Reader(world, "n > 5")
    world.broker.queues.seek(queue, "g", 0)
    assert queue.group("g").selector is not None, "it is used"
    assert reader.read() == [6, 7, 8, 9]
    reader.session.close()
    world.broker.queues.seek(queue, "g", 0)
    assert Reader(world, "n < 2").read() == [0, 1]


def test_members_of_a_shared_subscription_want_the_same() -> None:
    world = World()
    held: list[Delivery] = []
    world.session().consume("$share/g/a/#", held.extend, 10, selector=world.selector("n > 5"))
    for number in (1, 9):
        world.publish(number)
    world.check()
    assert [int(delivery.message.body) for delivery in held] == [9]
    for other in (None, "n > 6"):
        with pytest.raises(Conflict, match=r"the shared subscription .* has the sql selector 'n > 5', not"):
            world.session().consume("$share/g/a/#", held.extend, 10, selector=world.selector(other))
    world.session().consume("$share/g/a/#", held.extend, 10, selector=world.selector("n > 5"))
    world.session().consume("$share/h/a/#", held.extend, 10, selector=world.selector("n > 6"))
    world.session().consume("$share/i/a/#", held.extend, 10)
    with pytest.raises(Conflict, match="has no selector, not the sql selector 'n > 6'"):
        world.session().consume("$share/i/a/#", held.extend, 10, selector=world.selector("n > 6"))


def test_a_shared_subscription_that_a_crash_left_unbound_is_bound_by_its_next_member() -> None:
    world = World()
    world.broker.catalog.declare("$share/g/a/#")
    held: list[Delivery] = []
    world.session().consume("$share/g/a/#", held.extend, 10, selector=world.selector("n > 5"))
    for number in (1, 9):
        world.publish(number)
    world.check()
    assert [int(delivery.message.body) for delivery in held] == [9]


def test_what_a_group_gave_back_comes_again() -> None:
    world = World()
    stream(world)
    reader = Reader(world, "n > 5")
    for number in (1, 6):
        world.publish(number, topic="$queue/s")
    world.broker.dispatch()
    reader.session.settle(reader.held.pop(), Outcome.REQUEUE)
    assert reader.read() == [6]


def test_a_group_has_its_selector_after_a_restart(tmp_path: Path) -> None:
    world = World(CommitLog(tmp_path))
    queue = stream(world, 10)
    for group in ("g", "freed", "$passing"):
        world.broker.queues.seek(queue, group, 0)
        assert Reader(world, "n > 7", group).read() == [8, 9]
    for session in list(world.broker.catalog.get("s").active):
        for consumer in list(session.consumers):
            world.broker.queues.detach(consumer)
    world.broker.queues.seek(queue, "freed", 5)
    world.broker.dispatch()
    world.broker.engine.close()
    again = World(CommitLog(tmp_path))
    stream(again)
    with pytest.raises(Conflict, match="not no selector"):
        Reader(again, None)
    reader = Reader(again, "n > 7")
    again.publish(3, topic="$queue/s")
    again.publish(11, topic="$queue/s")
    assert reader.read() == [11]
    assert Reader(again, None, "freed").read() == [*range(5, 10), 3, 11]
    assert [key for key, _ in again.broker.engine.scan("selector/")] == ["selector/s\0g"]
    again.broker.queues.delete(again.broker.catalog.get("s"))
    assert list(again.broker.engine.scan("selector/")) == []
    again.broker.engine.close()


def test_a_group_whose_position_was_never_written_down_has_its_selector_all_the_same(tmp_path: Path) -> None:
    world = World(CommitLog(tmp_path))
    stream(world)
    world.broker.engine.put("selector/gone\0g", b'["sql", "n > 1"]')
    world.broker.engine.put("selector/s\0g", b'["sql", "n > 5"]')
    world.broker.engine.close()
    for _ in range(2):
        again = World(CommitLog(tmp_path))
        assert [key for key, _ in again.broker.engine.scan("selector/")] == ["selector/s\0g"]
        with pytest.raises(Conflict, match="'n > 5', not no selector"):
            Reader(again, None)
        again.broker.engine.close()
    again = World(CommitLog(tmp_path))
    again.broker.queues.delete(again.broker.catalog.get("s"))
    assert list(again.broker.engine.scan("selector/")) == []
    again.broker.engine.close()


def test_a_classic_queue_has_no_selector_but_its_bindings() -> None:
    world = World()
    world.broker.catalog.declare("s")
    with pytest.raises(Conflict, match="have the selector on its binding, or consume a stream"):
        Reader(world, "n > 1", group="")
    assert Reader(world, None, group="").read() == []
