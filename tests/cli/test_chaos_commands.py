"""`gateway chaos`: a real gateway that is killed under load loses nothing, and histories are judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from gateway.cli.app import app
from tests.cli.test_commands import good, run

ENQUEUED = (
    "0\tenqueue\tREQUEST\t{0}\tnull\t1\tnull\n0\tenqueue\tRESPONSE\tSUCCESS\t{0}\tnull\t2\t1\tnull\t0\n"
)
DEQUEUED = "1\tdequeue\tRESPONSE\tSUCCESS\t{0}\tnull\t{1}\t1\tnull\t3\n"


def here(*arguments: str) -> Result:
    """Run a command in this process: it starts nothing."""
    return CliRunner().invoke(app, arguments)


def test_a_kill_loses_nothing(tmp_path: Path) -> None:
    options = ("-t", "2.5", "-i", "0.5", "--down", "0.2", "-r", "200", "-c", "3", "--recovery-time", "20")
    output = ("--output-dir", str(tmp_path), "--data", str(tmp_path / "data"), "--json")
    report = json.loads(good("chaos", "run", "--fault", "random-kill", "--order", *options, *output))
    assert report["faults"] == []
    queue = report["QueueTestResult"]
    assert queue["atLeastOnce"]
    assert queue["enqueueSuccessCount"] >= 3  # each client, after the last fault
    assert report["OrderTestResult"]["order"]
    assert report["OrderTestResult"]["shardingKeyCount"] in range(1, 7)
    records = report["RTOTestResult"]["results"]
    assert records
    text = Path(report["history"]).read_text()
    assert (
        text.count("fault\trandom-kill\tstart\t") == text.count("fault\trandom-kill\tend\t") == len(records)
    )
    log = Path(report["history"].replace("history-file", "gateway.log")).read_text()
    assert log.count("gateway ready") == 1 + len(records)
    results = {path.name.partition("chaos-")[2] for path in tmp_path.glob("*-result-file")}
    assert results == {
        f"{name}-result-file" for name in ("mq", "order", "rto", "recovery", "endToEndLatency")
    }
    (written,) = tmp_path.glob("*-mq-result-file")
    assert yaml.safe_load(written.read_text()) == queue
    again = json.loads(good("chaos", "check", report["history"], "--json"))
    assert again["QueueTestResult"] == queue


def test_a_kill_loses_nothing_by_openmessaging(tmp_path: Path) -> None:
    options = ("-t", "1.5", "-i", "0.5", "--down", "0", "-r", "100", "-c", "2", "--recovery-time", "30")
    report = json.loads(
        good(
            "chaos",
            "run",
            "-f",
            "kill",
            "--via",
            "rocketmq",
            "--order",
            *options,
            "-o",
            str(tmp_path),
            "--json",
        )
    )
    assert report["faults"] == []
    assert report["QueueTestResult"]["atLeastOnce"]
    assert report["QueueTestResult"]["dequeueSuccessCount"] >= 2
    assert report["RTOTestResult"]["results"]


def test_another_broker_by_its_url(tmp_path: Path) -> None:
    options = (
        "-t",
        "0.5",
        "-i",
        "0.1",
        "-r",
        "200",
        "-o",
        str(tmp_path),
        "--expect",
        "exactly-once",
        "--json",
    )
    report = json.loads(good("chaos", "run", "--via", "oms:local://memory/chaos", *options))
    assert report["QueueTestResult"]["exactlyOnce"]
    assert "OrderTestResult" not in report  # there were no keys
    assert report["RTOTestResult"]["results"] == []  # nor faults
    assert not list(tmp_path.glob("*gateway.log"))


def test_a_suspended_gateway_goes_on(tmp_path: Path) -> None:
    options = ("-t", "1", "-i", "0.3", "--down", "0.3", "-r", "100", "-c", "2", "-o", str(tmp_path))
    said = run("chaos", "run", "-f", "suspend", *options)
    assert said.returncode == 0, said.stderr
    assert "at-least-once: holds" in said.stdout
    assert "suspend: start" in said.stderr


@pytest.mark.parametrize(
    ("text", "expected", "status", "fault"),
    [
        (ENQUEUED.format(1) + DEQUEUED.format(1, 5), "exactly-once", 0, ""),
        (ENQUEUED.format(1) + DEQUEUED.format(1, 5) * 2, "at-least-once", 0, ""),
        (ENQUEUED.format(1) + DEQUEUED.format(1, 5) * 2, "exactly-once", 1, "duplicate: 1"),
        (ENQUEUED.format(1), "at-least-once", 1, "lost: 1"),
        (ENQUEUED.format(1), "at-most-once", 0, ""),
        (ENQUEUED.format(1), "thrice", 1, "--expect is one of"),
        ("", "at-least-once", 1, "has no operations"),
        ("what?\n", "at-least-once", 1, ":1 is no line of a history"),
    ],
)
def test_check(tmp_path: Path, text: str, expected: str, status: int, fault: str) -> None:
    path = tmp_path / "history"
    path.write_text(text)
    done = here("chaos", "check", str(path), "--expect", expected, "-o", str(tmp_path))
    assert (done.exit_code, fault in done.stderr) == (status, True), done.output
    if not fault:
        assert f"{expected}: holds" in done.stdout
        assert (tmp_path / "mq-result").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-f", "random-partition"), "needs several nodes"),
        (("-f", "kill", "--via", "oms:local://memory/here"), "needs a gateway that is started here"),
        (("--model", "cache"), "there is no model 'cache'"),
        (("--via", "carrier-pigeon"), "carrier-pigeon"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    done = here("chaos", "run", "-t", "0.1", "-o", str(tmp_path), *options)
    assert (done.exit_code, reason in done.stderr) == (1, True), done.output


def test_help() -> None:
    for command in ("run", "check"):
        assert "HISTORY" in here("chaos", command, "--help").stdout.upper()


def test_a_signal_leaves_no_gateway_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "chaos", "run", "-f", "suspend", "-i", "0.1", "-o", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        pid = int(said.split()[1])
        assert Path(f"/proc/{pid}").exists()
        while "suspend: start" not in said:
            said = process.stderr.readline()
            assert said
        process.terminate()
        _, rest = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert "stopped by a signal" in rest
    assert not Path(f"/proc/{pid}").exists()
