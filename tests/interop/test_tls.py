"""TLS doors of a real gateway, with programs nobody here wrote."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import pika
import pytest
from websockets.asyncio.client import connect

from tests.certificates import LONG_AGO, Pki, serial
from tests.interop.paho_client import V5, V311, PahoClient
from tests.peers import executable
from tests.process import GatewayProcess, free_port, wait_for

pytestmark = pytest.mark.interop
Make = Callable[..., GatewayProcess]
SECONDS_MAX = 20


class Doors:
    """A gateway with every TLS door open, beside the plain ones."""

    def __init__(self, process: GatewayProcess, pki: Pki, ports: dict[str, int]) -> None:
        self.process = process
        self.pki = pki
        self.mqtts, self.amqps, self.https = (ports[name] for name in ("mqtts", "amqps", "https"))

    @property
    def url(self) -> str:
        return f"https://localhost:{self.https}"

    @property
    def ca(self) -> str:
        return str(self.pki.path("ca.pem"))

    def paho(self, client_id: str, client: tuple[str, str] | None = None, **options: Any) -> PahoClient:
        made = PahoClient(client_id, **options)
        made.client.tls_set_context(self.pki.context(client))
        return made

    def logged(self, text: str) -> bool:
        return self.count(text) > 0

    def count(self, text: str) -> int:
        return sum(text in line for line in self.process.errors)


def open_doors(make: Callable[..., GatewayProcess], pki: Pki, asked: str = "", *more: str) -> Doors:
    ports = {name: free_port() for name in ("mqtts", "amqps", "https")}
    sets = [f"listeners.{name}=127.0.0.1:{port}" for name, port in ports.items()]
    return Doors(make(*sets, *pki.sets(asked), *more).start(), pki, ports)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    directory = tmp_path_factory.mktemp("tls")
    made: list[GatewayProcess] = []

    def make(*sets: str) -> GatewayProcess:
        made.append(GatewayProcess(directory / "data", sets))
        return made[-1]

    yield open_doors(make, Pki(directory / "pki"))
    bugs = made[0].bugs()
    made[0].stop()
    assert bugs == []


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [executable("curl"), "-sS", "--max-time", str(SECONDS_MAX), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS_MAX, check=False)


# -- every protocol -----------------------------------------------------------------------------


def test_the_ready_line_names_them(doors: Doors) -> None:
    [ready] = [line for line in doors.process.lines if line.startswith("gateway ready")]
    for name, port in (("mqtts", doors.mqtts), ("amqps", doors.amqps), ("https", doors.https)):
        assert f" {name}=127.0.0.1:{port}" in ready
    assert f" mqtt=127.0.0.1:{doors.process.mqtt_port}" in ready


@pytest.mark.parametrize("version", [V311, V5])
def test_paho(doors: Doors, version: int) -> None:
    with (
        doors.paho("inside", version=version).open(doors.mqtts, "localhost") as inside,
        PahoClient("outside", version).open(doors.process.mqtt_port) as outside,
    ):
        inside.subscribe("tls/#", 2)
        bodies = [b"", b"x", bytes(range(256)) * 4000]
        for body in bodies:
            outside.publish("tls/in", body, 2)
        assert inside.bodies(3) == bodies
        outside.subscribe("out", 1)
        inside.publish("out", bodies[2])
        assert outside.receive().payload == bodies[2]


def test_paho_over_a_websocket(doors: Doors) -> None:
    with doors.paho("page", transport="websockets") as page:
        page.client.ws_set_options(path="/mqtt")
        page.open(doors.https, "localhost")
        page.subscribe("web", 1)
        page.publish("web", b"x" * 100_000)
        assert page.receive().payload == b"x" * 100_000


def test_mosquitto_tools(doors: Doors) -> None:
    common = ["-h", "localhost", "-p", str(doors.mqtts), "--cafile", doors.ca, "-t", "m/t", "-q", "1"]
    pub = [executable("mosquitto_pub"), *common, "-r", "-m", "kept"]
    subprocess.run(pub, check=True, timeout=SECONDS_MAX)
    sub = [executable("mosquitto_sub"), *common, "-C", "1", "-W", str(SECONDS_MAX)]
    done = subprocess.run(sub, check=True, timeout=2 * SECONDS_MAX, capture_output=True, text=True)
    assert done.stdout == "kept\n"


async def test_aio_pika(doors: Doors) -> None:
    url = f"amqps://guest:guest@localhost:{doors.amqps}/"
    async with await aio_pika.connect(url, ssl_context=doors.pki.context()) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("tls-aio")
        await channel.default_exchange.publish(aio_pika.Message(b"x" * 300_000), routing_key="tls-aio")
        message = await queue.get(timeout=SECONDS_MAX)
        assert message.body == b"x" * 300_000
        await message.ack()


def test_pika(doors: Doors) -> None:
    options = pika.SSLOptions(doors.pki.context(), "localhost")
    parameters = pika.ConnectionParameters("localhost", doors.amqps, ssl_options=options, socket_timeout=10)
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("tls-pika")
    channel.basic_publish("", "tls-pika", b"hello")
    assert channel.basic_get("tls-pika", auto_ack=True)[2] == b"hello"
    connection.close()


def test_curl_and_a_browser_page(doors: Doors) -> None:
    topic = f"{doors.url}/v1/topics/curl"
    done = curl("--cacert", doors.ca, "-d", "hi", f"{topic}?retain=true")
    assert done.returncode == 0, done.stderr
    assert curl("--cacert", doors.ca, topic).stdout == "hi"
    done = curl(topic)
    assert done.returncode == 60  # not without the CA
    own = curl("--cacert", doors.ca, "-H", f"Origin: {doors.url}", "-d", "x", "-w", "%{http_code}", topic)
    assert own.stdout.endswith("200")
    host = doors.url.partition("://")[2]
    plain = curl("--cacert", doors.ca, "-H", f"Origin: http://{host}", "-d", "x", "-w", "%{http_code}", topic)
    assert plain.stdout.endswith("403")  # such a page could have been written by anybody on the way


def test_httpx_keeps_its_connection_and_streams(doors: Doors) -> None:
    with httpx.Client(verify=doors.pki.context(), base_url=doors.url, timeout=SECONDS_MAX) as client:
        for number in range(20):
            assert client.post("/v1/topics/keep", content=b"%d" % number).status_code == 200
        body = "\n".join('{"topic": "batch/a", "body": "x"}' for _ in range(5000))
        assert client.post("/v1/topics/batch/batch", content=body).status_code in (200, 207)
        with client.stream("GET", "/v1/subscribe", params={"filter": "events/#"}) as events:
            client.post("/v1/topics/events/a", content=b"seen")
            assert any("seen" in line or "c2Vlbg" in line for line in events.iter_lines() if "data" in line)


async def test_wss(doors: Doors) -> None:
    url = f"wss://localhost:{doors.https}/v1/ws"
    async with connect(url, ssl=doors.pki.context(), origin=doors.url) as socket:  # type: ignore[arg-type]
        await (await socket.ping())


def test_the_protocols_are_agreed_upon(doors: Doors) -> None:
    for port, name in ((doors.mqtts, "mqtt"), (doors.amqps, "amqp"), (doors.https, "http/1.1")):
        context = doors.pki.context()
        context.set_alpn_protocols(["h2", name])
        with (
            socket.create_connection(("127.0.0.1", port), 10) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as wrapped,
        ):
            assert wrapped.selected_alpn_protocol() == name


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(doors: Doors) -> None:
    context = doors.pki.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", doors.mqtts), 10) as raw:
        with pytest.raises(ssl.SSLError, match="alert protocol version"):
            context.wrap_socket(raw, server_hostname="localhost")


def test_slow_handshakes_block_nobody(doors: Doors) -> None:
    slow = [socket.create_connection(("127.0.0.1", doors.mqtts), 10) for _ in range(50)]
    try:
        for sock in slow:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        with doors.paho("quick").open(doors.mqtts, "localhost") as quick:
            quick.subscribe("q", 1)
            quick.publish("q", b"x")
            assert quick.receive().payload == b"x"
    finally:
        for sock in slow:
            sock.close()


def test_slow_handshakes_are_cut_off(make_gateway: Make, tmp_path: Path) -> None:
    doors = open_doors(make_gateway, Pki(tmp_path / "pki"), "", "limits.handshake_seconds_max=0.5")
    with socket.create_connection(("127.0.0.1", doors.https), 10) as slow:
        slow.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        try:
            assert slow.recv(100) == b""
        except ConnectionResetError:
            pass  # cut off with bytes unread
    assert wait_for(lambda: doors.logged("it takes too long"), what="the line")


# -- clients' certificates -------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["none", "optional", "required"])
def test_certificates_of_clients(make_gateway: Make, tmp_path: Path, asked: str) -> None:
    pki = Pki(tmp_path / "pki")
    good, expired = pki.client("good"), pki.client("expired", LONG_AGO)
    stranger = Pki(tmp_path / "other").client("good")
    doors = open_doors(make_gateway, pki, asked)

    def enters(client: tuple[str, str] | None) -> bool:
        shown = ["--cert", client[0], "--key", client[1]] if client else []
        over_http = curl("--cacert", doors.ca, *shown, f"{doors.url}/health").returncode == 0
        command = [executable("mosquitto_pub"), "-h", "localhost", "-p", str(doors.mqtts)]
        command += ["--cafile", doors.ca, *shown, "-t", "x", "-m", "y", "-q", "1"]
        done = subprocess.run(command, capture_output=True, timeout=SECONDS_MAX, check=False)
        assert (done.returncode == 0) == over_http
        return over_http

    assert enters(good)
    assert enters(expired) == (asked == "none")
    assert asked == "none" or doors.logged("certificate has expired")
    assert enters(stranger) == (asked == "none")
    assert enters(None) == (asked != "required")


# -- new certificates while everybody works -----------------------------------------------------------


def _seen(doors: Doors, port: int) -> int:
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        doors.pki.context().wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        return serial(wrapped.getpeercert(True))


@pytest.mark.parametrize("told", [True, False], ids=["SIGHUP", "by itself"])
def test_a_renewed_certificate_is_taken_while_clients_work(
    make_gateway: Make, tmp_path: Path, told: bool
) -> None:
    doors = open_doors(make_gateway, Pki(tmp_path / "pki"))
    stopped, refused = threading.Event(), []

    def knock() -> None:
        while not stopped.is_set():
            try:
                _seen(doors, doors.https)
            except OSError as error:
                refused.append(error)

    knocking = threading.Thread(target=knock)
    with doors.paho("worker").open(doors.mqtts, "localhost") as worker:
        worker.subscribe("work", 1)
        worker.publish("work", b"before")
        knocking.start()
        try:
            wanted = doors.pki.server().serial_number
            if told:
                doors.process.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
            for port in (doors.mqtts, doors.amqps, doors.https):
                wait_for(lambda port=port: _seen(doors, port) == wanted, SECONDS_MAX, "the new certificate")
                worker.publish("work", b"meanwhile")
        finally:
            stopped.set()
            knocking.join()
        assert worker.bodies(4) == [b"before", *[b"meanwhile"] * 3]
        assert worker.disconnected.empty()
    assert refused == []


def test_broken_files_change_nothing(make_gateway: Make, tmp_path: Path) -> None:
    doors = open_doors(make_gateway, Pki(tmp_path / "pki"))
    before = _seen(doors, doors.https)
    doors.pki.path("server.pem").write_bytes(b"broken")
    doors.process.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    wait_for(lambda: doors.count("certificates not reloaded") == 1, what="the line")
    assert doors.logged("server.pem: no certificate in PEM form")
    assert _seen(doors, doors.https) == before
    doors.pki.path("server-key.pem").unlink()
    wait_for(lambda: doors.count("certificates not reloaded") == 2, SECONDS_MAX, "another line")
    wanted = doors.pki.server().serial_number
    wait_for(lambda: _seen(doors, doors.https) == wanted, SECONDS_MAX, "the new certificate")


def test_an_expired_certificate_is_a_warning(make_gateway: Make, tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    pki.server(begins=LONG_AGO)
    doors = open_doors(make_gateway, pki)
    assert wait_for(lambda: doors.logged("has expired on"), what="the warning")
    assert curl("--cacert", doors.ca, f"{doors.url}/health").returncode == 60
    assert curl("--insecure", f"{doors.url}/health").returncode == 0


def test_the_command_line_talks_to_a_tls_door(doors: Doors) -> None:
    started = doors.process.command()
    command = [*started[: started.index("serve")], "publish", "cli", "x", "--url", doors.url]
    environment = {**os.environ, "SSL_CERT_FILE": doors.ca}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
