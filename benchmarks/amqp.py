"""AMQP clients that cost next to nothing, and the scenarios that use them.

As in `clients`: frames of one known size out of a ring, replies counted by stride. What is not counted
(the handshake, declarations) goes through pamqp.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from pamqp import commands, frame, header

from . import frames
from .brokers import Running
from .clients import RECEIVE_BYTES, Publisher, Subscriber, WireError, dial, receive_exactly

CONFIRM_BYTES = 21
"""A basic.ack: frame header 7, method 13, end 1."""

TRANSIENT = b"\x00\x00"
PERSISTENT = b"\x10\x00\x02"
"""Property lists: nothing, and a delivery mode of 2."""

_HEAD = struct.Struct(">BHI")


def publish(exchange: str, key: str, properties: bytes, body: bytes) -> bytes:
    """Build a basic.publish with its content, in three frames."""
    names = b"".join(bytes((len(name),)) + name.encode() for name in (exchange, key))
    return framed(b"\x00\x3c\x00\x28\x00\x00" + names + b"\x00", properties, body)


def deliver(tag: str, exchange: str, key: str, properties: bytes, body: bytes) -> bytes:
    """Build the basic.deliver that is to arrive; its delivery tag is 0."""
    names = b"".join(bytes((len(name),)) + name.encode() for name in (exchange, key))
    consumer = bytes((len(tag),)) + tag.encode()
    return framed(b"\x00\x3c\x00\x3c" + consumer + bytes(9) + names, properties, body)


def framed(method: bytes, properties: bytes, body: bytes) -> bytes:
    content = struct.pack(">HHQ", 60, 0, len(body)) + properties
    parts = ((1, method), (2, content), (3, body))
    return b"".join(_HEAD.pack(kind, 1, len(part)) + part + b"\xce" for kind, part in parts)


def log_in(port: int) -> socket.socket:
    """Open a connection and channel 1."""
    sock = dial(port)
    try:
        sock.sendall(header.ProtocolHeader().marshal())
        _answer(sock)
        sock.sendall(frame.marshal(commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"), 0))
        tune = _answer(sock)
        sock.sendall(frame.marshal(commands.Connection.TuneOk(tune.channel_max, tune.frame_max, 0), 0))
        call(sock, commands.Connection.Open("/"), 0)
        call(sock, commands.Channel.Open())
    except (OSError, WireError):
        sock.close()
        raise
    return sock


def call(sock: socket.socket, method: Any, channel: int = 1) -> Any:
    """Send a method and return its answer."""
    sock.sendall(frame.marshal(method, channel))
    return _answer(sock)


def _answer(sock: socket.socket) -> Any:
    head = receive_exactly(sock, 7)
    rest = receive_exactly(sock, _HEAD.unpack(head)[2] + 1)
    method = frame.unmarshal(head + rest)[2]
    if isinstance(method, commands.Connection.Close | commands.Channel.Close):
        raise WireError(f"refused: {method.reply_text}")
    return method


class AmqpPublisher(Publisher):
    """Counts confirms, which stand for many if they say so."""

    __slots__ = ("_ahead",)
    goodbye = b""

    def __init__(self, sock: socket.socket, ring: frames.Ring, window: int) -> None:
        if window:
            call(sock, commands.Confirm.Select())
        super().__init__(sock, ring, 0)
        self._window = window
        self._ahead: set[int] = set()  # confirmed one by one, before others that came earlier

    def read(self) -> int:
        data = self._odd + self.sock.recv(RECEIVE_BYTES)
        if len(data) == len(self._odd):
            raise WireError("the broker closed the publisher's connection")
        whole = len(data) - len(data) % CONFIRM_BYTES
        for at in range(0, whole, CONFIRM_BYTES):
            if data[at : at + 11] != b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50":
                raise WireError(f"expected a confirm, got {data[at : at + 40]!r}")
            tag, multiple = struct.unpack_from(">QB", data, at + 11)
            if multiple:
                self.acked = max(self.acked, tag)
            else:
                self._ahead.add(tag)
        self._odd = data[whole:]
        while self.acked + 1 in self._ahead:
            self.acked += 1
            self._ahead.discard(self.acked)
        self._ahead = {tag for tag in self._ahead if tag > self.acked}
        return 0


class AmqpSubscriber(Subscriber):
    """Counts deliveries of one size; acknowledges what a read has brought with one basic.ack."""

    __slots__ = ("_acknowledges", "_tag_at", "stamp_at")
    goodbye = b""

    def __init__(self, sock: socket.socket, sample: bytes, consumer_tag: str, acknowledges: bool) -> None:
        super().__init__(sock, sample)
        self.qos = 0
        self._acknowledges = acknowledges
        self._tag_at = 7 + 4 + 1 + len(consumer_tag)
        self.stamp_at = sample.index(frames.PAYLOAD[:8])

    def _check(self, count: int, whole: int) -> None:
        buffer, size, sample = self._buffer, self._size, self._sample
        for offset in (0, 7, 10, size - 1):
            if buffer[offset:whole:size].count(sample[offset]) != count:
                raise WireError(f"not the expected delivery: {buffer[:size]!r}")

    def _take(self, count: int, whole: int) -> None:
        if self._acknowledges:
            last = whole - self._size + self._tag_at
            self._acks += b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50"
            self._acks += self._buffer[last : last + 8] + b"\x01\xce"
            self.push()


class AmqpTimer(AmqpSubscriber):
    """Notes the age of each message, as `loads.Timer` does."""

    __slots__ = ("ages_ms",)

    def __init__(self, sock: socket.socket, sample: bytes, consumer_tag: str) -> None:
        super().__init__(sock, sample, consumer_tag, True)
        self.ages_ms = array("d")

    def _take(self, count: int, whole: int) -> None:
        self._note_ages(self.ages_ms, self.stamp_at, whole)
        super()._take(count, whole)


@contextlib.contextmanager
def queues(running: Running, names: Sequence[str], durable: bool, exchange: str = "") -> Iterator[None]:
    """Declare queues, bound to an exchange by their names if there is one; delete them afterwards."""
    with contextlib.closing(log_in(running.amqp_port)) as sock:
        if exchange and not exchange.startswith("amq."):
            call(sock, commands.Exchange.Declare(exchange=exchange, exchange_type="fanout"))
        for name in names:
            call(sock, commands.Queue.Declare(queue=name, durable=durable))
            if exchange:
                call(sock, commands.Queue.Bind(queue=name, exchange=exchange, routing_key=name))
        try:
            yield
        finally:
            for name in names:
                call(sock, commands.Queue.Delete(queue=name))


def consumer(
    running: Running, queue: str, sample: bytes, *, acknowledges: bool, prefetch: int = 0
) -> AmqpSubscriber:
    """Consume a queue under the tag that `sample` has."""
    sock = log_in(running.amqp_port)
    subscribe(sock, queue, acknowledges, prefetch)
    return AmqpSubscriber(sock, sample, TAG, acknowledges)


def subscribe(sock: socket.socket, queue: str, acknowledges: bool, prefetch: int) -> None:
    if prefetch:
        call(sock, commands.Basic.Qos(prefetch_count=prefetch))
    call(sock, commands.Basic.Consume(queue=queue, consumer_tag=TAG, no_ack=not acknowledges))


def publisher(running: Running, ring: frames.Ring, window: int = 0) -> AmqpPublisher:
    return AmqpPublisher(log_in(running.amqp_port), ring, window)


TAG = "c"
