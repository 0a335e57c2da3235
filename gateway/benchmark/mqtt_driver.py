"""Drives an MQTT 5 broker: a connection for each producer and consumer, a shared subscription for each
subscription.

`$share/<subscription>/<topic>` is the standard's own name for consumers that compete, so this runs with any
broker.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

import msgspec

from .driver import WINDOW_DEFAULT, Consumer, Driver, Producer, Received, Sent, Settings
from .errors import BenchmarkError
from .paho_loop import INFLIGHT_MAX, PahoLoop, user_property

#: A durable session's life: longer than any run, so that its queue is one that must be on disk.
DURABLE_SECONDS = 24 * 3600


class MqttSettings(Settings, frozen=True, kw_only=True):
    """Where the broker is, and how messages are sent."""

    window: Annotated[int, msgspec.Meta(ge=1, le=INFLIGHT_MAX)] = WINDOW_DEFAULT
    host: str = "127.0.0.1"
    port: int = 1883
    user: str = ""
    password: str = ""
    qos: Literal[0, 1, 2] = 1
    receiveMaximum: Annotated[int, msgspec.Meta(ge=1, le=INFLIGHT_MAX)] = WINDOW_DEFAULT
    keyProperty: str = "$key"  # the user property that holds a message's key; "": keys are not sent
    durable: bool = False  # sessions that outlive their connection


class MqttProducer(Producer):
    """Publishes to a topic."""

    def __init__(self, connection: PahoLoop, topic: str, config: MqttSettings) -> None:
        super().__init__(config.window)
        self._connection = connection
        self._topic = topic
        self._qos = config.qos
        self._key_property = config.keyProperty
        self._waiting: dict[int, Sent] = {}
        connection.client.on_publish = self._published
        connection.client.on_disconnect = self._disconnected

    def publish(self, key: str | None, body: bytes, sent: Sent) -> None:
        """Send it."""
        properties = None
        if key is not None and self._key_property:
            properties = user_property(self._key_property, key)
        info = self._connection.client.publish(self._topic, body, self._qos, properties=properties)
        if info.rc:
            raise BenchmarkError(f"MQTT: {info.rc.name}")
        self._waiting[info.mid] = sent

    async def close(self) -> None:
        """Disconnect."""
        self._waiting.clear()
        await self._connection.close()

    def _published(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        if mid in self._waiting:
            self.done(self._waiting.pop(mid), str(reason) if reason.is_failure else None)

    def _disconnected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        waiting, self._waiting = self._waiting, {}
        for sent in waiting.values():
            self.done(sent, f"disconnected: {reason}")


class MqttConsumer(Consumer):
    """Shares a subscription. Suspended, it keeps its acknowledgements, so that nothing more comes."""

    def __init__(self, connection: PahoLoop, received: Received) -> None:
        self._connection = connection
        self._received = received
        self._suspended = False
        self._kept: list[tuple[int, int]] = []
        connection.client.on_message = self._on_message

    async def suspend(self) -> None:
        """Acknowledge nothing."""
        self._suspended = True

    async def resume(self) -> None:
        """Acknowledge what was kept, and go on."""
        self._suspended = False
        kept, self._kept = self._kept, []
        for mid, qos in kept:
            self._connection.client.ack(mid, qos)

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self._received(message.payload)
        if message.qos and self._suspended:
            self._kept.append((message.mid, message.qos))
        elif message.qos:
            client.ack(message.mid, message.qos)


class MqttDriver(Driver):
    """Connects as often as it is asked for a producer or consumer."""

    settings = MqttSettings
    config: MqttSettings

    def __init__(self, settings: MqttSettings) -> None:
        super().__init__(settings)
        self._numbers = itertools.count()

    async def open(self) -> None:
        """Nothing: each producer and consumer connects."""

    async def create_topic(self, topic: str, partitions: int) -> None:
        """Nothing: topics come with their first message."""

    async def create_producer(self, topic: str) -> MqttProducer:
        """Connect a producer."""
        connection = self._connection(topic)
        await connection.connect(self.config.host, self.config.port)
        return MqttProducer(connection, topic, self.config)

    async def create_consumer(self, topic: str, subscription: str, received: Received) -> MqttConsumer:
        """Connect a consumer and subscribe."""
        config = self.config
        connection = self._connection(topic)
        consumer = MqttConsumer(connection, received)
        expiry = DURABLE_SECONDS if config.durable else 0
        await connection.connect(config.host, config.port, config.receiveMaximum, expiry)
        await connection.subscribe(f"$share/{subscription}/{topic}", config.qos)
        return consumer

    async def close(self) -> None:
        """Nothing is left: producers and consumers have disconnected."""

    def _connection(self, topic: str) -> PahoLoop:
        return PahoLoop(f"{topic}-{next(self._numbers)}", self.config.user, self.config.password)
