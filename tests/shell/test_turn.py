"""The turn: one write to the log, one write to each socket, in order, and nothing told before it is true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.errors import NotStored
from gateway.core.message import Message, Origin
from gateway.core.receiver import Item
from gateway.core.router import Binding
from gateway.core.session import Session
from gateway.storage.memory import MemoryEngine
from gateway.turn import NOT_STORED_LOG_INTERVAL_MS, TURN_BYTES_MAX, Turn
from tests.process import wait_for


class HandLoop:
    """As much of an event loop as a turn uses, driven by hand."""

    def __init__(self) -> None:
        self.ready: list[Callable[[], None]] = []
        self.timers: list[asyncio.TimerHandle] = []
        self.closed = False

    def call_soon(self, call: Callable[[], None]) -> None:
        self.ready.append(call)

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.ready.append(call)

    def call_later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(time.monotonic() + delay, call, (), self)  # type: ignore[arg-type]
        self.timers.append(handle)
        return handle

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.timers.remove(handle)

    def round(self) -> None:
        """One iteration: what is ready now, not what that makes ready."""
        calls, self.ready = self.ready, []
        for call in calls:
            call()


class SlowEngine(MemoryEngine):
    """Written by `flush`, durable after `sync`, and every flush can be made to fail."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.full = False
        self.waiting: list[tuple[int, Callable[[bool], None]]] = []
        self.durable = self.written = 0
        self.lost_from = 0

    def open(self, notify: Callable[[], None]) -> object:  # type: ignore[override]
        self.notify = notify
        return super().open(notify)

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        self.waiting.append((position, call))

    def flush(self) -> None:
        if self.written == self.position():
            return
        self.events.append("write")
        if not self.full:
            self.written = self.position()
            return
        self.lost_from = self.written + 1
        self.forget_from(self.lost_from)
        self.written = self.position()
        lost, self.waiting = [w for w in self.waiting if w[0] >= self.lost_from], []
        for _, call in lost:
            call(False)
        raise NotStored("disk full")

    def failed_from(self) -> int:
        return self.lost_from

    def sync(self) -> None:
        """The disk has it: tell the loop, as the thread that syncs does."""
        self.durable = self.written
        self.notify()

    def completed(self) -> None:
        due = [w for w in self.waiting if w[0] <= self.durable]
        self.waiting = [w for w in self.waiting if w[0] > self.durable]
        for _, call in due:
            call(True)


class Socket:
    """Flushed at the end of a turn."""

    def __init__(self, name: str, events: list[str]) -> None:
        self._name, self._events = name, events

    def flush(self) -> None:
        self._events.append(f"flush {self._name}")


class AllowAll:
    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(True)


