"""A queue's policy as people write it, and how two of them differ."""

from __future__ import annotations

import pytest

from gateway.core.errors import Conflict
from gateway.core.policy import (
    BACKOFF_MS,
    BACKOFF_STEP_MS_MAX,
    BACKOFF_STEPS_MAX,
    DROP_HEAD,
    OWN_DEAD_LETTERS,
    POLICIES,
    REJECT,
    WORK,
    QueuePolicy,
)

#: A value for every policy, none of them the default.
VALUES: dict[str, int | str | bool | tuple[int, ...]] = {
    "ttl_ms": 1,
    "max_length": 2,
    "max_bytes": 3,
    "delivery_limit": 4,
    "max_age_ms": 5,
    "retry_delay_ms": 6,
    "overflow": REJECT,
    "dead_letter": "$dead/q",
    "durability": "async",
    "compact": True,
    "single_active": True,
    "expires_ms": 7,
    "max_priority": 8,
    "backoff_ms": (9, 10),
    "ordered": False,
    "lease_ms": 9,
    "group_expires_ms": 10,
}
INTEGERS = [name for name, value in VALUES.items() if isinstance(value, int) and not isinstance(value, bool)]


def test_the_table_of_values_names_every_policy() -> None:
    assert set(VALUES) == set(POLICIES) == set(QueuePolicy.__slots__)


def test_without_values_nothing_is_limited_and_the_oldest_makes_room() -> None:
    expected = dict.fromkeys(POLICIES, 0) | {"dead_letter": OWN_DEAD_LETTERS, "backoff_ms": ()}
    expected |= {"overflow": DROP_HEAD, "retry_delay_ms": 1000, "durability": "sync", "compact": False}
    expected |= {"single_active": False, "ordered": True}
    assert QueuePolicy().to_mapping() == expected
    assert QueuePolicy.from_mapping({}).to_mapping() == expected


def test_a_mapping_is_read_back_as_it_was_written() -> None:
    assert QueuePolicy.from_mapping(VALUES).to_mapping() == VALUES
    assert QueuePolicy.from_mapping(QueuePolicy().to_mapping()).difference(QueuePolicy()) == ""


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [-1, True, 1.5, "1", None])
def test_a_limit_is_a_whole_number_of_at_least_0(name: str, value: object) -> None:
    with pytest.raises(Conflict, match=rf"policy\.{name}: a whole number of at least 0"):
        QueuePolicy.from_mapping({name: value})


@pytest.mark.parametrize("name", INTEGERS)
def test_0_is_no_limit(name: str) -> None:
    assert QueuePolicy.from_mapping({name: 0}).to_mapping()[name] == 0


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            {"overflow": "drop-tail"},
            "policy.overflow: one of drop-head, reject, reject-dead-letter is expected, not 'drop-tail'",
        ),
        (
            {"overflow": None},
            "policy.overflow: one of drop-head, reject, reject-dead-letter is expected, not None",
        ),
        (
            {"overflow": []},
            "policy.overflow: one of drop-head, reject, reject-dead-letter is expected, not []",
        ),
        ({"durability": "fsync"}, "policy.durability: one of sync, async, none is expected, not 'fsync'"),
        ({"durability": []}, "policy.durability: one of sync, async, none is expected, not []"),
        ({"compact": 1}, "policy.compact: true or false is expected, not 1"),
        ({"dead_letter": 3}, "policy.dead_letter: a topic is expected, not 3"),
        ({"backoff_ms": 10}, f"policy.backoff_ms: a list of at most {BACKOFF_STEPS_MAX} whole numbers"),
        ({"backoff_ms": [1] * (BACKOFF_STEPS_MAX + 1)}, "policy.backoff_ms: a list of at most"),
        ({"backoff_ms": [1, -1]}, f"policy.backoff_ms: 0 to {BACKOFF_STEP_MS_MAX} ms is expected, not -1"),
        ({"backoff_ms": [True]}, "policy.backoff_ms: 0 to "),
        ({"backoff_ms": [1.5]}, "policy.backoff_ms: 0 to "),
        ({"backoff_ms": ["1"]}, "policy.backoff_ms: 0 to "),
        ({"backoff_ms": [BACKOFF_STEP_MS_MAX + 1]}, "policy.backoff_ms: 0 to "),
        ({"max_lenght": 3}, "policy.max_lenght: no such policy; known: ttl_ms, max_length, "),
        ({"": 0}, "policy.: no such policy; known: "),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_key(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(Conflict) as refused:
        QueuePolicy.from_mapping(values)
    assert refused.value.detail.startswith(complaint)


@pytest.mark.parametrize("name", POLICIES)
def test_a_difference_is_named_with_both_values(name: str) -> None:
    plain, other = QueuePolicy(), QueuePolicy.from_mapping({name: VALUES[name]})
    mine = plain.to_mapping()[name]
    assert plain.difference(other) == f"{name} is {mine!r}, not {VALUES[name]!r}"
    assert other.difference(plain) == f"{name} is {VALUES[name]!r}, not {mine!r}"
    assert other.difference(QueuePolicy.from_mapping({name: VALUES[name]})) == ""


def test_the_first_of_several_differences_is_named() -> None:
    assert QueuePolicy().difference(QueuePolicy.from_mapping(VALUES)) == "ttl_ms is 0, not 1"


def test_the_last_pause_repeats_and_none_is_at_once() -> None:
    policy = QueuePolicy.from_mapping({"backoff_ms": [10, 20]})
    assert [policy.pause_ms(attempts) for attempts in (1, 2, 3, 99)] == [10, 20, 20, 20]
    assert QueuePolicy().pause_ms(1) == 0


def test_what_is_declared_without_a_word_fails_as_often_as_rocketmq_has_pauses() -> None:
    assert WORK.backoff_ms == BACKOFF_MS
    assert [WORK.pause_ms(attempts) for attempts in (1, 16)] == [10_000, 7_200_000]
    assert WORK.delivery_limit == 17
