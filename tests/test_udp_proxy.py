"""The proxy that tests of CoAP lose datagrams in does what its counters say."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.process import wait_for
from tests.udp_proxy import Faults, UdpProxy

COUNT = 400


class Echo:
    """Sends back what it gets; `seen` has every datagram with the port it came from."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.seen: list[tuple[bytes, int]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            data, sender = self.sock.recvfrom(100)
            if data == b"end":
                return
            self.seen.append((data, sender[1]))
            self.sock.sendto(data, sender)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join(10)
        self.sock.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        yield made


def test_a_quiet_proxy_passes_everything(echo: Echo, client: socket.socket) -> None:
    with UdpProxy(echo.port) as proxy:
        client.connect(("127.0.0.1", proxy.port))
        for n in range(20):
            client.send(b"%d" % n)
            assert client.recv(100) == b"%d" % n
        assert +proxy.counts == {"from_client": 20, "up": 20, "from_server": 20, "down": 20}


def test_faults_are_as_many_as_asked_for(echo: Echo, client: socket.socket) -> None:
    faults = Faults(loss=0.2, duplication=0.2, reordering=0.2, late_seconds=0.01)
    with UdpProxy(echo.port, faults, seed=7) as proxy:
        client.connect(("127.0.0.1", proxy.port))
        for n in range(COUNT):
            client.send(b"%d" % n)
            if n % 50 == 49:  # what waits at the proxy must not be lost by the kernel
                wait_for(lambda n=n: proxy.counts["from_client"] == n + 1, what="all were read")
        wait_for(lambda: _settled(proxy), what="all copies went on, and came back")
        counts = proxy.counts
    arrived = [int(data) for data, _ in echo.seen]
    assert len(arrived) > len(set(arrived)), "some came twice"
    assert len(set(arrived)) < COUNT, "some did not come"
    assert arrived != sorted(arrived), "some came late"
    judged = counts["from_client"] + counts["from_server"]
    for name in ("lost", "duplicated", "late"):
        assert judged * 0.08 < counts[name] < judged * 0.4, counts


def _settled(proxy: UdpProxy) -> bool:
    counts = proxy.counts
    copies = counts["from_client"] + counts["from_server"] + counts["duplicated"] - counts["lost"]
    return counts["from_server"] == counts["up"] and counts["up"] + counts["down"] == copies


def test_a_rebound_client_comes_from_another_port(echo: Echo, client: socket.socket) -> None:
    with UdpProxy(echo.port) as proxy:
        client.connect(("127.0.0.1", proxy.port))
        client.send(b"one")
        assert client.recv(100) == b"one"
        (before,) = proxy.ports()
        proxy.rebind()
        assert proxy.ports() == []
        echo.sock.sendto(b"for the old port", ("127.0.0.1", before))
        wait_for(lambda: proxy.counts["stale"] == 1, what="what is for the old port is gone")
        client.send(b"two")
        assert client.recv(100) == b"two"
        assert proxy.ports() != [before]
        assert [port for _, port in echo.seen] == [before, *proxy.ports()]


def test_a_rule_of_ones_own(echo: Echo, client: socket.socket) -> None:
    with UdpProxy(echo.port) as proxy:
        proxy.rule = lambda up, data: [] if up and data == b"lose" else [0.0]
        client.connect(("127.0.0.1", proxy.port))
        client.send(b"lose")
        client.send(b"keep")
        assert client.recv(100) == b"keep"
        assert proxy.counts["lost"] == 1
