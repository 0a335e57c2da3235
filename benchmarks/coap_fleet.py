"""Ten thousand devices out of one socket: each observes from an address of its own.

All of 127.0.0.0/8 is this machine, and a datagram's sender can be chosen with it (IP_PKTINFO), so that a
gateway sees as many peers as there are addresses; answers to all of them come back to one socket.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass

from .coap_load import BUFFER_BYTES, CON, RECEIVE_BYTES, RESEND_SECONDS, SUCCESS, Lost, target

IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
FIRST_ADDRESS = 0x7F_01_00_00  # 127.1.0.0, and upwards
REGISTERING_MAX = 200  # requests at a time
SECONDS_MAX = 60.0
ACKNOWLEDGED = 0x60


@dataclass
class Notified:
    """What one message came to."""

    seconds: float
    """From the publish to the last observer."""
    confirmable: int
    again: int
    """Notifications that came to somebody who had one already."""


class Fleet:
    """Devices, each with observations of one topic, told apart by tokens of four bytes."""

    def __init__(self, port: int, devices: int, tokens: int) -> None:
        self._to = ("127.0.0.1", port)
        self._devices = devices
        self.count = devices * tokens
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for buffer in (getattr(socket, "SO_RCVBUFFORCE", 33), getattr(socket, "SO_SNDBUFFORCE", 32)):
            self._sock.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)
        self._sock.bind(("0.0.0.0", 0))
        self._sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)

    def register(self, path: str, query: tuple[str, ...] = ()) -> float:
        """Observe a path, each token of each device; return how long that took in seconds."""
        tail = target(path, query, b"")
        began = time.perf_counter()
        following = 0
        waiting: dict[bytes, bytes] = {}
        while following < self.count or waiting:
            while following < self.count and len(waiting) < REGISTERING_MAX:
                token = struct.pack(">I", following)
                # A message id for each observation of a device.
                mid = struct.pack(">H", following // self._devices + 1)
                waiting[token] = b"\x44\x01" + mid + token + tail
                self._send(following, waiting[token])
                following += 1
            for data in self._received():
                if data[0] >> 4 & 3 == CON or data[1] >> 5 != SUCCESS:
                    raise Lost(f"{data[1] >> 5}.{data[1] & 31:02}: {data[8:]!r}")
                waiting.pop(data[4:8], None)
        return time.perf_counter() - began

    def notified(self, began: float) -> Notified:
        """Wait until everybody has one notification more; `began` is by `perf_counter`."""
        seen: set[bytes] = set()
        confirmable = again = 0
        while len(seen) < self.count:
            for data in self._received():
                token = data[4:8]
                if data[0] >> 4 & 3 == CON:
                    confirmable += 1
                    number = struct.unpack(">I", token)[0]
                    self._send(number, bytes((ACKNOWLEDGED, 0)) + data[2:4])
                again += token in seen
                seen.add(token)
            if time.perf_counter() - began > SECONDS_MAX:
                raise Lost(f"{self.count - len(seen)} of {self.count} observers were not notified")
        return Notified(time.perf_counter() - began, confirmable, again)

    def _received(self) -> list[bytes]:
        found: list[bytes] = []
        if not self._poll.poll(int(RESEND_SECONDS * 1000)):
            raise Lost("nothing has come for two seconds")
        receive = self._sock.recv
        try:
            while len(found) < REGISTERING_MAX:
                found.append(receive(RECEIVE_BYTES))
        except BlockingIOError:
            pass
        return found

    def _send(self, number: int, data: bytes) -> None:
        address = struct.pack(">I", FIRST_ADDRESS + number % self._devices)
        chosen = struct.pack("=I4s4s", 0, address, bytes(4))
        self._sock.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, chosen)], 0, self._to)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
