"""Clients that cost next to nothing: one socket each, bytes out of a ring, replies counted by stride.

A received chunk is never parsed packet by packet. Its frames have one known size, so `len // size` counts
them, and strided slices (one C loop each) check the fixed bytes of every single frame and lift out all
packet ids at once. A frame that does not look as expected raises `WireError`: no wrong count is reported.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from array import array
from collections.abc import Sequence

from . import frames

RECEIVE_BYTES = 256 * 1024
"""One read of a busy socket: larger gave nothing on loopback, smaller costs system calls."""

SEND_BYTES = 64 * 1024
"""One write: enough to make the system call cheap, small enough to keep sender and receiver overlapping."""

HANDSHAKE_SECONDS = 30.0
FILTERS_PER_SUBSCRIBE = 100
"""Keeps a SUBSCRIBE near 3 KB, below every broker's default packet limit."""

PUBLISH_QOS0, PUBLISH_QOS1, PUBLISH_QOS1_DUP = 0x30, 0x32, 0x3A


class WireError(Exception):
    """The broker closed, refused, or sent bytes that the load does not expect."""


class Wire:
    """A non-blocking socket with what it still has to send."""

    __slots__ = ("_epoll", "blocked", "sock")
    goodbye = frames.DISCONNECT
    """Said before the socket is closed."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.blocked = False
        self._epoll: select.epoll | None = None

    def watch(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        epoll.register(self.sock, select.EPOLLIN | (select.EPOLLOUT if self.blocked else 0))

    def block(self, blocked: bool) -> None:
        if blocked != self.blocked:
            self.blocked = blocked
            if self._epoll is not None:
                self._epoll.modify(self.sock, select.EPOLLIN | (select.EPOLLOUT if blocked else 0))

    @property
    def busy(self) -> bool:
        """Say whether something is unsent or unanswered."""
        raise NotImplementedError

    def read(self) -> int:
        """Take what has arrived; return how many messages that were."""
        raise NotImplementedError

    def push(self) -> None:
        """Send what is waiting to be sent, as much as the socket takes."""
        raise NotImplementedError

    def close(self) -> None:
        self.sock.close()


class Publisher(Wire):
    """Sends the frames of a ring in turn, never more than it was allowed; counts PUBACKs."""

    __slots__ = ("_allowed_bytes", "_odd", "_ring", "_sent_bytes", "_size", "_window", "acked", "allowed")

    def __init__(self, sock: socket.socket, ring: frames.Ring, window: int) -> None:
        """Publish with at most `window` frames unacknowledged; 0 means QoS 0, where nothing comes back."""
        super().__init__(sock)
        if window >= ring.count and window:
            raise ValueError("a packet id would return while it is in flight")
        self._ring = ring.view
        self._size = ring.frame_bytes
        self._window = window
        self._odd = b""
        self._allowed_bytes = self._sent_bytes = 0
        self.allowed = self.acked = 0

    @property
    def busy(self) -> bool:
        return self._sent_bytes < self._allowed_bytes or bool(self._window and self.acked < self.allowed)

    def allow(self, count: int) -> int:
        """Let up to `count` more frames go, as the window permits; return how many that were."""
        if self._window:
            count = min(count, self._window - (self.allowed - self.acked))
        if count > 0:
            self.allowed += count
            self._allowed_bytes += count * self._size
            if not self.blocked:
                self.push()
        return max(count, 0)

    def push(self) -> None:
        ring = self._ring
        while self._sent_bytes < self._allowed_bytes:
            start = self._sent_bytes % len(ring)
            stop = min(start + SEND_BYTES, start + self._allowed_bytes - self._sent_bytes)
            try:
                self._sent_bytes += self.sock.send(ring[start:stop])
            except BlockingIOError:
                self.block(True)
                return
        self.block(False)

    def read(self) -> int:
        data = self._odd + self.sock.recv(RECEIVE_BYTES)
        if len(data) == len(self._odd):
            raise WireError("the broker closed the publisher's connection")
        count = len(data) // 4
        whole = count * 4
        if data[0:whole:4] != b"\x40" * count or data[1:whole:4] != b"\x02" * count:
            raise WireError(f"expected PUBACKs, got {data[:16].hex(' ')}")
        self._odd = data[whole:]
        self.acked += count
        if self.acked > self.allowed:
            raise WireError(f"{self.acked} PUBACKs for {self.allowed} publishes")
        return 0


class Subscriber(Wire):
    """Counts publishes of one size, checks each, and answers PUBACK at QoS 1."""

    __slots__ = (
        "_acks",
        "_buffer",
        "_id_at",
        "_left",
        "_sample",
        "_size",
        "_view",
        "qos",
        "received",
        "redelivered",
    )

    def __init__(self, sock: socket.socket, sample: bytes, *, id_at: int = 0) -> None:
        """Expect frames that look like `sample`; `id_at` is the offset of the packet id when its QoS is 1."""
        super().__init__(sock)
        self._sample = sample
        self._size = len(sample)
        self.qos = sample[0] >> 1 & 3
        self._id_at = id_at
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._left = 0
        self._acks = bytearray()
        self.received = self.redelivered = 0

    @property
    def busy(self) -> bool:
        return bool(self._acks)

    def read(self) -> int:
        got = self.sock.recv_into(self._view[self._left :])
        if not got:
            raise WireError("the broker closed the subscriber's connection")
        end = self._left + got
        count = end // self._size
        whole = count * self._size
        if count:
            self._check(count, whole)
            self._take(count, whole)
            self.received += count
            if whole < end:
                self._buffer[: end - whole] = self._buffer[whole:end]
        self._left = end - whole
        return count

    def _check(self, count: int, whole: int) -> None:
        buffer, size, sample = self._buffer, self._size, self._sample
        alike = buffer[0:whole:size].count(sample[0])
        if alike != count and self.qos:
            dup = buffer[0:whole:size].count(PUBLISH_QOS1_DUP)
            self.redelivered += dup
            alike += dup
        for offset in (1, 2, size - 1):
            alike = min(alike, buffer[offset:whole:size].count(sample[offset]))
        if alike != count:
            wrong = f"{count - alike} of {count} frames are not the expected publish"
            raise WireError(f"{wrong}: {buffer[:24].hex(' ')}")

    def _note_ages(self, ages_ms: array[float], stamp_at: int, whole: int) -> None:
        """Append the age of each message, from the nanoseconds at the front of its payload."""
        now = time.perf_counter_ns()
        for start in range(stamp_at, whole, self._size):
            (stamp,) = struct.unpack_from(">Q", self._buffer, start)
            ages_ms.append((now - stamp) / 1e6)

    def _take(self, count: int, whole: int) -> None:
        if self.qos:
            acks = bytearray(b"\x40\x02\x00\x00" * count)
            acks[2::4] = self._buffer[self._id_at : whole : self._size]
            acks[3::4] = self._buffer[self._id_at + 1 : whole : self._size]
            self._acks += acks
            self.push()

    def push(self) -> None:
        try:
            while self._acks:
                del self._acks[: self.sock.send(self._acks)]
        except BlockingIOError:
            self.block(True)
        else:
            self.block(False)


class Poster(Wire):
    """One keep-alive HTTP connection with one request in flight; the reply is measured, not interpreted."""

    __slots__ = ("_at", "_data", "_request", "replies", "requests")
    goodbye = b""

    def __init__(self, sock: socket.socket, request: bytes) -> None:
        super().__init__(sock)
        self._request = memoryview(request)
        self._at = len(request)
        self._data = b""
        self.requests = self.replies = 0

    @property
    def busy(self) -> bool:
        return self.replies < self.requests

    def start(self) -> None:
        self.requests += 1
        self._at = 0
        self.push()

    def push(self) -> None:
        try:
            while self._at < len(self._request):
                self._at += self.sock.send(self._request[self._at :])
        except BlockingIOError:
            self.block(True)
        else:
            self.block(False)

    def read(self) -> int:
        got = self.sock.recv(RECEIVE_BYTES)
        if not got:
            raise WireError("the broker closed an HTTP connection")
        self._data += got
        size = reply_bytes(self._data)
        if size and len(self._data) >= size:
            if len(self._data) > size or not self.busy:
                raise WireError("more than one reply to one request")
            self._data = b""
            self.replies += 1
        return 0


def reply_bytes(data: bytes) -> int:
    """Return the size of the whole HTTP reply that `data` begins with, 0 while its head is not complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    if not data.startswith(b"HTTP/1.1 2"):
        raise WireError(f"HTTP reply: {data[:300].decode('latin-1')!r}")
    head = data[:end].lower() + b"\r\n"
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        if not head.startswith(b"http/1.1 204"):
            raise WireError("an HTTP reply without a length cannot be counted")
        return end + 4
    return end + 4 + int(head[at + 17 : head.find(b"\r\n", at + 17)])


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        got = sock.recv(size - len(data))
        if not got:
            raise WireError(f"closed after {data.hex(' ') or 'nothing'}")
        data += got
    return data


