"""Schedules for people: an API to list, edit and cancel what waits, and cron, which repeats itself.

Waiting itself is the core's (`gateway.core.schedules`). `api` is what can be done with what waits,
`cron` publishes, `cron_api` is what can be done with that, `shown` how a message is shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.api import Gateway, HttpPart
from gateway.hookspecs import hookimpl

from .cron import Crons


class Schedules:
    """One for each gateway."""

    def __init__(self) -> None:
        self.crons: Crons | None = None

    @hookimpl
    def gateway_recovered(self, gateway: Gateway) -> None:
        """Take up what publishes again and again."""
        self.crons = Crons(gateway.broker)
        self.crons.restore()

    @hookimpl
    def gateway_http_parts(self, gateway: Gateway) -> Iterable[HttpPart]:
        """Offer both APIs."""
        from .api import SchedulesApi
        from .cron_api import CronApi

        assert self.crons is not None
        return [SchedulesApi(gateway), CronApi(gateway, self.crons)]


#: What the plugin manager makes one of for each gateway.
plugin = Schedules
