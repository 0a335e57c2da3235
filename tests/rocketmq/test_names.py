"""Names: a bijection, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidTopic
from gateway.rocketmq.names import escape, from_topic, to_group, to_topic, unescape

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


@given(TEXTS)
def test_every_text_has_one_name_that_rocketmq_allows(text: str) -> None:
    name = escape(text)
    assert re.fullmatch(r"[%|a-zA-Z0-9_-]+", name)
    assert unescape(name) == text


@given(st.text("%|abcABC0123456789DLQRETY_-", min_size=1, max_size=20))
def test_a_name_that_is_taken_is_the_only_one(name: str) -> None:
    try:
        text = unescape(name)
    except InvalidTopic:
        return
    assert escape(text) == name


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("orders", "orders"),
        ("a%2Fb%2Ec", "a/b.c"),
        ("%24queue%2Fjobs", "$queue/jobs"),
        ("a|b_c-d", "a|b_c-d"),
    ],
)
def test_examples(name: str, topic: str) -> None:
    assert to_topic("", name) == topic
    assert from_topic("", topic) == name


def test_a_namespace_is_the_first_level() -> None:
    assert to_topic("shop", "a%2Fb") == "shop/a/b"
    assert from_topic("shop", "shop/a/b") == "a%2Fb"
    assert from_topic("shop", "other/a") == "other%2Fa"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a.b",
        "a/b",
        "ä",
        "a%2",
        "a%2fb",
        "%41",
        "%FF",
        "%",
        "%DLQ%g",
        "%RETRY%g",
        "x" * 128,
        "TBW102",
        "rmq_sys_x",
    ],
)
def test_refused_topics(name: str) -> None:
    with pytest.raises(InvalidTopic):
        to_topic("", name)


@pytest.mark.parametrize("name", ["", "a%2Fb", "%2B", "%23", "%24x", "x" * 121])
def test_refused_groups(name: str) -> None:
    with pytest.raises(InvalidTopic):
        to_group(name)
