"""Transactions of half messages: who may do what when, and what is seen of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gateway.core import half, halves, outcomes
from gateway.core.broker import NO_SUBSCRIBERS
from gateway.core.errors import (
    Conflict,
    GatewayError,
    InvalidTopic,
    InvalidValue,
    NotAuthorized,
    NotFound,
    QueueFull,
    QuotaExceeded,
    TooLarge,
)
from gateway.core.half import Half, Options, State
from gateway.core.message import Message, Properties
from gateway.core.metrics import DropCause
from gateway.core.policy import QueuePolicy
from tests.core.half_world import Producer, World


@pytest.fixture
def world() -> World:
    made = World()
    made.queue("orders", "orders/#")
    made.queue("bills", "bills/#", "orders/eu")
    return made


# -- commit and rollback --------------------------------------------------------------------


def test_nothing_is_seen_before_commit_and_all_after(world: World) -> None:
    alice = world.producer()
    assert alice.half("t1", "orders/eu", b"one") > 0
    alice.half("t1", "bills/1", b"two")
    assert (world.bodies("orders"), world.bodies("bills")) == ([], [])
    assert alice.broker.router.last("orders/eu") is None
    assert alice.commit("t1") > 0
    assert world.bodies("orders") == [b"one"]
    assert world.bodies("bills") == [b"one", b"two"]
    assert world.balanced()


def test_a_rollback_leaves_nothing(world: World) -> None:
    alice = world.producer()
    alice.half("t1", "orders/eu")
    assert alice.roll_back("t1") > 0
    assert (world.bodies("orders"), world.bodies("bills")) == ([], [])
    assert world.broker.engine.extent(half.HALF_QUEUE_ID).messages == 1  # the outcome, nothing else
    assert world.broker.metrics.published == 0
    assert world.balanced()


def test_a_message_comes_as_it_was_published(world: World) -> None:
    alice = world.producer()
    properties = Properties(message_id="m", key="k", headers=(("a", 1), ("b", b"\xff")))
    sent = Message("$transaction/t/publish/orders/x", b"\0\xff", 2, False, properties, alice.origin, 12345)
    alice.publish(sent)
    alice.commit("t")
    (got,) = world.messages("orders")
    assert (got.topic, got.body, got.qos, got.timestamp_ms) == ("orders/x", b"\0\xff", 2, 12345)
    assert got.properties == properties
    assert got.origin is alice.origin


def test_retained_messages_are_retained_at_commit(world: World) -> None:
    alice = world.producer()
    alice.publish(Message("$transaction/t/publish/state/a", b"on", 1, True, origin=alice.origin))
    assert world.broker.retained.get("state/a") is None
    alice.commit("t")
    kept = world.broker.retained.get("state/a")
    assert kept is not None
    assert kept.body == b"on"


def test_the_time_to_live_counts_from_the_commit(world: World) -> None:
    alice = world.producer()
    alice.half("t", "orders/a", expires_at_ms=world.broker.clock.now_ms + 5000)
    world.later(5500)
    alice.commit("t")
    (got,) = world.messages("orders")
    assert got.expires_at_ms == world.broker.clock.now_ms + 5000


def test_live_receivers_get_it_at_commit(world: World) -> None:
    alice, bob = world.producer(), world.producer("bob")
    items: list[bytes] = []
    bob.receive(lambda batch: items.extend(message.body for message, _ in batch))
    bob.subscribe("live/#", 0)
    alice.half("t", "live/a", b"now")
    world.turn()
    assert items == []
    alice.commit("t")
    world.turn()
    assert items == [b"now"]


def test_queues_are_topics_too(world: World) -> None:
    alice = world.producer()
    alice.half("t", "$queue/orders", b"straight")
    alice.commit("t")
    assert world.bodies("orders") == [b"straight"]


def test_a_commit_of_what_nobody_wants_is_stored_all_the_same(world: World) -> None:
    alice = world.producer()
    alice.half("t", "nobody/here")
    assert alice.commit("t") not in (0, NO_SUBSCRIBERS)
    assert world.broker.metrics.dropped[DropCause.NO_SUBSCRIBER] == 1
    assert world.balanced()


# -- the same twice, and the other ------------------------------------------------------------


def test_the_same_answer_twice_is_the_same(world: World) -> None:
    alice = world.producer()
    alice.half("t", "orders/a")
    assert alice.commit("t") == alice.commit("t")
    assert len(world.bodies("orders")) == 1
    alice.half("u", "orders/a")
    assert alice.roll_back("u") == alice.roll_back("u")


@pytest.mark.parametrize("commit", [True, False])
def test_an_outcome_does_not_change(world: World, commit: bool) -> None:
    alice = world.producer()
    alice.half("t", "orders/a")
    first, other = (alice.commit, alice.roll_back) if commit else (alice.roll_back, alice.commit)
    first("t")
    before = world.bodies("orders")
    with pytest.raises(Conflict, match="committed already" if commit else "rolled back already"):
        other("t")
    with pytest.raises(Conflict, match="with a new id"):
        alice.half("t", "orders/b")
    with pytest.raises(Conflict, match="with a new id"):
        alice.send("$transaction/t/begin")
    assert world.bodies("orders") == before


def test_an_outcome_is_forgotten_in_time(world: World) -> None:
    alice = world.producer()
    alice.half("t", "orders/a")
    alice.commit("t")
    world.later(1000)
    alice.half("u", "orders/a")
    alice.roll_back("u")
    engine = world.broker.engine
    world.broker.halves.remember(10_000)
    world.broker.halves._outcomes._wait(9000)
    world.later(9001)
    assert [known.id for known in world.broker.halves.all()] == ["u"]
    world.later(1500)
    assert engine.extent(half.HALF_QUEUE_ID).messages == 0
    with pytest.raises(NotFound, match="ended more than 10 s ago"):
        alice.commit("t")
    alice.half("t", "orders/again")


def test_outcomes_are_limited_in_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "REMEMBERED_MAX", 3)
    alice = world.producer()
    for number in range(5):
        alice.half(f"t{number}", "orders/a")
        alice.commit(f"t{number}")
    assert [known.id for known in world.broker.halves.all()] == ["t2", "t3", "t4"]
    assert world.broker.engine.extent(half.HALF_QUEUE_ID).messages == 3


# -- rights -----------------------------------------------------------------------------------


def test_an_id_is_its_principals(world: World) -> None:
    alice, bob = world.producer("alice"), world.producer("bob")
    alice.half("t", "orders/a", b"hers")
    with pytest.raises(NotFound):
        bob.commit("t")
    bob.half("t", "orders/b", b"his")
    bob.commit("t")
    assert world.bodies("orders") == [b"his"]
    world.producer("alice", "another client").commit("t")
    assert world.bodies("orders") == [b"his", b"hers"]


def test_whoever_manages_transactions_resolves_anybodys(world: World) -> None:
    table, root, bob = world.broker.halves, world.producer("root"), world.producer("bob")
    world.producer("alice").half("t", "orders/a")
    with pytest.raises(NotAuthorized):
        table.resolve(bob, "t", True, "alice")
    with pytest.raises(NotFound):
        table.resolve(root, "t", True)  # its own
    table.resolve(root, "t", True, "alice")
    (found,) = table.all()
    assert (found.state, found.cause) == (State.COMMITTED, "operator")
    assert len(world.bodies("orders")) == 1


def test_the_right_to_publish_is_asked_for_each_message(world: World) -> None:
    alice = world.producer()
    alice.half("t", "orders/a")
    with pytest.raises(NotAuthorized):
        alice.half("t", "secret/a")
    for topic in ("$sys/a", "$dead/a", "$transaction/u/commit", "$transaction/u/publish/a", "$delayed/1/a"):
        with pytest.raises(NotAuthorized):
            alice.half("t", topic)
    alice.commit("t")
    assert len(world.bodies("orders")) == 1
    assert world.broker.halves.open == 0


def test_interceptors_see_a_message_when_it_is_added(world: World) -> None:
    def change(message: Message, session: object) -> Message | None:
        return None if message.body == b"drop" else message.with_topic("orders/changed")

    alice = world.producer(intercept=[change])
    assert alice.half("t", "elsewhere", b"a") > 0
    assert alice.half("t", "elsewhere", b"drop") == 0
    alice.commit("t")
    assert [message.topic for message in world.messages("orders")] == ["orders/changed"]


# -- what does not fit --------------------------------------------------------------------------

BAD: list[tuple[str, type[GatewayError]]] = [
    ("$transaction", InvalidTopic),
    ("$transaction/t", InvalidTopic),
    ("$transaction/t/publish", InvalidTopic),
    ("$transaction/t/publish/", InvalidTopic),
    ("$transaction/t/commit/more", InvalidTopic),
    ("$transaction/t/begin/more", InvalidTopic),
    ("$transaction/t/COMMIT", InvalidTopic),
    ("$transaction/t/publish/a/+", InvalidTopic),
    ("$transaction/#/commit", InvalidTopic),
    ("$transaction/t/publish/a\0", InvalidTopic),
    ("$transaction//commit", InvalidValue),
    ("$transaction/a b/commit", InvalidValue),
    ("$transaction/a.b/publish/c", InvalidValue),
    ("$transaction/é/publish/c", InvalidValue),
    ("$transaction/" + "x" * 129 + "/publish/c", InvalidValue),
    ("$transaction/unknown/commit", NotFound),
    ("$transaction/unknown/rollback", NotFound),
]


@pytest.mark.parametrize(("topic", "error"), BAD)
def test_what_makes_no_sense_is_refused(world: World, topic: str, error: type[GatewayError]) -> None:
    alice = world.producer()
    with pytest.raises(error):
        alice.send(topic)
    assert world.broker.halves.open == 0
    assert world.balanced()


BAD_OPTIONS = [
    b"{",
    b"[]",
    b"1",
    b"\xff",
    b'{"immunity": -1}',
    b'{"immunity": 1e300}',
    b'{"immunity": NaN}',
    b'{"immunity": true}',
    b'{"immunity": "9"}',
    b'{"unknown": 1}',
    b'{"reply_to": 1}',
    b'{"check_url": []}',
    b'{"check_url": "%s"}' % (b"x" * 2049),
    b'{"check_url": "https://example.com/"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", BAD_OPTIONS, ids=range(len(BAD_OPTIONS)))
def test_options_that_make_no_sense_are_refused(world: World, body: bytes) -> None:
    with pytest.raises(InvalidValue):
        world.producer().send("$transaction/t/begin", body)
    assert world.broker.halves.open == 0


@pytest.mark.parametrize("reply_to", ["secret/a", "$queue/secret", "$sys/a", "$transaction/x/commit"])
def test_a_reply_to_has_to_be_open_to_its_producer(world: World, reply_to: str) -> None:
    alice = world.producer()
    with pytest.raises(NotAuthorized):
        alice.send("$transaction/t/begin", json.dumps({"reply_to": reply_to}).encode())
    with pytest.raises(NotAuthorized):
        alice.send("$transaction/t/begin", b"", Properties(reply_to=reply_to))
    # That of a message is the application's: it need not be meant for us.
    alice.send("$transaction/t/publish/orders/a", b"", Properties(reply_to=reply_to))
    (found,) = world.broker.halves.all()
    assert found.options.reply_to == ""


def test_a_time_of_delivery_that_makes_no_sense_is_refused(world: World) -> None:
    alice = world.producer()
    for properties in (_later(delay_ms=-1), Properties(deliver_at_ms=1 << 60)):
        with pytest.raises(InvalidValue):
            alice.send("$transaction/t/publish/orders/a", b"", properties)
    assert world.broker.halves.open == 0


def _later(delay_ms: int, **about: str) -> Properties:
    properties = Properties(**about)  # type: ignore[arg-type]
    properties.delay_ms = delay_ms
    return properties


@pytest.mark.parametrize("about", [{}, {"key": "k"}])
def test_a_delay_counts_from_the_commit(world: World, about: dict[str, str]) -> None:
    alice = world.producer()
    alice.send("$transaction/t/publish/orders/a", b"x", _later(30_000, **about))
    alice.send("$transaction/t/publish/orders/a", b"now", Properties(deliver_at_ms=world.wall_ms + 3000))
    world.later(5000)
    alice.commit("t")
    assert world.bodies("orders") == [b"now"]
    world.later(29_000)
    assert world.bodies("orders") == [b"now"]
    world.later(1500)
    assert world.bodies("orders") == [b"now", b"x"]
    assert world.messages("orders")[1].properties.key == about.get("key")
    assert world.balanced()


def test_an_open_transaction_does_not_begin_again(world: World) -> None:
    alice = world.producer()
    assert alice.send("$transaction/t/begin") > 0
    with pytest.raises(Conflict, match="is open"):
        alice.send("$transaction/t/begin")
    assert alice.commit("t") > 0  # of nothing


# -- limits -------------------------------------------------------------------------------------


def test_messages_and_bytes_of_a_transaction_are_limited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halves, "BYTES_MAX", 10)
    world.broker.halves.messages_max = 3
    alice = world.producer()
    with pytest.raises(TooLarge, match="10 bytes"):
        alice.half("t", "orders/a", b"x" * 11)
    assert world.broker.halves.open == 0
    alice.half("t", "orders/a", b"x" * 8)
    with pytest.raises(TooLarge):
        alice.half("t", "orders/a", b"x" * 3)
    alice.half("t", "orders/a", b"x")
    alice.half("t", "orders/a", b"x")
    with pytest.raises(TooLarge, match="3 messages"):
        alice.half("t", "orders/a", b"")
    alice.commit("t")
    assert [len(body) for body in world.bodies("orders")] == [8, 1, 1]


def test_open_transactions_and_their_bytes_are_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "OPEN_OF_PRINCIPAL_MAX", 2)
    monkeypatch.setattr(halves, "OPEN_MAX", 3)
    monkeypatch.setattr(halves, "BYTES_OPEN_MAX", 10)
    alice, bob = world.producer("alice"), world.producer("bob")
    alice.half("a", "orders/a", b"x" * 6)
    alice.half("b", "orders/a", b"")
    with pytest.raises(QuotaExceeded, match="'alice'"):
        alice.half("c", "orders/a", b"")
    with pytest.raises(QuotaExceeded, match="10 bytes"):
        bob.half("a", "orders/a", b"x" * 5)
    bob.half("a", "orders/a", b"x")
    with pytest.raises(QuotaExceeded, match="3 transactions"):
        bob.send("$transaction/b/begin")
    alice.commit("a")
    alice.roll_back("b")
    bob.half("a", "orders/a", b"x" * 9)
    alice.half("c", "orders/a", b"")
    assert world.broker.halves.open == 2


def test_a_full_queue_refuses_the_whole_commit(world: World) -> None:
    world.queue("small", "small/#", policy=QueuePolicy(max_length=1, overflow="reject"))
    alice = world.producer()
    alice.half("t", "orders/a")
    alice.half("t", "small/a")
    alice.half("t", "small/b")
    before = world.broker.engine.position()
    for _ in range(2):
        with pytest.raises(QueueFull):
            alice.commit("t")
    assert (world.bodies("orders"), world.bodies("small")) == ([], [])
    assert world.broker.engine.position() == before
    assert world.broker.router.last("orders/a") is None
    assert world.balanced()
    world.broker.catalog.set_policy(world.queue("small"), QueuePolicy(max_length=2, overflow="reject"))
    alice.commit("t")
    assert (len(world.bodies("orders")), len(world.bodies("small"))) == (1, 2)


def test_a_message_that_is_lost_leaves_only_the_way_back(world: World) -> None:
    alice = world.producer()
    alice.half("t", "orders/a")
    at = alice.half("t", "orders/b")
    world.broker.engine._messages.held.pop(at)  # type: ignore[attr-defined]
    with pytest.raises(Conflict, match="roll it back"):
        alice.commit("t")
    assert world.bodies("orders") == []
    alice.roll_back("t")


# -- check-back -----------------------------------------------------------------------------------


def _asked(world: World) -> list[tuple[int, int]]:
    """Have questions noted: (seconds since now, number)."""
    found: list[tuple[int, int]] = []
    begun_ms = world.up_ms
    world.broker.halves.check_back.checkers.append(
        lambda open_half: found.append(((world.up_ms - begun_ms) // 1000, open_half.checks))
    )
    return found


def test_questions_come_on_rocketmqs_schedule_and_end(world: World) -> None:
    alice, asked = world.producer(), _asked(world)
    alice.half("t", "orders/a", b"one")
    alice.half("t", "bills/a", b"two")
    world.later(600_000)
    assert asked == [(6 + 30 * number, number + 1) for number in range(15)]
    assert (world.bodies("orders"), world.bodies("bills")) == ([], [])
    letters = world.messages("$dead/$half")
    assert [message.body for message in letters] == [b"one", b"two"]
    header = letters[1].properties.header
    assert header("dead-letter-cause") == "transaction_unresolved"
    assert header("dead-letter-topic") == "bills/a"
    assert (header("transaction-id"), header("dead-letter-attempts")) == ("t", 15)
    with pytest.raises(Conflict, match="rolled back already; nobody had said"):
        alice.commit("t")
    alice.roll_back("t")
    counts = world.broker.halves
    assert (counts.begun, counts.committed, counts.rolled_back_count, counts.unresolved) == (1, 0, 1, 1)
    assert counts.check_back.asked == 15
    assert world.broker.metrics.dropped[DropCause.TRANSACTION_UNRESOLVED] == 2
    assert list(world.broker.engine.scan("half/")) == []
    assert world.balanced()


def test_an_immunity_of_its_own_comes_first(world: World) -> None:
    alice, asked = world.producer(), _asked(world)
    alice.send("$transaction/t/begin", b'{"immunity": 100}')
    world.later(131_000)
    assert asked == [(100, 1), (130, 2)]


def test_an_answer_ends_the_questions(world: World) -> None:
    alice, asked = world.producer(), _asked(world)
    alice.half("t", "orders/a")
    world.later(7000)
    alice.commit("t")
    world.later(600_000)
    assert asked == [(6, 1)]
    assert world.bodies("orders") == [b"x"]


def test_the_schedule_goes_on_after_a_restart(world: World) -> None:
    alice = world.producer()
    alice.half("t", "orders/a", b"kept")
    world.later(40_000)  # two questions
    world.start(world.broker.engine)
    asked = _asked(world)
    world.later(600_000)
    assert asked == [(26 + 30 * number, number + 3) for number in range(13)]
    assert [message.body for message in world.messages("$dead/$half")] == [b"kept"]


def test_after_a_restart_producers_have_time_to_come_back(world: World) -> None:
    alice = world.producer()
    alice.half("t", "orders/a")
    world.wall_ms += 3_600_000
    world.start(world.broker.engine)
    asked = _asked(world)
    world.later(37_000)
    assert asked == [(6, 1), (36, 2)]


def test_a_checker_that_fails_keeps_nobody_else_from_asking(world: World) -> None:
    bugs: list[str] = []
    world.broker.on_bug = lambda what, error: bugs.append(what)

    def broken(open_half: Half) -> None:
        raise RuntimeError

    world.broker.halves.check_back.checkers.append(broken)
    asked = _asked(world)
    world.producer().half("t", "orders/a")
    world.later(6000)
    assert (len(bugs), len(asked)) == (1, 1)


def test_a_checker_may_answer_at_once(world: World) -> None:
    table = world.broker.halves
    table.check_back.checkers.append(lambda open_half: _commit(table.end, open_half))
    world.producer().half("t", "orders/a")
    world.later(6000)
    assert world.bodies("orders") == [b"x"]
    assert [known.cause for known in table.all()] == ["check"]
    world.later(600_000)
    assert table.check_back.asked == 1


def _commit(end: Callable[[Half, bool, str], int], open_half: Half) -> None:
    end(open_half, True, "check")


def test_a_question_goes_to_the_reply_to_address(world: World) -> None:
    world.queue("questions")
    alice = world.producer()
    about = Properties(reply_to="$queue/questions", message_id="m1", key="k")
    alice.send("$transaction/t/publish/orders/a", b"x", about)
    alice.half("t", "orders/b")
    world.later(6000)
    (first,) = world.messages("questions")
    world.later(30_000)
    (second,) = world.messages("questions")  # the one before has expired
    assert first.properties.header("transaction-id") == "t"
    assert [m.properties.header("transaction-check") for m in (first, second)] == [1, 2]
    assert json.loads(first.body) == {
        "id": "t",
        "check": 1,
        "count": 2,
        "messages": [{"topic": "orders/a", "message_id": "m1", "key": "k"}, {"topic": "orders/b"}],
    }
    assert first.properties.content_type == "application/json"
    assert first.expires_at_ms == second.timestamp_ms  # then the next one comes


def test_dead_letters_that_find_no_room_wait(world: World) -> None:
    world.queue("$dead/$half", "$dead/$half", policy=QueuePolicy(max_length=1, overflow="reject"))
    alice = world.producer()
    alice.half("t", "orders/a", b"1")
    alice.half("t", "orders/b", b"2")
    world.later(600_000)
    assert world.broker.halves.open == 1
    assert world.broker.halves.check_back.asked == 15
    world.broker.catalog.set_policy(world.queue("$dead/$half"), QueuePolicy())
    world.later(31_000)
    assert world.bodies("$dead/$half") == [b"1", b"2"]


# -- listing ------------------------------------------------------------------------------------------


def test_transactions_can_be_listed_and_looked_at(world: World) -> None:
    alice, table = world.producer(), world.broker.halves
    alice.half("a", "orders/a", b"123")
    alice.half("b", "orders/b")
    alice.half("c", "orders/c")
    alice.commit("b")
    alice.roll_back("c")
    by_state = {state: [each.id for each in table.all(state)] for state in (None, *State)}
    assert by_state == {
        None: ["b", "c", "a"],
        State.OPEN: ["a"],
        State.COMMITTED: ["b"],
        State.ROLLED_BACK: ["c"],
    }
    (found,) = table.all(State.OPEN)
    assert (found.messages, found.size) == (1, 3)
    assert [(m.topic, m.body) for m in table.messages(found)] == [("orders/a", b"123")]


def test_begin_gives_what_add_needs(world: World) -> None:
    alice = world.producer()
    made = world.broker.halves.begin(alice, "t", Options(immunity_ms=1000))
    assert (made.id, made.state, made.next_check_ms - made.begun_ms) == ("t", State.OPEN, 1000)
    assert isinstance(alice, Producer)
