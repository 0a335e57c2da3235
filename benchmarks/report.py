"""Results as a JSON file, and as the table of the performance page.

The table is made from JSON alone, so that it can be made again, or from several runs, without measuring.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from . import processes
from .catalogue import SCENARIOS
from .machine import ROOT
from .scenarios import Goal, Row, Scenario

PAGE = ROOT / "docs" / "performance.md"
RESULTS = Path(__file__).resolve().parent / "results"
BEGIN = "<!-- benchmarks: begin (written by `python -m benchmarks --table`) -->"
END = "<!-- benchmarks: end -->"

LOSS_SHARE_MAX = 0.001
CLIENT_BUSY_SHARE = 0.95
BROKER_IDLE_SHARE = 0.9


class Peer(TypedDict):
    version: str
    promise: str
    absent: str
    """Why it is not here; empty if it is."""


class Entry(TypedDict):
    figures: dict[str, float]
    runs: list[dict[str, float]]
    error: str


class Result(TypedDict):
    command: str
    repeat: int
    machine: dict[str, object]
    brokers: dict[str, Peer]
    scenarios: dict[str, dict[str, Entry]]


def save(result: Result, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def load(paths: Sequence[Path]) -> Result:
    """Read results and lay them over each other; the later file counts where two have the same."""
    merged: Result | None = None
    for path in paths:
        result: Result = json.loads(path.read_text())
        if merged is None:
            merged = result
            continue
        for key in ("command", "machine", "repeat"):
            merged[key] = result[key]
        merged["brokers"].update(result["brokers"])
        for name, entries in result["scenarios"].items():
            merged["scenarios"].setdefault(name, {}).update(entries)
    if merged is None:
        raise ValueError("no results to read")
    return merged


def default_path(result: Result) -> Path:
    date = str(result["machine"]["date"]).replace(":", "").partition("+")[0]
    return RESULTS / f"{date}-{result['machine']['commit']}.json"


def table(result: Result) -> str:
    """Render the results, one line a figure, the peers' ratios beside the gateway's value."""
    names = list(result["brokers"])
    peers = [name for name in names if name != "gateway"]
    ratios = [f"÷ {peer}" for peer in peers] if "gateway" in names else []
    lines = [
        _line(["", *names, *ratios, "goal"]),
        _line(["---"] + ["---:"] * (len(names) + len(ratios)) + ["---"]),
    ]
    for name, scenario in SCENARIOS.items():
        if name in result["scenarios"]:
            lines += [_row(result, scenario, row, names, peers if ratios else []) for row in scenario.rows]
    return "\n".join([*lines, "", *_notes(result), ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row(result: Result, scenario: Scenario, row: Row, names: list[str], peers: list[str]) -> str:
    cells = [f"{row.title} ({row.unit})"]
    cells += [_cell(result, scenario, row, name) for name in names]
    own = _value(result, scenario, row, "gateway")
    for peer in peers:
        other = _value(result, scenario, row, peer)
        cells.append("" if own is None or not other else f"{own / other:.2f}")
    cells.append("; ".join(_goal(result, scenario, row, goal) for goal in row.goals))
    return _line(cells)


def _value(result: Result, scenario: Scenario, row: Row, name: str) -> float | None:
    entry = result["scenarios"][scenario.name].get(name)
    return entry["figures"].get(row.figure) if entry else None


def _cell(result: Result, scenario: Scenario, row: Row, name: str) -> str:
    peer, entry = result["brokers"][name], result["scenarios"][scenario.name].get(name)
    if peer["absent"]:
        return "not installed"
    if entry is None:
        return "-"
    if row.figure not in entry["figures"]:
        return "failed"
    return f"{_number(entry['figures'][row.figure])}{_marks(entry)}"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 or 90 <= value <= 100 else f"{value:.1f}"


def _marks(entry: Entry) -> str:
    figures = entry["figures"]
    marks = "!" if entry["error"] else ""
    if figures.get("loss_share", 0) > LOSS_SHARE_MAX:
        marks += "L"
    if figures.get("duplicate_share", 0) > 0:
        marks += "D"
    busy = figures.get("client_cpu_share", 0) > CLIENT_BUSY_SHARE
    if busy and figures.get("broker_cpu_share", 1) < BROKER_IDLE_SHARE:
        marks += "C"
    if figures.get("others_cpu_share", 0) > processes.OTHERS_BUSY_SHARE:
        marks += "O"
    return f" {marks}" if marks else ""


def _goal(result: Result, scenario: Scenario, row: Row, goal: Goal) -> str:
    own = _value(result, scenario, row, "gateway")
    other = _value(result, scenario, row, goal.peer) if goal.peer else 1.0
    sign = "≤" if goal.at_most else "≥"
    text = f"{sign} {goal.bound:,g}" + (f" x {goal.peer}" if goal.peer else "")
    if own is None or not other:
        return text
    met = own / other <= goal.bound if goal.at_most else own / other >= goal.bound
    return f"{text}: {'met' if met else 'missed'}"


def _notes(result: Result) -> list[str]:
    machine = result["machine"]
    lines = [
        f"{machine['date']}, commit {machine['commit']}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB, {machine['kernel']}, {machine['python']}, data on "
        f"{machine['data_file_system']} (4 KB append with fdatasync: {machine['fdatasync_ms']} ms). "
        f"Medians of {result['repeat']} runs, brokers in turn; latency over all runs together.",
        "",
        f"Made by `{result['command']}`.",
        "",
    ]
    for name, peer in result["brokers"].items():
        lines.append(f"- {name} {peer['version'] or 'not installed: ' + peer['absent']}: {peer['promise']}.")
    lines += [
        "",
        "Marks: L lost more than 0.1 %; D delivered some twice; C the client was the limit; "
        "O other programs took more than 15 % of a core; ! a later run failed (the JSON says why).",
    ]
    return lines


def write_table(text: str, page: Path = PAGE) -> None:
    """Put the table between its two markers; begin the page, or add the markers, where they are missing."""
    old = page.read_text() if page.exists() else "# Performance\n"
    block = f"{BEGIN}\n\n{text}\n{END}"
    before, found, rest = old.partition(BEGIN)
    if found:
        _, closed, after = rest.partition(END)
        if not closed:
            raise ValueError(f"{page}: {BEGIN!r} without {END!r}")
        new = before + block + after
    else:
        new = old.rstrip("\n") + f"\n\n{block}\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(new)
