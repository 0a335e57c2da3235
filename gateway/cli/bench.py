"""`gateway bench`: one publisher, one subscriber, frames built once, replies counted by length.

A quick look at a gateway that runs; comparisons with other brokers are in `benchmarks/`.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from contextlib import ExitStack

from ..protocols.mqtt.encoder import encode_connect, encode_publish, encode_subscribe
from ..protocols.mqtt.packets import V311, Connect, SubscribeOption
from .client import Refused, fail

TOPIC = "gateway/bench"
READ_BYTES = 1 << 18
CONNECT_SECONDS_MAX = 5.0
AHEAD_MAX = 16_384  # QoS 0 messages sent but not yet received: measures carrying, not dropping
PUBACK_BYTES = 4
CONNACK_BYTES = 4
SUBACK_BYTES = 5


def bench(
    address: str, qos: int, seconds: float, window: int, size: int, user: str | None, as_json: bool
) -> int:
    """Measure for so many seconds; print messages per second."""
    host, _, port = address.rpartition(":")
    try:
        with ExitStack() as open_sockets:
            subscriber = open_sockets.enter_context(_log_in(host, int(port), "bench-subscriber", user))
            subscriber.sendall(encode_subscribe(V311, 1, [SubscribeOption(TOPIC, qos)]))
            _exactly(subscriber, SUBACK_BYTES)
            publisher = open_sockets.enter_context(_log_in(host, int(port), "bench-publisher", user))
            received, elapsed = _run(publisher, subscriber, qos, seconds, window, size)
    except (OSError, ValueError) as error:
        return fail(Refused(f"bench {address}: {error}"))
    rate = received / elapsed
    if as_json:
        print(json.dumps({"qos": qos, "messages": received, "seconds": elapsed, "per_second": rate}))
    else:
        print(
            f"QoS {qos}, {size} bytes: {received} messages in {elapsed:.1f} s = {rate:,.0f}/s",
            file=sys.stdout,
        )
    return 0


def _log_in(host: str, port: int, client_id: str, user: str | None) -> socket.socket:
    name, _, password = (user or "").partition(":")
    sock = socket.create_connection((host, port), CONNECT_SECONDS_MAX)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    login = (name, password.encode()) if user else (None, None)
    sock.sendall(encode_connect(Connect(V311, client_id, True, 0, *login)))
    answer = _exactly(sock, CONNACK_BYTES)
    if answer[3]:
        raise ValueError(f"the gateway refused the login (code {answer[3]}); use --user NAME:PASSWORD")
    return sock


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ValueError("the gateway closed the connection")
        data += more
    return data


def _run(
    publisher: socket.socket, subscriber: socket.socket, qos: int, seconds: float, window: int, size: int
) -> tuple[int, float]:
    """Publish as fast as the window (QoS 1) or the subscriber (QoS 0) lets us; count what arrives."""
    body = b"x" * size
    topic = TOPIC.encode()
    frames = [encode_publish(V311, topic, body, qos, False, False, n) for n in range(1, window + 1)]
    length = len(frames[0])
    publisher.setblocking(False)
    subscriber.setblocking(False)
    received_bytes, confirmed_bytes, sent, pending = 0, 0, 0, b""
    acks_sent = 0
    start = time.perf_counter()
    until = start + seconds
    while (now := time.perf_counter()) < until:
        if not pending:
            done = confirmed_bytes // PUBACK_BYTES if qos else received_bytes // length
            room = min((window if qos else AHEAD_MAX) - (sent - done), window - sent % window)
            first = sent % window
            pending = b"".join(frames[first : first + room])
            sent += max(0, room)
        writers = [publisher] if pending else []
        readable, writable, _ = select.select([publisher, subscriber], writers, [], until - now)
        if writable:
            pending = pending[publisher.send(pending) :]
        if publisher in readable:
            confirmed_bytes += len(_read(publisher))
        if subscriber in readable:
            received_bytes += len(_read(subscriber))
            if qos:
                acks_sent = _acknowledge(subscriber, received_bytes // length, acks_sent)
    return received_bytes // length, time.perf_counter() - start


def _read(sock: socket.socket) -> bytes:
    data = sock.recv(READ_BYTES)
    if not data:
        raise ValueError("the gateway closed the connection")
    return data


def _acknowledge(sock: socket.socket, received: int, acknowledged: int) -> int:
    """Acknowledge in order: a fresh subscriber's identifiers count 1, 2, ... 65535, 1, ..."""
    numbers = (number % 65_535 + 1 for number in range(acknowledged, received))
    sock.setblocking(True)
    sock.sendall(b"".join(struct.pack(">HH", 0x4002, number) for number in numbers))
    sock.setblocking(False)
    return received
