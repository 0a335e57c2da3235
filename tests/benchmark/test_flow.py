"""The flow of a run, over a driver without a broker: what is made, what is measured, how it ends."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import msgspec
import pytest

from gateway.benchmark import generator as generator_module
from gateway.benchmark.driver import Producer, Sent, Settings
from gateway.benchmark.errors import BenchmarkError
from gateway.benchmark.generator import Generator
from gateway.benchmark.result import Result
from gateway.benchmark.runner import run_all
from gateway.benchmark.workload import Workload
from tests.benchmark.fake_driver import FakeDriver
from tests.benchmark.test_measuring import workload

BODY = bytes(100)
DRIVER = "name: fake\ndriverClass: tests.benchmark.fake_driver:FakeDriver\n"
SHORT = {"warmupDurationMinutes": 0.001, "testDurationMinutes": 0.005, "producerRate": 2000}


class Run:
    """A generator over a fake driver."""

    def __init__(self, wanted: Workload, window: int = 1000) -> None:
        self.driver = FakeDriver(Settings(name="fake", driver="x", window=window))
        self.said: list[str] = []
        self.generator = Generator(wanted, self.driver, [BODY], 0.1, self.said.append)

    def go(self) -> Result:
        return asyncio.run(self.generator.run())


def test_all_is_made_measured_and_closed() -> None:
    run = Run(workload(**SHORT, partitionsPerTopic=4, producersPerTopic=2, consumerPerSubscription=2))
    fields = run.go().fields
    assert [partitions for _, partitions in run.driver.topics] == [4, 4]
    assert all(topic.startswith("test-topic-000000") for topic, _ in run.driver.topics)
    assert [len(each) for each in run.driver.consumers.values()] == [3, 3]  # as many names as subscriptions
    assert sorted(run.driver.closed) == ["consumer"] * 12 + ["driver"] + ["producer"] * 4
    assert fields["driver"] == "fake"
    assert len(fields["publishRate"]) == len(fields["endToEndLatencyMax"]) >= 2
    assert sum(fields["publishErrorRate"]) == 0
    assert fields["backlog"][-1] == 0
    assert all(consumed > 0 for consumed in fields["consumeRate"])
    assert fields["aggregatedPublishLatencyMax"] > 0
    assert sum("warm-up" in line for line in run.said) == 1


def test_keys_come_from_the_distributor() -> None:
    run = Run(workload(**SHORT, keyDistributor="KEY_ROUND_ROBIN"))
    run.go()
    assert len(run.driver.keys) > 10
    assert None not in run.driver.keys


def test_a_backlog_is_built_and_drained() -> None:
    run = Run(workload(**SHORT, consumerBacklogSizeGB=200 * 100 / (1 << 30)))  # 200 messages
    fields = run.go().fields
    assert max(fields["backlog"]) > 0
    assert fields["backlog"][-1] == 0
    assert any("Completed backlog draining" in line for line in run.said)
    assert len(fields["backlog"]) > 3  # the drained backlog is followed by the whole of the test


def test_who_is_full_sends_late_and_that_is_publish_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker takes its time for each message: what is behind is late, which is no latency."""
    run = Run(workload(**{**SHORT, "topics": 1}), window=1)
    create = FakeDriver.create_producer

    async def create_slow(self: FakeDriver, topic: str) -> Producer:
        producer = await create(self, topic)
        done = producer.done

        def late(sent: Sent, error: str | None) -> None:
            asyncio.get_running_loop().call_later(0.01, done, sent, error)

        producer.done = late  # type: ignore[method-assign]
        return producer

    monkeypatch.setattr(FakeDriver, "create_producer", create_slow)
    fields = run.go().fields
    assert fields["aggregatedPublishDelayLatencyMax"] > 100_000  # us: of 300 ms, for 5 % of what was due
    assert fields["aggregatedPublishDelayLatencyMax"] > 2_000 * fields["aggregatedPublishLatency50pct"]


def test_a_message_that_cannot_be_sent_is_counted() -> None:
    run = Run(workload(**SHORT))

    async def fail_later() -> Result:
        running = asyncio.ensure_future(run.generator.run())
        sent, stats = asyncio.Event(), run.generator.worker.stats
        count = stats.sent
        stats.sent = lambda *about: (count(*about), sent.set())  # type: ignore[method-assign, assignment]
        await sent.wait()
        run.driver.failing = ValueError("no room")
        return await running

    fields = asyncio.run(fail_later()).fields
    assert fields["publishErrorRate"][-1] > 0
    assert run.generator.worker.first_error == "no room"


def test_a_probe_that_fails_says_why() -> None:
    run = Run(workload(**SHORT))
    run.driver.failing = ValueError("not authorized")
    with pytest.raises(BenchmarkError, match="the first message could not be sent: not authorized"):
        run.go()
    assert "driver" in run.driver.closed


def test_consumers_that_never_get_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_module, "PROBE_SECONDS_MAX", 0.05)
    run = Run(workload(**SHORT))
    run.driver.silent = True
    with pytest.raises(BenchmarkError, match="consumers are not ready: 0 of 6 messages"):
        run.go()


def test_the_rate_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine can do: what is published is received, and the rate is adjusted."""
    monkeypatch.setattr(generator_module, "CONTROL_SECONDS", 0.05)
    monkeypatch.setattr(generator_module, "START_RATE", 200.0)
    run = Run(workload(**{**SHORT, "producerRate": 0, "topics": 1}))
    rates: list[float] = []
    adjust = run.generator.worker.adjust

    def note(rate: float) -> None:
        rates.append(rate)
        adjust(rate)

    monkeypatch.setattr(run.generator.worker, "adjust", note)
    run.go()
    assert len(rates) > 3
    assert rates[1] > rates[0] == 200


def test_one_file_for_each_workload_and_driver(tmp_path: Path) -> None:
    fields = {**msgspec.to_builtins(workload(**SHORT)), "payloadFile": "body"}
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "short.yaml").write_text(json.dumps(fields))
    (tmp_path / "driver.yaml").write_text(DRIVER)
    said: list[str] = []
    output = tmp_path / "out"
    drivers = [tmp_path / "driver.yaml"] * 2
    first, second = run_all([tmp_path / "short.yaml"], drivers, output, said.append, 0.1)
    assert (first.error, second.error, first.send_error) == ("", "", "")
    assert first.path is not None
    assert first.path.name.startswith(f"short-fake-{time.strftime('%Y-')}")
    assert json.loads(first.path.read_text()) == json.loads(json.dumps(first.result))
    assert first.about()["file"] == str(first.path)
    assert second.path not in (None, first.path)


def test_all_files_are_read_before_anything_runs(tmp_path: Path) -> None:
    fields = {**msgspec.to_builtins(workload(**SHORT)), "payloadFile": "body"}
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "short.yaml").write_text(json.dumps(fields))
    (tmp_path / "good.yaml").write_text(DRIVER)
    (tmp_path / "bad.yaml").write_text("name: x\ndriver: kafka")
    with pytest.raises(BenchmarkError, match="kafka"):
        run_all([tmp_path / "short.yaml"], [tmp_path / "good.yaml", tmp_path / "bad.yaml"], tmp_path, print)
    assert not list(tmp_path.glob("*.json"))
