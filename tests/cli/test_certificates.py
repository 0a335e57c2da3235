"""`gateway init --tls` and `gateway certificates`: files that curl, openssl and Python accept."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gateway.cli.authority import LEAF_DAYS, Authority, host_names
from tests.certificates import Pki, encrypted
from tests.cli.test_commands import run
from tests.peers import executable


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory after `gateway init --tls` and `gateway certificates client`."""
    directory = tmp_path_factory.mktemp("init")
    done = run("init", "--tls", "--password-stdin", stdin="secret\n", cwd=directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tls/ca.pem" in done.stdout
    done = run("certificates", "client", "device-7", cwd=directory)
    assert done.stdout.startswith("wrote tls/device-7.pem and tls/device-7-key.pem\nvalid until ")
    return directory


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_keys_are_for_their_owner_only(made: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (made / "tls").iterdir()}
    assert modes == {
        "ca.pem": 0o644,
        "ca-key.pem": 0o600,
        "server.pem": 0o644,
        "server-key.pem": 0o600,
        "device-7.pem": 0o644,
        "device-7-key.pem": 0o600,
    }


def test_the_configuration_is_accepted(made: Path) -> None:
    done = run("check", cwd=made)
    assert (done.returncode, done.stdout, done.stderr) == (0, "gateway.toml: ok\n", "")
    text = (made / "gateway.toml").read_text().replace("# client_c", "client_c")
    (made / "clients.toml").write_text(text)
    assert run("check", "--config", "clients.toml", cwd=made).returncode == 0


def test_check_looks_into_the_files(made: Path) -> None:
    text = (made / "gateway.toml").read_text().replace("server-key", "ca-key")
    (made / "wrong.toml").write_text(text)
    done = run("check", "--config", "wrong.toml", "--json", cwd=made)
    assert done.returncode == 2
    fault = "wrong.toml: tls.key: tls/ca-key.pem does not belong to the certificate in tls/server.pem"
    assert json.loads(done.stdout) == {"ok": False, "faults": [fault]}


def test_openssl_verifies_them(made: Path) -> None:
    verify = [executable("openssl"), "verify", "-CAfile", "tls/ca.pem"]
    for purpose, name in (("sslserver", "server"), ("sslclient", "device-7")):
        command = [*verify, "-x509_strict", "-purpose", purpose, f"tls/{name}.pem"]
        subprocess.run(command, cwd=made, check=True, capture_output=True)
    wrong = [*verify, "-purpose", "sslserver", "tls/device-7.pem"]
    assert subprocess.run(wrong, cwd=made, capture_output=True, check=False).returncode


def test_the_server_is_this_machine_for_not_too_long(made: Path) -> None:
    certificate = load(made / "tls" / "server.pem")
    assert host_names(certificate)[:3] == ["localhost", "127.0.0.1", "::1"]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=LEAF_DAYS)
    assert certificate.not_valid_before_utc < datetime.now(UTC)


def test_nothing_is_overwritten(made: Path) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*.*") if path.is_file()}
    done = run("init", "--tls", cwd=made)
    assert (done.returncode, done.stderr) == (
        2,
        "gateway init: gateway.toml exists; remove it or name another file\n",
    )
    done = run("init", "other.toml", "--tls", cwd=made)
    assert (done.returncode, done.stderr) == (
        2,
        "gateway init: tls/ca.pem exists; remove it, or name another directory\n",
    )
    assert not (made / "other.toml").exists()
    for name in ("device-7", "ca", "server"):
        done = run("certificates", "client", name, cwd=made)
        assert done.returncode == 2
        assert f"tls/{name}.pem exists" in done.stderr
    assert all(path.read_bytes() == data for path, data in before.items())


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "a b", "x" * 65, "é"])
def test_names_that_no_client_can_have(made: Path, name: str) -> None:
    done = run("certificates", "client", "--", name, cwd=made)
    assert done.returncode == 2
    assert "letters, digits" in done.stderr


def test_without_a_ca_it_says_what_to_do(tmp_path: Path) -> None:
    for command in (["client", "x"], ["renew"]):
        done = run("certificates", *command, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"gateway certificates {command[0]}: tls/ca.pem: No such file")
        assert "`gateway init --tls` makes a CA" in done.stderr


def test_renewing_keeps_key_and_names_and_may_add_some(tmp_path: Path) -> None:
    assert run("init", "conf.toml", "--tls", cwd=tmp_path).returncode == 0
    old, key = load(tmp_path / "tls/server.pem"), (tmp_path / "tls/server-key.pem").read_bytes()
    more = ["--name", "broker.example", "--name", "192.0.2.7"]
    done = run("certificates", "renew", *more, "--tls-dir", str(tmp_path / "tls"))
    assert done.returncode == 0, done.stderr
    new = load(tmp_path / "tls/server.pem")
    assert host_names(new) == [*host_names(old), "broker.example", "192.0.2.7"]
    assert new.serial_number != old.serial_number
    assert (tmp_path / "tls/server-key.pem").read_bytes() == key
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {
        "ca.pem", "ca-key.pem", "server.pem", "server-key.pem",
    }  # fmt: skip
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
        tmp_path / "tls/server.pem", tmp_path / "tls/server-key.pem"
    )


@pytest.mark.parametrize("name", ["a b", "/", ""])
def test_names_that_no_host_can_have(made: Path, name: str) -> None:
    done = run("certificates", "renew", "--name", name, cwd=made)
    assert done.returncode == 2
    assert "neither a host name nor an IP address" in done.stderr


@pytest.mark.parametrize("spoilt", [b"", b"garbage", "encrypted"])
def test_files_that_are_something_else_are_told(tmp_path: Path, spoilt: bytes | str) -> None:
    pki = Pki(tmp_path)
    key = tmp_path / "ca-key.pem"
    key.write_bytes(spoilt if isinstance(spoilt, bytes) else encrypted(tmp_path / "server-key.pem"))
    done = run("certificates", "client", "x", "--tls-dir", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no private key" in done.stderr
    key.write_bytes(pki.path("server-key.pem").read_bytes())
    pki.path("ca.pem").write_bytes(b"garbage")
    done = run("certificates", "client", "x", "--tls-dir", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_certificate_ends_with_its_ca() -> None:
    authority = Authority.create("short")
    ends = authority.certificate.not_valid_after_utc
    from gateway.cli.authority import new_key

    late = authority.sign_client(new_key(), "x", ends - timedelta(days=1))
    assert late.not_valid_after_utc == ends
