"""Numbers for Prometheus, read from the broker's plain counters when they are asked for.

The number of time series is bounded: the deepest queues have one each, the others and the
clients' own session queues are summed up.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from ...api import Broker, Gateway, Series
from ...core.access import Authority
from ...core.queue import Queue
from ...core.topic import DELAYED_PREFIX, SESSION_PREFIX
from .limits import METRIC_QUEUES_MAX

CONTENT_TYPE = CONTENT_TYPE_LATEST
SESSIONS_LABEL = "(sessions)"
CALENDAR_LABEL = "(schedules)"  # what waits for its time
OTHERS_LABEL = "(others)"

#: Counter of the broker -> (name, help).
COUNTERS = {
    "published": ("gateway_messages_published", "Messages published, through any door"),
    "copies": ("gateway_message_copies", "Copies made: one for each receiver and queue a message went to"),
    "delivered": (
        "gateway_message_copies_delivered",
        "Copies delivered and, where that is asked for, settled",
    ),
    "streamed": ("gateway_message_copies_streamed", "Copies kept in streams"),
    "redelivered": ("gateway_deliveries_returned", "Deliveries given back by their consumer"),
    "dead_lettered": ("gateway_messages_dead_lettered", "Messages sent to a dead-letter address"),
}


#: Those of the door's own numbers that only grow.
DOOR_COUNTERS = frozenset({"requests", "connections_refused"})


class BrokerCollector(Collector):
    """The broker's counters and queues as metrics."""

    def __init__(self, broker: Broker, door: Callable[[], dict[str, int]]) -> None:
        self._broker = broker
        self._door = door

    def collect(self) -> Iterator[Metric]:
        broker = self._broker
        for attribute, (name, text) in COUNTERS.items():
            yield CounterMetricFamily(name, text, value=getattr(broker.metrics, attribute))
        dropped = CounterMetricFamily(
            "gateway_message_copies_dropped", "Copies that were not delivered, by cause", labels=["cause"]
        )
        for cause, count in broker.metrics.dropped_by_cause().items():
            dropped.add_metric([cause], count)
        yield dropped
        yield from self._gauges()
        yield from _queue_metrics(list(broker.catalog.queues.values()))

    def _gauges(self) -> Iterator[Metric]:
        broker = self._broker
        yield GaugeMetricFamily("gateway_retained_messages", "Retained messages", value=broker.retained.count)
        yield GaugeMetricFamily("gateway_subscriptions", "Filters bound", value=broker.router.bindings)
        yield GaugeMetricFamily(
            "gateway_clock_offset_seconds",
            "How far the wall clock has jumped ahead of the gateway's own time",
            value=broker.clock.offset_ms / 1000,
        )
        yield GaugeMetricFamily(
            "gateway_topics_cached", "Topics with a route", value=len(broker.router.routes)
        )
        yield GaugeMetricFamily("gateway_queues", "Queues", value=len(broker.catalog.queues))
        yield GaugeMetricFamily("gateway_leases", "Deliveries held under a lease", value=len(broker.leases))
        for name, value in self._door().items():
            text = f"HTTP door: {name.replace('_', ' ')}"
            if name in DOOR_COUNTERS:
                yield CounterMetricFamily(f"gateway_http_{name}", text, value=value)
            else:
                yield GaugeMetricFamily(f"gateway_http_{name}", text, value=value)


class AuthorityCollector(Collector):
    """Who was refused, and which quotas were exceeded."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def collect(self) -> Iterator[Metric]:
        authority = self._authority
        logins = CounterMetricFamily("gateway_logins_refused", "Logins refused, by door", labels=["door"])
        for door, count in authority.logins_refused.items():
            logins.add_metric([door], count)
        yield logins
        refused = CounterMetricFamily(
            "gateway_refused", "What clients were not allowed", labels=["door", "action"]
        )
        for labels, count in authority.refusals.items():
            refused.add_metric(labels, count)
        yield refused
        exceeded = CounterMetricFamily(
            "gateway_quota_exceeded", "How often a quota was exceeded", labels=["quota", "limit"]
        )
        for labels, count in authority.quotas.exceeded.items():
            exceeded.add_metric(labels, count)
        yield exceeded


class SeriesCollector(Collector):
    """What others add."""

    def __init__(self, sources: list[Callable[[], Iterable[Series]]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        for source in self._sources:
            for series in source():
                make = CounterMetricFamily if series.counter else GaugeMetricFamily
                found = make(series.name, series.text, labels=series.labels)
                for labels, value in series.values:
                    found.add_metric(labels, value)
                yield found


def _queue_metrics(queues: list[Queue]) -> Iterator[Metric]:
    depth = GaugeMetricFamily("gateway_queue_depth", "Messages in nobody's hands", labels=["queue"])
    size = GaugeMetricFamily("gateway_queue_bytes", "Bytes of their bodies", labels=["queue"])
    unsettled = GaugeMetricFamily("gateway_queue_unsettled", "Messages in consumers' hands", labels=["queue"])
    consumers = GaugeMetricFamily("gateway_queue_consumers", "Consumers", labels=["queue"])
    for label, members in _labelled(queues):
        depth.add_metric([label], sum(queue.length() for queue in members))
        size.add_metric([label], sum(queue.bytes_waiting for queue in members))
        unsettled.add_metric([label], sum(len(g.unsettled) for queue in members for g in queue.groups()))
        consumers.add_metric([label], sum(len(g.consumers) for queue in members for g in queue.groups()))
    yield from (depth, size, unsettled, consumers)


def _labelled(queues: list[Queue]) -> Iterator[tuple[str, list[Queue]]]:
    """Yield (label, queues) so that there are few labels."""
    sessions = [queue for queue in queues if queue.name.startswith(SESSION_PREFIX)]
    calendar = [queue for queue in queues if queue.name.startswith(DELAYED_PREFIX)]
    named = [queue for queue in queues if not queue.name.startswith((SESSION_PREFIX, DELAYED_PREFIX))]
    shown = named
    if len(named) > METRIC_QUEUES_MAX:
        shown = heapq.nlargest(METRIC_QUEUES_MAX, named, key=_length)
        chosen = {queue.name for queue in shown}
        yield (OTHERS_LABEL, [queue for queue in named if queue.name not in chosen])
    yield (SESSIONS_LABEL, sessions)
    yield (CALENDAR_LABEL, calendar)
    for queue in shown:
        yield (queue.name, [queue])


def _length(queue: Queue) -> int:
    return queue.length()


class Exposition:
    """What GET /metrics returns."""

    def __init__(self, gateway: Gateway, door: Callable[[], dict[str, int]]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(BrokerCollector(gateway.broker, door))
        self._registry.register(AuthorityCollector(gateway.authority))
        self._registry.register(SeriesCollector(gateway.series))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
