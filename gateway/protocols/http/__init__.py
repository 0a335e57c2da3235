"""The HTTP door: REST, server-sent events, WebSockets. See docs/protocols/http.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...api import Protocol
from ...hookspecs import hookimpl
from .door import HttpDoor
from .limits import Limits

__all__ = ["HttpDoor", "gateway_protocols"]


@hookimpl
def gateway_protocols(config: Any) -> Iterable[Protocol]:
    """Offer the HTTP door. Raise ValueError if its table in the configuration has a fault."""
    return [HttpDoor(Limits(config))]
