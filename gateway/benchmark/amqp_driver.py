"""Drives an AMQP 0-9-1 broker, RabbitMQ or this gateway, by pika.

As the original's driver for RabbitMQ: a topic is a durable fanout exchange, a subscription a durable queue
bound to it, the key is the routing key. Producers have one connection, consumers another: brokers stop
reading from a connection that publishes too fast, and with it acknowledgements.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from .driver import WINDOW_DEFAULT, Consumer, Driver, Producer, Received, Sent, Settings
from .errors import BenchmarkError, LibraryMissing

try:
    import pika  # type: ignore[import-untyped]
    from pika.adapters.asyncio_connection import AsyncioConnection  # type: ignore[import-untyped]
except ImportError as error:
    raise LibraryMissing("AMQP", "pika") from error

ANSWER_SECONDS_MAX = 10.0
PERSISTENT, TRANSIENT = 2, 1
DEFAULT_URI = "amqp://guest:guest@127.0.0.1:5672/"


class AmqpSettings(Settings, frozen=True, kw_only=True):
    """The fields of the original's file, and how much may be unacknowledged."""

    amqpUris: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = (DEFAULT_URI,)
    messagePersistence: bool = False
    prefetch: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = WINDOW_DEFAULT


async def _ask(channel: Any, method: str, *arguments: Any, **named: Any) -> None:
    """Have a channel do something and wait until it is done. Raise BenchmarkError: a refusal closes it."""
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(*_: Any) -> None:
        if not answered.done():
            answered.set_result(None)

    def closed(_: Any, reason: BaseException) -> None:
        if not answered.done():
            answered.set_exception(BenchmarkError(f"AMQP: {method} {arguments[0]}: {reason}"))

    channel.add_on_close_callback(closed)
    try:
        getattr(channel, method)(*arguments, callback=done, **named)
        await asyncio.wait_for(answered, ANSWER_SECONDS_MAX)
    except (TimeoutError, pika.exceptions.AMQPError) as error:
        reason = str(error) or type(error).__name__
        raise BenchmarkError(f"AMQP: {method} {arguments[0]}: {reason}") from error


async def connect(uri: str) -> AsyncioConnection:
    """Return an open connection. Raise BenchmarkError."""
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()

    def failed(connection: Any, error: BaseException) -> None:
        if not opened.done():
            opened.set_exception(BenchmarkError(f"AMQP at {uri.rpartition('@')[2]}: {error!r}"))

    def ready(connection: Any) -> None:
        if not opened.done():
            opened.set_result(None)

    connection = AsyncioConnection(
        pika.URLParameters(uri), ready, failed, lambda connection, reason: None, custom_ioloop=loop
    )
    await opened
    return connection


async def open_channel(connection: AsyncioConnection) -> Any:
    """Return a channel. Raise BenchmarkError."""
    opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    try:
        connection.channel(on_open_callback=opened.set_result)
        return await asyncio.wait_for(opened, ANSWER_SECONDS_MAX)
    except (TimeoutError, pika.exceptions.AMQPError) as error:
        raise BenchmarkError(f"AMQP: no channel: {error!r}") from error


async def disconnect(connection: AsyncioConnection) -> None:
    """Close a connection and wait until it is; nothing if there is none."""
    if connection is None or not connection.is_open:
        return
    closed = asyncio.Event()
    connection.add_on_close_callback(lambda _, reason: closed.set())
    connection.close()
    with suppress(TimeoutError):  # who does not answer is not waited for
        await asyncio.wait_for(closed.wait(), ANSWER_SECONDS_MAX)


