"""The result of a run: the keys of the original's JSON, and its units.

Arrays have an entry for each period. Publish and end-to-end latencies are milliseconds, publish delay
microseconds.
"""

from __future__ import annotations

from typing import Any

from .stats import Counts, Latencies, LatencySet
from .workload import Workload

#: How a key ends, and what percentage that is.
PERCENTILES = {"50pct": 50.0, "75pct": 75.0, "95pct": 95.0, "99pct": 99.0, "999pct": 99.9, "9999pct": 99.99}
#: What is measured: the name in keys, the attribute of a LatencySet, and microseconds to a unit.
MEASURED = (
    ("publishLatency", "publish", 1000),
    ("publishDelayLatency", "delay", 1),
    ("endToEndLatency", "end_to_end", 1000),
)
#: What a line says of a period.
LINE = {
    "publishRate": "Pub rate {:.1f} msg/s",
    "publishErrorRate": "Pub err {:.1f} err/s",
    "consumeRate": "Cons rate {:.1f} msg/s",
    "backlog": "Backlog: {} msg",
    "publishLatencyAvg": "Pub Latency (ms) avg: {:.1f}",
    "publishLatency50pct": "50%: {:.1f}",
    "publishLatency99pct": "99%: {:.1f}",
    "publishLatencyMax": "Max: {:.1f}",
    "publishDelayLatencyAvg": "Pub Delay Latency (us) avg: {:.0f}",
    "publishDelayLatency99pct": "99%: {:.0f}",
    "endToEndLatency99pct": "End-to-end (ms) 99%: {:.1f}",
}
RATES = ("publishRate", "publishErrorRate", "consumeRate", "backlog")


def _scaled(us: float, unit: int) -> float:
    return us if unit == 1 else us / unit


def figures(latencies: Latencies, unit: int) -> dict[str, float]:
    """Return the end of a key -> value: the average, percentiles and maximum."""
    found = latencies.percentiles(PERCENTILES.values())
    return {
        "Avg": _scaled(latencies.mean, unit),
        **{ending: _scaled(found[percent], unit) for ending, percent in PERCENTILES.items()},
        "Max": _scaled(latencies.highest, unit),
    }


class Result:
    """Grows with each period."""

    def __init__(self, workload: Workload, driver: str) -> None:
        self._copies = workload.copies
        self.fields: dict[str, Any] = {
            "workload": workload.name,
            "driver": driver,
            "messageSize": workload.messageSize,
            "topics": workload.topics,
            "partitions": workload.partitionsPerTopic,
            "producersPerTopic": workload.producersPerTopic,
            "consumersPerTopic": workload.consumerPerSubscription,
        }
        for name in RATES:
            self.fields[name] = []

    def add_period(self, counts: Counts, latencies: LatencySet, total: Counts, seconds: float) -> None:
        """Add what was measured in one period."""
        fields = self.fields
        fields["publishRate"].append(counts.sent / seconds)
        fields["publishErrorRate"].append(counts.errors / seconds)
        fields["consumeRate"].append(counts.received / seconds)
        fields["backlog"].append(max(0, self._copies * total.sent - total.received))
        for name, which, unit in MEASURED:
            for ending, value in figures(getattr(latencies, which), unit).items():
                fields.setdefault(name + ending, []).append(value)

    def aggregate(self, latencies: LatencySet) -> None:
        """Add what was measured altogether."""
        for name, which, unit in MEASURED:
            found: Latencies = getattr(latencies, which)
            aggregated = "aggregated" + name[0].upper() + name[1:]
            for ending, value in figures(found, unit).items():
                self.fields[aggregated + ending] = value
            self.fields[aggregated + "Quantiles"] = {
                str(float(percent)): _scaled(us, unit) for percent, us in found.quantiles()
            }

    def line(self) -> str:
        """Say the last period in a line."""
        last = {name: values[-1] for name, values in self.fields.items() if isinstance(values, list)}
        return " | ".join(template.format(last[name]) for name, template in LINE.items())
