"""MQTT through every kind of door: TCP, a Unix socket, a WebSocket, and behind a proxy."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.protocols.mqtt.encoder import encode_connect
from gateway.protocols.mqtt.packets import Connect
from gateway.proxy_protocol import SIGNATURE
from tests.interop.paho_client import V5, V311, PahoClient
from tests.mqtt_client import MqttClient
from tests.process import GatewayProcess

pytestmark = pytest.mark.interop
Make = Callable[..., GatewayProcess]
CONNECT = encode_connect(Connect(5, "direct", True))


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("doors")).start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


@pytest.mark.parametrize("version", [V311, V5])
def test_over_a_websocket(door: GatewayProcess, version: int) -> None:
    with (
        PahoClient("page", version, transport="websockets") as page,
        PahoClient("device", version).open(door.mqtt_port) as device,
    ):
        page.client.ws_set_options(path="/mqtt")
        page.open(door.http_port)
        page.subscribe("web/#", 2)
        bodies = [b"", b"x", bytes(range(256)) * 1000]
        for body in bodies:
            device.publish("web/in", body, 2)
        assert page.bodies(3) == bodies
        device.subscribe("out", 1)
        page.publish("out", b"from the page")
        assert device.receive().payload == b"from the page"


def test_over_a_unix_socket(make_gateway: Make, tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"
    gateway = make_gateway(f"listeners.mqtt=unix:{path}").start()
    with PahoClient("local", transport="unix").open(1, str(path)) as local:
        local.subscribe("unix", 1)
        local.publish("unix", b"through the file system")
        assert local.receive().payload == b"through the file system"
    answer = httpx.post(f"{gateway.url}/v1/topics/unix", content=b"x")
    assert answer.status_code == 200


class Proxied(MqttClient):
    """A client behind a proxy that says who it is."""

    head = b""

    def send(self, data: bytes) -> None:
        super().send(self.head + data)
        self.head = b""


def _header(host: str, port: int) -> bytes:
    addresses = socket.inet_aton(host) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", port, 1883)
    return SIGNATURE + struct.pack(">BBH", 0x21, 0x11, len(addresses)) + addresses


def test_behind_a_proxy_the_client_has_its_own_address(make_gateway: Make) -> None:
    gateway = make_gateway('network.proxy_protocol=["mqtt"]').start()

    class Client(Proxied):
        head = _header("203.0.113.7", 4711)

    client = Client(gateway.mqtt_port, "proxied", 5)
    assert client.connack.reason == 0
    client.subscribe("t")
    client.publish("t", b"x")
    assert client.receive().payload == b"x"


@pytest.mark.parametrize(
    "head", [b"", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", SIGNATURE + b"\x31\x11\x00\x00"]
)
def test_who_does_not_say_it_is_not_let_in(make_gateway: Make, head: bytes) -> None:
    gateway = make_gateway('network.proxy_protocol=["mqtt"]').start()
    with socket.create_connection(("127.0.0.1", gateway.mqtt_port), 10) as sock:
        sock.sendall(head + CONNECT)
        sock.settimeout(10)
        try:
            assert sock.recv(100) == b""
        except ConnectionResetError:
            pass  # cut off with bytes unread: that is a reset
