"""Observations (RFC 7641)."""

from __future__ import annotations

from gateway.api import Gateway

from .answers import Refused
from .clients import Client, Clients
from .exchange import Link, Request
from .numbers import NOT_IMPLEMENTED
from .targets import Target


class Observation:
    """One client's observation of one filter."""


class Observers:
    """All observations of the door."""

    def __init__(self, gateway: Gateway, clients: Clients) -> None:
        self.topics: object = None

    def register(self, client: Client, request: Request, target: Target) -> None:
        """Raise GatewayError."""
        raise Refused(NOT_IMPLEMENTED, "not there yet")

    def deregister(self, client: Client, request: Request) -> None:
        """Forget an observation."""

    def reset(self, link: Link, token: bytes) -> None:
        """The client does not know the observation."""

    def gone(self, link: Link) -> None:
        """A link is closed."""
