"""Statistics as retained messages under `$sys/`, for clients that like `$SYS` topics.

They are neither logged nor counted: a broker that writes its own statistics to disk every
few seconds would never rest.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable

from .core.broker import Broker
from .core.message import Message
from .core.topic import SYS_PREFIX
from .version import __version__

INTERVAL_MS = 10_000  # mosquitto's default


class SysInfo:
    """Publishes what is in `values` at every interval."""

    def __init__(self, broker: Broker, clients: Callable[[], int]) -> None:
        self._broker = broker
        self._clients = clients
        self._started_ms = 0

    def start(self) -> None:
        """Publish now and every ten seconds."""
        self._started_ms = self._broker.clock.monotonic_ms
        self._publish()

    def values(self) -> dict[str, str]:
        """Return every statistic by its topic below `$sys/`."""
        broker, metrics = self._broker, self._broker.metrics
        found = {
            "broker/version": f"gateway {__version__}",
            "broker/uptime": str((broker.clock.monotonic_ms - self._started_ms) // 1000),
            "broker/memory/maximum": str(_peak_rss_bytes()),
            "broker/clients/connected": str(self._clients()),
            "broker/subscriptions/count": str(broker.router.bindings),
            "broker/retained/count": str(broker.retained.count),
            "broker/queues/count": str(len(broker.catalog.queues)),
            "broker/messages/published": str(metrics.published),
            "broker/messages/delivered": str(metrics.delivered),
            "broker/messages/redelivered": str(metrics.redelivered),
            "broker/messages/dead-lettered": str(metrics.dead_lettered),
            "broker/messages/dropped": str(sum(metrics.dropped)),
        }
        for cause, count in metrics.dropped_by_cause().items():
            found[f"broker/messages/dropped/{cause.replace('_', '-')}"] = str(count)
        return found

    def _publish(self) -> None:
        broker = self._broker
        now_ms = broker.clock.wall_ms
        for name, value in self.values().items():
            broker.announce(Message(SYS_PREFIX + name, value.encode(), 0, True, timestamp_ms=now_ms))
        broker.scheduler.after(INTERVAL_MS, self._publish)


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
