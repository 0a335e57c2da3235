"""All scenarios, in the order of the table."""

from __future__ import annotations

from . import amqp_scenarios, scenarios
from .scenarios import Scenario

SCENARIOS: dict[str, Scenario] = {**scenarios.SCENARIOS, **amqp_scenarios.SCENARIOS}
