"""DTLS at a real gateway: libcoap's client and OpenSSL's, with keys, certificates and neither."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.access.guarded import Guarded
from tests.certificates import Pki
from tests.peers import coap_client, executable
from tests.process import free_port, wait_for
from tests.protocols.coap.dtls_support import Client
from tests.udp_proxy import Faults, UdpProxy

pytestmark = pytest.mark.interop

SECRET = "0123456789abcdef-device7"
OTHER = "fedcba9876543210-device8"
SECONDS = "2"
UNSENT = "cannot send CoAP pdu"  # what libcoap says when a handshake has come to nothing


class Secured(Guarded):
    """With a `coaps` door, and users with secrets who may use topics of their own name."""

    def __init__(self, directory: Path, settings: str, sets: tuple[str, ...] = ()) -> None:
        self.coaps_port = free_port()
        super().__init__(
            directory,
            (),
            settings,
            (*sets, f"listeners.coaps=127.0.0.1:{self.coaps_port}", "limits.handshake_seconds_max=3"),
        )

    def people(self) -> None:
        for name, secret in (("device7", SECRET), ("device8", OTHER)):
            self.user(name, secret=secret)
            self.rule(f"own-{name}", f"user:{name}", ["publish", "subscribe"], f"topic:{name}/#")

    def coap(
        self, topic: str, *options: str, body: str = "", port: int = 0, seconds: str = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Publish `body` to a topic, or read what is there, with libcoap's client."""
        method = ["-m", "put", "-e", body] if body else ["-m", "get"]
        url = f"coaps://127.0.0.1:{port or self.coaps_port}/ps/{topic}?retain=1"
        command = [coap_client(), *method, "-B", seconds, *options, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    def retained(self, topic: str) -> str:
        found = self.ask("GET", f"/v1/topics/{topic}")
        return found.text if found.status_code == 200 else ""

    def audited(self) -> list[dict[str, str]]:
        """The logins that were refused."""
        lines = (self.data / "audit.log").read_text().splitlines()
        return [entry for line in lines if (entry := json.loads(line))["event"] == "login.refused"]


def key(name: str, secret: str) -> tuple[str, ...]:
    return "-u", name, "-k", secret


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Secured]:
    """Certificates and keys."""
    found = Secured(
        tmp_path_factory.mktemp("gateway"), '[certificates]\nname = "cn"\n', tuple(pki.sets("optional"))
    )
    found.start()
    found.people()
    yield found
    assert found.stop() == 0
    assert found.bugs() == []


def with_certificate(pki: Pki, name: str) -> tuple[str, ...]:
    certificate, private = pki.client(name)
    return "-c", certificate, "-j", private, "-C", str(pki.path("ca.pem"))


def test_libcoap_with_a_key(gateway: Secured) -> None:
    sent = gateway.coap("device7/t", *key("device7", SECRET), body="21.5")
    assert sent.stderr == ""
    assert gateway.retained("device7/t") == "21.5"
    assert gateway.coap("device7/t", *key("device7", SECRET)).stdout.strip() == "21.5"


def test_libcoap_observes(gateway: Secured) -> None:
    url = f"coaps://127.0.0.1:{gateway.coaps_port}/ps/device7/watched"
    gateway.publish("device7/watched", "0", params={"retain": "true"})
    command = [coap_client(), "-s", "20", "-w", *key("device7", SECRET), url]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert client.stdout is not None
    try:
        with client.stdout:
            assert client.stdout.readline() == "0\n"
            for number in range(1, 4):
                gateway.publish("device7/watched", str(number), params={"retain": "true"})
                assert client.stdout.readline() == f"{number}\n"
    finally:
        client.kill()
        client.wait()


def test_libcoap_sends_blocks(gateway: Secured) -> None:
    body = "0123456789" * 400
    assert gateway.coap("device7/large", *key("device7", SECRET), body=body).stderr == ""
    assert gateway.retained("device7/large") == body
    assert gateway.coap("device7/large", *key("device7", SECRET)).stdout.strip() == body


