"""What is not installed is said with what to install; the rest works without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("library", "command", "says"),
    [
        ("hdrh", "bench omb benchmarks/omb/1-topic-1kb.yaml", "the benchmark needs hdrhistogram"),
        ("paho", "bench omb benchmarks/omb/1-topic-1kb.yaml", "MQTT needs paho-mqtt"),
        ("paho", "chaos run --limit-time 0.1 --output-dir {folder}", "MQTT needs paho-mqtt"),
        (
            "pika",
            "bench omb benchmarks/omb/1-topic-1kb.yaml -d benchmarks/omb/driver-rabbitmq.yaml",
            "AMQP needs pika",
        ),
    ],
)
def test_missing(tmp_path: Path, library: str, command: str, says: str) -> None:
    words = command.format(folder=tmp_path).split()
    program = f"import sys; sys.modules[{library!r}] = None; sys.argv[1:] = {words!r}\n"
    program += "from gateway.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (
        done.returncode,
        f"{says}, which is not installed: pip install 'gateway[bench]'" in done.stderr,
    ) == (
        1,
        True,
    ), done.stderr
