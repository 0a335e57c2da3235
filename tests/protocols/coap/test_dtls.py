"""DTLS for one socket: who gets in, what it costs to knock, and what the network may do meanwhile."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.api import AuthenticationFailed, TlsMaterial
from gateway.protocols.coap.datagrams import dtls as module
from gateway.protocols.coap.datagrams import dtls_context
from gateway.protocols.coap.datagrams.dtls_association import Address, drain
from gateway.protocols.coap.datagrams.dtls_records import read_records
from tests.certificates import LONG_AGO, Pki
from tests.peers import executable
from tests.protocols.coap.dtls_support import HOST, KEYS, PSK, Client, Fate, World

ECDSA = "ECDHE-ECDSA-AES128-CCM8"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class Worlds(Protocol):
    def __call__(self, material: TlsMaterial | None = None, idle_seconds: float = 600.0) -> World: ...


@pytest.fixture
def worlds() -> Iterator[Worlds]:
    """Makes worlds, and closes them."""
    made: list[World] = []

    def make(material: TlsMaterial | None = None, idle_seconds: float = 600.0) -> World:
        made.append(World(material, idle_seconds))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(worlds: Worlds) -> World:
    """Keys alone."""
    return worlds()


def material(pki: Pki, asked: str = "none", ciphers: str = "") -> TlsMaterial:
    return TlsMaterial(
        pki.path("server.pem").read_bytes(),
        pki.path("server-key.pem").read_bytes(),
        pki.path("ca.pem").read_bytes() if asked != "none" else b"",
        asked,
        ciphers,
    )


def connected(world: World, client: Client | None = None) -> Client:
    client = client or Client()
    world.run(client)
    assert client.done, client.error
    return client


def hello(client: Client) -> bytes:
    """What a client says first."""
    client.step()
    (data,) = client.out()
    return data


def with_cookie(world: World, client: Client) -> bytes:
    """What a client says when it has got its cookie."""
    world.dtls.receive(hello(client), client.address)
    answer, to = world.take_sent()[-1]
    assert to == client.address
    client.take(answer)
    (data,) = client.out()
    return data


# -- who gets in -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suite",
    [
        "PSK-AES128-CCM8",  # RFC 7252, 9.1.3.1
        "PSK-AES256-CCM8",
        "PSK-AES128-CCM",
        "PSK-AES128-GCM-SHA256",
        "PSK-AES256-GCM-SHA384",
        "PSK-CHACHA20-POLY1305",
        "PSK-AES128-CBC-SHA256",
        "ECDHE-PSK-CHACHA20-POLY1305",
        "ECDHE-PSK-AES128-CBC-SHA256",
    ],
)
def test_a_pre_shared_key_says_who_it_is(world: World, suite: str) -> None:
    client = connected(world, Client(ciphers=suite, identity=b"device8"))
    client.tls.send(b"hello")
    world.run(client)
    assert client.tls.get_cipher_name() == suite
    assert client.got == [b"re: hello"]
    association = world.association
    assert association.principal is not None
    assert (association.principal.name, association.principal.method) == ("device8", "psk")
    assert association.certificate is None
    assert (association.peer, association.identity) == (f"{HOST}:1000", b"device8")


@pytest.mark.parametrize(
    "suite",
    [
        ECDSA,  # RFC 7252, 9.1.3.3
        "ECDHE-ECDSA-AES128-CCM",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ],
)
def test_a_client_without_key_or_certificate_is_nobody(worlds: Worlds, pki: Pki, suite: str) -> None:
    world = worlds(material(pki))
    client = connected(world, Client(ciphers=suite, pki=pki))
    assert client.tls.get_cipher_name() == suite
    assert world.association.principal is None
    assert world.association.certificate is None


def test_a_key_goes_before_a_certificate(worlds: Worlds, pki: Pki) -> None:
    """Who offers both would not be known by the server's certificate."""
    world = worlds(material(pki))
    client = connected(world, Client(ciphers=f"{ECDSA}:{PSK}", pki=pki))
    assert client.tls.get_cipher_name() == PSK


