"""RocketMQ's own clients for Python and for Node, unmodified: all kinds of messages and of consumers."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.interop.rocketmq_client import KINDS, Failed, Producer, RocketPeer, Simple
from tests.process import RocketGateway, wait_for

pytestmark = pytest.mark.interop
SETS = (
    "transactions.check_first_seconds=0.5",
    "transactions.check_interval_seconds=0.5",
    "transactions.checks_max=100",
    "openmessaging.long_poll_seconds_max=5",
    'openmessaging.fifo_groups=["orderly-*"]',
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path_factory.mktemp("rocketmq") / "data", SETS)
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture(scope="module", params=KINDS)
def peer(request: pytest.FixtureRequest) -> Iterator[RocketPeer]:
    with RocketPeer(request.param) as process:
        yield process


@pytest.fixture(scope="module")
def producer(gateway: RocketGateway, peer: RocketPeer) -> Iterator[Producer]:
    with peer.producer(gateway) as client:
        yield client


_names = itertools.count(1)


@pytest.fixture
def topic(gateway: RocketGateway, peer: RocketPeer) -> str:
    """A topic of the test's own, with a group of consumers, `workers`, that exists."""
    name = f"{peer.kind}-{next(_names)}"
    declare(gateway, name)
    return name


def declare(gateway: RocketGateway, topic: str, group: str = "workers", **policy: object) -> None:
    """Make a group of a topic before anybody is in it, with a policy."""
    queue = quote(f"$share/{group}/{topic}", safe="")
    answer = httpx.put(f"{gateway.url}/v1/queues/{queue}", json={"bindings": [topic], "policy": policy})
    assert answer.status_code < 300, answer.text


def depth(gateway: RocketGateway, topic: str, group: str = "workers") -> int | None:
    """Return how many messages a group has, in hands or not; None: there is no such group."""
    queue = quote(f"$share/{group}/{topic}", safe="")
    answer = httpx.get(f"{gateway.url}/v1/queues/{queue}")
    found = answer.json()
    return int(found["depth"]) + int(found["unsettled"]) if answer.status_code == 200 else None


# -- messages -----------------------------------------------------------------------------------------


def test_clients_start_and_leave(gateway: RocketGateway, peer: RocketPeer) -> None:
    with (
        peer.producer(gateway, topics=["starts"]) as producer,
        peer.simple(gateway, "starters", "starts") as one,
    ):
        assert producer.client_id != one.client_id
    with peer.push(gateway, "starters", "starts") as push:
        assert push.client_id


