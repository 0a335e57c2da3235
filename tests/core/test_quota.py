"""Fair use: rates against a model with a driven clock, counts of what is in use, limits that change."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth.quotas import QuotaLimiter, quota_from
from gateway.core.access import Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.errors import QuotaExceeded
from gateway.core.message import Message, Origin
from gateway.core.quota import CLIENT, USER, Limits, Meter, Quotas
from gateway.core.session import Session
from gateway.storage.memory import MemoryEngine

ANN, BOB, ROOT = Principal("ann"), Principal("bob"), Principal("root", admin=True)


class Yes:
    """An authorizer that allows everything."""

    def authorize(self, *asked: object) -> Ruling:
        return Ruling(True, "yes")


class Holds:
    """A limiter with the same limits for everybody but administrators; they can be changed."""

    def __init__(self, *limits: Limits) -> None:
        self.now: Sequence[Limits] = limits

    def limits(self, principal: Principal, origin: Origin) -> Sequence[Limits]:
        return () if principal.admin else self.now


class House:
    """A broker whose clock is driven, and sessions under limits."""

    def __init__(self, *limits: Limits) -> None:
        self.clock = Clock(1_700_000_000_000, 1000)
        self.broker = Broker(MemoryEngine(), self.clock)
        self.broker.restore(lambda: None)
        self.limiter = Holds(*limits)
        self.authority = Authority([Yes()], [self.limiter])
        self.now_ms = 1000

    def session(self, principal: Principal = ANN, client_id: str = "c") -> Session:
        origin = Origin("test", principal.name, client_id)
        return Session(self.broker, principal, origin, self.authority)

    def passes(self, ms: int) -> None:
        self.now_ms += ms
        self.clock.set(1_700_000_000_000 + self.now_ms, self.now_ms)
        self.broker.scheduler.run_due()

    def change(self, *limits: Limits) -> None:
        self.limiter.now = limits
        self.authority.reconsider()

    @property
    def exceeded(self) -> dict[tuple[str, str], int]:
        return self.authority.quotas.exceeded


def refused(call: object, *arguments: object, **named: object) -> QuotaExceeded | None:
    try:
        call(*arguments, **named)  # type: ignore[operator]
    except QuotaExceeded as error:
        return error
    return None


def publish(session: Session, topic: str = "t", body: bytes = b"x", retain: bool = False) -> bool:
    message = Message(topic, body, 0, retain, origin=session.origin)
    return refused(session.publish, message) is None


# -- rates -----------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 3000)), st.tuples(st.just("send"), st.integers(0, 300))
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(STEPS, st.sampled_from([0, 0.5, 1, 5, 50]), st.sampled_from([0, 1, 100, 1000]))
def test_a_rate_is_a_bucket_of_one_second(
    steps: list[tuple[str, int]], rate: float, size_rate: float
) -> None:
    """What is let through is what a bucket model lets through; a wait that is told is enough and needed."""
    meter = Meter(Limits("q", USER, 0, rate, size_rate), "ann", 0)
    now = 0
    messages, size = max(1.0, rate), max(1.0, size_rate)
    for what, amount in steps:
        if what == "wait":
            now += amount
            messages = min(max(1.0, rate), messages + rate * amount / 1000)
            size = min(max(1.0, size_rate), size + size_rate * amount / 1000)
            continue
        may = (not rate or messages > 0.999999) and (not size_rate or size > 0.999999)
        wait = meter.wait_ms(now)
        assert (wait == 0) == may
        if wait:
            probe = Meter(meter.limits, "", 0)
            for name in ("_messages", "_bytes", "_filled_ms"):
                setattr(probe, name, getattr(meter, name))
            assert probe.wait_ms(now + wait) == 0
            continue
        meter.spend(amount)
        messages -= 1
        size -= amount


def test_a_burst_passes_and_then_no_more_than_the_rate() -> None:
    house = House(Limits("rate", publish_rate=5))
    session = house.session()
    assert [publish(session) for _ in range(8)] == [True] * 5 + [False] * 3
    house.passes(200)
    assert [publish(session) for _ in range(2)] == [True, False]
    house.passes(60_000)
    assert sum(publish(session) for _ in range(100)) == 5
    error = refused(session.publish, Message("t", b""))
    assert error is not None
    assert error.retry_ms == 200
    assert error.detail == "user 'ann' publishes faster than it may (quota 'rate')"
    assert house.exceeded == {("rate", "publish_rate"): 100}


def test_a_message_larger_than_a_second_passes_and_is_paid_for_later() -> None:
    house = House(Limits("bytes", publish_bytes=1000))
    session = house.session()
    assert publish(session, body=b"x" * 5000)
    assert not publish(session)
    house.passes(4000)
    assert not publish(session)
    house.passes(1)
    assert publish(session)


def test_what_is_refused_is_counted_and_costs_nothing() -> None:
    house = House(Limits("a", publish_rate=10), Limits("b", publish_rate=2))
    session = house.session()
    assert sum(publish(session) for _ in range(50)) == 2
    house.change(Limits("a", publish_rate=10))
    assert sum(publish(session) for _ in range(50)) == 8
    metrics = house.broker.metrics
    assert metrics.published == 100
    assert metrics.dropped_by_cause()["quota_exceeded"] == 90


@pytest.mark.parametrize(("scope", "together"), [(USER, ("ann", "c2")), (CLIENT, ("bob", "c1"))])
def test_use_is_counted_by_user_or_by_client(scope: str, together: tuple[str, str]) -> None:
    house = House(Limits("q", scope, publish_rate=3))
    first = house.session(ANN, "c1")
    others = {
        ("ann", "c2"): house.session(ANN, "c2"),
        ("bob", "c1"): house.session(BOB, "c1"),
        ("bob", "c2"): house.session(BOB, "c2"),
    }
    assert sum(publish(first) for _ in range(5)) == 3
    for who, session in others.items():
        assert publish(session) is (who != together)


def test_who_comes_back_at_once_has_what_is_left() -> None:
    house = House(Limits("q", CLIENT, publish_rate=3))
    session = house.session()
    assert sum(publish(session) for _ in range(5)) == 3
    session.close()
    session = house.session()
    assert not publish(session)
    session.close()
    house.authority.quotas.forget_idle(house.now_ms)
    assert len(house.authority.quotas._meters) == 1, "it still owes"
    house.passes(1000)
    house.authority.quotas.forget_idle(house.now_ms)
    assert house.authority.quotas._meters == {}


def test_a_client_in_debt_is_told_how_long_to_wait_and_loses_nothing() -> None:
    house = House(Limits("q", publish_rate=2))
    session = house.session()
    session.in_debt = True
    assert session.overdraft_ms() == 0
    assert all(publish(session) for _ in range(6))
    assert session.overdraft_ms() == 2500
    house.passes(2500)
    assert session.overdraft_ms() == 0
    assert house.exceeded == {("q", "publish_rate"): 1}


# -- counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [USER, CLIENT])
def test_connections(scope: str) -> None:
    house = House(Limits("q", scope, connections=2))
    kept = [house.session(), house.session()]
    error = refused(house.session)
    assert error is not None
    who = "user 'ann'" if scope == USER else "client 'c'"
    assert error.detail == f"{who} has 2 connections, as many as it may (quota 'q')"
    assert len(house.authority.sessions) == 2
    house.session(BOB, "other")
    kept.pop().close()
    house.session()
    assert house.exceeded == {("q", "connections"): 1}


def test_a_session_that_one_of_several_limits_refuses_counts_nowhere() -> None:
    house = House(Limits("wide", connections=9), Limits("narrow", connections=1))
    house.session()
    for _ in range(3):
        assert refused(house.session)
    assert {key[0]: meter.connections for key, meter in house.authority.quotas._meters.items()} == {
        "wide": 1,
        "narrow": 1,
    }


def test_subscriptions_and_consumers_count_together_for_all_sessions_of_a_user() -> None:
    house = House(Limits("q", subscriptions=3))
    house.broker.catalog.declare("jobs")
    first, second = house.session(client_id="1"), house.session(client_id="2")
    first.receive(lambda batch: None)
    second.receive(lambda batch: None)
    first.subscribe("a")
    first.subscribe("a")  # replaced: not another
    consumer = second.consume("jobs", lambda batch: None, 1)
    second.subscribe("b")
    error = refused(first.subscribe, "c")
    assert error is not None
    assert "has 3 subscriptions" in error.detail
    assert refused(first.consume, "jobs", lambda batch: None, 1)
    second.cancel(consumer)
    assert refused(first.subscribe, "c") is None
    first.unsubscribe("c")
    first.unsubscribe("c")
    assert refused(second.subscribe, "c") is None
    second.close()
    for name in ("d", "e"):
        assert refused(first.subscribe, name) is None
    assert refused(first.subscribe, "f")


def test_a_kept_sessions_subscriptions_count_when_it_comes_back() -> None:
    house = House(Limits("q", subscriptions=2))
    session = house.session()
    session.receive(lambda batch: None)
    session.own_queue("c", durable=True)
    for name in ("a", "b"):
        session.subscribe(name, 1)
    session.close(keep=True)
    again = house.session()
    again.receive(lambda batch: None)
    assert again.own_queue("c", durable=True)
    assert refused(again.subscribe, "c", 1)
    again.close()


@pytest.mark.parametrize("scope", [USER, CLIENT])
def test_queues_that_somebody_made(scope: str) -> None:
    house = House(Limits("q", scope, queues=2))
    session, other = house.session(), house.session(BOB, "other")
    for name in ("1", "2"):
        session.check_queues()
        house.broker.catalog.declare(name, "classic", None, True, False, session.origin)
    error = refused(session.check_queues)
    assert error is not None
    assert "has 2 queues" in error.detail
    other.check_queues()
    session.close()
    again = house.session()
    assert refused(again.check_queues), "they stay when their maker goes"
    house.broker.queues.delete(house.broker.catalog.get("1"))
    again.check_queues()


@pytest.mark.parametrize("scope", [USER, CLIENT])
def test_retained_messages_that_somebody_left(scope: str) -> None:
    house = House(Limits("q", scope, retained=2))
    session, other = house.session(), house.session(BOB, "other")
    for topic in ("a", "b", "a"):
        assert publish(session, topic, retain=True)
    assert not publish(session, "c", retain=True)
    assert publish(session, "c"), "what is not retained is not limited"
    assert publish(other, "c", retain=True)
    assert publish(session, "c", b"mine", retain=True), "what is there already is no more"
    assert publish(session, "a", b"", retain=True), "to clear is always possible"
    assert publish(other, "b", b"", retain=True)
    assert publish(session, "d", retain=True), "others have cleared some"
    assert not publish(session, "e", retain=True)
    assert house.exceeded == {("q", "retained"): 2}


def test_who_is_new_here_is_charged_with_what_it_left_before() -> None:
    house = House(Limits("q", retained=1))
    session = house.session()
    assert publish(session, "a", retain=True)
    session.close()
    house.authority.quotas.forget_idle(house.now_ms)
    assert house.authority.quotas._meters == {}
    assert not publish(house.session(), "b", retain=True)


# -- changes ---------------------------------------------------------------------------------------


def test_limits_that_are_changed_hold_at_once_and_what_is_in_use_stays_in_use() -> None:
    house = House(Limits("q", publish_rate=2))
    session = house.session()
    assert sum(publish(session) for _ in range(5)) == 2
    house.change(Limits("q", publish_rate=100, connections=1))
    house.passes(1000)
    assert sum(publish(session) for _ in range(200)) == 100
    assert refused(house.session)
    house.change()
    assert all(publish(session) for _ in range(200))
    assert house.authority.quotas._meters.keys() <= {("q", "ann")}
    house.session()
    house.change(Limits("q", connections=2))
    assert refused(house.session), "those that are open count"
    house.change(Limits("other", subscriptions=1))
    session.receive(lambda batch: None)
    session.subscribe("a")
    house.change(Limits("third", subscriptions=1))
    assert refused(session.subscribe, "b"), "what there is counts under the new limit, too"


def test_a_topic_that_was_free_to_publish_to_is_counted_once_a_limit_comes() -> None:
    house = House()
    session = house.session()
    assert publish(session)
    assert session.publishable == {"t"}
    house.change(Limits("q", publish_rate=1))
    assert [publish(session) for _ in range(3)] == [True, False, False]


def test_who_authenticates_again_as_somebody_else_counts_as_that_one() -> None:
    house = House(Limits("q", connections=1))
    session = house.session(ANN)
    session.renew(BOB)
    assert {key[1]: m.connections for key, m in house.authority.quotas._meters.items()} == {"bob": 1}
    house.session(ANN)
    session.close()
    assert {key[1] for key in house.authority.quotas._meters} == {"ann"}


@given(st.lists(st.tuples(st.sampled_from(["open", "close", "use", "change", "forget"]), st.integers(0, 3))))
def test_nothing_is_left_once_everybody_has_gone(steps: list[tuple[str, int]]) -> None:
    house = House(Limits("q", connections=3, subscriptions=5))
    variants = [(), (Limits("q", CLIENT, connections=3),), (Limits("r", subscriptions=2),), house.limiter.now]
    sessions: list[Session] = []
    for what, number in steps:
        if what == "open" and not refused(lambda n=number: sessions.append(house.session(client_id=str(n)))):
            sessions[-1].receive(lambda batch: None)
        elif what == "close" and sessions:
            sessions.pop(number % len(sessions)).close()
        elif what == "use" and sessions:
            refused(sessions[number % len(sessions)].subscribe, str(number))
        elif what == "change":
            house.change(*variants[number])
        elif what == "forget":
            house.authority.quotas.forget_idle(house.now_ms)
        meters = house.authority.quotas._meters.values()
        assert all(meter.connections >= 0 and meter.subscriptions >= 0 for meter in meters)
        used = {id(meter): 0 for session in sessions for meter in session.meters}
        for session in sessions:
            for meter in session.meters:
                used[id(meter)] += len(session.subscriptions)
                assert meter.connections > 0
        for meter in meters:
            assert meter.subscriptions == used.get(id(meter), 0)
    for session in sessions:
        session.close()
    house.authority.quotas.forget_idle(house.now_ms)
    assert house.authority.quotas._meters == {}


# -- whom they are for -----------------------------------------------------------------------------

FIELDS = {"id": "q", "publish_rate": 1, "scope": "client"}


@pytest.mark.parametrize(
    ("subject", "holds"),
    [("everyone", True), ("user:ann", True), ("client:c*", True), ("user:bob", False), ("anonymous", False)],
)
def test_quotas_hold_for_their_subject_and_never_for_administrators(subject: str, holds: bool) -> None:
    limiter = QuotaLimiter()
    limiter.set([quota_from({**FIELDS, "subject": subject}), quota_from({**FIELDS, "subject": "user:x"})])
    origin = Origin("mqtt", "ann", "c1")
    assert [found.id for found in limiter.limits(ANN, origin)] == (["q"] if holds else [])
    assert list(limiter.limits(Principal("ann", admin=True), origin)) == []


def test_administrators_are_exempt() -> None:
    house = House(Limits("q", connections=1, publish_rate=1))
    sessions = [house.session(ROOT) for _ in range(3)]
    assert all(publish(sessions[0]) for _ in range(20))
    assert Quotas().open(ANN, Origin("test"), 0) == ()
