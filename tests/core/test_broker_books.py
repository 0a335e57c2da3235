"""The books balance: each copy of a message is delivered, streamed, waiting, or dropped under a cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import NO_SUBSCRIBERS, Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Delivery
from gateway.core.errors import GatewayError, InvalidTopic, NotAuthorized, QueueFull, QuotaExceeded
from gateway.core.message import Message, Origin, Outcome, Properties
from gateway.core.metrics import DropCause
from gateway.core.policy import REJECT, QueuePolicy
from gateway.core.quota import Limits
from gateway.core.receiver import Item
from gateway.core.router import Binding
from gateway.core.session import Session
from gateway.core.sweeper import SWEEP_INTERVAL_MS
from gateway.storage.memory import MemoryEngine

START_MS = 1_700_000_000_000


class Rules:
    """Everybody may do everything, but not publish below `secret/`."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(not (action is Action.PUBLISH and resource.startswith("secret/")))


class World:
    """A broker, and helpers to use it."""

    def __init__(self) -> None:
        self.clock = Clock(START_MS, 5000)
        self.broker = Broker(MemoryEngine(), self.clock)
        self.broker.restore(lambda: None)
        self.metrics = self.broker.metrics

    def session(self, client_id: str = "c", intercept: tuple[Callable[..., Any], ...] = ()) -> Session:
        origin = Origin("test", "p", client_id, "peer")
        return Session(self.broker, Principal("p"), origin, Authority([Rules()]), intercept)

    def receiver(
        self, topic_filter: str = "t", client_id: str = "c", inbox_max: int = 100
    ) -> tuple[Session, list[Message]]:
        got: list[Message] = []

        def deliver(batch: list[Item]) -> None:
            got.extend(message for message, _ in batch)

        session = self.session(client_id)
        session.receive(deliver, inbox_max)
        session.subscribe(topic_filter)
        return session, got

    def queue(self, name: str = "q", topic_filter: str = "t", kind: str = "classic", **policy: Any) -> Any:
        queue, _ = self.broker.catalog.declare(name, kind, QueuePolicy(**policy))
        self.broker.catalog.bind(queue, Binding(topic_filter, queue))
        return queue

    def consume(self, name: str = "q", window: int = 10, group: str = "") -> tuple[Session, list[Delivery]]:
        held: list[Delivery] = []
        session = self.session("consumer")
        session.consume(name, held.extend, window, group)
        return session, held

    def publish(self, topic: str = "t", body: bytes = b"x", qos: int = 1, **more: Any) -> int:
        return self.broker.publish(Message(topic, body, qos, **more))

    def dispatch(self) -> None:
        while self.broker.dispatch():
            pass

    def wait(self, milliseconds: int) -> None:
        self.clock.set(self.clock.now_ms + milliseconds, self.clock.monotonic_ms + milliseconds)
        self.broker.scheduler.run_due()

    def roll_back(self, position: int) -> None:
        """The engine could not write from a position on."""
        engine = self.broker.engine
        assert isinstance(engine, MemoryEngine)
        engine.forget_from(position)
        self.broker.rollback(position)

    def dropped(self) -> dict[DropCause, int]:
        return {cause: self.metrics.dropped[cause] for cause in DropCause if self.metrics.dropped[cause]}

    def check(self) -> None:
        metrics = self.metrics
        done = metrics.delivered + metrics.streamed + sum(metrics.dropped)
        assert metrics.copies == done + self.broker.waiting()


# -- each cause ----------------------------------------------------------------------------


def _no_subscriber(world: World) -> None:
    assert world.publish() == NO_SUBSCRIBERS


def _expired_in_a_queue(world: World) -> None:
    world.queue()
    world.publish(expires_at_ms=START_MS + 5)
    world.wait(SWEEP_INTERVAL_MS)


