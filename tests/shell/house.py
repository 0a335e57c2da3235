"""A door with a protocol that echoes and can be made to fail, in the running loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.errors import QuotaExceeded
from gateway.listeners import ConnectionLimits, Door, SocketTransport, open_listener
from gateway.settings import Address
from gateway.storage.memory import MemoryEngine
from gateway.turn import Turn

BUFFER_BYTES = 64 * 1024


class Echo:
    """A connection that answers what it gets, fails when told to, and notes what happens to it."""

    def __init__(self, transport: Any, protocol: Protocol) -> None:
        self.transport, self._protocol = transport, protocol
        self.events: list[Any] = []

    def receive(self, data: bytes) -> None:
        if data == b"refuse":
            raise QuotaExceeded("enough")
        if data == b"fail":
            raise RuntimeError("a bug of the protocol")
        if data.startswith(b"fill"):
            data = b"x" * int(data[4:])
        self.transport.established()
        self.transport.write(data)

    def congested(self, congested: bool) -> None:
        self.events.append(congested)
        self._protocol.maybe_fail("congested")

    def closed(self, error: Exception | None) -> None:
        self.events.append("closed")
        self._protocol.maybe_fail("closed")

    def drain(self) -> None:
        self._protocol.maybe_fail("drain")
        self.transport.write(b"bye")
        self.transport.close()


class Protocol:
    """Makes `Echo` connections. `failing` names the call that raises."""

    name = "echo"
    address = websocket_path = websocket_subprotocol = ""

    def __init__(self) -> None:
        self.connections: list[Echo] = []
        self.failing = ""

    def start(self, gateway: Any) -> None:
        raise AssertionError("the listener does not start protocols")

    def maybe_fail(self, call: str) -> None:
        if call == self.failing:
            raise RuntimeError(f"a bug in {call}")

    def connect(self, transport: Any, gateway: Any) -> Echo:
        self.maybe_fail("connect")
        self.connections.append(Echo(transport, self))
        return self.connections[-1]


class House:
    """One door, on a free TCP port or a Unix socket, in the running loop."""

    def __init__(self, connections_max: int = 100, proxied: bool = False) -> None:
        self.protocol = Protocol()
        self.clock = Clock()
        broker = Broker(MemoryEngine(), self.clock)
        self.turn = Turn(asyncio.get_running_loop(), broker)
        self.limits = ConnectionLimits(connections_max, 10, BUFFER_BYTES)
        gateway: Any = SimpleNamespace(clock=self.clock)
        rule = (lambda peer: True) if proxied else None
        self.door = Door(self.protocol, gateway, self.turn, self.limits, rule)
        self.port = 0

    async def open(self, address: Address | None = None) -> House:
        address = address or Address("tcp", "127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        self.server = await open_listener(loop, address, lambda: SocketTransport(self.door))
        name = self.server.sockets[0].getsockname()
        self.port = name[1] if isinstance(name, tuple) else 0
        return self

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def close(self) -> None:
        self.server.close()
        for transport in list(self.limits.open):
            transport.abort()
        await until(lambda: not self.limits.open)
        self.turn.stop()


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.002)