@pytest.mark.parametrize(
    ("asked", "shown", "enters", "named"),
    [
        ("none", "device7", True, ""),
        ("optional", "", True, ""),
        ("optional", "device7", True, "device7"),
        ("optional", "stranger", False, ""),
        ("optional", "expired", False, ""),
        ("required", "", False, ""),
        ("required", "device7", True, "device7"),
        ("required", "stranger", False, ""),
    ],
)
def test_client_certificates(
    worlds: Worlds, pki: Pki, tmp_path: Path, asked: str, shown: str, enters: bool, named: str
) -> None:
    world = worlds(material(pki, asked))
    certificate = None
    if shown == "stranger":
        certificate = Pki(tmp_path / "other", "another CA").client("device7")
    elif shown == "expired":
        certificate = pki.client("expired", LONG_AGO)
    elif shown:
        certificate = pki.client(shown)
    client = Client(ciphers=ECDSA, pki=pki, certificate=certificate)
    world.run(client)
    assert (len(world.dtls.associations) == 1) is enters
    assert world.dtls.handshakes == 0, "who is refused is told at once"
    if not enters:
        assert client.error
        assert world.dtls.counts["failed"] == 1
        assert world.events == []
        return
    found = world.association.certificate
    assert (found.common_name if found is not None else "") == named
    assert world.association.principal is None, "whose a certificate is, authenticators say"


def signed(pki: Pki, name: str, key: Any, digest: hashes.HashAlgorithm) -> tuple[str, str]:
    """Write a client's certificate for any key, with any digest."""
    certificate = pki.authority._builder(name, key, None).sign(pki.authority.key, digest)
    pem = serialization.Encoding.PEM
    files = pki.path(f"{name}.pem"), pki.path(f"{name}-key.pem")
    files[0].write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return str(files[0]), str(files[1])


@pytest.mark.parametrize(
    ("key", "digest", "enters"),
    [
        (partial(rsa.generate_private_key, 65537, 2048), hashes.SHA256(), True),
        (partial(rsa.generate_private_key, 65537, 1024), hashes.SHA256(), False),
        (partial(ec.generate_private_key, ec.SECP256R1()), hashes.SHA256(), True),
        (ed25519.Ed25519PrivateKey.generate, hashes.SHA256(), True),
    ],
    ids=["RSA", "a short RSA key", "P-256", "Ed25519"],
)
def test_weak_certificates_are_refused(
    worlds: Worlds, pki: Pki, key: Callable[[], Any], digest: hashes.HashAlgorithm, enters: bool
) -> None:
    """OpenSSL's security level 0, which CCM_8 needs, would let them in."""
    world = worlds(material(pki, "required"))
    client = Client(ciphers=ECDSA, pki=pki, certificate=signed(pki, "any", key(), digest))
    world.run(client)
    assert bool(world.dtls.associations) is enters
    assert bool(client.error) is not enters