class AmqpProducer(Producer):
    """Publishes to an exchange, with confirms."""

    def __init__(self, channel: Any, exchange: str, config: AmqpSettings) -> None:
        super().__init__(config.window)
        self._channel = channel
        self._exchange = exchange
        self._properties = pika.BasicProperties(
            delivery_mode=PERSISTENT if config.messagePersistence else TRANSIENT
        )
        self._tags = itertools.count(1)
        self._waiting: dict[int, Sent] = {}  # in the order of their tags
        channel.add_on_close_callback(self._closed)

    async def confirm(self) -> None:
        """Ask for confirms."""
        await _ask(self._channel, "confirm_delivery", self._confirmed)

    def publish(self, key: str | None, body: bytes, sent: Sent) -> None:
        """Send it."""
        self._channel.basic_publish(self._exchange, key or "", body, self._properties)
        self._waiting[next(self._tags)] = sent

    async def close(self) -> None:
        """Close the channel."""
        self._waiting.clear()
        if self._channel.is_open:
            self._channel.close()

    def _confirmed(self, frame: Any) -> None:
        method, waiting = frame.method, self._waiting
        taken = isinstance(method, pika.spec.Basic.Ack)
        error = None if taken else "the broker did not take it (basic.nack)"
        if not method.multiple:
            if method.delivery_tag in waiting:
                self.done(waiting.pop(method.delivery_tag), error)
            return
        while waiting and (first := next(iter(waiting))) <= method.delivery_tag:
            self.done(waiting.pop(first), error)

    def _closed(self, channel: Any, reason: BaseException) -> None:
        waiting, self._waiting = self._waiting, {}
        for sent in waiting.values():
            self.done(sent, f"closed: {reason}")


class AmqpConsumer(Consumer):
    """Consumes a queue. What comes in one round of events is acknowledged at once; suspended, nothing is."""

    def __init__(self, channel: Any, received: Received) -> None:
        self._channel = channel
        self._received = received
        self._suspended = False
        self._last = self._acknowledged = 0
        self._flushing = False
        self._loop = asyncio.get_running_loop()

    async def consume(self, queue: str, prefetch: int) -> None:
        """Begin."""
        await _ask(self._channel, "basic_qos", 0, prefetch)
        await _ask(self._channel, "basic_consume", queue, self._delivered)

    async def suspend(self) -> None:
        """Acknowledge nothing, so that the prefetch is soon used up."""
        self._suspended = True

    async def resume(self) -> None:
        """Acknowledge what came, and go on."""
        self._suspended = False
        self._flush()

    async def close(self) -> None:
        """Close the channel."""
        if self._channel.is_open:
            self._channel.close()

    def _delivered(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._received(body)
        self._last = method.delivery_tag
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self._suspended and self._last > self._acknowledged and self._channel.is_open:
            self._acknowledged = self._last
            self._channel.basic_ack(self._last, multiple=True)


class AmqpDriver(Driver):
    """Two connections, a channel for each producer and consumer."""

    settings = AmqpSettings
    config: AmqpSettings

    def __init__(self, settings: AmqpSettings) -> None:
        super().__init__(settings)
        self._exchanges: list[str] = []
        self._queues: set[str] = set()
        self._publishing: Any = None
        self._consuming: Any = None
        self._admin: Any = None

    async def open(self) -> None:
        """Connect; with several addresses, consumers go to the second."""
        uris = self.config.amqpUris
        self._publishing = await connect(uris[0])
        self._consuming = await connect(uris[1 % len(uris)])
        self._admin = await open_channel(self._publishing)

    async def create_topic(self, topic: str, partitions: int) -> None:
        """Declare the exchange. Raise BenchmarkError for more than one partition, as the original."""
        if partitions != 1:
            raise BenchmarkError(f"AMQP has no partitions: partitionsPerTopic must be 1, not {partitions}")
        await _ask(self._admin, "exchange_declare", topic, "fanout", durable=True)
        self._exchanges.append(topic)

    async def create_producer(self, topic: str) -> AmqpProducer:
        """Open a channel with confirms."""
        producer = AmqpProducer(await open_channel(self._publishing), topic, self.config)
        await producer.confirm()
        return producer

    async def create_consumer(self, topic: str, subscription: str, received: Received) -> AmqpConsumer:
        """Declare and bind the queue, and consume it."""
        queue = f"{topic}-{subscription}"
        channel = await open_channel(self._consuming)
        await _ask(channel, "queue_declare", queue, durable=True)
        self._queues.add(queue)
        await _ask(channel, "queue_bind", queue, topic)
        consumer = AmqpConsumer(channel, received)
        await consumer.consume(queue, self.config.prefetch)
        return consumer

    async def close(self) -> None:
        """Delete queues and exchanges, and disconnect."""
        if self._admin is not None and self._admin.is_open:
            for queue in self._queues:
                await _ask(self._admin, "queue_delete", queue)
            for exchange in self._exchanges:
                await _ask(self._admin, "exchange_delete", exchange)
        await disconnect(self._publishing)
        await disconnect(self._consuming)
