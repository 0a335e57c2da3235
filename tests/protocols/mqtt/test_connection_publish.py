"""PUBLISH both ways: QoS 0, 1 and 2, quotas, aliases, sizes, properties (MQTT 5 sections 3.3, 4.3, 4.9)."""

from __future__ import annotations

import pytest

from gateway.protocols.mqtt.encoder import encode_publish
from gateway.protocols.mqtt.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V311,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    SubscribeOption,
)
from gateway.protocols.mqtt.reasons import Reason
from tests.protocols.mqtt.transcripts import VERSIONS, house


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sent", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_the_lower_qos_counts(version: int, sent: int, granted: int) -> None:
    with house() as h:
        reader, writer = h.connect("reader", version), h.connect("writer", version)
        assert reader.subscribe("t", qos=granted) == [granted]
        writer.publish("t", b"x", sent)
        if sent == 2:
            writer.ack(PUBREL, writer._next_id)
        (message,) = reader.messages()
        assert (message.qos, message.payload) == (min(sent, granted), b"x")
        assert bool(message.packet_id) is bool(message.qos)
        assert not message.dup


@pytest.mark.parametrize("version", VERSIONS)
def test_qos_1_is_acknowledged(version: int) -> None:
    with house() as h:
        h.connect("reader", version).subscribe("t")
        client = h.connect("c", version)
        puback = client.only(Puback, client.publish("t", packet_id=7))
        assert (puback.packet_id, puback.reason) == (7, 0)


@pytest.mark.parametrize(("version", "reason"), [(V311, 0), (V5, Reason.NO_MATCHING_SUBSCRIBERS)])
def test_a_publisher_is_told_that_nobody_listens(version: int, reason: int) -> None:
    with house() as h:
        client = h.connect("c", version)
        assert client.only(Puback, client.publish("nobody")).reason == reason
        assert client.only(Pubrec, client.publish("nobody", qos=2)).reason == reason


@pytest.mark.parametrize("version", VERSIONS)
def test_qos_2_is_stored_once_however_often_it_comes(version: int) -> None:
    with house() as h:
        reader, client = h.connect("reader", version), h.connect("c", version)
        reader.subscribe("t", qos=1)
        for dup in (False, True, True):
            assert client.only(Pubrec, client.publish("t", b"x", 2, 9, dup=dup)).packet_id == 9
        assert reader.bodies() == [b"x"]  # [MQTT-4.3.3-10]
        assert client.only(Pubcomp, client.ack(PUBREL, 9)).packet_id == 9
        client.publish("t", b"y", 2, 9)  # the identifier is free again [MQTT-4.3.3-12]
        assert reader.bodies() == [b"y"]


def test_pubrel_of_what_is_not_there() -> None:
    with house() as h:
        client = h.connect("c")
        assert client.only(Pubcomp, client.ack(PUBREL, 5)).reason == Reason.PACKET_IDENTIFIER_NOT_FOUND
        old = h.connect("old", V311)
        assert old.only(Pubcomp, old.ack(PUBREL, 5)).reason == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_qos_2_to_a_subscriber(version: int) -> None:
    with house() as h:
        reader, writer = h.connect("reader", version), h.connect("writer", version)
        reader.subscribe("t", qos=2)
        writer.publish("t", b"x", 2)
        (message,) = reader.messages()
        assert reader.only(Pubrel, reader.ack(PUBREC, message.packet_id)).packet_id == message.packet_id
        assert reader.only(Pubrel, reader.ack(PUBREC, message.packet_id)), "again is fine"
        assert reader.ack(PUBCOMP, message.packet_id) == []
        queue = h.gateway.broker.catalog.queues["$session/reader"]
        assert (queue.length(), len(queue.groups()[0].unsettled)) == (0, 0)


