"""Drives whatever an OpenMessaging URL leads to: topics are queues, subscriptions consumer groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec

from ..oms import (
    Feature,
    ListenerContext,
    Message,
    MessagingAccessPoint,
    OMSDestinationError,
    OMSError,
    SendResult,
    get_access_point,
)
from ..oms import Producer as OmsClient
from ..oms import PushConsumer as OmsPush
from .driver import WINDOW_DEFAULT, Consumer, Driver, Producer, Received, Sent, Settings
from .errors import BenchmarkError


class OmsSettings(Settings, frozen=True, kw_only=True):
    """Where the access point is, and what its attributes are (ACCOUNT_KEY and others)."""

    url: str
    attributes: dict[str, str | int | float | bool] = {}
    concurrency: Annotated[int, msgspec.Meta(ge=1)] = WINDOW_DEFAULT  # listeners of a consumer at a time


async def _stopped(client: OmsClient | OmsPush) -> None:
    try:
        await client.stop()
    except OMSError as error:
        raise BenchmarkError(error.reason) from error


class OmsProducer(Producer):
    """Sends to a queue; a key is the message key, which orders."""

    def __init__(self, client: OmsClient, queue: str, window: int) -> None:
        super().__init__(window)
        self._client = client
        self._queue = queue

    def publish(self, key: str | None, body: bytes, sent: Sent) -> None:
        """Send it."""
        message = Message(self._queue, body)
        if key is not None:
            message.extension_header.message_key = key
        self._client.send_async(message).add_done_callback(self._then(sent))

    async def close(self) -> None:
        """Stop the client."""
        await _stopped(self._client)

    def _then(self, sent: Sent) -> Callable[[asyncio.Future[SendResult]], None]:
        def settle(future: asyncio.Future[SendResult]) -> None:
            error = asyncio.CancelledError("cancelled") if future.cancelled() else future.exception()
            self.done(sent, None if error is None else getattr(error, "reason", str(error)))

        return settle


class OmsConsumer(Consumer):
    """A push consumer of a group."""

    def __init__(self, client: OmsPush) -> None:
        self._client = client

    async def suspend(self) -> None:
        """Have no listener called."""
        self._client.suspend()

    async def resume(self) -> None:
        """Have it called again."""
        self._client.resume()

    async def close(self) -> None:
        """Stop the client."""
        await _stopped(self._client)


class OmsDriver(Driver):
    """One access point; a client of it for each producer and consumer."""

    settings = OmsSettings
    config: OmsSettings

    def __init__(self, settings: OmsSettings) -> None:
        """Raise BenchmarkError for a URL that leads nowhere."""
        super().__init__(settings)
        try:
            self._access_point: MessagingAccessPoint = get_access_point(settings.url, settings.attributes)
        except OMSError as error:
            raise BenchmarkError(error.reason) from error
        self._queues: list[str] = []

    async def open(self) -> None:
        """Start the access point."""
        try:
            await self._access_point.start()
        except OMSError as error:
            raise BenchmarkError(f"{self.config.url}: {error.reason}") from error

    async def create_topic(self, topic: str, partitions: int) -> None:
        """Remember it: it is there with its first consumer or message."""
        self._queues.append(topic)

    async def create_producer(self, topic: str) -> OmsProducer:
        """Start a producer."""
        client = self._access_point.create_producer()
        await self._started(client, topic)
        return OmsProducer(client, topic, self.config.window)

    async def create_consumer(self, topic: str, subscription: str, received: Received) -> OmsConsumer:
        """Start a push consumer."""
        client = self._access_point.create_push_consumer(
            consumer_id=subscription, consume_concurrency=self.config.concurrency
        )

        def listen(message: Message, context: ListenerContext) -> None:
            received(message.data)

        await client.bind_queue(topic, listen)
        await self._started(client, topic)
        return OmsConsumer(client)

    async def close(self) -> None:
        """Delete the queues where that can be done, and stop the access point."""
        try:
            if self._queues and Feature.QUEUES not in self._access_point.driver.unsupported:
                await self._delete_queues()
        except OMSError as error:
            raise BenchmarkError(f"{self.config.url}: {error.reason}") from error
        finally:
            await self._access_point.stop()

    async def _delete_queues(self) -> None:
        manager = self._access_point.resource_manager()
        await manager.start()
        try:
            for queue in self._queues:
                try:
                    await manager.delete_queue(queue)
                except OMSDestinationError:
                    continue  # nothing was made of it
        finally:
            await manager.stop()

    async def _started(self, client: OmsClient | OmsPush, topic: str) -> None:
        try:
            await client.start()
        except OMSError as error:
            raise BenchmarkError(f"{self.config.url}: {topic}: {error.reason}") from error
