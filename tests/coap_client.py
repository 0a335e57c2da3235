"""A blocking CoAP client over our own codec, for tests that need to say or see every datagram."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Sequence

from gateway.protocols.coap.codec import Option, Options, Packet, decode, empty, encode, read_options
from gateway.protocols.coap.numbers import (
    ACK,
    CON,
    EMPTY,
    GET,
    NON,
    OBSERVE,
    RST,
    URI_PATH,
    URI_QUERY,
    code_name,
    uint_bytes,
)
from tests.mqtt_client import OPENED

DATAGRAM_BYTES_MAX = 65_536
RESEND_SECONDS = 2.0  # ACK_TIMEOUT (RFC 7252, 4.8)


class Answer:
    """A message from the server. `code` as people write it: "2.04"."""

    def __init__(self, packet: Packet) -> None:
        self.kind = packet.kind
        self.mid = packet.mid
        self.token = packet.token
        self.code = code_name(packet.code)
        self.payload = packet.payload
        self.options: Options = read_options(packet.block)

    def __repr__(self) -> str:
        return f"<{('CON', 'NON', 'ACK', 'RST')[self.kind]} {self.code} {self.options.all} {self.payload!r}>"

    def option(self, number: int) -> bytes | None:
        """Return an option's first value, None if it is not there."""
        return next((value for each, value in self.options.all if each == number), None)


def options_of(path: str, query: Sequence[str] = (), more: Sequence[Option] = ()) -> list[Option]:
    """Return the options of a request for a path: segments between slashes, not decoded."""
    words = path.strip("/").split("/") if path else []
    found = [(URI_PATH, word.encode()) for word in words]
    return [*found, *((URI_QUERY, text.encode()) for text in query), *more]