def _queue_full_drops_the_head(world: World) -> None:
    queue = world.queue(max_length=1)
    world.publish(body=b"old")
    world.publish(body=b"new")
    assert [message.body for _, message, _ in queue.browse(0, 9)] == [b"new"]


def _queue_full_refuses(world: World) -> None:
    world.queue(max_length=1, overflow=REJECT)
    world.publish()
    with pytest.raises(QueueFull):
        world.publish()


def _queue_full_of_bytes(world: World) -> None:
    world.queue(max_bytes=3)
    world.publish(body=b"12")
    world.publish(body=b"34")


def _not_authorized(world: World) -> None:
    with pytest.raises(NotAuthorized):
        world.session().publish(Message("secret/t", b""))


def _reserved_topic(world: World) -> None:
    with pytest.raises(NotAuthorized):
        world.session().publish(Message("$sys/t", b""))


def _subscriber_offline(world: World) -> None:
    session, _ = world.receiver()
    assert session.receiver is not None
    session.receiver.open = False
    world.publish(qos=0)


def _slow_subscriber(world: World) -> None:
    session, got = world.receiver(inbox_max=1)
    session.congest(True)
    world.publish(qos=0)
    world.publish(qos=0)
    world.dispatch()
    assert got == []
    session.congest(False)
    world.dispatch()
    assert len(got) == 1


def _rejected(world: World) -> None:
    world.queue()
    session, held = world.consume()
    world.publish()
    world.dispatch()
    session.settle(held[0], Outcome.REJECT)


def _delivery_limit(world: World) -> None:
    world.queue(delivery_limit=2)
    session, held = world.consume()
    world.publish()
    for _ in range(2):
        world.dispatch()
        session.settle(held.pop(), Outcome.REQUEUE)
    world.dispatch()
    assert held == []


def _not_stored(world: World) -> None:
    queue = world.queue()
    position = world.publish()
    world.roll_back(position)
    assert queue.length() == 0


def _intercepted(world: World) -> None:
    assert world.session(intercept=(lambda message, session: None,)).publish(Message("t", b"")) == 0


def _quota_exceeded(world: World) -> None:
    class Slow:
        def limits(self, principal: Principal, origin: Origin) -> list[Limits]:
            return [Limits("slow", publish_rate=1.0)]

    origin = Origin("test", "p", "quota")
    session = Session(world.broker, Principal("p"), origin, Authority([Rules()], [Slow()]))
    session.publish(Message("t", b"x", 0, True))
    with pytest.raises(QuotaExceeded):
        session.publish(Message("t", b"x", 0, True))
    session.close()


def _invalid(world: World) -> None:
    with pytest.raises(InvalidTopic):
        world.session().publish(Message("t/+", b""))


def _queue_deleted(world: World) -> None:
    queue = world.queue()
    world.consume(window=1)
    world.publish()
    world.publish()
    world.dispatch()  # one waits, one is held
    assert world.broker.queues.delete(queue) == 2


def _purged(world: World) -> None:
    queue = world.queue()
    world.publish()
    assert world.broker.queues.purge(queue) == 1


def _session_ended(world: World) -> None:
    session, _ = world.receiver()
    session.congest(True)
    world.publish(qos=0)
    session.close()


def _packet_too_large(world: World) -> None:
    world.queue()
    _, held = world.consume()
    world.publish()
    world.dispatch()
    assert world.broker.settlement.discard(held[0], DropCause.PACKET_TOO_LARGE)
    assert not world.broker.settlement.discard(held[0], DropCause.PACKET_TOO_LARGE)


def _duplicate(world: World) -> None:
    world.queue()
    session = world.session()
    first = session.publish_once(Message("t", b"", properties=Properties(idempotency_key="key")))
    again = session.publish_once(Message("t", b"", properties=Properties(idempotency_key="key")))
    assert (first.duplicate, again.duplicate) == (False, True)


def _cancelled(world: World) -> None:
    position = world.session().publish(Message("$delayed/5/t", b""))
    world.broker.schedules.cancel(position)