def test_a_network_that_doubles_and_reorders(gateway: Secured) -> None:
    with UdpProxy(gateway.coaps_port, Faults(0.0, 0.5, 0.5, 0.02)) as proxy:
        for number in range(3):
            sent = gateway.coap(
                "device7/far", *key("device7", SECRET), body=str(number), port=proxy.port, seconds="15"
            )
            assert UNSENT not in sent.stdout
            assert gateway.retained("device7/far") == str(number)


def test_a_flood_of_hellos(gateway: Secured) -> None:
    """From many ports, without a cookie, with a wrong one, cut and broken: nothing of it stays."""
    begun = gateway.metric('gateway_coap_dtls_total{what="begun"}')
    asked = gateway.metric('gateway_coap_dtls_total{what="asked"}')
    client = Client()
    client.step()
    (hello,) = client.out()
    at = 13 + 12 + 34 + 1 + 0  # behind version, random and an empty session id: the cookie's length
    assert hello[at] == 0
    body = hello[25:at] + b"\x10" + bytes(16) + hello[at + 1 :]
    size = len(body).to_bytes(3, "big")
    forged = hello[:11] + (len(body) + 12).to_bytes(2, "big") + b"\x01" + size + b"\0\x01\0\0\0" + size + body
    for _ in range(20):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", gateway.coaps_port))
            for number in range(100):
                sock.send((hello, forged, hello[:number], bytes(number))[number % 4])
    sent = gateway.coap("device7/t", *key("device7", SECRET), body="through it")
    assert sent.stderr == ""
    assert gateway.retained("device7/t") == "through it"
    assert gateway.metric('gateway_coap_dtls_total{what="begun"}') == begun + 1, "libcoap's own"
    assert gateway.metric('gateway_coap_dtls_total{what="asked"}') == asked + 20 * 50 + 1


def test_what_dtls_does_is_counted(gateway: Secured) -> None:
    before = gateway.metric('gateway_coap_dtls_total{what="opened"}')
    gateway.coap("device7/t", *key("device7", SECRET))
    assert gateway.metric('gateway_coap_dtls_total{what="opened"}') == before + 1
    # A late copy of a ClientHello may have begun one.
    wait_for(lambda: gateway.metric("gateway_coap_dtls_handshakes") == 0, what="the end of handshakes")


def test_a_key_has_the_rights_of_its_user(gateway: Secured) -> None:
    refused = gateway.coap("device7/other", *key("device8", OTHER), body="no")
    assert "4.03" in refused.stderr
    assert gateway.retained("device7/other") == ""


@pytest.mark.parametrize(
    ("name", "secret", "why"),
    [
        ("device7", OTHER, "DTLS: wrong key"),
        ("nobody", SECRET, "DTLS: unknown identity"),
    ],
)
def test_a_wrong_key_and_an_unknown_identity(gateway: Secured, name: str, secret: str, why: str) -> None:
    before = len(gateway.audited())
    refused = gateway.coap("device7/refused", *key(name, secret), body="no")
    assert UNSENT in refused.stdout
    wait_for(lambda: len(gateway.audited()) > before, what="an entry in the audit log")
    entry = gateway.audited()[-1]
    assert (entry["user"], entry["detail"]) == (name, why)
    assert gateway.retained("device7/refused") == ""


def test_another_key_counts_at_once(gateway: Secured) -> None:
    """Over one association: libcoap asks once a second."""
    gateway.user("device9", secret=SECRET)
    gateway.rule("own-device9", "user:device9", ["publish", "subscribe"], "topic:device9/#")
    gateway.coap("device9/t", *key("device9", SECRET), body="1")
    url = f"coaps://127.0.0.1:{gateway.coaps_port}/ps/device9/t"
    command = [coap_client(), "-m", "get", "-G", "200", "-w", "-B", "30", *key("device9", SECRET), url]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert client.stdout is not None
    try:
        with client.stdout:
            assert client.stdout.readline() == "1\n"
            gateway.user("device9", secret=OTHER)
            lines: list[str] = []
            while not any("4.01" in line for line in lines):
                lines.append(client.stdout.readline())
                assert lines[-1], lines
                assert len(lines) < 5, lines
    finally:
        client.kill()
        client.wait()
    assert gateway.coap("device9/t", *key("device9", OTHER)).stdout.strip() == "1"


