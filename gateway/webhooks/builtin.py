"""Webhooks, offered by the hooks as anybody's plugin would."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ..api import Gateway, HttpPart, InvalidTopic, InvalidValue
from ..hookspecs import hookimpl
from ..outgoing.client import Client
from ..outgoing.destinations import Destinations
from .admin import api
from .pusher import Shell
from .registry import Webhooks
from .secrets import Vault


class Plugin:
    """One for each gateway."""

    def __init__(self) -> None:
        self._destinations: Destinations | None = None
        self._webhooks: Webhooks | None = None

    @hookimpl
    def gateway_configured(self, config: Any) -> None:
        """Read which destinations are allowed. Raise InvalidValue."""
        settings = config.webhooks
        try:
            self._destinations = Destinations(
                "webhooks.allow", settings.allow, settings.allow_private, config.dev
            )
        except (InvalidValue, InvalidTopic) as error:
            raise InvalidValue(f"webhooks.allow: {error.detail}") from error

    @hookimpl
    def gateway_recovered(self, gateway: Gateway) -> None:
        """Read what is kept."""
        config = gateway.config
        assert self._destinations is not None
        shell = Shell(
            gateway, Client(self._destinations, config.webhooks.ca), self._destinations, os.urandom(6).hex()
        )
        kept = config.storage.engine != "memory"
        self._webhooks = Webhooks(shell, Vault(config.data_directory if kept else None))
        self._webhooks.load()
        gateway.series.append(self._webhooks.series)

    @hookimpl
    def gateway_http_parts(self, gateway: Gateway) -> Iterable[HttpPart]:
        """Offer the API."""
        assert self._webhooks is not None
        return [api(self._webhooks, gateway)]

    @hookimpl
    def gateway_started(self, gateway: Gateway) -> None:
        """Begin to push."""
        assert self._webhooks is not None
        self._webhooks.start()

    @hookimpl
    def gateway_stopping(self, gateway: Gateway) -> None:
        """Give back what is in hand."""
        if self._webhooks is not None:
            self._webhooks.stop()


#: What the plugin manager makes one of for each gateway.
plugin = Plugin
