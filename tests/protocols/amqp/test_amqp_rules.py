"""Routing rules: what each exchange type takes, compared with the plainest description of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.message import Headers, Message, Properties
from gateway.protocols.amqp.errors import AmqpFault, Reply
from gateway.protocols.amqp.exchanges import Bound, Exchange
from gateway.protocols.amqp.rules import (
    RULES,
    WEIGHT_MAX,
    ConsistentHash,
    Direct,
    Fanout,
    HeadersRule,
    Rule,
    Topic,
)
from gateway.protocols.amqp.tables import Table

SOURCE = Exchange("/", "source", "fanout")


def binding(key: str = "", name: str = "d", arguments: Table | None = None) -> Bound:
    return Bound(SOURCE, None, Exchange("/", name, "fanout"), key, arguments or {})


def message(headers: Headers = (), **properties: Any) -> Message:
    return Message("t", b"", properties=Properties(headers=headers, **properties))


def found(rule: Rule, key: str, sent: Message | None = None) -> Counter[int]:
    """Return the bindings that are taken, and how often each."""
    return Counter(id(bound) for bound in rule.find(key, sent))


def these(bounds: list[Bound]) -> Counter[int]:
    return Counter(id(bound) for bound in bounds)


def refusal(rule: Rule, bound: Bound) -> AmqpFault:
    with pytest.raises(AmqpFault) as caught:
        rule.add(bound)
    return caught.value


# -- direct and fanout --------------------------------------------------------------------------

WORDS = ["a", "b", "c", "", "a b", "é", "**", "*", "#", "##", "a#"]
WORDS_PLAIN = [word for word in WORDS if word not in ("*", "#")]
keys = st.lists(st.sampled_from(WORDS_PLAIN), min_size=1, max_size=5).map(".".join).filter(bool)
patterns = st.lists(st.sampled_from([*"ab*#", *WORDS, "#"]), min_size=1, max_size=6).map(".".join)
#: (pattern to bind, or None to unbind one of those there; which one; key to ask for afterwards)
steps = st.lists(st.tuples(st.none() | patterns, st.integers(0, 50), keys), max_size=40)


@given(steps=steps)
def test_direct_takes_what_has_its_key(steps: list[tuple[str | None, int, str]]) -> None:
    rule, present = Direct({}), list[Bound]()
    for pattern, index, key in steps:
        change(rule, present, pattern, index)
        for asked in (key, pattern or ""):
            assert found(rule, asked) == these([bound for bound in present if bound.key == asked])


@given(steps=steps)
def test_fanout_takes_everything(steps: list[tuple[str | None, int, str]]) -> None:
    rule, present = Fanout({}), list[Bound]()
    for pattern, index, key in steps:
        change(rule, present, pattern, index)
        assert found(rule, key) == these(present)


def change(rule: Rule, present: list[Bound], pattern: str | None, index: int) -> None:
    """Do one step with both the rule and the list."""
    if pattern is not None:
        present.append(binding(pattern))
        rule.add(present[-1])
    elif present:
        rule.remove(present.pop(index % len(present)))


# -- topic ----------------------------------------------------------------------------------------


def is_match(pattern: list[str], words: list[str]) -> bool:
    """Tell whether a binding key matches a routing key [3.1.3.3], the slow way."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return is_match(pattern[1:], words) or bool(words and is_match(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and is_match(pattern[1:], words[1:])


def taken(present: list[Bound], key: str) -> list[Bound]:
    return [bound for bound in present if is_match(bound.key.split("."), key.split("."))]


@settings(max_examples=300)
@given(steps=steps)
def test_topic_takes_what_a_plain_search_takes(steps: list[tuple[str | None, int, str]]) -> None:
    rule, present = Topic({}), list[Bound]()
    for pattern, index, key in steps:
        change(rule, present, pattern, index)
        assert found(rule, key) == these(taken(present, key))


