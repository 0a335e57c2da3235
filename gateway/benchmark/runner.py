"""Each workload with each driver, one after the other, a result file for each."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from .driver import Driver, load_driver, make_driver
from .errors import BenchmarkError
from .generator import PERIOD_SECONDS, Generator, Say
from .payloads import load_payloads
from .workload import load_workload

#: What is driven when nothing is said: a gateway beside us.
DEFAULT_DRIVER: dict[str, Any] = {"name": "gateway-mqtt", "driver": "mqtt"}


class Outcome:
    """How one run ended: with a result that is in `path`, or with an error."""

    def __init__(self, workload: str, driver: str) -> None:
        self.workload = workload
        self.driver = driver
        self.path: Path | None = None
        self.result: dict[str, Any] = {}
        self.error = ""
        self.send_error = ""  # why messages could not be sent, of the first that could not

    def about(self) -> dict[str, Any]:
        """Return what scripts want to know."""
        return {
            "workload": self.workload,
            "driver": self.driver,
            "file": str(self.path) if self.path else None,
            "error": self.error or None,
            "sendError": self.send_error or None,
            "result": self.result or None,
        }


def run_all(
    workloads: Sequence[Path],
    drivers: Sequence[Path],
    output: Path,
    say: Say,
    period_seconds: float = PERIOD_SECONDS,
) -> list[Outcome]:
    """Run them. All files are read first; raise BenchmarkError if one makes no sense."""
    loaded = {path.stem: (load_workload(path), path) for path in sorted(workloads)}
    bodies = {name: load_payloads(workload, path.parent) for name, (workload, path) in loaded.items()}
    makers: list[Callable[[], Driver]] = [partial(load_driver, path) for path in drivers]
    makers = makers or [partial(make_driver, DEFAULT_DRIVER)]
    for make in makers:
        make()
    output.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for name, (workload, _) in loaded.items():
        for make in makers:
            driver = make()
            say(f"------- WORKLOAD : {workload.name} --- DRIVER : {driver.config.name} -------")
            outcome = Outcome(name, driver.config.name)
            generator = Generator(workload, driver, bodies[name], period_seconds, say)
            _run(generator, outcome, output)
            outcomes.append(outcome)
    return outcomes


def _run(generator: Generator, outcome: Outcome, output: Path) -> None:
    """Run one; what its broker does not do is no reason not to run the others."""
    try:
        outcome.result = asyncio.run(generator.run()).fields
    except BenchmarkError as error:
        outcome.error = error.detail
        return
    outcome.send_error = generator.worker.first_error
    when = datetime.now().strftime("%Y-%m-%d-%H-%M-%S")
    outcome.path = _new(output, f"{outcome.workload}-{outcome.driver}-{when}")
    outcome.path.write_text(json.dumps(outcome.result, indent=2) + "\n")


def _new(folder: Path, name: str) -> Path:
    """Return a path that nothing has: two drivers of one name may run within a second."""
    numbers = itertools.count(2)
    path = folder / f"{name}.json"
    while path.exists():
        path = folder / f"{name}-{next(numbers)}.json"
    return path
