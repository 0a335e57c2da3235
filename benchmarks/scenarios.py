"""The table of scenarios: what is sent, to whom, what is reported, and what the gateway is to reach.

A scenario is a function from a running broker to named figures. Everything else here is a table.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from . import frames, processes
from .brokers import Running
from .clients import Poster, Publisher, Subscriber, dial, log_in, subscribe
from .loads import TRICKLE_IN_FLIGHT_MAX, Posts, Stream, Timer, drain, fill, flow, idle_connections, trickle

TOPIC = "bench/x"
QOS0_BURST = 64
"""Frames written together at QoS 0: 9 KB, about what one segment of a busy link carries."""

FAN = 100
FAN_IN_BURST = 10
"""1.4 KB: a full Ethernet segment from each publisher in turn."""

TOPICS = 1000
FILTERS = 10_000
FILTER_CONNECTIONS = 10
WILDCARD_TOPICS = 10_000
TRICKLE_RATE = 1000
IDLE_CONNECTIONS = 10_000
IDLE_WARM_UP = 100
IDLE_KEEP_ALIVE_SECONDS = 600
IDLE_SOURCES = tuple(f"127.0.0.{last}" for last in range(2, 10))
"""Several, so that repeated runs do not use up the ports of one address."""

BACKLOG = 1_000_000
"""Messages for a session that is away."""

HTTP_CONCURRENCY = 64
BATCH_CONCURRENCY = 4
BATCH_LINES = 1000

THROUGHPUT_SECONDS = 5.0
LATENCY_SECONDS = 60.0

Figures = dict[str, float]


@dataclass
class Sample:
    """What one run gave: figures, and the single ages where percentiles must be taken over all runs."""

    figures: Figures
    ages_ms: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True)
class Goal:
    """At least (or at most) so much: times a peer's figure, or in the row's own unit if there is no peer."""

    bound: float
    peer: str = ""
    at_most: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the results: a figure, its name and unit, and what to reach."""

    figure: str
    title: str
    unit: str
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """`fresh` starts the broker anew for each run; `seconds` is per run, or over all runs if `split`."""

    name: str
    rows: tuple[Row, ...]
    run: Callable[[Running, float], Sample]
    seconds: float = THROUGHPUT_SECONDS
    split: bool = False
    fresh: bool = False
    http: bool = False
    amqp: bool = False
    combine: Callable[[Sequence[Sample]], Figures] = field(default=lambda samples: medians(samples))


def medians(samples: Sequence[Sample]) -> Figures:
    return {name: statistics.median(each.figures[name] for each in samples) for name in samples[0].figures}


def measured(running: Running, load: Stream | Posts, seconds: float) -> Sample:
    """Run a load; add to its tally what it cost the broker, and what other programs took meanwhile."""
    with contextlib.closing(load.crew), Meter(running) as meter:
        tally = flow(load, seconds)
    received = max(tally.received_in_all, 1)
    return Sample(
        {
            "rate": tally.rate,
            "loss_share": max(0.0, tally.loss_share),
            "duplicate_share": max(0.0, -tally.loss_share, tally.redelivered / received),
            "client_cpu_share": tally.client_cpu_share,
            "broker_cpu_us": meter.spent.broker_seconds / received * 1e6,
            "written_bytes": meter.spent.written_bytes / received,
            **meter.shares(),
        }
    )


class Meter:
    """What the broker and all other programs used between entry and exit."""

    def __init__(self, running: Running) -> None:
        self._pid = running.pid

    def __enter__(self) -> Meter:
        self._began, self._before = time.perf_counter(), processes.usage(self._pid)
        return self

    def __exit__(self, *raised: object) -> None:
        self.spent = processes.usage(self._pid) - self._before
        self.seconds = time.perf_counter() - self._began

    def shares(self) -> Figures:
        return {
            "broker_cpu_share": self.spent.broker_seconds / self.seconds,
            "others_cpu_share": max(0.0, self.spent.others_seconds / self.seconds),
        }