@given(bound=st.lists(patterns, max_size=30), asked=st.lists(keys, max_size=8), data=st.data())
def test_topic_forgets_in_any_order(bound: list[str], asked: list[str], data: st.DataObject) -> None:
    rule, present = Topic({}), [binding(pattern) for pattern in bound]
    for one in present:
        rule.add(one)
    left = data.draw(st.permutations(present))
    while left:
        rule.remove(left.pop())
        for key in asked:
            assert found(rule, key) == these(taken(left, key))
    assert rule._root.words == {}, "nothing is left of what is gone"


TOPICS = [
    ("a.b.c", "a.b.c", True),
    ("a.b.c", "a.b", False),
    ("a.*", "a.b", True),
    ("a.*", "a", False),
    ("a.*", "a.b.c", False),
    ("a.#", "a", True),
    ("a.#", "a.b.c", True),
    ("a.#", "b.a", False),
    ("#", "", True),
    ("#.#", "", True),
    ("", "", True),
    ("", "a", False),
    ("#.b", "b", True),
    ("#.b", "a.c.b", True),
    ("#.b", "a.b.c", False),
    ("a.#.b", "a.b", True),
    ("a.#.b", "a.c.c.b", True),
    ("#.a.#", "b.a.b", True),
    ("#.*.#", "a", True),
    ("*.#", "a", True),
    ("*.#.*", "a", False),
    ("*.#.*", "a.b", True),
    ("a#.b", "a.b", False),
    ("a*", "ab", False),
    ("*", ".", False),
    ("*.*", ".", True),
]


@pytest.mark.parametrize(("pattern", "key", "expected"), TOPICS)
def test_topic(pattern: str, key: str, expected: bool) -> None:
    rule = Topic({})
    rule.add(binding(pattern))
    assert bool(rule.find(key, None)) == expected


@pytest.mark.parametrize("pattern", ["*", "*.#", "#.*", "#.*.#"])
def test_the_empty_key_has_no_words(pattern: str) -> None:  # [3.1.3.3]: "zero or more words"
    rule = Topic({})
    rule.add(binding(pattern))
    assert rule.find("", None) == []


def test_many_hashes_take_no_longer() -> None:
    rule = Topic({})
    rule.add(binding(".".join(["#.a"] * 120)))
    rule.add(binding(".".join(["#"] * 128)))
    assert len(rule.find(".".join(["a"] * 119 + ["b"]), None)) == 1
    assert len(rule.find(".".join(["a"] * 120), None)) == 2


# -- headers --------------------------------------------------------------------------------------

HEADERS = [
    # arguments, headers, whether they match
    ({}, {}, True),
    ({}, {"a": 1}, True),
    ({"a": 1}, {"a": 1, "b": 2}, True),
    ({"a": 1, "b": 2}, {"a": 1}, False),
    ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
    ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
    ({"x-match": "all", "a": 1, "b": 2}, {"a": 1, "b": 2}, True),
    ({"x-match": "all", "a": 1, "b": 2}, {"b": 2}, False),
    ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
    ({"x-match": "any", "a": 1, "b": 2}, {"a": 2, "b": 1}, False),
    ({"x-match": "any", "a": 1}, {}, False),
    ({"x-match": "any"}, {"a": 1}, False),
    # what begins with x- does not count ...
    ({"x-match": "all", "x-a": 1, "b": 2}, {"b": 2}, True),
    ({"x-match": "any", "x-a": 1, "b": 2}, {"x-a": 1}, False),
    ({"x-a": 1}, {}, True),
    # ... unless it is said to; x-match itself never does
    ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"b": 2}, False),
    ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"x-a": 1, "b": 2}, True),
    ({"x-match": "any-with-x", "x-a": 1, "b": 2}, {"x-a": 1}, True),
    ({"x-match": "any-with-x", "x-a": 1}, {"x-match": "any-with-x"}, False),
    ({"x-match": "all-with-x"}, {}, True),
    # void: it need only be there
    ({"a": None}, {"a": "whatever"}, True),
    ({"a": None}, {"a": None}, True),
    ({"a": None}, {}, False),
    ({"x-match": "any", "a": None, "b": 1}, {"a": False}, True),
    ({"a": 1}, {"a": None}, False),
    # types
    ({"a": True}, {"a": 1}, False),
    ({"a": 1}, {"a": True}, False),
    ({"a": 0}, {"a": False}, False),
    ({"a": True}, {"a": True}, True),
    ({"a": "1"}, {"a": 1}, False),
    ({"a": "t"}, {"a": b"t"}, False),
    ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, True),
    ({"a": {"b": 2}}, {"a": {"b": 3}}, False),
    ({"A": 1}, {"a": 1}, False),
]


