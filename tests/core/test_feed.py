"""Queues that are fed in a session's name."""

from __future__ import annotations

import pytest

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Delivery
from gateway.core.errors import InvalidTopic, NotAuthorized
from gateway.core.feed import feed
from gateway.core.message import Message, Origin, Properties
from gateway.core.selector import Predicate, Selector
from gateway.core.session import Session
from gateway.storage.memory import MemoryEngine


class NotBelow:
    """Allows everything but resources that begin with `secret`."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(not resource.startswith("secret"))


class Client(Session):
    """A session that keeps what its consumer is handed."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker, Principal("user"), Origin("test", "user", "c"), Authority([NotBelow()]))
        self.held: list[Delivery] = []

    def eat(self) -> None:
        self.consume_own(self.held.extend, 100)

    def send(self, topic: str, tag: str | None = None) -> None:
        self.publish(Message(topic, b"x", 0, properties=Properties(tag=tag)))


@pytest.fixture
def broker() -> Broker:
    made = Broker(MemoryEngine(), Clock(1_700_000_000_000, 1000))
    made.restore(lambda: None)
    return made


def tagged(tag: str) -> Predicate:
    """Match messages with a tag."""
    return lambda message: message.properties.tag == tag


def test_a_queue_is_fed_what_a_selector_matches_until_there_is_another(broker: Broker) -> None:
    queue, _ = broker.catalog.declare("$hook/a")
    client = Client(broker)
    for tag in ("red", "blue"):
        feed(
            client,
            queue,
            ["a"],
            Selector("test", tag, lambda message, tag=tag: message.properties.tag == tag),
        )  # type: ignore[misc]
    for tag in ("red", "blue", "green"):
        client.send("a", tag)
    client.eat()
    broker.dispatch()
    assert [delivery.message.properties.tag for delivery in client.held] == ["blue"]


def test_a_queue_that_is_fed_gets_everything_and_outlives_the_session(broker: Broker) -> None:
    queue, _ = broker.catalog.declare("$hook/a")
    client = Client(broker)
    feed(client, queue, ["a/+", "b"])
    client.eat()
    for topic in ("a/1", "b", "c"):
        client.send(topic)
    broker.dispatch()
    assert [delivery.message.topic for delivery in client.held] == ["a/1", "b"]
    client.close(keep=True)
    assert broker.catalog.get("$hook/a") is queue
    assert sorted(broker.catalog.bindings["$hook/a"]) == ["a/+", "b"]
    again = Client(broker)
    feed(again, queue, ["b"])  # what is bound stays; what is not named is the keeper's business
    assert sorted(broker.catalog.bindings["$hook/a"]) == ["a/+", "b"]


def test_what_may_not_be_read_is_not_fed(broker: Broker) -> None:
    queue, _ = broker.catalog.declare("$hook/a")
    client = Client(broker)
    for wrong, error in ((["a", "secret/x"], NotAuthorized), (["a", "b/#/c"], InvalidTopic)):
        with pytest.raises(error):
            feed(client, queue, wrong)
        assert not broker.catalog.bindings.get("$hook/a")
        assert not client.subscriptions


def test_a_filter_that_may_not_be_read_any_more_is_taken_away(broker: Broker) -> None:
    queue, _ = broker.catalog.declare("$hook/a")
    client = Client(broker)
    feed(client, queue, ["a", "b"])
    client.authority.authorizers = (Nothing(),)
    client.authority.reconsider()
    client.authority.review(10)
    assert client.ended
    assert not broker.catalog.bindings["$hook/a"]


class Nothing:
    """Allows nothing."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(False)
