"""One PullMessage under way: messages of a stream from an offset on, and the offset to go on at."""

from __future__ import annotations

from typing import Any, Final

from gateway.api import Gateway
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.schema import CLASSES, Status

from ..call import Call
from ..receiving.waiting import Waiting
from ..translate import from_message
from .streams import Reader

PullMessageResponse: Final = CLASSES["PullMessageResponse"]
FOUND: Final = PullMessageResponse(status=Status(code=Code.OK))
NOTHING: Final = PullMessageResponse(
    status=Status(code=Code.MESSAGE_NOT_FOUND, message="there is no message yet")
)


class Pull(Waiting):
    """One request."""

    __slots__ = ("_reader",)

    def __init__(self, gateway: Gateway, reader: Reader) -> None:
        super().__init__(gateway, reader)
        self._reader = reader

    async def run(self, call: Call, topic: Any, queue_id: int, count: int, wait_seconds: float) -> None:
        """Answer a request; `topic` is the resource that it names."""
        reader = self._reader
        try:
            await self.collect(call.session, count, wait_seconds)
            after = reader.next_offset()
        finally:
            reader.leave()
        await self._write(call, topic, queue_id, after)

    async def _write(self, call: Call, topic: Any, queue_id: int, after: int) -> None:
        held, self.held = self.held, []
        now_ms = self._gateway.clock.now_ms
        await call.write(FOUND if held else NOTHING)
        for delivery in held:
            response = PullMessageResponse()
            system = from_message(
                response.message,
                delivery.message,
                topic,
                self.source.topic,
                delivery.position,
                delivery.offset,
                now_ms,
            )
            system.queue_id = queue_id
            await call.write(response)
        await call.write(PullMessageResponse(next_offset=after))
