"""Shared subscriptions: whoever may subscribe to the filter may be a member, and nobody else."""

from __future__ import annotations

import pytest

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, InvalidTopic, NotAuthorized
from gateway.core.message import Message, Outcome, Properties
from gateway.core.policy import DEFAULT, WORK
from gateway.core.selector import Selector
from gateway.core.shares import join, reselect, selector_of
from gateway.storage.memory import MemoryEngine
from tests.core.test_session import NOW_MS, Client

JOBS = "$share/workers/jobs/#"


@pytest.fixture
def broker() -> Broker:
    made = Broker(MemoryEngine(), Clock(NOW_MS, 0))
    made.restore(lambda: None)
    return made


def test_members_share_what_the_filter_matches(broker: Broker) -> None:
    one, other, third = Client(broker, "one"), Client(broker, "other"), Client(broker, "third")
    one.eat(JOBS)
    other.eat(JOBS)
    for number in range(10):
        third.send("jobs/a", b"%d" % number, qos=1)
    third.send("other", b"not theirs", qos=1)
    broker.dispatch()
    got = [delivery.message.body for client in (one, other) for delivery in client.held]
    assert sorted(got) == [b"%d" % number for number in range(10)]
    assert one.held
    assert other.held


def test_the_first_to_want_it_kept_makes_it_durable(broker: Broker) -> None:
    queue = join(Client(broker), JOBS, keep=False)
    assert (queue.durable, queue.auto_delete) == (False, True)
    assert join(Client(broker, "other"), JOBS, keep=True) is queue
    assert (queue.durable, queue.auto_delete) == (True, False)
    assert join(Client(broker, "third"), JOBS, keep=False) is queue
    assert (queue.durable, queue.auto_delete) == (True, False), "it stays so"


def test_the_first_says_the_policy(broker: Broker) -> None:
    queue = join(Client(broker), JOBS, True, policy=WORK)
    assert queue.policy is WORK
    assert join(Client(broker, "other"), JOBS, True, policy=DEFAULT) is queue
    assert queue.policy is WORK


def test_a_selector_is_another_once_there_are_no_members(broker: Broker) -> None:
    old = Selector("tags", "A", lambda message: message.properties.tag == "A")
    new = Selector("tags", "B", lambda message: message.properties.tag == "B")
    member, other = Client(broker), Client(broker, "other")
    join(member, JOBS, True, old)
    consumer = member.consume(JOBS, member.held.extend, 10, selector=old)
    other.publish(Message("jobs/1", b"a", properties=Properties(tag="A")))
    broker.dispatch()
    assert not reselect(other, JOBS, new), "it has a member"
    member.cancel(consumer, give_back=False)
    assert not reselect(other, JOBS, new), "somebody holds something"
    member.settle(member.held[0], Outcome.ACK)
    assert reselect(other, JOBS, new)
    assert selector_of(broker.catalog, JOBS) == new
    for tag in "AB":
        other.publish(Message("jobs/1", tag.encode(), properties=Properties(tag=tag)))
    assert [message.body for _, message, _ in broker.catalog.get(JOBS).browse(0, 10)] == [b"B"]
    with pytest.raises(NotAuthorized):
        reselect(other, "$share/workers/secret/#", new)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("$share/workers/secret/#", NotAuthorized),
        ("$share/workers/$sys/#", NotAuthorized),
        ("$share/workers/$queue/jobs", NotAuthorized),
        ("$share/workers/$dead/#", NotAuthorized),
        ("$share/workers/", InvalidTopic),
        ("$share/workers", InvalidTopic),
        ("$share//jobs", InvalidTopic),
        ("$share/a+/jobs", InvalidTopic),
        ("$share/workers/jobs/#/more", InvalidTopic),
        ("$share/workers/jobs+", InvalidTopic),
        ("$session/one", NotAuthorized),
    ],
)
def test_who_may_not_subscribe_is_no_member(broker: Broker, name: str, error: type[GatewayError]) -> None:
    client = Client(broker)
    with pytest.raises(error):
        client.eat(name)
    with pytest.raises(error):
        client.check_consume(name)
    with pytest.raises(error):
        client.fetch(client.fetcher(), name)
    assert not broker.catalog.queues, "nothing was made"
