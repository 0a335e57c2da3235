"""A certificate authority of one's own: for development, and for small fleets.

What it signs passes the strict checks of Python 3.13 and OpenSSL: key identifiers, a key usage
for each kind, nothing critical missing. A server's certificate is none for a client, and the
other way round, so neither can pass for the other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey

CA_DAYS = 3650
LEAF_DAYS = 825  # Apple's systems refuse server certificates that are valid for longer
CLOCK_SKEW = timedelta(hours=1)  # a device whose clock is a little slow can connect at once
NAME_CHARS_MAX = 64  # of a common name (RFC 5280, A.1)


class Authority:
    """A key, and what it signs."""

    def __init__(self, certificate: x509.Certificate, key: Key) -> None:
        self.certificate = certificate
        self.key = key

    @classmethod
    def create(cls, name: str) -> Authority:
        """Make a new one."""
        key = new_key()
        subject = _name(name)
        begins = datetime.now(UTC) - CLOCK_SKEW
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Authority:
        """Read one. Raise OSError, or ValueError if the files are something else."""
        return cls(x509.load_pem_x509_certificate(certificate.read_bytes()), load_key(key))

    def sign_server(self, key: Key, names: Iterable[str], begins: datetime | None = None) -> x509.Certificate:
        """Return a certificate for a server with these host names and IP addresses."""
        names = list(names)
        alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = self._builder(names[0][:NAME_CHARS_MAX], key, begins)
        builder = builder.add_extension(alternative, critical=False)
        return self._sign(builder, ExtendedKeyUsageOID.SERVER_AUTH)

    def sign_client(self, key: Key, name: str, begins: datetime | None = None) -> x509.Certificate:
        """Return a certificate for a client. Raise ValueError if it cannot have this name."""
        return self._sign(self._builder(name, key, begins), ExtendedKeyUsageOID.CLIENT_AUTH)

    def _builder(self, name: str, key: Key, begins: datetime | None) -> x509.CertificateBuilder:
        begins = begins or datetime.now(UTC) - CLOCK_SKEW
        ends = min(begins + timedelta(days=LEAF_DAYS), self.certificate.not_valid_after_utc)
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(own, critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> x509.Certificate:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def new_key() -> Key:
    """Return a new key. P-256: what every client knows, and the fastest to sign with."""
    return ec.generate_private_key(ec.SECP256R1())


def load_key(path: Path) -> Key:
    """Read a key. Raise OSError, or ValueError if it is none of ours."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (TypeError, ValueError) as error:  # TypeError: it is encrypted
        raise ValueError(f"{path}: no private key in PEM form, or encrypted") from error
    if not isinstance(key, Key):
        raise ValueError(f"{path}: not a key on an elliptic curve, as this command makes them")
    return key


def key_pem(key: Key) -> bytes:
    """Return a key as a file has it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as a file has it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def host_names(certificate: x509.Certificate) -> list[str]:
    """Return the names that a server's certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value if isinstance(name, x509.DNSName | x509.IPAddress)]


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)  # ValueError if it is not ASCII


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