CAUSES: dict[Callable[[World], None], tuple[DropCause, int]] = {
    _no_subscriber: (DropCause.NO_SUBSCRIBER, 1),
    _expired_in_a_queue: (DropCause.EXPIRED, 1),
    _queue_full_drops_the_head: (DropCause.QUEUE_FULL, 1),
    _queue_full_refuses: (DropCause.QUEUE_FULL, 1),
    _queue_full_of_bytes: (DropCause.QUEUE_FULL, 1),
    _not_authorized: (DropCause.NOT_AUTHORIZED, 1),
    _reserved_topic: (DropCause.NOT_AUTHORIZED, 1),
    _subscriber_offline: (DropCause.SUBSCRIBER_OFFLINE, 1),
    _slow_subscriber: (DropCause.SLOW_SUBSCRIBER, 1),
    _rejected: (DropCause.REJECTED, 1),
    _delivery_limit: (DropCause.DELIVERY_LIMIT, 1),
    _not_stored: (DropCause.NOT_STORED, 1),
    _intercepted: (DropCause.INTERCEPTED, 1),
    _quota_exceeded: (DropCause.QUOTA_EXCEEDED, 1),
    _invalid: (DropCause.INVALID, 1),
    _queue_deleted: (DropCause.QUEUE_DELETED, 2),
    _purged: (DropCause.PURGED, 1),
    _session_ended: (DropCause.SESSION_ENDED, 1),
    _packet_too_large: (DropCause.PACKET_TOO_LARGE, 1),
    _duplicate: (DropCause.DUPLICATE, 1),
    _cancelled: (DropCause.CANCELLED, 1),
}


@pytest.mark.parametrize("happen", CAUSES, ids=lambda happen: happen.__name__[1:])
def test_a_drop_is_counted_under_its_cause(happen: Callable[[World], None]) -> None:
    world = World()
    happen(world)
    cause, count = CAUSES[happen]
    assert world.dropped() == {cause: count}
    world.check()


def test_every_cause_is_tried() -> None:
    elsewhere = {
        DropCause.DELIVERY_FAILED,
        DropCause.UNREADABLE,
        DropCause.TRANSACTION_UNRESOLVED,
    }  # test_delivery_failure, test_classic_window, test_halves
    assert {cause for cause, _ in CAUSES.values()} | elsewhere == set(DropCause)


# -- dead letters ---------------------------------------------------------------------------


def test_a_dead_letter_carries_its_story() -> None:
    world = World()
    world.queue(dead_letter="dead", delivery_limit=1)
    _, dead = world.receiver("dead", "undertaker")
    session, held = world.consume()
    world.publish(body=b"body")
    world.dispatch()
    session.settle(held[0], Outcome.REQUEUE)
    world.dispatch()
    (letter,) = dead
    assert letter.body == b"body"
    assert dict(letter.properties.headers) == {
        "dead-letter-cause": "delivery_limit",
        "dead-letter-queue": "q",
        "dead-letter-topic": "t",
        "dead-letter-attempts": 1,
        "dead-letter-time-ms": START_MS,
        "dead-letter-position": held[0].position,
        "dead-letter-consumer": "consumer",
        "dead-letter-protocol": "test",
        "dead-letter-principal": "p",
    }
    assert world.metrics.dead_lettered == 1
    world.check()


def test_dead_letters_do_not_go_round_for_ever() -> None:
    world = World()
    world.queue(dead_letter="t", ttl_ms=10)
    world.publish()
    for _ in range(5):
        world.wait(SWEEP_INTERVAL_MS)
    assert world.metrics.dead_lettered == 1, "back in its own queue once, then given up"
    assert world.dropped() == {DropCause.EXPIRED: 2}
    world.check()


