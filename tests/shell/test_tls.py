"""Certificates: what is accepted, a fault line for everything else, and files that change."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway import tls
from gateway.config import ConfigError, load
from gateway.core.clock import Clock
from gateway.core.scheduler import Scheduler
from gateway.tls import PEM_BYTES_MAX, TlsDoors
from tests.certificates import LONG_AGO, Pki, encrypted

ALPN = {"mqtts": "mqtt"}


@pytest.fixture
def pki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pki:
    """A CA in the current directory, so that paths are short."""
    monkeypatch.chdir(tmp_path)
    found = Pki(Path())
    found.client("dev")
    return found


def doors(*sets: str, alpn: dict[str, str] = ALPN) -> TlsDoors:
    return TlsDoors(load(None, sets, True, None), alpn)


def faults(*sets: str, alpn: dict[str, str] = ALPN) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        doors(*sets, alpn=alpn)
    return caught.value.faults


def dtls_doors(*sets: str) -> TlsDoors:
    return TlsDoors(load(None, sets, True, None), {"coaps": "coap"}, ["coaps"])


# -- what a context is --------------------------------------------------------------------------


def test_a_door_has_what_it_is_told_to_have(pki: Pki) -> None:
    context = doors(*pki.sets())["mqtts"].context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    assert context.options & ssl.OP_NO_RENEGOTIATION
    context = doors(*pki.sets("required"), 'tls.minimum_version="1.3"')["mqtts"].context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.num_tickets == 0
    context = doors(*pki.sets("optional"), "tls.ciphers=ECDHE+AESGCM")["mqtts"].context
    assert context.verify_mode == ssl.CERT_OPTIONAL
    assert {cipher["protocol"] for cipher in context.get_ciphers()} == {"TLSv1.2", "TLSv1.3"}
    assert all("GCM" in cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2")


def test_a_door_with_dtls_shows_what_is_in_its_files(pki: Pki) -> None:
    door = dtls_doors(*pki.sets("required"), "tls.ciphers=ECDHE+AESGCM")["coaps"]
    assert door.material == (
        pki.path("server.pem").read_bytes(),
        pki.path("server-key.pem").read_bytes(),
        pki.path("ca.pem").read_bytes(),
        "required",
        "ECDHE+AESGCM",
    )
    assert not door.bare
    assert "PRIVATE" not in repr(door.material)
    before = door.material
    pki.server()
    door.renew()
    assert door.material != before
    before = door.material
    pki.path("server.pem").write_text("no certificate")
    with pytest.raises(ConfigError):
        door.renew()
    assert door.material is before


def test_a_door_without_dtls_keeps_no_key_in_memory(pki: Pki) -> None:
    assert doors(*pki.sets())["mqtts"].material == tls.TlsMaterial()


def test_a_door_with_dtls_may_have_keys_alone(pki: Pki) -> None:
    found = dtls_doors()
    assert found["coaps"].bare
    assert found["coaps"].material == tls.TlsMaterial()
    assert found.remarks() == [
        "coaps has no certificate: it is open for DTLS with pre-shared keys, not for TLS"
    ]


def test_there_is_no_dtls_1_3(pki: Pki) -> None:
    with pytest.raises(ConfigError) as caught:
        dtls_doors(*pki.sets(), 'tls.minimum_version="1.3"')
    assert caught.value.faults == [
        "tls.minimum_version: OpenSSL has no DTLS 1.3, and listeners.coaps speaks DTLS; "
        'say tls.coaps.minimum_version = "1.2"'
    ]
    assert dtls_doors(*pki.sets(), 'tls.minimum_version="1.3"', 'tls.coaps.minimum_version="1.2"')


def test_one_door_may_differ(pki: Pki) -> None:
    found = doors(
        *pki.sets("required"),
        "tls.https.client_certificates=none",
        alpn={"mqtts": "mqtt", "https": "http/1.1"},
    )
    assert found["mqtts"].context.verify_mode == ssl.CERT_REQUIRED
    assert found["https"].context.verify_mode == ssl.CERT_NONE


def test_certificate_and_key_may_be_in_one_file(pki: Pki) -> None:
    both = pki.path("server.pem").read_bytes() + pki.path("server-key.pem").read_bytes()
    pki.path("both.pem").write_bytes(both)
    assert doors("tls.certificate=both.pem")["mqtts"].remarks == []


def test_comments_in_a_ca_file_may_be_in_any_language(pki: Pki) -> None:
    text = "# Prüfstelle – 認証局\n".encode() + pki.path("ca.pem").read_bytes()
    pki.path("ca.pem").write_bytes(text)
    assert doors(*pki.sets("required"))["mqtts"].context.get_ca_certs()


def test_an_expired_certificate_is_a_remark(pki: Pki) -> None:
    ends = pki.server(begins=LONG_AGO).not_valid_after_utc
    [remark] = doors(*pki.sets()).remarks()
    assert remark == (
        f"the certificate in server.pem has expired on {ends:%Y-%m-%d %H:%M} UTC: clients will refuse it"
    )


def test_so_is_one_that_is_not_valid_yet(pki: Pki) -> None:
    pki.server(begins=pki.authority.certificate.not_valid_after_utc.replace(year=2030))
    [remark] = doors(*pki.sets()).remarks()
    assert remark.startswith("the certificate in server.pem is not valid before 2030-")


# -- faults ---------------------------------------------------------------------------------------

Spoil = Callable[[Pki], None]


def _write(name: str, data: bytes) -> Spoil:
    return lambda pki: pki.path(name).write_bytes(data) and None


def _copy(source: str, target: str) -> Spoil:
    return lambda pki: shutil.copy(pki.path(source), pki.path(target)) and None


def _encrypt(pki: Pki) -> None:
    pki.path("server-key.pem").write_bytes(encrypted(pki.path("server-key.pem")))


def _directory(pki: Pki) -> None:
    pki.path("server.pem").unlink()
    pki.path("server.pem").mkdir()


def _pipe(pki: Pki) -> None:
    pki.path("server-key.pem").unlink()
    os.mkfifo(pki.path("server-key.pem"))


def _nothing(pki: Pki) -> None:
    pass


SERVER = ("tls.certificate=server.pem", "tls.key=server-key.pem")
CLIENTS = (*SERVER, "tls.client_ca=ca.pem", "tls.client_certificates=required")

BAD: list[tuple[str, Spoil, tuple[str, ...], str]] = [
    (
        "no certificate",
        _nothing,
        (),
        "tls.certificate: missing, and listeners.mqtts needs one; `gateway init --tls` makes one for a start",
    ),
    (
        "no file",
        _nothing,
        ("tls.certificate=absent.pem",),
        "tls.certificate: absent.pem: cannot be read: No such file or directory",
    ),
    (
        "no key",
        _nothing,
        ("tls.certificate=server.pem", "tls.key=absent.pem"),
        "tls.key: absent.pem: cannot be read: No such file or directory",
    ),
    ("a directory", _directory, SERVER, "tls.certificate: server.pem: is not a file"),
    ("a pipe", _pipe, SERVER, "tls.key: server-key.pem: is not a file"),
    (
        "a huge file",
        _write("server.pem", b"x" * (PEM_BYTES_MAX + 1)),
        SERVER,
        "tls.certificate: server.pem: larger than 1048576 bytes",
    ),
    (
        "a NUL in the name",
        _nothing,
        ('tls.certificate="a\\u0000b"',),
        "tls.certificate: 'a\\x00b': embedded null byte",
    ),
    (
        "an empty certificate",
        _write("server.pem", b""),
        SERVER,
        "tls.certificate: server.pem: no certificate in PEM form",
    ),
    (
        "a key where the certificate should be",
        _copy("server-key.pem", "server.pem"),
        SERVER,
        "tls.certificate: server.pem: no certificate in PEM form",
    ),
    (
        "a certificate where the key should be",
        _copy("server.pem", "server-key.pem"),
        SERVER,
        "tls.key: server-key.pem: no private key in PEM form",
    ),
    (
        "another key",
        _copy("dev-key.pem", "server-key.pem"),
        SERVER,
        "tls.key: server-key.pem does not belong to the certificate in server.pem",
    ),
    (
        "an encrypted key",
        _encrypt,
        SERVER,
        "tls.key: server-key.pem: is encrypted, and nobody can type a passphrase at a restart; "
        "store it decrypted",
    ),
    (
        "a key of one door",
        _nothing,
        (*SERVER, "tls.mqtts.key=dev-key.pem"),
        "tls.mqtts.key: dev-key.pem does not belong to the certificate in server.pem",
    ),
    (
        "client certificates without a CA",
        _nothing,
        (*SERVER, "tls.client_certificates=optional"),
        "tls.client_ca: missing: listeners.mqtts asks for client certificates, and this says whose count",
    ),
    (
        "a CA without a word on client certificates",
        _nothing,
        (*SERVER, "tls.client_ca=ca.pem"),
        "tls.client_certificates: missing: with client_ca, say whether listeners.mqtts has client "
        "certificates required, optional or none",
    ),
    (
        "no CA file",
        _nothing,
        (*SERVER, "tls.client_ca=absent", "tls.client_certificates=required"),
        "tls.client_ca: absent: cannot be read: No such file or directory",
    ),
    (
        "garbage for a CA",
        _write("ca.pem", b"\xff\x00garbage"),
        CLIENTS,
        "tls.client_ca: ca.pem: no certificates in PEM form",
    ),
    (
        "a client where the CA should be",
        _copy("dev.pem", "ca.pem"),
        CLIENTS,
        "tls.client_ca: ca.pem: no certificate of a CA in it",
    ),
    (
        "unknown ciphers",
        _nothing,
        (*SERVER, "tls.ciphers=ROT13"),
        "tls.ciphers: 'ROT13' names no cipher that OpenSSL knows; see `openssl ciphers`",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "sets", "fault"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_a_fault_is_one_line_with_the_key(pki: Pki, spoil: Spoil, sets: tuple[str, ...], fault: str) -> None:
    spoil(pki)
    assert faults(*sets) == [fault]


def test_a_weak_key_is_a_fault_of_the_certificate(pki: Pki) -> None:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 1024)
    builder = pki.authority._builder("weak", key, None)  # type: ignore[arg-type]
    certificate = builder.sign(pki.authority.key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    pki.path("server.pem").write_bytes(certificate.public_bytes(pem))
    pki.path("server-key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    assert faults(*SERVER) == [
        "tls.certificate: server.pem: OpenSSL does not take it any more: ee key too small"
    ]


def test_all_faults_are_told_and_each_once(pki: Pki) -> None:
    sets = ("tls.client_ca=absent", "tls.client_certificates=required", "tls.ciphers=x")
    found = faults(*SERVER[:1], *sets, "tls.key=dev-key.pem", alpn={"mqtts": "mqtt", "amqps": "amqp"})
    assert [fault.partition(":")[0] for fault in found] == ["tls.key", "tls.client_ca", "tls.ciphers"]


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
def test_whatever_is_in_the_files_there_is_a_fault_and_no_traceback(pki: Pki, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["server.pem", "server-key.pem", "ca.pem"]))
    good = pki.path(name).read_bytes()
    try:
        if data.draw(st.booleans()):
            found = data.draw(st.binary(max_size=200))
        else:  # damaged: cut short, and some bytes are others
            damaged = bytearray(good[: data.draw(st.integers(0, len(good)))])
            for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
                damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
            found = bytes(damaged)
        pki.path(name).write_bytes(found)
        told: list[str] = []
        try:
            doors(*CLIENTS)
        except ConfigError as error:
            told = error.faults
        assert all(fault.startswith("tls.") and fault.isprintable() for fault in told)
    finally:
        pki.path(name).write_bytes(good)


# -- files that change --------------------------------------------------------------------------------


def test_a_change_is_seen_when_it_is_over(pki: Pki) -> None:
    door = doors(*pki.sets())["mqtts"]
    assert not door.changed()
    pki.server()
    assert not door.changed()  # it may go on
    assert door.changed()
    old = door.context
    door.renew()
    assert door.context is not old
    assert not door.changed()


def test_what_cannot_be_used_is_told_once_and_what_was_loaded_stays(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = doors(*pki.sets())
    old = found["mqtts"].context
    clock = Clock()
    scheduler = Scheduler(clock)
    found.watch(scheduler)

    def looks(count: int) -> list[dict[str, object]]:
        with capture_logs() as logs:
            for _ in range(count):
                clock.set(0, clock.monotonic_ms + tls.WATCH_MS)
                scheduler.run_due()
        return [dict(entry) for entry in logs]

    assert looks(3) == []
    key = pki.path("server-key.pem").read_bytes()
    pki.path("server-key.pem").write_bytes(b"broken")
    [entry] = looks(5)
    assert entry == {
        "event": "certificates not reloaded; those loaded before stay in use",
        "log_level": "error",
        "reason": "tls.key: server-key.pem: no private key in PEM form",
    }
    assert found["mqtts"].context is old
    pki.path("server-key.pem").unlink()
    assert len(looks(5)) == 1
    pki.path("server-key.pem").write_bytes(key)
    [entry] = looks(5)
    assert (entry["event"], entry["doors"]) == ("certificates reloaded", ["mqtts"])
    assert found["mqtts"].context is not old
    pki.server(begins=LONG_AGO)
    assert [entry["log_level"] for entry in looks(5)] == ["info", "warning"]


def test_without_tls_doors_nothing_is_watched() -> None:
    scheduler = Scheduler(Clock())
    doors(alpn={}).watch(scheduler)
    assert scheduler.next_due_ms() is None
