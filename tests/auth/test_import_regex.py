"""RabbitMQ's expressions as sets of names: never more names than Erlang's own `re` finds."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.importers.regex import ALTERNATIVES_MAX, Shape, shape_of
from tests.peers import executable

ALL = Shape(everything=True)
NONE = Shape()


def exact(*names: str) -> Shape:
    return Shape(exact=names)


def begins(*names: str) -> Shape:
    return Shape(prefixes=names)


#: Expressions whose names are known exactly.
SIMPLE: dict[str, Shape] = {
    ".*": ALL,
    "": NONE,
    "^$": NONE,
    "^": ALL,
    "$": ALL,
    "^.*$": ALL,
    "^.*": ALL,
    ".*$": ALL,
    "()": ALL,
    "|orders": Shape(everything=True, skipped=("orders",)),
    "^orders$": exact("orders"),
    "^orders.*": begins("orders"),
    "^orders.*$": begins("orders"),
    "^orders": begins("orders"),
    "^(orders)$": exact("orders"),
    "^(?:orders|bills)$": exact("orders", "bills"),
    "^(a|b)": begins("a", "b"),
    "^orders$|^bills$": exact("orders", "bills"),
    "(^orders$|^bills.*)": Shape(exact=("orders",), prefixes=("bills",)),
    "^amq\\.gen.*": begins("amq.gen"),
    "^(amq\\.gen.*|amq\\.default)$": Shape(exact=("amq.default",), prefixes=("amq.gen",)),
    "^(a|b)-(c|d)$": exact("a-c", "a-d", "b-c", "b-d"),
    "^((a|b)c|d)$": exact("ac", "bc", "d"),
    "^a\\$b$": exact("a$b"),
    "^a\\-b\\_c$": exact("a-b_c"),
    "^{a}$": exact("{a}"),
    "^\u00e4$": exact("\u00e4"),
    "^^a$$": exact("a"),
}

#: Expressions with alternatives that have no simple shape, and what is left of them.
SKIPPED: dict[str, Shape] = {
    "orders": NONE,
    "orders.*": NONE,
    ".*orders": NONE,
    ".*orders$": NONE,
    "^orders.*bills$": NONE,
    "^a+": NONE,
    "^a?$": NONE,
    "^a*": NONE,
    "^a{2}$": NONE,
    "^(a)*$": NONE,
    "^[ab]$": NONE,
    "^\\d$": NONE,
    "^\\Qa.b\\E$": NONE,
    "(?i)^a$": NONE,
    "(*UTF8)^a$": NONE,
    "^(?!a).*": NONE,
    "^a.*?": NONE,
    "^a.*\\.\\*$": NONE,
    "^a.*\\$": NONE,
    "a^b": NONE,
    "^a$b": NONE,
    "(a": NONE,
    "a)": NONE,
    "^)(": NONE,
    "\\": NONE,
    "^a|b$": begins("a"),
    "^a+|^b$": exact("b"),
    "^(a|b+)$|^c": begins("c"),
    "^a|*": NONE,
    "^a|(+)": NONE,
    "^a|b**": NONE,
}

NARROWED: dict[str, Shape] = {
    "^amq.default$": exact("amq.default"),
    "^a.b.*": begins("a.b"),
    "^.$": exact("."),
}

NAMES = [
    "a", "b", "c", "d", "ab", "ac", "bc", "a-c", "b-d", "a.b", "axb", "a$b", "a-b_c", "a{2}", "aa", "{a}",
    "orders", "orders.eu", "xorders", "bills", "bills2", "ordersbills", "amq.gen-1", "amqxgen", "amq.default",
    "amq.topic", "\u00e4", "\u00e4b", ".", "x", "a.x.*", "A", "1",
]  # fmt: skip


@pytest.mark.parametrize("pattern", SIMPLE)
def test_simple_expressions_are_taken_as_they_are(pattern: str) -> None:
    assert shape_of(pattern) == SIMPLE[pattern]


@pytest.mark.parametrize("pattern", SKIPPED)
def test_what_has_no_simple_shape_is_skipped_and_the_rest_taken(pattern: str) -> None:
    shape = shape_of(pattern)
    assert shape._replace(skipped=()) == SKIPPED[pattern]
    assert shape.skipped


@pytest.mark.parametrize("pattern", NARROWED)
def test_a_bare_dot_is_a_dot_and_that_is_said(pattern: str) -> None:
    assert shape_of(pattern) == NARROWED[pattern]._replace(narrowed=True)


@pytest.mark.interop
def test_erlang_finds_at_least_these_names_and_no_other_where_nothing_is_left_out() -> None:
    """What RabbitMQ calls is `re:run(Name, Pattern, [{capture, none}])`, "" taken for "^$"."""
    patterns = [*SIMPLE, *SKIPPED, *NARROWED]
    script = "".join(
        f'io:format("~p~n", [try re:run({_binary(name)}, {_binary(pattern or "^$")}, [{{capture, none}}]) '
        "catch _:_ -> nomatch end]), "
        for pattern in patterns
        for name in NAMES
    )
    command = [executable("erl"), "-noshell", "-noinput", "-eval"]
    # An argument may have 128 KiB: the program comes in a variable that erl evaluates.
    found: list[bool] = []
    pieces = script.split("io:format")[1:]
    for start in range(0, len(pieces), 400):
        text = "".join("io:format" + piece for piece in pieces[start : start + 400]) + "halt()."
        done = subprocess.run([*command, text], capture_output=True, text=True, timeout=60, check=True)
        found += [line == "match" for line in done.stdout.splitlines()]
    assert len(found) == len(patterns) * len(NAMES)
    answers = iter(found)
    for pattern in patterns:
        shape = shape_of(pattern)
        for name in NAMES:
            theirs, ours = next(answers), shape.covers(name)
            assert theirs or not ours, (pattern, name)
            if not shape.skipped and not shape.narrowed:
                assert theirs == ours, (pattern, name)


def _binary(text: str) -> str:
    """Return an Erlang expression for the bytes of a text."""
    return "<<" + ",".join(map(str, text.encode())) + ">>"


ALPHABET = st.sampled_from([*"ab.^$|()*+?\\", ".*", "(?:", "|^", "\\.", "$|"])


@given(
    st.lists(ALPHABET, max_size=10).map("".join), st.text(st.sampled_from("ab.*$"), min_size=1, max_size=5)
)
def test_no_expression_gets_more_names_than_a_search_finds(pattern: str, name: str) -> None:
    shape = shape_of(pattern)
    if not shape.covers(name):
        return
    assert re.search(pattern, name, re.DOTALL) is not None


@given(st.text(max_size=30))
def test_any_text_has_a_shape(pattern: str) -> None:
    assert isinstance(shape_of(pattern), Shape)


@pytest.mark.parametrize(
    "pattern",
    ["(a|b)" * 5000, "^" + "(a|b)" * 12, "(" * 5000 + ")" * 5000, "^" + "(a|b|c|d)" * 9 + "$", "|" * 4000],
)
def test_what_would_take_long_is_skipped(pattern: str) -> None:
    shape = shape_of(pattern)
    assert len(shape.exact) + len(shape.prefixes) <= ALTERNATIVES_MAX


CONTAINS = [
    (ALL, ALL, True),
    (ALL, exact("a"), True),
    (exact("a"), ALL, False),
    (exact("a"), NONE, True),
    (begins("a"), exact("ab"), True),
    (begins("a"), begins("ab"), True),
    (begins("ab"), begins("a"), False),
    (exact("a"), begins("a"), False),
]


@pytest.mark.parametrize(("whole", "part", "expected"), CONTAINS)
def test_a_set_contains_another(whole: Shape, part: Shape, expected: bool) -> None:
    assert whole.contains(part) is expected