class Bench:
    """A broker with a slow disk, and its turn."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.loop = HandLoop()
        self.engine = SlowEngine(self.events)
        self.clock = Clock()
        self.broker = Broker(self.engine, self.clock)
        self.turn = Turn(self.loop, self.broker)  # type: ignore[arg-type]
        self.broker.ready.wake = self.turn.begin
        self.turn.begin()
        self.broker.restore(self.turn.notify)
        queue, _ = self.broker.catalog.declare("q")
        self.broker.catalog.bind(queue, Binding("q/#", queue, qos=1))
        self.queue = queue
        self.loop.round()
        self.events.clear()

    def store(self, body: bytes = b"x", retain: bool = False) -> int:
        self.turn.begin()
        return self.broker.publish(Message("q/1", body, 1, retain))

    def subscriber(self, deliver: Callable[[list[Item]], None]) -> Session:
        session = Session(self.broker, Principal("u"), Origin("test", "u", "c"), Authority((AllowAll(),)))
        session.receive(deliver)
        session.subscribe("live/#")
        return session


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_turn_is_one_write_and_then_one_flush_for_each_socket(bench: Bench) -> None:
    for _ in range(5):
        bench.store()
    bench.turn.dirty(Socket("a", bench.events))
    bench.store()
    bench.turn.dirty(Socket("b", bench.events))
    assert bench.events == []
    bench.loop.round()
    assert bench.events == ["write", "flush a", "flush b"]
    assert len(bench.loop.ready) == 0
    bench.turn.begin()
    bench.loop.round()
    assert bench.events[3:] == [], "what is flushed is flushed again"


def test_all_that_happens_in_a_round_is_one_turn(bench: Bench) -> None:
    before = bench.turn.turns
    for _ in range(10):
        bench.turn.begin()
    assert len(bench.loop.ready) == 1
    bench.loop.round()
    assert bench.turn.turns == before + 1


def test_a_delivery_is_made_before_the_write_and_sent_after_it(bench: Bench) -> None:
    def deliver(batch: list[Item]) -> None:
        bench.events.append(f"deliver {len(batch)}")
        bench.turn.dirty(Socket("subscriber", bench.events))

    bench.subscriber(deliver)
    bench.loop.round()
    bench.events.clear()
    for _ in range(3):
        bench.store()
        bench.broker.publish(Message("live/1", b"x", 0))
    bench.loop.round()
    assert bench.events == ["deliver 3", "write", "flush subscriber"]


def test_a_socket_or_a_publish_outside_a_turn_begins_one(bench: Bench) -> None:
    bench.turn.dirty(Socket("late", bench.events))
    bench.loop.round()
    assert bench.events == ["flush late"]
    bench.broker.publish(Message("q/1", b"x", 1))
    bench.loop.round()
    assert bench.events == ["flush late", "write"]


def test_the_clock_is_read_once_a_turn(bench: Bench) -> None:
    bench.turn.begin()
    bench.clock.set(1, 2)
    bench.turn.begin()
    assert (bench.clock.wall_ms, bench.clock.monotonic_ms) == (1, 2)
    bench.loop.round()
    bench.turn.begin()
    assert bench.clock.wall_ms > 1_700_000_000_000
    assert bench.clock.monotonic_ms > 2


def test_stored_is_told_after_the_sync_not_after_the_write(bench: Bench) -> None:
    told: list[bool] = []
    bench.engine.when_durable(bench.store(), told.append)
    bench.loop.round()
    assert bench.events == ["write"]
    assert told == []
    bench.engine.sync()
    assert told == [], "told in the thread that synced"
    bench.loop.round()
    assert told == [True]


def test_what_is_written_because_of_a_sync_is_flushed_in_the_same_turn(bench: Bench) -> None:
    """PUBACKs: the callback writes to its socket."""
    socket = Socket("publisher", bench.events)
    bench.engine.when_durable(bench.store(), lambda stored: bench.turn.dirty(socket))
    bench.loop.round()
    bench.engine.sync()
    bench.loop.round()
    bench.loop.round()
    assert bench.events == ["write", "flush publisher"]


def test_one_sync_serves_all_who_wait_and_nobody_who_came_later(bench: Bench) -> None:
    told: list[str] = []
    for name in ("a", "b"):
        bench.engine.when_durable(bench.store(), lambda stored, name=name: told.append(name))
    bench.loop.round()
    bench.engine.when_durable(bench.store(), lambda stored: told.append("late"))
    bench.engine.sync()
    bench.loop.round()
    assert told == ["a", "b"]


def test_a_write_that_fails_is_taken_back_and_told_to_those_who_wait(bench: Bench) -> None:
    told: list[tuple[str, bool]] = []
    bench.engine.when_durable(bench.store(b"kept"), lambda stored: told.append(("kept", stored)))
    bench.loop.round()
    bench.engine.sync()
    bench.loop.round()
    bench.engine.full = True
    with capture_logs() as logs:
        for name in ("lost 1", "lost 2"):
            position = bench.store(name.encode(), retain=True)
            bench.engine.when_durable(position, lambda stored, name=name: told.append((name, stored)))
        bench.turn.dirty(Socket("publisher", bench.events))
        bench.loop.round()
    assert told == [("kept", True), ("lost 1", False), ("lost 2", False)]
    assert bench.events[-1] == "flush publisher", "the others' sockets wait for ever"
    assert bench.queue.length() == 1
    assert bench.broker.retained.get("q/1") is None
    assert [(line["log_level"], line["reason"]) for line in logs] == [("error", "disk full")]


def test_the_gateway_goes_on_when_there_is_room_again(bench: Bench) -> None:
    told: list[bool] = []
    bench.engine.full = True
    with capture_logs():
        bench.engine.when_durable(bench.store(), told.append)
        bench.loop.round()
    bench.engine.full = False
    bench.engine.when_durable(bench.store(b"again"), told.append)
    bench.loop.round()
    bench.engine.sync()
    bench.loop.round()
    assert told == [False, True]
    assert bench.queue.length() == 1


def test_a_full_disk_is_one_line_in_the_log_in_five_seconds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("gateway.turn._uptime", lambda: now)
    bench.engine.full = True
    with capture_logs() as logs:
        for _ in range(20):
            bench.store()
            bench.loop.round()
        assert len(logs) == 1
        now += NOT_STORED_LOG_INTERVAL_MS / 1000
        bench.store()
        bench.loop.round()
    assert len(logs) == 2


def test_a_turn_that_has_taken_enough_ends_at_once(bench: Bench) -> None:
    before = bench.turn.turns
    bench.store()
    bench.turn.took(TURN_BYTES_MAX - 1)
    assert bench.events == []
    bench.turn.took(1)
    assert bench.events == ["write"]
    bench.loop.round()
    assert bench.turn.turns == before + 1, "the end that was planned ends an empty turn"
    bench.store()
    bench.turn.took(TURN_BYTES_MAX - 1)
    assert bench.events == ["write"], "the next turn begins with what the last one had taken"


def test_an_inbox_does_not_outgrow_a_turn(bench: Bench) -> None:
    """A client that sends without end, read after read, before the loop comes round."""
    batches: list[int] = []
    bench.subscriber(lambda batch: batches.append(sum(len(message.body) for message, _ in batch)))
    bench.loop.round()
    body = b"x" * 1000
    for _ in range(4 * TURN_BYTES_MAX // len(body)):
        bench.turn.begin()
        bench.broker.publish(Message("live/1", body, 0))
        bench.turn.took(len(body))
    bench.loop.round()
    assert sum(batches) == 4 * TURN_BYTES_MAX // len(body) * len(body)
    assert max(batches) < TURN_BYTES_MAX + 2 * len(body)


def test_a_timer_of_the_core_is_a_turn_of_its_own(bench: Bench) -> None:
    bench.turn.begin()
    bench.broker.scheduler.after(5, bench.store)
    bench.loop.round()
    handle = min(bench.loop.timers, key=lambda handle: handle.when())
    assert handle.when() <= time.monotonic() + 0.006
    assert bench.events == []
    wait_for(lambda: time.monotonic() >= handle.when())
    bench.loop.timers.remove(handle)
    handle._run()
    bench.loop.round()
    assert bench.events == ["write"]


def test_a_nearer_timer_replaces_the_one_that_is_set(bench: Bench) -> None:
    bench.turn.begin()
    bench.broker.scheduler.after(100, lambda: None)
    bench.loop.round()
    [far] = bench.loop.timers
    bench.turn.begin()
    bench.broker.scheduler.after(50, lambda: None)
    bench.loop.round()
    [near] = bench.loop.timers
    assert far.cancelled()
    assert near.when() < far.when()


def test_stop_ends_the_turn_and_leaves_no_timer(bench: Bench) -> None:
    bench.store()
    bench.turn.stop()
    assert bench.events == ["write"]
    assert bench.loop.timers == []


def test_a_sync_that_ends_after_the_loop_is_nobodys_business(bench: Bench) -> None:
    bench.loop.closed = True
    bench.engine.sync()
    assert bench.loop.ready == []
