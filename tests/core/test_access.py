"""Who may do what: how opinions are counted, what is remembered, what a change of rules does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.core import caller
from gateway.core.access import (
    ADMIN_PREFIX,
    Action,
    Authority,
    Certificate,
    Credentials,
    Principal,
    Ruling,
    describe,
    group_resource,
    queue_resource,
)
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.errors import AuthenticationFailed, GatewayError, NotAuthorized
from gateway.core.message import Message, Origin
from gateway.core.session import Session
from gateway.storage.memory import MemoryEngine

USER = Principal("user")
YES, NO = Ruling(True, "yes"), Ruling(False, "no")


class Says:
    """An authorizer with one opinion that counts how often it is asked."""

    def __init__(self, opinion: Ruling | None) -> None:
        self.opinion = opinion
        self.asked: list[tuple[str, Action, str]] = []

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        self.asked.append((principal.name, action, resource))
        return self.opinion


class Watched:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.refusals: list[tuple[str, Action, str, str]] = []
        self.changes: list[tuple[str, str, str, str]] = []

    def refused(
        self, principal: Principal, origin: Origin, action: Action, resource: str, ruling: Ruling
    ) -> None:
        self.refusals.append((principal.name, action, resource, ruling.rule))

    def changed(self, principal: Principal, origin: Origin, what: str, resource: str, detail: str) -> None:
        self.changes.append((principal.name, what, resource, detail))


class Owner:
    """A connection that notes how its session is ended."""

    def __init__(self) -> None:
        self.errors: list[GatewayError] = []

    def end(self, error: GatewayError) -> None:
        self.errors.append(error)


def make(*says: Says, principal: Principal = USER, watcher: Watched | None = None) -> Session:
    broker = Broker(MemoryEngine(), Clock(1_700_000_000_000, 1000))
    broker.restore(lambda: None)
    return Session(broker, principal, Origin("test", principal.name, "c"), Authority(says, (), watcher))


def allowed(session: Session, action: Action, resource: str) -> bool:
    try:
        session.check(action, resource)
    except NotAuthorized:
        return False
    return True


@pytest.mark.parametrize(
    ("opinions", "verdict"),
    [
        ([], False),
        ([None], False),
        ([YES], True),
        ([NO], False),
        ([None, None], False),
        ([None, YES], True),
        ([YES, None], True),
        ([YES, NO], False),
        ([NO, YES], False),
        ([YES, YES, None, NO], False),
    ],
)
def test_one_no_outvotes_every_yes_and_silence_is_a_no(
    opinions: Sequence[Ruling | None], verdict: bool
) -> None:
    session = make(*(Says(opinion) for opinion in opinions))
    assert [allowed(session, Action.PUBLISH, "t") for _ in range(2)] == [verdict, verdict]
    assert session.may(Action.PUBLISH, "t") is verdict


def test_a_truthy_answer_is_not_a_yes() -> None:
    assert not allowed(make(Says(Ruling("yes"))), Action.PUBLISH, "t")  # type: ignore[arg-type]


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize(("name", "who"), [("user", "user"), ("", "anonymous")])
def test_a_refusal_names_who_and_what_and_that_no_rule_says_so(action: Action, name: str, who: str) -> None:
    with pytest.raises(NotAuthorized) as refused:
        make(principal=Principal(name)).check(action, "a/b")
    assert refused.value.detail == f"{who} may not {action.value} 'a/b': no rule allows it"
    assert refused.value.rule == ""


def test_a_refusal_names_the_rule() -> None:
    with pytest.raises(NotAuthorized, match="rule 'no' denies it") as refused:
        make(Says(NO)).check(Action.PUBLISH, "a/b")
    assert refused.value.rule == "no"


@pytest.mark.parametrize(
    ("resource", "called"),
    [
        ("a/b", "'a/b'"),
        (queue_resource("jobs"), "queue 'jobs'"),
        (group_resource("s", "a/b%"), "group 's/a%2Fb%25'"),
        (ADMIN_PREFIX + "users", "admin area 'users'"),
    ],
)
def test_resources_are_called_as_people_do(resource: str, called: str) -> None:
    assert describe(resource) == called


@pytest.mark.parametrize("opinion", [YES, NO, None])
def test_a_ruling_is_remembered_for_its_action_and_resource_alone(opinion: Ruling | None) -> None:
    says = Says(opinion)
    session = make(says)
    asked = [(Action.PUBLISH, "t"), (Action.SUBSCRIBE, "t"), (Action.PUBLISH, "u")]
    for action, resource in asked * 3:
        allowed(session, action, resource)
    assert says.asked == [("user", action, resource) for action, resource in asked]


@pytest.mark.parametrize("renewed", [False, True], ids=["rules changed", "authenticated again"])
def test_what_was_allowed_is_asked_again_after_a_change(renewed: bool) -> None:
    says = Says(YES)
    session = make(says)
    session.check_publish("t")
    assert session.publishable == {"t"}
    says.opinion = NO
    assert allowed(session, Action.PUBLISH, "t")
    if renewed:
        session.renew(Principal("other"))
    else:
        session.authority.reconsider()
    assert not session.publishable
    assert not allowed(session, Action.PUBLISH, "t")
    assert says.asked[-1][0] == ("other" if renewed else "user")


def test_a_refused_topic_is_not_noted_as_publishable() -> None:
    session = make(Says(None))
    with pytest.raises(NotAuthorized):
        session.check_publish("t")
    assert not session.publishable


def test_the_memory_of_one_session_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "RULINGS_CACHED_MAX", 3)
    says = Says(YES)
    session = make(says)
    for topic in "abcd":
        session.check_publish(topic)
    assert session.publishable == {"d"}
    session.check(Action.PUBLISH, "a")
    assert [resource for _, _, resource in says.asked] == ["a", "b", "c", "d", "a"]


def test_sessions_do_not_share_what_they_remember() -> None:
    first, second = make(Says(YES)), make(Says(None))
    first.check_publish("t")
    assert not second.publishable
    assert not allowed(second, Action.PUBLISH, "t")


def test_nobody_without_a_login_administers_whatever_rules_say() -> None:
    for action in Action:
        session = make(Says(YES), principal=Principal("", anonymous=True))
        assert allowed(session, action, "t")
        assert session.ruling(action, ADMIN_PREFIX + "users") == Ruling(False, "builtin.no-anonymous-admin")
        assert allowed(make(Says(YES)), action, ADMIN_PREFIX + "users")


def test_refusals_and_changes_are_told_and_questions_are_not() -> None:
    watcher = Watched()
    session = make(Says(NO), watcher=watcher)
    for _ in range(2):
        allowed(session, Action.CONSUME, "$queue/q")
    assert not session.may(Action.VIEW, "$queue/q")
    session.changed("queue.delete", "$queue/q", "3 messages")
    assert watcher.refusals == [("user", Action.CONSUME, "$queue/q", "no")] * 2
    assert watcher.changes == [("user", "queue.delete", "$queue/q", "3 messages")]


# -- a change of rules -----------------------------------------------------------------------------


def test_a_subscription_that_is_forbidden_is_given_up_and_its_client_told() -> None:
    says = Says(YES)
    session = make(says)
    owner = session.owner = Owner()
    session.receive(lambda batch: None)
    session.subscribe("a/#")
    session.subscribe("b")
    session.authority.reconsider()
    assert not session.authority.review(10)
    assert not owner.errors
    says.opinion = NO
    session.authority.reconsider()
    assert not session.authority.review(10)
    assert [type(error) for error in owner.errors] == [NotAuthorized, NotAuthorized]
    assert session.ended
    assert not session.subscriptions
    assert session.broker.publish(Message("b", b"x")) == -1


def test_a_consumer_that_is_forbidden_gives_back_what_it_holds() -> None:
    says = Says(YES)
    session = make(says)
    owner = session.owner = Owner()
    broker = session.broker
    broker.catalog.declare("q")
    held: list[object] = []
    session.consume("q", held.extend, 10)
    broker.publish(Message("$queue/q", b"x"))
    broker.dispatch()
    assert len(held) == 1
    says.opinion = NO
    session.authority.reconsider()
    session.authority.review(10)
    assert not session.consumers
    assert broker.catalog.get("q").length() == 1
    assert len(owner.errors) == 1


def test_a_protocol_that_can_say_so_loses_the_consumer_and_not_the_connection() -> None:
    says = Says(YES)
    session = make(says)
    owner = session.owner = Owner()
    session.broker.catalog.declare("q")
    consumer = session.consume("q", lambda batch: None, 10)
    gone: list[bool] = []
    consumer.gone = lambda: gone.append(True)
    says.opinion = None
    session.authority.reconsider()
    session.authority.review(10)
    assert gone == [True]
    assert not owner.errors


def test_sessions_are_reviewed_a_few_at_a_time_and_those_that_end_meanwhile_are_left_out() -> None:
    broker = Broker(MemoryEngine(), Clock(1_700_000_000_000, 1000))
    broker.restore(lambda: None)
    authority = Authority([Says(NO)])
    sessions = [Session(broker, USER, Origin("test", "user", str(n)), authority) for n in range(5)]
    authority.reconsider()
    sessions[0].close()
    rounds = 1
    while authority.review(2):
        rounds += 1
    assert rounds == 3
    assert len(authority.sessions) == 4


def test_a_closed_session_is_known_to_nobody() -> None:
    session = make(Says(YES))
    session.owner = Owner()
    assert session in session.authority.sessions
    session.close()
    assert not session.authority.sessions
    assert session.owner is None


def test_all_sessions_of_a_user_can_be_ended_and_no_others() -> None:
    broker = Broker(MemoryEngine(), Clock(1_700_000_000_000, 1000))
    broker.restore(lambda: None)
    authority = Authority([Says(YES)])
    owners = []
    for name in ("ann", "bob", "ann"):
        session = Session(broker, Principal(name), Origin("test", name), authority)
        session.owner = Owner()
        owners.append(session.owner)
    assert authority.end_all("ann", AuthenticationFailed("gone")) == 2
    assert [len(owner.errors) for owner in owners] == [1, 0, 1]


# -- logins that expire ----------------------------------------------------------------------------


def test_a_session_ends_with_the_login_it_was_opened_with() -> None:
    session = make(Says(YES), principal=Principal("user", expires_at_ms=1_700_000_005_000))
    owner = session.owner = Owner()
    broker = session.broker
    broker.clock.set(1_700_000_004_000, 5000)
    broker.scheduler.run_due()
    assert not owner.errors
    broker.clock.set(1_700_000_006_000, 7000)
    broker.scheduler.run_due()
    assert [type(error) for error in owner.errors] == [AuthenticationFailed]


def test_a_login_that_is_renewed_in_time_goes_on() -> None:
    session = make(Says(YES), principal=Principal("user", expires_at_ms=1_700_000_005_000))
    owner = session.owner = Owner()
    session.renew(Principal("user", expires_at_ms=1_700_000_500_000))
    broker = session.broker
    broker.clock.set(1_700_000_006_000, 7000)
    broker.scheduler.run_due()
    assert not owner.errors
    session.close()
    broker.clock.set(1_700_001_000_000, 1_002_000)
    broker.scheduler.run_due()
    assert not owner.errors


# -- what is not shown -----------------------------------------------------------------------------


def test_secrets_are_not_shown() -> None:
    credentials = Credentials("mqtt", "peer", "client", "user", b"secret", "SCRAM", b"secret", "secret")
    assert "secret" not in repr(credentials)
    assert "secret" not in repr(Principal("user", claims={"password": "secret"}))
    assert repr(Certificate("CN=x")) == "Certificate('CN=x')"
