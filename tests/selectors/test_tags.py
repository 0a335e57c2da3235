"""Tags, as RocketMQ subscribes to them."""

from __future__ import annotations

import pytest

from gateway.core.message import Message, Properties
from gateway.core.selector import InvalidSelector
from gateway.selectors.tags import compile_tags


def tagged(tag: str | None) -> Message:
    return Message("t", b"", properties=Properties(tag=tag))


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("A", {"A"}),
        ("A || B", {"A", "B"}),
        ("A||B", {"A", "B"}),
        ("  A  ||A || two words", {"A", "two words"}),
        ("Ä", {"Ä"}),
    ],
)
def test_a_message_with_one_of_the_tags_is_taken(text: str, taken: set[str]) -> None:
    matches = compile_tags(text)
    assert matches is not None
    tags: list[str | None] = ["A", "B", "two words", "Ä", "", None, "a"]
    assert {tag for tag in tags if matches(tagged(tag))} == taken


@pytest.mark.parametrize("text", ["*", " * "])
def test_a_star_is_no_selector_at_all(text: str) -> None:
    assert compile_tags(text) is None


@pytest.mark.parametrize(
    ("text", "column"),
    [("", 1), ("   ", 4), ("||", 1), ("A ||", 5), ("A || || B", 6), ("A | B", 3), ("A || *", 6), ("|||", 1)],
)
def test_what_is_wrong_is_said_with_its_column(text: str, column: int) -> None:
    with pytest.raises(InvalidSelector) as caught:
        compile_tags(text)
    assert caught.value.column == column
