"""Templates of topics."""

from __future__ import annotations

import pytest

from gateway.core.errors import InvalidValue
from gateway.core.template import check_template, fill

NAMES = ("topic", "name")


@pytest.mark.parametrize("template", ["a", "{topic}/{name}", "x/{name}/y", "{name}", "pre-{name}"])
def test_templates(template: str) -> None:
    check_template(template, NAMES)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "must not be empty"),
        ("{device}/x", "{device} is unknown; {topic} and {name} are possible"),
        ("{}", "{} is unknown"),
        ("{topic/x", "a brace"),
        ("topic}/x", "a brace"),
        ("a/+/{name}", "wildcard"),
        ("a/#", "wildcard"),
        ("$sys/{name}", "own topics"),
    ],
)
def test_what_is_none(template: str, why: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_template(template, NAMES)
    assert why in caught.value.detail


def test_filling_looks_once() -> None:
    assert fill("{topic}/{name}/{name}", {"topic": "{name}", "name": "b"}) == "{name}/b/b"
