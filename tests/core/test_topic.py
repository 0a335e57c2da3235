"""What may be published and subscribed to, and which filter matches which topic (MQTT 4.7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidTopic
from gateway.core.topic import (
    LEVELS_MAX,
    TOPIC_BYTES_MAX,
    check_filter,
    check_topic,
    is_wildcard,
    matches,
    split_share,
)

levels = st.sampled_from(["", "a", "b", "$x", "é"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(levels | st.just("+"), max_size=4), st.sampled_from([[], ["#"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)

GOOD_TOPICS = [
    "a",
    "/",
    "//",
    "a/b",
    "a b",
    "é/ü",
    "$queue/q",
    "😀",
    "a" * TOPIC_BYTES_MAX,
    "/" * (LEVELS_MAX - 1),
]
BAD_TOPICS = [
    "",
    "a\0b",
    "a/+",
    "a/#",
    "a+",
    "\ud800",
    "a" * (TOPIC_BYTES_MAX + 1),
    "é" * (TOPIC_BYTES_MAX // 2 + 1),
    "/" * LEVELS_MAX,
]
GOOD_FILTERS = ["#", "+", "+/+", "a/#", "a/+/b", "/#", "+/#", "a", "$sys/#"]
BAD_FILTERS = ["", "a#", "#/a", "a/#/b", "a+/b", "+a", "a/b+", "##", "a\0", "\udfff", "+" * 2]


@pytest.mark.parametrize("topic", GOOD_TOPICS, ids=lambda topic: topic[:20])
def test_topics_that_may_be_published_to(topic: str) -> None:
    check_topic(topic)
    check_filter(topic)  # each is also a filter


@pytest.mark.parametrize("topic", BAD_TOPICS, ids=lambda topic: ascii(topic[:20]))
def test_topics_that_may_not(topic: str) -> None:
    with pytest.raises(InvalidTopic):
        check_topic(topic)


@pytest.mark.parametrize("topic_filter", GOOD_FILTERS)
def test_filters_that_may_be_subscribed_to(topic_filter: str) -> None:
    check_filter(topic_filter)


@pytest.mark.parametrize("topic_filter", BAD_FILTERS, ids=ascii)
def test_filters_that_may_not(topic_filter: str) -> None:
    with pytest.raises(InvalidTopic):
        check_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a", "a", True),
        ("a", "A", False),
        ("a", "a/", False),
        ("a/#", "a", True),  # [MQTT-4.7.1-2]
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/+", "a/b/c", False),
        ("+", "/a", False),
        ("/+", "/a", True),
        ("+/+", "/a", True),
        ("#", "/", True),
        ("#", "$sys/x", False),  # [MQTT-4.7.2-1]
        ("+/x", "$sys/x", False),
        ("$sys/#", "$sys/x", True),
        ("$sys/+", "$sys/x", True),
        ("a/+", "a/$x", True),
    ],
)
def test_matching(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


@given(topic=topics)
def test_a_topic_matches_itself_and_everything(topic: str) -> None:
    assert matches(topic, topic)
    assert matches("#", topic) is not topic.startswith("$")


@given(topic_filter=filters, topic=topics)
def test_a_filter_without_wildcards_is_a_topic(topic_filter: str, topic: str) -> None:
    if not is_wildcard(topic_filter):
        assert matches(topic_filter, topic) is (topic_filter == topic)


@given(topic_filter=filters, topic=topics, level=levels)
def test_what_is_below_matches_a_trailing_hash_too(topic_filter: str, topic: str, level: str) -> None:
    if topic_filter.endswith("#") and matches(topic_filter, topic):
        assert matches(topic_filter, f"{topic}/{level}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a/b", None), ("$share", None), ("$share/g/a/#", ("g", "a/#")), ("$share/g//", ("g", "/"))],
)
def test_share_names(text: str, expected: tuple[str, str] | None) -> None:
    assert split_share(text) == expected


@pytest.mark.parametrize(
    "text", ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a"]
)
def test_malformed_share_names(text: str) -> None:
    with pytest.raises(InvalidTopic):  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        split_share(text)
