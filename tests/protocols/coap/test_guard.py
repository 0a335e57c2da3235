"""Whose an address is, how much it may send, and what no resource is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.clock import Clock
from gateway.protocols.coap.codec import encode, encode_options, read_options
from gateway.protocols.coap.datagrams import guard
from gateway.protocols.coap.datagrams.guard import ECHO_SECONDS_MAX, HOSTS_MAX, SMALL_BYTES, Guard, suppressed
from gateway.protocols.coap.numbers import (
    ACK,
    BAD_REQUEST,
    CHANGED,
    CONTINUE,
    ECHO,
    INTERNAL_SERVER_ERROR,
    MAX_AGE,
    NOT_FOUND,
    OBSERVE,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    URI_PATH,
    URI_QUERY,
)

VICTIM = "192.0.2.1:5683"


def make(rate: int = 10, networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128", "10.0.0.0/8")) -> Guard:
    return Guard(Clock(1_000_000, 1_000_000), networks, rate)


def later(guarded: Guard, seconds: float) -> None:
    guarded._clock.monotonic_ms += int(seconds * 1000)


# -- Echo -------------------------------------------------------------------------------------


def test_an_echo_proves_its_address_for_a_time() -> None:
    guarded = make()
    value = guarded.echo(VICTIM)
    assert 1 <= len(value) <= 40  # RFC 9175, 2.2.1
    assert guarded.is_echo(value, VICTIM)
    later(guarded, ECHO_SECONDS_MAX)
    assert guarded.is_echo(value, VICTIM)
    later(guarded, 1)
    assert not guarded.is_echo(value, VICTIM)


@pytest.mark.parametrize("other", ["192.0.2.2:5683", "192.0.2.1:5684", "[::1]:5683"])
def test_an_echo_is_of_one_address_and_port(other: str) -> None:
    guarded = make()
    assert not guarded.is_echo(guarded.echo(VICTIM), other)


def test_an_echo_of_another_run_is_none() -> None:
    assert not make().is_echo(make().echo(VICTIM), VICTIM)


def test_a_changed_echo_is_none() -> None:
    guarded = make()
    value = guarded.echo(VICTIM)
    for at in range(len(value)):
        changed = bytearray(value)
        changed[at] ^= 1
        assert not guarded.is_echo(bytes(changed), VICTIM)
        assert not guarded.is_echo(value[:at], VICTIM)
    assert not guarded.is_echo(value + b"\0", VICTIM)


@given(st.binary(max_size=40))
def test_a_guess_is_none(value: bytes) -> None:
    assert not make().is_echo(value, VICTIM)


def test_a_challenge_is_small_itself() -> None:
    answer = make().challenge(VICTIM)
    assert answer.code == UNAUTHORIZED
    assert [number for number, _ in answer.options] == [ECHO]
    data = encode(ACK, answer.code, 1, b"12345678", answer.options, answer.payload)
    assert len(data) <= SMALL_BYTES


@pytest.mark.parametrize(
    ("response", "request_", "wanted"),
    [(152, 10, False), (153, 10, True), (153, 51, False), (1024, 341, True), (1024, 342, False)],
)
def test_what_is_too_large_for_strangers(response: int, request_: int, wanted: bool) -> None:
    assert guard.too_large_for_stranger(response, request_) is wanted


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:10.1.2.3", True),
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("::ffff:11.1.2.3", False),
        ("fe80::1%eth0", False),
        ("2001:db8::1", False),
    ],
)
def test_trusted_networks(host: str, trusted: bool) -> None:
    guarded = make()
    assert guarded.trusts(host) is trusted
    assert guarded.bucket(host).trusted is trusted


def test_what_is_no_network() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        make(networks=("10.0.0.0/8", "neighbours"))


# -- floods -----------------------------------------------------------------------------------


def take(guarded: Guard, host: str, count: int) -> int:
    """Send so many datagrams; return how many are taken."""
    taken = 0
    for _ in range(count):
        bucket = guarded.bucket(host)
        bucket.left -= 1
        taken += bucket.left >= 0 or guarded.refill(bucket)
    return taken


def test_an_address_has_its_rate_and_others_theirs() -> None:
    guarded = make(rate=10)
    assert take(guarded, "192.0.2.1", 100) == 10
    assert take(guarded, "192.0.2.2", 5) == 5
    later(guarded, 0.5)
    assert take(guarded, "192.0.2.1", 100) == 5
    assert take(guarded, "192.0.2.2", 100) == 10
    later(guarded, 3600)
    assert take(guarded, "192.0.2.1", 100) == 10


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3000)), max_size=30))
def test_never_more_than_the_rate_and_a_burst(steps: list[tuple[int, int]]) -> None:
    guarded = make(rate=10)
    taken = passed_ms = 0
    for count, pause_ms in steps:
        taken += take(guarded, "192.0.2.1", count)
        assert taken <= 10 + passed_ms * 10 / 1000
        later(guarded, pause_ms / 1000)
        passed_ms += pause_ms


def test_no_rate_is_no_limit() -> None:
    guarded = make(rate=0)
    assert take(guarded, "192.0.2.1", 1000) == 1000
    guarded.bucket("192.0.2.1").left = 0
    assert take(guarded, "192.0.2.1", 1000) == 1000


def test_addresses_are_remembered_up_to_a_number() -> None:
    guarded = make()
    for number in range(HOSTS_MAX + 10):
        guarded.bucket(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(guarded) == HOSTS_MAX


def test_too_many_says_when_to_come_again() -> None:
    answer = guard.too_many()
    assert (answer.code, answer.options) == (TOO_MANY_REQUESTS, ((MAX_AGE, b"\x01"),))


# -- what needs proof, and answers that nobody wants --------------------------------------------

ASKS = {
    "a value": ([(URI_PATH, b"ps"), (URI_PATH, b"a")], False),
    "an observation": ([(URI_PATH, b"ps"), (OBSERVE, b"")], True),
    "the end of an observation": ([(URI_PATH, b"ps"), (OBSERVE, b"\1")], False),
    "a message of a queue": ([(URI_PATH, b"queues"), (URI_PATH, b"q"), (URI_PATH, b"receive")], True),
    "a message for a queue": ([(URI_PATH, b"queues"), (URI_PATH, b"receive")], False),
    "pending commands": ([(URI_PATH, b"ps"), (URI_QUERY, b"qos=1"), (URI_QUERY, b"ttd=5")], True),
    "nothing": ([], False),
}


@pytest.mark.parametrize("case", ASKS)
def test_what_needs_proof(case: str) -> None:
    options, wanted = ASKS[case]
    assert guard.needs_proof(read_options(encode_options(options))) is wanted


@pytest.mark.parametrize(
    ("no_response", "classes"),
    [(-1, ()), (0, ()), (2, (2,)), (8, (4,)), (16, (5,)), (26, (2, 4, 5)), (24, (4, 5)), (127, (2, 4, 5))],
)
def test_no_response(no_response: int, classes: tuple[int, ...]) -> None:
    for code in (CHANGED, CONTINUE, BAD_REQUEST, NOT_FOUND, INTERNAL_SERVER_ERROR):
        assert suppressed(no_response, code) is (code >> 5 in classes)
