"""UDP sockets: datagrams to peers, and back (RFC 7252, 4).

The socket is read until it is empty, or often enough to let others have their turn; what is to be sent
goes out at the end of the turn, after the log was written.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
from collections import OrderedDict, deque
from typing import Any, Final, Protocol, cast

import structlog

from gateway.api import Address, Gateway

from .messages import MessageLayer, Peer

log = structlog.get_logger("gateway")

DATAGRAM_BYTES_MAX: Final = 65_535  # UDP's own limit: what is cut off would look like another message
READS_MAX: Final = 128  # datagrams a turn: a millisecond or two, then the others
UNSENT_MAX: Final = 50_000  # datagrams that wait for a full socket; the rest is lost, as on any link
SOCKET_BUFFER_BYTES: Final = 4 << 20  # some thousand datagrams that come while a turn lasts
PEER_IDLE_MS: Final = 247_000  # EXCHANGE_LIFETIME: after that nothing of it can come again
LOOKED_AT_MAX: Final = 64  # peers, before a new one is turned away: observers may be most of them
SWEEP_MS: Final = 500
SWEEP_PEERS: Final = 2000  # looked at in a step: a millisecond for the others

ANCILLARY_BYTES: Final = 64  # of one datagram: a structure of at most 20 bytes, and its head

# (level, type of what is received and sent, option that asks for it): RFC 3542, 6; ip(7)
_V4_INFO: Final = (0, 8, 8)  # IPPROTO_IP, IP_PKTINFO: Python has no name for it before 3.14
_V6_INFO: Final = (41, 50, 49)  # IPPROTO_IPV6, IPV6_PKTINFO, IPV6_RECVPKTINFO

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
        "_info",
        "_layer",
        "_loop",
        "_out",
        "_peers_max",
        "_socket",
        "_unswept",
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
        self._info: tuple[int, int, int] | None = None  # how to say where a datagram arrived, if asked for
        self._writing = False  # the socket was full: the loop tells when it is not
        self.peers: OrderedDict[object, Peer] = OrderedDict()
        self._unswept: list[object] = []  # those that are still to be looked at
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
            if family == socket.AF_INET6:
                found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as the TCP listener
            found.bind(where)
        except OSError:
            found.close()
            raise
        self._socket = found
        if ipaddress.ip_address(where[0]).is_unspecified and sys.platform == "linux":
            self._info = _V6_INFO if family == socket.AF_INET6 else _V4_INFO
            found.setsockopt(self._info[0], self._info[2], 1)
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
        anywhere = self._info is not None
        for _ in range(READS_MAX):
            try:
                data, address = self._received() if anywhere else found.recvfrom(DATAGRAM_BYTES_MAX)
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

    def _received(self) -> tuple[bytes, tuple[Any, ...]]:
        """Return a datagram, and where it came from with, at the end, where it arrived."""
        assert self._socket is not None
        assert self._info is not None
        data, more, _, address = self._socket.recvmsg(DATAGRAM_BYTES_MAX, ANCILLARY_BYTES)
        arrived: bytes = more[0][2] if more else b""
        if arrived and self._info is _V4_INFO:
            arrived = bytes(4) + arrived[4:8] + bytes(4)  # from the same address, by whatever interface
        return data, (*address, arrived)

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
        """Forget the peer that came first of those that nothing waits for; False if none was found soon."""
        for _ in range(min(LOOKED_AT_MAX, len(self.peers))):
            address = next(iter(self.peers))
            peer = self.peers[address]
            if not peer.busy:
                del self.peers[address]
                self._layer.gone(peer)
                return True
            self.peers.move_to_end(address)
        return False

    def _sweep(self) -> None:
        """Forget who has been silent for long, unless it observes: some at a time."""
        now_ms = self._gateway.clock.monotonic_ms
        silent_ms = now_ms - PEER_IDLE_MS
        if not self._unswept:
            self._unswept = list(self.peers)
        some = self._unswept[-SWEEP_PEERS:]
        del self._unswept[-SWEEP_PEERS:]
        for address in some:
            peer = self.peers.get(address)
            if peer is not None and peer.last_ms <= silent_ms and not peer.busy:
                del self.peers[address]
                self._layer.gone(peer)
        self._layer.forget_old(now_ms)
        if self._socket is not None:
            self._gateway.scheduler.after(SWEEP_MS, self._sweep)

    # -- out ----------------------------------------------------------------------------------

    def send(self, data: bytes, address: object) -> None:
        if not self._out:
            self._gateway.flush_later(self)
        elif self._writing and len(self._out) >= UNSENT_MAX:
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
                self._send(found, data, cast(tuple[Any, ...], address))
            except BlockingIOError:
                self._writing = True
                self._loop.add_writer(found.fileno(), self._writable)
                return
            except OSError as error:  # no way there, or what ICMP has said of an earlier one
                self.lost += 1
                log.debug("datagram not sent", door="coap", reason=str(error))
            out.popleft()

    def _send(self, found: socket.socket, data: bytes, address: tuple[Any, ...]) -> None:
        if self._info is None:
            found.sendto(data, address)
            return
        # A machine with several addresses has to answer from the one that was asked.
        arrived = address[-1]
        more = [(self._info[0], self._info[1], arrived)] if arrived else []
        found.sendmsg([data], more, 0, address[:-1])

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
