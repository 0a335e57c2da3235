"""Arguments of queues: what they become, and how each that is wrong is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.policy import DROP_HEAD, REJECT, REJECT_DEAD_LETTER, QueuePolicy
from gateway.protocols.amqp.arguments import CHECKS, age_ms, check, difference, shown, terms
from gateway.protocols.amqp.errors import AmqpFault, Reply
from gateway.protocols.amqp.tables import Table

DAY_MS = 86_400_000
STREAM: Table = {"x-queue-type": "stream"}


def refusal(arguments: Table, durable: bool = True, exclusive: bool = False) -> AmqpFault:
    with pytest.raises(AmqpFault) as caught:
        check("orders", "v", arguments, durable, exclusive)
    return caught.value


# -- what they become ---------------------------------------------------------------------------

TERMS: list[tuple[Table, str, dict[str, Any]]] = [
    ({}, "classic", {}),
    ({"x-queue-type": "classic"}, "classic", {}),
    ({"x-queue-type": "quorum"}, "classic", {}),
    ({"x-queue-type": "stream"}, "stream", {}),
    ({"x-message-ttl": 60_000}, "classic", {"ttl_ms": 60_000}),
    ({"x-message-ttl": 0}, "classic", {"ttl_ms": 1}),  # at once, not never
    ({"x-expires": 1}, "classic", {"expires_ms": 1}),
    ({"x-expires": 0xFFFF_FFFF}, "classic", {"expires_ms": 0xFFFF_FFFF}),
    ({"x-max-length": 10}, "classic", {"max_length": 10}),
    ({"x-max-length-bytes": 1 << 40}, "classic", {"max_bytes": 1 << 40}),
    ({"x-overflow": "drop-head"}, "classic", {"overflow": DROP_HEAD}),
    ({"x-overflow": "reject-publish"}, "classic", {"overflow": REJECT}),
    ({"x-overflow": "reject-publish-dlx"}, "classic", {"overflow": REJECT_DEAD_LETTER}),
    ({"x-delivery-limit": 0}, "classic", {"delivery_limit": 1}),  # returns are not attempts
    ({"x-delivery-limit": 20}, "classic", {"delivery_limit": 21}),
    ({"x-single-active-consumer": True}, "classic", {"single_active": True}),
    ({"x-single-active-consumer": False}, "classic", {}),
    ({"x-max-priority": 255}, "classic", {"max_priority": 255}),
    ({**STREAM, "x-max-age": "7D"}, "stream", {"max_age_ms": 7 * DAY_MS}),
    ({**STREAM, "x-max-length-bytes": 1000}, "stream", {"max_bytes": 1000}),
    ({"x-backoff": [100, 2000]}, "classic", {"backoff_ms": (100, 2000)}),
    ({"x-backoff": []}, "classic", {}),
    ({"x-max-age": "7D"}, "classic", {}),  # a stream's alone
    # known, checked, without a meaning here
    ({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k"}, "classic", {}),
    ({"x-queue-mode": "lazy", "x-queue-version": 2}, "classic", {}),
    ({"x-queue-master-locator": "min-masters", "x-quorum-initial-group-size": 3}, "classic", {}),
    ({**STREAM, "x-stream-max-segment-size-bytes": 1}, "stream", {}),
    # unknown
    ({"x-what": {"deep": [1]}, "anything": None}, "classic", {}),
]


@pytest.mark.parametrize(("arguments", "kind", "changes"), TERMS)
def test_arguments_become_policies(arguments: Table, kind: str, changes: dict[str, Any]) -> None:
    check("q", "/", arguments, True, False)
    found = terms(arguments)
    assert found.kind == kind
    assert found.policy.to_mapping() == {**QueuePolicy().to_mapping(), "dead_letter": "", **changes}


def test_every_argument_is_in_the_table() -> None:
    assert {name for arguments, _, _ in TERMS for name in arguments} >= set(CHECKS)
    assert {name for _, arguments, _, _ in REFUSED for name in arguments} >= set(CHECKS)


def test_where_they_say_nothing_the_base_holds() -> None:
    base = QueuePolicy(ttl_ms=5, max_length=7, overflow=REJECT, single_active=True)
    found = terms({"x-message-ttl": 9, "x-overflow": "drop-head"}, base)
    assert found.policy.difference(QueuePolicy(ttl_ms=9, max_length=7, single_active=True)) == ""
    assert base.ttl_ms == 5


# -- what they must not be -------------------------------------------------------------------------

INTEGERS = {
    "x-message-ttl": 0,
    "x-expires": 1,
    "x-max-length": 0,
    "x-max-length-bytes": 0,
    "x-max-priority": 0,
    "x-delivery-limit": 0,
    "x-stream-max-segment-size-bytes": 1,
    "x-queue-version": 1,
    "x-quorum-initial-group-size": 1,
}
TEXTS = ["x-dead-letter-exchange", "x-dead-letter-routing-key", "x-queue-mode", "x-queue-master-locator"]
CHOICES = ["x-overflow", "x-queue-type"]

#: The argument that is wrong, all arguments, durable, exclusive.
REFUSED: list[tuple[str, Table, bool, bool]] = [
    *(
        (name, {name: value}, True, False)
        for name, least in INTEGERS.items()
        for value in (least - 1, 1 << 63, "1", 1.0, True, None, [1])
    ),
    *((name, {name: value}, True, False) for name in TEXTS for value in (1, None, True, b"x", ["x"])),
    *((name, {name: value}, True, False) for name in CHOICES for value in ("", "Classic", 1, None, True)),
    *(
        ("x-single-active-consumer", {"x-single-active-consumer": value}, True, False)
        for value in (1, "true", None)
    ),
    *(("x-backoff", {"x-backoff": value}, True, False) for value in (10, "10", [-1], [True], [1] * 65, None)),
    *(
        ("x-max-age", {**STREAM, "x-max-age": value}, True, False)
        for value in ("", "7", "D", "7d", "-7D", "1.5h", "7 D", "7DD", "٧D", "²D", 7, None, b"7D", ["7D"])
    ),
    ("x-expires", {"x-expires": 1 << 32}, True, False),
    ("x-max-priority", {"x-max-priority": 256}, True, False),
    ("x-dead-letter-routing-key", {"x-dead-letter-routing-key": "k"}, True, False),
    ("x-queue-type", STREAM, False, False),
    ("x-queue-type", STREAM, True, True),
    ("x-queue-type", {"x-queue-type": "quorum"}, False, False),
    ("x-queue-type", {"x-queue-type": "quorum"}, True, True),
    # one of several
    ("x-expires", {"x-max-length": 1, "x-expires": 0, "x-what": 1}, True, False),
]


@pytest.mark.parametrize(("name", "arguments", "durable", "exclusive"), REFUSED)
def test_a_wrong_argument_is_named(name: str, arguments: Table, durable: bool, exclusive: bool) -> None:
    fault = refusal(arguments, durable, exclusive)
    assert fault.code == Reply.PRECONDITION_FAILED
    assert fault.channel_only
    assert fault.detail.startswith(f"invalid arg '{name}' for queue 'orders' in vhost 'v': ")


def test_the_value_that_is_wrong_is_shown() -> None:
    assert "got '1'" in refusal({"x-max-length": "1"}).detail
    assert "-1 is less than 0" in refusal({"x-max-length": -1}).detail
    assert "256 is over 255" in refusal({"x-max-priority": 256}).detail
    assert "'drop' is none of drop-head, reject-publish" in refusal({"x-overflow": "drop"}).detail
    assert "'7d' is no age" in refusal({**STREAM, "x-max-age": "7d"}).detail


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_classic_queue_may_be_durable_and_exclusive_as_it_likes(durable: bool, exclusive: bool) -> None:
    check("q", "/", {"x-queue-type": "classic"}, durable, exclusive)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", [["classic"], {"classic": 1}])
def test_a_choice_is_a_text(name: str, value: Any) -> None:
    fault = refusal({name: value})
    assert fault.code == Reply.PRECONDITION_FAILED
    assert f"'{name}'" in fault.detail


# -- ages -----------------------------------------------------------------------------------------

AGES = [
    ("1s", 1000),
    ("1m", 60_000),
    ("1h", 3_600_000),
    ("1D", DAY_MS),
    ("1M", 30 * DAY_MS),
    ("1Y", 365 * DAY_MS),
    ("0s", 0),
    ("007D", 7 * DAY_MS),
    ("120m", 2 * 3_600_000),
]


@pytest.mark.parametrize(("text", "expected"), AGES)
def test_ages(text: str, expected: int) -> None:
    assert age_ms(text) == expected


@pytest.mark.parametrize("digits", [30, 5000])
def test_an_age_that_no_clock_reaches_is_refused(digits: int) -> None:
    assert "'x-max-age'" in refusal({**STREAM, "x-max-age": "9" * digits + "D"}).detail


@pytest.mark.parametrize("name", ["x-max-length", "x-max-length-bytes"])
def test_a_length_of_0_is_a_limit(name: str) -> None:
    check("q", "/", {name: 0}, True, False)
    assert terms({name: 0}).policy.difference(QueuePolicy()) != ""


# -- differences ------------------------------------------------------------------------------------

SHOWN: list[tuple[Any, str]] = [
    (None, "none"),
    (True, "'true'"),
    (False, "'false'"),
    (5, "the value '5' of type 'signedint'"),
    ("lazy", "the value 'lazy' of type 'longstr'"),
    (1.5, "the value '1.5' of type 'double'"),
    ([1], "the value '[1]' of type 'array'"),
    ({"a": 1}, "the value '{'a': 1}' of type 'table'"),
    (b"x", "b'x'"),
]


@pytest.mark.parametrize(("value", "text"), SHOWN)
def test_a_value_is_shown_with_its_type(value: Any, text: str) -> None:
    assert shown(value) == text


def test_a_difference_names_both_values() -> None:
    fault = difference("queue 'q'", "/", "x-max-length", shown(5), shown(None))
    assert fault.code == Reply.PRECONDITION_FAILED
    assert fault.text == (
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': "
        "received the value '5' of type 'signedint' but current is none"
    )
