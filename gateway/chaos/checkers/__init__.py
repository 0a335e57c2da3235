"""Checkers: each takes a history and returns a verdict with openchaos' fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..history import Entry
from .latency import check_latency
from .order import check_order
from .queue import check_queue
from .recovery import check_recovery, check_rto
from .verdict import Verdict

Checker = Callable[[Sequence[Entry]], Verdict]

#: What a result file is called after, and who fills it.
CHECKERS: dict[str, Checker] = {
    "mq-result": check_queue,
    "order-result": check_order,
    "rto-result": check_rto,
    "recovery-result": check_recovery,
    "endToEndLatency-result": check_latency,
}
#: Only asked for: without keys there is no order.
ORDER = "order-result"

__all__ = ["CHECKERS", "ORDER", "Checker", "Verdict"]
