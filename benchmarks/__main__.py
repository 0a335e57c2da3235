"""`python -m benchmarks`: choose scenarios and brokers, run them in turn, report."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

from . import brokers, machine, report
from .catalogue import SCENARIOS
from .suite import Round, Settings, survey

DATA = Path(__file__).resolve().parent / ".run"
REPEAT = 3
PATIENCE_SECONDS = 10.0
PATIENCE_HELP = "wait so long before a run for other programs to leave the processors alone"


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Make a reader of names separated by commas that refuses unknown ones."""

    def names(text: str) -> list[str]:
        wanted = text.split(",")
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return wanted

    return names


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Drive the gateway and its peers with the same bytes and print the ratios.",
    )
    names: Sequence[str] = list(SCENARIOS)
    parser.add_argument("--only", type=names_of(names), default=names, metavar="A,B", help=", ".join(names))
    names = list(brokers.BROKERS)
    parser.add_argument(
        "--brokers", type=names_of(names), default=names, metavar="A,B", help=", ".join(names)
    )
    add, default = parser.add_argument, " (default %(default)s)"
    add("--repeat", type=int, default=REPEAT, metavar="N", help="runs of each; medians count" + default)
    add("--seconds", type=float, default=0, help="of a run (default 5; for latency 60, over all its runs)")
    add("--patience", type=float, default=PATIENCE_SECONDS, metavar="S", help=PATIENCE_HELP + default)
    add("--data", type=Path, default=DATA, metavar="DIR", help="where brokers keep data; must be on a disk")
    add("--json", type=Path, metavar="FILE", help="where the results go (default: into benchmarks/results)")
    add("--table", action="store_true", help="put the table into docs/performance.md")
    add("--read", type=Path, nargs="+", metavar="FILE", help="do not measure: take these results")
    chosen = parser.parse_args(words)
    if chosen.repeat < 1 or chosen.seconds < 0:
        parser.error("--repeat begins at 1, --seconds at 0")
    return chosen


def say(text: str) -> None:
    print(text, flush=True)


def measure(chosen: argparse.Namespace, command: str) -> report.Result:
    found = survey(chosen.brokers)
    for name, peer in found.items():
        say(f"{name}: {peer['version'] or 'not installed: ' + peer['absent']}")
    present = [brokers.BROKERS[name] for name, peer in found.items() if not peer["absent"]]
    chosen.data.mkdir(parents=True, exist_ok=True)
    result: report.Result = {
        "command": command,
        "repeat": chosen.repeat,
        "machine": machine.describe(chosen.data),
        "brokers": found,
        "scenarios": {},
    }
    settings = Settings(chosen.repeat, chosen.seconds, chosen.data.resolve(), chosen.patience)
    path = chosen.json or report.default_path(result)
    for name in chosen.only:
        result["scenarios"][name] = Round(SCENARIOS[name], present, settings).run(say)
        # After every scenario, so that an interrupted suite leaves what it has measured.
        report.save(result, path)
    say(f"results in {path}")
    return result


def terminate(number: int, frame: types.FrameType | None) -> None:
    """Leave by an exception, so that every broker is stopped on the way out."""
    sys.exit(128 + number)


def main(words: Sequence[str] | None = None) -> int:
    chosen = arguments(words)
    if not sys.platform.startswith("linux"):
        print("the benchmarks need Linux: epoll, /proc and processor affinity", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, terminate)
    command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if words is None else words)])
    try:
        result = report.load(chosen.read) if chosen.read else measure(chosen, command)
    except machine.NotADisk as fault:
        print(fault, file=sys.stderr)
        return 2
    finally:
        if chosen.data == DATA:
            shutil.rmtree(DATA, ignore_errors=True)
    text = report.table(result)
    say("\n" + text)
    if chosen.table:
        report.write_table(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