def test_a_message_arrives_as_it_was_sent(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    began_ms = time.time() * 1000
    body = bytes(range(256))
    receipt = producer.send(topic, body, tag="blue", keys=["k1", "k2"], properties={"size": "7", "ü": "grün"})
    with peer.simple(gateway, "workers", topic) as consumer:
        (found,) = consumer.receive()
        consumer.ack(found)
    assert (found.topic, found.body, found.tag, found.keys) == (topic, body, "blue", ["k1", "k2"])
    assert found.properties == {"size": "7", "ü": "grün"}
    assert found.id == receipt["message_id"]
    assert (found.attempt, found.corrupted) == (1, False)
    assert found.born_host
    assert began_ms - 2000 <= found.born_ms <= time.time() * 1000 + 2000
    assert found.group is None
    assert not found.due_ms  # 0 by the client for Python


@pytest.mark.parametrize("size", [1, 100_000, 4 << 20])
def test_bodies_of_all_sizes(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str, size: int
) -> None:
    if peer.kind == "node":  # whose gRPC takes 4 MiB with all that is around a body
        size = min(size, 4_000_000)
    body = b"0123456789abcdef" * (size // 16) or b"0"
    producer.send(topic, body)
    with peer.simple(gateway, "workers", topic) as consumer:
        (found,) = consumer.collect(1)
    assert found.body == body
    assert not found.corrupted


def test_a_body_that_is_too_large_is_refused_by_the_client(producer: Producer, topic: str) -> None:
    producer.send(topic, b"the settings have come with the first one")
    with pytest.raises(Failed, match="exceeds the threshold"):
        producer.send(topic, bytes((4 << 20) + 1))


def test_many_at_once_each_once(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    bodies = {f"{number}".encode() for number in range(300)}
    ids = producer.send_many(topic, bodies)
    assert None not in ids
    with peer.simple(gateway, "workers", topic) as consumer:
        found = consumer.collect(len(bodies))
        assert depth(gateway, topic) == 0
    assert Counter(message.body for message in found) == Counter(bodies)
    assert {message.id for message in found} == set(ids)


def test_a_fifo_group_is_one_at_a_time(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    for number in range(4):
        for key in ("a", "b"):
            producer.send(topic, f"{key}{number}".encode(), message_group=key)
    with peer.simple(gateway, "workers", topic) as consumer:
        seen = []
        while len(seen) < 8:
            found = consumer.receive()
            assert len({message.group for message in found}) == len(found), "one of each at a time"
            seen += [message.body.decode() for message in found]
            consumer.ack(*found)
    for key in ("a", "b"):
        assert [body for body in seen if body[0] == key] == [f"{key}{number}" for number in range(4)]


def test_a_delayed_message_comes_when_it_is_due(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    due_ms = (int(time.time()) + 2) * 1000
    # By the Python client's documentation these are milliseconds, by its example seconds, and it writes both
    # where seconds belong: both are understood.
    given = [due_ms, due_ms // 1000] if peer.kind == "python" else [due_ms]
    with peer.simple(gateway, "workers", topic) as consumer:
        for number, when in enumerate(given):
            producer.send(topic, f"{number}".encode(), delivery_timestamp=when)
        assert time.time() * 1000 < due_ms
        found = consumer.collect(len(given))
        assert time.time() * 1000 >= due_ms, "never early"
    assert {message.body for message in found} == {f"{number}".encode() for number in range(len(given))}
    assert {message.due_ms for message in found} == {due_ms}


def test_a_delayed_message_can_be_recalled(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    due_ms = (int(time.time()) + 3600) * 1000
    receipt = producer.send(topic, b"never", delivery_timestamp=due_ms)
    assert producer.recall(topic, receipt["recall_handle"]) == receipt["message_id"]
    with pytest.raises(Failed) as caught:
        producer.recall(topic, receipt["recall_handle"])
    assert caught.value.code or caught.value.why
    assert httpx.get(f"{gateway.url}/v1/schedules").json()["schedules"] == []


def test_more_priority_goes_first(gateway: RocketGateway, peer: RocketPeer, producer: Producer) -> None:
    topic = f"{peer.kind}-priorities"
    declare(gateway, topic, max_priority=9)
    for priority in (1, 5, 3):
        producer.send(topic, f"{priority}".encode(), priority=priority)
    with peer.simple(gateway, "workers", topic) as consumer:
        found = consumer.collect(3)
    assert [message.body for message in found] == [b"5", b"3", b"1"]
    assert [message.priority for message in found] == [5, 3, 1]


# -- transactions -------------------------------------------------------------------------------------


def test_a_transaction_is_seen_after_its_commit(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    with peer.simple(gateway, "workers", topic) as consumer:
        receipt = producer.send(topic, b"half", transaction=f"{topic}-1", properties={"a": "b"})
        assert receipt["transaction_id"]
        assert depth(gateway, topic) == 0
        producer.commit(f"{topic}-1")
        (found,) = consumer.collect(1)
    assert (found.body, found.properties) == (b"half", {"a": "b"})
    if peer.kind == "python":  # the one for Node makes up another id when it sends
        assert found.id == receipt["message_id"]


def test_a_transaction_that_is_rolled_back_is_never_seen(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    producer.send(topic, b"gone", transaction=f"{topic}-1")
    producer.rollback(f"{topic}-1")
    producer.send(topic, b"after")
    with peer.simple(gateway, "workers", topic) as consumer:
        assert [message.body for message in consumer.collect(1)] == [b"after"]
        assert depth(gateway, topic) == 0
    with pytest.raises(Failed):
        producer.commit(f"{topic}-1")


@pytest.mark.parametrize("resolution", ["commit", "rollback"])
def test_an_orphan_is_asked_about(
    gateway: RocketGateway, peer: RocketPeer, topic: str, resolution: str
) -> None:
    with peer.producer(gateway, f"forgetful {topic}", checks={"orphan": resolution}) as forgetful:
        forgetful.send(topic, b"orphan", transaction=f"{topic}-1", tag="t", keys=["k"])
        asked = forgetful.checked()
        assert asked is not None
        assert (asked.topic, asked.body, asked.tag, asked.keys) == (topic, b"orphan", "t", ["k"])
        with peer.simple(gateway, "workers", topic) as consumer:
            if resolution == "commit":
                assert [message.body for message in consumer.collect(1)] == [b"orphan"]
            assert depth(gateway, topic) == 0


def test_another_producer_is_asked_when_the_first_is_gone(
    gateway: RocketGateway, peer: RocketPeer, topic: str
) -> None:
    with peer.producer(gateway, f"stays {topic}", topics=[topic], checks={"orphan": "commit"}) as stays:
        with peer.producer(gateway, f"leaves {topic}") as leaves:
            leaves.send(topic, b"orphan", transaction=f"{topic}-1")
        asked = stays.checked()
        assert asked is not None
        assert asked.body == b"orphan"
    with peer.simple(gateway, "workers", topic) as consumer:
        assert [message.body for message in consumer.collect(1)] == [b"orphan"]


# -- consumers ----------------------------------------------------------------------------------------


def test_what_is_not_acknowledged_comes_again(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer
) -> None:
    topic = f"{peer.kind}-again"
    declare(gateway, topic, backoff_ms=[0])
    producer.send(topic, b"again")
    with peer.simple(gateway, "workers", topic, wait=1) as consumer:
        (first,) = consumer.receive(invisible=60)
        assert consumer.receive() == [], "it is invisible"
        consumer.change(first, 1)
        (second,) = wait_for(consumer.receive, what="the second attempt")
        assert (second.id, second.attempt) == (first.id, 2)
        with pytest.raises(Failed) as caught:
            consumer.ack(first)
        assert caught.value.name == "BadRequestException"
        consumer.ack(second)
        assert depth(gateway, topic) == 0


def test_a_message_is_held_longer(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    producer.send(topic, b"long work")
    with peer.simple(gateway, "workers", topic) as consumer:
        (found,) = consumer.receive(invisible=10)
        before = found.handle
        consumer.change(found, 60)
        assert found.handle
        assert found.handle != before
        consumer.ack(found)
        assert depth(gateway, topic) == 0


def test_groups_get_all_and_members_share(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    declare(gateway, topic, "others")
    bodies = [f"{number}".encode() for number in range(40)]
    producer.send_many(topic, bodies)
    with (
        peer.simple(gateway, "workers", topic, "one") as one,
        peer.simple(gateway, "workers", topic, "two") as two,
        peer.simple(gateway, "others", topic) as other,
    ):
        shared = one.receive(16) + two.receive(16)
        one.ack(*shared[:16])
        two.ack(*shared[16:])
        shared += one.collect(len(bodies) - len(shared))
        assert Counter(message.body for message in shared) == Counter(bodies)
        assert Counter(message.body for message in other.collect(40)) == Counter(bodies)


def test_a_push_consumer_has_messages_pushed(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    bodies = {f"{number}".encode() for number in range(50)}
    with peer.push(gateway, "workers", topic) as push:
        producer.send_many(topic, bodies)
        found = [push.next() for _ in bodies]
    assert Counter(message.body for message in found) == Counter(bodies)
    assert {message.attempt for message in found} == {1}


def test_a_push_consumer_that_fails_is_tried_again_then_its_message_is_dead(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer
) -> None:
    topic, group = f"{peer.kind}-fails", f"{peer.kind}-failing"
    declare(gateway, topic, group, delivery_limit=3, backoff_ms=[1000])
    results = {"twice": ["fail", "fail", "ok"], "always": ["fail"]}
    with peer.push(gateway, group, topic, results=results) as push:
        for body in (b"twice", b"always"):
            producer.send(topic, body, tag="t", properties={"p": "v"})
        found = [push.next() for _ in range(6)]
        for body in (b"twice", b"always"):
            assert [message.attempt for message in found if message.body == body] == [1, 2, 3]
        with peer.simple(gateway, group, f"%DLQ%{group}", f"{peer.kind} undertaker") as undertaker:
            (dead,) = undertaker.collect(1)
            assert (dead.body, dead.tag, dead.properties["p"]) == (b"always", "t", "v")
        left = httpx.get(f"{gateway.url}/v1/dead-letters").json()["queues"]
    assert not [one for one in left if group in one["queue"] and one["letters"]], "it was taken"


def test_a_fifo_push_consumer_goes_on_after_a_dead_letter(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer
) -> None:
    topic, group = f"{peer.kind}-in-order", f"orderly-{peer.kind}"
    declare(gateway, topic, group, delivery_limit=2, backoff_ms=[1000])
    for number in range(3):
        producer.send(topic, f"{number}".encode(), message_group="g")
    # The client for Node knows no pauses of RocketMQ's kind between attempts, and so has only the first.
    wanted = [b"0", b"0", b"1", b"1", b"2"] if peer.kind == "python" else [b"0", b"1", b"2"]
    dead = [b"1"] if peer.kind == "python" else [b"0", b"1"]
    with peer.push(gateway, group, topic, results={"0": ["fail", "ok"], "1": ["fail"]}) as push:
        assert [push.next().body for _ in wanted] == wanted
    with peer.simple(gateway, group, f"%DLQ%{group}", f"{peer.kind} fifo undertaker") as undertaker:
        assert sorted(message.body for message in undertaker.collect(len(dead))) == dead


def test_tags_and_sql_say_what_is_wanted(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    filters = {"red-or-blue": "red || blue", "sql": "sql:TAGS = 'green' OR weight > 5", "all": "*"}
    wanted = {"red-or-blue": {"red", "blue"}, "sql": {"green", "blue"}, "all": {"red", "green", "blue"}}
    consumers = {name: peer.simple(gateway, name, {topic: text}) for name, text in filters.items()}
    for name in filters:  # a group is there when its first member has asked
        wait_for(lambda name=name: depth(gateway, topic, name) == 0, what=name)
    for size, tag in ((4, "red"), (5, "green"), (6, "blue")):
        producer.send(topic, tag.encode(), tag=tag, properties={"weight": f"{size}"})
    for name, consumer in consumers.items():
        assert {message.body.decode() for message in consumer.collect(len(wanted[name]))} == wanted[name]
        assert depth(gateway, topic, name) == 0
        consumer.close()


def test_a_consumer_of_several_topics_subscribes_to_more_and_to_less(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    others = [f"{topic}-{letter}" for letter in "ab"]
    with peer.simple(gateway, "workers", {topic: "*", others[0]: "*"}, wait=1) as consumer:
        consumer.ask("subscribe", subscription={others[1]: "t"})
        consumer.ask("unsubscribe", topic=topic)
        # Whoever subscribes while it runs is a member with the first poll.
        wait_for(lambda: consumer.receive() == [] and all(depth(gateway, one) == 0 for one in others))
        for name in (topic, *others):
            producer.send(name, name.encode(), tag="t")
        found: set[bytes] = set()
        wait_for(lambda: found.update(_taken(consumer)) or len(found) == 2, what="both messages")
        assert found == {other.encode() for other in others}
        assert depth(gateway, topic) == 1


def _taken(consumer: Simple) -> set[bytes]:
    messages = consumer.receive()
    consumer.ack(*messages)
    return {message.body for message in messages}


def test_another_filter_in_a_group_is_refused_with_a_sentence(
    gateway: RocketGateway, peer: RocketPeer, producer: Producer, topic: str
) -> None:
    with peer.simple(gateway, "choosy", {topic: "a"}, f"first {topic}") as first:
        wait_for(lambda: depth(gateway, topic, "choosy") == 0, what="the group")
        producer.send(topic, b"x", tag="a")
        (held,) = first.receive()
        with (
            pytest.raises(Failed) as caught,  # by Node's with its settings
            peer.simple(gateway, "choosy", {topic: "b"}, f"second {topic}") as other,
        ):
            other.receive()
        assert caught.value.name == "BadRequestException"
        assert "'a'" in caught.value.why
        assert "'b'" in caught.value.why
        first.ack(held)


def test_namespaces_are_apart(gateway: RocketGateway, peer: RocketPeer, topic: str) -> None:
    for namespace in ("east", "west"):
        declare(gateway, f"{namespace}/{topic}")
        with peer.producer(gateway, f"{namespace} {topic}", namespace=namespace) as producer:
            producer.send(topic, namespace.encode())
    for namespace in ("east", "west"):
        with peer.simple(gateway, "workers", topic, namespace=namespace) as consumer:
            assert [message.body for message in consumer.collect(1)] == [namespace.encode()]
