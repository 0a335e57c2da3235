"""Messages to RocketMQ's and back: whatever a door has put in comes back from this one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import md5
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core import cloudevents
from gateway.core.deadletter import dead_letter
from gateway.core.delivery import Delivery, Group
from gateway.core.errors import InvalidValue
from gateway.core.message import Message, Origin, Properties
from gateway.core.metrics import DropCause
from gateway.core.policy import QueuePolicy
from gateway.core.queue import Queue
from gateway.protocols.amqp import translate as amqp
from gateway.protocols.amqp.properties import decode_list
from gateway.protocols.mqtt import translate as mqtt
from gateway.protocols.openmessaging import translate
from gateway.rocketmq.numbers import DigestType, Encoding, MessageType
from gateway.rocketmq.schema import CLASSES, Resource

NOW_MS = 1_700_000_000_000
TOPIC = Resource(name="orders%2Feu")
MessageClass = CLASSES["Message"]


def to_wire(made: Properties, topic: str = "orders/eu", **fields: Any) -> Any:
    """Return what a consumer gets, by way of the bytes on the wire."""
    message = Message(topic, b"body", properties=made, timestamp_ms=NOW_MS, **fields)
    wire = MessageClass()
    translate.from_message(wire, message, TOPIC, "orders/eu", 4711, 7, NOW_MS)
    return MessageClass.FromString(wire.SerializeToString())


def there_and_back(made: Properties) -> Properties:
    found, ttl_ms = translate.to_properties(to_wire(made))
    assert ttl_ms == 0
    return found


def sorted_headers(made: Properties) -> list[tuple[str, str]]:
    """Return headers in an order that names give; values as text, as nan is not itself."""
    return sorted(((name, repr(value)) for name, value in made.headers), key=lambda pair: pair[0])


# -- a table of fields ----------------------------------------------------------------------------

#: Attribute, value, and (field of the system properties, or user property; what it holds).
FIELDS: list[tuple[str, Any, str, Any]] = [
    ("message_id", "0100", "message_id", "0100"),
    ("tag", "red", "tag", "red"),
    ("keys", ("a", "b c"), "keys", ["a", "b c"]),
    ("key", "customer-7", "message_group", "customer-7"),
    ("traceparent", "00-ab-cd-01", "trace_context", "00-ab-cd-01"),
    ("priority", 9, "priority", 9),
    ("priority", 0, "priority", 0),
    ("priority", 1 << 31, "$priority", "2147483648"),
    ("content_type", "text/plain", "$content-type", "text/plain"),
    ("content_encoding", "gzip", "$content-encoding", "gzip"),
    ("correlation", "é".encode(), "$correlation", "é"),
    ("correlation", b"\xff", "$correlation", "/w=="),
    ("reply_to", "answers/1", "$reply-to", "answers/1"),
    ("idempotency_key", "once", "$idempotency-key", "once"),
    ("text", True, "$text", "true"),
    ("timestamp_ms", 253_402_300_800_000, "$timestamp-ms", "253402300800000"),
    ("deliver_at_ms", 253_402_300_800_000, "$deliver-at-ms", "253402300800000"),
]


@pytest.mark.parametrize(("attribute", "value", "field", "held"), FIELDS)
def test_what_a_message_says_has_a_field_or_a_property(
    attribute: str, value: Any, field: str, held: Any
) -> None:
    made = Properties(**{attribute: value})
    wire = to_wire(made)
    shown = wire.user_properties if field.startswith("$") else None
    found = shown[field] if shown is not None else getattr(wire.system_properties, field)
    assert (list(found) if isinstance(held, list) else found) == held
    back = there_and_back(made)
    assert getattr(back, attribute) == value
    assert back.headers == ()


@pytest.mark.parametrize("attribute", ["timestamp_ms", "deliver_at_ms"])
@pytest.mark.parametrize("ms", [0, 1, 1_700_000_000_123, 253_402_300_799_999])
def test_times_have_milliseconds(attribute: str, ms: int) -> None:
    assert getattr(there_and_back(Properties(**{attribute: ms})), attribute) == ms


TYPES = [
    (Properties(), MessageType.NORMAL),
    (Properties(key="k"), MessageType.FIFO),
    (Properties(deliver_at_ms=1), MessageType.DELAY),
    (Properties(priority=1), MessageType.PRIORITY),
]


@pytest.mark.parametrize(("made", "kind"), TYPES)
def test_a_message_has_a_type(made: Properties, kind: MessageType) -> None:
    assert to_wire(made).system_properties.message_type == kind


def test_what_clients_ask_of_every_message() -> None:
    wire = to_wire(Properties(), origin=Origin("mqtt", peer="192.0.2.7:4711"))
    system = wire.system_properties
    assert (wire.topic.name, wire.body) == ("orders%2Feu", b"body")
    assert system.message_id == "4711"  # where it is in the log
    assert system.body_encoding == Encoding.IDENTITY
    assert system.body_digest.type == DigestType.MD5
    assert system.body_digest.checksum == md5(b"body").hexdigest().upper()
    assert system.born_host == "192.0.2.7"
    assert system.store_host
    assert system.born_timestamp.ToMilliseconds() == NOW_MS
    assert system.store_timestamp.ToMilliseconds() == NOW_MS
    assert system.queue_offset == 7


def test_a_delivery_has_its_handle_and_its_attempt() -> None:
    delivery = Delivery(a_group(), 3, 0, Message("orders/eu", b""), 0, attempt=2)
    wire = MessageClass()
    translate.from_delivery(wire, delivery, TOPIC, "orders/eu", "handle", 30_500, NOW_MS)
    system = wire.system_properties
    assert (system.receipt_handle, system.delivery_attempt) == ("handle", 2)
    assert system.invisible_duration.ToMilliseconds() == 30_500
    assert system.message_id == "0-3"  # nowhere in the log
    assert not system.HasField("dead_letter_queue")


def a_group(name: str = "$share/g/orders/eu") -> Group:
    class Named:
        def __init__(self) -> None:
            self.name = name
            self.policy = QueuePolicy()

    queue: Queue = Named()  # type: ignore[assignment]
    return Group(queue)


def test_another_topic_than_was_asked_for_is_told() -> None:
    assert to_wire(Properties(), "orders/us").user_properties["$topic"] == "orders/us"
    assert "$topic" not in to_wire(Properties()).user_properties


def test_a_message_expires() -> None:
    wire = to_wire(Properties(), expires_at_ms=NOW_MS + 1500)
    assert wire.user_properties["$ttl"] == "1.5"
    assert translate.to_properties(wire)[1] == 1500


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "nan", "1e3", "99999999999", "1.2.3"])
def test_a_time_to_live_that_is_none(text: str) -> None:
    with pytest.raises(InvalidValue, match="ttl"):
        translate.to_properties(MessageClass(user_properties={"$ttl": text}))


def test_a_delay_is_a_wish() -> None:
    assert translate.to_properties(MessageClass(user_properties={"$delay": "1.5"}))[0].delay_ms == 1500
    assert translate.to_properties(MessageClass(user_properties={"$delay": "soon"}))[0].delay_ms < 0


def test_a_parked_number_that_is_none() -> None:
    with pytest.raises(InvalidValue, match="priority"):
        translate.to_properties(MessageClass(user_properties={"$priority": "high"}))


def test_the_python_client_writes_milliseconds_as_seconds() -> None:
    wire = MessageClass()
    wire.system_properties.delivery_timestamp.seconds = NOW_MS
    assert translate.to_properties(wire)[0].deliver_at_ms == NOW_MS


# -- headers ----------------------------------------------------------------------------------------

NAMES = [
    "KEYS",
    "TTL",
    "$ttl",
    "$topic",
    "$content-type",
    "$type:a",
    "$header:a",
    "$header:$header:",
    "$x",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_header_may_be_called_as_it_likes(name: str) -> None:
    made = Properties(headers=((name, "v"),), content_type="text/plain")
    back = there_and_back(made)
    assert (back.headers, back.content_type) == (made.headers, "text/plain")
    assert translate.RESERVED.isdisjoint(to_wire(made).user_properties)


def test_a_header_that_is_there_twice() -> None:
    made = Properties(headers=(("b", "1"), ("a", b"\xff"), ("b", 2), ("b", None)))
    assert sorted_headers(there_and_back(made)) == sorted_headers(made)


def test_somebody_elses_types_are_texts() -> None:
    user = {"a": "x", "$type:a": "int", "b": "{", "$type:b": "repeated", "c": "{}", "$type:c": "repeated"}
    found = translate.to_properties(MessageClass(user_properties=user))[0]
    assert found.headers == (("a", "x"), ("b", "{"), ("c", "{}"))


def test_a_text_that_is_no_utf_8_is_no_reason_to_fail() -> None:
    made = Properties(key="\ud800", keys=("a", "\udfff"), headers=(("h\ud800", "\ud800"), ("n", 1)))
    wire = to_wire(made)
    assert wire.system_properties.message_group == "?"
    assert list(wire.system_properties.keys) == ["a", "?"]
    assert dict(wire.user_properties) == {"h?": "?", "n": "1", "$type:n": "int"}


seconds = st.integers(0, 4_000_000_000).map(lambda n: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=n))
decimals = st.builds(Decimal, st.integers(-(2**31), 2**31 - 1)).map(lambda value: value.scaleb(-2))
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats() | decimals
scalars = st.none() | st.booleans() | numbers | st.text(max_size=9) | st.binary(max_size=9) | seconds
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
names = st.text(max_size=4) | st.sampled_from(NAMES)
texts = st.none() | st.text(min_size=1, max_size=9)
times = st.none() | st.integers(0, 1 << 59)
properties = st.builds(
    Properties,
    content_type=texts,
    content_encoding=texts,
    correlation=st.none() | st.binary(max_size=9),
    reply_to=texts,
    message_id=st.text(min_size=1, max_size=9),
    timestamp_ms=st.integers(0, 1 << 59),
    priority=st.none() | st.integers(0, 1 << 40),
    key=texts,
    tag=texts,
    keys=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    deliver_at_ms=times,
    traceparent=texts,
    text=st.booleans(),
    idempotency_key=texts,
    headers=st.lists(st.tuples(names, values), max_size=6).map(tuple),
)


@given(made=properties)
@example(made=Properties(message_id="m", timestamp_ms=0, headers=(("a", float("nan")), ("a", []), ("", {}))))
def test_nothing_is_lost(made: Properties) -> None:
    back = there_and_back(made)
    assert sorted_headers(back) == sorted_headers(made)
    back.headers = made.headers = ()
    assert back == made


plain = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9)
user_headers = st.dictionaries(plain.filter(lambda name: name[0] != "$" and name != "traceparent"), plain)


@given(headers=user_headers, key=plain, tag=plain, trace=plain, keys=st.lists(plain.map(hash).map(str)))
def test_by_mqtt_and_by_amqp(
    headers: dict[str, str], key: str, tag: str, trace: str, keys: list[str]
) -> None:
    """A RocketMQ message goes out at another door, comes in there again, and is the same for RocketMQ."""
    wire = MessageClass(user_properties=headers)
    system = wire.system_properties
    system.message_id, system.message_group, system.tag, system.trace_context = "m", key, tag, trace
    system.keys.extend(keys)
    system.born_timestamp.FromMilliseconds(NOW_MS)
    made = translate.to_properties(wire)[0]
    by_mqtt = mqtt.to_properties(mqtt.from_properties(made)[0])
    listed = amqp.from_properties("/", Message("t", b"", properties=made), NOW_MS)
    by_amqp = amqp.to_properties("/", b"\0\0", listed, decode_list(listed))
    for other in (by_mqtt, by_amqp):
        back = to_wire(other)
        assert dict(back.user_properties) == headers
        for field in ("message_id", "message_group", "tag", "trace_context", "keys", "born_timestamp"):
            assert getattr(back.system_properties, field) == getattr(system, field)


# -- events and letters -----------------------------------------------------------------------------

EVENT = {"CE_specversion": "1.0", "CE_id": "1", "CE_source": "/s", "CE_type": "t", "CE_partitionkey": "p"}


def test_an_event_by_the_names_of_its_binding() -> None:
    user = {**EVENT, "CE_contenttype": "application/json", "other": "x", "$header:CE_mine": "y"}
    made = translate.to_properties(MessageClass(user_properties=user))[0]
    attributes = cloudevents.attributes_of(made)
    assert attributes == {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "partitionkey": "p"}
    assert (made.content_type, made.key) == ("application/json", "p")
    assert cloudevents.others_of(made) == (("CE_mine", "y"), ("other", "x"))
    shown = dict(to_wire(made).user_properties)
    assert shown == {**user, "$content-type": "application/json"}


def test_a_structured_event_by_the_name_of_its_binding() -> None:
    kind = "application/cloudevents+json"
    made = translate.to_properties(MessageClass(user_properties={"CE_contenttype": kind}))[0]
    assert (made.content_type, made.headers) == (kind, ())
    assert dict(to_wire(made).user_properties) == {"$content-type": kind, "CE_contenttype": kind}
    other = translate.to_properties(MessageClass(user_properties={"CE_contenttype": "text/plain"}))[0]
    assert (other.content_type, other.headers) == (None, (("CE_contenttype", "text/plain"),))


def test_an_event_without_data() -> None:
    made = translate.to_properties(MessageClass(user_properties=EVENT))[0]
    assert translate.data_of(made, b"\0") == b""
    assert translate.data_of(made, b"\0\0") == b"\0\0"
    assert translate.data_of(Properties(), b"\0") == b"\0"
    made.content_type = "image/x-thing"
    assert translate.data_of(made, b"\0") == b"\0"


def test_what_is_no_event_has_headers() -> None:
    user = {name: value for name, value in EVENT.items() if name != "CE_id"}
    made = translate.to_properties(MessageClass(user_properties=user))[0]
    assert dict(made.headers) == user
    assert dict(to_wire(made).user_properties) == user


def test_a_dead_letter_says_what_it_was() -> None:
    made = Properties(message_id="m-1", key="k")
    delivery = Delivery(a_group(), 3, 9, Message("orders/eu", b"x", properties=made), 1, attempt=17)
    letter = dead_letter(delivery, "$dead/$share/g/orders/eu", DropCause.DELIVERY_LIMIT, NOW_MS, "no")
    wire = to_wire(letter.properties, letter.topic)
    assert wire.system_properties.dead_letter_queue.topic == "orders%2Feu"
    assert wire.system_properties.dead_letter_queue.message_id == "m-1"
    assert wire.user_properties["dead-letter-reason"] == "no"
    assert wire.user_properties["dead-letter-attempts"] == "17"
