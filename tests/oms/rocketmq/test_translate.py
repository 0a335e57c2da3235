"""Messages there and back, names, and what strangers have sent."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("google.protobuf")

from hypothesis import given
from hypothesis import strategies as st

from gateway.oms import Message, OMSMessageFormatError
from gateway.oms.drivers.rocketmq.translate import (
    BORN_HOST,
    EXPIRES,
    from_wire,
    queue_of,
    resource_of,
    to_wire,
)
from gateway.oms.fields import prepare_to_send
from gateway.oms.message import MessageFactory
from gateway.rocketmq.names import SYSTEM_TOPICS
from gateway.rocketmq.numbers import DigestType, Encoding, MessageType
from gateway.rocketmq.payload import compress, digest
from gateway.rocketmq.properties import RESERVED
from gateway.rocketmq.schema import Resource

TOPIC = resource_of("ns", "q")
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.binary(max_size=20),
)
make = MessageFactory().create_message


def sent(message: Message, half: bool = False) -> Message:
    """Return a message as it comes to a consumer."""
    prepare_to_send(message)
    return from_wire(to_wire(message, TOPIC, half), "q")


@given(st.dictionaries(TEXTS.filter(lambda name: not name.startswith(("$", "oms-"))), VALUES, max_size=5))
def test_properties_come_back_with_their_types(properties: dict[str, str]) -> None:
    got = sent(make("q", "x", properties=properties))
    assert dict(got.properties) == properties
    assert [type(value) for value in got.properties.values()] == [
        type(properties[name]) for name in got.properties
    ]


@pytest.mark.parametrize("name", sorted(RESERVED)[:3])
def test_reserved_names_come_back(name: str) -> None:
    message = make("q", "x", properties={name: "mine", "other": 1})
    prepare_to_send(message)
    assert not RESERVED & set(to_wire(message, TOPIC).user_properties)
    assert dict(sent(message).properties) == {name: "mine", "other": 1}


def test_header_and_extension_come_back() -> None:
    message = make(
        "q",
        b"\x00\xff" * 50,
        qos=1,
        durability=1,
        priority=10,
        compression="gzip",
        message_key="k",
        correlation_id="c",
        delay_time=1500,
        trace_id="t",
        partition=3,
        tag="a",
        search_keys=("x", "y z"),
    )
    got = sent(message)
    assert got.data == message.data
    assert not got.has_properties
    for name in ("born_timestamp", "born_host", "qos", "durability", "priority", "compression"):
        assert getattr(got.header, name) == getattr(message.header, name), name
    for name in (
        "message_key",
        "correlation_id",
        "delay_time",
        "trace_id",
        "partition",
        "tag",
        "search_keys",
    ):
        assert getattr(got.extension_header, name) == getattr(message.extension_header, name), name
    assert (got.header.delivery_count, len(got.header.message_id)) == (1, 34)


def test_expiry() -> None:
    at = int(time.time() * 1000) + 60_000
    message = make("q", "x", expire_time=at)
    assert sent(message).extension_header.expire_time == at
    wire = to_wire(message, TOPIC)
    del wire.user_properties[EXPIRES]  # somebody else's message: what is left is known
    assert abs((from_wire(wire, "q").extension_header.expire_time or 0) - at) < 10_000


def test_a_transaction_is_known_by_the_message() -> None:
    got = sent(make("q", "x"), half=True)
    assert got.extension_header.transaction_id == got.header.message_id


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, MessageType.NORMAL),
        ({"priority": 3}, MessageType.PRIORITY),
        ({"message_key": "k", "priority": 3}, MessageType.FIFO),
        ({"message_key": "k", "delay_time": 5}, MessageType.DELAY),
    ],
)
def test_types(fields: dict[str, object], kind: MessageType) -> None:
    message = make("q", "x", **fields)
    prepare_to_send(message)
    assert to_wire(message, TOPIC).system_properties.message_type == kind
    assert to_wire(message, TOPIC, half=True).system_properties.message_type == MessageType.TRANSACTION


def test_only_gzip_is_known() -> None:
    with pytest.raises(OMSMessageFormatError):
        sent(make("q", "x", compression="zip"))


@pytest.mark.parametrize(("kind", "checksum"), [(DigestType.CRC32, "0"), (9, "0")])
def test_a_body_that_is_not_what_was_sent(kind: int, checksum: str) -> None:
    message = make("q", "x")
    prepare_to_send(message)
    wire = to_wire(message, TOPIC)
    wire.system_properties.body_digest.type = kind
    wire.system_properties.body_digest.checksum = checksum
    with pytest.raises(OMSMessageFormatError):
        from_wire(wire, "q")


def test_a_body_that_is_no_gzip() -> None:
    message = make("q", "x")
    prepare_to_send(message)
    wire = to_wire(message, TOPIC)
    wire.system_properties.body_encoding = Encoding.GZIP
    with pytest.raises(OMSMessageFormatError):
        from_wire(wire, "q")
    wire.body = compress(b"plain")
    wire.system_properties.body_digest.type = DigestType.MD5
    wire.system_properties.body_digest.checksum = digest(DigestType.MD5, wire.body)
    assert from_wire(wire, "q").data == b"plain"


def test_what_others_mean_by_our_names_stays_theirs() -> None:
    message = make("q", "x")
    prepare_to_send(message)
    wire = to_wire(message, TOPIC)
    del wire.user_properties[BORN_HOST]
    theirs = {
        "$ttl": "soon",
        "oms-qos": "best",
        "oms-durability": "9",
        "oms-partition": "-1",
        "oms-expire-time": "tomorrow",
        "$content-encoding": "br",
        "$idempotency-key": "k",
        "$type:n": "int",
        "n": "five",
        "$type:alone": "int",
        "$correlation": "AP8=",
        "$type:$correlation": "bytes",
    }
    for name, text in theirs.items():
        wire.user_properties[name] = text
    got = from_wire(wire, "q")
    del theirs["$type:n"], theirs["$type:$correlation"]
    assert dict(got.properties) == {**theirs, "$correlation": b"\x00\xff"}
    assert got.extension_header.correlation_id is None


@given(TEXTS, st.sampled_from(["", "shop", "a/b"]))
def test_names_come_back(queue: str, namespace: str) -> None:
    if queue in SYSTEM_TOPICS:
        return
    assert queue_of(resource_of(namespace, queue)) == (f"{namespace}://{queue}" if namespace else queue)


def test_what_a_group_has_besides_is_called_as_rocketmq_calls_it() -> None:
    assert resource_of("", "%DLQ%a.b").name == "%DLQ%a%2Eb"
    assert queue_of(resource_of("", "%RETRY%g")) == "%RETRY%g"
    assert queue_of(Resource(name="100%")) == "100%"
