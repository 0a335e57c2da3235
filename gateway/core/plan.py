"""What the broker means to do with a message, before anything is done: see `Broker.plan`."""

from __future__ import annotations

from typing import NamedTuple

from .message import Message
from .router import Binding, Route


class Plan(NamedTuple):
    """Where a message is to go."""

    message: Message
    queues: list[Binding]
    receivers: list[Binding]
    ids: tuple[int, ...]  # of the durable among the queues
    told: bool  # its publisher waits until it is stored
    route: Route
    due_ms: int = 0  # it waits in the calendar until then
