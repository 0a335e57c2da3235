"""Telemetry: client and gateway tell each other their settings; commands to the client. Heartbeat.

A client's stream is never ended by us while the client is there: those of Python notice only minutes later.
What is wrong with settings is said in an answer; what no client of RocketMQ's sends ends the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from gateway.api import Gateway, GatewayError
from gateway.rocketmq.numbers import ClientType, Code
from gateway.rocketmq.schema import CLASSES, Status, TelemetryCommand

from ..call import Call, Handler
from ..errors import BrokenProtocol, Refused, code_of
from ..refusals import Refusals
from .line import Line
from .logins import Logins
from .settings import Negotiation

OK: Final = Status(code=Code.OK)
PRODUCERS: Final = frozenset((ClientType.PRODUCER,))
CONSUMERS: Final = frozenset((ClientType.PUSH_CONSUMER, ClientType.SIMPLE_CONSUMER, ClientType.PULL_CONSUMER))
#: What is not served: lite topics are RocketMQ's own way to make many small ones.
LITE: Final = frozenset((ClientType.LITE_PUSH_CONSUMER, ClientType.LITE_SIMPLE_CONSUMER))
NO_LITE: Final = "lite topics are not supported: any topic costs little here, so use topics"


class Telemetry:
    """A `Part`: Telemetry, Heartbeat, NotifyClientTermination, and what is not served."""

    def __init__(
        self, gateway: Gateway, logins: Logins, negotiation: Negotiation, refusals: Refusals
    ) -> None:
        self._gateway = gateway
        self._logins = logins
        self._negotiation = negotiation
        self._refusals = refusals

    def handlers(self) -> Mapping[str, Handler]:
        """Return the procedures."""
        return {
            "Telemetry": self.telemetry,
            "Heartbeat": self.heartbeat,
            "NotifyClientTermination": self.terminate,
            "SyncLiteSubscription": self.lite,
        }

    async def telemetry(self, call: Call, request: Any) -> None:
        """Answer settings, and send what `Client.tell` is given, until the client hangs up."""
        key, line = call.client.key, Line()
        call.client.take(line)
        reader = asyncio.ensure_future(self._read(call, line))
        try:
            while (command := await line.next()) is not None:
                await call.write(command)
        finally:
            reader.cancel()
            self._logins.hung_up(key, line)

    async def _read(self, call: Call, line: Line) -> None:
        """Take what the client says; a fault ends the stream once everything before it is answered."""
        assert call.requests is not None
        try:
            async for command in call.requests:
                client = await self._logins.speaks(call)
                if command is None:
                    raise BrokenProtocol("a TelemetryCommand is expected, and this is none")
                if command.HasField("settings"):
                    line.put(self._settle(call, command.settings))
                elif command.WhichOneof("command") is None and not command.HasField("status"):
                    raise BrokenProtocol(f"an empty TelemetryCommand of {client.id!r}")
        except Exception as error:
            line.close(error)
        finally:
            line.close()

    def _settle(self, call: Call, wanted: Any) -> Any:
        """Note a client's settings, and return ours. Raise BrokenProtocol."""
        try:
            _check(wanted)
            settings = self._negotiation.settle(call.client, wanted)
        except BrokenProtocol:
            raise
        except GatewayError as error:
            code = code_of(error)
            self._refusals.note("Telemetry", call.context, code, error.detail)
            return TelemetryCommand(status=Status(code=code, message=error.detail))
        return TelemetryCommand(status=OK, settings=settings)

    async def heartbeat(self, call: Call, request: Any) -> Any:
        """The client is there: that is noted with each call."""
        return CLASSES["HeartbeatResponse"](status=OK)

    async def terminate(self, call: Call, request: Any) -> Any:
        """The client leaves: what it holds goes to others."""
        client = call.client
        self._gateway.scheduler.after(0, lambda: self._logins.end(client))
        return CLASSES["NotifyClientTerminationResponse"](status=OK)

    async def lite(self, call: Call, request: Any) -> Any:
        """Refuse what lite consumers ask."""
        raise Refused(Code.UNSUPPORTED, NO_LITE)


def _check(wanted: Any) -> None:
    """Raise Refused unless settings are of a client that is served."""
    kind, part = wanted.client_type, wanted.WhichOneof("pub_sub")
    if kind in LITE:
        raise Refused(Code.UNSUPPORTED, NO_LITE)
    if part is None:
        raise BrokenProtocol("settings without a word on publishing or a subscription")
    if kind not in (PRODUCERS if part == "publishing" else CONSUMERS):
        raise Refused(Code.UNRECOGNIZED_CLIENT_TYPE, f"client type {kind} with settings for {part}")
