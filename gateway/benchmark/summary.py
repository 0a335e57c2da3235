"""Many result files as one CSV: a line each, with the original's columns, sorted by size, topics and
partitions."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from .errors import BenchmarkError

SHAPE = ("topics", "partitions", "messageSize", "producersPerTopic", "consumersPerTopic")
COLUMNS = (
    "topics,partitions,message-size,producers-per-topic,consumers-per-topic,"
    "prod-rate-min,prod-rate-avg,prod-rate-std-dev,prod-rate-max,"
    "con-rate-min,con-rate-avg,con-rate-std-dev,con-rate-max"
)


def write_summary(folder: Path, into: Path) -> Path:
    """Write the CSV of a folder's results into another; return its path. Raise BenchmarkError."""
    results = sorted(_results(folder), key=lambda one: (one["messageSize"], one["topics"], one["partitions"]))
    path = into / f"results-{int(time.time())}.csv"
    path.write_text("\n".join([COLUMNS, *map(_line, results)]) + "\n")
    return path


def _results(folder: Path) -> list[dict[str, Any]]:
    try:
        found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{folder}: {error}") from error
    results = [one for one in found if isinstance(one, dict) and {*SHAPE, "publishRate"} <= one.keys()]
    if not results:
        raise BenchmarkError(f"{folder} has no results of a benchmark")
    return results


def _line(result: dict[str, Any]) -> str:
    rates = [*_rates(result["publishRate"]), *_rates(result["consumeRate"])]
    return ",".join([*(str(result[name]) for name in SHAPE), *rates])


def _rates(values: list[float]) -> list[str]:
    """Return minimum, average, deviation and maximum."""
    values = values or [0.0]
    deviation = f"{statistics.pstdev(values):.2f}"
    return [f"{min(values):.0f}", f"{statistics.fmean(values):.0f}", deviation, f"{max(values):.0f}"]
