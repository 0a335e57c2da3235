"""DTLS without sockets: a server's `Dtls`, clients of pyOpenSSL, and the network between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from OpenSSL import SSL

from gateway.api import Authenticator, Principal, SharedKey, TlsMaterial
from gateway.protocols.coap.datagrams.dtls import Dtls
from gateway.protocols.coap.datagrams.dtls_association import Address, Association, drain
from gateway.protocols.coap.datagrams.dtls_context import ffi, lib
from gateway.protocols.coap.datagrams.dtls_records import datagrams
from gateway.testing import TestGateway
from tests.certificates import Pki

KEYS = {b"device7": b"0123456789abcdef", b"device8": b"fedcba9876543210-and-longer"}
PSK = "PSK-AES128-CCM8"
HOST = "192.0.2.1"
Fate = Callable[[bool, bytes], list[bytes]]  # of a datagram, to the server or from it: what arrives now


class Keys(Authenticator):
    """Knows KEYS."""

    def shared_key(self, kind: str, identity: bytes) -> SharedKey | None:
        key = KEYS.get(identity) if kind == "psk" else None
        return None if key is None else SharedKey(key, Principal(identity.decode(), method="psk"))


class Client:
    """One device. `lost` decides what becomes of each datagram either way."""

    def __init__(
        self,
        port: int = 1000,
        identity: bytes = b"device7",
        key: bytes | None = None,
        ciphers: str = PSK,
        pki: Pki | None = None,
        certificate: tuple[str, str] | None = None,
        host: str = HOST,
        version: int = 0,
    ) -> None:
        self.address: Address = (host, port)
        self.got: list[bytes] = []
        self.error = ""
        self.done = False
        self.closed = False
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        context.set_max_proto_version(version)
        context.set_cipher_list(f"{ciphers}:@SECLEVEL=0".encode())
        if pki is not None:
            context.load_verify_locations(str(pki.path("ca.pem")))
            context.set_verify(SSL.VERIFY_PEER, lambda *about: bool(about[-1]))
        if certificate is not None:
            context.use_certificate_file(certificate[0])
            context.use_privatekey_file(certificate[1])
        secret = KEYS.get(identity, b"?" * 16) if key is None else key

        def psk(ssl: Any, hint: Any, name: Any, name_bytes: int, room: Any, room_bytes: int) -> int:
            ffi.memmove(name, identity + b"\0", len(identity) + 1)
            ffi.memmove(room, secret, len(secret))
            return len(secret)

        self._psk = ffi.callback(
            "unsigned int(SSL *, const char *, char *, unsigned int, unsigned char *, unsigned int)", psk
        )
        lib.SSL_CTX_set_psk_client_callback(context._context, self._psk)  # type: ignore[attr-defined]
        self.tls = SSL.Connection(context, None)
        self.tls.set_ciphertext_mtu(400)  # so that flights are more than one datagram
        self.tls.set_connect_state()

    def step(self) -> None:
        """Do what can be done with what has come."""
        lib.ERR_clear_error()
        try:
            if not self.done:
                self.tls.do_handshake()
                self.done = True
            while True:
                self.got.append(self.tls.recv(1 << 14))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.closed = True
        except SSL.Error as error:
            self.error = str(error)

    def out(self) -> list[bytes]:
        """What it sends now."""
        if self.tls.DTLSv1_get_timeout() == 0:
            self.tls.DTLSv1_handle_timeout()
        return datagrams(drain(self.tls), 400)

    def take(self, data: bytes) -> None:
        self.tls.bio_write(data)
        self.step()

    @property
    def certificate_serial(self) -> int:
        """Of the server's certificate."""
        found = self.tls.get_peer_certificate(as_cryptography=True)
        assert found is not None
        return found.serial_number


class World:
    """A server and its network. Datagrams of the server wait in `sent`."""

    def __init__(self, material: TlsMaterial | None = None, idle_seconds: float = 600.0) -> None:
        self.gateway = TestGateway(authenticators=(Keys(),))
        self.gateway.config = SimpleNamespace(
            limits=SimpleNamespace(handshake_seconds_max=10.0, connections_max=100)
        )
        self.gateway.tls = material or TlsMaterial()
        self.sent: list[tuple[bytes, Address]] = []
        self.events: list[tuple[str, Association]] = []
        self.received_data: list[bytes] = []
        self.echo = True
        self.on_received: Callable[[], None] | None = None
        try:
            self.dtls = Dtls(self.gateway, "coaps", self, idle_seconds)
        except OSError:
            self.gateway.close()
            raise

    def close(self) -> None:
        """End everything, and see that nothing is left."""
        self.dtls.close()
        self.gateway.close()
        assert self.dtls.handshakes == len(self.dtls) == 0
        opened = [id(one) for what, one in self.events if what == "opened"]
        closed = [id(one) for what, one in self.events if what == "closed"]
        assert len(opened) == len(closed) == len(set(closed)), "each is closed once"
        assert set(opened) == set(closed)

    # -- what is behind Dtls

    def send(self, data: bytes, address: Address) -> None:
        self.sent.append((data, address))

    def opened(self, association: Association) -> None:
        self.events.append(("opened", association))

    def received(self, association: Association, data: bytes) -> None:
        self.received_data.append(data)
        if self.on_received is not None:
            self.on_received()
        if self.echo:
            association.send(b"re: " + data)

    def closed(self, association: Association) -> None:
        self.events.append(("closed", association))

    # -- the network

    def take_sent(self) -> list[tuple[bytes, Address]]:
        sent, self.sent = self.sent, []
        return sent

    def run(
        self, *clients: Client, fate: Fate | None = None, fates: dict[Address, Fate] | None = None
    ) -> None:
        """Carry datagrams until nobody has any. `fate` says what becomes of each."""
        by_address = {client.address: client for client in clients}
        for client in clients:
            client.step()
        moved = True
        while moved:
            ways: list[tuple[Client, bytes, bool]] = []
            for client in clients:
                ways += [(client, data, True) for data in client.out()]
            ways += [(by_address[to], data, False) for data, to in self.take_sent() if to in by_address]
            moved = bool(ways)
            for client, data, up in ways:
                decide = fates[client.address] if fates is not None else fate
                for arriving in [data] if decide is None else decide(up, data):
                    if up:
                        self.dtls.receive(arriving, client.address)
                    else:
                        client.take(arriving)

    def run_until(
        self, until: Callable[[], bool], *clients: Client, fates: dict[Address, Fate] | None = None
    ) -> None:
        """As `run`, in real time: OpenSSL's retransmission goes by no other clock."""
        deadline = time.monotonic() + 20
        last = time.monotonic()
        while not until():
            assert time.monotonic() < deadline, "time is up"
            self.run(*clients, fates=fates)
            time.sleep(0.005)
            now = time.monotonic()
            self.later(int((now - last) * 1000))
            last += int((now - last) * 1000) / 1000

    def later(self, milliseconds: int) -> None:
        """Let time pass for the gateway, though not for OpenSSL."""
        self.gateway.clock.monotonic_ms += milliseconds
        self.gateway.scheduler.run_due()

    @property
    def association(self) -> Association:
        """The only one."""
        (found,) = self.dtls.associations.values()
        return found
