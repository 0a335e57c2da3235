"""The workbench for dead letters: look at them, mend them, send them on, throw them away.

`letters` reads and changes them, `job` sends many on at a bounded rate, `api` is its HTTP API.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.api import Gateway, HttpPart
from gateway.hookspecs import hookimpl

from .api import DeadLettersApi


@hookimpl
def gateway_http_parts(gateway: Gateway) -> Iterable[HttpPart]:
    """Offer the API."""
    return [DeadLettersApi(gateway)]
