"""What the kernel knows about a broker: memory, processor time, bytes written, and where it may run.

Linux only: `/proc` is the one source that is the same for a broker in C, Erlang or Python.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SETTLE_SECONDS_MAX = 10.0
SETTLE_POLL_SECONDS = 0.25
SETTLE_POLLS = 4
SETTLE_SHARE = 0.005

QUIET_WINDOW_SECONDS = 0.5
OTHERS_BUSY_SHARE = 0.15
"""Of one core: more than this, used by other programs, is said beside a figure."""

USABLE_CORES = sorted(os.sched_getaffinity(0))
"""Of this program as it was started: once it is pinned it sees one."""

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    found, queue = [], [pid]
    while queue:
        each = queue.pop()
        found.append(each)
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                queue += [int(child) for child in children.read_text().split()]
    return found


def rss_bytes(pid: int) -> int:
    """Return the resident memory of the whole family."""
    return sum(_kilobytes(each, "VmRSS:") for each in family(pid)) * 1024


def _kilobytes(pid: int, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    return 0


def settled_rss_bytes(pid: int) -> int:
    """Wait until the family's memory stands still, and return it."""
    until = time.monotonic() + SETTLE_SECONDS_MAX
    readings = [rss_bytes(pid)]
    while time.monotonic() < until:
        time.sleep(SETTLE_POLL_SECONDS)
        readings.append(rss_bytes(pid))
        last = readings[-SETTLE_POLLS:]
        if len(last) == SETTLE_POLLS and max(last) - min(last) <= SETTLE_SHARE * max(last):
            break
    return readings[-1]


def cpu_seconds(pid: int) -> float:
    """Return the processor time that the family has used, user and system."""
    ticks = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_A_SECOND


def written_bytes(pid: int) -> int:
    """Return how many bytes the family caused to be written to storage (evidence, not proof, of an fsync)."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/io").read_text().splitlines():
                if line.startswith("write_bytes:"):
                    total += int(line.split()[1])
    return total


@dataclass(frozen=True)
class Usage:
    """Readings whose difference says what a run took."""

    broker_seconds: float
    others_seconds: float
    written_bytes: int

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.broker_seconds - other.broker_seconds,
            self.others_seconds - other.others_seconds,
            self.written_bytes - other.written_bytes,
        )


def usage(pid: int) -> Usage:
    broker = cpu_seconds(pid)
    return Usage(broker, _machine_seconds() - broker - time.process_time(), written_bytes(pid))


def wait_until_quiet(seconds_max: float) -> float:
    """Wait, not for ever, until other programs leave the processors alone; return the share they take."""
    until = time.monotonic() + seconds_max
    while True:
        began, before = time.perf_counter(), _machine_seconds()
        time.sleep(QUIET_WINDOW_SECONDS)
        share = (_machine_seconds() - before) / (time.perf_counter() - began)
        if share <= OTHERS_BUSY_SHARE or time.monotonic() > until:
            return share


def _machine_seconds() -> float:
    """Return the time that any program had any processor, and that the hypervisor took away."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_A_SECOND


def cores() -> tuple[int, int]:
    """Choose the client's core and the broker's; the same one when there is no other."""
    return USABLE_CORES[-1], USABLE_CORES[0]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Stay on one core; children started meanwhile inherit it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_descriptors(wanted: int) -> int:
    """Raise the limit on open files to `wanted` if it may be; return what it is then. Children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