@pytest.mark.parametrize(("arguments", "headers", "expected"), HEADERS)
def test_headers(arguments: Table, headers: Table, expected: bool) -> None:
    rule, bound = HeadersRule({}), binding(arguments=arguments)
    rule.add(bound)
    sent = message(tuple(headers.items()))
    assert rule.find("any key", sent) == ([bound] if expected else [])
    rule.remove(bound)
    assert rule.find("any key", sent) == []


def test_headers_need_the_message() -> None:
    assert HeadersRule({}).by_message
    assert not any(RULES[kind]({}).by_message for kind in ("direct", "fanout", "topic", "x-consistent-hash"))


@pytest.mark.parametrize("how", ["", "ALL", "some", "all-with", 1, None, True, ["all"], {"all": 1}, b"any"])
def test_headers_refuse_another_match(how: Any) -> None:
    rule = HeadersRule({})
    fault = refusal(rule, binding(arguments={"x-match": how}))
    assert fault.code == Reply.PRECONDITION_FAILED
    assert "x-match" in fault.detail
    assert repr(how) in fault.detail
    assert rule.find("", message()) == []


# -- consistent hash --------------------------------------------------------------------------------

names = st.sampled_from(["q", "q1", "q2", "orders.eu", "orders.us", "\0", "é", "a/b"])
rings = st.lists(st.tuples(names, st.integers(1, 60)), min_size=1, max_size=5, unique_by=lambda pair: pair[0])
KEYS = [f"user.{number}.created" for number in range(300)]


def ring(*weights: tuple[str, int]) -> tuple[ConsistentHash, list[Bound]]:
    rule, bounds = ConsistentHash({}), [binding(str(weight), name) for name, weight in weights]
    for bound in bounds:
        rule.add(bound)
    return rule, bounds


def choices(rule: ConsistentHash) -> dict[str, Bound]:
    return {key: rule.find(key, None)[0] for key in KEYS}


@given(weights=rings, key=st.text(max_size=20))
@example(weights=[("q", 1)], key="\ud800")
def test_the_same_key_has_the_same_binding(weights: list[tuple[str, int]], key: str) -> None:
    rule, bounds = ring(*weights)
    assert len(rule.find(key, None)) == 1
    assert rule.find(key, None) == rule.find(key, None)
    assert rule.find(key, None)[0] in bounds
    again, others = ring(*reversed(weights))  # nor does it matter who was bound first
    assert again.find(key, None)[0].destination_name == rule.find(key, None)[0].destination_name
    assert again.find(key, None)[0] in others


@given(weights=rings, index=st.integers(0, 4))
def test_a_binding_that_goes_moves_its_own_keys_only(weights: list[tuple[str, int]], index: int) -> None:
    rule, bounds = ring(*weights)
    before = choices(rule)
    gone = bounds[index % len(bounds)]
    rule.remove(gone)
    if len(bounds) == 1:
        assert rule.find("k", None) == []
    else:
        after = choices(rule)
        assert gone not in after.values()
        assert {key for key in KEYS if after[key] is not before[key]} == {
            key for key in KEYS if before[key] is gone
        }
    rule.add(gone)
    assert choices(rule) == before


