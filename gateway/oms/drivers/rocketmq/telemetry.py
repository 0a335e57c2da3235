"""The stream by which a client and a server tell each other how they want it: one for each server.

The client says its settings and gets the server's; the server asks about transactions. A stream that ends
is made anew for as long as the client lives, and nobody else needs to know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from gateway.oms.errors import OMSError, OMSTimeoutError
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.schema import Status, TelemetryCommand

from .statuses import of_status
from .wire import Metadata, Stream, Wire

_log = logging.getLogger(__name__)

#: Between attempts to make a stream anew.
RETRY_SECONDS: Final = (0.2, 5.0)
#: What a server may ask that we have no answer to: it is told so, rather than left waiting.
_UNANSWERED: Final = {
    "print_thread_stack_trace_command": "thread_stack_trace",
    "verify_message_command": "verify_message_result",
}


class Side(Protocol):
    """The client, as its streams see it."""

    def metadata(self) -> Metadata: ...

    def settings(self) -> Any: ...

    def take_settings(self, settings: Any) -> None: ...

    def take_orphan(self, wire: Wire, command: Any) -> None: ...


class Link:
    """A client's stream to one server."""

    def __init__(self, side: Side, wire: Wire) -> None:
        self.wire = wire
        self.unanswered = 0  # heartbeats, the last ones
        self._side = side
        self._stream: Stream | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None

    async def open(self, seconds: float) -> None:
        """Say the settings and wait for the server's. Raise OMSError, and what is made so far is gone."""
        answered = self._expect()
        self._task = asyncio.create_task(self._run(), name=f"telemetry to {self.wire}")
        try:
            await self._answer(answered, seconds)
        except BaseException:
            await self.close()
            raise

    async def say(self, seconds: float) -> None:
        """Say the settings again, which have changed. Raise OMSError."""
        answered = self._expect()
        if self._stream is not None:  # else they are said as soon as there is one
            await self._stream.write(TelemetryCommand(settings=self._side.settings()))
        await self._answer(answered, seconds)

    def _expect(self) -> asyncio.Future[None]:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(answered)
        return answered

    async def _answer(self, answered: asyncio.Future[None], seconds: float) -> None:
        try:
            await asyncio.wait_for(answered, seconds)
        except TimeoutError:
            raise OMSTimeoutError(f"{self.wire} said no settings within {seconds:g} s") from None
        finally:
            with suppress(ValueError):
                self._waiting.remove(answered)

    async def _run(self) -> None:
        pause = RETRY_SECONDS[0]
        while True:
            try:
                if await self._converse():
                    pause = RETRY_SECONDS[0]
            except OMSError as error:
                _log.info("telemetry: %s", error.reason)
                self._fail(error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_SECONDS[1])

    async def _converse(self) -> bool:
        """Go on until the stream ends; tell whether the server was content."""
        content = False
        failed: OMSError | None = None
        stream = self._stream = self.wire.open("Telemetry", self._side.metadata())
        # a server may say why, and hang up, before it has heard anything
        reading = asyncio.ensure_future(stream.read())
        try:
            try:
                await stream.write(TelemetryCommand(settings=self._side.settings()))
            except OMSError as error:
                failed = error
            while (command := await reading) is not None:
                content = await self._take(stream, command) or content
                reading = asyncio.ensure_future(stream.read())
            if failed is not None:
                raise failed
            return content
        finally:
            self._stream = None
            stream.cancel()
            reading.cancel()

    async def _take(self, stream: Stream, command: Any) -> bool:
        kind = command.WhichOneof("command")
        if command.HasField("status") and command.status.code != Code.OK:
            error = of_status(command.status, f"telemetry of {self.wire}")
            _log.warning("%s", error.reason)
            self._fail(error)
        elif kind == "settings":
            self._side.take_settings(command.settings)
            self._resolve(lambda answered: answered.set_result(None))
            return True
        elif kind == "recover_orphaned_transaction_command":
            self._side.take_orphan(self.wire, command.recover_orphaned_transaction_command)
        elif kind in _UNANSWERED:
            reply = TelemetryCommand(status=Status(code=Code.UNSUPPORTED))
            getattr(reply, _UNANSWERED[kind]).nonce = getattr(command, kind).nonce
            await stream.write(reply)
        elif kind == "reconnect_endpoints_command":
            stream.cancel()  # the next one goes wherever the name leads now
        return False

    def _fail(self, error: OMSError) -> None:
        self._resolve(lambda answered: answered.set_exception(error))

    def _resolve(self, tell: Callable[[asyncio.Future[None]], None]) -> None:
        waiting, self._waiting = self._waiting, []
        for answered in waiting:
            if not answered.done():
                tell(answered)

    async def close(self) -> None:
        """End it for good."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
