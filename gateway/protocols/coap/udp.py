"""UDP sockets: datagrams to peers, and back (RFC 7252, 4).

The socket is read until it is empty, or often enough to let others have their turn; what is to be sent
goes out at the end of the turn, after the log was written.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Final, Protocol, cast

import structlog

from gateway.api import Address, Gateway

from .messages import MessageLayer, Peer

log = structlog.get_logger("gateway")

DATAGRAM_BYTES_MAX: Final = 65_535  # UDP's own limit: what is cut off would look like another message
READS_MAX: Final = 128  # datagrams a turn: a millisecond or two, then the others
UNSENT_MAX: Final = 10_000  # datagrams that wait for a full socket; the rest is lost, as on any link
SOCKET_BUFFER_BYTES: Final = 4 << 20  # some thousand datagrams that come while a turn lasts
PEER_IDLE_MS: Final = 247_000  # EXCHANGE_LIFETIME: after that nothing of it can come again
SWEEP_MS: Final = 10_000

Datagram = tuple[bytes, object]


class Cipher(Protocol):
    """What is between a socket and peers whose datagrams are encrypted: `dtls_peers.DtlsPeers`."""

    def __len__(self) -> int: ...

    def receive(self, data: bytes, address: object) -> None:
        """Take a datagram from the network."""

    def close(self) -> None:
        """Say goodbye to all."""


class UdpSocket:
    """One socket and everybody who talks to it. Implements `messages.Wire` and `api.Flushable`."""

    __slots__ = (
        "_gateway",
        "_layer",
        "_loop",
        "_out",
        "_peers_max",
        "_socket",
        "_writing",
        "dtls",
        "lost",
        "peers",
    )

    def __init__(self, gateway: Gateway, layer: MessageLayer, peers_max: int) -> None:
        self._gateway = gateway
        self._layer = layer
        self._peers_max = peers_max
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._out: deque[Datagram] = deque()
        self._writing = False  # the socket was full: the loop tells when it is not
        self.peers: dict[object, Peer] = {}
        self.dtls: Cipher | None = None  # what has the peers instead, if datagrams are encrypted
        self.lost = 0  # datagrams that were not sent, or came from one peer too many

    def __len__(self) -> int:
        """Return how many peers there are."""
        return len(self.peers) + (len(self.dtls) if self.dtls is not None else 0)

    def open(self, address: Address) -> None:
        """Raise OSError if the address cannot be used."""
        family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0]
        found = socket.socket(family, socket.SOCK_DGRAM)
        try:
            found.setblocking(False)
            for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                found.setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BUFFER_BYTES)
            found.bind(where)
        except OSError:
            found.close()
            raise
        self._socket = found
        self._loop.add_reader(found.fileno(), self._readable)
        self._gateway.scheduler.after(SWEEP_MS, self._sweep)

    # -- in -----------------------------------------------------------------------------------

    def _readable(self) -> None:
        self._gateway.begin_turn()
        found = self._socket
        assert found is not None
        now_ms = self._gateway.clock.monotonic_ms
        receive, guard = self._layer.receive, self._layer.guard
        peers = self.peers
        dtls = self.dtls
        for _ in range(READS_MAX):
            try:
                data, address = found.recvfrom(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError as error:  # what ICMP says of a datagram that we sent: its peer will be silent
                log.debug("datagram not delivered", door="coap", reason=str(error))
                continue
            if dtls is not None:
                dtls.receive(data, address)
                continue
            peer = peers.get(address)
            if peer is None:
                peer = self._arrived(address)
                if peer is None:
                    continue
            peer.last_ms = now_ms
            bucket = peer.bucket
            bucket.left -= 1
            if bucket.left < 0 and not guard.refill(bucket):
                self._layer.too_many(peer, data)
            else:
                receive(peer, data)

    def _arrived(self, address: object) -> Peer | None:
        """Return a new peer, None if there are too many."""
        if len(self.peers) >= self._peers_max and not self._make_room():
            self.lost += 1
            return None
        host, port = cast(tuple[str, int], address)[:2]
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        peer = self.peers[address] = Peer(self, address, name, self._layer, False)
        peer.bucket = self._layer.guard.bucket(host)
        peer.proven = peer.bucket.trusted
        return peer

    def _make_room(self) -> bool:
        """Forget the peer that came first of those that nothing waits for; False if there is none."""
        for address, peer in self.peers.items():
            if not peer.busy:
                del self.peers[address]
                self._layer.gone(peer)
                return True
        return False

    def _sweep(self) -> None:
        """Forget who has been silent for long, unless it observes."""
        now_ms = self._gateway.clock.monotonic_ms
        silent_ms = now_ms - PEER_IDLE_MS
        for address, peer in list(self.peers.items()):
            if peer.last_ms <= silent_ms and not peer.busy:
                del self.peers[address]
                self._layer.gone(peer)
        self._layer.forget_old(now_ms)
        if self._socket is not None:
            self._gateway.scheduler.after(SWEEP_MS, self._sweep)

    # -- out ----------------------------------------------------------------------------------

    def send(self, data: bytes, address: object) -> None:
        if not self._out:
            self._gateway.flush_later(self)
        elif len(self._out) >= UNSENT_MAX:
            self.lost += 1
            return
        self._out.append((data, address))

    def flush(self) -> None:
        out, found = self._out, self._socket
        if found is None or self._writing:
            return
        while out:
            data, address = out[0]
            try:
                found.sendto(data, cast(tuple[str, int], address))
            except BlockingIOError:
                self._writing = True
                self._loop.add_writer(found.fileno(), self._writable)
                return
            except OSError as error:  # no way there, or what ICMP has said of an earlier one
                self.lost += 1
                log.debug("datagram not sent", door="coap", reason=str(error))
            out.popleft()

    def _writable(self) -> None:
        found = self._socket
        assert found is not None
        self._loop.remove_writer(found.fileno())
        self._writing = False
        self.flush()

    def close(self) -> None:
        """Send what waits, and close."""
        if self.dtls is not None:
            self.dtls.close()
        self.flush()
        found, self._socket = self._socket, None
        if found is not None:
            self._loop.remove_reader(found.fileno())
            self._loop.remove_writer(found.fileno())
            found.close()
        for peer in list(self.peers.values()):
            self._layer.gone(peer)
        self.peers.clear()
