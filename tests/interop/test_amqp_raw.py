"""Bytes that no client library would send: the standard's reply code, and nobody else notices."""

from __future__ import annotations

import resource
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pamqp import commands, frame, header, heartbeat

from tests.process import GatewayProcess, wait_for

HEADER = b"AMQP\x00\x00\x09\x01"
SECONDS = 10


class Raw:
    """A socket with the library's codec on it."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.sock = socket.create_connection(("127.0.0.1", gateway.amqp_port), SECONDS)
        self._data = b""

    def send(self, *methods: Any, channel: int = 1) -> None:
        self.sock.sendall(b"".join(frame.marshal(method, channel) for method in methods))

    def receive(self) -> Any:
        """Return the next frame but heartbeats, or None at the end."""
        while True:
            if len(self._data) >= 8:
                size = struct.unpack(">I", self._data[3:7])[0] + 8
                if len(self._data) >= size:
                    piece, self._data = self._data[:size], self._data[size:]
                    found = frame.unmarshal(piece)[2]
                    if not isinstance(found, heartbeat.Heartbeat):
                        return found
                    continue
            more = self.sock.recv(65536)
            if not more:
                return None
            self._data += more

    def open(self, capabilities: dict[str, bool] | None = None) -> Raw:
        self.sock.sendall(HEADER)
        assert isinstance(self.receive(), commands.Connection.Start)
        properties: Any = {"capabilities": capabilities or {}}
        self.send(commands.Connection.StartOk(properties, "PLAIN", "\0guest\0guest", "en_US"), channel=0)
        assert isinstance(self.receive(), commands.Connection.Tune)
        self.send(commands.Connection.TuneOk(0, 131072, 0), commands.Connection.Open("/"), channel=0)
        assert isinstance(self.receive(), commands.Connection.OpenOk)
        self.send(commands.Channel.Open())
        assert isinstance(self.receive(), commands.Channel.OpenOk)
        return self


@pytest.fixture
def raw(gateway: GatewayProcess) -> Iterator[Raw]:
    made = Raw(gateway)
    yield made
    made.sock.close()


@pytest.fixture
def bystander(gateway: GatewayProcess) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", gateway.amqp_port))
    channel = connection.channel()
    yield channel
    assert channel.queue_declare("", exclusive=True).method.queue
    connection.close()


def framed(kind: int, channel: int, payload: bytes, end: int = 0xCE) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes((end,))


def method(class_id: int, method_id: int, rest: bytes = b"") -> bytes:
    return struct.pack(">HH", class_id, method_id) + rest


PUBLISH = method(60, 40, b"\0\0\0\x01q\0")
DECLARE = method(50, 10, b"\0\0\x01q\0")  # the table is to follow
CONTENT = struct.pack(">HHQ", 60, 0, 3) + b"\0\0"

CONNECTION_ERRORS: dict[str, tuple[bytes, int]] = {
    "a frame over frame-max": (struct.pack(">BHI", 1, 1, 131073) + b"x" * 64, 501),
    "no end": (framed(1, 1, method(60, 80, bytes(9)), 0), 501),
    "an unknown frame": (framed(7, 1, b"x"), 501),
    "a heartbeat on a channel": (framed(8, 1, b""), 501),
    "an unknown method": (framed(1, 1, method(60, 999)), 540),
    "an unknown class": (framed(1, 1, method(99, 10)), 540),
    "a method for nobody": (framed(1, 9, method(60, 80, bytes(9))), 504),
    "a publish for nobody": (framed(1, 9, PUBLISH) + framed(2, 9, CONTENT) + framed(3, 9, b"abc"), 504),
    "a second open": (framed(1, 1, method(20, 10, b"\0")), 504),
    "a header without a method": (framed(2, 1, CONTENT), 505),
    "a body without a header": (framed(3, 1, b"abc"), 505),
    "a body before its header": (framed(1, 1, PUBLISH) + framed(3, 1, b"abc"), 505),
    "a method in a content": (framed(1, 1, PUBLISH) + framed(1, 1, method(60, 80, bytes(9))), 505),
    "a header of another class": (framed(1, 1, PUBLISH) + framed(2, 1, b"\0\x0a" + CONTENT[2:]), 501),
    "more body than said": (framed(1, 1, PUBLISH) + framed(2, 1, CONTENT) + framed(3, 1, b"abcd"), 501),
    "a table longer than its frame": (framed(1, 1, DECLARE + struct.pack(">I", 99) + b"\x01aV"), 502),
    "a table shorter than its fields": (framed(1, 1, DECLARE + struct.pack(">I", 2) + b"\x01aV"), 502),
    "a table with an unknown type": (framed(1, 1, DECLARE + struct.pack(">I", 3) + b"\x01a?"), 502),
    "half a method": (framed(1, 1, method(50, 10, b"\0\0\x09q")), 502),
    "more than a method": (framed(1, 1, method(20, 40, bytes(2)) + b"more"), 502),
    "a client's start": (framed(1, 0, method(10, 11, b"\0\0\0\0\0\0\0\0\0\0")), 503),
    "a server's method": (framed(1, 1, method(60, 71, bytes(20))), 502),
    "immediate": (
        framed(1, 1, method(60, 40, b"\0\0\0\x01q\x02")) + framed(2, 1, CONTENT) + framed(3, 1, b"abc"),
        540,
    ),
    "flags of no property": (
        framed(1, 1, PUBLISH) + framed(2, 1, CONTENT[:12] + b"\0\x03") + framed(3, 1, b"abc"),
        502,
    ),
}


@pytest.mark.parametrize("case", CONNECTION_ERRORS)
def test_the_connection_ends_with_its_code(raw: Raw, bystander: Any, case: str) -> None:
    data, code = CONNECTION_ERRORS[case]
    raw.open().sock.sendall(data)
    closed = raw.receive()
    assert isinstance(closed, commands.Connection.Close), closed
    assert closed.reply_code == code, closed.reply_text
    assert raw.receive() is None


def test_another_protocol_is_told_ours(raw: Raw) -> None:
    raw.sock.sendall(b"GET / HTTP/1.1\r\n")
    assert raw.sock.recv(100) == HEADER
    assert raw.sock.recv(100) == b""


EARLY: dict[str, Callable[[Raw], None]] = {
    "open before start-ok": lambda raw: raw.send(commands.Connection.Open("/"), channel=0),
    "a channel before start-ok": lambda raw: raw.send(commands.Channel.Open()),
    "an unknown mechanism": lambda raw: raw.send(
        commands.Connection.StartOk({}, "MAGIC", "x", "en_US"), channel=0
    ),
}


@pytest.mark.parametrize("case", EARLY)
def test_what_comes_too_early(raw: Raw, bystander: Any, case: str) -> None:
    raw.sock.sendall(HEADER)
    assert isinstance(raw.receive(), commands.Connection.Start)
    EARLY[case](raw)
    closed = raw.receive()
    assert isinstance(closed, commands.Connection.Close)
    assert closed.reply_code == 503


def test_what_comes_on_a_channel_we_closed_is_discarded(raw: Raw, bystander: Any) -> None:
    raw.open()
    raw.send(commands.Queue.Declare(queue="q"))
    raw.receive()
    publish = framed(1, 1, PUBLISH) + framed(2, 1, CONTENT) + framed(3, 1, b"abc")
    missing = framed(1, 1, method(60, 80, struct.pack(">QB", 7, 0)))  # an ack of an unknown tag
    raw.sock.sendall(publish + missing + publish + framed(1, 1, PUBLISH))
    closed = raw.receive()
    assert isinstance(closed, commands.Channel.Close)
    assert (closed.reply_code, closed.class_id, closed.method_id) == (406, 60, 80)
    raw.sock.sendall(framed(2, 1, CONTENT) + framed(3, 1, b"abc"))
    raw.send(commands.Channel.CloseOk(), commands.Channel.Open())
    assert isinstance(raw.receive(), commands.Channel.OpenOk)
    raw.send(commands.Queue.Declare(queue="q", passive=True))
    declared = raw.receive()
    assert declared.message_count == 1


def test_frames_may_be_split_anywhere(raw: Raw) -> None:
    raw.open()
    data = frame.marshal(commands.Queue.Declare(queue="q"), 1)
    data += framed(1, 1, PUBLISH) + framed(2, 1, CONTENT) + framed(3, 1, b"a") + framed(3, 1, b"bc")
    data += frame.marshal(commands.Basic.Get(queue="q", no_ack=True), 1)
    for at in range(len(data)):
        raw.sock.sendall(data[at : at + 1])
    assert isinstance(raw.receive(), commands.Queue.DeclareOk)
    assert isinstance(raw.receive(), commands.Basic.GetOk)
    assert isinstance(raw.receive(), header.ContentHeader)
    assert raw.receive().value == b"abc"


def test_two_channels_may_send_contents_at_once(raw: Raw) -> None:
    raw.open()
    raw.send(commands.Channel.Open(), channel=2)
    raw.receive()
    raw.send(commands.Queue.Declare(queue="q"))
    raw.receive()
    data = framed(1, 1, PUBLISH) + framed(1, 2, PUBLISH) + framed(2, 1, CONTENT) + framed(2, 2, CONTENT)
    data += framed(3, 2, b"two") + framed(3, 1, b"one")
    raw.sock.sendall(data)
    raw.send(commands.Queue.Declare(queue="q", passive=True))
    assert raw.receive().message_count == 2


def test_a_full_disk_nacks_and_blocks_and_service_returns(make_gateway: Any) -> None:
    gateway = make_gateway("storage.segment_bytes=4096").start()
    raw = Raw(gateway).open({"connection.blocked": True, "publisher_confirms": True})
    raw.send(commands.Queue.Declare(queue="q", durable=True), commands.Confirm.Select())
    raw.receive(), raw.receive()
    body = b"x" * 5000
    content = struct.pack(">HHQ", 60, 0, len(body)) + b"\x10\x00\x02"
    publish = framed(1, 1, PUBLISH) + framed(2, 1, content) + framed(3, 1, body)
    limits = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (16, limits[1]))
    raw.sock.sendall(publish)
    found = {type(raw.receive()) for _ in range(2)}
    assert found == {commands.Basic.Nack, commands.Connection.Blocked}
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, limits)
    assert isinstance(raw.receive(), commands.Connection.Unblocked)
    raw.sock.sendall(publish)
    assert isinstance(raw.receive(), commands.Basic.Ack)
    raw.sock.close()


def test_a_reader_that_stops_costs_nobody_else(gateway: GatewayProcess, bystander: Any, raw: Raw) -> None:
    raw.open()
    raw.send(commands.Queue.Declare(queue="q"), commands.Basic.Consume(queue="q", no_ack=True))
    raw.receive(), raw.receive()
    before = gateway.rss_bytes()
    body = b"x" * 100_000
    for _ in range(500):
        bystander.basic_publish("", "q", body)
    waiting = lambda: bystander.queue_declare("q", passive=True).method.message_count  # noqa: E731
    wait_for(lambda: waiting() > 400, what="the queue holding what its consumer does not read")
    assert gateway.rss_bytes() - before < 120 << 20
    for _ in range(3 * 500):
        assert raw.receive() is not None
    wait_for(lambda: waiting() == 0)
