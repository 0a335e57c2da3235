"""A client's session: what it may, what it gets, and what stays when it ends."""

from __future__ import annotations

import pytest

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import NO_SUBSCRIBERS, Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import Conflict, InvalidTopic, NotAuthorized, NotFound, QueueFull, QuotaExceeded
from gateway.core.message import Message, Origin, Outcome
from gateway.core.policy import QueuePolicy
from gateway.core.receiver import Item
from gateway.core.session import OnPublish, Session
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000


class NotBelow:
    """Allows everything but resources that begin with `secret`."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(not resource.removeprefix("$queue/").startswith("secret"))


class Client(Session):
    """A session that keeps what its receiver and its consumers are handed."""

    def __init__(
        self, broker: Broker, name: str = "c", intercept: tuple[OnPublish, ...] = (), user: str = "user"
    ) -> None:
        origin = Origin("test", user, name, "peer")
        super().__init__(broker, Principal(user), origin, Authority([NotBelow()]), intercept)
        self.items: list[Item] = []
        self.held: list[Delivery] = []

    def listen(self, messages_max: int = 100, bytes_max: int = 1000) -> Client:
        self.receive(lambda batch: self.items.extend(batch), messages_max, bytes_max)
        return self

    def eat(self, name: str = "", window: int = 100, group: str = "") -> Consumer:
        def deliver(batch: list[Delivery]) -> None:
            self.held.extend(batch)

        return self.consume(name, deliver, window, group) if name else self.consume_own(deliver, window)

    def send(self, topic: str, body: bytes = b"x", qos: int = 0, retain: bool = False) -> int:
        return self.publish(Message(topic, body, qos, retain, origin=self.origin))

    def got(self) -> list[bytes]:
        """Dispatch; return the bodies of what came to the receiver since the last call."""
        self.broker.dispatch()
        bodies = [message.body for message, _ in self.items]
        self.items.clear()
        return bodies

    def got_safely(self) -> list[bytes]:
        """The same for consumers."""
        self.broker.dispatch()
        bodies = [delivery.message.body for delivery in self.held]
        self.held.clear()
        return bodies


@pytest.fixture
def broker() -> Broker:
    made = Broker(MemoryEngine(), Clock(NOW_MS, 0))
    made.restore(lambda: None)
    return made


def _dropped(broker: Broker) -> dict[str, int]:
    return {cause: count for cause, count in broker.metrics.dropped_by_cause().items() if count}


def _balanced(broker: Broker) -> bool:
    metrics = broker.metrics
    return metrics.copies == metrics.delivered + metrics.streamed + sum(metrics.dropped) + broker.waiting()


# -- publish ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "refusal", "cause"),
    [
        ("secret/a", NotAuthorized, "not_authorized"),
        ("$sys/load", NotAuthorized, "not_authorized"),
        ("$dead/q", NotAuthorized, "not_authorized"),
        ("$share/g/t", NotAuthorized, "not_authorized"),
        ("$delayed/5/secret", NotAuthorized, "not_authorized"),
        ("$delayed/x/t", InvalidTopic, "invalid"),
        ("$delayed/9999999999/t", InvalidTopic, "invalid"),
        ("$session/c", NotAuthorized, "not_authorized"),
        ("a/+", InvalidTopic, "invalid"),
        ("", InvalidTopic, "invalid"),
    ],
)
def test_a_refused_publish_reaches_nobody_and_is_counted(
    broker: Broker, topic: str, refusal: type[Exception], cause: str
) -> None:
    client, reader = Client(broker), Client(broker, "reader").listen()
    reader.subscribe("#")
    for _ in range(2):
        with pytest.raises(refusal):
            client.send(topic)
    assert reader.got() == []
    assert _dropped(broker) == {cause: 2}
    assert broker.metrics.published == 2
    assert _balanced(broker)


def test_publish_tells_whether_to_wait_and_whether_anybody_is_there(broker: Broker) -> None:
    client = Client(broker).listen()
    assert client.send("t", qos=1) == NO_SUBSCRIBERS
    client.subscribe("t")
    assert client.send("t", qos=1) == 0
    broker.catalog.declare("q")
    assert client.send("$queue/q", qos=1) > 0


def test_a_full_queue_that_rejects_refuses_its_publisher(broker: Broker) -> None:
    broker.catalog.declare("q", policy=QueuePolicy(max_length=1, overflow="reject"))
    client = Client(broker)
    client.send("$queue/q")
    with pytest.raises(QueueFull):
        client.send("$queue/q")
    assert _dropped(broker) == {"queue_full": 1}
    assert _balanced(broker)


def _swallow(message: Message, session: Session) -> Message | None:
    return None if message.body == b"swallow" else message


def _move(message: Message, session: Session) -> Message | None:
    return message.with_topic(message.body.decode()) if message.topic == "moved" else message


@pytest.mark.parametrize(
    ("body", "expected", "dropped"),
    [
        (b"a", [b"a"], {}),
        (b"swallow", [], {"intercepted": 1}),
        (b"secret/x", [], {"not_authorized": 1}),
        (b"$sys/x", [], {"not_authorized": 1}),
    ],
)
@pytest.mark.parametrize("order", [(_swallow, _move), (_move, _swallow)])
def test_an_interceptor_may_drop_or_move_what_is_then_checked_again(
    broker: Broker, order: tuple[OnPublish, ...], body: bytes, expected: list[bytes], dropped: dict[str, int]
) -> None:
    client, reader = Client(broker, "c", order), Client(broker, "reader").listen()
    reader.subscribe("#")
    if "not_authorized" in dropped:
        with pytest.raises(NotAuthorized):
            client.send("moved", body)
    else:
        client.send("moved", body)
    assert reader.got() == expected
    assert _dropped(broker) == dropped
    assert _balanced(broker)


# -- subscribe ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic_filter", "refusal"),
    [
        ("secret/#", NotAuthorized),
        ("$queue/q", NotAuthorized),
        ("$session/other", NotAuthorized),
        ("$share/g/t", NotAuthorized),
        ("a/#/b", InvalidTopic),
        ("", InvalidTopic),
    ],
)
def test_a_refused_subscription_leaves_nothing(
    broker: Broker, topic_filter: str, refusal: type[Exception]
) -> None:
    client = Client(broker).listen()
    with pytest.raises(refusal):
        client.subscribe(topic_filter)
    assert client.subscriptions == {}
    assert broker.router.bindings == 0


@pytest.mark.parametrize("own_queue", [False, True])
def test_subscribing_again_replaces_and_unsubscribing_tells(broker: Broker, own_queue: bool) -> None:
    client = Client(broker).listen()
    if own_queue:
        client.own_queue("c", True)
    assert [client.subscribe("t/+", ids=(n,))[1] for n in (1, 2)] == [False, True]
    client.send("t/1")
    broker.dispatch()
    assert [binding.ids for _, binding in client.items] == [(2,)]
    assert [client.unsubscribe("t/+") for _ in range(2)] == [True, False]
    assert client.send("t/1") == NO_SUBSCRIBERS
    assert broker.router.bindings == 0


def test_a_session_has_a_limited_number_of_subscriptions(broker: Broker) -> None:
    broker.session_subscriptions_max = 2
    client = Client(broker).listen()
    for topic_filter in ("a", "b", "b"):
        client.subscribe(topic_filter)
    with pytest.raises(QuotaExceeded, match="has 2 subscriptions"):
        client.subscribe("c")
    assert list(client.subscriptions) == ["a", "b"]
    client.unsubscribe("a")
    client.subscribe("c")


@pytest.mark.parametrize("no_local", [False, True])
@pytest.mark.parametrize("own_queue", [False, True])
@pytest.mark.parametrize("qos", [0, 1])
def test_no_local_keeps_a_clients_own_messages_from_it(
    broker: Broker, no_local: bool, own_queue: bool, qos: int
) -> None:
    client, other = Client(broker).listen(), Client(broker, "other")
    if own_queue:
        client.own_queue("c", True)
        client.eat()
    client.subscribe("t", int(own_queue), no_local)
    client.send("t", b"mine", qos)
    other.send("t", b"other", qos)
    expected = [b"other"] if no_local else [b"mine", b"other"]
    safely = own_queue and qos > 0
    assert (client.got(), client.got_safely()) == (([], expected) if safely else (expected, []))
    assert _balanced(broker)


@pytest.mark.parametrize(("qos", "expected"), [(0, ([b"0", b"1"], [])), (1, ([b"0"], [b"1"]))])
def test_what_may_not_be_lost_goes_to_the_own_queue(
    broker: Broker, qos: int, expected: tuple[list[bytes], list[bytes]]
) -> None:
    client = Client(broker).listen()
    assert client.own_queue("c", True) is False
    client.eat()
    client.subscribe("t", qos)
    client.send("t", b"0", 0)
    client.send("t", b"1", 1)
    assert (client.got(), client.got_safely()) == expected
    assert _balanced(broker)


# -- retained and congested ---------------------------------------------------------------


@pytest.mark.parametrize("own_queue", [False, True])
def test_retained_messages_are_sent_as_the_subscription_demands(broker: Broker, own_queue: bool) -> None:
    publisher, client = Client(broker, "p"), Client(broker).listen()
    for topic, qos in [("t/0", 0), ("t/1", 1), ("u", 1)]:
        publisher.send(topic, topic.encode(), qos, retain=True)
    if own_queue:
        client.own_queue("c", True)
        client.eat()
    binding, _ = client.subscribe("t/+", int(own_queue))
    client.send_retained(client.retained("t/+"), binding)
    broker.dispatch()
    bindings = [item[1] for item in client.items] + [delivery.binding for delivery in client.held]
    assert [found.retained for found in bindings if found is not None] == [True, True]
    assert not binding.retained
    expected = ([b"t/0"], [b"t/1"]) if own_queue else ([b"t/0", b"t/1"], [])
    assert (client.got(), client.got_safely()) == expected
    assert _balanced(broker)


def test_an_empty_or_expired_retained_message_is_none(broker: Broker) -> None:
    client = Client(broker)
    for topic in ("a", "b"):
        client.send(topic, retain=True)
    client.publish(Message("c", b"x", 0, True, expires_at_ms=NOW_MS + 10))
    client.send("b", b"", retain=True)
    assert [message.topic for message in client.retained("#")] == ["a", "c"]
    broker.clock.now_ms += 10
    assert [message.topic for message in client.retained("#")] == ["a"]


@pytest.mark.parametrize(("messages_max", "bytes_max"), [(2, 1000), (100, 5)])
def test_a_client_that_does_not_read_is_sent_what_fits_once_it_reads(
    broker: Broker, messages_max: int, bytes_max: int
) -> None:
    client, publisher = Client(broker).listen(messages_max, bytes_max), Client(broker, "p")
    client.subscribe("t")
    broker.catalog.declare("q")
    client.eat("q")
    client.congest(True)
    for body in (b"11", b"22", b"33"):
        publisher.send("t", body)
    publisher.send("$queue/q", b"safe", 1)
    assert (client.got(), client.got_safely()) == ([], [])
    client.congest(False)
    assert (client.got(), client.got_safely()) == ([b"11", b"22"], [b"safe"])
    assert _dropped(broker) == {"slow_subscriber": 1}
    assert _balanced(broker)


# -- consume ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queue", "group", "refusal"),
    [
        ("nowhere", "", NotFound),
        ("secret", "", NotAuthorized),
        ("classic", "g", Conflict),
        ("stream", "", Conflict),
    ],
)
def test_a_refused_consumer_leaves_nothing(
    broker: Broker, queue: str, group: str, refusal: type[Exception]
) -> None:
    for name in ("secret", "classic", "stream"):
        broker.catalog.declare(name, "stream" if name == "stream" else "classic")
    client = Client(broker)
    with pytest.raises(refusal):
        client.eat(queue, group=group)
    assert client.consumers == []
    assert [found.active for found in broker.catalog.queues.values()] == [(), (), ()]


def test_a_cancelled_consumer_gives_back_unless_it_holds_leases(broker: Broker) -> None:
    broker.catalog.declare("q")
    client, other = Client(broker), Client(broker, "other")
    for body in (b"1", b"2", b"3"):
        client.send("$queue/q", body)
    first = client.eat("q", window=2)
    broker.dispatch()
    leased = client.held[0]
    assert client.settle(client.held[1], Outcome.REQUEUE)
    client.cancel(first, give_back=False)
    client.cancel(first)
    other.eat("q")
    assert other.got_safely() == [b"2", b"3"]
    assert client.settle(leased, Outcome.REQUEUE)
    assert not client.settle(leased, Outcome.ACK)
    assert other.got_safely() == [b"1"]
    assert client.consumers == []
    assert _balanced(broker)


# -- close --------------------------------------------------------------------------------


@pytest.mark.parametrize(("durable", "keep"), [(True, True), (True, False), (False, True), (False, False)])
def test_only_a_durable_queue_that_is_to_be_kept_outlives_its_session(
    broker: Broker, durable: bool, keep: bool
) -> None:
    client, publisher = Client(broker).listen(), Client(broker, "p")
    client.own_queue("c", durable)
    client.eat()
    client.subscribe("t", 1)
    publisher.send("t", b"held", 1)
    broker.dispatch()
    client.close(keep)
    client.close(keep)
    publisher.send("t", b"lossy", 0)
    publisher.send("t", b"safe", 1)
    kept = durable and keep
    assert ("$session/c" in broker.catalog.queues) is kept
    assert _dropped(broker) == (
        {"subscriber_offline": 1} if kept else {"session_ended": 1, "no_subscriber": 2}
    )
    again = Client(broker).listen()
    assert again.own_queue("c", True) is kept
    assert list(again.subscriptions) == (["t"] if kept else [])
    again.eat()
    publisher.send("t", b"live", 0)
    assert (again.got(), again.got_safely()) == (([b"live"], [b"held", b"safe"]) if kept else ([], []))
    assert _balanced(broker)


def test_a_session_without_a_queue_leaves_nothing_and_counts_what_it_had_not_read(broker: Broker) -> None:
    client = Client(broker).listen()
    client.subscribe("t")
    client.send("t")
    client.close(keep=True)
    assert broker.router.bindings == 0
    assert client.got() == []
    assert _dropped(broker) == {"session_ended": 1}
    assert _balanced(broker)


def test_a_queue_of_the_other_durability_is_made_anew(broker: Broker) -> None:
    first = Client(broker).listen()
    first.own_queue("c", True)
    first.subscribe("t", 1)
    first.close(keep=True)
    second = Client(broker).listen()
    assert second.own_queue("c", False) is False
    assert second.subscriptions == {}
    assert second.queue is not None
    assert not second.queue.durable


def test_subscriptions_made_before_the_own_queue_are_moved_under_it(broker: Broker) -> None:
    client = Client(broker).listen()
    client.subscribe("t")
    client.own_queue("c", True)
    client.eat()
    client.subscribe("u", 1)
    for topic in ("t", "u"):
        client.send(topic, topic.encode(), 1)
    assert (client.got(), client.got_safely()) == ([b"t"], [b"u"])
    client.close(keep=True)
    again = Client(broker).listen()
    assert again.own_queue("c", True) is True
    assert sorted(again.subscriptions) == ["t", "u"]


def test_an_own_queue_takes_the_policy_it_is_given_and_keeps_it_on_disk(broker: Broker) -> None:
    for length in (5, 6):
        client = Client(broker).listen()
        client.own_queue("c", True, QueuePolicy(max_length=length))
        client.close(keep=True)
        restored = Broker(broker.engine, Clock(NOW_MS, 0))
        restored.restore(lambda: None)
        assert restored.catalog.get("$session/c").policy.max_length == length