def test_a_subscriber_may_refuse() -> None:
    with house() as h:
        reader, writer = h.connect("reader"), h.connect("writer")
        reader.subscribe("t", qos=2)
        for qos, kind in ((1, PUBACK), (2, PUBREC)):
            writer.publish("t", b"x", qos)
            (message,) = reader.messages()
            assert reader.ack(kind, message.packet_id, Reason.IMPLEMENTATION_SPECIFIC_ERROR) == []
        assert h.gateway.broker.metrics.dropped_by_cause()["rejected"] == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_acknowledgements_leave_in_order(version: int) -> None:
    with house() as h:
        h.connect("reader", version, properties={}).subscribe("t")
        client = h.connect("c", version)
        block = b"\x00"
        data = b"".join(
            encode_publish(version, b"t", b"", 1 + number % 2, False, False, number + 1, block)
            for number in range(20)
        )
        packets = client.send(data)
        assert [p.packet_id for p in packets] == list(range(1, 21))  # type: ignore[attr-defined]


def test_more_than_receive_maximum_is_an_error() -> None:
    with house("mqtt.receive_maximum=3") as h:
        client = h.connect("c")
        for number in range(3):
            client.publish("t", b"", 2, number + 1)
        client.publish("t", b"", 2, 3, dup=True)  # one of the three
        packet = client.only(Disconnect, client.publish("t", b"", 2, 4))
        assert packet.reason == Reason.RECEIVE_MAXIMUM_EXCEEDED  # [MQTT-3.3.4-7]
        assert client.closed


@pytest.mark.parametrize("qos", [1, 2])
def test_no_more_is_sent_than_the_client_can_take(qos: int) -> None:
    with house() as h:
        reader = h.connect("reader", properties={"receive_maximum": 2})
        writer = h.connect("writer")
        reader.subscribe("t", qos=qos)
        for number in range(5):
            writer.publish("t", b"%d" % number, qos)
        first = reader.messages()
        assert [m.payload for m in first] == [b"0", b"1"]  # [MQTT-3.3.4-9]
        if qos == 1:
            more = reader.ack(PUBACK, first[0].packet_id)
        else:
            assert [type(p) for p in reader.ack(PUBREC, first[0].packet_id)] == [Pubrel]
            more = reader.ack(PUBCOMP, first[0].packet_id)
        assert [p.payload for p in more if isinstance(p, Publish)] == [b"2"]


def test_topic_aliases_of_the_client() -> None:
    with house() as h:
        reader, client = h.connect("reader"), h.connect("c")
        reader.subscribe("#", qos=0)
        client.publish("first", b"1", 0, topic_alias=1)
        client.publish("", b"2", 0, topic_alias=1)
        client.publish("second", b"3", 0, topic_alias=1)  # a new meaning
        client.publish("", b"4", 0, topic_alias=1)
        assert [(m.topic, m.payload) for m in reader.messages()] == [
            ("first", b"1"),
            ("first", b"2"),
            ("second", b"3"),
            ("second", b"4"),
        ]


@pytest.mark.parametrize(
    ("topic", "properties", "reason"),
    [
        ("t", {"topic_alias": 101}, Reason.TOPIC_ALIAS_INVALID),
        ("", {"topic_alias": 5}, Reason.PROTOCOL_ERROR),
        ("", {}, Reason.PROTOCOL_ERROR),
        ("t", {"subscription_identifier": [1]}, Reason.PROTOCOL_ERROR),
        ("t", {"payload_format_indicator": 1}, Reason.PAYLOAD_FORMAT_INVALID),
    ],
)
def test_what_a_publish_may_not_say(topic: str, properties: dict[str, object], reason: int) -> None:
    with house() as h:
        client = h.connect("c")
        packet = client.only(Disconnect, client.publish(topic, b"\xff", 0, **properties))
        assert packet.reason == reason
        assert client.closed


def test_topic_aliases_to_the_client() -> None:
    with house() as h:
        reader = h.connect("reader", properties={"topic_alias_maximum": 1})
        writer = h.connect("writer")
        reader.subscribe("#", qos=0)
        for topic in ("a", "b", "a", "b"):
            writer.publish(topic, b"x", 0)
        got = [(m.topic, m.properties.get("topic_alias")) for m in reader.messages()]
        assert got == [("a", 1), ("b", None), ("", 1), ("b", None)]


def test_an_alias_is_not_learnt_from_a_packet_that_was_too_large() -> None:
    with house() as h:
        limits = {"topic_alias_maximum": 5, "maximum_packet_size": 100}
        reader, writer = h.connect("reader", properties=limits), h.connect("writer")
        reader.subscribe("#", qos=0)
        writer.publish("t", b"x" * 200, 0)
        writer.publish("t", b"small", 0)
        (message,) = reader.messages()
        assert (message.topic, message.payload) == ("t", b"small")


