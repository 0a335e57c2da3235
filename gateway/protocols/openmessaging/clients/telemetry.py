"""Telemetry: client and gateway tell each other their settings; commands to the client. Heartbeat.

A client's stream is never ended by us while the client is there: those of Python notice only minutes later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from gateway.api import Gateway
from gateway.core.policy import ATTEMPTS, BACKOFF_MS
from gateway.rocketmq.numbers import ClientType, Code
from gateway.rocketmq.schema import CLASSES, Settings, Status, TelemetryCommand

from ..call import Call, Handler
from ..errors import Refused
from ..names import group_of, topic_of
from .groups import Groups
from .logins import Logins

SEND_ATTEMPTS: Final = 3  # RocketMQ's proxy: with pauses of 10 ms to 1 s, each twice the last
BATCH_MAX: Final = 32  # messages that a push consumer asks for at once
CONSUMERS: Final = frozenset((ClientType.PUSH_CONSUMER, ClientType.SIMPLE_CONSUMER, ClientType.PULL_CONSUMER))
#: What is not served: lite topics are RocketMQ's own way to make many small ones.
UNSUPPORTED: Final = frozenset((ClientType.LITE_PUSH_CONSUMER, ClientType.LITE_SIMPLE_CONSUMER))

OK: Final = Status(code=Code.OK)


class Telemetry:
    """A `Part`: Telemetry, Heartbeat, NotifyClientTermination."""

    def __init__(self, gateway: Gateway, logins: Logins, groups: Groups, settings: Any) -> None:
        self._gateway = gateway
        self._logins = logins
        self._groups = groups
        self._settings = settings

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {
            "Telemetry": self.telemetry,
            "Heartbeat": self.heartbeat,
            "NotifyClientTermination": self.terminate,
        }

    async def telemetry(self, call: Call, request: Any) -> None:
        """Answer settings, and send what `Client.tell` is given, until the client hangs up."""
        client = call.client
        commands: asyncio.Queue[Any] = asyncio.Queue()
        client.commands.append(commands)
        reader = asyncio.ensure_future(self._read(call, commands))
        try:
            while (command := await commands.get()) is not None:
                await call.write(command)
        finally:
            reader.cancel()
            if commands in client.commands:
                client.commands.remove(commands)

    async def _read(self, call: Call, commands: asyncio.Queue[Any]) -> None:
        assert call.requests is not None
        try:
            async for command in call.requests:
                self._gateway.begin_turn()
                call.client.seen_ms = self._gateway.clock.monotonic_ms
                if command.HasField("settings"):
                    commands.put_nowait(self._settle(call, command.settings))
        finally:
            commands.put_nowait(None)

    def _settle(self, call: Call, wanted: Any) -> Any:
        """Note a client's settings, and return ours."""
        try:
            settings = self._answer(call, wanted)
        except Refused as error:
            return TelemetryCommand(status=Status(code=error.code, message=error.detail))
        return TelemetryCommand(status=OK, settings=settings)

    def _answer(self, call: Call, wanted: Any) -> Any:
        client = call.client
        client.kind = wanted.client_type
        if client.kind in UNSUPPORTED:
            raise Refused(Code.UNSUPPORTED, "lite topics are not supported")
        settings = Settings()
        settings.CopyFrom(wanted)
        settings.metric.on = False
        if wanted.HasField("publishing"):
            client.publishes.update(topic_of(client, topic) for topic in wanted.publishing.topics)
            settings.publishing.max_body_size = self._settings.body_bytes_max
            settings.publishing.validate_message_type = False
            backoff = settings.backoff_policy
            backoff.max_attempts = SEND_ATTEMPTS
            backoff.exponential_backoff.initial.FromMilliseconds(10)
            backoff.exponential_backoff.max.FromMilliseconds(1000)
            backoff.exponential_backoff.multiplier = 2
        if wanted.HasField("subscription"):
            client.group = group_of(wanted.subscription.group)
            known = self._groups.get(client.group)
            fifo = wanted.subscription.fifo or (known is not None and known.fifo)
            self._groups.note(client.group, fifo)
            settings.subscription.fifo = fifo
            settings.subscription.receive_batch_size = BATCH_MAX
            settings.subscription.long_polling_timeout.FromMilliseconds(
                round(self._settings.long_poll_seconds_max * 1000)
            )
            backoff = settings.backoff_policy
            backoff.max_attempts = ATTEMPTS
            for pause_ms in BACKOFF_MS:
                backoff.customized_backoff.next.add().FromMilliseconds(pause_ms)
        client.settings = settings
        return settings

    async def heartbeat(self, call: Call, request: Any) -> Any:
        """The client is there: that is noted with each call."""
        return CLASSES["HeartbeatResponse"](status=OK)

    async def terminate(self, call: Call, request: Any) -> Any:
        """The client leaves: what it holds goes to others."""
        self._gateway.scheduler.after(0, lambda: self._logins.end(call.client))
        return CLASSES["NotifyClientTerminationResponse"](status=OK)
