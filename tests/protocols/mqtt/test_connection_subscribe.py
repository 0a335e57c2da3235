"""SUBSCRIBE and UNSUBSCRIBE: options, retained messages, overlaps, shares (sections 3.8, 3.10, 4.8)."""

from __future__ import annotations

import pytest

from gateway.protocols.mqtt.encoder import encode_subscribe
from gateway.protocols.mqtt.packets import (
    PUBACK,
    PUBREL,
    V5,
    V311,
    Disconnect,
    Publish,
    Suback,
    SubscribeOption,
)
from gateway.protocols.mqtt.reasons import Reason
from tests.protocols.mqtt.transcripts import VERSIONS, house


@pytest.mark.parametrize("version", VERSIONS)
def test_each_filter_has_its_reason_in_order(version: int) -> None:
    with house() as h:
        client = h.connect("c", version)
        options = [SubscribeOption("a", 0), SubscribeOption("b/#", 1), SubscribeOption("+/c", 2)]
        assert client.subscribe(*options) == [0, 1, 2]  # [MQTT-3.8.4-6]
        refused = [SubscribeOption("fine", 1), SubscribeOption("$session/c", 1)]
        assert client.subscribe(*refused) == [1, Reason.NOT_AUTHORIZED if version == V5 else 0x80]


def test_a_refusal_says_why() -> None:
    with house() as h:
        client = h.connect("c")
        packets = client.send(encode_subscribe(V5, 1, [SubscribeOption("$queue/missing", 1)]))
        suback = client.only(Suback, packets)
        assert suback.reasons == [Reason.TOPIC_FILTER_INVALID]
        assert "missing" in str(suback.properties["reason_string"])


def test_too_many_subscriptions_are_refused() -> None:
    with house() as h:
        h.gateway.broker.session_subscriptions_max = 2
        client = h.connect("c")
        assert client.subscribe("a", "b", "c", "a") == [1, 1, Reason.QUOTA_EXCEEDED, 1]
        assert client.unsubscribe("a") == [0]
        assert client.subscribe("c") == [1]


