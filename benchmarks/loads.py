"""What the clients do together: a stream of messages for a while, a paced trickle, many idle connections.

Throughput is what *subscribers received* between two readings of the clock. At most `OUTSTANDING_MAX`
messages are sent and not yet received, for every broker alike, so that a run measures how fast a broker
carries messages and not what it does when it is flooded. Messages that never arrive are counted and reported.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import select
import socket
import struct
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .clients import Poster, Publisher, Subscriber, Wire, WireError, log_in
from .frames import DISCONNECT, Ring

OUTSTANDING_MAX = 16_384
"""2.3 MB of 140-byte frames: 50 ms of work at 300 k/s, so a fast broker never waits for the client."""

OUTSTANDING_START = 256
"""The limit grows from here by one for each message received, so that a slow broker is not left with a
backlog that takes it minutes to drain."""

COALESCE_SECONDS = 0.0001
"""A client that wakes for every small write costs the broker a wake-up across cores for each, and mosquitto
then falls from 360 k/s to 210 k/s in some runs and not in others. Looking every 100 us costs no broker
anything where hundreds of messages are in flight, and makes runs agree within a few per cent."""

WARM_UP_SECONDS = 1.0
QUIET_SECONDS = 0.5
"""With nothing arriving for so long, what is missing is taken as lost and the stream goes on."""

STALL_SECONDS = 15.0
DRAIN_SECONDS_MAX = 60.0
DRAIN_QUIET_SECONDS = 5.0
TRICKLE_IN_FLIGHT_MAX = 5_000
"""Five seconds of a trickle of 1000/s: a broker so far behind cannot keep the pace."""


@dataclass
class Tally:
    """What one load saw: counts over the measured interval, losses over the whole of it."""

    seconds: float
    received: int
    received_in_all: int
    expected_in_all: int
    redelivered: int
    client_cpu_share: float

    @property
    def rate(self) -> float:
        return self.received / self.seconds

    @property
    def loss_share(self) -> float:
        if not self.expected_in_all:
            return 0.0
        return (self.expected_in_all - self.received_in_all) / self.expected_in_all


class Crew:
    """Wires under one epoll; `turn` lets each that is ready read or write once."""

    def __init__(self, wires: Sequence[Wire], *, eager: bool = False) -> None:
        """Look for work as soon as there is any when `eager`, else every `COALESCE_SECONDS`."""
        self._eager = eager
        self._epoll = select.epoll()
        self._wires = {wire.sock.fileno(): wire for wire in wires}
        self.received = 0
        for wire in wires:
            wire.watch(self._epoll)

    def turn(self, wait_seconds: float) -> bool:
        if not self._eager:
            time.sleep(COALESCE_SECONDS)
        events = self._epoll.poll(wait_seconds)
        for descriptor, mask in events:
            wire = self._wires[descriptor]
            if mask & ~select.EPOLLOUT:
                self.received += wire.read()
            if mask & select.EPOLLOUT:
                wire.push()
        return bool(events)

    def busy(self) -> bool:
        return any(wire.busy for wire in self._wires.values())

    def close(self) -> None:
        self._epoll.close()
        for wire in self._wires.values():
            # A socket that the broker closed first has said all that matters.
            with contextlib.suppress(OSError):
                if wire.goodbye:
                    wire.sock.send(wire.goodbye)
            wire.close()


class Stream:
    """Publishers as busy as their windows and the limit on outstanding messages let them be."""

    def __init__(
        self,
        publishers: Sequence[Publisher],
        subscribers: Sequence[Subscriber],
        *,
        unit: tuple[int, int] = (1, 1),
        burst: int = 1,
        eager: bool = False,
    ) -> None:
        """Send in units: each `unit[0]` frames cause `unit[1]` deliveries. Wait until `burst` units fit."""
        assert burst * unit[1] <= OUTSTANDING_START, "the first burst would never be allowed"
        self.crew = Crew([*publishers, *subscribers], eager=eager)
        self._publishers = publishers
        self._next = itertools.cycle(publishers)
        self._subscribers = subscribers
        self._unit_frames, self._unit_deliveries = unit
        self._burst = burst
        self._units = 0
        self._written_off = 0

    @property
    def expected(self) -> int:
        return self._units * self._unit_deliveries

    def busy(self) -> bool:
        return self.crew.received < self.expected or self.crew.busy()

    def top_up(self) -> None:
        received = self.crew.received
        limit = min(OUTSTANDING_MAX, OUTSTANDING_START + received)
        room = (limit - (self.expected - received - self._written_off)) // self._unit_deliveries
        alone = len(self._publishers) == 1
        refused = 0
        while room >= self._burst and refused < len(self._publishers):
            share = room if alone else self._burst
            taken = next(self._next).allow(share * self._unit_frames) // self._unit_frames
            self._units += taken
            room -= taken
            refused = 0 if taken and not alone else refused + 1

    def write_off(self) -> None:
        self._written_off = self.expected - self.crew.received

    def redelivered(self) -> int:
        return sum(each.redelivered for each in self._subscribers)


class Posts:
    """HTTP connections that post again as soon as they are answered, and subscribers that count."""

    def __init__(
        self, posters: Sequence[Poster], subscribers: Sequence[Subscriber], messages_a_post: int
    ) -> None:
        self.crew = Crew([*posters, *subscribers])
        self._posters = posters
        self._subscribers = subscribers
        self._messages = messages_a_post

    @property
    def expected(self) -> int:
        return sum(each.requests for each in self._posters) * self._messages

    def busy(self) -> bool:
        return self.crew.received < self.expected or self.crew.busy()

    def top_up(self) -> None:
        for each in self._posters:
            if not each.busy:
                each.start()

    def write_off(self) -> None:
        """Do nothing: one request in flight a connection is limit enough."""

    def redelivered(self) -> int:
        return sum(each.redelivered for each in self._subscribers)


def flow(load: Stream | Posts, seconds: float) -> Tally:
    """Run `load` for a warm-up and `seconds`, then let everything arrive."""
    with undisturbed():
        _run_for(load, WARM_UP_SECONDS)
        began, cpu, before = time.perf_counter(), time.process_time(), load.crew.received
        _run_for(load, seconds)
        elapsed = time.perf_counter() - began
        received = load.crew.received - before
        cpu_share = (time.process_time() - cpu) / elapsed
        _drain(load)
    return Tally(elapsed, received, load.crew.received, load.expected, load.redelivered(), cpu_share)


def _run_for(load: Stream | Posts, seconds: float) -> None:
    clock, crew = time.perf_counter, load.crew
    now = clock()
    until, progress_at, progress = now + seconds, now, crew.received
    while now < until:
        load.top_up()
        if not crew.turn(min(QUIET_SECONDS, until - now)) and now - progress_at > QUIET_SECONDS:
            load.write_off()
        now = clock()
        if crew.received != progress:
            progress, progress_at = crew.received, now
        elif now - progress_at > STALL_SECONDS:
            raise WireError(f"nothing received for {STALL_SECONDS:.0f} s")


def _drain(load: Stream | Posts) -> None:
    until = time.perf_counter() + DRAIN_SECONDS_MAX
    while load.busy() and time.perf_counter() < until:
        if not load.crew.turn(DRAIN_QUIET_SECONDS):
            break


def fill(publisher: Publisher, count: int) -> float:
    """Publish so many messages as fast as the window permits; return the seconds until the last PUBACK."""

    def acknowledged() -> int:
        publisher.allow(count - publisher.allowed)
        return publisher.acked

    return _seconds_until(publisher, count, acknowledged)


def drain(subscriber: Subscriber, count: int) -> float:
    """Receive so many messages; return the seconds that took."""
    return _seconds_until(subscriber, count, lambda: subscriber.received)


def _seconds_until(wire: Wire, count: int, reached: Callable[[], int]) -> float:
    with undisturbed(), contextlib.closing(Crew([wire])) as crew:
        began = progress_at = time.perf_counter()
        progress = 0
        while (now := reached()) < count:
            if now != progress:
                progress, progress_at = now, time.perf_counter()
            elif time.perf_counter() - progress_at > STALL_SECONDS:
                raise WireError(f"after {progress} of {count} messages nothing more came")
            crew.turn(QUIET_SECONDS)
        return time.perf_counter() - began


class Timer(Subscriber):
    """A subscriber that notes the age of each message from the nanoseconds at the front of its payload."""

    __slots__ = ("ages_ms", "stamp_at")

    def __init__(self, sock: socket.socket, sample: bytes, *, id_at: int) -> None:
        super().__init__(sock, sample, id_at=id_at)
        self.stamp_at = id_at + 2
        self.ages_ms = array("d")

    def _take(self, count: int, whole: int) -> None:
        self._note_ages(self.ages_ms, self.stamp_at, whole)
        super()._take(count, whole)


def trickle(
    publisher: Publisher,
    timer: Subscriber,
    ages_ms: array[float],
    ring: Ring,
    rate: int,
    seconds: float,
    stamp_at: int,
) -> array[float]:
    """Publish `rate` messages a second on the dot; return every message's age on arrival in milliseconds.

    A message carries the time at which it was *due*, so a broker (or client) that falls behind is charged
    for the wait. The client polls without sleeping: its own wake-ups are not the broker's latency.
    """
    interval_ns = 1_000_000_000 // rate
    warm_up = int(rate * WARM_UP_SECONDS)
    wanted = warm_up + int(rate * seconds)
    with undisturbed(), contextlib.closing(Crew([publisher, timer], eager=True)) as crew:
        due = time.perf_counter_ns()
        for number in range(wanted):
            due += interval_ns
            while time.perf_counter_ns() < due:
                crew.turn(0)
            struct.pack_into(">Q", ring.data, number % ring.count * ring.frame_bytes + stamp_at, due)
            if not publisher.allow(1):
                raise WireError(f"too many messages unacknowledged at {rate}/s")
        until = time.perf_counter() + DRAIN_SECONDS_MAX
        while timer.received < wanted and time.perf_counter() < until and crew.turn(DRAIN_QUIET_SECONDS):
            pass
    if timer.received != wanted:
        raise WireError(f"{timer.received} of {wanted} messages arrived")
    return ages_ms[warm_up:]


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector out of a measured stretch."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def idle_connections(
    port: int, count: int, sources: Sequence[str], keep_alive_seconds: int
) -> Iterator[None]:
    """Hold `count` MQTT connections open that say nothing."""
    socks = []
    try:
        for number in range(count):
            source = sources[number % len(sources)]
            client_id = f"idle-{source}-{number:05d}"
            socks.append(log_in(port, client_id, keep_alive_seconds=keep_alive_seconds, source=source))
        yield
    finally:
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.send(DISCONNECT)
            sock.close()
