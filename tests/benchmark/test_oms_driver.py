"""The OpenMessaging driver, over a gateway in this process; and over URLs that lead nowhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.benchmark.driver import load_driver
from gateway.benchmark.errors import BenchmarkError
from gateway.benchmark.generator import Generator
from tests.benchmark.test_flow import BODY, SHORT
from tests.benchmark.test_measuring import workload


def driver_file(folder: Path, url: str) -> Path:
    path = folder / "driver.yaml"
    path.write_text(f"name: oms\ndriver: oms\nurl: {url}\n")
    return path


def test_keys_subscriptions_and_a_backlog(tmp_path: Path) -> None:
    """As MQTT and AMQP are tried by `gateway bench omb`, in `tests/cli`."""
    backlog = {"consumerBacklogSizeGB": 100 * 100 / (1 << 30), "keyDistributor": "KEY_ROUND_ROBIN"}
    wanted = workload(**{**SHORT, "topics": 1, "producerRate": 500, "consumerPerSubscription": 2}, **backlog)
    driver = load_driver(driver_file(tmp_path, "oms:local://memory/bench-test"))
    generator = Generator(wanted, driver, [BODY], 0.1, lambda text: None)
    fields = asyncio.run(generator.run()).fields
    assert generator.worker.first_error == ""
    assert max(fields["backlog"]) > 0
    assert fields["aggregatedEndToEndLatencyMax"] > 0
    assert sum(fields["consumeRate"]) > 0


@pytest.mark.parametrize(
    ("url", "reason"),
    [("mqtt://here", "is not oms:"), ("oms:kafka://here/there", "there is no driver 'kafka'")],
)
def test_urls_that_lead_nowhere(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(BenchmarkError, match=reason):
        load_driver(driver_file(tmp_path, url))