class CoapClient:
    """One UDP socket. Messages that nobody asked for yet wait in `inbox`.

    `answers_con` says what a confirmable message of the server's gets: ACK, RST, or None for silence.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", source: str = "") -> None:
        self._host = (host, port)
        self._source = source  # the address to come from, if it matters
        self.answers_con: int | None = ACK
        self.inbox: list[Answer] = []
        self.resent = 0
        self._chance = random.Random(port)
        self._mid = self._chance.randrange(1 << 16)
        self._token = 0
        self.sock = self._open()

    def _open(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        OPENED.append(sock)
        if self._source:
            sock.bind((self._source, 0))
        sock.connect(self._host)
        return sock

    def __enter__(self) -> CoapClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()

    @property
    def port(self) -> int:
        """Where the server sees us."""
        port: int = self.sock.getsockname()[1]
        return port

    def move(self) -> None:
        """Go on from another port, as after a reboot or behind a NAT that has forgotten."""
        self.sock.close()
        self.sock = self._open()

    # -- sending ------------------------------------------------------------------------------

    def send_bytes(self, datagram: bytes) -> None:
        """Send what may be no message at all."""
        self.sock.send(datagram)

    def send(
        self,
        code: int,
        path: str = "",
        payload: bytes = b"",
        query: Sequence[str] = (),
        options: Sequence[Option] = (),
        kind: int = CON,
        token: bytes | None = None,
        mid: int | None = None,
    ) -> bytes:
        """Send a request once; return its datagram, to be sent again. Ids and tokens count up."""
        if token is None:
            self._token += 1
            token = self._token.to_bytes(4, "big")
        if mid is None:
            mid = self._mid = (self._mid + 1) % (1 << 16)
        datagram = encode(kind, code, mid, token, options_of(path, query, options), payload)
        self.sock.send(datagram)
        return datagram

    def request(
        self,
        code: int,
        path: str = "",
        payload: bytes = b"",
        query: Sequence[str] = (),
        options: Sequence[Option] = (),
        kind: int = CON,
        token: bytes | None = None,
        mid: int | None = None,
        seconds: float = 10,
    ) -> Answer:
        """Send a request and return its answer; a confirmable one is sent again until one comes."""
        datagram = self.send(code, path, payload, query, options, kind, token, mid)
        sent = decode(datagram)
        deadline, pause, acknowledged = time.monotonic() + seconds, RESEND_SECONDS, False
        again = time.monotonic() + pause
        while True:
            for at, answer in enumerate(self.inbox):
                if answer.kind != RST and answer.token == sent.token and answer.code != "0.00":
                    return self.inbox.pop(at)
                if answer.kind in (ACK, RST) and answer.mid == sent.mid:
                    acknowledged = True
                    self.inbox.pop(at)
                    assert answer.kind == ACK, "the request was reset"
                    break
            now = time.monotonic()
            assert now < deadline, f"no answer within {seconds} s"
            if kind == CON and not acknowledged and now >= again:
                self.sock.send(datagram)
                self.resent += 1
                pause *= 2
                again = now + pause
            self.pump(min(again if not acknowledged and kind == CON else deadline, deadline) - now)

    def get(self, path: str, query: Sequence[str] = (), options: Sequence[Option] = ()) -> Answer:
        """GET."""
        return self.request(GET, path, b"", query, options)

    def observe(
        self,
        path: str,
        query: Sequence[str] = (),
        options: Sequence[Option] = (),
        token: bytes | None = None,
        register: int = 0,
    ) -> Answer:
        """GET with Observe: 0 registers, 1 deregisters. The answer's token is what notifications have."""
        more = [(OBSERVE, uint_bytes(register)), *options]
        return self.request(GET, path, b"", query, more, token=token)

    def ping(self, seconds: float = 10) -> list[Answer]:
        """Return what has come before the server's answer to a ping (RFC 7252, 4.3), in order.

        Datagrams are taken in turn: what was not answered until then is not answered at once.
        """
        mid = self._mid = (self._mid + 1) % (1 << 16)
        self.sock.send(empty(CON, mid))
        deadline = time.monotonic() + seconds
        while not any(answer.kind == RST and answer.mid == mid for answer in self.inbox):
            left = deadline - time.monotonic()
            assert left > 0, f"no answer to a ping within {seconds} s"
            self.pump(left)
        found = self.inbox
        self.inbox = []
        end = next(at for at, answer in enumerate(found) if answer.kind == RST and answer.mid == mid)
        self.inbox = found[end + 1 :]
        return found[:end]

    # -- receiving ----------------------------------------------------------------------------

    def pump(self, seconds: float) -> bool:
        """Read one datagram, waiting at most so long; say whether one came."""
        self.sock.settimeout(max(0.001, seconds))
        try:
            data = self.sock.recv(DATAGRAM_BYTES_MAX)
        except (TimeoutError, ConnectionRefusedError):
            return False
        packet = decode(data)
        if packet.kind == CON and packet.code != EMPTY and self.answers_con is not None:
            self.sock.send(empty(self.answers_con, packet.mid))
        self.inbox.append(Answer(packet))
        return True

    def receive(self, token: bytes, seconds: float = 10) -> Answer:
        """Return the next message with a token, leaving others in the inbox: a notification, say."""
        deadline = time.monotonic() + seconds
        while True:
            for at, answer in enumerate(self.inbox):
                if answer.token == token and answer.code != "0.00":
                    return self.inbox.pop(at)
            left = deadline - time.monotonic()
            assert left > 0, f"nothing for {token.hex()} within {seconds} s"
            self.pump(left)

    def acknowledge(self, answer: Answer) -> None:
        """Acknowledge a confirmable message by hand."""
        self.sock.send(empty(ACK, answer.mid))

    def reset(self, answer: Answer) -> None:
        """Answer RST: this is not for us (any more)."""
        self.sock.send(empty(RST, answer.mid))


__all__ = ["ACK", "CON", "NON", "RST", "Answer", "CoapClient", "options_of"]
