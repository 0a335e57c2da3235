"""The door itself: without the extra, at a Unix socket, by TLS, and with what no client sends."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc")

import grpc

from gateway.cli.setup import check
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.tables import SERVICE
from tests.certificates import Pki
from tests.process import START_SECONDS_MAX, RocketGateway, free_port, wait_for
from tests.rocketmq_raw import RawRocket, subscription

WITHOUT = "import sys; sys.modules['grpc'] = None; from gateway.cli import main; sys.exit(main())"
MISSING = "gRPC is not installed; pip install 'gateway[openmessaging]'"
CLOSED = [
    argument for door in ("mqtt", "http", "amqp", "coap") for argument in ("--set", f"listeners.{door}=")
]
DRAIN_SECONDS_MAX = 10.0


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[SecureGateway]:
    """Both doors."""
    found = SecureGateway(tmp_path_factory.mktemp("data"), pki, "required")
    found.start()
    yield found
    assert found.bugs() == []
    assert found.stop() == 0


class SecureGateway(RocketGateway):
    """With a TLS door, too."""

    def __init__(self, data: Path, pki: Pki, asked: str) -> None:
        self.secure_port = free_port()
        self.pki = pki
        pki.server()
        super().__init__(
            data,
            (f"listeners.openmessagings=127.0.0.1:{self.secure_port}", *pki.sets(asked), *MORE),
        )

    def secure(self, name: str = "", **more: Any) -> RawRocket:
        """Return a client by TLS, with a certificate or none."""
        pair = [Path(path).read_bytes() for path in self.pki.client(name)] if name else [None, None]
        authority = self.pki.path("ca.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(authority, pair[1], pair[0])
        return RawRocket(f"localhost:{self.secure_port}", credentials=credentials, **more)


MORE = ("openmessaging.advertise_tls=broker.example:443",)


def serve_without(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin a gateway that has no gRPC."""
    command = [sys.executable, "-c", WITHOUT, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=directory, stdout=pipe, stderr=pipe, text=True)


def test_without_grpc_the_door_stays_closed_and_says_so_when_it_is_asked_for(tmp_path: Path) -> None:
    port = free_port()
    serve = ("serve", "--dev", "--data", "data", *CLOSED, "--set", "listeners.line=")
    if not _has_line():
        serve = serve[:-2]
    process = serve_without(tmp_path, *serve, "--set", f"listeners.mqtt=127.0.0.1:{port}")
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        ready = next(line for line in lines if line.startswith("gateway ready"))
        assert "openmessaging" not in ready
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=START_SECONDS_MAX)
    for door in ("openmessaging", "openmessagings"):
        asked = serve_without(tmp_path, *serve, "--set", f"listeners.{door}=127.0.0.1:{port}")
        _, errors = asked.communicate(timeout=START_SECONDS_MAX)
        assert asked.returncode == 2
        assert f"listeners.{door}: {MISSING}" in errors
        assert "Traceback" not in errors


