"""Selectors by MQTT 5: user properties of SUBSCRIBE, for every kind of subscription."""

from __future__ import annotations

import pytest

from gateway.protocols.mqtt.packets import PUBACK, SubscribeOption
from gateway.protocols.mqtt.reasons import Reason
from tests.protocols.mqtt.transcripts import Client, House, house

KEPT = {"session_expiry_interval": 1000}


def ask(
    client: Client, topic_filter: str, text: str | None, qos: int = 1, language: str = "", **more: str
) -> tuple[list[int], str]:
    """Subscribe with a selector; return the reasons and the reason string."""
    pairs = [] if text is None else [("filter", text)]
    pairs += [("filter-language", language)] if language else []
    options = [SubscribeOption(one, qos) for one in topic_filter.split()]
    suback = client.suback(options, {"user_property": [*pairs, *more.items()]})
    return suback.reasons, str(suback.properties.get("reason_string", ""))


def publish(h: House, *numbers: int, topic: str = "a/b", **more: bool) -> None:
    writer = h.connect("writer")
    for number in numbers:
        pairs = [("n", str(number)), ("$tag", f"t{number}")]
        writer.publish(topic, b"%d" % number, user_property=pairs, **more)


def acked(client: Client) -> list[int]:
    """Return the bodies of what has come, as numbers, and acknowledge it."""
    messages = client.messages()
    for message in messages:
        if message.qos:
            assert client.ack(PUBACK, message.packet_id) == []
    return [int(message.payload) for message in messages]


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize(("text", "language"), [("n > 2", ""), ("n > 2", "sql"), ("t3 || t4", "tags")])
def test_a_subscription_takes_what_it_asks_for(qos: int, text: str, language: str) -> None:
    with house() as h:
        reader = h.connect("reader")
        assert ask(reader, "a/# c", text, qos, language) == ([qos, qos], "")
        publish(h, 1, 3, 2, 4)
        publish(h, 3, topic="c")
        assert acked(reader) == [3, 4, 3]
        publish(h, 9, topic="d")
        assert acked(reader) == []


def test_everything_can_be_asked_for_and_a_selector_taken_back() -> None:
    with house() as h:
        reader = h.connect("reader")
        assert ask(reader, "a/#", "*", language="tags") == ([1], "")
        publish(h, 1)
        assert acked(reader) == [1]
        assert ask(reader, "a/#", "n > 5") == ([1], "")
        publish(h, 1, 6)
        assert acked(reader) == [6]
        assert ask(reader, "a/#", None) == ([1], "")
        publish(h, 2)
        assert acked(reader) == [2]


def test_retained_messages_go_by_the_selector() -> None:
    with house() as h:
        for number in (1, 6, 8):
            publish(h, number, topic=f"a/{number}", retain=True)
        reader = h.connect("reader")
        assert ask(reader, "a/#", "n > 5") == ([1], "")
        assert acked(reader) == [6, 8]


def test_a_kept_session_keeps_its_selectors() -> None:
    with house() as h:
        reader = h.connect("reader", properties=KEPT)
        assert ask(reader, "a/#", "n > 5") == ([1], "")
        reader.hang_up()
        publish(h, 1, 6)
        h.restart()
        reader = h.connect("reader", clean=False, properties=KEPT)
        publish(h, 2, 7)
        assert acked(reader) == [6, 7]


@pytest.mark.parametrize("kept", [False, True])
def test_members_of_a_shared_subscription_want_the_same(kept: bool) -> None:
    with house() as h:
        first = h.connect("first", properties=KEPT if kept else {})
        second, name = h.connect("second"), "$share/g/a/#"
        assert ask(first, name, "n > 5") == ([1], "")
        for other in ("n > 6", None):
            reasons, why = ask(second, name, other)
            assert reasons == [Reason.IMPLEMENTATION_SPECIFIC_ERROR]
            assert "has the sql selector 'n > 5', not" in why
        assert ask(second, name, "n > 5") == ([1], "")
        publish(h, 1, 6, 7, 8)
        got = acked(first) + acked(second)
        assert sorted(got) == [6, 7, 8]
        if kept:
            first.hang_up()
            second.hang_up()
            h.restart()
            second = h.connect("second")
            assert ask(second, name, "n > 6")[0] == [Reason.IMPLEMENTATION_SPECIFIC_ERROR]
            first = h.connect("first", clean=False, properties=KEPT)
            publish(h, 5, 9)
            assert acked(first) == [9]


def test_a_shared_subscription_is_free_again_when_its_last_member_has_left() -> None:
    with house() as h:
        first, name = h.connect("first"), "$share/g/a/#"
        ask(first, name, "n > 5")
        assert first.unsubscribe(name) == [0]
        assert ask(first, name, "n < 5") == ([1], "")
        publish(h, 1, 6)
        assert acked(first) == [1]


def test_a_group_of_a_stream_passes_over_what_does_not_match() -> None:
    with house() as h:
        h.gateway.broker.catalog.declare("s", "stream")
        publish(h, 1, 6, 2, 7, topic="$queue/s")
        reader = h.connect("reader", properties=KEPT)
        assert ask(reader, "$queue/s", "n > 5", group="g", start="earliest") == ([1], "")
        assert acked(reader) == [6, 7]
        assert ask(reader, "$queue/s", "n > 5", group="g") == ([1], ""), "the same again"
        assert ask(reader, "$queue/s", "n > 6", group="g")[0] == [Reason.IMPLEMENTATION_SPECIFIC_ERROR]
        reader.hang_up()
        h.restart()
        other = h.connect("other")
        reasons, why = ask(other, "$queue/s", None, group="g")
        assert reasons == [Reason.IMPLEMENTATION_SPECIFIC_ERROR]
        assert "group 'g' of queue 's' has the sql selector 'n > 5', not no selector" in why
        assert ask(other, "$queue/s", "n < 5", group="g", seek="earliest") == ([1], "")
        assert acked(other) == [1, 2]
        other.hang_up()
        reader = h.connect("reader", clean=False, properties=KEPT)
        publish(h, 8, topic="$queue/s")
        assert acked(reader) == [], "its group wants something else by now"


def test_a_classic_queue_has_no_selector() -> None:
    with house() as h:
        h.gateway.broker.catalog.declare("q")
        reader = h.connect("reader")
        reasons, why = ask(reader, "$queue/q", "n > 5")
        assert reasons == [Reason.IMPLEMENTATION_SPECIFIC_ERROR]
        assert "have the selector on its binding, or consume a stream" in why
        assert ask(reader, "$queue/q", None) == ([1], "")


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("n >", "", "selector, column 4: it ends where a name or value is expected"),
        ("n > 5", "xpath", "selector language 'xpath' is not known; known: sql, tags"),
        ("", "", "selector, column 1"),
        ("a || ", "tags", "selector, column 6: a tag is missing"),
        ("n" * 5000, "", "4096 characters"),
    ],
)
@pytest.mark.parametrize("topic_filter", ["a/# b", "$share/g/a/#", "$queue/q"])
def test_what_cannot_be_understood_is_refused_with_its_column(
    text: str, language: str, words: str, topic_filter: str
) -> None:
    with house() as h:
        reader = h.connect("reader")
        reasons, why = ask(reader, topic_filter, text, language=language)
        assert set(reasons) == {Reason.IMPLEMENTATION_SPECIFIC_ERROR}
        assert len(reasons) == len(topic_filter.split())
        assert words in why
        publish(h, 6)
        assert acked(reader) == []
        assert h.gateway.broker.router.bindings == 0
