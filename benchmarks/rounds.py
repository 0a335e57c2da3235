"""Scenarios of a door, measured in rounds: server and client on a core each, medians at the end."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import machine, processes

Figures = dict[str, Any]

Scenario = Callable[[float], Figures]
"""Takes for how many seconds to measure each thing."""


def medians(rounds: list[Figures]) -> Figures:
    """Return the median of each figure, and all values of the first one beside it."""
    found: Figures = {}
    for name, value in rounds[0].items():
        if isinstance(value, dict):
            found[name] = medians([each[name] for each in rounds])
        else:
            found[name] = statistics.median(each[name] for each in rounds)
    return found


def show(name: str, found: Figures) -> None:
    """Print a table of a scenario."""
    for title, row in found.items():
        cells = "  ".join(f"{key} {value:,.2f}" for key, value in row.items())
        print(f"{name:10} {title:32} {cells}", flush=True)


def run(description: str | None, scenarios: Mapping[str, Scenario]) -> None:
    """Measure in turn, print, write, as the command line says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", default=",".join(scenarios), help=", ".join(scenarios))
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.only.split(",")
    rounds: dict[str, list[Figures]] = {name: [] for name in names}
    with processes.pinned(processes.cores()[0]):
        for _ in range(options.rounds):
            for name in names:
                rounds[name].append(scenarios[name](options.seconds))
                show(name, rounds[name][-1])
    print("\nmedians")
    result: Figures = {"machine": machine.describe(machine.ROOT), "rounds": options.rounds}
    for name in names:
        result[name] = medians(rounds[name])
        show(name, result[name])
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