def test_sha_1_is_refused(worlds: Worlds, pki: Pki) -> None:
    """`cryptography` signs nothing with it any more; `openssl` does."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = signed(pki, "old", key, hashes.SHA256())
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    authority = pki.path("authority-key.pem")
    authority.write_bytes(pki.authority.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    by = ["-CA", str(pki.path("ca.pem")), "-CAkey", str(authority), "-set_serial", "7"]
    for digest, enters in (("-sha256", True), ("-sha1", False)):
        made = subprocess.run(
            [executable("openssl"), "x509", "-req", *by, digest, "-days", "1"],
            input=request.public_bytes(pem),
            capture_output=True,
            check=True,
            timeout=20,
        )
        Path(files[0]).write_bytes(made.stdout)
        world = worlds(material(pki, "required"))
        client = Client(ciphers=ECDSA, pki=pki, certificate=files)
        world.run(client)
        assert bool(world.dtls.associations) is enters
        assert bool(client.error) is not enters


def test_a_certificate_that_cannot_be_read_is_refused(
    worlds: Worlds, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(certificate: object) -> bool:
        raise ValueError("no such version")

    monkeypatch.setattr(dtls_context, "is_weak", unreadable)
    world = worlds(material(pki, "optional"))
    client = Client(ciphers=ECDSA, pki=pki, certificate=pki.client("device7"))
    world.run(client)
    assert client.error
    assert not world.dtls.associations


def test_keys_that_cannot_be_had_refuse_a_client(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is our mistake, and neither OpenSSL's nor the client's to deal with."""

    def broken(kind: str, identity: bytes) -> None:
        raise RuntimeError("the key store is broken")

    monkeypatch.setattr(world.gateway, "shared_key", broken)
    with capture_logs() as logs:
        world.run(Client())
    assert not world.dtls.associations
    assert [entry["event"] for entry in logs] == ["bug: no key for a handshake"]


def test_a_key_is_enough_where_certificates_are_required(worlds: Worlds, pki: Pki) -> None:
    world = worlds(material(pki, "required"))
    connected(world)
    assert world.association.principal is not None


def test_only_keys_without_a_certificate(world: World, pki: Pki) -> None:
    client = Client(ciphers=ECDSA, pki=pki)
    world.run(client)
    assert "handshake failure" in client.error
    assert len(world.dtls) == 0


def test_a_client_that_speaks_nothing_newer_than_dtls_1_0_is_refused(world: World) -> None:
    client = Client(ciphers="PSK-AES128-CBC-SHA", version=0xFEFF)
    world.run(client)
    assert client.error
    assert not world.dtls.associations


def failed(worlds: Worlds, client: Client) -> tuple[World, list[int]]:
    """Return the world after a handshake that nobody finished, and the sizes of what the server sent."""
    world = worlds()
    sizes: list[int] = []

    def watch(up: bool, data: bytes) -> list[bytes]:
        sizes.append(len(data))
        return [data]

    world.run(client, fate=watch)
    return world, sizes


def test_a_wrong_key_and_an_unknown_identity_look_the_same(worlds: Worlds) -> None:
    wrong, first = failed(worlds, Client(key=b"not the key at all"))
    unknown, second = failed(worlds, Client(identity=b"device9"))
    assert first == second
    for world, why in ((wrong, "wrong key"), (unknown, "unknown identity")):
        assert world.dtls.handshakes == 1, "a Finished that cannot be read is dropped; it may be forged"
        assert world.gateway.refused_logins == []
        world.later(10_000)
        assert world.dtls.handshakes == 0
        assert world.sent == []
        assert not world.dtls.associations
        ((credentials, reason),) = world.gateway.refused_logins
        assert reason == f"DTLS: {why}"
        assert (credentials.protocol, credentials.peer) == ("coap", f"{HOST}:1000")
        assert credentials.username == ("device7" if world is wrong else "device9")


def test_a_key_that_is_taken_away_counts_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connected(world)
    association = world.association
    world.dtls.confirm(association)
    monkeypatch.setitem(KEYS, b"device7", b"another key, now")
    with pytest.raises(AuthenticationFailed):
        world.dtls.confirm(association)
    assert association.open, "the answer goes out first"
    world.later(0)
    world.run(client)
    assert client.closed
    again = connected(world)
    monkeypatch.delitem(KEYS, b"device7")
    with pytest.raises(AuthenticationFailed):
        world.dtls.confirm(world.association)
    world.later(0)
    assert again.done
    assert not world.dtls.associations


def test_a_client_that_leaves_is_no_failed_login(world: World) -> None:
    client = Client()
    world.dtls.receive(with_cookie(world, client), client.address)
    assert world.dtls.handshakes == 1
    world.later(10_000)
    assert world.dtls.handshakes == 0
    assert world.dtls.counts["failed"] == 1
    assert world.gateway.refused_logins == []


