"""Every example runs against a real gateway and ends well."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.peers import require
from tests.process import RocketGateway

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RocketGateway]:
    process = RocketGateway(tmp_path / "data")
    process.start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


def test_there_are_examples() -> None:
    assert {"sensor_to_web.py", "request_response.py", "work_queue.py"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_example(name: str, gateway: RocketGateway) -> None:
    run(name, gateway)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("oms_")])
def test_an_example_of_openmessaging_takes_any_url(name: str, gateway: RocketGateway) -> None:
    run(name, gateway, "--url", f"oms:http://127.0.0.1:{gateway.http_port}/examples")


def run(name: str, gateway: RocketGateway, *arguments: str) -> None:
    """Run an example to its end."""
    source = (EXAMPLES / name).read_text()
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    if '"--mqtt"' in source:
        command += ["--mqtt", str(gateway.mqtt_port)]
    if '"--http"' in source:
        command += ["--http", gateway.url]
    if '"--rocketmq"' in source:
        require("rocketmq-python-client", find_spec("rocketmq") is not None)
        command += ["--rocketmq", gateway.endpoints]
    home = {**os.environ, "HOME": str(gateway.data.parent)}  # RocketMQ's client writes a log there
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "an example shows something"
