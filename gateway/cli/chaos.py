"""`gateway chaos ...`: what it does, and what it prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..chaos.control import EXPECTATIONS, Options, Report, judge
from ..chaos.control import run as run_chaos
from ..chaos.errors import ChaosError
from ..core.errors import GatewayError
from .client import Refused, fail
from .show import show

EXIT_BROKEN = 1  # what was expected does not hold
FAULTS_SHOWN_MAX = 20
MODELS = ("queue",)


def run(model: str, options: Mapping[str, Any], expect: str, as_json: bool) -> int:
    """Run; return the exit status."""

    def do() -> Report:
        if model not in MODELS:
            raise ChaosError(f"there is no model {model!r}; there is {', '.join(MODELS)}: this is a broker")
        return run_chaos(Options(**options), _say)

    return _report(do, expect, as_json)


def check(history: Path, output: Path | None, expect: str, as_json: bool) -> int:
    """Judge a history; return the exit status."""
    return _report(lambda: judge(history, output), expect, as_json)


def _report(do: Callable[[], Report], expect: str, as_json: bool) -> int:
    try:
        if expect not in EXPECTATIONS:
            raise ChaosError(f"--expect is one of {', '.join(EXPECTATIONS)}, not {expect!r}")
        report = do()
    except GatewayError as error:
        return fail(Refused(error.detail))
    faults = report.faults(expect)
    about = {**report.about(), "expected": expect, "faults": faults}
    rows = [
        [f"{verdict.name}.{name}", str(value)]
        for verdict in report.verdicts.values()
        for name, value in verdict.fields.items()
        if not isinstance(value, dict | list)
    ]
    show(about, as_json, ["", "value"], rows)
    for fault in faults[:FAULTS_SHOWN_MAX]:
        print(fault, file=sys.stderr)
    if not as_json:
        print(f"{expect}: " + (f"broken, {len(faults)} faults" if faults else "holds"))
    return EXIT_BROKEN if faults else 0


def _say(text: str) -> None:
    """Say how it goes on: on stderr, so that scripts can read what is on stdout."""
    print(text, file=sys.stderr, flush=True)
