"""Addresses for answers: who may use them, and what becomes of what comes too late."""

from __future__ import annotations

import pytest

from gateway.core import replies as replies_module
from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import NO_SUBSCRIBERS, Broker
from gateway.core.clock import Clock
from gateway.core.errors import NotAuthorized, QuotaExceeded
from gateway.core.message import Message, Origin
from gateway.core.receiver import Item
from gateway.core.session import Session
from gateway.storage.memory import MemoryEngine


class Nothing:
    """Allows nothing but to subscribe to everything, `$` and all."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(action is Action.SUBSCRIBE)


@pytest.fixture
def broker() -> Broker:
    made = Broker(MemoryEngine(), Clock(1_700_000_000_000, 0))
    made.restore(lambda: None)
    return made


def session(broker: Broker) -> Session:
    return Session(broker, Principal("user"), Origin("test", "user"), Authority([Nothing()]))


def balanced(broker: Broker) -> bool:
    metrics = broker.metrics
    return metrics.copies == metrics.delivered + sum(metrics.dropped) + broker.waiting()


def test_whoever_knows_an_address_may_answer_while_it_is_open(broker: Broker) -> None:
    found: list[bytes] = []
    address = broker.replies.open("token", lambda answer: found.append(answer.body))
    client = session(broker)
    assert client.publish(Message(address, b"1")) == 0
    assert client.publish(Message(address, b"2")) == 0
    assert client.publish(Message(address + "x", b"3")) == NO_SUBSCRIBERS
    broker.replies.close(address)
    broker.replies.close(address)
    assert client.publish(Message(address, b"4")) == NO_SUBSCRIBERS
    assert found == [b"1", b"2"]
    assert balanced(broker)
    with pytest.raises(NotAuthorized):
        client.publish(Message("elsewhere", b""))


def test_a_client_has_topics_of_its_own_for_answers(broker: Broker) -> None:
    client, other = session(broker), session(broker)
    found: list[Item] = []
    for one in (client, other):
        one.receive(found.extend)
    client.reply_to = broker.replies.open("token")
    client.subscribe("$reply/token/#")
    for foreign in ("$reply/#", "$reply/token2/#", "$reply/+/a", "$reply/toke"):
        for one in (client, other):
            with pytest.raises(NotAuthorized):
                one.subscribe(foreign)
    with pytest.raises(NotAuthorized):
        other.subscribe("$reply/token/#")
    for topic in ("$reply/token", "$reply/token/a/b"):
        other.publish(Message(topic, b"", 0))
    broker.dispatch()
    assert [message.topic for message, _ in found] == ["$reply/token", "$reply/token/a/b"]
    client.close()
    assert other.publish(Message("$reply/token", b"", 0)) == NO_SUBSCRIBERS
    assert balanced(broker)


def test_a_queue_for_answers_needs_no_rule(broker: Broker) -> None:
    queue, _ = broker.catalog.declare("answers-x")
    broker.replies.queues.add("$queue/answers-x")
    session(broker).publish(Message("$queue/answers-x", b"1"))
    broker.replies.queues.discard("$queue/answers-x")
    with pytest.raises(NotAuthorized):
        session(broker).publish(Message("$queue/answers-x", b"2"))
    assert queue.length() == 1


def test_there_are_so_many_addresses_and_no_more(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies_module, "WAITING_MAX", 1)
    address = broker.replies.open("one")
    with pytest.raises(QuotaExceeded) as refused:
        broker.replies.open("two")
    assert refused.value.retry_ms > 0
    broker.replies.close(address)
    broker.replies.open("two")