def subscriber(
    running: Running,
    client_id: str,
    filters: Sequence[str],
    sample: bytes,
    *,
    topic: str = TOPIC,
    clean: bool = True,
) -> Subscriber:
    """Log in and subscribe at the QoS of `sample`, the frame that is to arrive."""
    qos = sample[0] >> 1 & 3
    sock = log_in(running.mqtt_port, client_id, clean=clean)
    subscribe(sock, filters, qos)
    return Subscriber(sock, sample, id_at=frames.packet_id_offset(topic, sample))


def publisher(running: Running, client_id: str, ring: frames.Ring, window: int = 0) -> Publisher:
    return Publisher(log_in(running.mqtt_port, client_id), ring, window)


def qos0(running: Running, seconds: float) -> Sample:
    ring = frames.publish_ring([TOPIC])
    reader = subscriber(running, "sub", [TOPIC], ring.sample)
    return measured(running, Stream([publisher(running, "pub", ring)], [reader], burst=QOS0_BURST), seconds)


def qos1(window: int, *, clean: bool = True) -> Callable[[Running, float], Sample]:
    def run(running: Running, seconds: float) -> Sample:
        ring = frames.publish_ring([TOPIC], qos=1)
        with contextlib.nullcontext() if clean else forgotten(running, "keeper"):
            reader = subscriber(running, "sub" if clean else "keeper", [TOPIC], ring.sample, clean=clean)
            writer = publisher(running, "pub", ring, window)
            # A small window is all waiting: there the client must answer at once.
            return measured(running, Stream([writer], [reader], eager=window < 1000), seconds)

    return run


@contextlib.contextmanager
def forgotten(running: Running, client_id: str) -> Iterator[None]:
    """Remove the persistent session afterwards, so that the next run begins with none."""
    try:
        yield
    finally:
        log_in(running.mqtt_port, client_id, clean=True).close()


def fan_out(running: Running, seconds: float) -> Sample:
    ring = frames.publish_ring([TOPIC])
    readers = [subscriber(running, f"sub-{number}", [TOPIC], ring.sample) for number in range(FAN)]
    return measured(running, Stream([publisher(running, "pub", ring)], readers, unit=(1, FAN)), seconds)


def fan_in(running: Running, seconds: float) -> Sample:
    ring = frames.publish_ring([TOPIC])
    reader = subscriber(running, "sub", [TOPIC], ring.sample)
    writers = [publisher(running, f"pub-{number}", ring) for number in range(FAN)]
    return measured(running, Stream(writers, [reader], burst=FAN_IN_BURST), seconds)


def topics(running: Running, seconds: float) -> Sample:
    names = [f"bench/topic/{number:04d}" for number in range(TOPICS)]
    ring = frames.publish_ring(names)
    reader = subscriber(running, "sub", names, ring.sample)
    return measured(running, Stream([publisher(running, "pub", ring)], [reader], burst=QOS0_BURST), seconds)


def wildcards(running: Running, seconds: float) -> Sample:
    """Publish to topics of which every second matches one of the 10 k filters and every other two.

    Half of the filters fix the second level, half the third; the two halves are on different connections,
    so that no client has overlapping subscriptions (which brokers may deliver once or twice).
    """
    half, share = FILTERS // 2, FILTERS // FILTER_CONNECTIONS
    numbers = [f"{number:04d}" for number in range(half)]
    filters = [f"w/{number}/+/t" for number in numbers] + [f"w/+/{number}/t" for number in numbers]
    choose = random.Random(1)
    names = [
        f"w/{choose.randrange(half):04d}/{choose.randrange(half) + (half if turn % 2 else 0):04d}/t"
        for turn in range(WILDCARD_TOPICS)
    ]
    ring = frames.publish_ring(names)
    readers = [
        subscriber(running, f"sub-{start}", filters[start : start + share], ring.sample)
        for start in range(0, FILTERS, share)
    ]
    load = Stream([publisher(running, "pub", ring)], readers, unit=(2, 3), burst=QOS0_BURST)
    return measured(running, load, seconds)


