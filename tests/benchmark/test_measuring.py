"""What is measured, and how: schedules, rates, histograms, results."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram

from gateway.benchmark.errors import BenchmarkError
from gateway.benchmark.limiter import SECOND_NS, Limiter
from gateway.benchmark.rate_controller import RAMPING_MIN, RateController
from gateway.benchmark.result import PERCENTILES, Result
from gateway.benchmark.stats import END_TO_END_US_MAX, PUBLISH_US_MAX, Latencies, Stats
from gateway.benchmark.summary import COLUMNS, write_summary
from gateway.benchmark.workload import Workload


def workload(**changes: object) -> Workload:
    fields: dict[str, object] = {
        "name": "w",
        "topics": 2,
        "messageSize": 100,
        "subscriptionsPerTopic": 3,
        "producersPerTopic": 1,
        "consumerPerSubscription": 1,
        "testDurationMinutes": 1,
        **changes,
    }
    return Workload(**fields)  # type: ignore[arg-type]


def test_the_schedule_waits_for_nobody() -> None:
    limiter = Limiter(1000)
    start = 5 * SECOND_NS
    late = start + 10 * SECOND_NS  # somebody was away: what was due meanwhile is due when it was
    times = [limiter.acquire(start), *(limiter.acquire(late) for _ in range(3))]
    assert [time - start for time in times] == [0, 1_000_000, 2_000_000, 3_000_000]


def test_an_odd_rate_does_not_drift() -> None:
    limiter = Limiter(7)
    times = [limiter.acquire(0) for _ in range(700_001)]
    assert times[-1] == 100_000 * SECOND_NS


def test_the_rate_grows_while_all_is_well() -> None:
    controller, rate, sent = RateController(), 10_000.0, 0
    rates = []
    for _ in range(3):
        sent += round(rate * 3)
        rate = controller.next_rate(rate, 3 * SECOND_NS, sent, sent)
        rates.append(rate)
    assert rates == [20_000, 40_000, 80_000]


def test_the_rate_falls_to_what_was_managed() -> None:
    controller = RateController()
    # of 30,000 messages only 21,000 could be published: 9,000 behind
    assert controller.next_rate(10_000, 3 * SECOND_NS, 21_000, 21_000) == 7_000
    assert controller.ramping == 0.5
    # published as planned, but consumers are 6,000 behind
    assert controller.next_rate(7_000, 3 * SECOND_NS, 42_000, 36_000) == 5_000
    assert controller.ramping == 0.25
    # more is behind than a period has: stop, nearly
    assert controller.next_rate(5_000, 3 * SECOND_NS, 57_000, 36_000) == 0
    for _ in range(10):
        controller.next_rate(1, 3 * SECOND_NS, 57_000, 36_000)
    assert controller.ramping == RAMPING_MIN
    # and carefully up again
    assert controller.next_rate(100, 3 * SECOND_NS, 57_300, 57_300) == pytest.approx(102)


@pytest.mark.parametrize("us_max", [PUBLISH_US_MAX, END_TO_END_US_MAX])
def test_percentiles_are_those_of_an_hdr_histogram(us_max: int) -> None:
    chance = random.Random(5)
    ours, theirs = Latencies(us_max), HdrHistogram(1, us_max, 5)
    values = [min(us_max, round(chance.lognormvariate(8, 2))) for _ in range(5_000)]
    for value in values:
        ours.record(value)
        theirs.record_value(value)
    wanted = [*PERCENTILES.values(), 0.01, 100.0]
    assert ours.percentiles(wanted) == theirs.get_percentile_to_value_dict(wanted)
    assert ours.highest == theirs.get_max_value()
    assert ours.mean == pytest.approx(sum(values) / len(values))
    quantiles = list(ours.quantiles())
    assert quantiles[-1] == (100.0, theirs.get_max_value())
    assert quantiles == sorted(quantiles)


def test_a_value_beyond_the_histogram_counts_as_its_highest() -> None:
    latencies = Latencies(PUBLISH_US_MAX)
    latencies.record(10 * PUBLISH_US_MAX)
    latencies.record(-5)
    assert latencies.percentiles([50, 100]) == {50: 0, 100: pytest.approx(PUBLISH_US_MAX, rel=1e-5)}


def test_nothing_measured_is_zero() -> None:
    latencies = Latencies(PUBLISH_US_MAX)
    assert (latencies.mean, latencies.highest, latencies.percentiles([50])) == (0, 0, {50: 0})
    assert list(latencies.quantiles()) == []


def test_publish_delay_is_no_latency() -> None:
    """Due a second ago and confirmed after a millisecond: the broker took a millisecond."""
    stats = Stats()
    stats.sent(100, due_ns=0, sent_ns=SECOND_NS, now_ns=SECOND_NS + 1_000_000)
    _, latencies = stats.end_period()
    assert (latencies.publish.highest, latencies.delay.mean) == (1000, 1_000_000)


def test_a_reset_forgets_the_warm_up_but_not_the_backlog() -> None:
    stats = Stats()
    stats.sent(100, 0, 0, 5_000_000)
    stats.end_period()
    stats.reset_latencies()
    stats.sent(100, 0, 0, 1_000_000)
    stats.failed()
    stats.received(100, 2_000_000)
    stats.received(100, None)  # too short to say when it was sent
    counts, _ = stats.end_period()
    assert (counts.sent, counts.errors, counts.received, counts.bytes_sent) == (1, 1, 2, 100)
    assert (stats.total.sent, stats.total.received) == (2, 2)
    assert (stats.cumulative().publish.count, stats.cumulative().publish.highest) == (1, 1000)
    assert stats.cumulative().end_to_end.count == 1


#: The keys of the original's result, written out: who reads its files can read ours.
SHAPE = [
    "workload",
    "driver",
    "messageSize",
    "topics",
    "partitions",
    "producersPerTopic",
    "consumersPerTopic",
]
ARRAYS = ["publishRate", "publishErrorRate", "consumeRate", "backlog"]
ENDINGS = ["Avg", "50pct", "75pct", "95pct", "99pct", "999pct", "9999pct", "Max"]


def test_result_has_the_originals_keys_and_units() -> None:
    result, stats = Result(workload(), "d"), Stats()
    stats.sent(100, 0, 3_000_000, 5_000_000)
    stats.received(100, 7_000_000)
    counts, latencies = stats.end_period()
    result.add_period(counts, latencies, stats.total, 0.5)
    result.aggregate(stats.cumulative())
    expected = {*SHAPE, *ARRAYS}
    for name in ("publishLatency", "publishDelayLatency", "endToEndLatency"):
        aggregated = "aggregated" + name[0].upper() + name[1:]
        expected |= {name + ending for ending in ENDINGS} | {aggregated + ending for ending in ENDINGS}
        expected.add(aggregated + "Quantiles")
    assert set(result.fields) == expected
    found = json.loads(json.dumps(result.fields))
    assert (found["publishRate"], found["consumeRate"], found["backlog"]) == ([2.0], [2.0], [2])
    assert (found["publishLatencyMax"], found["aggregatedPublishLatency99pct"]) == ([2.0], 2.0)  # ms
    assert (found["publishDelayLatency50pct"], found["aggregatedPublishDelayLatencyMax"]) == (
        [3000],
        3000,
    )  # us
    assert found["aggregatedEndToEndLatencyQuantiles"]["100.0"] == 7.0  # ms
    assert "Pub rate 2.0 msg/s" in result.line()


def test_the_summary_has_a_line_for_each_result(tmp_path: Path) -> None:
    shape = {"topics": 1, "partitions": 1, "producersPerTopic": 1, "consumersPerTopic": 2}
    for size, rates in ((1024, [10.0, 20.0, 30.0]), (100, [5.0, 5.0])):
        result = {**shape, "messageSize": size, "publishRate": rates, "consumeRate": rates}
        (tmp_path / f"{size}.json").write_text(json.dumps(result))
    (tmp_path / "other.json").write_text("[1]")
    path = write_summary(tmp_path, tmp_path)
    assert path.read_text().splitlines() == [
        COLUMNS,
        "1,1,100,1,2,5,5,0.00,5,5,5,0.00,5",
        "1,1,1024,1,2,10,20,8.16,30,10,20,8.16,30",
    ]
    for content, text in ((None, "no results"), ("{", "Expecting")):
        folder = tmp_path / str(content is None)
        folder.mkdir()
        if content:
            (folder / "x.json").write_text(content)
        with pytest.raises(BenchmarkError, match=text):
            write_summary(folder, tmp_path)
