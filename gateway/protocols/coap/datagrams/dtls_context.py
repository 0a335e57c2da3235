"""DTLS 1.2 as a door speaks it (RFC 7252, 9.1): suites, keys, certificates and cookies, in OpenSSL's terms.

pyOpenSSL does most of it; pre-shared keys, signature algorithms and curves it leaves to the binding of
`cryptography`. This module, and who imports it, is imported where there is a `coaps` door alone: OpenSSL
takes some megabytes.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from gateway.api import TlsMaterial

from .dtls_records import DATAGRAM_BYTES_MAX

log = structlog.get_logger("gateway")

lib: Final[Any] = Binding.lib
ffi: Final[Any] = Binding.ffi

#: Keys first: a client that has one says by it who it is. Then the best; RFC 7252, 9.1.3 demands the CCM_8.
SUITES: Final = ":".join((
    "ECDHE-PSK-CHACHA20-POLY1305",
    "PSK-AES128-GCM-SHA256",
    "PSK-CHACHA20-POLY1305",
    "PSK-AES256-GCM-SHA384",
    "PSK-AES128-CCM",
    "PSK-AES256-CCM",
    "PSK-AES128-CCM8",
    "PSK-AES256-CCM8",
    "ECDHE-PSK-AES128-CBC-SHA256",
    "PSK-AES128-CBC-SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES256-GCM-SHA384",
))  # fmt: skip
#: OpenSSL has CCM_8, whose tag is 64 bits, at level 0 only. What else that level lets in is ruled out
#: below: signatures and curves by lists, a client's certificate by `is_weak`.
LEVEL: Final = ":!aNULL:!eNULL:@SECLEVEL=0"
SIGNATURES: Final = (
    "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512:ed25519:"
    "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"
    "rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512"
)
CURVES: Final = "X25519:P-256:P-384:P-521"
DTLS_1_2: Final = 0xFEFD
RSA_BITS_MIN: Final = 2048  # NIST SP 800-57: 112 bits, what OpenSSL's level 2 asks for
CURVE_BITS_MIN: Final = 224
DIGEST_BYTES_MIN: Final = 28  # of SHA-224
COOKIE_WINDOW_MS: Final = 60_000  # a cookie is good for one to two: the slowest link answers in that time
COOKIE_BYTES: Final = 16  # 128 bits are not guessed in two minutes
FAKE_KEY_BYTES: Final = 16
CERTIFICATE_DEPTH_MAX: Final = 5  # longer chains are a way to have a server work

ASKED: Final = {
    "none": SSL.VERIFY_NONE,
    "optional": SSL.VERIFY_PEER,
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}


class Unusable(Exception):
    """Certificates or suites that OpenSSL does not take; its words."""


class Cookies:
    """Makes and checks what a client must send back to show that it is where it says (RFC 6347, 4.2.1).

    Nothing is kept of a client: a cookie is a keyed hash of `about`, its address and its ClientHello, and
    of the time.
    """

    __slots__ = ("_now_ms", "_secret", "about")

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms  # monotonic
        self._secret = secrets.token_bytes(32)
        self.about = b""

    def make(self, connection: object) -> bytes:
        """Return the cookie of `about` for now."""
        return self._cookie(self._now_ms() // COOKIE_WINDOW_MS)

    def check(self, connection: object, cookie: bytes) -> bool:
        """Tell whether a cookie is that of `about`, made not long ago."""
        window = self._now_ms() // COOKIE_WINDOW_MS
        return any(hmac.compare_digest(cookie, self._cookie(one)) for one in (window, window - 1))

    def _cookie(self, window: int) -> bytes:
        about = window.to_bytes(8, "big", signed=True) + self.about
        return blake2b(about, digest_size=COOKIE_BYTES, key=self._secret).digest()


class DtlsContext:
    """What associations that begin now are made with. `key_of` is asked for the key of an identity."""

    __slots__ = ("_fake_secret", "_psk", "context", "key_of")

    def __init__(self, material: TlsMaterial, cookies: Cookies) -> None:
        """Raise Unusable."""
        self.key_of: Callable[[bytes], bytes | None] = _nobody
        self._fake_secret = secrets.token_bytes(32)
        self._psk = ffi.callback(
            "unsigned int(SSL *, const char *, unsigned char *, unsigned int)", self._find_key
        )
        context = self.context = SSL.Context(SSL.DTLS_SERVER_METHOD)
        context.set_min_proto_version(DTLS_1_2)
        context.set_max_proto_version(DTLS_1_2)
        # No sessions: what resumes one is not asked for a key or a certificate, which may be gone by then.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(
            SSL.OP_NO_TICKET
            | SSL.OP_NO_QUERY_MTU
            | SSL.OP_NO_COMPRESSION
            | SSL.OP_CIPHER_SERVER_PREFERENCE
            | lib.SSL_OP_NO_RENEGOTIATION
        )
        context.set_mode(lib.SSL_MODE_RELEASE_BUFFERS)  # 50 KB less for an idle association
        context.set_cookie_generate_callback(cookies.make)
        context.set_cookie_verify_callback(cookies.check)
        lib.SSL_CTX_set_psk_server_callback(_raw(context), self._psk)
        try:
            _set_suites(context, material.ciphers)
            if material.certificates:
                _load_certificate(context, material)
            _ask_for_certificates(context, material)
        except (SSL.Error, ValueError, UnsupportedAlgorithm) as error:
            raise Unusable(words(error)) from error

    def connection(self) -> SSL.Connection:
        """Return a server's side of an association, without a socket."""
        made = SSL.Connection(self.context, None)
        made.set_ciphertext_mtu(DATAGRAM_BYTES_MAX)
        return made

    def _find_key(self, ssl: Any, identity: Any, room: Any, room_bytes: int) -> int:
        """OpenSSL asks for a key: write it to `room` and return its length.

        An identity nobody has gets a key nobody has (RFC 4279, 2): its handshake ends as with a wrong key.
        """
        name: bytes = ffi.string(identity)
        try:
            key = self.key_of(name)
        except Exception:  # it must not go through OpenSSL
            log.exception("bug: no key for a handshake")
            key = None
        if key is None or not 0 < len(key) <= room_bytes:
            key = blake2b(name, digest_size=FAKE_KEY_BYTES, key=self._fake_secret).digest()
        ffi.memmove(room, key, len(key))
        return len(key)


