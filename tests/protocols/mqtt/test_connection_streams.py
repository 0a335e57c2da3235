"""Streams by MQTT: groups, and where they begin, by user properties of SUBSCRIBE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.protocols.mqtt.packets import PUBACK, SubscribeOption
from gateway.protocols.mqtt.reasons import Reason
from tests.protocols.mqtt.transcripts import Client, House, house


@contextmanager
def _stream(*bodies: bytes) -> Iterator[House]:
    with house() as h:
        h.gateway.broker.catalog.declare("s", "stream")
        writer = h.connect("writer")
        for body in bodies:
            writer.publish("$queue/s", body)
        yield h


def _read(client: Client, topic_filter: str = "$queue/s", **replay: str) -> tuple[list[int], str]:
    """Subscribe with user properties; return the reasons and the reason string."""
    properties = {"user_property": [("unrelated", "x"), *replay.items()]}
    suback = client.suback([SubscribeOption(topic_filter, 1)], properties)
    return suback.reasons, str(suback.properties.get("reason_string", ""))


def _acked(client: Client) -> list[bytes]:
    """Return the bodies of what has come, and acknowledge it."""
    messages = client.messages()
    for message in messages:
        assert client.ack(PUBACK, message.packet_id) == []
    return [message.payload for message in messages]


def test_a_new_group_of_a_stream_gets_what_comes_next() -> None:
    with _stream(b"0") as h:
        reader, writer = h.connect("reader"), h.connect("writer2")
        assert reader.subscribe("$queue/s") == [1]
        assert reader.bodies() == []
        writer.publish("$queue/s", b"1")
        assert reader.bodies() == [b"1"]


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("earliest", [b"0", b"1", b"2"]),
        ("latest", []),
        ("1", [b"1", b"2"]),
        ("99", []),
        ("1999-01-01T00:00:00Z", [b"0", b"1", b"2"]),
        ("2999-01-01T00:00:00Z", []),
    ],
)
@pytest.mark.parametrize("how", ["start", "seek"])
def test_a_new_group_begins_where_the_subscription_says(how: str, start: str, expected: list[bytes]) -> None:
    with _stream(b"0", b"1", b"2") as h:
        reader = h.connect("reader")
        assert _read(reader, **{how: start}) == ([1], "")
        assert reader.bodies() == expected


def test_start_is_for_new_groups_and_seek_for_all() -> None:
    with _stream(b"0", b"1") as h:
        session = {"session_expiry_interval": 1000}
        reader = h.connect("reader", properties=session)
        _read(reader, start="earliest")
        assert reader.bodies() == [b"0", b"1"]
        _read(reader, start="earliest")
        assert reader.bodies() == [], "where it was"
        _read(reader, seek="1")
        assert reader.bodies() == [b"1"]
        _read(reader, seek="earliest", start="latest")
        assert reader.bodies() == [b"0", b"1"]


def test_clients_share_a_group_and_others_have_their_own() -> None:
    with _stream(b"0", b"1", b"2", b"3") as h:
        one, two, other = (h.connect(name) for name in ("one", "two", "other"))
        _read(one, group="team", start="latest")
        _read(two, group="team")
        _read(other, start="earliest")
        assert _acked(other) == [b"0", b"1", b"2", b"3"]
        writer = h.connect("writer2")
        for n in range(4):
            writer.publish("$queue/s", b"%d" % n)
        assert sorted(_acked(one) + _acked(two)) == [b"0", b"1", b"2", b"3"]
        assert len(_acked(other)) == 4
        _read(two, group="alone", start="earliest")
        assert len(_acked(two)) == 8, "it left the team"
        writer.publish("$queue/s", b"for one")
        assert _acked(one) == [b"for one"]


def test_a_durable_session_goes_on_in_its_group() -> None:
    with _stream(b"0") as h:
        session = {"session_expiry_interval": 1000}
        reader = h.connect("reader", properties=session)
        _read(reader, group="team", start="earliest")
        assert _acked(reader) == [b"0"]
        reader.hang_up()
        h.connect("writer2").publish("$queue/s", b"1")
        reader = h.connect("reader", clean=False, properties=session)
        assert _acked(reader) == [b"1"]
        stream = h.gateway.broker.catalog.get("s")
        assert [group.name for group in stream.groups()] == ["team"]


def test_the_position_of_a_session_that_is_not_kept_goes_with_it() -> None:
    with _stream(b"0", b"1") as h:
        stream = h.gateway.broker.catalog.get("s")
        for leave in ("hang up", "unsubscribe", "again"):
            reader = h.connect("reader")
            _read(reader, start="earliest")
            assert _acked(reader) == [b"0", b"1"]
            assert len(stream.groups()) == 1
            if leave == "hang up":
                reader.hang_up()
            elif leave == "unsubscribe":
                assert reader.unsubscribe("$queue/s") == [0]
            else:
                again = h.connect("reader")
                _read(again, seek="1")
                reader.hang_up()
                assert _acked(again) == [b"1"]
                again.hang_up()
            assert stream.groups() == [], leave


@pytest.mark.parametrize(
    ("replay", "why"),
    [
        ({"start": "yesterday"}, "start is 'yesterday'; a number, earliest, latest, or a time"),
        ({"seek": "-1"}, "seek is '-1'; a number, earliest, latest, or a time"),
        ({"group": "$own"}, "group '$own': names that begin with $ are the gateway's own"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused_with_its_reason(replay: dict[str, str], why: str) -> None:
    with _stream(b"0") as h:
        reader = h.connect("reader")
        reasons, text = _read(reader, **replay)
        assert reasons == [Reason.IMPLEMENTATION_SPECIFIC_ERROR]
        assert text.startswith(why)
        assert h.gateway.broker.catalog.get("s").groups() == []


def test_other_queues_and_filters_do_not_mind_the_properties() -> None:
    with house() as h:
        h.gateway.broker.catalog.declare("jobs")
        client = h.connect("client")
        for topic_filter in ("$queue/jobs", "a/#", "$share/g/b"):
            assert _read(client, topic_filter, group="g", start="nonsense", seek="x") == ([1], "")
