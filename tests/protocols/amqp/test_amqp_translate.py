"""Properties to the model's and back: by AMQP and out again, by another door and back again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.errors import InvalidTopic
from gateway.core.message import HEADER_READERS, NO_PROPERTIES, Headers, Message, Properties
from gateway.core.topic import check_topic
from gateway.protocols.amqp import translate
from gateway.protocols.amqp.errors import SyntaxFault
from gateway.protocols.amqp.methods import shortstr
from gateway.protocols.amqp.properties import Basic, decode_list, encode_list
from gateway.protocols.amqp.tables import Table, decode_table, encode_table

NOW_MS = 1_700_000_000_000
ADDRESS = shortstr("x") + shortstr("k.l")
FULL: dict[str, Any] = {
    "content_type": b"text/plain",
    "content_encoding": b"gzip",
    "headers": encode_table({"a": 1, "b": "é"}),
    "delivery_mode": 2,
    "priority": 9,
    "correlation_id": b"c-1",
    "reply_to": b"answers",
    "expiration": b"60000",
    "message_id": b"m-1",
    "timestamp": 1_700_000_000,
    "type": b"order",
    "user_id": b"guest",
    "app_id": b"shop",
    "cluster_id": b"c",
}


def basic_of(fields: dict[str, Any]) -> Basic:
    basic = Basic()
    for name, value in fields.items():
        setattr(basic, name, value)
    return basic


def fields_of(basic: Basic) -> dict[str, Any]:
    """Return what is there, headers as a table."""
    found = {name: getattr(basic, name) for name in Basic.__slots__ if getattr(basic, name) is not None}
    if "headers" in found:
        found["headers"] = decode_table(found["headers"])[0]
    return found


def to_model(basic: Basic, vhost: str = "/") -> Properties:
    return translate.to_properties(vhost, ADDRESS, encode_list(basic), basic)


def to_amqp(made: Properties, vhost: str = "/", qos: int = 0, expires_ms: int = 0) -> Basic:
    """Return what another door's message with these properties is to an AMQP client."""
    expires_at_ms = NOW_MS + expires_ms if expires_ms else 0
    message = Message("t", b"", qos, properties=made, expires_at_ms=expires_at_ms)
    return decode_list(translate.from_properties(vhost, message, NOW_MS))


def there_and_back(made: Properties, vhost: str = "/") -> Properties:
    return to_model(to_amqp(made, vhost), vhost)


# -- by AMQP, and out again ---------------------------------------------------------------------


def by_amqp(fields: dict[str, Any], vhost: str = "/") -> dict[str, Any]:
    """Return the fields after they were the model's. Delivery mode and expiration are the message's."""
    made = to_model(basic_of(fields), vhost)
    qos = 1 if fields.get("delivery_mode") == 2 else 0
    return fields_of(to_amqp(made, vhost, qos, int(fields.get("expiration", 0))))


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("vhost", ["/", "v"])
def test_each_property_comes_back(name: str, vhost: str) -> None:
    fields = {name: FULL[name]}
    assert by_amqp(fields, vhost) == fields_of(basic_of(fields))


def test_all_properties_come_back() -> None:
    assert set(FULL) == set(Basic.__slots__)
    assert by_amqp(FULL) == fields_of(basic_of(FULL))
    assert by_amqp({}) == {}


EMPTY = [
    name for name, value in FULL.items() if isinstance(value, bytes) and name not in ("headers", "expiration")
]


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("value", [b"", b"x" * 255, "☃".encode()])
def test_short_strings_of_any_length_come_back(name: str, value: bytes) -> None:
    assert by_amqp({name: value}) == {name: value}


def test_the_model_has_them_under_its_own_names() -> None:
    made = to_model(basic_of(FULL))
    assert made == Properties(
        content_type="text/plain",
        content_encoding="gzip",
        correlation=b"c-1",
        reply_to="$queue/answers",
        message_id="m-1",
        timestamp_ms=1_700_000_000_000,
        priority=9,
        headers=(
            ("$amqp-type", "order"),
            ("$amqp-user-id", "guest"),
            ("$amqp-app-id", "shop"),
            ("$amqp-cluster-id", "c"),
            ("a", 1),
            ("b", "é"),
        ),
    )
    assert (made.native, made.native_format) == (ADDRESS + encode_list(basic_of(FULL)), "amqp")