# -- certificates change ---------------------------------------------------------------------------


def test_new_certificates_are_for_new_associations(worlds: Worlds, pki: Pki, tmp_path: Path) -> None:
    own = Pki(tmp_path / "own")
    world = worlds(material(own))
    before = connected(world, Client(1, ciphers=ECDSA, pki=own))
    world.dtls.receive(hello(Client(9)), (HOST, 9))  # the listener is there already
    certificate = own.server()
    world.gateway.tls = material(own)
    after = connected(world, Client(2, ciphers=ECDSA, pki=own))
    assert after.certificate_serial == certificate.serial_number != before.certificate_serial
    before.tls.send(b"still here")
    world.run(before)
    assert before.got == [b"re: still here"]
    world.gateway.tls = TlsMaterial(b"no certificate", b"no key")
    third = connected(world, Client(3, ciphers=ECDSA, pki=own))
    assert third.certificate_serial == certificate.serial_number, "what was loaded stays in use"


@pytest.mark.parametrize(
    "unusable",
    [TlsMaterial(b"nonsense", b"nonsense"), TlsMaterial(ciphers="NO-SUCH-SUITE")],
)
def test_what_openssl_does_not_take_opens_no_door(unusable: TlsMaterial) -> None:
    with pytest.raises(OSError, match=r"DTLS cannot use what \[tls\] says"):
        World(unusable)


def test_ciphers_are_as_configured(worlds: Worlds, pki: Pki) -> None:
    world = worlds(material(pki, ciphers="PSK-AES128-GCM-SHA256"))
    client = connected(world, Client(ciphers="PSK-AES128-CCM8:PSK-AES128-GCM-SHA256"))
    assert client.tls.get_cipher_name() == "PSK-AES128-GCM-SHA256"
    refused = Client(2, ciphers="PSK-AES128-CCM8")
    world.run(refused)
    assert refused.error


# -- knocking costs nothing ------------------------------------------------------------------------


def test_a_hello_without_a_cookie_leaves_nothing(world: World) -> None:
    for port in range(200):
        data = hello(Client(port))
        world.dtls.receive(data, (HOST, port))
        ((answer, to),) = world.take_sent()
        assert to == (HOST, port)
        assert len(answer) < len(data), "nobody is flooded by way of us"
    assert len(world.dtls) == 0
    assert world.dtls.counts == {"asked": 200}


def test_wrong_cookies_leave_nothing(world: World) -> None:
    """Another address', another ClientHello's, a guessed one, one that is too old."""
    client = Client()
    good = with_cookie(world, client)
    other = Client(2000)
    world.dtls.receive(good, other.address)
    at = good.index(b"\x10", 13 + 12 + 35)  # the length of the cookie
    for forged in (
        good[: at + 1] + bytes(16) + good[at + 17 :],
        good[:27] + bytes(32) + good[59:],
    ):
        for _ in range(100):
            world.dtls.receive(forged, client.address)
    assert len(world.dtls) == 0
    assert len(world.take_sent()) == 201
    world.later(120_000)
    world.dtls.receive(good, client.address)
    assert len(world.dtls) == 0
    assert world.dtls.counts["asked"] == 203
    assert "begun" not in world.dtls.counts


def test_a_cookie_lasts_over_the_change_of_its_window(world: World) -> None:
    client = Client()
    good = with_cookie(world, client)
    world.later(59_999)
    world.dtls.receive(good, client.address)
    assert world.dtls.handshakes == 1


def test_a_hello_that_comes_again_begins_no_second_handshake(world: World) -> None:
    client = Client()
    good = with_cookie(world, client)
    for _ in range(50):
        world.dtls.receive(good, client.address)
    assert world.dtls.handshakes == 1
    assert world.dtls.counts["begun"] == 1
    for data, _ in world.take_sent():
        client.take(data)
    world.run(client)
    assert client.done
    world.dtls.receive(good, client.address)
    assert world.dtls.counts["late"] == 1
    assert world.dtls.handshakes == 0


