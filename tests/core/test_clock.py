"""Time: what the wall clock does in jumps, messages do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.broker import Broker
from gateway.core.clock import JUMP_MS, KEEP_INTERVAL_MS, Clock
from gateway.core.errors import InvalidValue
from gateway.core.message import Message
from gateway.core.metrics import DropCause
from gateway.core.policy import QueuePolicy
from gateway.core.replay import start_offset
from gateway.core.stream import StreamQueue
from gateway.core.sweeper import SWEEP_INTERVAL_MS
from gateway.storage.commitlog import CommitLog

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
HOUR_MS = 3_600_000


class Machine:
    """A gateway's core on a machine whose wall clock can be set."""

    def __init__(self, path: Path, wall_ms: int = NOW_MS) -> None:
        self.path = path
        self.wall_ms = wall_ms
        self.remarks: list[str] = []
        self.start()

    def start(self) -> None:
        self.clock = Clock()
        self.uptime_ms = 1000
        self.clock.set(self.wall_ms, self.uptime_ms)
        self.broker = Broker(CommitLog(self.path), self.clock)
        self.remarks = self.broker.restore(lambda: None)

    def restart(self, after_ms: int = 0, kill: bool = False) -> None:
        if kill:
            self.broker.engine.flush()
        else:
            self.run(KEEP_INTERVAL_MS)
        self.broker.engine.close()
        self.wall_ms += after_ms
        self.start()

    def run(self, ms: int) -> None:
        """Let time pass, in steps as a running gateway would see it."""
        while ms > 0:
            step = min(ms, SWEEP_INTERVAL_MS)
            self.wall_ms += step
            self.uptime_ms += step
            ms -= step
            self.clock.set(self.wall_ms, self.uptime_ms)
            self.broker.scheduler.run_due()
            self.broker.dispatch()
            self.broker.engine.flush()
            self.broker.flushed()

    def publish(self, queue: str, ttl_ms: int = 0) -> None:
        expires_at_ms = self.clock.now_ms + ttl_ms if ttl_ms else 0
        self.broker.publish(Message(f"$queue/{queue}", b"x", 1, expires_at_ms=expires_at_ms))

    def expired(self) -> int:
        return self.broker.metrics.dropped[DropCause.EXPIRED]

    def length(self, queue: str) -> int:
        return self.broker.catalog.get(queue).length()


@pytest.mark.parametrize("jump_ms", [DAY_MS, -DAY_MS, JUMP_MS + 1, -JUMP_MS - 1])
def test_a_jump_expires_nothing_early_and_nothing_late(tmp_path: Path, jump_ms: int) -> None:
    machine = Machine(tmp_path)
    machine.broker.catalog.declare("q")
    machine.broker.catalog.declare("ttl", policy=QueuePolicy(ttl_ms=60_000))
    machine.publish("q", ttl_ms=60_000)
    machine.publish("ttl")
    machine.run(30_000)
    machine.wall_ms += jump_ms
    machine.run(29_000)
    assert (machine.length("q"), machine.length("ttl"), machine.expired()) == (1, 1, 0)
    assert machine.clock.offset_ms == jump_ms
    assert machine.clock.wall_ms == machine.wall_ms, "time stamps that others see are the wall clock's"
    machine.run(3000)
    assert (machine.length("q"), machine.length("ttl"), machine.expired()) == (0, 0, 2)
    machine.broker.engine.close()