def dial(port: int, *, source: str = "") -> socket.socket:
    sock = socket.socket()
    sock.settimeout(HANDSHAKE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if source:
            sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def log_in(
    port: int, client_id: str, *, clean: bool = True, keep_alive_seconds: int = 0, source: str = ""
) -> socket.socket:
    """Open an MQTT 3.1.1 connection and consume its CONNACK, so that only counted bytes follow."""
    sock = dial(port, source=source)
    try:
        sock.sendall(frames.connect(client_id, clean=clean, keep_alive_seconds=keep_alive_seconds))
        reply = receive_exactly(sock, 4)
    except (OSError, WireError):
        sock.close()
        raise
    if reply[:2] != b"\x20\x02" or reply[3] != 0:
        sock.close()
        raise WireError(f"CONNACK refused: {reply.hex(' ')}")
    return sock


def subscribe(sock: socket.socket, filters: Sequence[str], qos: int) -> None:
    """Subscribe on a connection that is still blocking, and consume every SUBACK."""
    for start in range(0, len(filters), FILTERS_PER_SUBSCRIBE):
        part = filters[start : start + FILTERS_PER_SUBSCRIBE]
        packet_id = start // FILTERS_PER_SUBSCRIBE + 1
        sock.sendall(frames.subscribe(packet_id, part, qos))
        head = b"\x90" + frames.remaining_length(2 + len(part)) + packet_id.to_bytes(2, "big")
        reply = receive_exactly(sock, len(head) + len(part))
        if reply != head + bytes([qos]) * len(part):
            raise WireError(f"SUBACK refused: {reply[:16].hex(' ')}")
