"""Streams by position, as the binding reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import httpx

from gateway.oms.driver import ClientOptions, StreamReader
from gateway.oms.errors import OMSError, ResponseStatus
from gateway.oms.message import Message

from .connection import text
from .lines import from_line

if TYPE_CHECKING:
    from .driver import HttpDriver

WAIT_SECONDS_MAX: Final = 60.0  # what the binding allows
FIRST, END, NEXT = "x-oms-firstPosition", "x-oms-endPosition", "x-oms-nextPosition"


class HttpReader(StreamReader):
    """Reads the streams of queues. Each queue has one partition, 0."""

    def __init__(self, driver: HttpDriver, options: ClientOptions) -> None:
        self._driver = driver
        self._options = options

    async def bounds(self, queue: str, partition: int) -> tuple[int, int]:
        answer = await self._ask(queue, partition, "latest", 1)
        return _number(answer.headers, FIRST), _number(answer.headers, END)

    async def read(self, queue: str, partition: int, position: int, messages_max: int) -> list[Message]:
        while True:
            answer = await self._ask(queue, partition, str(position), messages_max)
            lines = [line for line in answer.content.split(b"\n") if line]
            if lines:
                return [self._message(line, queue, partition) for line in lines]
            reached = _number(answer.headers, NEXT)
            if reached <= position:
                return []
            position = reached  # what was there has expired

    def _message(self, line: bytes, queue: str, partition: int) -> Message:
        message = from_line(line, queue)
        message.extension_header.partition = partition
        return message

    async def wait(self, queue: str, partition: int, position: int, timeout: float) -> None:
        await self._ask(queue, partition, str(position), 1, min(timeout, WAIT_SECONDS_MAX))

    async def position_of(self, queue: str, partition: int, timestamp_ms: int) -> int:
        time = datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
        answer = await self._ask(queue, partition, time, 1)
        if not answer.content:
            return _number(answer.headers, NEXT)
        offset: int = json.loads(answer.content)["extensionHeader"]["offset"]
        return offset

    async def _ask(
        self, queue: str, partition: int, position: str, messages_max: int, seconds: float = 0
    ) -> httpx.Response:
        if partition:
            raise OMSError(
                f"{queue!r} has no partition {partition}: 0 is the only one", ResponseStatus.BAD_PARAMETER
            )
        told = {
            "x-oms-source": text(self._driver.topic_of(queue)),
            "x-oms-position": position,
            "x-oms-max": str(messages_max),
            "x-oms-waitMills": str(round(seconds * 1000)),
        }
        timeout = seconds + self._options.operation_timeout
        return await self._driver.connection.ask("GET", "stream", timeout, told)


def _number(headers: Mapping[str, str], name: str) -> int:
    return int(headers[name])