def test_what_is_no_text_is_shown_as_well_as_can_be() -> None:
    made = to_model(basic_of({"content_type": b"\xff", "type": b"\xffa", "correlation_id": b"\xff"}))
    assert (made.content_type, made.header("$amqp-type"), made.correlation) == ("\ufffd", "\ufffda", b"\xff")


def test_a_time_that_is_too_late_is_the_last() -> None:
    assert to_model(basic_of({"timestamp": 2**64 - 1})).timestamp_ms == 2**63 - 1


seconds = st.integers(0, 4_000_000_000).map(lambda n: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=n))
decimals = st.builds(Decimal, st.integers(-(2**31), 2**31 - 1)).map(lambda value: value.scaleb(-2))
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | decimals
scalars = st.none() | st.booleans() | numbers | st.text(max_size=9) | st.binary(max_size=9) | seconds
own_names = st.text(max_size=20).filter(lambda name: not name.startswith("$") and name != "traceparent")
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
tables = st.dictionaries(own_names, values, max_size=6)


@given(table=tables)
@example(table={"a": None, "b": [], "c": {}, "d": b"\xff", "e": "", "f": -0.0})
@example(table={"$": 1, "$x": "$key", "x$repeated": []})
def test_headers_of_every_type_come_back(table: Table) -> None:
    fields = {"headers": encode_table(table)}
    assert dict(to_model(basic_of(fields)).headers) == table
    assert by_amqp(fields).get("headers", {}) == table


# -- headers are read when somebody asks ----------------------------------------------------------


def test_headers_stay_as_they_came_until_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def reader(native: bytes) -> Headers:
        asked.append(native)
        return translate.read_headers(native)

    monkeypatch.setitem(HEADER_READERS, translate.NATIVE, reader)
    made = to_model(basic_of(FULL))
    assert made.native_headers
    assert asked == []
    assert made.header("a") == 1
    assert made.headers == made.headers
    assert asked == [made.native]


BROKEN = b"\0\0\0\x05\x01kZ\0\0"
BROKEN_AND_OURS = b"\0\0\0\x08\x04$keyZ\0\0"


def test_headers_that_cannot_be_read_go_from_amqp_to_amqp_only() -> None:
    made = to_model(basic_of({"headers": BROKEN, "type": b"t"}))
    assert made.native is not None
    assert made.native_headers
    assert made.headers == ()
    with pytest.raises(SyntaxFault):
        translate.read_headers(made.native)
    address, raw = translate.native_of("/", Message("x/k/l", b"", properties=made), NOW_MS)
    assert (address, decode_list(raw).headers) == (ADDRESS, BROKEN)


def test_headers_that_may_be_ours_are_read_at_once() -> None:
    with pytest.raises(SyntaxFault):
        to_model(basic_of({"headers": BROKEN_AND_OURS}))


def test_amqp_clients_get_what_amqp_clients_sent() -> None:
    made = to_model(basic_of(FULL))
    message = Message("any", b"", properties=made, expires_at_ms=NOW_MS + 1)
    assert translate.native_of("/", message, NOW_MS) == (ADDRESS, encode_list(basic_of(FULL)))


@pytest.mark.parametrize(("qos", "fields"), [(0, {}), (1, {"delivery_mode": 2}), (2, {"delivery_mode": 2})])
def test_a_message_that_says_nothing(qos: int, fields: dict[str, Any]) -> None:
    address, raw = translate.native_of("/", Message("a/b", b"", qos, properties=NO_PROPERTIES), NOW_MS)
    assert address == shortstr("amq.topic") + shortstr("a.b")
    assert fields_of(decode_list(raw)) == fields


@pytest.mark.parametrize(("expires_ms", "shown"), [(60_000, b"60000"), (-5, b"0")])
def test_what_expires_says_how_long_it_has(expires_ms: int, shown: bytes) -> None:
    assert to_amqp(NO_PROPERTIES, expires_ms=expires_ms).expiration == shown


ADDRESSES = [
    ("/", "a/b.c", "amq.topic", "a.b/c"),
    ("/", "$queue/q", "", "q"),
    ("/", "$queue/%24q", "", "$q"),
    ("/", "$sys/x", "amq.topic", "$topic/$sys/x"),
    ("v", "$vhost/v/a/b", "amq.topic", "a.b"),
    ("v", "a/b", "amq.topic", "$topic/a/b"),
    ("v", "$queue/$vhost/v/q", "", "q"),
]


