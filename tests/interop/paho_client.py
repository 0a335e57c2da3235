"""paho-mqtt with what tests need: wait for everything, forget nothing."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

SECONDS_MAX = 15.0
V311, V5 = mqtt.MQTTv311, mqtt.MQTTv5


def properties(kind: int, **values: Any) -> Properties:
    """Return MQTT 5 properties by paho's names."""
    made = Properties(kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def publish_properties(**values: Any) -> Properties:
    """Return the properties of a PUBLISH."""
    return properties(PacketTypes.PUBLISH, **values)


class PahoClient:
    """A connected client; `with` disconnects it."""

    def __init__(
        self,
        client_id: str,
        version: int = V5,
        *,
        clean: bool = True,
        expiry: int = 0,
        transport: str = "tcp",
        will: dict[str, Any] | None = None,
        connect: dict[str, Any] | None = None,
    ) -> None:
        five = version == V5
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if five else clean,
            protocol=version,  # type: ignore[arg-type]
            transport=transport,  # type: ignore[arg-type]
            reconnect_on_failure=False,
        )
        if will is not None:
            self.client.will_set(**will)
        self._connect: dict[str, Any] = {}
        if five:
            asked = properties(PacketTypes.CONNECT, SessionExpiryInterval=expiry, **(connect or {}))
            self._connect = {"clean_start": clean, "properties": asked}
        self.messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self.connected: queue.Queue[tuple[bool, Any, Any]] = queue.Queue()
        self.disconnected: queue.Queue[Any] = queue.Queue()
        self._granted: dict[int | None, list[Any]] = {}
        self._published: dict[int, Any] = {}
        self._changed = threading.Condition()
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda client, data, flags, reason, props: self.disconnected.put(reason)
        self.client.on_message = lambda client, data, message: self.messages.put(message)
        self.client.on_subscribe = lambda client, data, mid, reasons, props: self._note(
            self._granted, mid, list(reasons)
        )
        self.client.on_publish = lambda client, data, mid, reason, props: self._note(
            self._published, mid, reason
        )
        self.session_present = False
        self.connack: Any = None

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, props: Any) -> None:
        self.connected.put((flags.session_present, reason, props))

    def _note(self, table: dict[Any, Any], mid: int, value: Any) -> None:
        with self._changed:
            table[mid] = value
            self._changed.notify_all()

    def _wait(self, table: dict[Any, Any], mid: int | None) -> Any:
        with self._changed:
            assert self._changed.wait_for(lambda: mid in table, SECONDS_MAX), "no acknowledgement"
            return table.pop(mid)

    def open(self, port: int, host: str = "127.0.0.1") -> PahoClient:
        """Connect and wait for CONNACK."""
        self.client.connect(host, port, 60, **self._connect)
        self.client.loop_start()
        try:
            self.session_present, reason, self.connack = self.connected.get(timeout=SECONDS_MAX)
        except queue.Empty:
            ends = list(self.disconnected.queue)
            raise AssertionError(f"no CONNACK in {SECONDS_MAX} s; disconnected: {ends or 'no'}") from None
        assert not reason.is_failure, reason
        return self

    def subscribe(self, topic: Any, qos: int = 0, **more: Any) -> list[int]:
        """Subscribe; return the reason codes."""
        _, mid = self.client.subscribe(topic, qos, **more)
        return [reason.value for reason in self._wait(self._granted, mid)]

    def publish(self, topic: str, body: bytes | str, qos: int = 1, **more: Any) -> int:
        """Publish, wait until that is complete, and return the reason code."""
        info = self.client.publish(topic, body, qos, **more)
        reason = self._wait(self._published, info.mid)
        return int(reason.value)

    def receive(self) -> mqtt.MQTTMessage:
        """Return the next message."""
        return self.messages.get(timeout=SECONDS_MAX)

    def bodies(self, count: int) -> list[bytes]:
        """Return the bodies of so many messages."""
        return [self.receive().payload for _ in range(count)]

    def cut(self) -> None:
        """Break the connection, without DISCONNECT."""
        sock = self.client.socket()
        assert sock is not None
        sock.close()
        self.client.loop_stop()

    def close(self) -> None:
        """Disconnect properly."""
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> PahoClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