@pytest.mark.parametrize(
    ("jump_ms", "later_ms", "passed_ms"),
    [
        (0, 0, HOUR_MS),
        (0, -DAY_MS, 0),  # in the past: on from the last time known
        (0, DAY_MS, HOUR_MS + DAY_MS),  # nobody can tell this from a day without power
        (DAY_MS, 0, HOUR_MS),  # still as wrong as it was
        (DAY_MS, -DAY_MS, 0),  # corrected: it may have been right before
        (DAY_MS, DAY_MS, HOUR_MS + DAY_MS),
        (-DAY_MS, 0, 0),  # as wrong as it was, or right: the earlier
        (-DAY_MS, DAY_MS, HOUR_MS),  # corrected
        (-DAY_MS, -DAY_MS, 0),
    ],
)
@pytest.mark.parametrize("kill", [False, True])
def test_over_a_restart_nothing_that_has_expired_comes_back(
    tmp_path: Path, jump_ms: int, later_ms: int, passed_ms: int, kill: bool
) -> None:
    """The clock jumps while the gateway runs, and again in the hour in which it does not."""
    machine = Machine(tmp_path)
    machine.broker.catalog.declare("q")
    machine.publish("q", ttl_ms=10_000)
    machine.publish("q", ttl_ms=3 * HOUR_MS)
    machine.run(20_000)
    machine.wall_ms += jump_ms
    machine.publish("q", ttl_ms=3 * HOUR_MS)
    machine.run(KEEP_INTERVAL_MS)
    assert machine.expired() == 1
    last_ms = machine.clock.now_ms
    machine.restart(later_ms + HOUR_MS, kill)
    assert abs(machine.clock.now_ms - last_ms - passed_ms) <= KEEP_INTERVAL_MS + SWEEP_INTERVAL_MS
    assert machine.clock.shown(machine.clock.now_ms) == machine.wall_ms
    machine.run(2000)
    assert machine.length("q") == (2 if passed_ms < 3 * HOUR_MS else 0)
    machine.broker.engine.close()


def test_a_clock_in_the_past_is_reported_and_time_goes_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.broker.catalog.declare("q")
    machine.publish("q", ttl_ms=HOUR_MS)
    machine.run(20_000)
    machine.restart(-365 * DAY_MS)
    (remark,) = [remark for remark in machine.remarks if "clock" in remark]
    assert remark.startswith("the wall clock is 3153")
    assert "behind" in remark
    machine.run(HOUR_MS)
    assert machine.expired() == 1
    assert machine.clock.wall_ms < NOW_MS
    machine.restart(365 * DAY_MS)
    assert [remark for remark in machine.remarks if "clock" in remark] == []
    assert machine.clock.offset_ms == 0, "the clock is right again, and so are we"
    machine.broker.engine.close()


def test_a_gateway_that_does_nothing_writes_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run(5 * KEEP_INTERVAL_MS)
    before = machine.broker.engine.position()
    machine.run(50 * KEEP_INTERVAL_MS)
    assert machine.broker.engine.position() == before
    machine.broker.engine.close()


def test_a_time_at_a_door_is_the_wall_clocks(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    stream, _ = machine.broker.catalog.declare("s", "stream")
    assert isinstance(stream, StreamQueue)
    machine.publish("s")
    machine.wall_ms += DAY_MS
    machine.run(10_000)
    machine.publish("s")
    at = machine.clock.shown(machine.clock.now_ms)
    assert at == machine.wall_ms
    when = "2023-11-15T22:13:25Z"  # five seconds ago, says the clock on the wall
    assert start_offset(stream, machine.clock, when, "start") == 1
    machine.broker.engine.close()


@pytest.mark.parametrize("text", ["", "first", "-1", "2023-11-15", "2023-11-15T22:13:25", "1" * 19, "٣"])
def test_a_start_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    machine = Machine(tmp_path)
    stream, _ = machine.broker.catalog.declare("s", "stream")
    assert isinstance(stream, StreamQueue)
    with pytest.raises(InvalidValue, match=r"^seek is "):
        start_offset(stream, machine.clock, text, "seek")
    machine.broker.engine.close()


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(-10_000, 10_000)), max_size=30))
def test_time_never_goes_back_and_keeps_step(steps: list[tuple[int, int]]) -> None:
    """Whatever the wall clock does, it passes as fast as the machine's uptime, but for small corrections."""
    clock = Clock(NOW_MS, 0)
    wall_ms, uptime_ms, corrections_ms = NOW_MS, 0, 0
    for passed_ms, jump_ms in steps:
        before = clock.now_ms
        wall_ms += passed_ms + jump_ms
        uptime_ms += passed_ms
        clock.set(wall_ms, uptime_ms)
        assert clock.now_ms >= before
        if abs(jump_ms) <= JUMP_MS:
            corrections_ms += abs(jump_ms)
        assert abs(clock.now_ms - NOW_MS - uptime_ms) <= corrections_ms + JUMP_MS * len(steps)
        assert clock.wall_ms == wall_ms
