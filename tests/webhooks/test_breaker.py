"""An endpoint that is down is not hammered, and one that is back is found."""

from __future__ import annotations

from gateway.webhooks.breaker import FAILURES_MAX, OPEN_MS_FIRST, OPEN_MS_MAX, Breaker, State


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_MAX - 1):
        assert breaker.failed() == 0
    assert breaker.failed() == OPEN_MS_FIRST
    assert breaker.state is State.OPEN
    return breaker


def test_failures_one_after_the_other_open_it() -> None:
    opened()


def test_an_answer_in_between_is_a_beginning() -> None:
    breaker = Breaker()
    for _ in range(10 * FAILURES_MAX):
        breaker.answered()
        for _ in range(FAILURES_MAX - 1):
            assert breaker.failed() == 0
    assert breaker.state is State.CLOSED


def test_what_was_under_way_says_nothing_new() -> None:
    breaker = opened()
    assert breaker.failed() == 0
    breaker.answered()
    assert breaker.state is State.OPEN


def test_each_probe_that_fails_doubles_the_time_up_to_a_limit() -> None:
    breaker = opened()
    pauses = []
    for _ in range(10):
        breaker.probe()
        assert breaker.state is State.PROBING
        pauses.append(breaker.failed())
    assert pauses[:3] == [2 * OPEN_MS_FIRST, 4 * OPEN_MS_FIRST, 8 * OPEN_MS_FIRST]
    assert pauses[-1] == OPEN_MS_MAX


def test_a_probe_that_succeeds_closes_it_and_all_is_as_it_was() -> None:
    breaker = opened()
    breaker.probe()
    breaker.answered()
    assert breaker.state is State.CLOSED
    assert breaker.failed() == 0


def test_an_endpoint_that_wants_to_be_left_alone_is() -> None:
    breaker = Breaker()
    assert breaker.hold(7000) == 7000
    assert breaker.state is State.OPEN
    breaker.probe()
    breaker.answered()
    assert breaker.state is State.CLOSED