def test_check_says_that_grpc_is_missing(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("[anonymous]\npublish = ['#']\n[listeners]\nopenmessaging = '127.0.0.1:8081'\n")
    process = serve_without(tmp_path, "check", "--config", str(config))
    _, errors = process.communicate(timeout=START_SECONDS_MAX)
    assert process.returncode == 2
    assert f"listeners.openmessaging: {MISSING}" in errors


def _has_line() -> bool:
    from importlib.util import find_spec

    return find_spec("gateway_line") is not None


def fault_of(gateway: RocketGateway) -> str:
    """Return why a gateway does not start."""
    try:
        with pytest.raises(AssertionError) as caught:
            gateway.start()
        return str(caught.value)
    finally:
        gateway.kill()


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "rocket.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # and nobody listens: what a gateway leaves that was killed
    sets = (f"listeners.openmessaging=unix:{path}",)
    gateway = RocketGateway(tmp_path / "data", sets).start()
    try:
        with RawRocket(f"unix:{path}") as raw:
            assert raw.code("Heartbeat") == Code.OK
            assert raw.code("QueryRoute", topic={"name": "t"}) == Code.ILLEGAL_ACCESS_POINT
        assert "another process listens" in fault_of(RocketGateway(tmp_path / "other", sets))
        with RawRocket(f"unix:{path}") as raw:  # it is still the first one's
            assert raw.code("Heartbeat") == Code.OK
        assert gateway.bugs() == []
    finally:
        gateway.stop()


def test_an_address_in_use(tmp_path: Path, gateway: SecureGateway) -> None:
    sets = (f"listeners.openmessaging=127.0.0.1:{gateway.rocketmq_port}",)
    assert "listeners.openmessaging: cannot listen" in fault_of(RocketGateway(tmp_path, sets))


# -- TLS ------------------------------------------------------------------------------------------------


def test_a_client_certificate_is_required(gateway: SecureGateway) -> None:
    with gateway.secure() as raw, pytest.raises(grpc.RpcError) as caught:
        raw.call("Heartbeat")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with gateway.secure("device7") as raw:
        assert raw.code("Heartbeat") == Code.OK
        found = raw.call("QueryRoute", topic={"name": "t"}).message_queues[0].broker.endpoints
        assert [(address.host, address.port) for address in found.addresses] == [("broker.example", 443)]


def test_another_ca_counts_nothing(gateway: SecureGateway, tmp_path: Path) -> None:
    other = Pki(tmp_path, "another CA")
    certificate, key = (Path(path).read_bytes() for path in other.client("device7"))
    credentials = grpc.ssl_channel_credentials(gateway.pki.path("ca.pem").read_bytes(), key, certificate)
    with (
        RawRocket(f"localhost:{gateway.secure_port}", credentials=credentials) as raw,
        pytest.raises(grpc.RpcError),
    ):
        raw.call("Heartbeat")


def test_a_certificate_is_renewed_without_a_restart(gateway: SecureGateway) -> None:
    def serial() -> int:
        context = gateway.pki.context(gateway.pki.client("device7"), "h2")
        with (
            socket.create_connection(("127.0.0.1", gateway.secure_port), 10) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            from tests.certificates import serial as serial_of

            return serial_of(tls.getpeercert(True))

    with gateway.secure("device7") as raw:
        assert raw.code("Heartbeat") == Code.OK
        before = serial()
        gateway.pki.server()
        os.kill(gateway.pid, signal.SIGHUP)
        wait_for(lambda: serial() != before, 10, "the new certificate")
        assert raw.code("Heartbeat") == Code.OK  # nobody's connection ends


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("tls.minimum_version='1.3'", "gRPC offers TLS 1.2 and 1.3, and cannot be told otherwise"),
        ("tls.openmessagings.ciphers=ECDHE+AESGCM", "gRPC has its own choice"),
        ("tls.client_certificates=optional", "gRPC asks every client for a certificate or none"),
    ],
)
def test_what_grpc_cannot_be_told_is_refused(
    tmp_path: Path, pki: Pki, capsys: pytest.CaptureFixture[str], setting: str, reason: str
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("[anonymous]\npublish = ['#']\n")
    for door, fault in (("openmessagings", reason), ("https", "")):  # our own TLS does it
        sets = [
            f"listeners.{door}=127.0.0.1:0",
            *pki.sets("required"),
            setting.replace("openmessagings", door),
        ]
        assert bool(check(config, sets, False)) == bool(fault)
        assert fault in capsys.readouterr().err


# -- what no client sends -------------------------------------------------------------------------------


def send_bytes(raw: RawRocket, name: str, data: bytes, kind: str = "unary_unary", **metadata: str) -> Any:
    """Call a procedure with bytes; return the bytes of the answer."""
    method = getattr(raw.channel, kind)(f"/{SERVICE}/{name}")
    request = data if kind.startswith("unary") else iter([data])
    return method(request, timeout=10, metadata=[("x-mq-client-id", "raw"), *metadata.items()])


@pytest.fixture
def raw(gateway: SecureGateway) -> Iterator[RawRocket]:
    with RawRocket(gateway.endpoints) as found:
        yield found


def test_no_messages_of_the_protocol(raw: RawRocket) -> None:
    from gateway.rocketmq.schema import CLASSES

    for name in ("QueryRoute", "SendMessage", "Heartbeat"):
        answer = CLASSES[f"{name}Response"].FromString(send_bytes(raw, name, b"\xff\xff\xff"))
        assert answer.status.code == Code.BAD_REQUEST
        assert f"a {name}Request is expected" in answer.status.message
    answers = list(send_bytes(raw, "ReceiveMessage", b"\xff\xff\xff", "unary_stream"))
    found = [CLASSES["ReceiveMessageResponse"].FromString(answer).status.code for answer in answers]
    assert found == [Code.BAD_REQUEST]
    with pytest.raises(grpc.RpcError) as caught:
        list(send_bytes(raw, "Telemetry", b"\xff\xff\xff", "stream_stream"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raw.code("Heartbeat") == Code.OK


def test_procedures_that_are_none(raw: RawRocket) -> None:
    for path in (f"/{SERVICE}/Nothing", "/apache.rocketmq.v2.Admin/ChangeLogLevel"):
        with pytest.raises(grpc.RpcError) as caught:
            raw.channel.unary_unary(path)(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_headers_without_end(raw: RawRocket) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send_bytes(raw, "Heartbeat", b"", **{"x-more": "x" * 20_000})
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert raw.code("Heartbeat") == Code.OK


def test_a_request_has_a_limit_of_its_own(raw: RawRocket) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send_bytes(raw, "SendMessage", bytes(33 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert raw.code("Heartbeat") == Code.OK


def test_lite_topics_are_not_offered(raw: RawRocket) -> None:
    assert raw.code("SyncLiteSubscription", topic={"name": "t"}, group={"name": "g"}) == Code.UNSUPPORTED


def test_a_client_says_which_one_it_is(gateway: SecureGateway) -> None:
    with RawRocket(gateway.endpoints, "") as raw:
        assert raw.code("Heartbeat") == Code.CLIENT_ID_REQUIRED
    with RawRocket(gateway.endpoints, "x" * 256) as raw:
        assert raw.code("Heartbeat") == Code.BAD_REQUEST
    with RawRocket(gateway.endpoints, x_mq_namespace="a/b") as raw:
        assert raw.code("Heartbeat") == Code.BAD_REQUEST


def test_who_is_refused_is_named_in_the_log_once(gateway: SecureGateway) -> None:
    with RawRocket(gateway.endpoints, "host@4711@2@x") as raw:
        for _ in range(5):
            assert raw.code("QueryRoute", topic={"name": "no/name"}) == Code.ILLEGAL_TOPIC
        assert raw.code("QueryRoute", topic={"name": "orders"}, endpoints={"addresses": [{}]}) == (
            Code.ILLEGAL_ACCESS_POINT
        )

    def lines() -> list[str]:
        return [line for line in gateway.errors if "host@4711@2@x" in line]

    wait_for(lambda: len(lines()) >= 2, 10, "two lines")
    assert len(lines()) == 2
    for text in ("QueryRoute", "40002", "127.0.0.1", "PYTHON raw", "letters, digits"):
        assert text in lines()[0], lines()[0]


def test_limits_of_all_doors_hold(tmp_path: Path) -> None:
    sets = ("limits.connections_max=3", "limits.handshake_seconds_max=1", "limits.body_bytes_max=1000")
    gateway = RocketGateway(tmp_path, sets).start()
    try:
        raws = [RawRocket(gateway.endpoints, f"client{number}") for number in range(4)]
        codes = [raw.code("Heartbeat") for raw in raws]  # one connection: gRPC shares it in a process
        assert codes == [Code.OK, Code.OK, Code.OK, Code.TOO_MANY_REQUESTS]
        assert raws[0].send("t", b"x" * 1000).status.code == Code.OK
        assert raws[0].send("t", b"x" * 1001).status.code == Code.MESSAGE_BODY_TOO_LARGE
        assert raws[0].code("NotifyClientTermination") == Code.OK
        wait_for(lambda: raws[3].code("Heartbeat") == Code.OK, 10, "its turn")
        for raw in raws:
            raw.close()
        with socket.create_connection(("127.0.0.1", gateway.rocketmq_port), 10) as silent:
            silent.settimeout(20)
            while silent.recv(4096):
                pass  # gRPC begins with its settings; who says nothing back is cut off
        assert gateway.bugs() == []
    finally:
        gateway.stop()


def test_a_stop_does_not_wait_for_long_polls(tmp_path: Path) -> None:
    gateway = RocketGateway(tmp_path).start()
    with RawRocket(gateway.endpoints) as raw:
        assert raw.tell(**subscription("g", "t")).status.code == Code.OK
        polls = [raw.begin_receive("g", "t", wait=20) for _ in range(5)]
        wait_for(lambda: _number(gateway, 'gateway_openmessaging_calls_total{rpc="ReceiveMessage"}') == 5)
        begun = datetime.datetime.now()
        assert gateway.stop() == 0
        assert (datetime.datetime.now() - begun).total_seconds() < DRAIN_SECONDS_MAX
        for poll in polls:
            poll.cancel()
    assert gateway.bugs() == []


def _number(gateway: RocketGateway, name: str) -> float:
    import urllib.request

    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
    return 0