@pytest.mark.parametrize("topic_filter", ["a/#/b", "a+", "#a", "$share//t", "$share/g", "$share/a+b/t"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_malformed_filter_ends_the_connection(version: int, topic_filter: str) -> None:
    with house() as h:
        client = h.connect("c", version)
        if version == V311 and topic_filter.startswith("$share"):
            topic_filter = "a/#/b"  # shared subscriptions are named the same in 3.1.1, but by no standard
        packets = client.send(encode_subscribe(version, 1, [SubscribeOption(topic_filter, 1)]))
        assert client.closed
        if version == V5:
            assert client.only(Disconnect, packets).reason == Reason.MALFORMED_PACKET


def test_unsubscribing() -> None:
    with house() as h:
        client, writer = h.connect("c"), h.connect("writer")
        client.subscribe("a", "b")
        assert client.unsubscribe("a", "never") == [0, Reason.NO_SUBSCRIPTION_EXISTED]
        writer.publish("a", b"1")
        writer.publish("b", b"2")
        assert client.bodies() == [b"2"]


@pytest.mark.parametrize(
    ("handling", "again", "expected"),
    [(0, False, 1), (0, True, 1), (1, False, 1), (1, True, 0), (2, False, 0), (2, True, 0)],
)
def test_retain_handling(handling: int, again: bool, expected: int) -> None:
    with house() as h:
        h.connect("writer").publish("kept", b"value", retain=True)
        client = h.connect("c")
        option = SubscribeOption("kept", 1, retain_handling=handling)
        if again:
            client.subscribe(option)
            client.take()
        client.subscribe(option)
        messages = client.messages()
        assert len(messages) == expected  # [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
        assert all(message.retain for message in messages)


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages_come_with_the_lower_qos(version: int) -> None:
    with house() as h:
        writer = h.connect("writer", version)
        for qos in range(3):
            writer.publish(f"kept/{qos}", b"x", qos, retain=True)
            if qos == 2:
                writer.ack(PUBREL, writer._next_id)
        client = h.connect("c", version)
        client.subscribe("kept/+", qos=1)
        assert [(m.topic, m.qos, m.retain) for m in client.messages()] == [
            ("kept/0", 0, True),
            ("kept/1", 1, True),
            ("kept/2", 1, True),
        ]


@pytest.mark.parametrize(("as_published", "expected"), [(False, False), (True, True)])
@pytest.mark.parametrize("qos", [0, 1])
def test_retain_as_published(as_published: bool, expected: bool, qos: int) -> None:
    with house() as h:
        client, writer = h.connect("c"), h.connect("writer")
        client.subscribe(SubscribeOption("t", qos, retain_as_published=as_published))
        writer.publish("t", b"x", qos, retain=True)
        (message,) = client.messages()
        assert message.retain is expected  # [MQTT-3.3.1-12] [MQTT-3.3.1-13]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_no_local(qos: int) -> None:
    with house() as h:
        client, other = h.connect("c"), h.connect("other")
        client.subscribe(SubscribeOption("t", qos, no_local=True))
        client.publish("t", b"mine", qos)
        other.publish("t", b"theirs", qos)
        assert client.bodies() == [b"theirs"]  # [MQTT-3.8.3-3]


def test_no_local_makes_no_sense_on_a_shared_subscription() -> None:
    with house() as h:
        client = h.connect("c")
        option = SubscribeOption("$share/g/t", 1, no_local=True)
        packet = client.only(Disconnect, client.send(encode_subscribe(V5, 1, [option])))
        assert packet.reason == Reason.PROTOCOL_ERROR  # [MQTT-3.8.3-4]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1])
def test_overlapping_subscriptions_bring_one_copy(version: int, qos: int) -> None:
    with house() as h:
        client, writer = h.connect("c", version), h.connect("writer", version)
        client.subscribe(SubscribeOption("a/#", 0), SubscribeOption("a/b", qos), SubscribeOption("+/b", 0))
        writer.publish("a/b", b"x", 1)
        (message,) = client.messages()
        assert message.qos == qos


def test_overlapping_subscriptions_bring_all_identifiers() -> None:
    with house() as h:
        client, writer = h.connect("c"), h.connect("writer")
        client.subscribe("a/#", ids=3)
        client.subscribe("a/b", ids=4)
        client.subscribe("x", ids=5)
        writer.publish("a/b", b"x")
        (message,) = client.messages()
        assert sorted(message.properties["subscription_identifier"]) == [3, 4]  # type: ignore[call-overload]
        client.subscribe("a/b")  # again, now without an identifier [MQTT-3.8.4-3]
        writer.publish("a/b", b"y")
        (message,) = client.messages()
        assert message.properties["subscription_identifier"] == [3]


def test_a_retained_message_brings_the_identifier() -> None:
    with house() as h:
        h.connect("writer").publish("kept", b"value", retain=True)
        client = h.connect("c")
        client.subscribe("kept", ids=9)
        (message,) = client.messages()
        assert message.properties["subscription_identifier"] == [9]


# -- shared subscriptions ---------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_each_message_goes_to_one_member(version: int) -> None:
    with house() as h:
        one, two = h.connect("one", version), h.connect("two", version)
        for member in (one, two):
            assert member.subscribe("$share/g/t") == [1]
        writer = h.connect("writer", version)
        for number in range(10):
            writer.publish("t", b"%d" % number)
        first, second = one.bodies(), two.bodies()
        assert first
        assert second
        assert sorted(first + second) == [b"%d" % number for number in range(10)]


def test_what_a_dead_member_held_goes_to_another() -> None:
    with house() as h:
        one, two = h.connect("one"), h.connect("two")
        one.subscribe("$share/g/t")
        h.connect("writer").publish("t", b"x")
        assert one.bodies() == [b"x"]  # not acknowledged
        two.subscribe("$share/g/t")
        one.hang_up()
        (message,) = two.messages()
        assert message.payload == b"x"
        assert not message.dup, "to this client it is new"
        assert two.ack(PUBACK, message.packet_id) == []
        queue = h.gateway.broker.catalog.queues["$share/g/t"]
        assert (queue.length(), len(queue.groups()[0].unsettled)) == (0, 0)


def test_a_group_and_an_ordinary_subscription_are_two_subscribers() -> None:
    with house() as h:
        client, writer = h.connect("c"), h.connect("writer")
        client.subscribe("t", "$share/g/t", "$share/h/t")
        writer.publish("t", b"x")
        assert client.bodies() == [b"x"] * 3


def test_a_shared_subscription_has_no_retained_messages() -> None:
    with house() as h:
        h.connect("writer").publish("kept", b"value", retain=True)
        client = h.connect("c")
        client.subscribe("$share/g/kept")
        assert client.take() == []  # section 4.8.2: not sent for shared subscriptions


def test_a_shared_subscription_goes_with_its_last_member() -> None:
    with house() as h:
        one, two = h.connect("one"), h.connect("two")
        for member in (one, two):
            member.subscribe("$share/g/t")
        assert one.unsubscribe("$share/g/t") == [0]
        assert "$share/g/t" in h.gateway.broker.catalog.queues
        two.hang_up()
        assert "$share/g/t" not in h.gateway.broker.catalog.queues


def test_a_durable_member_keeps_the_group_while_it_is_away() -> None:
    with house() as h:
        session = {"session_expiry_interval": 1000}
        member, writer = h.connect("member", properties=session), h.connect("writer")
        member.subscribe("$share/g/t")
        member.hang_up()
        assert writer.publish("t", b"waits")
        member = h.connect("member", clean=False, properties=session)
        assert member.bodies() == [b"waits"]


def test_a_queue_can_be_consumed_by_name() -> None:
    with house() as h:
        h.gateway.broker.catalog.declare("jobs")
        worker, writer = h.connect("worker"), h.connect("writer")
        assert worker.subscribe("$queue/jobs") == [1]
        writer.publish("$queue/jobs", b"do this")
        (message,) = worker.messages()
        assert isinstance(message, Publish)
        assert message.payload == b"do this"
