"""A client by OpenMessaging: a producer and a pull consumer of any URL."""

from __future__ import annotations

import asyncio

from ..oms import (
    Message,
    MessagingAccessPoint,
    OMSDestinationError,
    OMSError,
    OMSMessageFormatError,
    OMSSecurityError,
    OMSUnsupportedError,
    get_access_point,
)
from .client import GROUP, OPERATION_SECONDS_MAX, QueueClient, Result
from .errors import ChaosError
from .history import Outcome

INVISIBLE_MS = 10_000  # the least that a RocketMQ proxy takes
#: What says that a message was refused; after anything else it may have been stored.
REFUSALS = (OMSDestinationError, OMSMessageFormatError, OMSSecurityError, OMSUnsupportedError)


class OmsClient(QueueClient):
    """One client, with an access point of its own."""

    def __init__(self, url: str, queue: str) -> None:
        attributes: dict[str, str | bytes | bool | int | float] = {
            "OPERATION_TIMEOUT": int(OPERATION_SECONDS_MAX * 1000),
            "CONSUMER_ID": GROUP,
            "INVISIBLE_TIME": INVISIBLE_MS,
        }
        try:
            self._access_point: MessagingAccessPoint = get_access_point(url, attributes)
        except OMSError as error:
            raise ChaosError(error.reason) from error
        self._queue = queue
        self._producer = self._access_point.create_producer()
        self._consumer = self._access_point.create_pull_consumer()
        self._bound = False

    async def open(self) -> None:
        """Start producer and consumer."""
        try:
            await self._started()
        except OMSError as error:
            raise ChaosError(error.reason) from error

    async def enqueue(self, value: str, key: str | None) -> Result:
        """Send it."""
        message = Message(self._queue, value.encode())
        if key is not None:
            message.extension_header.message_key = key
        try:
            await self._producer.start()
        except OMSError as error:
            return Result(Outcome.FAILURE, error.reason)
        try:
            sent = await asyncio.wait_for(self._producer.send(message), OPERATION_SECONDS_MAX)
        except REFUSALS as error:
            return Result(Outcome.FAILURE, error.reason)
        except OMSError as error:
            return Result(Outcome.UNKNOWN, error.reason)
        except TimeoutError:
            return Result(Outcome.UNKNOWN, "no answer")
        return Result(Outcome.SUCCESS, sent.message_id)

    async def dequeue(self, seconds: float) -> Result:
        """Receive a message and acknowledge it."""
        try:
            await self._started()
            message = await asyncio.wait_for(self._consumer.receive(seconds), seconds + OPERATION_SECONDS_MAX)
        except (OMSError, TimeoutError) as error:
            return Result(Outcome.FAILURE, getattr(error, "reason", "no answer"))
        if message is None:
            return Result(Outcome.FAILURE)
        value, key = message.data.decode(), message.extension_header.message_key
        assert message.receipt is not None, "it was sent at least once"
        try:
            await asyncio.wait_for(self._consumer.ack(message.receipt), OPERATION_SECONDS_MAX)
        except (OMSError, TimeoutError) as error:
            return Result(Outcome.UNKNOWN, getattr(error, "reason", "no answer"), value, key)
        return Result(Outcome.SUCCESS, message.header.message_id, value, key)

    async def close(self) -> None:
        """Stop both."""
        await self._consumer.stop()
        await self._producer.stop()

    async def _started(self) -> None:
        if not self._bound:
            await self._consumer.bind_queue(self._queue)
            self._bound = True
        await self._consumer.start()
        await self._producer.start()
