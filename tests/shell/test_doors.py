"""Which doors there are, and what may be said about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.api import Protocol, StreamProtocol
from gateway.config import ConfigError, load
from gateway.doors import address_of, check_doors, tls_doors
from tests.certificates import Pki


class Line(StreamProtocol):
    name = "line"


class Clone(StreamProtocol):
    name = "lines"


class Grpc:
    """A protocol with a server of its own."""

    name = "grpc"
    address = ""

    async def serve(self, address: Any, gateway: Any) -> None: ...

    async def stop(self) -> None: ...

    def connections(self) -> int:
        return 0


class Web(Grpc):
    name = "web"
    alpn = "http/1.1"


class Datagrams(StreamProtocol):
    """A protocol with a UDP socket beside each listener."""

    name = "data"

    async def listen_datagrams(self, address: Any, gateway: Any) -> None: ...

    async def stop(self) -> None: ...

    def connections(self) -> int:
        return 0


PROTOCOLS: Mapping[str, Protocol] = {"line": Line(), "grpc": Grpc(), "web": Web()}


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def faults(*sets: str, protocols: Mapping[str, Protocol] = PROTOCOLS) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_doors(load(None, sets, True, None), protocols)
    return caught.value.faults


def test_a_protocol_has_a_tls_door_if_the_gateway_opens_its_sockets() -> None:
    assert tls_doors(PROTOCOLS) == {"lines": "line", "webs": "web"}


def test_only_what_is_opened_needs_certificates(pki: Pki) -> None:
    assert check_doors(load(None, [], True, None), PROTOCOLS) == {}
    sets = [*pki.sets(), "listeners.webs=127.0.0.1:1", "listeners.line=127.0.0.1:2"]
    assert list(check_doors(load(None, sets, True, None), PROTOCOLS)) == ["webs"]


def test_a_door_with_dtls_needs_no_certificate_unless_it_has_no_datagrams() -> None:
    protocols: Mapping[str, Protocol] = {"data": Datagrams()}
    doors = check_doors(load(None, ["listeners.datas=127.0.0.1:1"], True, None), protocols)
    assert doors["datas"].bare
    (fault,) = faults("listeners.datas=unix:/tmp/none", protocols=protocols)
    assert fault.startswith("tls.certificate: missing, and listeners.datas needs one")


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = faults(
        "listeners.lines=127.0.0.1:1",
        "listeners.grpcs=127.0.0.1:1",
        'network.proxy_protocol=["lines", "grpc", "line"]',
        "tls.liness.key=x",
    )
    assert found == [
        "listeners.grpcs: unknown door; did you mean listeners.grpc?",
        "tls.liness: no TLS door has this name; did you mean tls.lines?",
        "network.proxy_protocol: 'lines': TLS begins before a PROXY header could; "
        "have the proxy end TLS, and name 'line'",
        "network.proxy_protocol: 'grpc': the 'grpc' door owns its sockets and cannot read PROXY headers",
        "tls.certificate: missing, and listeners.lines needs one; `gateway init --tls` makes one for a start",
    ]


def test_two_protocols_cannot_have_one_door() -> None:
    assert faults(protocols={"line": Line(), "lines": Clone()}) == [
        "listeners.lines: claimed by the protocol 'lines', and by 'line' for TLS; disable one"
    ]


def test_what_is_unsafe_without_tls_is_so_with_it(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[auth]\nanonymous = true\n[listeners]\nmqtts = '0.0.0.0:8883'\n")
    with pytest.raises(ConfigError, match=r"listeners\.mqtts: 0\.0\.0\.0:8883 is open to other machines"):
        load(file, [], False, None)
    with pytest.raises(ConfigError, match=r"listeners\.https: --dev lets anybody in"):
        load(None, ["listeners.https=0.0.0.0:8443"], True, None)


class Foreign(Web):
    """A protocol whose library has sockets and TLS of its own, and may not be there."""

    name = "foreign"
    address = "127.0.0.1:4711"
    tls_library = "libforeign"

    def __init__(self, missing: str = "") -> None:
        self._missing = missing

    def missing(self) -> str:
        return self._missing


def test_a_door_that_lacks_something_stays_closed_unless_it_is_asked_for() -> None:
    there, lacking = Foreign(), Foreign("libforeign is not installed")
    config = load(None, ["listeners.http="], True, None)
    assert str(address_of(config, "foreign", there)) == "127.0.0.1:4711"
    assert address_of(config, "foreign", lacking) is None
    assert not check_doors(config, {"foreign": lacking})
    for door in ("foreign", "foreigns"):
        found = faults(f"listeners.{door}=127.0.0.1:1", protocols={"foreign": lacking})
        assert found[0] == f"listeners.{door}: libforeign is not installed"


def test_a_librarys_tls_has_our_files_and_nothing_it_cannot_be_told(pki: Pki) -> None:
    protocols = {"foreign": Foreign()}
    listen = "listeners.foreigns=127.0.0.1:1"
    door = check_doors(load(None, [listen, *pki.sets("required")], True, None), protocols)["foreigns"]
    assert door.material.certificates == pki.path("server.pem").read_bytes()
    assert door.material.client_certificates == "required"
    wrong = ("tls.minimum_version='1.3'", "tls.ciphers=ECDHE+AESGCM")
    found = faults(listen, *pki.sets("optional"), *wrong, protocols=protocols)
    assert [fault.partition(": ")[0] for fault in found] == [
        "tls.ciphers",
        "tls.minimum_version",
        "tls.client_certificates",
    ]
    assert all("libforeign" in fault for fault in found)