@pytest.mark.parametrize(("vhost", "topic", "exchange", "key"), ADDRESSES)
def test_a_topic_is_an_address(vhost: str, topic: str, exchange: str, key: str) -> None:
    address = translate.address_of(vhost, topic)
    assert address == shortstr(exchange) + shortstr(key)
    assert translate.address_end(address + b"\xff") == len(address)


# -- by another door, and back again --------------------------------------------------------------

LONG = "é" * 200
#: Attribute, value, the header it travels in, what the header holds, what is left of the property.
AS_HEADERS: list[tuple[str, Any, str, Any, dict[str, Any]]] = [
    # what AMQP has no property for
    ("key", "k", "$key", "k", {}),
    ("tag", "t", "$tag", "t", {}),
    ("keys", ("a", "b"), "$keys", ["a", "b"], {}),
    ("deliver_at_ms", 1_700_000_000_001, "$deliver-at-ms", 1_700_000_000_001, {}),
    ("traceparent", "00-ab-cd-01", "traceparent", "00-ab-cd-01", {}),
    ("text", True, "$text", True, {}),
    ("idempotency_key", "order-1", "$idempotency-key", "order-1", {}),
    # what its property cannot hold
    ("content_type", LONG, "$content-type", LONG, {}),
    ("content_encoding", LONG, "$content-encoding", LONG, {}),
    ("message_id", LONG, "$message-id", LONG, {}),
    ("correlation", LONG.encode(), "$correlation", LONG.encode(), {}),
    ("correlation", b"\xff\xfe", "$correlation", b"\xff\xfe", {}),
    ("reply_to", LONG, "$reply-to", LONG, {}),
    ("reply_to", "$queue/" + LONG, "$reply-to", "$queue/" + LONG, {}),
    ("timestamp_ms", 1500, "$timestamp-ms", 1500, {"timestamp": 1}),
    ("priority", 256, "$priority", 256, {"priority": 255}),
]


@pytest.mark.parametrize(("name", "value", "header", "held", "left"), AS_HEADERS)
def test_what_has_no_property_is_a_header(
    name: str, value: Any, header: str, held: Any, left: dict[str, Any]
) -> None:
    made = Properties(**{name: value})
    assert fields_of(to_amqp(made)) == {**left, "headers": {header: held}}
    assert there_and_back(made) == made
    assert there_and_back(made).headers == (), "it is no header of the application's"


def test_the_table_has_every_name() -> None:
    assert {header for _, _, header, _, _ in AS_HEADERS} == {
        *translate.PARKED.values(),
        *translate.OVERSIZE.values(),
    }


@pytest.mark.parametrize("name", ["$amqp-type", "$amqp-user-id", "$amqp-app-id", "$amqp-cluster-id"])
@pytest.mark.parametrize("value", ["", "x", "x" * 255, "x" * 256, LONG, 5, None, b"x"])
def test_headers_that_are_properties_of_amqp_come_back(name: str, value: Any) -> None:
    made = Properties(headers=((name, value), ("other", 1)))
    fields = fields_of(to_amqp(made))
    is_short = isinstance(value, str) and len(value.encode()) <= 255
    assert (name not in fields["headers"]) == is_short
    assert dict(there_and_back(made).headers) == dict(made.headers)


REPEATED: list[Headers] = [
    (("a", 1), ("a", 2)),
    (("a", 1), ("a", 1), ("a", 1)),
    (("a", "x"), ("b", "y"), ("a", b"z")),
    (("a", [1]), ("a", [2, 3])),
    (("a", []), ("a", None)),
    (("a", 1), ("b", 1), ("b", 2), ("a", 2), ("c", [1, 2])),
    (("$amqp-type", "x" * 256), ("$amqp-type", "y" * 256)),
]


@pytest.mark.parametrize("headers", REPEATED)
def test_repeated_headers_come_back(headers: Headers) -> None:
    table = fields_of(to_amqp(Properties(headers=headers)))["headers"]
    names = dict.fromkeys(name for name, _ in headers)
    assert {name: by_name(headers, name) for name in names} == {
        name: table[name] if name in table["$repeated"] else [table[name]] for name in names
    }
    back = there_and_back(Properties(headers=headers)).headers
    assert {name: by_name(back, name) for name, _ in back} == {name: by_name(headers, name) for name in names}


