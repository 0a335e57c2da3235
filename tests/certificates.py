"""Certificates for tests: a CA, a server, and clients that are good, expired, or somebody else's."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gateway.cli.authority import Authority, Key, certificate_pem, key_pem, new_key

LONG_AGO = datetime.now(UTC) - timedelta(days=2000)  # what began then has ended
NAMES = ("localhost", "127.0.0.1", "::1")


class Pki:
    """A directory with a CA's files: `ca.pem`, `server.pem`, `server-key.pem` and clients'."""

    def __init__(self, directory: Path, name: str = "test CA") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.authority = Authority.create(name)
        self.path("ca.pem").write_bytes(certificate_pem(self.authority.certificate))
        self.server()

    def path(self, name: str) -> Path:
        return self.directory / name

    def server(self, name: str = "server", begins: datetime | None = None) -> x509.Certificate:
        """Write a server's certificate and key, over what is there."""
        key = new_key()
        certificate = self.authority.sign_server(key, NAMES, begins)
        self._write(name, certificate, key)
        return certificate

    def client(self, name: str, begins: datetime | None = None) -> tuple[str, str]:
        """Write a client's certificate and key; return their paths."""
        key = new_key()
        return self._write(name, self.authority.sign_client(key, name, begins), key)

    def _write(self, name: str, certificate: x509.Certificate, key: Key) -> tuple[str, str]:
        paths = self.path(f"{name}.pem"), self.path(f"{name}-key.pem")
        paths[0].write_bytes(certificate_pem(certificate))
        paths[1].write_bytes(key_pem(key))
        return str(paths[0]), str(paths[1])

    def sets(self, client_certificates: str = "") -> list[str]:
        """Return the settings for `--set`."""
        found = [f"tls.certificate={self.path('server.pem')}", f"tls.key={self.path('server-key.pem')}"]
        if client_certificates:
            found.append(f"tls.client_ca={self.path('ca.pem')}")
            found.append(f"tls.client_certificates={client_certificates}")
        return found

    def context(self, client: tuple[str, str] | None = None, alpn: str = "") -> ssl.SSLContext:
        """Return what a client connects with that trusts this CA, as strictly as Python 3.13 does."""
        context = ssl.create_default_context(cafile=str(self.path("ca.pem")))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        if client is not None:
            context.load_cert_chain(*client)
        if alpn:
            context.set_alpn_protocols([alpn])
        return context


def encrypted(key: Path) -> bytes:
    """Return a key as a file has it that needs a passphrase."""
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def serial(der: bytes | None) -> int:
    """Return what tells a certificate from another one of the same server."""
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
