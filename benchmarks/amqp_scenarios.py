"""What is measured of the AMQP door, beside RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable

from . import amqp, frames, scenarios
from .brokers import Running
from .clients import Publisher, receive_exactly
from .clients import log_in as mqtt_log_in
from .loads import TRICKLE_IN_FLIGHT_MAX, Stream, trickle
from .scenarios import (
    LATENCY_SECONDS,
    QOS0_BURST,
    TRICKLE_RATE,
    Goal,
    Meter,
    Row,
    Sample,
    Scenario,
    measured,
    percentiles,
    pooled,
)

QUEUE = "bench"
TOPIC_KEY = "bench.x"  # `bench/x` of MQTT
WINDOW = 1000
PREFETCH = 1000
MANY = 1000
FAN = 100

Run = Callable[[Running, float], Sample]


def one_to_one(durable: bool) -> Run:
    """Through the default exchange: transient and acknowledged by itself, or all that durable asks for."""

    def run(running: Running, seconds: float) -> Sample:
        properties = amqp.PERSISTENT if durable else amqp.TRANSIENT
        ring = frames.Ring([amqp.publish("", QUEUE, properties, frames.PAYLOAD)])
        sample = amqp.deliver(amqp.TAG, "", QUEUE, properties, frames.PAYLOAD)
        with amqp.queues(running, [QUEUE], durable):
            reader = amqp.consumer(
                running, QUEUE, sample, acknowledges=durable, prefetch=PREFETCH if durable else 0
            )
            writer = amqp.publisher(running, ring, WINDOW if durable else 0)
            return measured(running, Stream([writer], [reader], burst=QOS0_BURST), seconds)

    return run


def from_mqtt(running: Running, seconds: float) -> Sample:
    """QoS 1 of MQTT into a durable queue, out by AMQP with acknowledgements."""
    ring = frames.publish_ring([scenarios.TOPIC], qos=1)
    exchange = "amq.topic"
    properties = _properties_from_mqtt(running)
    with amqp.queues(running, [TOPIC_KEY], True, exchange):
        sample = amqp.deliver(amqp.TAG, exchange, TOPIC_KEY, properties, frames.PAYLOAD)
        reader = amqp.consumer(running, TOPIC_KEY, sample, acknowledges=True, prefetch=PREFETCH)
        writer = Publisher(mqtt_log_in(running.mqtt_port, "pub"), ring, WINDOW)
        return measured(running, Stream([writer], [reader]), seconds)


def _properties_from_mqtt(running: Running) -> bytes:
    """Return the property list that a broker gives a QoS 1 message: its length has to be known."""
    with amqp.queues(running, [TOPIC_KEY], True, "amq.topic"):
        sock = amqp.log_in(running.amqp_port)
        amqp.subscribe(sock, TOPIC_KEY, True, 1)
        ring = frames.publish_ring([scenarios.TOPIC], qos=1)
        writer = mqtt_log_in(running.mqtt_port, "probe")
        writer.sendall(bytes(ring.view[: ring.frame_bytes]))
        receive_exactly(sock, 7 + 4 + 2 + 9 + 1 + len("amq.topic") + 1 + len(TOPIC_KEY) + 1)
        head = receive_exactly(sock, 7)
        content = receive_exactly(sock, int.from_bytes(head[3:7], "big"))
        sock.close()
        writer.close()
    return content[12:]


def latency(running: Running, seconds: float) -> Sample:
    ring = frames.Ring([amqp.publish("", QUEUE, amqp.PERSISTENT, frames.PAYLOAD)] * 6000)
    sample = amqp.deliver(amqp.TAG, "", QUEUE, amqp.PERSISTENT, frames.PAYLOAD)
    with amqp.queues(running, [QUEUE], True):
        sock = amqp.log_in(running.amqp_port)
        amqp.subscribe(sock, QUEUE, True, PREFETCH)
        timer = amqp.AmqpTimer(sock, sample, amqp.TAG)
        writer = amqp.publisher(running, ring, TRICKLE_IN_FLIGHT_MAX)
        with Meter(running) as meter:
            stamp_at = ring.sample.index(frames.PAYLOAD[:8])
            ages = trickle(writer, timer, timer.ages_ms, ring, TRICKLE_RATE, seconds, stamp_at)
    return Sample({**percentiles(ages), **meter.shares()}, ages)


def many(running: Running, seconds: float) -> Sample:
    """A thousand queues, each with a consumer of its own; one publisher goes round."""
    names = [f"q{number:04d}" for number in range(MANY)]
    ring = frames.Ring([amqp.publish("", name, amqp.TRANSIENT, frames.PAYLOAD) for name in names])
    with amqp.queues(running, names, False):
        readers = [
            amqp.consumer(
                running,
                name,
                amqp.deliver(amqp.TAG, "", name, amqp.TRANSIENT, frames.PAYLOAD),
                acknowledges=False,
            )
            for name in names
        ]
        writer = amqp.publisher(running, ring)
        return measured(running, Stream([writer], readers, burst=QOS0_BURST), seconds)


def fan_out(running: Running, seconds: float) -> Sample:
    names = [f"f{number:03d}" for number in range(FAN)]
    ring = frames.Ring([amqp.publish("fan", "k", amqp.TRANSIENT, frames.PAYLOAD)])
    with amqp.queues(running, names, False, "fan"):
        sample = amqp.deliver(amqp.TAG, "fan", "k", amqp.TRANSIENT, frames.PAYLOAD)
        readers = [amqp.consumer(running, name, sample, acknowledges=False) for name in names]
        return measured(running, Stream([amqp.publisher(running, ring)], readers, unit=(1, FAN)), seconds)


def throughput(name: str, title: str, run: Run, *goals: Goal) -> Scenario:
    return Scenario(name, (Row("rate", title, scenarios.RATE, goals),), run, amqp=True)


LATENCY_ROWS = (
    Row("p50", "AMQP durable, confirmed, acknowledged, 1000/s: median", "ms"),
    Row("p99", "… 99 % within", "ms", (Goal(1, "rabbitmq", at_most=True),)),
    Row("p99.9", "… 99.9 % within", "ms"),
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        throughput("amqp", "AMQP transient, auto-ack", one_to_one(False), Goal(1.2, "rabbitmq")),
        throughput(
            "amqp-durable",
            "AMQP durable, confirms (window 1000), acknowledgements",
            one_to_one(True),
            Goal(3, "rabbitmq"),
        ),
        throughput("mqtt-amqp", "MQTT QoS 1 → AMQP with acknowledgements", from_mqtt, Goal(3, "rabbitmq")),
        Scenario(
            "amqp-latency", LATENCY_ROWS, latency, LATENCY_SECONDS, split=True, combine=pooled, amqp=True
        ),
        throughput("amqp-queues", "AMQP, 1000 queues with a consumer each", many),
        throughput("amqp-fan-out", "AMQP fanout exchange, 1 → 100 queues", fan_out),
    )
}