def test_a_dead_letter_queue_that_is_full_is_counted_and_stops_nothing() -> None:
    world = World()
    world.queue(dead_letter="$queue/dead", ttl_ms=10)
    dead, _ = world.broker.catalog.declare("dead", "classic", QueuePolicy(max_length=1, overflow=REJECT))
    for _ in range(2):
        world.publish()
    world.wait(SWEEP_INTERVAL_MS)
    assert dead.length() == 1
    assert world.dropped() == {DropCause.EXPIRED: 2, DropCause.QUEUE_FULL: 1}
    world.check()


# -- anything in any order ------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.sampled_from(["t", "u", "secret/t", "nobody", "+", "$queue/q"]),
            st.sampled_from([b"", b"x", b"xxxx"]),
            st.integers(0, 2),
            st.booleans(),
            st.sampled_from([0, 0, 700]),
        ),
        st.tuples(st.just("congest"), st.booleans()),
        st.tuples(st.just("settle"), st.integers(0, 9), st.sampled_from(Outcome)),
        st.tuples(st.just("wait"), st.sampled_from([300, 1200])),
        st.tuples(st.just("close"), st.booleans()),
        st.tuples(st.just("delete"), st.sampled_from(["q", "limited", "stream"])),
        st.tuples(st.just("dispatch")),
    ),
    max_size=40,
)


class Mixed:
    """Receivers, queues of all kinds and a client whose session is kept."""

    def __init__(self) -> None:
        self.world = World()
        self.live, _ = self.world.receiver("#", "live", inbox_max=2)
        self.world.queue("q", "t", dead_letter="u", delivery_limit=2, retry_delay_ms=500)
        self.world.queue("limited", "u", max_length=2, overflow=REJECT)
        self.world.queue("stream", "+", kind="stream", max_length=3)
        self.consumer, self.held = self.world.consume("q", 2)
        _, self.read = self.world.consume("stream", 2, "g")
        self.publisher = self.world.session("publisher")
        self.kept = self._come()

    def _come(self) -> Session:
        session = self.world.session("kept")
        session.receive(lambda batch: None)
        if not session.own_queue("kept", True):
            session.subscribe("t", qos=1)
        session.consume_own(self.held.extend, 2)
        return session

    def step(self, step: tuple[Any, ...]) -> None:
        world = self.world
        match step:
            case ("publish", topic, body, qos, retain, ttl_ms):
                expires_at_ms = world.clock.now_ms + ttl_ms if ttl_ms else 0
                try:
                    self.publisher.publish(Message(topic, body, qos, retain, expires_at_ms=expires_at_ms))
                except GatewayError:
                    pass  # a refusal is counted like anything else
            case ("congest", congested):
                self.live.congest(congested)
            case ("settle", index, outcome) if self.held:
                delivery = self.held.pop(index % len(self.held))
                world.broker.settlement.settle(delivery, outcome)
            case ("wait", milliseconds):
                world.wait(milliseconds)
            case ("close", keep):
                self.kept.close(keep)
                self.kept = self._come()
            case ("delete", name) if name in world.broker.catalog.queues:
                world.broker.queues.delete(world.broker.catalog.queues[name])
            case ("dispatch",):
                world.dispatch()


@settings(max_examples=300)
@given(steps=STEPS)
def test_the_books_balance_after_every_step(steps: list[tuple[Any, ...]]) -> None:
    mixed = Mixed()
    for step in steps:
        mixed.step(step)
        mixed.world.check()


def test_what_is_undone_is_counted_once() -> None:
    world = World()
    queue = world.queue()
    assert isinstance(queue, ClassicQueue)
    first = world.publish(body=b"kept")
    world.broker.flushed()
    lost = world.publish(body=b"lost", retain=True)
    assert lost > first
    assert world.broker.retained.get("t") is not None
    world.roll_back(lost)
    assert [message.body for _, message, _ in queue.browse(0, 9)] == [b"kept"]
    assert world.broker.retained.get("t") is None
    assert world.dropped() == {DropCause.NOT_STORED: 1}
    world.check()
