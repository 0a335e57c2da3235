"""How long messages took from enqueue to dequeue, in openchaos' buckets."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ..history import DEQUEUE, Entry, Outcome, Response
from .verdict import Verdict

#: Upper ends in milliseconds; one bucket more is for what took longer.
BUCKETS_MS = (1, 5, 10, 100, 1000, 3000)
NAMES = (*(f"e2eIn{end}msLatency" for end in BUCKETS_MS), f"e2eExceed{BUCKETS_MS[-1]}msLatency")


def check_latency(history: Sequence[Entry]) -> Verdict:
    """Return how many messages are in each bucket, with their share."""
    counts = [0] * len(NAMES)
    for entry in history:
        if isinstance(entry, Response) and entry.op == DEQUEUE and entry.outcome is Outcome.SUCCESS:
            if entry.end_to_end_ms >= 0:
                counts[bisect_left(BUCKETS_MS, entry.end_to_end_ms)] += 1
    total = sum(counts)
    shares = [f"{count}  {count * 100 / total:.2f}%" if total else "0" for count in counts]
    return Verdict("EndToEndLatencyResult", dict(zip(NAMES, shares, strict=True)))