def test_libcoap_with_a_certificate(gateway: Secured, pki: Pki) -> None:
    sent = gateway.coap("device8/t", *with_certificate(pki, "device8"), body="by certificate")
    assert sent.stderr == ""
    assert gateway.retained("device8/t") == "by certificate"
    assert "4.03" in gateway.coap("device7/t", *with_certificate(pki, "device8"), body="no").stderr


def test_libcoap_with_neither(gateway: Secured, pki: Pki) -> None:
    refused = gateway.coap("device7/t", "-C", str(pki.path("ca.pem")), "-n", body="no")
    assert "4.01" in refused.stderr


def test_the_gateway_is_who_it_says(gateway: Secured, tmp_path: Path) -> None:
    """libcoap checks our certificate: a client of another CA does not send anything."""
    other = Pki(tmp_path / "other", "another CA")
    refused = gateway.coap(
        "device7/stranger", "-C", str(other.path("ca.pem")), "-R", str(other.path("ca.pem"))
    )
    assert UNSENT in refused.stdout


def s_client(gateway: Secured, *options: str) -> subprocess.Popen[bytes]:
    where = ["-connect", f"127.0.0.1:{gateway.coaps_port}", "-quiet", "-ign_eof"]
    return subprocess.Popen(
        [executable("openssl"), "s_client", "-dtls1_2", *where, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("suite", ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"])
def test_openssl_with_a_key(gateway: Secured, suite: str) -> None:
    """A CoAP ping, by hand."""
    options = ("-psk", SECRET.encode().hex(), "-psk_identity", "device7", "-cipher", f"{suite}:@SECLEVEL=0")
    assert ping(s_client(gateway, *options)) == b"\x70\x00\x12\x34"


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-GCM-SHA256"])
def test_openssl_with_a_certificate(gateway: Secured, pki: Pki, suite: str) -> None:
    certificate, private = pki.client("device7")
    options = ("-cert", certificate, "-key", private, "-cipher", f"{suite}:@SECLEVEL=0")
    assert ping(s_client(gateway, *options)) == b"\x70\x00\x12\x34"


def ping(client: subprocess.Popen[bytes]) -> bytes:
    """Send a CoAP ping and return the answer."""
    assert client.stdin is not None
    assert client.stdout is not None
    try:
        with client.stdin, client.stdout:
            client.stdin.write(b"\x40\x00\x12\x34")
            client.stdin.flush()
            return os.read(client.stdout.fileno(), 100)
    finally:
        client.kill()
        client.wait()


def test_certificates_are_read_again(gateway: Secured, pki: Pki) -> None:
    certificate = pki.server()
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: any("certificates reloaded" in line for line in gateway.errors), what="the reload")
    shown = subprocess.run(
        [executable("openssl"), "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{gateway.coaps_port}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    pem = shown.stdout[shown.stdout.index("-----BEGIN") : shown.stdout.index("-----END")]
    assert x509.load_pem_x509_certificate((pem + "-----END CERTIFICATE-----\n").encode()) == certificate


def test_keys_alone_need_no_certificate(tmp_path: Path, pki: Pki) -> None:
    gateway = Secured(tmp_path, "")
    try:
        gateway.start()
        gateway.people()
        assert any("DTLS with pre-shared keys" in line for line in gateway.errors)
        assert gateway.coap("device7/t", *key("device7", SECRET), body="1").stderr == ""
        assert gateway.retained("device7/t") == "1"
        refused = gateway.coap("device7/t", *with_certificate(pki, "device7"), body="2")
        assert UNSENT in refused.stdout
        assert gateway.retained("device7/t") == "1"
    finally:
        status = gateway.stop()
    assert status == 0
    assert gateway.bugs() == []