def _nobody(identity: bytes) -> bytes | None:
    return None


def _raw(context: SSL.Context) -> Any:
    """Return OpenSSL's own context, which pyOpenSSL has no public name for."""
    raw: Any = context
    return raw._context


def _set_suites(context: SSL.Context, ciphers: str) -> None:
    context.set_cipher_list(((ciphers or SUITES) + ("" if "@SECLEVEL" in ciphers else LEVEL)).encode())
    raw = _raw(context)
    lists = (
        lib.SSL_CTX_set1_sigalgs_list(raw, SIGNATURES.encode()),
        lib.SSL_CTX_set1_curves_list(raw, CURVES.encode()),
    )
    assert lists == (1, 1), "OpenSSL has had all of these since 1.1.1"


def _load_certificate(context: SSL.Context, material: TlsMaterial) -> None:
    chain = x509.load_pem_x509_certificates(material.certificates)
    context.use_certificate(chain[0])
    for certificate in chain[1:]:
        context.add_extra_chain_cert(certificate)
    key: Any = load_pem_private_key(material.key, None)
    context.use_privatekey(key)
    context.check_privatekey()


def _ask_for_certificates(context: SSL.Context, material: TlsMaterial) -> None:
    asked = ASKED[material.client_certificates or "none"]
    if asked == SSL.VERIFY_NONE:
        return
    trusted = context.get_cert_store()
    assert trusted is not None
    authorities = x509.load_pem_x509_certificates(material.client_ca)
    for authority in authorities:
        trusted.add_cert(crypto.X509.from_cryptography(authority))
        context.add_client_ca(authority)
    context.set_verify_depth(CERTIFICATE_DEPTH_MAX)
    context.set_verify(asked, _verified)


def _verified(connection: SSL.Connection, found: crypto.X509, error: int, depth: int, fine: int) -> bool:
    """OpenSSL has looked at one certificate of a client's chain, and asks whether we agree."""
    try:
        return bool(fine) and not is_weak(found.to_cryptography())
    except (ValueError, UnsupportedAlgorithm):
        return False  # OpenSSL can read it, and cryptography cannot: nobody knows what is in it


def is_weak(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate could be forged: a short key, or a broken digest in its signature.

    Raise ValueError or UnsupportedAlgorithm if it cannot be understood.
    """
    key = certificate.public_key()
    digest = certificate.signature_hash_algorithm  # None for Ed25519 and the like, which need none
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey) and key.key_size < RSA_BITS_MIN:
        return True
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < CURVE_BITS_MIN:
        return True
    if certificate.issuer == certificate.subject:
        return False  # trusted for being in the file: nobody goes by its signature
    return digest is not None and digest.digest_size < DIGEST_BYTES_MIN


def words(error: BaseException) -> str:
    """Return what OpenSSL says is wrong."""
    if isinstance(error, SSL.Error | crypto.Error) and error.args and isinstance(error.args[0], list):
        return "; ".join(str(entry[-1]) for entry in error.args[0]) or "handshake failed"
    return str(error) or type(error).__name__
