"""Counts and latencies of a period, and of everything since the last reset.

Latencies are microseconds, as HDR histograms of five digits have them: the original's. While there is load,
only the counters that are not zero are kept, in a dictionary: a histogram of five digits has millions, and
going through them would stop the load for as long, which would be measured. The histogram proper is made when
the load is over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from .errors import LibraryMissing

try:
    from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
except ImportError as error:
    raise LibraryMissing("the benchmark", "hdrhistogram") from error

DIGITS = 5
EXACT_BITS = 18  # values of so many bits are exact with five digits; of greater ones, so many bits count
#: Beyond these a value counts as the highest, so that one that hangs does not make the histogram useless.
PUBLISH_US_MAX = 60 * 1_000_000
END_TO_END_US_MAX = 12 * 3600 * 1_000_000  # what waits in a backlog may be hours old
PERCENTILE_TICKS = 100  # per half distance to 100 %: as fine as the original's quantile maps


def equivalent(us: int) -> tuple[int, int]:
    """Return the lowest and the highest value that count as the same."""
    shift = max(0, us.bit_length() - EXACT_BITS)
    lowest = us >> shift << shift
    return lowest, lowest + (1 << shift) - 1


class Latencies:
    """What was measured, as counters."""

    def __init__(self, us_max: int) -> None:
        self.us_max = us_max
        self.count = 0
        self._sum = 0
        self._counts: defaultdict[int, int] = defaultdict(int)

    def record(self, us: int) -> None:
        """Add one."""
        us = min(max(us, 0), self.us_max)
        self.count += 1
        self._sum += us
        self._counts[us if us < 1 << EXACT_BITS else equivalent(us)[0]] += 1

    def add(self, other: Latencies) -> None:
        """Add all of another."""
        self.count += other.count
        self._sum += other._sum
        for us, count in other._counts.items():
            self._counts[us] += count

    @property
    def mean(self) -> float:
        """The average in microseconds; 0 of none."""
        return self._sum / max(1, self.count)

    @property
    def highest(self) -> int:
        """The highest in microseconds."""
        return equivalent(max(self._counts, default=0))[1]

    def percentiles(self, wanted: Iterable[float]) -> dict[float, int]:
        """Return the values, in microseconds, that so many percent do not exceed; 0 of none."""
        targets = [(max(1, int(percent * self.count / 100 + 0.5)), percent) for percent in sorted(wanted)]
        found: dict[float, int] = {}
        total = 0
        for us in sorted(self._counts):
            total += self._counts[us]
            while targets and targets[0][0] <= total:
                found[targets.pop(0)[1]] = equivalent(us)[1]
        return found | {percent: 0 for _, percent in targets}

    def quantiles(self) -> Iterator[tuple[float, int]]:
        """Yield (percent, microseconds), finer towards 100 %. Takes a while: not under load."""
        histogram = HdrHistogram(1, self.us_max, DIGITS)
        for us, count in self._counts.items():
            histogram.record_value(us, count)
        step: Any
        for step in histogram.get_percentile_iterator(PERCENTILE_TICKS) if self.count else ():
            yield step.percentile_level_iterated_to, step.value_iterated_to


class LatencySet:
    """The three that are measured."""

    def __init__(self) -> None:
        self.publish = Latencies(PUBLISH_US_MAX)  # from sending to the broker's confirmation
        self.delay = Latencies(PUBLISH_US_MAX)  # from when it was due to sending
        self.end_to_end = Latencies(END_TO_END_US_MAX)  # from sending to its receipt

    def add(self, other: LatencySet) -> None:
        """Add all of another."""
        self.publish.add(other.publish)
        self.delay.add(other.delay)
        self.end_to_end.add(other.end_to_end)


class Counts:
    """How many."""

    def __init__(self) -> None:
        self.sent = self.errors = self.received = 0
        self.bytes_sent = self.bytes_received = 0


class Stats:
    """What producers and consumers report."""

    def __init__(self) -> None:
        self.total = Counts()
        self.period = Counts()
        self.latencies = LatencySet()
        self._cumulative = LatencySet()

    def probed(self) -> None:
        """Count a message that was sent to see whether somebody listens."""
        self.total.sent += 1

    def sent(self, size: int, due_ns: int, sent_ns: int, now_ns: int) -> None:
        """Count a message that the broker has confirmed."""
        self.total.sent += 1
        period = self.period
        period.sent += 1
        period.bytes_sent += size
        self.latencies.publish.record((now_ns - sent_ns) // 1000)
        self.latencies.delay.record((sent_ns - due_ns) // 1000)

    def failed(self) -> None:
        """Count one that could not be sent."""
        self.total.errors += 1
        self.period.errors += 1

    def received(self, size: int, took_ns: int | None) -> None:
        """Count one that came; None: it does not say when it was sent."""
        self.total.received += 1
        period = self.period
        period.received += 1
        period.bytes_received += size
        if took_ns is not None:
            self.latencies.end_to_end.record(took_ns // 1000)

    def end_period(self) -> tuple[Counts, LatencySet]:
        """Return what was in the period that ends, and begin the next."""
        ended = self.period, self.latencies
        self._cumulative.add(self.latencies)
        self.period, self.latencies = Counts(), LatencySet()
        return ended

    def cumulative(self) -> LatencySet:
        """Return the latencies of all periods that have ended since the last reset."""
        return self._cumulative

    def reset_latencies(self) -> None:
        """Forget latencies and the period: what was measured until now was the warm-up."""
        self.period = Counts()
        self.latencies, self._cumulative = LatencySet(), LatencySet()
