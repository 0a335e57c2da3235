"""How long nothing could be enqueued: within each fault (RTO), and altogether.

It begins with the start of the first request that failed or was not answered, and ends with the first
success.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..history import ENQUEUE, Entry, FaultMark, Outcome, Response
from .verdict import Verdict

MERGE_MS = 2000  # what begins so soon after the last was over is the same time away


def check_rto(history: Sequence[Entry]) -> Verdict:
    """Return, for each fault, whether and for how long nothing could be enqueued.

    When the fault ends first, `isRecoveryInFaultInterval` says so; the time counts to the success.
    """
    records: list[dict[str, Any]] = []
    in_fault = away = unexpected = False
    for entry in history:
        if isinstance(entry, FaultMark):
            in_fault = entry.mark == "start"
            if in_fault:
                records.append(_record())
                away = False
        elif isinstance(entry, Response) and entry.op == ENQUEUE:
            if entry.outcome is Outcome.SUCCESS:
                if away:
                    _end(records[-1], entry.time_ms, in_fault)
                away = False
            elif in_fault and not away and not records[-1]["startTimestamp"]:
                records[-1]["isUnavailableInFaultInterval"] = away = True
                records[-1]["startTimestamp"] = entry.time_ms - entry.latency_ms
            elif not in_fault and not away:
                unexpected = unexpected or entry.outcome is Outcome.FAILURE
    never = [number for number, record in enumerate(records, 1) if _still_away(record)]
    fields = {
        "results": records,
        "averageRtoTime": _average([record["rtoTime"] for record in records if record["endTimestamp"]]),
        "unexpectedUnavailableInNormalInterval": unexpected,
    }
    return Verdict(
        "RTOTestResult", fields, [f"rto: fault {number} was never recovered from" for number in never]
    )


def _record() -> dict[str, Any]:
    return {
        "isUnavailableInFaultInterval": False,
        "isRecoveryInFaultInterval": False,
        "startTimestamp": 0,
        "endTimestamp": 0,
        "rtoTime": 0,
    }


def _end(record: dict[str, Any], time_ms: int, in_fault: bool) -> None:
    record["endTimestamp"] = time_ms
    record["rtoTime"] = time_ms - record["startTimestamp"]
    record["isRecoveryInFaultInterval"] = in_fault


def _still_away(record: dict[str, Any]) -> bool:
    return bool(record["startTimestamp"]) and not record["endTimestamp"]


def _average(times: list[int]) -> float | None:
    return sum(times) / len(times) if times else None


def check_recovery(history: Sequence[Entry]) -> Verdict:
    """Return each time in which nothing could be enqueued, whatever the reason."""
    records: list[dict[str, int]] = []
    away = False
    for entry in history:
        if not isinstance(entry, Response) or entry.op != ENQUEUE:
            continue
        if entry.outcome is not Outcome.SUCCESS:
            if not away and not _is_near(records, entry.time_ms):
                start = entry.time_ms - entry.latency_ms
                records.append({"unavailableStartTimestamp": start})
            away = True
        elif away:
            last, away = records[-1], False
            last["unavailableEndTimestamp"] = entry.time_ms
            last["recoveryTime"] = entry.time_ms - last["unavailableStartTimestamp"]
    fields = {"results": [{"unavailableEndTimestamp": 0, "recoveryTime": 0, **record} for record in records]}
    faults = ["recovery: it was away when the test ended"] if away else []
    return Verdict("RecoveryTestResult", fields, faults)


def _is_near(records: list[dict[str, int]], time_ms: int) -> bool:
    return bool(records) and time_ms - records[-1]["unavailableEndTimestamp"] < MERGE_MS
