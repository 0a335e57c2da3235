"""A paho client whose socket the running event loop watches: no thread, so callbacks are plain calls in the
loop."""

from __future__ import annotations

import asyncio
import select
from typing import Any

from .errors import BenchmarkError, LibraryMissing

try:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError as error:
    raise LibraryMissing("MQTT", "paho-mqtt") from error

CONNECT_SECONDS_MAX = 10.0
KEEPALIVE_SECONDS = 30
MISC_SECONDS = 1.0  # how often paho looks whether it must ping
READS_MAX = 100  # packets in one go: then others get their turn
INFLIGHT_MAX = 65_535  # the protocol's maximum: who sends counts for itself


def user_property(name: str, value: str) -> Properties:
    """Return the properties of a PUBLISH that has this user property."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = (name, value)
    return properties


class PahoLoop:
    """One connection. Set `client.on_message` and the like before `connect`."""

    def __init__(
        self,
        client_id: str = "",
        user: str = "",
        password: str = "",
        seconds_max: float = CONNECT_SECONDS_MAX,
    ) -> None:
        self._seconds_max = seconds_max
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, manual_ack=True
        )
        if user:
            self.client.username_pw_set(user, password)
        self.client.max_inflight_messages_set(INFLIGHT_MAX)
        self.client.max_queued_messages_set(0)
        self.client.connect_timeout = seconds_max
        self._loop = asyncio.get_running_loop()
        self._present = False
        self._readable = select.poll()
        self._misc: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._subscribed: dict[int, asyncio.Future[None]] = {}
        self.client.on_socket_open = self._opened
        self.client.on_socket_close = self._closed
        self.client.on_socket_register_write = self._want_write
        self.client.on_socket_unregister_write = self._no_write
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe

    async def connect(self, host: str, port: int, receive_maximum: int = 0, expiry: int = 0) -> bool:
        """Connect; tell whether there was a session, which `expiry` (seconds) keeps. Raise BenchmarkError."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = expiry
        if receive_maximum:
            properties.ReceiveMaximum = receive_maximum
        self._connected = self._loop.create_future()
        try:
            self.client.connect(host, port, KEEPALIVE_SECONDS, clean_start=not expiry, properties=properties)
            if self._misc is None:
                self._misc = self._loop.create_task(self._keep_alive())
            await asyncio.wait_for(self._connected, self._seconds_max)
        except (OSError, TimeoutError) as error:
            reason = str(error) or "no answer"
            raise BenchmarkError(f"MQTT at {host}:{port}: {reason}") from error
        return self._present

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe; raise BenchmarkError if that is refused."""
        _, mid = self.client.subscribe(topic_filter, qos)
        if mid is None:
            raise BenchmarkError(f"MQTT: {topic_filter}: not connected")
        answered = self._subscribed[mid] = self._loop.create_future()
        try:
            await asyncio.wait_for(answered, self._seconds_max)
        except TimeoutError as error:
            raise BenchmarkError(f"MQTT: no answer to the subscription {topic_filter}") from error

    async def close(self) -> None:
        """Disconnect."""
        self.stop()
        self.client.disconnect()
        sock = self.client.socket()
        if sock is not None:
            self.client.loop_write()
            self.client._sock_close()

    def stop(self) -> None:
        """Ping no more: the connection is lost."""
        if self._misc is not None:
            self._misc.cancel()
            self._misc = None

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(MISC_SECONDS)
            self.client.loop_misc()

    def _opened(self, client: Any, userdata: Any, sock: Any) -> None:
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._loop.add_reader(sock, self._read)

    def _read(self) -> None:
        """Read what is there: paho takes one packet at a time, and a round of events costs more than that."""
        for _ in range(READS_MAX):
            self.client.loop_read()
            sock = self.client.socket()
            if sock is None or not self._readable.poll(0):
                return

    def _closed(self, client: Any, userdata: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        if not self._connected.done():
            self._connected.set_exception(ConnectionResetError("the connection was closed"))

    def _want_write(self, client: Any, userdata: Any, sock: Any) -> None:
        self._loop.add_writer(sock, self.client.loop_write)

    def _no_write(self, client: Any, userdata: Any, sock: Any) -> None:
        self._loop.remove_writer(sock)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._present = bool(flags.session_present)
        if self._connected.done():
            return
        if reason.is_failure:
            self._connected.set_exception(ConnectionRefusedError(str(reason)))
        else:
            self._connected.set_result(None)

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        answered = self._subscribed.pop(mid, None)
        if answered is None or answered.done():
            return
        if reasons[0].is_failure:
            answered.set_exception(BenchmarkError(f"MQTT: the subscription was refused: {reasons[0]}"))
        else:
            answered.set_result(None)
