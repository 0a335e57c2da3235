"""Workloads of the OpenMessaging benchmark over the gateway's doors and over other brokers, side by side.

    python -m benchmarks.workloads [WORKLOAD.yaml ...] [--brokers gateway,mosquitto,rabbitmq] [--minutes 0.25]

Each broker is alone on one core, the runner of `gateway bench omb` on another; what is not installed is named
and left out. `durable` is with messages that must be on disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import yaml

from gateway.benchmark.runner import Outcome, run_all

from . import processes
from .brokers import BROKERS, Broker, NotInstalled, NotStarted, Running

HERE = Path(__file__).parent / "omb"
DEFAULT = (HERE / "1-topic-1kb.yaml",)
BROKER_CORE, RUNNER_CORE = 0, 1
WARM_UP_SHARE = 0.2  # of the minutes that are asked for
PERIOD_SECONDS = 5.0

#: What is printed of a result: heading, key, digits.
COLUMNS = (
    ("publish 50 % ms", "aggregatedPublishLatency50pct", 2),
    ("99 %", "aggregatedPublishLatency99pct", 2),
    ("99.9 %", "aggregatedPublishLatency999pct", 2),
    ("end to end 50 % ms", "aggregatedEndToEndLatency50pct", 2),
    ("99 %", "aggregatedEndToEndLatency99pct", 2),
    ("99.9 %", "aggregatedEndToEndLatency999pct", 2),
    ("late 99 % ms", "aggregatedPublishDelayLatency99pct", 0),
)


def drivers(broker: Broker, running: Running) -> list[dict[str, object]]:
    """Return the ways to a broker: MQTT 5 where it has it, and AMQP, each as fast and as safe as it can."""
    found: list[dict[str, object]] = []
    for durable in (False, True):
        safe = "-durable" if durable else ""
        if broker.name != "rabbitmq":  # of the version that is compared here: its MQTT is 3.1.1
            door = {"driver": "mqtt", "port": running.mqtt_port, "durable": durable}
            found.append({"name": f"{broker.name}-mqtt{safe}", **door})
        if broker.has_amqp:
            uri = f"amqp://guest:guest@127.0.0.1:{running.amqp_port}/"
            door = {"driver": "amqp", "amqpUris": [uri], "messagePersistence": durable}
            found.append({"name": f"{broker.name}-amqp{safe}", **door})
    return found


def measure(name: str, workloads: list[Path], output: Path) -> list[Outcome]:
    """Run the workloads with one broker; say so if it is not there."""
    broker = BROKERS[name]
    try:
        print(f"{name} {broker.version()}: {broker.promise}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            with broker.started(Path(folder) / "broker", BROKER_CORE) as running:
                paths = []
                for fields in drivers(broker, running):
                    paths.append(Path(folder) / f"{fields['name']}.yaml")
                    paths[-1].write_text(yaml.safe_dump(fields))
                with processes.pinned(RUNNER_CORE):
                    return run_all(workloads, paths, output, _say, PERIOD_SECONDS)
    except (NotInstalled, NotStarted) as error:
        print(f"{name}: left out: {error}", file=sys.stderr)
        return []


def shortened(path: Path, folder: Path, minutes: float) -> Path:
    """Return a copy of a workload that takes so long."""
    fields = yaml.safe_load(path.read_text())
    fields |= {"testDurationMinutes": minutes, "warmupDurationMinutes": minutes * WARM_UP_SHARE}
    copy = folder / path.name
    copy.write_text(yaml.safe_dump(fields))
    return copy


def row(outcome: Outcome) -> str:
    """Return a line of the table."""
    name = f"| {outcome.workload} | {outcome.driver} |"
    if outcome.error:
        return f"{name} {outcome.error} |" + " |" * (len(COLUMNS) + 1)
    result = outcome.result
    rates = [sum(result[key]) / len(result[key]) for key in ("publishRate", "consumeRate")]
    cells = [f"{rate:,.0f}" for rate in rates]
    for _, key, digits in COLUMNS:
        value = result[key] / (1000 if "Delay" in key else 1)
        cells.append(f"{value:.{digits}f}")
    return f"{name} " + " | ".join(cells) + " |"


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", type=Path, default=list(DEFAULT))
    parser.add_argument("--brokers", default="gateway,mosquitto,rabbitmq")
    parser.add_argument("--minutes", type=float, default=0.25)
    parser.add_argument("--output", type=Path, default=None, help="where result files go; else nowhere")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = options.output or Path(folder) / "results"
        workloads = [shortened(path, Path(folder), options.minutes) for path in options.workloads]
        found = [each for name in options.brokers.split(",") for each in measure(name, workloads, output)]
    headings = ["workload", "driver", "published/s", "consumed/s", *(heading for heading, _, _ in COLUMNS)]
    print("| " + " | ".join(headings) + " |")
    print("|" + "---|" * len(headings))
    for outcome in found:
        print(row(outcome))
    if options.output:
        print(json.dumps([str(each.path) for each in found]), file=sys.stderr)


if __name__ == "__main__":
    main()
