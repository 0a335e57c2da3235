"""Our MQTT 5 codec against an independent one: each reads what the other wrote and finds the same in it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscribeOption,
    Unsuback,
    Unsubscribe,
    Will,
)
from tests.protocols.mqtt.codec_cases import encode
from tests.protocols.mqtt.codec_strategies import connects, packets

mqtt5 = pytest.importorskip("mqtt5", reason="the independent MQTT 5 codec `mqtt5` is not installed")

# Our name -> theirs, where they differ.
THEIR_NAMES = {
    "subscription_identifier": "subscription_ids",
    "assigned_client_identifier": "assigned_client_id",
    "request_problem_information": "request_problem_info",
    "request_response_information": "request_response_info",
    "response_information": "response_info",
    "reason_string": "reason_str",
    "receive_maximum": "receive_max",
    "topic_alias_maximum": "topic_alias_max",
    "maximum_qos": "max_qos",
    "user_property": "user_properties",
    "maximum_packet_size": "max_packet_size",
    "subscription_identifier_available": "subscription_id_available",
}
PROPERTY_NAMES = [
    *THEIR_NAMES,
    "payload_format_indicator",
    "message_expiry_interval",
    "content_type",
    "response_topic",
    "correlation_data",
    "session_expiry_interval",
    "server_keep_alive",
    "authentication_method",
    "authentication_data",
    "will_delay_interval",
    "server_reference",
    "topic_alias",
    "retain_available",
    "wildcard_subscription_available",
    "shared_subscription_available",
]
# They give a property its default where it is absent, so that the two cannot be told apart.
DEFAULTS: Properties = {
    "payload_format_indicator": 0,
    "session_expiry_interval": 0,
    "will_delay_interval": 0,
    "request_problem_information": 1,
    "request_response_information": 0,
    "receive_maximum": 65_535,
    "topic_alias_maximum": 0,
    "maximum_qos": 2,
    "retain_available": 1,
    "wildcard_subscription_available": 1,
    "subscription_identifier_available": 1,
    "shared_subscription_available": 1,
}


def without_defaults(properties: Properties) -> Properties:
    kept = {name: value for name, value in properties.items() if value not in (None, [], DEFAULTS.get(name))}
    return dict(sorted(kept.items()))


def simplified(packet: Any) -> Any:
    packet.properties = without_defaults(packet.properties)
    if isinstance(packet, Connect) and packet.will is not None:
        packet.will.properties = without_defaults(packet.will.properties)
    return packet


def properties_of(theirs: Any) -> Properties:
    names = {name: THEIR_NAMES.get(name, name) for name in PROPERTY_NAMES}
    found = {name: getattr(theirs, their) for name, their in names.items() if hasattr(theirs, their)}
    if getattr(theirs, "subscription_id", None) is not None:
        found["subscription_identifier"] = [theirs.subscription_id]
    return without_defaults(found)


def translated(theirs: Any) -> Packet:
    """Return their packet as ours."""
    properties = properties_of(theirs)
    name = type(theirs).__name__.removesuffix("Packet")
    ack = {"PubAck": Puback, "PubRec": Pubrec, "PubRel": Pubrel, "PubComp": Pubcomp}.get(name)
    if ack is not None:
        return ack(theirs.packet_id, int(theirs.reason_code), properties)
    match name:
        case "Connect":
            will = None
            if theirs.will is not None:
                of = theirs.will
                will = Will(of.topic, of.payload or b"", int(of.qos), of.retain, properties_of(of))
            who = theirs.username, theirs.password
            return Connect(5, theirs.client_id, theirs.clean_start, theirs.keep_alive, *who, will, properties)
        case "ConnAck":
            return Connack(theirs.session_present, int(theirs.reason_code), properties)
        case "Publish":
            flags = int(theirs.qos), theirs.retain, theirs.duplicate
            return Publish(theirs.topic, theirs.payload, *flags, theirs.packet_id or 0, properties)
        case "Subscribe":
            options = [
                SubscribeOption(
                    of.pattern, int(of.max_qos), of.no_local, of.retain_as_published, int(of.retain_handling)
                )
                for of in theirs.topic_filters
            ]
            return Subscribe(theirs.packet_id, options, properties)
        case "SubAck":
            return Suback(theirs.packet_id, [int(code) for code in theirs.reason_codes], properties)
        case "Unsubscribe":
            return Unsubscribe(theirs.packet_id, theirs.patterns, properties)
        case "UnsubAck":
            return Unsuback(theirs.packet_id, [int(code) for code in theirs.reason_codes], properties)
        case "Disconnect":
            return Disconnect(int(theirs.reason_code), properties)
        case "Auth":
            return Auth(int(theirs.reason_code), properties)
    return {"PingReq": Pingreq, "PingResp": Pingresp}[name]()


def check(packet: Packet, server: bool) -> None:
    wire = encode(5, packet)
    theirs, size = mqtt5.read(memoryview(wire))
    assert size == len(wire)
    expected = simplified(packet) if hasattr(packet, "properties") else packet
    assert translated(theirs) == expected
    decoder = Decoder(0 if isinstance(packet, Connect) else 5, server=server)
    [back] = decoder.feed(theirs.write())
    assert (simplified(back) if hasattr(back, "properties") else back) == expected


@settings(max_examples=150)
@given(connects(5))
def test_connect_is_read_alike(packet: Packet) -> None:
    check(packet, server=True)


@settings(max_examples=300)
@given(st.data(), st.booleans())
def test_every_packet_is_read_alike(data: st.DataObject, server: bool) -> None:
    # They want a property length in every AUTH, where the standard lets it be left out (section 3.15.2.1).
    check(data.draw(packets(5, server).filter(lambda packet: packet != Auth())), server)
