"""`gateway bench omb`: workloads over a real gateway, result files, their summary, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_chaos_commands import here
from tests.cli.test_commands import good
from tests.process import GatewayProcess

WORKLOAD = """
name: short
topics: 2
messageSize: 100
useRandomizedPayloads: true
randomBytesRatio: 0.5
randomizedPayloadPoolSize: 10
keyDistributor: KEY_ROUND_ROBIN
subscriptionsPerTopic: 2
consumerPerSubscription: 2
producersPerTopic: 1
producerRate: 500
warmupDurationMinutes: 0.002
testDurationMinutes: 0.01
"""
MQTT = "name: mqtt\ndriver: mqtt\nport: {}\nqos: {}\ndurable: {}\n"
AMQP = """
name: RabbitMQ
driverClass: io.openmessaging.benchmark.driver.rabbitmq.RabbitMqBenchmarkDriver
amqpUris: ["amqp://guest:guest@127.0.0.1:{}/"]
messagePersistence: true
"""
OMS = "name: local\ndriver: oms\nurl: oms:local://memory/here\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("bench") / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def workload(tmp_path: Path) -> str:
    path = tmp_path / "short.yaml"
    path.write_text(WORKLOAD)
    return str(path)


def driver(folder: Path, content: str) -> str:
    path = folder / f"driver-{len(list(folder.glob('driver-*')))}.yaml"
    path.write_text(content)
    return str(path)


def test_workloads_over_our_doors(shared: GatewayProcess, workload: str, tmp_path: Path) -> None:
    drivers = [
        driver(tmp_path, MQTT.format(shared.mqtt_port, 1, "false")),
        driver(tmp_path, MQTT.format(shared.mqtt_port, 0, "true")),
        driver(tmp_path, AMQP.format(shared.amqp_port)),
    ]
    output = tmp_path / "out"
    options = [word for path in drivers for word in ("--driver", path)]
    arguments = (workload, *options, "--output", str(output), "--period", "0.3", "--json")
    outcomes = json.loads(good("bench", "omb", *arguments))
    assert [(each["driver"], each["error"], each["sendError"]) for each in outcomes] == [
        ("mqtt", None, None),
        ("mqtt", None, None),
        ("RabbitMQ", None, None),
    ]
    for each in outcomes:
        result = each["result"]
        assert result == json.loads(Path(each["file"]).read_text())
        assert sum(result["publishErrorRate"]) == 0
        assert all(rate > 0 for rate in (*result["publishRate"], *result["consumeRate"]))
        assert result["aggregatedEndToEndLatencyMax"] > 0
    summary = json.loads(here("bench", "omb", "--csv", str(output), "-o", str(tmp_path), "--json").stdout)
    lines = Path(summary["file"]).read_text().splitlines()
    assert lines[0].startswith("topics,partitions,message-size")
    assert {line[:9] for line in lines[1:]} == {"2,1,100,1"}
    left = json.loads(good("queues", "list", "test-topic", "--json", "--url", shared.url))
    assert left["queues"] == []  # the driver for AMQP takes away what it has made


def test_a_broker_that_is_not_there(workload: str, tmp_path: Path) -> None:
    nobody = driver(tmp_path, MQTT.format(1, 1, "false"))
    done = here("bench", "omb", workload, "-d", nobody, "-o", str(tmp_path))
    assert done.exit_code == 1
    assert "short on mqtt: MQTT at 127.0.0.1:1:" in done.stderr
    nobody = driver(tmp_path, AMQP.format(1))
    done = here("bench", "omb", workload, "-d", nobody, "-o", str(tmp_path))
    assert (done.exit_code, "AMQP at 127.0.0.1:1/" in done.stderr) == (1, True)


def test_what_is_refused(workload: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(WORKLOAD + "producerRates: 3\n")
    done = here("bench", "omb", str(wrong))
    assert (done.exit_code, "unknown field `producerRates`" in done.stderr) == (1, True)
    assert "name at least one WORKLOAD.yaml" in here("bench", "omb").stderr
    assert "has no results" in here("bench", "omb", "--csv", str(tmp_path)).stderr


def test_the_old_form_is_the_default(shared: GatewayProcess) -> None:
    for words in (("bench",), ("bench", "mqtt")):
        address = f"127.0.0.1:{shared.mqtt_port}"
        measured = json.loads(here(*words, address, "--seconds", "0.2", "--json").stdout)
        assert measured["messages"] > 0
    assert "omb" in here("bench", "--help").stdout
    assert "WORKLOAD" in here("bench", "omb", "--help").stdout


@pytest.mark.parametrize("kind", ["mqtt", "amqp"])
def test_a_broker_that_dies_meanwhile(workload: str, tmp_path: Path, kind: str) -> None:
    """What was measured until then is in the result, and what could not be sent is counted."""
    gateway = GatewayProcess(tmp_path / "data").start()
    content = MQTT.format(gateway.mqtt_port, 1, "true") if kind == "mqtt" else AMQP.format(gateway.amqp_port)
    words = [
        "bench",
        "omb",
        workload,
        "-d",
        driver(tmp_path, content),
        "-o",
        str(tmp_path),
        "--period",
        "0.1",
    ]
    running = subprocess.Popen(
        [sys.executable, "-m", "gateway", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        while "Starting benchmark traffic" not in (line := running.stderr.readline()):
            assert line, "it ended before"
        gateway.kill()
        out, said = running.communicate(timeout=60)
    finally:
        gateway.kill()
        running.kill()
        running.wait()
    assert running.returncode == 0, said
    (outcome,) = json.loads(out)
    assert outcome["result"]["publishErrorRate"][-1] > 0
    assert "closed" in outcome["sendError"] or "disconnected" in outcome["sendError"]
    assert "some messages could not be sent" in said
