"""`gateway bench omb`: the runner of `gateway.benchmark`, and what it says."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..benchmark.errors import BenchmarkError
from .client import Refused, fail

EXIT_FAILED = 1  # a run ended with an error; the others were made


def omb(
    workloads: Sequence[Path],
    drivers: Sequence[Path],
    output: Path,
    period_seconds: float,
    csv: Path | None,
    as_json: bool,
) -> int:
    """Run the workloads, or summarize results; return the exit status."""
    try:
        if csv is not None:
            return _summarize(csv, output, as_json)
        if not workloads:
            raise BenchmarkError("name at least one WORKLOAD.yaml, or --csv DIR")
        return _run(workloads, drivers, output, period_seconds, as_json)
    except BenchmarkError as error:
        return fail(Refused(error.detail))


def _summarize(folder: Path, output: Path, as_json: bool) -> int:
    from ..benchmark.summary import write_summary

    path = write_summary(folder, output)
    print(json.dumps({"file": str(path)}) if as_json else f"results extracted into {path}")
    return 0


def _run(
    workloads: Sequence[Path], drivers: Sequence[Path], output: Path, period_seconds: float, as_json: bool
) -> int:
    from ..benchmark.runner import run_all

    outcomes = run_all(workloads, drivers, output, _say, period_seconds)
    if as_json:
        print(json.dumps([outcome.about() for outcome in outcomes]))
    for outcome in outcomes:
        name = f"{outcome.workload} on {outcome.driver}"
        if outcome.error:
            print(f"{name}: {outcome.error}", file=sys.stderr)
        elif not as_json:
            print(f"{name}: {outcome.path}")
        if outcome.send_error:
            print(f"{name}: some messages could not be sent: {outcome.send_error}", file=sys.stderr)
    return EXIT_FAILED if any(outcome.error for outcome in outcomes) else 0


def _say(text: str) -> None:
    """Say how it goes on: on stderr, so that scripts can read what is on stdout."""
    print(text, file=sys.stderr, flush=True)