def latency(running: Running, seconds: float) -> Sample:
    ring = frames.publish_ring([TOPIC], qos=1)
    reader = log_in(running.mqtt_port, "sub")
    subscribe(reader, [TOPIC], 1)
    timer = Timer(reader, ring.sample, id_at=frames.packet_id_offset(TOPIC, ring.sample))
    writer = publisher(running, "pub", ring, TRICKLE_IN_FLIGHT_MAX)
    with Meter(running) as meter:
        ages = trickle(writer, timer, timer.ages_ms, ring, TRICKLE_RATE, seconds, timer.stamp_at)
    return Sample({**percentiles(ages), **meter.shares()}, ages)


def pooled(samples: Sequence[Sample]) -> Figures:
    ages = array("d")
    for sample in samples:
        ages.extend(sample.ages_ms)
    figures = medians(samples)
    return {**figures, **percentiles(ages)}


def percentiles(ages_ms: array[float]) -> Figures:
    """Nearest rank: the smallest age that at least so many per cent of the messages do not exceed."""
    ranked = sorted(ages_ms)
    count = len(ranked)
    figures = {
        f"p{percent}": ranked[max(-(-count * round(percent * 1000) // 100_000) - 1, 0)]
        for percent in (50, 99, 99.6, 99.9, 99.996)
    }
    figures["max"] = ranked[-1]
    figures["share_1ms"] = 100 * sum(age < 1 for age in ranked) / count
    figures["share_10ms"] = 100 * sum(age < 10 for age in ranked) / count
    figures["messages"] = count
    return figures


def idle(running: Running, seconds: float) -> Sample:
    """Compare resident memory with and without idle connections, on a broker that has served some before."""
    wanted = IDLE_CONNECTIONS + IDLE_WARM_UP + 100
    if processes.allow_descriptors(wanted) < wanted:
        raise OSError(f"{wanted} open files are not allowed here (ulimit -n)")
    with idle_connections(running.mqtt_port, IDLE_WARM_UP, IDLE_SOURCES, IDLE_KEEP_ALIVE_SECONDS):
        pass
    before = processes.settled_rss_bytes(running.pid)
    with idle_connections(running.mqtt_port, IDLE_CONNECTIONS, IDLE_SOURCES, IDLE_KEEP_ALIVE_SECONDS):
        after = processes.settled_rss_bytes(running.pid)
    return Sample(
        {"bytes": (after - before) / IDLE_CONNECTIONS, "before_mb": before / 1e6, "after_mb": after / 1e6}
    )


def backlog(running: Running, seconds: float) -> Sample:
    """Publish to a persistent session that is away; then it comes back and takes everything."""
    ring = frames.publish_ring([TOPIC], qos=1)
    with forgotten(running, "keeper"):
        keeper = log_in(running.mqtt_port, "keeper", clean=False)
        subscribe(keeper, [TOPIC], 1)
        keeper.sendall(frames.DISCONNECT)
        keeper.close()
        fill_seconds = fill(publisher(running, "pub", ring, 1000), BACKLOG)
        rss = processes.settled_rss_bytes(running.pid)
        sock = log_in(running.mqtt_port, "keeper", clean=False)
        reader = Subscriber(sock, ring.sample, id_at=frames.packet_id_offset(TOPIC, ring.sample))
        drain_seconds = drain(reader, BACKLOG)
    return Sample(
        {
            "fill": BACKLOG / fill_seconds,
            "drain": BACKLOG / drain_seconds,
            "rss_mb": rss / 1e6,
            "duplicate_share": reader.redelivered / BACKLOG,
        }
    )


def start(running: Running, seconds: float) -> Sample:
    rss = processes.settled_rss_bytes(running.pid)
    return Sample({"rss_mb": rss / 1e6, "ready_ms": running.ready_seconds * 1e3})


def http(
    request: bytes, concurrency: int, messages: int, *, durable: bool = False
) -> Callable[[Running, float], Sample]:
    """Post to a topic that an MQTT client is subscribed to; what counts is what that client receives."""

    def run(running: Running, seconds: float) -> Sample:
        sample = frames.publish(TOPIC, qos=1 if durable else 0, packet_id=1)
        with forgotten(running, "keeper") if durable else contextlib.nullcontext():
            reader = subscriber(running, "keeper" if durable else "sub", [TOPIC], sample, clean=not durable)
            posters = [Poster(dial(running.http_port), request) for _ in range(concurrency)]
            return measured(running, Posts(posters, [reader], messages), seconds)

    return run


RATE = "messages/s"


def throughput(
    name: str,
    title: str,
    run: Callable[[Running, float], Sample],
    *goals: Goal,
    http: bool = False,
) -> Scenario:
    return Scenario(name, (Row("rate", title, RATE, goals),), run, http=http)


AMQTT = Goal(20, "amqtt")
SINGLE = frames.http_publish(TOPIC)
BATCH = frames.http_batch(TOPIC, BATCH_LINES)

LATENCY_ROWS = (
    Row("p50", "latency at 1000/s, QoS 1: median", "ms"),
    Row("p99", "… 99 % within", "ms"),
    Row("p99.6", "… 99.6 % within", "ms", (Goal(1, at_most=True),)),
    Row("p99.9", "… 99.9 % within", "ms"),
    Row("p99.996", "… 99.996 % within", "ms", (Goal(10, at_most=True),)),
    Row("share_1ms", "… under 1 ms", "%"),
    Row("share_10ms", "… under 10 ms", "%"),
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        throughput("qos0", "QoS 0, 1 → 1", qos0, Goal(1.2, "mosquitto"), AMQTT),
        throughput("qos1", "QoS 1, window 1000, clean session", qos1(1000), Goal(2, "mosquitto"), AMQTT),
        throughput("qos1-20", "QoS 1, window 20, clean session", qos1(20)),
        throughput(
            "persistent",
            "QoS 1, window 1000, persistent session",
            qos1(1000, clean=False),
            Goal(1.5, "mosquitto"),
            AMQTT,
        ),
        throughput("fan-out", "QoS 0, 1 → 100", fan_out),
        throughput("fan-in", "QoS 0, 100 → 1", fan_in),
        throughput("topics", "QoS 0, 1000 topics", topics),
        throughput("wildcards", "QoS 0, 10 k wildcard filters", wildcards),
        Scenario("latency", LATENCY_ROWS, latency, LATENCY_SECONDS, split=True, combine=pooled),
        Scenario(
            "idle",
            (Row("bytes", "memory of an idle connection", "bytes", (Goal(3000, at_most=True),)),),
            idle,
            fresh=True,
        ),
        throughput(
            "http", "HTTP publish, 64 connections", http(SINGLE, HTTP_CONCURRENCY, 1), Goal(20_000), http=True
        ),
        throughput(
            "http-persistent",
            "HTTP publish, 64 connections, to a persistent session",
            http(SINGLE, HTTP_CONCURRENCY, 1, durable=True),
            http=True,
        ),
        throughput(
            "http-batch",
            "HTTP batches of 1000",
            http(BATCH, BATCH_CONCURRENCY, BATCH_LINES),
            Goal(100_000),
            http=True,
        ),
        Scenario(
            "backlog",
            (
                Row("fill", "QoS 1, 1 M messages to a session that is away", RATE),
                Row("drain", "… and out again, when it comes back", RATE),
                Row("rss_mb", "… memory while they wait", "MB"),
            ),
            backlog,
            fresh=True,
        ),
        Scenario(
            "start",
            (
                Row("rss_mb", "memory at start", "MB", (Goal(80, at_most=True),)),
                Row("ready_ms", "from start to ready", "ms"),
            ),
            start,
            fresh=True,
        ),
    )
}
