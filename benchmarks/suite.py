"""Run scenarios on several brokers in turn: A B A B, so that all of them meet the same machine.

Brokers of a scenario stay up, idle, while another has its turn. A broker that is not installed, does not
start or breaks a run is reported in its own place with the reason, and the others go on.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import processes
from .brokers import BROKERS, Broker, NotInstalled, NotStarted, Running
from .clients import WireError
from .report import Entry, Peer
from .scenarios import Sample, Scenario

FAULTS = (OSError, WireError, NotStarted)


@dataclass(frozen=True)
class Settings:
    repeat: int
    seconds: float
    """0 means each scenario's own."""
    data: Path
    patience_seconds: float


def survey(names: Sequence[str]) -> dict[str, Peer]:
    """Find out which brokers are here, in which version."""
    found: dict[str, Peer] = {}
    for name in names:
        broker = BROKERS[name]
        try:
            found[name] = {"version": broker.version(), "promise": broker.promise, "absent": ""}
        except NotInstalled as reason:
            found[name] = {"version": "", "promise": broker.promise, "absent": str(reason)}
    return found


class Round:
    """One scenario on every broker."""

    def __init__(self, scenario: Scenario, brokers: Sequence[Broker], settings: Settings) -> None:
        self._scenario = scenario
        self._brokers = [
            broker
            for broker in brokers
            if (broker.has_http or not scenario.http) and (broker.has_amqp or not scenario.amqp)
        ]
        self._settings = settings
        self._samples: dict[str, list[Sample]] = {broker.name: [] for broker in self._brokers}
        self._errors: dict[str, str] = {}
        self._serial = itertools.count(1)
        seconds = settings.seconds or scenario.seconds
        self._seconds = seconds / settings.repeat if scenario.split else seconds

    def run(self, say: Callable[[str], None]) -> dict[str, Entry]:
        client_core, _ = processes.cores()
        with contextlib.ExitStack() as stack:
            kept: dict[str, Running] = {}
            if not self._scenario.fresh:
                for broker in self._brokers:
                    with self._excused(broker.name, say):
                        kept[broker.name] = stack.enter_context(self._started(broker))
            stack.enter_context(processes.pinned(client_core))
            for turn, broker in itertools.product(range(self._settings.repeat), self._brokers):
                if broker.name not in self._errors:
                    with self._excused(broker.name, say):
                        self._take(turn, broker, kept.get(broker.name), say)
        return {broker.name: self._entry(broker.name) for broker in self._brokers}

    def _take(self, turn: int, broker: Broker, running: Running | None, say: Callable[[str], None]) -> None:
        with contextlib.ExitStack() as stack:
            if running is None:
                running = stack.enter_context(self._started(broker))
            processes.wait_until_quiet(self._settings.patience_seconds)
            sample = self._scenario.run(running, self._seconds)
        self._samples[broker.name].append(sample)
        shown = "  ".join(f"{name} {value:,.4g}" for name, value in sample.figures.items())
        say(f"{self._scenario.name} {turn + 1}/{self._settings.repeat} {broker.name}: {shown}")

    def _started(self, broker: Broker) -> contextlib.AbstractContextManager[Running]:
        _, core = processes.cores()
        directory = self._settings.data / f"{self._scenario.name}-{broker.name}-{next(self._serial)}"
        return broker.started(directory, core)

    @contextlib.contextmanager
    def _excused(self, name: str, say: Callable[[str], None]) -> Iterator[None]:
        try:
            yield
        except FAULTS as fault:
            self._errors[name] = f"{type(fault).__name__}: {fault}"
            say(f"{self._scenario.name} {name}: failed: {self._errors[name]}")

    def _entry(self, name: str) -> Entry:
        samples = self._samples[name]
        return {
            "figures": self._scenario.combine(samples) if samples else {},
            "runs": [sample.figures for sample in samples],
            "error": self._errors.get(name, ""),
        }
