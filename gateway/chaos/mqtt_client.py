"""An MQTT 5 client: publishes at QoS 1, and is in a shared subscription with the others.

A connection that has once not answered in time is given up for a new one: what it still says is not waited
for.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..benchmark.errors import BenchmarkError
from ..benchmark.paho_loop import PahoLoop, user_property
from .client import GROUP, OPERATION_SECONDS_MAX, QueueClient, Result
from .errors import ChaosError
from .history import Outcome

QOS = 1
SESSION_SECONDS = 3600  # longer than any outage: the group's queue is durable
KEY_PROPERTY = "$key"
RECEIVE_MAXIMUM = 10  # messages that wait with a client: few, so that others get them


class MqttClient(QueueClient):
    """One client."""

    def __init__(self, host: str, port: int, topic: str, number: int) -> None:
        self._host = host
        self._port = port
        self._topic = topic
        self._name = f"{topic}-client-{number}"
        self._connection: PahoLoop | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()

    async def open(self) -> None:
        """Connect and subscribe."""
        try:
            await self._connected()
        except BenchmarkError as error:
            raise ChaosError(error.detail) from error

    async def enqueue(self, value: str, key: str | None) -> Result:
        """Publish, and wait for PUBACK."""
        try:
            connection = await self._connected()
        except BenchmarkError as error:
            return Result(Outcome.FAILURE, error.detail)
        properties = None if key is None else user_property(KEY_PROPERTY, key)
        info = connection.client.publish(self._topic, value.encode(), QOS, properties=properties)
        if info.rc:
            await self._give_up()
            return Result(Outcome.UNKNOWN, info.rc.name)
        answer = self._answers[info.mid] = asyncio.get_running_loop().create_future()
        try:
            reason = await asyncio.wait_for(answer, OPERATION_SECONDS_MAX)
        except (TimeoutError, ConnectionError) as error:
            await self._give_up()
            return Result(Outcome.UNKNOWN, str(error) or "no answer")
        return Result(Outcome.FAILURE if reason.is_failure else Outcome.SUCCESS, str(reason))

    async def dequeue(self, seconds: float) -> Result:
        """Take a message that was delivered, and send its acknowledgement."""
        try:
            connection = await self._connected()
            message = await asyncio.wait_for(self._inbox.get(), seconds)
        except BenchmarkError as error:
            return Result(Outcome.FAILURE, error.detail)
        except TimeoutError:
            return Result(Outcome.FAILURE)
        value, key = message.payload.decode(), _key(message)
        if self._connection is not connection or connection.client.ack(message.mid, message.qos):
            return Result(Outcome.UNKNOWN, "disconnected before the acknowledgement", value, key)
        return Result(Outcome.SUCCESS, None, value, key)

    async def close(self) -> None:
        """Disconnect."""
        await self._give_up()

    async def _connected(self) -> PahoLoop:
        if self._connection is not None:
            return self._connection
        connection = PahoLoop(self._name, seconds_max=OPERATION_SECONDS_MAX)
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        connection.client.on_message = lambda client, userdata, message: inbox.put_nowait(message)
        connection.client.on_publish = self._published
        connection.client.on_disconnect = lambda *_: self._lost(connection)
        try:
            await connection.connect(self._host, self._port, RECEIVE_MAXIMUM, SESSION_SECONDS)
            await connection.subscribe(f"$share/{GROUP}/{self._topic}", QOS)
        except BaseException:
            await connection.close()
            raise
        self._connection, self._inbox = connection, inbox
        return connection

    def _published(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        answer = self._answers.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(reason)

    def _lost(self, connection: PahoLoop) -> None:
        if self._connection is not connection:
            return
        self._connection = None
        connection.stop()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the connection was lost"))

    async def _give_up(self) -> None:
        """Leave the connection, and what was to be answered on it."""
        connection, self._connection = self._connection, None
        self._answers.clear()
        if connection is not None:
            await connection.close()


def _key(message: Any) -> str | None:
    pairs = getattr(message.properties, "UserProperty", ())
    return next((value for name, value in pairs if name == KEY_PROPERTY), None)