def test_two_bindings_of_one_queue_go_one_by_one() -> None:
    rule = ConsistentHash({})
    one, two = binding("20", "q"), binding("30", "q", {"second": True})
    rule.add(one)
    rule.add(two)
    rule.remove(one)
    assert set(choices(rule).values()) == {two}
    rule.remove(two)
    assert rule.find("k", None) == []


def shares(*weights: tuple[str, int]) -> dict[str, float]:
    rule, _ = ring(*weights)
    count = 4000
    taken = Counter(rule.find(f"key-{number}", None)[0].destination_name for number in range(count))
    return {name: taken[name] / count for name, _ in weights}


@pytest.mark.parametrize(
    "weights",
    [(("q1", 100), ("q2", 300)), (("a", 1000), ("b", 3000)), (("orders.eu", 200), ("orders.us", 600))],
)
def test_a_weight_is_a_share(weights: tuple[tuple[str, int], ...]) -> None:
    [light, heavy] = shares(*weights).values()
    assert pytest.approx(light, abs=0.08) == 0.25
    assert pytest.approx(heavy, abs=0.08) == 0.75


@pytest.mark.parametrize("weight", [1, 10])
def test_small_weights_are_shares_too(weight: int) -> None:
    found = shares(("q1", weight), ("q2", weight), ("q3", weight), ("q4", weight))
    assert found == {name: pytest.approx(0.25, abs=0.1) for name in found}


@pytest.mark.parametrize(
    "weight", ["", "0", "-1", "1.5", " 1", "a", "²", "١", str(WEIGHT_MAX + 1), "9" * 255]
)
def test_no_weight(weight: str) -> None:
    rule = ConsistentHash({})
    fault = refusal(rule, binding(weight))
    assert fault.code == Reply.PRECONDITION_FAILED
    assert repr(weight) in fault.detail
    assert rule.find("k", None) == []


def test_the_largest_weight() -> None:
    rule, [bound] = ring(("q", WEIGHT_MAX))
    assert rule.find("k", None) == [bound]


HASHED: list[tuple[Table, Callable[[int], Message]]] = [
    ({"hash-header": "user"}, lambda number: message((("user", f"u{number}"),))),
    ({"hash-header": "user"}, lambda number: message((("user", number), ("user", 1)))),
    ({"hash-property": "message_id"}, lambda number: message(message_id=f"m{number}")),
    ({"hash-property": "correlation_id"}, lambda number: message(correlation=b"%d" % number)),
    ({"hash-property": "timestamp"}, lambda number: message(timestamp_ms=1_700_000_000_000 + number)),
]


@pytest.mark.parametrize(("arguments", "sent"), HASHED)
def test_something_else_is_hashed(arguments: Table, sent: Callable[[int], Message]) -> None:
    rule = ConsistentHash(arguments)
    assert rule.by_message
    for number in range(10):
        rule.add(binding("100", f"q{number}"))
    assert len({id(rule.find(key, sent(1))[0]) for key in KEYS}) == 1, "the routing key does not count"
    reached = {rule.find("k", sent(number))[0].destination_name for number in range(200)}
    assert len(reached) > 5


def test_a_message_without_what_is_hashed_goes_somewhere() -> None:
    for arguments, _ in HASHED:
        rule = ConsistentHash(arguments)
        rule.add(binding("1", "q"))
        assert len(rule.find("k", message())) == 1


def make(arguments: Table) -> Any:
    with pytest.raises(AmqpFault) as caught:
        ConsistentHash(arguments)
    return caught.value


@pytest.mark.parametrize(
    "arguments",
    [
        {"hash-header": "a", "hash-property": "message_id"},
        {"hash-property": "user_id"},
        {"hash-property": ""},
        {"hash-property": 1},
    ],
)
def test_what_cannot_be_hashed(arguments: Table) -> None:
    assert make(arguments).code == Reply.PRECONDITION_FAILED


@pytest.mark.parametrize("name", [["message_id"], {"message_id": 1}])
def test_a_property_to_hash_is_a_text(name: Any) -> None:
    assert make({"hash-property": name}).code == Reply.PRECONDITION_FAILED