@pytest.mark.parametrize("qos", [0, 1])
def test_what_is_too_large_for_the_client_is_not_sent(qos: int) -> None:
    with house() as h:
        reader, writer = h.connect("reader", properties={"maximum_packet_size": 100}), h.connect("writer")
        reader.subscribe("t", qos=qos)
        writer.publish("t", b"x" * 100, qos)
        writer.publish("t", b"fits", qos)
        assert reader.bodies() == [b"fits"]  # [MQTT-3.1.2-24] [MQTT-3.1.2-25]
        assert h.gateway.broker.metrics.dropped_by_cause()["packet_too_large"] == 1


@pytest.mark.parametrize(
    ("limit", "properties", "cause"),
    [(0, {"message_expiry_interval": 0}, "expired"), (50, {"content_type": "x" * 60}, "packet_too_large")],
)
def test_a_live_message_that_is_not_sent_is_dropped_not_delivered(
    limit: int, properties: dict[str, object], cause: str
) -> None:
    with house() as h:
        reader = h.connect("reader", properties={"maximum_packet_size": limit} if limit else {})
        reader.subscribe("t", qos=0)
        h.connect("writer").publish("t", b"x", 0, **properties)
        assert reader.bodies() == []
        metrics = h.gateway.broker.metrics
        assert (metrics.copies, metrics.delivered, sum(metrics.dropped)) == (1, 0, 1)
        assert metrics.dropped_by_cause()[cause] == 1


def test_what_is_too_large_for_us_ends_the_connection() -> None:
    with house("limits.packet_bytes_max=200") as h:
        client = h.connect("c")
        packet = client.only(Disconnect, client.publish("t", b"x" * 200, 0))
        assert packet.reason == Reason.PACKET_TOO_LARGE


def test_expiry_counts_down_and_ends() -> None:
    with house() as h:
        session = {"session_expiry_interval": 1000}
        reader, writer = h.connect("reader", properties=session), h.connect("writer")
        reader.subscribe("t")
        reader.hang_up()
        writer.publish("t", b"lasts", message_expiry_interval=100)
        writer.publish("t", b"short", message_expiry_interval=5)
        h.wait(10)
        reader = h.connect("reader", clean=False, properties=session)
        (message,) = reader.messages()
        assert message.payload == b"lasts"  # [MQTT-3.3.2-5]
        assert message.properties["message_expiry_interval"] == 90  # [MQTT-3.3.2-6]


def test_properties_pass_through_unaltered() -> None:
    with house() as h:
        reader, writer = h.connect("reader"), h.connect("writer")
        reader.subscribe(SubscribeOption("t", 1))
        sent = {
            "content_type": "text/plain",
            "response_topic": "back/to/me",
            "correlation_data": b"\x00\xff",
            "payload_format_indicator": 1,
            "user_property": [("b", "2"), ("a", "1"), ("b", "3")],
        }
        writer.publish("t", b"text", **sent)
        (message,) = reader.messages()
        assert message.properties == sent  # [MQTT-3.3.2-17] [MQTT-3.3.2-18]


def test_retain_switched_off_is_refused_with_its_reason() -> None:
    with house("mqtt.retain_available=false") as h:
        client = h.connect("c")
        packet = client.only(Disconnect, client.publish("t", b"x", retain=True))
        assert packet.reason == Reason.RETAIN_NOT_SUPPORTED  # [MQTT-3.2.2-14]


@pytest.mark.parametrize(("version", "reason"), [(V311, 0), (V5, Reason.NOT_AUTHORIZED)])
def test_what_may_not_be_published_is_acknowledged_and_dropped(version: int, reason: int) -> None:
    with house() as h:
        client = h.connect("c", version)
        assert client.only(Puback, client.publish("$sys/mine")).reason == reason  # [MQTT-3.3.5-2]
        assert client.only(Pubrec, client.publish("$sys/mine", qos=2, packet_id=50)).reason == reason
        assert not client.closed
