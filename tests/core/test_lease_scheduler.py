"""What lives by the clock: timers and leases."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Delivery, Group
from gateway.core.errors import NotFound
from gateway.core.lease import Leases
from gateway.core.message import Message, Outcome
from gateway.core.policy import QueuePolicy
from gateway.core.scheduler import SWEEP_MIN, Scheduler, Timer
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000


class Timers:
    """A scheduler, its clock, and a log of what was called."""

    def __init__(self) -> None:
        self.clock = Clock(NOW_MS, 1000)
        self.scheduler = Scheduler(self.clock)
        self.called: list[str] = []

    def after(self, delay_ms: int, name: str) -> Timer:
        return self.scheduler.after(delay_ms, lambda: self.called.append(name))

    def advance(self, ms: int) -> int:
        self.clock.set(self.clock.now_ms + ms, self.clock.monotonic_ms + ms)
        return self.scheduler.run_due()


# -- timers -------------------------------------------------------------------------------


def test_timers_fire_once_in_the_order_of_their_time_then_of_their_making() -> None:
    timers = Timers()
    for delay_ms, name in [(30, "c"), (10, "a"), (30, "d"), (20, "b"), (-5, "at once")]:
        timers.after(delay_ms, name)
    assert timers.scheduler.next_due_ms() == 1000
    assert timers.advance(9) == 1
    assert timers.scheduler.next_due_ms() == 1010
    assert timers.advance(1) == 1
    assert timers.advance(100) == 3
    assert timers.called == ["at once", "a", "b", "c", "d"]
    assert timers.scheduler.next_due_ms() is None
    assert timers.advance(1000) == 0


def test_a_jump_of_the_wall_clock_fires_nothing() -> None:
    timers = Timers()
    timers.after(10, "a")
    timers.clock.set(NOW_MS + 1_000_000, 1009)
    assert timers.scheduler.run_due() == 0
    timers.clock.set(NOW_MS - 1_000_000, 1010)
    assert timers.scheduler.run_due() == 1


def test_a_cancelled_timer_does_not_fire_and_cancelling_is_idempotent() -> None:
    timers = Timers()
    kept, gone = timers.after(10, "kept"), timers.after(5, "gone")
    for timer in (gone, gone, None):
        timers.scheduler.cancel(timer)
    assert timers.scheduler.next_due_ms() == 1010
    assert timers.advance(10) == 1
    timers.scheduler.cancel(kept)
    assert timers.called == ["kept"]


def test_a_timer_can_cancel_one_that_is_due_with_it() -> None:
    timers = Timers()
    victims: list[Timer] = []
    timers.scheduler.after(1, lambda: timers.scheduler.cancel(victims[0]))
    victims.append(timers.after(2, "victim"))
    assert timers.advance(5) == 1
    assert timers.called == []


def test_a_timer_that_sets_itself_again_waits_for_the_next_call() -> None:
    timers = Timers()

    def again() -> None:
        timers.called.append("x")
        timers.scheduler.after(0, again)

    again()
    assert [timers.advance(0) for _ in range(3)] == [1, 1, 1]
    assert timers.called == ["x"] * 4


@pytest.mark.parametrize("fired", [0, 30])
def test_a_heap_full_of_cancelled_timers_is_swept_and_the_rest_fire_in_order(fired: int) -> None:
    timers = Timers()
    for number in range(fired):
        timers.after(0, f"early {number}")
    timers.advance(0)
    timers.called.clear()
    names = [f"{number:04}" for number in range(20 * SWEEP_MIN)]
    made = {name: timers.after(1 + index, name) for index, name in enumerate(names)}
    kept = names[:: SWEEP_MIN // 4]
    for name in names:
        if name not in kept:
            timers.scheduler.cancel(made[name])
    assert len(timers.scheduler._heap) < len(names) // 4
    assert timers.advance(len(names)) == len(kept)
    assert timers.called == kept


# -- leases -------------------------------------------------------------------------------


class Leased:
    """Leases over a settle function that writes down what it is asked."""

    def __init__(self, answer: bool = True) -> None:
        self.timers = Timers()
        self.settled: list[tuple[Delivery, Outcome, int | None, str]] = []
        self.leases = Leases(self.timers.scheduler, self._settle)
        self.answer = answer
        queue = ClassicQueue("q", 0, QueuePolicy(), MemoryEngine().read)
        self.group = Group(queue)
        self.delivery = self.another(0)

    def another(self, offset: int) -> Delivery:
        return Delivery(self.group, offset, 0, Message("t", b""), 0)

    def _settle(self, delivery: Delivery, outcome: Outcome, delay_ms: int | None, reason: str) -> bool:
        self.settled.append((delivery, outcome, delay_ms, reason))
        return self.answer


@pytest.mark.parametrize(
    ("outcome", "delay_ms"), [(Outcome.ACK, 0), (Outcome.RETRY, 50), (Outcome.REJECT, 0)]
)
def test_a_token_settles_its_delivery_once(outcome: Outcome, delay_ms: int) -> None:
    leased = Leased()
    leased.leases.hold("token", leased.delivery, 100)
    assert leased.leases.find("token") is leased.delivery
    leased.leases.settle("token", outcome, delay_ms, "why")
    assert len(leased.leases) == 0
    with pytest.raises(NotFound, match="settled already"):
        leased.leases.settle("token", outcome)
    assert leased.timers.advance(1000) == 0
    assert leased.settled == [(leased.delivery, outcome, delay_ms, "why")]


def test_a_lease_that_is_over_gives_the_delivery_back() -> None:
    leased = Leased()
    leased.leases.hold("token", leased.delivery, 100)
    leased.timers.advance(99)
    assert len(leased.leases) == 1
    leased.timers.advance(1)
    assert leased.settled == [(leased.delivery, Outcome.REQUEUE, 0, "")]
    assert len(leased.leases) == 0


def test_an_extended_lease_starts_again_from_now() -> None:
    leased = Leased()
    leased.leases.hold("token", leased.delivery, 100)
    leased.timers.advance(99)
    leased.leases.extend("token", 50)
    leased.timers.advance(49)
    assert leased.leases.find("token") is leased.delivery
    leased.timers.advance(1)
    assert leased.settled == [(leased.delivery, Outcome.REQUEUE, 0, "")]


def test_a_lease_that_is_replaced_goes_on_under_the_other_token() -> None:
    leased = Leased()
    leased.leases.hold("token", leased.delivery, 100)
    leased.leases.replace("token", "other", 50)
    with pytest.raises(NotFound):
        leased.leases.find("token")
    assert leased.leases.find("other") is leased.delivery
    leased.timers.advance(50)
    assert leased.settled == [(leased.delivery, Outcome.REQUEUE, 0, "")]
    leased.timers.advance(50)
    assert len(leased.settled) == 1


def test_what_is_held_together_ends_together_but_for_what_was_settled() -> None:
    leased = Leased()
    deliveries = {name: leased.another(offset) for offset, name in enumerate("abcd")}
    leased.leases.hold_all(deliveries, 100)
    assert leased.timers.scheduler.next_due_ms() == 1100
    leased.leases.settle("b", Outcome.ACK)
    leased.leases.extend("c", 200)
    assert leased.leases.take("d") is deliveries["d"], "whoever takes it settles it"
    leased.timers.advance(100)
    assert [(delivery.offset, outcome) for delivery, outcome, *_ in leased.settled] == [
        (1, Outcome.ACK),
        (0, Outcome.REQUEUE),
    ]
    leased.timers.advance(100)
    assert leased.settled[-1][0] is deliveries["c"]
    assert len(leased.leases) == 0


def test_a_lease_is_over_when_its_holder_leaves() -> None:
    leased = Leased()
    one, other = object(), object()
    leased.leases.hold_all({"a": leased.another(1), "b": leased.another(2)}, 100, one)
    leased.leases.hold_all({"c": leased.another(3)}, 100, one)
    leased.leases.hold_all({"d": leased.another(4)}, 100, other)
    leased.leases.hold("e", leased.another(5), 100)
    leased.leases.settle("a", Outcome.ACK)
    leased.leases.settle("c", Outcome.ACK)
    leased.leases.leave(one)
    assert [delivery.offset for delivery, *_ in leased.settled] == [1, 3, 2]
    leased.leases.leave(one)
    assert len(leased.leases) == 2
    leased.timers.advance(100)
    assert [delivery.offset for delivery, *_ in leased.settled] == [1, 3, 2, 4, 5]
    assert not leased.leases._holders


CALLS: dict[str, Callable[[Leases], object]] = {
    "find": lambda leases: leases.find("token"),
    "extend": lambda leases: leases.extend("token", 10),
    "settle": lambda leases: leases.settle("token", Outcome.ACK),
    "replace": lambda leases: leases.replace("token", "other", 10),
    "take": lambda leases: leases.take("token"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("expired", [False, True], ids=["unknown", "expired"])
def test_a_token_that_stands_for_nothing_is_not_found(call: str, expired: bool) -> None:
    leased = Leased()
    if expired:
        leased.leases.hold("token", leased.delivery, 10)
        leased.timers.advance(10)
    with pytest.raises(NotFound):
        CALLS[call](leased.leases)


def test_the_holder_is_told_that_the_queue_is_gone() -> None:
    leased = Leased(answer=False)
    leased.leases.hold("token", leased.delivery, 10)
    with pytest.raises(NotFound, match="deleted or purged"):
        leased.leases.settle("token", Outcome.ACK)
    assert len(leased.leases) == 0
