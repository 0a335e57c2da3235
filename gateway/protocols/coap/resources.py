"""Resources: which part of the door a path leads to, and what becomes of errors."""

from __future__ import annotations

from typing import Protocol

import structlog

from gateway.api import Gateway, GatewayError

from .answers import answer_to, refusal
from .clients import Client, Clients
from .exchange import Link, Request
from .numbers import INTERNAL_SERVER_ERROR, NOT_FOUND

log = structlog.get_logger("gateway")


class Resource(Protocol):
    """What is below one first segment of a path."""

    def serve(self, client: Client, request: Request) -> None:
        """Answer, now or later. Raise GatewayError for what is to be refused."""


class Resources:
    """Implements `exchange.Handler`."""

    __slots__ = ("_gateway", "clients", "on_reset", "table")

    def __init__(self, gateway: Gateway, clients: Clients) -> None:
        self._gateway = gateway
        self.clients = clients
        self.table: dict[str, Resource] = {}  # first segment of the path -> what is there
        self.on_reset: list[ResetListener] = []

    def handle(self, request: Request) -> None:
        client = self.clients.find(request)
        if client is None:
            self.clients.enter(request, self._serve)
        else:
            self._serve(client, request)

    def _serve(self, client: Client, request: Request) -> None:
        path = request.options.path
        resource = self.table.get(path[0]) if path else None
        if resource is None:
            there = ", ".join(f"/{name}" for name in sorted(self.table))
            request.respond(refusal(NOT_FOUND, f"nothing is here; there are {there}"))
            return
        try:
            resource.serve(client, request)
        except GatewayError as error:
            request.respond(answer_to(error))
        except Exception as error:
            log.error("bug: request not answered", door="coap", peer=request.link.peer, exc_info=error)
            request.respond(refusal(INTERNAL_SERVER_ERROR, "the gateway has a bug; its log says more"))

    def reset(self, link: Link, token: bytes) -> None:
        for listener in self.on_reset:
            listener.reset(link, token)

    def gone(self, link: Link) -> None:
        for listener in self.on_reset:
            listener.gone(link)
        self.clients.gone(link)


class ResetListener(Protocol):
    """Whoever sends notifications."""

    def reset(self, link: Link, token: bytes) -> None: ...

    def gone(self, link: Link) -> None: ...
