"""CoAP clients that cost next to nothing: one UDP socket, datagrams put together from parts.

A message id comes again after 65,536 requests, long before EXCHANGE_LIFETIME (247 s; RFC 7252, 4.8.2) is
over: no client may send faster than 265 requests a second from one port, to the letter. The token is
always another one, so a server that looks at both can tell. aiocoap's looks at the id alone, so a run
against it must not have more requests than there are ids.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass

SUCCESS = 2  # the class of a code: its upper three bits
CON, ACK = 0, 2
OBSERVE, URI_PATH, URI_QUERY = 6, 11, 15
MESSAGE_IDS = 1 << 16
RECEIVE_BYTES = 2048
BUFFER_BYTES = 64 * 1024 * 1024
"""Asked for of a socket that many answer at once; the kernel gives what the user may have."""

RESEND_SECONDS = 2.0  # ACK_TIMEOUT
GIVE_UP_SECONDS = 30.0


class Lost(Exception):
    """The server does not answer, or not as expected."""


def options(*pairs: tuple[int, bytes]) -> bytes:
    """Return options, given in the order of their numbers, each shorter than 269 bytes."""
    out = bytearray()
    last = 0
    for number, value in pairs:
        delta, length = number - last, len(value)
        assert delta < 13
        last = number
        out.append(delta << 4 | min(length, 13))
        if length >= 13:
            out.append(length - 13)
        out += value
    return bytes(out)


def target(path: str, query: tuple[str, ...] = (), observe: bytes | None = None) -> bytes:
    """Return the options of a request for a path."""
    observed = [] if observe is None else [(OBSERVE, observe)]
    words = [(URI_PATH, word.encode()) for word in path.strip("/").split("/")]
    return options(*observed, *words, *((URI_QUERY, text.encode()) for text in query))


def udp_socket(port: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """Return a socket with room for many answers, connected if a port is given."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # As root beyond the machine's limit, as anybody up to it.
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.setblocking(False)
    if port:
        sock.connect((host, port))
    return sock


@dataclass
class Sent:
    """What a run of requests came to."""

    answered: int
    seconds: float
    resent: int
    client_seconds: float
    """Processor time of the client."""


class Requests:
    """Sends one request again and again from one socket, confirmable, with at most `window` unanswered."""

    def __init__(self, port: int, path_options: bytes, payload: bytes, window: int) -> None:
        self._sock = udp_socket(port)
        self._tail = path_options + (b"\xff" + payload if payload else b"")
        self._window = window
        self._number = 0
        self._waiting: dict[bytes, tuple[bytes, float]] = {}
        self._resent = 0

    def run(self, seconds: float, count: int) -> Sent:
        """Send until the time or the count is over, whichever is first; wait for the answers."""
        began, processor = time.perf_counter(), time.process_time()
        until, first, answered = began + seconds, self._number, 0
        self._resent = 0
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        for _ in range(min(self._window, count)):
            self._send()
        while self._waiting:
            got = self._read()
            if not got:
                if not poll.poll(int(RESEND_SECONDS * 1000)):
                    self._send_again()
                continue
            answered += got
            if time.perf_counter() < until:
                for _ in range(min(got, count - (self._number - first))):
                    self._send()
        return Sent(answered, time.perf_counter() - began, self._resent, time.process_time() - processor)

    def _send(self) -> None:
        number = self._number
        self._number = number + 1
        token = struct.pack(">I", number & 0xFFFFFFFF)
        datagram = b"\x44\x03" + struct.pack(">H", number & 0xFFFF) + token + self._tail
        self._waiting[token] = (datagram, time.perf_counter())
        self._sock.send(datagram)

    def _send_again(self) -> None:
        now = time.perf_counter()
        for datagram, since in self._waiting.values():
            if now - since > GIVE_UP_SECONDS:
                raise Lost(f"no answer within {GIVE_UP_SECONDS:.0f} s")
            self._sock.send(datagram)
            self._resent += 1

    def _read(self) -> int:
        """Take all answers that are there; return how many."""
        got = 0
        receive, waiting = self._sock.recv, self._waiting
        while True:
            try:
                data = receive(RECEIVE_BYTES)
            except BlockingIOError:
                return got
            code = data[1]
            if not code:
                continue  # an empty ACK: the answer comes by itself
            if code >> 5 != SUCCESS:
                raise Lost(f"{code >> 5}.{code & 31:02}: {data[8:]!r}")
            if waiting.pop(data[4:8], None) is not None:
                got += 1
            if data[0] >> 4 & 3 == CON:
                self._sock.send(b"\x60\x00" + data[2:4])

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def puts(port: int, path: str, payload_bytes: int, window: int, query: tuple[str, ...] = ()) -> Requests:
    """Return a client that PUTs."""
    return Requests(port, target(path, query), b"x" * payload_bytes, window)