def test_one_host_has_a_part_of_the_handshakes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDSHAKES_MAX", 8)
    monkeypatch.setattr(module, "HANDSHAKES_PER_HOST_MAX", 5)
    for port in range(10):
        client = Client(port, host="2001:db8::1")
        world.dtls.receive(with_cookie(world, client), client.address)
    assert world.dtls.handshakes == 5
    neighbour = Client(1, host="2001:db8::2")
    world.dtls.receive(with_cookie(world, neighbour), neighbour.address)
    assert world.dtls.handshakes == 5, "a /64 is one host"
    for port in range(10):
        client = Client(port, host="192.0.2.7")
        world.dtls.receive(with_cookie(world, client), client.address)
    assert world.dtls.handshakes == 8
    assert world.dtls.counts["refused"] == 5 + 1 + 7
    again = Client(3, host="2001:db8::1")
    world.dtls.receive(with_cookie(world, again), again.address)
    assert world.dtls.handshakes == 8, "one address has one handshake: the last it began"
    assert world.dtls.counts["begun"] == 9
    world.later(10_000)
    assert world.dtls.handshakes == 0, "whoever takes too long makes room"
    connected(world, Client(99))


def test_a_full_gateway_lets_go_of_the_silent(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    world = worlds(idle_seconds=86_400)
    monkeypatch.setattr(world.gateway, "connections", lambda: len(world.dtls))
    world.gateway.config.limits.connections_max = 3
    silent = [connected(world, Client(port)) for port in range(2)]
    world.later(module.STALE_MS)
    awake = connected(world, Client(2))
    refused = Client(3)
    world.dtls.receive(with_cookie(world, refused), refused.address)
    assert world.dtls.counts["refused"] == 1
    world.later(1)
    late = Client(4)
    world.run(*silent, awake, late)
    assert late.done
    assert world.dtls.counts["displaced"] == 2
    assert [client.closed for client in (*silent, awake, late)] == [True, True, False, False]


# -- one address, another client -------------------------------------------------------------------


def test_another_handshake_takes_over_when_it_is_done(world: World) -> None:
    """RFC 6347, 4.2.8."""
    first = connected(world, Client(identity=b"device7"))
    old = world.association
    second = Client(identity=b"device8")
    world.dtls.receive(with_cookie(world, second), second.address)
    world.take_sent()
    assert world.association is old
    first.tls.send(b"meanwhile")
    world.run(first)
    assert first.got == [b"re: meanwhile"], "the old one works until the new one is there"
    third = connected(world, Client(identity=b"device8"))
    new = world.association
    assert new is not old
    assert new.principal is not None
    assert new.principal.name == "device8"
    assert [(what, one is old) for what, one in world.events] == [
        ("opened", True),
        ("closed", True),
        ("opened", False),
    ]
    assert not old.open
    assert not old.send(b"too late")
    first.tls.send(b"who are you")
    third.tls.send(b"hello")
    world.received_data.clear()
    for client in (first, third):
        for data in client.out():
            world.dtls.receive(data, client.address)
    assert world.received_data == [b"hello"]
    assert world.dtls.counts["unreadable"] == 1


def test_a_forged_hello_ends_nothing(world: World) -> None:
    first = connected(world)
    for port in range(20):
        world.dtls.receive(hello(Client(port)), first.address)
    forged = Client(key=b"not the right key!")  # and even with the right address
    world.run(forged)
    world.later(10_000)
    world.take_sent()
    first.tls.send(b"still here")
    world.run(first)
    assert first.got == [b"re: still here"]
    assert [what for what, _ in world.events] == ["opened"]


# -- the network -----------------------------------------------------------------------------------


def test_records_come_twice_late_and_broken(world: World) -> None:
    client = connected(world)
    sent = []
    for number in range(5):
        client.tls.send(b"%d" % number)
        sent += client.out()
    for number in (3, 0, 0, 4, 3, 1):
        world.dtls.receive(sent[number], client.address)
    assert world.received_data == [b"3", b"0", b"4", b"1"], "in the order of arrival, each once"
    assert world.dtls.counts["unreadable"] == 2
    for at in range(len(sent[2])):
        broken = bytearray(sent[2])
        broken[at] ^= 1
        world.dtls.receive(bytes(broken), client.address)
        world.dtls.receive(sent[2][:at], client.address)
    world.dtls.receive(sent[2], client.address)
    assert world.received_data[4:] == [b"2"]
    assert [what for what, _ in world.events] == ["opened"]


def test_records_may_share_a_datagram(world: World) -> None:
    client = connected(world)
    client.tls.send(b"a")
    client.tls.send(b"b")
    together = b"".join(client.out())
    assert len(read_records(together)) == 2
    world.dtls.receive(together + b"rubbish", client.address)
    assert world.received_data == [b"a", b"b"]


def test_records_of_nobody_are_dropped(world: World) -> None:
    client = connected(world)
    client.tls.send(b"a")
    (data,) = client.out()
    world.dtls.receive(data, (HOST, 1001))
    world.dtls.receive(b"\x40\x01\x00\x01", (HOST, 1001))
    world.dtls.receive(b"", (HOST, 1001))
    assert world.dtls.counts["unknown"] == 1
    assert world.dtls.counts["garbage"] == 2
    assert world.received_data == []
    assert world.sent == []


def test_what_fits_no_record_is_not_sent(world: World) -> None:
    connected(world)
    association = world.association
    world.take_sent()
    assert not association.send(bytes((1 << 14) + 1))
    assert not association.send(b"")
    assert association.send(bytes(1 << 14))
    assert len(world.take_sent()) == 1
    assert association.open


def losing(lost: int) -> Fate:
    """Lose the n-th datagram each way, and no other."""
    count = {True: 0, False: 0}

    def fate(up: bool, data: bytes) -> list[bytes]:
        count[up] += 1
        return [] if count[up] == lost else [data]

    return fate


def swapping(odd: int) -> Fate:
    """Deliver each second datagram each way before the one it follows, and each twice."""
    held: dict[bool, list[bytes]] = {True: [], False: []}
    count = {True: odd, False: odd}

    def fate(up: bool, data: bytes) -> list[bytes]:
        count[up] += 1
        if count[up] % 2:
            held[up] = [data]
            return []
        return [data, data, *held[up], *held[up]]

    return fate


def test_loss_duplication_and_reordering_of_handshakes(worlds: Worlds, pki: Pki) -> None:
    """All at once, as OpenSSL's timers make each wait some seconds. With certificates flights are long."""
    world = worlds(material(pki, "required"))
    certificate = pki.client("device7")
    fates: dict[Address, Fate] = {}
    clients: list[Client] = []
    for number in range(10):
        for client in (
            Client(number),
            Client(100 + number, ciphers=ECDSA, pki=pki, certificate=certificate),
        ):
            clients.append(client)
            fates[client.address] = losing(number + 1) if number < 8 else swapping(number)
    world.echo = False
    world.run_until(lambda: all(client.done for client in clients), *clients, fates=fates)
    assert len(world.dtls.associations) == len(clients)
    assert world.dtls.handshakes == 0
    for client in clients:
        client.tls.send(b"in")
    world.run(*clients)
    assert world.received_data.count(b"in") == len(clients)


def test_what_overtakes_the_end_of_the_handshake_waits_for_it(world: World) -> None:
    """A record that comes before the Finished it was sent after."""
    client = Client()
    world.dtls.receive(with_cookie(world, client), client.address)
    for data, _ in world.take_sent():
        client.take(data)
    (flight,) = client.out()
    records = read_records(flight)
    before, finished = flight[: records[-2].end], flight[records[-2].end :]
    world.dtls.receive(before, client.address)
    world.dtls.receive(finished, client.address)
    for data, _ in world.take_sent():
        client.take(data)
    assert client.done
    # Now the same again, with a record of data ahead: a new client's, which does not wait for our Finished.
    eager = Client(2)
    world.dtls.receive(with_cookie(world, eager), eager.address)
    for data, _ in world.take_sent():
        eager.take(data)
    (flight,) = eager.out()
    records = read_records(flight)
    world.dtls.receive(flight[records[-2].end :], eager.address)
    assert eager.address not in world.dtls.associations
    world.dtls.receive(flight[: records[-2].end], eager.address)
    assert world.dtls.associations[eager.address].open, "the Finished was kept until it could be read"


# -- goodbye ---------------------------------------------------------------------------------------


def test_the_client_says_goodbye(world: World) -> None:
    client = connected(world)
    client.tls.shutdown()
    world.run(client)
    assert client.closed, "it is answered"
    assert not world.dtls.associations
    assert [what for what, _ in world.events] == ["opened", "closed"]
    assert world.dtls.counts["closed"] == 1


def test_the_gateway_says_goodbye(world: World) -> None:
    client = connected(world)
    association = world.association
    association.close()
    association.close()
    assert not association.send(b"x")
    world.run(client)
    assert client.closed
    assert [what for what, _ in world.events] == ["opened", "closed"]


def test_a_user_may_close_while_it_receives(world: World) -> None:
    client = connected(world)
    world.echo = False
    closing = world.association
    world.on_received = closing.close
    client.tls.send(b"a")
    client.tls.send(b"b")
    world.dtls.receive(b"".join(client.out()), client.address)
    assert world.received_data == [b"a"]
    assert not closing.open


def test_silence_ends_an_association(worlds: Worlds) -> None:
    world = worlds(idle_seconds=60)
    client = connected(world)
    world.later(50_000)
    client.tls.send(b"here")
    world.run(client)
    world.later(59_999)
    assert world.association.open
    world.later(1)
    world.run(client)
    assert client.closed
    assert world.dtls.counts["idle"] == 1
    assert len(world.dtls) == 0
    assert world.gateway.scheduler.next_due_ms() is None or not world.dtls.associations


def test_closing_the_socket_ends_all(world: World) -> None:
    clients = [connected(world, Client(port)) for port in range(3)]
    coming = Client(9)
    world.dtls.receive(with_cookie(world, coming), coming.address)
    world.dtls.close()
    world.run(*clients)
    assert all(client.closed for client in clients)
    assert len(world.dtls) == 0


# -- whatever comes --------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_noise_neither_raises_nor_ends_an_association(data: st.DataObject) -> None:
    """Anything from the right address, at any time of the handshake and after it."""
    world = World()
    try:
        make_noise(world, data)
    finally:
        world.close()


def make_noise(world: World, data: st.DataObject) -> None:
    client = Client()
    stream: list[bytes] = []
    steps = data.draw(st.integers(0, 4))
    for _ in range(steps):
        client.step()
        for one in client.out():
            stream.append(one)
            world.dtls.receive(one, client.address)
        for answer, _to in world.take_sent():
            client.take(answer)
    was_open = bool(world.dtls.associations)
    for _ in range(data.draw(st.integers(1, 6))):
        base = data.draw(st.sampled_from([*stream, b""]))
        noise = bytearray(base or data.draw(st.binary(max_size=64)))
        for at, value in data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6)):
            if at < len(noise):
                noise[at] = value
        world.dtls.receive(bytes(noise), client.address)
    world.take_sent()
    assert len(world.dtls) <= 2
    if was_open:
        world.received_data.clear()
        client.tls.send(b"still here")
        for one in drain_records(client):
            world.dtls.receive(one, client.address)
        assert world.received_data == [b"still here"]


def drain_records(client: Client) -> list[bytes]:
    """What it sends now, its timers aside."""
    return [drain(client.tls)]
