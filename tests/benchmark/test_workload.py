"""Workload and driver files: the original's fields, and everything else refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateway.benchmark.driver import load_driver
from gateway.benchmark.errors import BenchmarkError
from gateway.benchmark.payloads import KEYS_COUNT, load_payloads, next_key
from gateway.benchmark.workload import load_workload

OMB = Path(__file__).parents[2] / "benchmarks" / "omb"

#: As a file of the original's is written.
ORIGINAL = """
name: 1 topic / 1 partition / 1Kb

topics: 1
partitionsPerTopic: 1
keyDistributor: "NO_KEY"
messageSize: 1024
payloadFile: "payload/payload-1Kb.data"
subscriptionsPerTopic: 1
consumerPerSubscription: 1
producersPerTopic: 1
producerRate: 50000
consumerBacklogSizeGB: 0
testDurationMinutes: 15
"""


def written(folder: Path, **changes: object) -> Path:
    fields = {**yaml.safe_load(ORIGINAL), **changes}
    path = folder / "workload.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in fields.items() if value is not None}))
    return path


def test_a_file_of_the_originals(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(ORIGINAL)
    workload = load_workload(path)
    assert (workload.name, workload.producerRate, workload.copies) == (
        "1 topic / 1 partition / 1Kb",
        50_000,
        1,
    )
    assert (workload.warmupDurationMinutes, workload.backlogDrainRatio, workload.backlog_bytes) == (1, 1.0, 0)
    (tmp_path / "payload").mkdir()
    (tmp_path / "payload" / "payload-1Kb.data").write_bytes(b"x" * 1024)
    assert load_payloads(workload, tmp_path) == [b"x" * 1024]
    (tmp_path / "payload" / "payload-1Kb.data").write_bytes(b"x")
    with pytest.raises(BenchmarkError, match="has 1 bytes, messageSize is 1024"):
        load_payloads(workload, tmp_path)
    with pytest.raises(BenchmarkError, match="is neither here nor in"):
        load_payloads(workload, tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"testDurationMinute": 1}, "unknown field `testDurationMinute`"),
        ({"topics": 0}, r"`\$.topics`"),
        ({"topics": None}, "missing required field `topics`"),
        ({"keyDistributor": "KEY"}, "keyDistributor"),
        ({"backlogDrainRatio": 2}, "backlogDrainRatio"),
        ({"consumerBacklogSizeGB": 1, "producerRate": 0}, "cannot be built while the rate is looked for"),
        ({"consumerBacklogSizeGB": 1, "consumerPerSubscription": 0}, "needs subscriptions with consumers"),
        ({"consumerBacklogSizeGB": 1, "messageSize": 0}, "never grows"),
        ({"payloadFile": None}, "there must be a payloadFile, or useRandomizedPayloads"),
        ({"useRandomizedPayloads": True}, "needs a randomizedPayloadPoolSize"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], text: str
) -> None:
    with pytest.raises(BenchmarkError, match=text):
        load_workload(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("content", "text"),
    [("- a", "expected fields and values, found list"), ("a: [", "is no YAML"), (None, "No such file")],
)
def test_files_that_are_none(tmp_path: Path, content: str | None, text: str) -> None:
    path = tmp_path / "w.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BenchmarkError, match=text):
        load_workload(path)


def test_random_payloads_are_random_in_part(tmp_path: Path) -> None:
    changes = {"useRandomizedPayloads": True, "randomBytesRatio": 0.25, "randomizedPayloadPoolSize": 3}
    bodies = load_payloads(load_workload(written(tmp_path, messageSize=1000, **changes)), tmp_path)
    assert [len(body) for body in bodies] == [1000] * 3
    assert len({body[:250] for body in bodies}) == 3
    assert all(body[250:] == bytes(750) for body in bodies)


def test_keys() -> None:
    assert next_key("NO_KEY")() is None
    each = next_key("KEY_ROUND_ROBIN")
    first = [each() for _ in range(KEYS_COUNT)]
    assert len(set(first)) == KEYS_COUNT
    assert [each() for _ in range(5)] == first[:5]
    anyone = next_key("RANDOM_NANO")
    assert len({anyone() for _ in range(1000)}) > 1


@pytest.mark.parametrize("path", sorted(OMB.glob("*.yaml")), ids=lambda path: path.name)
def test_our_own_files_are_right(path: Path) -> None:
    if path.name.startswith("driver-"):
        assert load_driver(path).config.name
    else:
        load_payloads(load_workload(path), path.parent)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("name: x\ndriver: kafka", "'kafka' is not known; there are oms, mqtt, amqp, rabbitmq"),
        ("name: x", "there must be a driver"),
        ("name: x\ndriver: mqtt\nhots: a", "unknown field `hots`"),
        ("driver: mqtt", "missing required field `name`"),
        (
            "name: x\ndriverClass: io.openmessaging.benchmark.driver.kafka.KafkaBenchmarkDriver",
            "is not known",
        ),
        ("name: x\ndriverClass: 'json:dumps'", "is no gateway.benchmark.driver.Driver"),
        ("name: x\ndriverClass: 'no.such:Thing'", "cannot be imported"),
    ],
)
def test_driver_files_that_make_no_sense(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(content)
    with pytest.raises(BenchmarkError, match=text):
        load_driver(path)