def by_name(headers: Headers, name: str) -> list[Any]:
    return [value for found, value in headers if found == name]


def is_topic(text: str) -> bool:
    try:
        check_topic(text)
    except InvalidTopic:
        return False
    return True


texts = st.none() | st.text(max_size=9) | st.just(LONG)
#: What any other door may say.
topics = st.text("ab/.$%0235F☃é", min_size=1, max_size=30).filter(is_topic)
whole = st.none() | st.integers(0, 2**63 - 1)
models = st.builds(
    Properties,
    content_type=texts,
    content_encoding=texts,
    correlation=st.none() | st.binary(max_size=9) | st.just(LONG.encode()),
    reply_to=st.none() | topics,
    message_id=texts,
    timestamp_ms=whole,
    priority=st.none() | st.integers(0, 300),
    key=texts,
    tag=texts,
    keys=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    deliver_at_ms=whole,
    traceparent=texts,
    text=st.booleans(),
    headers=tables.map(lambda table: tuple(table.items())),
)


@given(made=models, vhost=st.sampled_from(["/", "v", "a/b"]))
def test_what_other_doors_say_comes_back(made: Properties, vhost: str) -> None:
    assert there_and_back(made, vhost) == made
    again = there_and_back(to_model(to_amqp(made, vhost), vhost), vhost)
    assert again == made


# -- where it is lost -----------------------------------------------------------------------------


def test_repeated_headers_that_are_properties_of_amqp_come_back() -> None:
    made = Properties(headers=(("$amqp-type", "a"), ("$amqp-type", "b")))
    assert there_and_back(made) == made


@pytest.mark.parametrize(
    ("name", "value"),
    [("traceparent", 7), ("$key", 5), ("$keys", ["a", 1]), ("$text", "yes"), ("$priority", -1)],
)
def test_what_does_not_fit_its_attribute_is_a_header(name: str, value: Any) -> None:
    assert to_model(basic_of({"headers": encode_table({name: value})})).headers == ((name, value),)


def test_a_header_does_not_take_the_attribute_away() -> None:
    made = Properties(traceparent="00-ab-cd-01", headers=(("traceparent", "00-ab-cd-01"),))
    assert there_and_back(made).traceparent == "00-ab-cd-01"


# -- reply-to -------------------------------------------------------------------------------------

REPLIES = [
    ("/", "answers", "$queue/answers"),
    ("/", "a/b", "$queue/a/b"),
    ("/", "$answers", "$queue/%24answers"),
    ("/", "", "$queue/"),
    ("/", "$topic/a/b", "a/b"),
    ("/", "$topic/$queue/$vhost/v/q", "$queue/$vhost/v/q"),
    ("v", "answers", "$queue/$vhost/v/answers"),
    ("v", "$topic/a/b", "a/b"),
    ("v", "$topic/$queue/q", "$queue/q"),
    ("v", "$topic/$vhost/v/a", "$vhost/v/a"),
]


@pytest.mark.parametrize(("vhost", "reply_to", "topic"), REPLIES)
def test_a_reply_to_is_a_topic(vhost: str, reply_to: str, topic: str) -> None:
    assert translate.reply_to_topic(vhost, reply_to) == topic
    assert translate.topic_to_reply(vhost, topic) == reply_to


#: Not `$queue/$...`, which leads to no queue, and no escape that only AMQP writes: see below.
queues = topics.filter(lambda name: not name.startswith("$") and "%2F" not in name).map("$queue/".__add__)


@given(vhost=st.sampled_from(["/", "v", "a/b"]), topic=topics | queues)
@example(vhost="v", topic="$topic/a")
def test_a_topic_comes_back_from_a_reply_to(vhost: str, topic: str) -> None:
    reply_to = translate.topic_to_reply(vhost, topic)
    assert translate.reply_to_topic(vhost, reply_to) == topic


@pytest.mark.parametrize("topic", ["$queue/%24topic/x", "$queue/a%2Fb", "$queue/a%24b"])
def test_any_topic_comes_back_from_a_reply_to(topic: str) -> None:
    assert translate.reply_to_topic("/", translate.topic_to_reply("/", topic)) == topic
