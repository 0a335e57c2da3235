"""A UDP proxy in a thread, between a client and a server on this machine: what networks do to datagrams.

Loss, duplication, reordering and delay by a rule with a seed, and what a NAT does when it forgets: from
then on a client's datagrams come from another port, and what is sent to the old one reaches nobody.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

DATAGRAM_BYTES_MAX = 65_536
#: What becomes of a datagram: a delay in seconds for each copy that goes on. `up`: from the client.
Rule = Callable[[bool, bytes], list[float]]


class Faults(NamedTuple):
    """Shares of datagrams, each way, and how late those are that are late."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0  # held back while others pass
    late_seconds: float = 0.05


def unchanged(up: bool, data: bytes) -> list[float]:
    """Pass a datagram on."""
    return [0.0]


class UdpProxy:
    """Listens on `port`; `counts` says what it did.

    Of datagrams that came: from_client, from_server, stale (for a port that is gone), lost, duplicated, late;
    of datagrams that went: up, down; and rebound.
    """

    def __init__(self, server_port: int, faults: Faults | None = None, seed: int = 1) -> None:
        self.counts: Counter[str] = Counter()
        self.rule: Rule = unchanged
        if faults is not None:
            self.rule = self._by_chance(faults, random.Random(seed))
        self._server = ("127.0.0.1", server_port)
        self._front = self._socket()
        self.port: int = self._front.getsockname()[1]
        self._back: dict[tuple[str, int], socket.socket] = {}  # a client's address -> as whom it is seen
        self._clients: dict[socket.socket, tuple[str, int]] = {}
        self._gone: list[socket.socket] = []  # stay open, so that nothing is told of them: a NAT is silent
        self._late: list[tuple[float, int, bool, tuple[str, int], bytes]] = []
        self._order = 0
        self._lock = threading.Lock()
        self._wake, self._awake = socket.socketpair()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> UdpProxy:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def rebind(self) -> None:
        """Forget all clients: each is at a new port, and reached again, from its next datagram on."""
        with self._lock:
            self._gone += self._back.values()
            self._clients.clear()
            self._back.clear()
            self.counts["rebound"] += 1

    def ports(self) -> list[int]:
        """Return the ports that the server sees clients at."""
        with self._lock:
            return [sock.getsockname()[1] for sock in self._back.values()]

    def close(self) -> None:
        """End the thread and close all sockets."""
        self._ended = True
        self._wake.send(b"x")
        self._thread.join(10)
        assert not self._thread.is_alive()
        for sock in (self._front, self._wake, self._awake, *self._back.values(), *self._gone):
            sock.close()

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock

    def _by_chance(self, faults: Faults, chance: random.Random) -> Rule:
        def rule(up: bool, data: bytes) -> list[float]:
            if chance.random() < faults.loss:
                return []
            delays = [0.0]
            if chance.random() < faults.duplication:
                delays.append(chance.random() * faults.late_seconds)
            if chance.random() < faults.reordering:
                delays[0] = chance.random() * faults.late_seconds
            return delays

        return rule

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended:
            with self._lock:
                sockets = [self._front, self._awake, *self._back.values(), *self._gone]
            ready, _, _ = select.select(sockets, [], [], self._wait_seconds())
            for sock in ready:
                if sock is not self._awake:
                    self._read(sock)
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                _, _, up, client, data = heapq.heappop(self._late)
                self._pass(up, client, data)

    def _wait_seconds(self) -> float | None:
        return max(0.0, self._late[0][0] - time.monotonic()) if self._late else None

    def _read(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                data, sender = sock.recvfrom(DATAGRAM_BYTES_MAX)
                up = sock is self._front
                with self._lock:
                    client = sender if up else self._clients.get(sock)
                if client is None:
                    self.counts["stale"] += 1
                    continue
                self._judge(up, client, data)

    def _judge(self, up: bool, client: tuple[str, int], data: bytes) -> None:
        self.counts["from_client" if up else "from_server"] += 1
        delays = self.rule(up, data)
        self.counts["lost"] += not delays
        self.counts["duplicated"] += len(delays) > 1
        self.counts["late"] += any(delays)
        for delay in delays:
            if delay:
                self._order += 1
                heapq.heappush(self._late, (time.monotonic() + delay, self._order, up, client, data))
            else:
                self._pass(up, client, data)

    def _pass(self, up: bool, client: tuple[str, int], data: bytes) -> None:
        self.counts["up" if up else "down"] += 1
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            if up:
                self._behind(client).sendto(data, self._server)
            else:
                self._front.sendto(data, client)

    def _behind(self, client: tuple[str, int]) -> socket.socket:
        with self._lock:
            if client not in self._back:
                sock = self._back[client] = self._socket()
                self._clients[sock] = client
            return self._back[client]
