"""Guessing is slow: failures by address and by user, who is exempt, and that memory has a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import throttle as module
from gateway.core.message import host_of
from gateway.throttle import EXEMPT_MS, FAILURES_MAX, REFILL_MS, Throttle, network_of

A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"
V6, SAME_NET, OTHER_NET = "2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"


def fail(throttle: Throttle, host: str, user: str, times: int = FAILURES_MAX, now_ms: int = 0) -> None:
    for _ in range(times):
        throttle.failed(host, user, now_ms)


def test_ten_wrong_logins_and_then_one_more_every_six_seconds() -> None:
    throttle = Throttle()
    for _ in range(FAILURES_MAX):
        assert throttle.wait_ms(A, "ann", 0) == 0
        throttle.failed(A, "ann", 0)
    wait = throttle.wait_ms(A, "ann", 0)
    assert REFILL_MS <= wait <= REFILL_MS + 1
    assert throttle.wait_ms(A, "ann", wait - 2) > 0
    assert throttle.wait_ms(A, "ann", wait) == 0
    throttle.failed(A, "ann", wait)
    assert throttle.wait_ms(A, "ann", wait) > 0
    assert throttle.refused == 3


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20_000)), max_size=60))
def test_the_guesses_that_are_looked_at_are_bounded_over_time(tries: list[tuple[bool, int]]) -> None:
    throttle, now_ms, looked_at = Throttle(), 0, 0
    for other_user, passed_ms in tries:
        now_ms += passed_ms
        user = "bob" if other_user else "ann"
        if not throttle.wait_ms(A, user, now_ms):
            looked_at += 1
            throttle.failed(A, user, now_ms)
    assert looked_at <= FAILURES_MAX + now_ms / REFILL_MS + 1


#: (who has failed, who asks, whether it has to wait)
CASES = [
    ((A, "ann"), (A, "ann"), True),
    ((A, "ann"), (A, "bob"), True),  # the address
    ((A, "ann"), (B, "ann"), True),  # the user
    ((A, "ann"), (B, "bob"), False),
    ((A, ""), (A, "ann"), True),
    ((A, ""), (B, ""), False),
    (("", "ann"), ("", "bob"), False),
    ((V6, "ann"), (SAME_NET, "bob"), True),  # whoever has a /64 has all its addresses
    ((V6, "ann"), (OTHER_NET, "bob"), False),
    ((A, "ann"), (f"::ffff:{A}", "bob"), True),
    (("unix", "ann"), ("unix", "bob"), True),
]


@pytest.mark.parametrize(("failed", "asks", "waits"), CASES)
def test_who_has_to_wait(failed: tuple[str, str], asks: tuple[str, str], waits: bool) -> None:
    throttle = Throttle()
    fail(throttle, *failed)
    assert bool(throttle.wait_ms(*asks, 0)) is waits


def test_one_bucket_is_for_an_address_whatever_the_users() -> None:
    throttle = Throttle()
    for number in range(FAILURES_MAX):
        throttle.failed(A, f"user{number}", 0)
    assert throttle.wait_ms(A, "another", 0)
    assert not throttle.wait_ms(B, "user0", 0)


def test_whoever_logged_in_lately_from_there_is_exempt_until_it_fails_itself() -> None:
    throttle = Throttle()
    throttle.succeeded(A, "ann", 0)
    fail(throttle, A, "guess")
    fail(throttle, B, "ann")
    assert throttle.wait_ms(A, "ann", 0) == 0
    assert throttle.wait_ms(A, "bob", 0), "the others of that address are not"
    assert throttle.wait_ms(B, "ann", 0), "nor is the user from elsewhere"
    throttle.failed(A, "ann", 0)
    assert throttle.wait_ms(A, "ann", 0)


def test_an_exemption_ends() -> None:
    throttle = Throttle()
    throttle.succeeded(A, "ann", 0)
    fail(throttle, A, "guess", now_ms=EXEMPT_MS)
    assert throttle.wait_ms(A, "ann", EXEMPT_MS - 1) == 0
    assert throttle.wait_ms(A, "ann", EXEMPT_MS)


def test_nobody_is_not_exempt() -> None:
    throttle = Throttle()
    throttle.succeeded(A, "", 0)
    fail(throttle, A, "ann")
    assert throttle.wait_ms(A, "", 0)


def test_what_is_remembered_is_bounded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRACKED_MAX", 6)
    throttle = Throttle()
    fail(throttle, A, "ann")
    for number in range(2):
        throttle.failed(f"10.0.0.{number}", f"u{number}", 0)
        throttle.failed(A, "ann", 0)
    assert len(throttle._failures) == 6
    assert throttle.wait_ms(A, "ann", 0), "who goes on is not forgotten"
    for number in range(9):
        throttle.failed(f"10.0.1.{number}", f"v{number}", 0)
        throttle.succeeded(f"10.0.1.{number}", f"v{number}", 0)
        assert len(throttle._failures) <= 6
        assert len(throttle._known) <= 6
    assert not throttle.wait_ms(A, "ann", 0)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("192.0.2.1:5", A),
        ("192.0.2.1", A),
        ("[2001:db8::1]:5", V6),
        (V6, V6),
        ("unix", "unix"),
        ("", ""),
    ],
)
def test_the_host_of_a_peer(peer: str, host: str) -> None:
    assert host_of(peer) == host


@pytest.mark.parametrize("host", ["fe80::1%eth0", "::", "::ffff:1.2.3.4", "no:address", "1.2.3.4", ""])
def test_any_host_has_a_network(host: str) -> None:
    assert isinstance(network_of(host), str)
