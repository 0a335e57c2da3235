"""A CoAP client over TCP or TLS for tests, that shows every message and can send what it likes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

from gateway.protocols.coap.codec import Option, Packet
from gateway.protocols.coap.numbers import CSM, GET, PUT, URI_PATH, URI_QUERY
from gateway.protocols.coap.streams.stream_codec import FrameDecoder, encode_frame

SECONDS_MAX = 20.0
TAKES_MUCH: tuple[Option, ...] = ((2, b"\x10\x00\x00\x00"), (4, b""))  # a CSM that is no limit


class CoapStreamClient:
    """One connection. Use as a context manager."""

    def __init__(
        self, port: int, csm: Sequence[Option] | None = TAKES_MUCH, tls: ssl.SSLContext | None = None
    ):
        """`csm` are the options of the first message; None: send none."""
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self._decoder = FrameDecoder(1 << 30)
        self._waiting: list[Packet] = []
        if csm is not None:
            self.send(CSM, b"", *csm)

    def __enter__(self) -> CoapStreamClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def send(self, code: int, token: bytes = b"", *options: Option, payload: bytes = b"") -> None:
        """Send one message."""
        self.raw(encode_frame(code, token, options, payload))

    def next(self) -> Packet | None:
        """Return the next message that is no CSM; None at the end."""
        while True:
            packet = self._decoder.next()
            if packet is not None:
                if packet.code != CSM:
                    return packet
                continue
            assert self._decoder.error is None, self._decoder.error
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._decoder.feed(data)

    def expect(self, count: int) -> dict[bytes, Packet]:
        """Return so many answers by their tokens."""
        found: dict[bytes, Packet] = {}
        for _ in range(count):
            packet = self.next()
            assert packet is not None, f"closed after {len(found)} of {count} answers"
            found[packet.token] = packet
        assert len(found) == count
        return found

    def ask(self, code: int, *options: Option, payload: bytes = b"") -> Packet:
        """Send one request and return what comes next."""
        self.send(code, b"ask", *options, payload=payload)
        return self.expect(1)[b"ask"]

    def put(self, topic: str, payload: bytes, *query: str) -> int:
        """Publish; return the code."""
        return self.ask(PUT, *ps(topic, *query), payload=payload).code

    def get(self, topic: str, *query: str) -> bytes:
        """Return a topic's value."""
        return self.ask(GET, *ps(topic, *query)).payload


def ps(topic: str, *query: str) -> list[Option]:
    """Return the options that name a topic."""
    path = [(URI_PATH, b"ps"), *((URI_PATH, level.encode()) for level in topic.split("/"))]
    return [*path, *((URI_QUERY, each.encode()) for each in query)]
